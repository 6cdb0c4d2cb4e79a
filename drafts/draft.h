/* The interface of drafting methods. A method proposes the next tokens of one sequence; the target
 * verifies them, and whatever a method proposes, the text stays the target's. One file a method;
 * see docs/speculation.md for how to add one.
 *
 * A proposal is either known on the host (then the method writes target ids into the verify step)
 * or comes to be on the device (then the method adds to the draft model's part of the step, which
 * writes them there). */
#ifndef VLY_DRAFT_H
#define VLY_DRAFT_H

#include "base/vec.h"
#include "drafts/batch.h"
#include "spec/governor.h"
#include "spec/vocab_map.h"
#include "spec/words.h"
#include "text/tokenizer.h"

/* What the draft model has read of the text (drafts/context.h). */
typedef struct vly_draft_context vly_draft_context;

/* What a method works on: the caller's, for the draft's life. */
typedef struct {
    const vly_ids *text; /* target tokens so far; grows at the end between blocks, never changes */
    const vly_tokenizer *text_tokenizer; /* the target's */
    vly_model *model; /* linked to the target by vly_model_link_draft; NULL: none */
    const vly_tokenizer *model_tokenizer; /* its own */
    const vly_vocab_map *map;             /* from its tokens to the target's */
    const vly_words *words;               /* its tokens by their bytes, as the device has them */
    vly_profile *profile; /* what is known of times and acceptance; NULL: a new one */
    bool sampled;         /* temperature above 0 */
    uint32_t left; /* tokens that the text may grow by; 0: not known, or others decode beside it */
    bool compute_all;           /* share no pages with earlier texts */
    vly_draft_context *context; /* shared by several methods; NULL: a method has its own */
} vly_draft_source;

/* What a method proposes for. The first proposed token will have position text->len. */
typedef struct {
    const struct vly_step_sampling *sampling; /* the target's, without the noise shift */
    struct vly_step *verify;
    uint32_t first;          /* verify->token[first + j].id is for proposal j */
    uint32_t left;           /* tokens that the text may still grow by */
    uint32_t beside_tok;     /* tokens of other sequences in the verify pass, as they were last */
    uint32_t beside_decided; /* and how many of their text these decided */
    vly_draft_batch *batch;  /* the draft model's part of the step */
} vly_draft_input;

/* Blocks that are in flight, and whether there is to be another one. */
typedef struct {
    uint32_t k;        /* tokens that the draft model proposes in each; 0: nobody proposes any */
    uint32_t k_max;    /* that a block may have */
    uint32_t n_unread; /* blocks whose outcome is not known yet */
    uint32_t left;     /* tokens that the text may still grow by, as far as it is known */
} vly_draft_ahead;

typedef struct vly_draft vly_draft;

typedef struct {
    /* In a step: has the draft model read on in the text, at most `most` tokens. *n gets how many:
     * `read_done` follows after the step where these are more than 0. */
    int (*read)(vly_draft *draft, vly_draft_batch *batch, uint32_t most, uint32_t *n,
                vly_error *err);
    void (*read_done)(vly_draft *draft, double ns); /* 0: not known what it took. NULL: no matter */

    /* Then, in the same step: proposes at most k > 0 tokens, k <= VLY_MAX_DRAFT; *n gets how many
     * (0: none this time, or that it waits: see vly_draft). */
    int (*propose)(vly_draft *draft, const vly_draft_input *in, uint32_t k, uint32_t *n,
                   vly_error *err);

    /* After the step: the n > 0 proposed tokens as target ids. Static until the next
     * proposal. */
    const uint32_t *(*proposed)(vly_draft *draft);

    /* The target accepted the first `accepted` of the n: the text goes on with these, and then with
     * tokens that were not proposed. Not called where n was 0. */
    int (*settle)(vly_draft *draft, uint32_t accepted, vly_error *err);

    /* Blocks that run ahead of the host (engine/ahead.c); NULLs: it wants to be asked for each.
     * May another one like those in flight follow them? Then there is room for it in the model's
     * cache. */
    bool (*follow)(vly_draft *draft, const vly_draft_ahead *ahead);
    /* They begin with the block that was just proposed: fills in tail and n_tail. */
    void (*begin_ahead)(vly_draft *draft, struct vly_blocks *blocks);
    /* In place of `proposed` and `settle`, for each of those with proposals, the first one
     * included: their `n` > 0, as own ids of the model. */
    int (*settle_ahead)(vly_draft *draft, const uint32_t *own_ids, uint32_t n, uint32_t accepted,
                        vly_error *err);
    /* After the last of those: none is in flight. */
    void (*end_ahead)(vly_draft *draft);

    /* What a block took, after each one, with a proposal or without; NULL: no matter. */
    void (*observe)(vly_draft *draft, const vly_outcome *outcome);

    void (*destroy)(vly_draft *draft);
} vly_draft_ops;

struct vly_draft {
    const vly_draft_ops *ops;
    vly_draft_method proposer; /* who made the last proposal: of a chain, one of its parts */
    bool probing;              /* it was made to learn, not because it was expected to pay */
    bool waiting; /* the last call of propose had the device draft: it is called again after the
                     step, which has no block of this sequence */
};

typedef int vly_draft_create_fn(const vly_draft_source *source, vly_draft **out, vly_error *err);

/* The create functions of all methods, those of drafts/methods.def and: */
#define VLY_DRAFT_METHOD(id, name, create, ...) vly_draft_create_fn create;
#include "drafts/methods.def"
#undef VLY_DRAFT_METHOD

/* Parts of the others. */

/* These two go silent when their context is full. */
vly_draft_create_fn vly_draft_create_model;
vly_draft_create_fn vly_draft_create_text;
/* Tokens that it has to read before it can propose, as long as nobody proposed others; UINT32_MAX
 * where its context is full. */
uint32_t vly_draft_model_behind(const vly_draft *model);

/* How many tokens before the last proposal match, of those looked at (VLY_NGRAM_LOOK at most). */
#define VLY_NGRAM_LOOK 16
uint32_t vly_draft_ngram_match(const vly_draft *ngram);
/* What it would propose now, VLY_MAX_DRAFT tokens that stand until it is asked again; the match is
 * then that of these. NULL where there is nothing, or memory is short. */
const uint32_t *vly_draft_ngram_look_up(vly_draft *ngram);

/* Can `method` be used, with or without a draft model? VLY_E_INVALID says why not. */
int vly_draft_check(vly_draft_method method, bool has_model, vly_error *err);

/* Creates what draws up proposals by `method`, not VLY_DRAFT_DEFAULT. VLY_E_INVALID (no such
 * method, or one that needs a model and has none), VLY_E_HOST_MEMORY, VLY_E_CONTEXT. */
int vly_draft_create(vly_draft_method method, const vly_draft_source *source, vly_draft **out,
                     vly_error *err);

#endif
