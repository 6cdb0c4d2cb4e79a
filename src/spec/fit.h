/* How well one model would serve as a draft for another, as far as their files tell. */
#ifndef VLY_SPEC_FIT_H
#define VLY_SPEC_FIT_H

#include "model/config.h"
#include "text/tokenizer.h"

/* A model as it lies on disk. */
typedef struct {
    const vly_gguf *gguf;
    const vly_model_config *config;
    const vly_tokenizer *tokenizer;
} vly_fit_model;

typedef struct {
    bool identity;              /* the same vocabulary */
    uint32_t n_draft, n_mapped; /* draft tokens, and those that the target can take */
    /* A sample text: its bytes, and the tokens that the draft makes of it; of both, those of tokens
     * that the target can take. Bytes that the draft cannot spell are among neither's. */
    uint64_t text_bytes, mapped_bytes;
    uint64_t text_tokens, mapped_tokens;
    /* Weights that a step of one token reads: all but the embedding, of the draft's head only the
     * rows of mapped tokens. */
    uint64_t draft_step_bytes, target_step_bytes;
} vly_draft_fit;

/* `text` [len] is the sample. VLY_E_DRAFT (they share no tokens), errors of vly_tensors_find,
 * VLY_E_HOST_MEMORY. */
int vly_draft_fit_measure(const vly_fit_model *draft, const vly_fit_model *target, const char *text,
                          size_t len, vly_draft_fit *out, vly_error *err);

#endif
