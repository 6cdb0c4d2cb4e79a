/* A model on the device: weights, KV cache, activations, and its passes, recorded once per bucket
 * of tokens and replayed. What varies is written to the step buffer before a submission. */
#ifndef VLY_MODEL_H
#define VLY_MODEL_H

#include "kv/kv.h"
#include "model/weights.h"
#include "shaders/block.h"

typedef struct vly_model vly_model;

typedef struct {
    uint32_t n_ctx;       /* tokens of one sequence at most; 0: the model's own */
    uint32_t n_slots;     /* sequences at a time; 0: 1 */
    uint32_t n_pages;     /* of the cache, for all sequences together; 0: n_slots full contexts */
    bool kv_f16;          /* else int8 */
    const vly_arch *arch; /* an architecture beside those of arch.def, or NULL */
    /* Keep only these rows of the head, in this order; NULL: all. */
    const uint32_t *head_rows;
    uint32_t n_head_rows;
    uint32_t n_usual_rows; /* of these from the front: those that all passes have but those named
                              _ALL; 0: all */
    vly_progress progress; /* may be NULL */
    void *progress_arg;
} vly_model_options;

/* What a model takes of device memory, before anything is allocated. */
typedef struct {
    uint64_t weights, activations, kv; /* bytes */
    uint64_t unusual_rows;             /* of the weights: rows of the head that few passes have */
    uint64_t kv_per_page;
    uint32_t n_ctx, n_pages;
    uint32_t slot_pages; /* that one sequence of n_ctx tokens takes at most */
} vly_model_memory;

/* What the model of a file will take, nothing of which is allocated. Errors: those of the file, as
 * vly_model_create has them. */
int vly_model_measure(vly_gpu *gpu, const vly_gguf *gguf, const vly_model_options *options,
                      vly_model_memory *out, vly_error *err);

/* Checks, uploads. `gguf` and the options' pointers are not used afterwards. */
int vly_model_create(vly_gpu *gpu, const vly_gguf *gguf, const vly_model_options *options,
                     vly_model **out, vly_error *err);
/* No submission may be in flight. */
void vly_model_destroy(vly_model *model);

const vly_model_config *vly_model_get_config(const vly_model *model);
const vly_model_memory *vly_model_get_memory(const vly_model *model);
/* Has a chained step waited in vain, so that results are worthless? */
bool vly_model_stalled(const vly_model *model);

/* Its cache; the model's own. */
vly_kv *vly_model_kv(vly_model *model);

/* How a draft's tokens and its target's correspond. Row i of the draft's head stands for own token
 * own_id[i] and target token target_id[i] [rows of the head]; recoded [rows of the target's head]
 * is the way back (spec/recode.h); the rest are the draft's words (spec/words.h), n_words 0 where
 * there are none. */
typedef struct {
    const uint32_t *own_id, *target_id;
    const struct vly_recoded *recoded;
    const struct vly_spelling *spelling; /* [n_own] */
    const struct vly_word *words;        /* [n_words] */
    uint32_t n_own, n_words;
} vly_draft_link;

/* Makes this model's picks draft steps for `target`. Copied. Before any pick or advance pass is
 * recorded. */
int vly_model_link_draft(vly_model *model, vly_model *target, const vly_draft_link *link,
                         vly_error *err);

/* The step buffers: each is written by the host before a submission, and belongs to some passes.
 * The memory is slow to read. */
typedef enum {
    VLY_STEP_BUFFER_DECODE, /* LAYERS, HEAD, PICK, HEAD_ALL, PICK_ALL, ADVANCE */
    VLY_STEP_BUFFER_PROMPT, /* PROMPT */
    VLY_STEP_BUFFER_DRAFT,  /* those whose names begin with DRAFT: draft steps after the first */
    VLY_N_STEP_BUFFERS
} vly_step_buffer;
struct vly_step *vly_model_step(vly_model *model, vly_step_buffer which);

/* Writes `n` tokens of one sequence, from position `pos` on, at `at` and behind. */
void vly_step_write(struct vly_step *step, uint32_t at, const uint32_t *ids, uint32_t n,
                    uint32_t pos, uint32_t slot);

/* What the last steps left: picks, and after a VLY_PASS_READ the logits
 * [n_rows][vly_model_logits_stride] f32, which the caller may change. After completion only. */
const struct vly_results *vly_model_results(const vly_model *model);
float *vly_model_logits(const vly_model *model);
/* What ADVANCE passes go by, for the host to write before the first of a run, and what they tell.
 */
struct vly_blocks *vly_model_blocks(vly_model *model);
uint32_t vly_model_logits_stride(const vly_model *model);
uint32_t vly_model_head_rows(const vly_model *model);

/* Decoding and verifying (LAYERS) and reading prompts (PROMPT) may use kernels that differ in the
 * order of their sums. Each kind gives a token the same bits whatever else its pass has. */
typedef enum {
    VLY_PASS_LAYERS,   /* step.n_tok tokens through embedding and all layers; K and V into the pages
                        */
    VLY_PASS_HEAD,     /* final norm and logits of step.n_rows rows */
    VLY_PASS_PICK,     /* a token for each row; of a draft: the first draft step of each row */
    VLY_PASS_READ,     /* the first n rows of logits to the host */
    VLY_PASS_PROMPT,   /* as LAYERS, for prompts */
    VLY_PASS_ADVANCE,  /* ends a block that is alone in LAYERS and PICK, and makes the step of the
                          next one; of a target with a draft also that of the draft */
    VLY_PASS_HEAD_ALL, /* of a linked draft: as HEAD and PICK, over all rows of the head */
    VLY_PASS_PICK_ALL,
    VLY_PASS_DRAFT_LAYERS, /* further draft steps of a linked draft */
    VLY_PASS_DRAFT_HEAD,
    VLY_PASS_DRAFT_PICK,
    VLY_PASS_DRAFT_HEAD_ALL,
    VLY_PASS_DRAFT_PICK_ALL,
    VLY_N_PASSES
} vly_pass;

/* Do prompts leave the same bits of K and V in the pages as decoding does? */
bool vly_model_prompts_as_decoding(const vly_model *model);

/* Recorded commands of a pass over up to n tokens or rows (PROMPT: 1..VLY_MAX_CHUNK, all others:
 * 1..VLY_MAX_BATCH); recorded on first use of n's bucket. The model owns them. */
int vly_model_pass(vly_model *model, vly_pass pass, uint32_t n, vly_gpu_commands **out,
                   vly_error *err);

/* The two halves of that: records, which threads may do for different passes of one model while
 * nobody else uses it, and keeps, on one thread, what is not recorded yet and the model then owns.
 */
int vly_model_record_pass(vly_model *model, vly_pass pass, uint32_t n, vly_gpu_commands **out,
                          vly_error *err);
void vly_model_keep_pass(vly_model *model, vly_pass pass, uint32_t n, vly_gpu_commands *commands);

/* The number of tokens or rows that the pass over n is recorded for: n or a few more. */
uint32_t vly_model_bucket(vly_pass pass, uint32_t n);

/* Is the bucket of n recorded already? */
bool vly_model_has_pass(const vly_model *model, vly_pass pass, uint32_t n);

#endif
