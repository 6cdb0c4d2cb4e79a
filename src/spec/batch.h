/* One step of the device, for all sequences that take part: a chunk of prompts, draft steps, and a
 * verify pass over the blocks of all. It only fills in step buffers and lists recorded commands. */
#ifndef VLY_SPEC_BATCH_H
#define VLY_SPEC_BATCH_H

#include "drafts/batch.h"

/* Time marks of a step. */
enum {
    VLY_MARK_CHUNK,  /* before the prompt chunk */
    VLY_MARK_DRAFT,  /* before the draft steps */
    VLY_MARK_VERIFY, /* before the verify pass */
    VLY_MARK_END,
    VLY_N_MARKS
};

typedef struct {
    vly_model *target;
    vly_draft_batch draft;
    uint32_t n_read;      /* tokens of the target's prompt chunk */
    uint32_t n_tok;       /* tokens of the verify pass */
    uint32_t n_rows;      /* rows of logits of it */
    uint32_t n_host_rows; /* of these from the front: those that the host reads */
    bool picks;           /* the device picks */
    bool advances;        /* and then makes the next step: the block is alone here */
    uint32_t n_pass;      /* tokens that the verify pass computes, padding included */
    /* What to expect of the verify pass: the tokens that the blocks of this step had last, and how
     * many they decided. The caller's. */
    uint32_t usual_tok, usual_decided;
    /* Which mark tells each time: one that nothing lies before is left out. */
    uint32_t mark[VLY_N_MARKS];
    uint32_t n_marked; /* commands up to the last mark */
} vly_batch;

/* An empty step after the one that `batch` was. `draft` may be NULL. */
void vly_batch_begin(vly_batch *batch, vly_model *target, vly_model *draft);

/* The target reads `n` tokens of a prompt after those that are committed, at most VLY_MAX_CHUNK in
 * all. They are reserved, and are committed by this. */
void vly_batch_read(vly_batch *batch, vly_kv_seq *seq, const uint32_t *ids, uint32_t n);

/* Adds the commands of the step, with time marks (VLY_N_MARKS, or NULLs). Passes are of the least
 * size that was ever used, if that is not much more than is needed; what must be new is recorded.
 * Else it neither allocates nor records. */
int vly_batch_add_commands(vly_batch *batch, vly_gpu_commands *const *mark, vly_submission *list,
                           vly_error *err);

/* The same of the step after one that advances, which is in flight or complete: the device makes
 * it, and the host writes nothing. */
int vly_batch_add_next(vly_batch *batch, vly_gpu_commands *const *mark, vly_submission *list,
                       vly_error *err);

#endif
