#include "cli/progress_line.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BETWEEN_NS UINT64_C(100000000)

vly_progress_line vly_progress_line_begin(void)
{
    return (vly_progress_line){.started_ns = vly_clock_ns(), .on_terminal = isatty(STDERR_FILENO)};
}

double vly_progress_line_seconds(const vly_progress_line *progress)
{
    return (double)(vly_clock_ns() - progress->started_ns) * 1e-9;
}

bool vly_progress_line_is_due(const vly_progress_line *progress)
{
    return progress->on_terminal && vly_clock_ns() - progress->drawn_ns >= BETWEEN_NS;
}

void vly_progress_line_show(vly_progress_line *progress, const char *format, ...)
{
    struct winsize size;
    char line[256];
    va_list args;
    if (!progress->on_terminal) return;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    int width = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
    /* One column less: some terminals wrap when the last one is written. */
    fprintf(stderr, "\r%.*s\033[K", n < width ? n : width - 1, line);
    progress->drawn_ns = vly_clock_ns();
}

void vly_progress_line_clear(vly_progress_line *progress)
{
    if (progress->drawn_ns) fputs("\r\033[K", stderr);
    progress->drawn_ns = 0;
}

void vly_progress_bar(double part, char bar[VLY_PROGRESS_BAR_BYTES])
{
    int width = VLY_PROGRESS_BAR_BYTES - 3, full = part < 0   ? 0
                                                   : part > 1 ? width
                                                              : (int)(part * width);
    memset(bar, ' ', VLY_PROGRESS_BAR_BYTES);
    memset(bar + 1, '#', (size_t)full);
    bar[0] = '[';
    bar[width + 1] = ']';
    bar[width + 2] = '\0';
}
