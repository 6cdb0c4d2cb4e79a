/* Lines that a person types, with editing and a history, or that come through a pipe. */
#ifndef VLY_CLI_LINE_INPUT_H
#define VLY_CLI_LINE_INPUT_H

#include "base/error.h"
#include "base/vec.h"

typedef struct vly_line_input vly_line_input;

typedef enum {
    VLY_LINE,
    VLY_LINE_END,        /* of the input */
    VLY_LINE_DROPPED,    /* Ctrl-C, where something had been typed */
    VLY_LINE_INTERRUPTED /* Ctrl-C, where nothing had */
} vly_line_event;

/* Reads standard input. Where that and standard output are a terminal, lines can be edited, and
 * those of earlier times come back: from $XDG_STATE_HOME/volley/history, or ~/.local/state in its
 * place; a history that cannot be read or written is done without. VLY_E_HOST_MEMORY. */
int vly_line_input_create(vly_line_input **out, vly_error *err);
void vly_line_input_destroy(vly_line_input *input);

bool vly_line_input_on_terminal(const vly_line_input *input);

/* Reads one line into `line` (emptied first), without its newline; on a terminal `prompt` stands
 * before it. VLY_E_IO, VLY_E_HOST_MEMORY. */
int vly_line_input_read(vly_line_input *input, const char *prompt, vly_text *line,
                        vly_line_event *event, vly_error *err);

/* Puts a line into the history, and the history into its file. */
void vly_line_input_remember(vly_line_input *input, const char *line);

#endif
