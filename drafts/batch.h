/* The draft model's part of one step, for all sequences together: a chunk of what it has to read,
 * then its draft steps. The first one takes in what each drafting sequence has pending, the further
 * ones a token of each. The picks go to the verify pass without the host. */
#ifndef VLY_DRAFT_BATCH_H
#define VLY_DRAFT_BATCH_H

#include "model/model.h"

/* Commands of one submission, in order. */
#define VLY_MAX_SUBMISSION 64
typedef struct {
    vly_gpu_commands *commands[VLY_MAX_SUBMISSION];
    uint32_t n;
} vly_submission;

/* Adds a pass over n tokens or rows. It is of the least size that was recorded before, unless that
 * is more than twice what is needed: then it is recorded now. */
int vly_submission_add(vly_submission *list, vly_model *model, vly_pass pass, uint32_t n,
                       vly_error *err);
/* The tokens or rows that it computes, padding included. */
uint32_t vly_submission_size(const vly_model *model, vly_pass pass, uint32_t n);

/* The passes of draft steps whose picks are among all tokens of the draft, or the mapped ones: HEAD
 * and PICK of the first step, whose layers are VLY_PASS_LAYERS, then layers, head and pick of each
 * further one. Static. */
#define VLY_N_DRAFT_PASSES 5
const vly_pass *vly_draft_passes(bool all);

typedef struct {
    vly_model *model; /* linked to the target; NULL: there is none, and nothing may be added */
    uint32_t n_read;  /* tokens of the chunk */
    uint32_t n_fed;   /* tokens of the first draft step */
    uint32_t n_rows;  /* sequences that draft */
    uint32_t n_steps; /* the most tokens that one of them drafts */
    uint32_t n_apart; /* places of picks that are not for this step's verify pass */
    bool all;         /* the picks are among all tokens of the draft, not the mapped ones */
    bool was_all;     /* so were those of the step before */
} vly_draft_batch;

/* `batch` is the one of the step before. */
void vly_draft_batch_begin(vly_draft_batch *batch, vly_model *model);

/* Reads `n` tokens of a sequence after those that are committed, at most VLY_MAX_CHUNK in all. They
 * are reserved, and are committed by this. */
void vly_draft_batch_read(vly_draft_batch *batch, vly_kv_seq *seq, const uint32_t *ids, uint32_t n);

/* Can n more tokens be taken in by a first draft step whose picks are among all tokens, or the
 * mapped ones? A step has only one of the two; `vly_draft_batch_claim` before the first row has
 * others wait for the next step, but not two steps in a row. */
bool vly_draft_batch_has_room(const vly_draft_batch *batch, uint32_t n, bool all);
void vly_draft_batch_claim(vly_draft_batch *batch);

/* A place for n picks, for vly_draft_batch_draft, of which the verify pass knows nothing. The
 * caller has as many tokens of it in its share, and uses none. */
uint32_t vly_draft_batch_set_apart(vly_draft_batch *batch, uint32_t n);

/* Takes in `n` tokens, 1 or more, and drafts `k` > 0 after them; the picks are written to the
 * tokens `verify` and following of the verify pass, and to the results at the same places. n + k -
 * 1 tokens are reserved; none is committed. */
void vly_draft_batch_draft(vly_draft_batch *batch, const vly_kv_seq *seq, const uint32_t *ids,
                           uint32_t n, uint32_t k, uint32_t verify,
                           const struct vly_step_sampling *sampling, bool all);

/* Adds the commands of the chunk, or of the draft steps, if there are any. */
int vly_draft_batch_add_chunk(vly_draft_batch *batch, vly_submission *list, vly_error *err);
int vly_draft_batch_add_steps(vly_draft_batch *batch, vly_submission *list, vly_error *err);
/* The draft steps of the block after, of which the device makes the first (VLY_PASS_ADVANCE). */
int vly_draft_batch_add_next(vly_draft_batch *batch, vly_submission *list, vly_error *err);

#endif
