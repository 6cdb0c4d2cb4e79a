/* The text of a sequence on its way out: tokens become bytes, bytes whole characters, and what may
 * become a stop string is held back. */
#ifndef VLY_ENGINE_OUTPUT_H
#define VLY_ENGINE_OUTPUT_H

#include "text/stop.h"
#include "text/tokenizer.h"

typedef struct {
    const vly_tokenizer *tokenizer;
    vly_utf8_stream utf8;
    vly_stop stop;
    vly_text text; /* taken, then ready, then held back */
    size_t n_taken;
    size_t n_held;      /* bytes at the end of it */
    bool at_start;      /* nothing but control tokens so far: a dummy space in front is dropped */
    int32_t stop_index; /* the stop string that ended the text; -1: none */
} vly_output;

/* For text that follows the `n` tokens of a prompt. Errors: those of vly_stop_init. The caller
 * deinits in any case. */
int vly_output_init(vly_output *out, const vly_tokenizer *tokenizer, const uint32_t *prompt,
                    size_t n, const char *const *stop, uint32_t n_stop, vly_error *err);
void vly_output_deinit(vly_output *out);

/* Adds a token. Once a stop string has occurred, nothing more may be added. VLY_E_HOST_MEMORY. */
int vly_output_push(vly_output *out, uint32_t id);
/* The end: nothing is held back any more. VLY_E_HOST_MEMORY. */
int vly_output_finish(vly_output *out);

/* Text that is ready since the last call; valid until the next call on `out`. */
vly_bytes vly_output_take(vly_output *out);

#endif
