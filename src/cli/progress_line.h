/* How far a long task is: one line on standard error that is written over and over. Where that is
 * no terminal, nothing is written. */
#ifndef VLY_CLI_PROGRESS_LINE_H
#define VLY_CLI_PROGRESS_LINE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t started_ns, drawn_ns; /* drawn_ns: 0 before the first line */
    bool on_terminal;
} vly_progress_line;

vly_progress_line vly_progress_line_begin(void);

/* Seconds since it began. */
double vly_progress_line_seconds(const vly_progress_line *progress);

/* Is it time for another line? Ten a second at most. */
bool vly_progress_line_is_due(const vly_progress_line *progress);

/* Writes a line in the place of the last one, cut at the terminal's width. */
void vly_progress_line_show(vly_progress_line *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Removes the line, if there is one. */
void vly_progress_line_clear(vly_progress_line *progress);

/* A bar of which `part`, 0 to 1, is full. */
#define VLY_PROGRESS_BAR_BYTES 43
void vly_progress_bar(double part, char bar[VLY_PROGRESS_BAR_BYTES]);

#endif
