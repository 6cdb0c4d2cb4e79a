#include "cli/line_input.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_LINES 1000

struct vly_line_input {
    EditLine *editor; /* NULL where there is no terminal */
    History *history;
    char path[PATH_MAX]; /* of the history; "": none is kept */
    const char *prompt;
    mbstate_t decoding;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

/* ---- the history ---- */

/* Makes the folder and those above it. */
static bool make_folders(char *path)
{
    for (char *at = path + 1; *at; at++) {
        if (*at != '/') continue;
        *at = '\0';
        int rc = mkdir(path, 0700);
        *at = '/';
        if (rc && errno != EEXIST) return false;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

/* Where the history lies, its folder made; "" where there is no place for it. */
static void find_history(char path[PATH_MAX])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state && state[0] == '/')
        n = snprintf(path, PATH_MAX, "%s/volley", state);
    else if (home && home[0] == '/')
        n = snprintf(path, PATH_MAX, "%s/.local/state/volley", home);
    if (n < 0 || n >= PATH_MAX - (int)sizeof "/history" || !make_folders(path))
        path[0] = '\0';
    else
        strcat(path, "/history");
}

static void load_history(vly_line_input *input)
{
    HistEvent event;
    input->history = history_init();
    if (!input->history) return;
    history(input->history, &event, H_SETSIZE, HISTORY_LINES);
    history(input->history, &event, H_SETUNIQUE, 1);
    find_history(input->path);
    if (input->path[0]) history(input->history, &event, H_LOAD, input->path);
    el_set(input->editor, EL_HIST, history, input->history);
}

void vly_line_input_remember(vly_line_input *input, const char *line)
{
    HistEvent event;
    if (!input->history || !*line) return;
    history(input->history, &event, H_ENTER, line);
    if (input->path[0]) history(input->history, &event, H_SAVE, input->path);
}

/* ---- the editor ---- */

static char *prompt_of(EditLine *editor)
{
    vly_line_input *input;
    el_get(editor, EL_CLIENTDATA, (void **)&input);
    return (char *)input->prompt;
}

/* The editor's own reading would take a signal for a passing fault and go on. */
static int read_character(EditLine *editor, wchar_t *out)
{
    vly_line_input *input;
    el_get(editor, EL_CLIENTDATA, (void **)&input);
    for (;;) {
        char byte;
        ssize_t n = interrupted ? -1 : read(STDIN_FILENO, &byte, 1);
        if (interrupted) return -1;
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return (int)n;
        size_t used = mbrtowc(out, &byte, 1, &input->decoding);
        if (used == (size_t)-2) continue;
        if (used == (size_t)-1) {
            memset(&input->decoding, 0, sizeof input->decoding);
            *out = 0xFFFD;
        }
        return 1;
    }
}

/* Text is UTF-8 whatever the environment says, if the system can do it. */
static void choose_locale(void)
{
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static bool open_editor(vly_line_input *input)
{
    choose_locale();
    input->editor = el_init("volley", stdin, stdout, stderr);
    if (!input->editor) return false;
    el_set(input->editor, EL_CLIENTDATA, input);
    el_set(input->editor, EL_EDITOR, "emacs");
    el_set(input->editor, EL_PROMPT, prompt_of);
    el_set(input->editor, EL_GETCFN, read_character);
    el_set(input->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    load_history(input);
    return true;
}

int vly_line_input_create(vly_line_input **out, vly_error *err)
{
    vly_line_input *input = calloc(1, sizeof *input);
    bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (!input || (terminal && !open_editor(input))) {
        free(input);
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for reading lines");
    }
    *out = input;
    return 0;
}

void vly_line_input_destroy(vly_line_input *input)
{
    if (!input) return;
    if (input->editor) el_end(input->editor);
    if (input->history) history_end(input->history);
    free(input);
}

bool vly_line_input_on_terminal(const vly_line_input *input)
{
    return input->editor != NULL;
}

/* ---- reading ---- */

/* Both return -1 where there is no line, errno being 0 at the end of the input. */
static int read_edited(vly_line_input *input, vly_text *line)
{
    int n;
    el_resize(input->editor);
    const char *text = el_gets(input->editor, &n);
    errno = 0;
    return text && n > 0 ? vly_text_append(line, text, (size_t)n) : -1;
}

static int read_plain(vly_text *line)
{
    char *text = NULL;
    size_t cap = 0;
    errno = 0;
    ssize_t n = getline(&text, &cap, stdin);
    int rc = n < 0 ? -1 : vly_text_append(line, text, (size_t)n);
    free(text);
    return rc;
}

int vly_line_input_read(vly_line_input *input, const char *prompt, vly_text *line,
                        vly_line_event *event, vly_error *err)
{
    struct sigaction action = {.sa_handler = on_interrupt}, old;
    sigemptyset(&action.sa_mask);
    line->len = 0;
    interrupted = 0;
    input->prompt = prompt;
    sigaction(SIGINT, &action, &old);
    int rc = input->editor ? read_edited(input, line) : read_plain(line);
    int error = errno;
    sigaction(SIGINT, &old, NULL);
    *event = VLY_LINE;
    if (interrupted) {
        const LineInfo *typed = input->editor ? el_line(input->editor) : NULL;
        clearerr(stdin);
        line->len = 0;
        *event = typed && typed->lastchar > typed->buffer ? VLY_LINE_DROPPED : VLY_LINE_INTERRUPTED;
        return 0;
    }
    if (rc == VLY_E_HOST_MEMORY) return vly_fail(err, rc, "no memory for a line");
    if (rc) {
        *event = VLY_LINE_END;
        if (error)
            return vly_fail(err, VLY_E_IO, "cannot read standard input: %s", strerror(error));
        return 0;
    }
    while (line->len && (line->data[line->len - 1] == '\n' || line->data[line->len - 1] == '\r'))
        line->data[--line->len] = '\0';
    return 0;
}
