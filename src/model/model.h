/* A model on the device: weights, KV cache, activations, and its passes, recorded once per bucket
 * of tokens and replayed. What varies is written to the step buffer before a submission. */
#ifndef VLY_MODEL_H
#define VLY_MODEL_H

#include "kv/kv.h"
#include "model/weights.h"

typedef struct vly_model vly_model;

typedef struct {
    uint32_t n_ctx;   /* tokens of one sequence at most; 0: the model's own */
    uint32_t n_slots; /* sequences at a time; 0: 1 */
    uint32_t n_pages; /* of the cache, for all sequences together; 0: n_slots full contexts */
    bool kv_f16;      /* else int8 */
    /* Keep only these rows of the head, in this order; NULL: all. */
    const uint32_t *head_rows;
    uint32_t n_head_rows;
    vly_progress progress; /* may be NULL */
    void *progress_arg;
} vly_model_options;

/* What a model takes of device memory, before anything is allocated. */
typedef struct {
    uint64_t weights, activations, kv; /* bytes */
    uint64_t kv_per_page;
    uint32_t n_ctx, n_pages;
} vly_model_memory;

int vly_model_measure(vly_gpu *gpu, const vly_gguf *gguf, const vly_model_options *options,
                      vly_model_memory *out, vly_error *err);

/* Checks, uploads. `gguf` and the options' pointers are not used afterwards. */
int vly_model_create(vly_gpu *gpu, const vly_gguf *gguf, const vly_model_options *options,
                     vly_model **out, vly_error *err);
/* No submission may be in flight. */
void vly_model_destroy(vly_model *model);

const vly_model_config *vly_model_get_config(const vly_model *model);
const vly_model_memory *vly_model_get_memory(const vly_model *model);
vly_kv *vly_model_kv(vly_model *model);

/* Makes this model's picks draft steps for `target`: row i of the head stands for own token
 * own_id[i] and target token target_id[i] [n = rows of the head]. Copied. Before any pick pass is
 * recorded. */
int vly_model_link_draft(vly_model *model, vly_model *target, const uint32_t *own_id,
                         const uint32_t *target_id, vly_error *err);

/* The step buffer (written by the host before a submission), and what the last steps left: picks,
 * and after a VLY_PASS_READ the logits [n_rows][vly_model_logits_stride] f32. Read after completion
 * only. */
struct vly_step *vly_model_step(vly_model *model);
const struct vly_results *vly_model_results(const vly_model *model);
const float *vly_model_logits(const vly_model *model);
uint32_t vly_model_logits_stride(const vly_model *model);
uint32_t vly_model_head_rows(const vly_model *model);

typedef enum {
    VLY_PASS_LAYERS, /* step.n_tok tokens through embedding and all layers; K and V into the pages
                      */
    VLY_PASS_HEAD,   /* final norm and logits of step.n_rows rows */
    VLY_PASS_PICK,   /* a token for each row */
    VLY_PASS_READ,   /* the rows of logits to the host */
    VLY_N_PASSES
} vly_pass;

/* Recorded commands of a pass over up to n tokens (LAYERS: 1..VLY_MAX_CHUNK) or rows
 * (1..VLY_MAX_BATCH); recorded on first use of n's bucket, so ask before the loop. The model owns
 * them. */
int vly_model_pass(vly_model *model, vly_pass pass, uint32_t n, vly_gpu_commands **out,
                   vly_error *err);

/* The number of tokens or rows that the pass over n is recorded for: n or a few more. */
uint32_t vly_model_bucket(uint32_t n);

/* Is the bucket of n recorded already? */
bool vly_model_has_pass(const vly_model *model, vly_pass pass, uint32_t n);

#endif
