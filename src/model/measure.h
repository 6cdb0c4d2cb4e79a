/* Passes and single steps of a model, recorded to be measured: with the time after each step, and
 * with what each step has to read. */
#ifndef VLY_MODEL_MEASURE_H
#define VLY_MODEL_MEASURE_H

#include "model/model.h"

/* The steps of a pass, in order; from QKV to DOWN once for each layer. */
typedef enum {
    VLY_STEP_EMBED,
    VLY_STEP_QKV,
    VLY_STEP_ATTENTION,
    VLY_STEP_OUT,
    VLY_STEP_GATE_UP,
    VLY_STEP_DOWN,
    VLY_STEP_HEAD,
    VLY_STEP_PICK,
    VLY_N_STEPS
} vly_step_kind;

/* "embed", "qkv", "attention", "out", "gate_up", "down", "head", "pick". */
const char *vly_step_name(vly_step_kind kind);

/* What the timestamps 0 .. n - 1 of commands are the end of. A pass of more steps than there are
 * timestamps is marked in its first ones only. */
typedef struct {
    uint32_t n;
    uint8_t kind[VLY_GPU_MAX_TIMESTAMPS]; /* vly_step_kind */
    uint16_t layer[VLY_GPU_MAX_TIMESTAMPS];
} vly_step_marks;

/* Records LAYERS, PROMPT, HEAD or PICK over up to `n` tokens or rows, with a timestamp at the start
 * (its kind is VLY_N_STEPS) and after each step. The caller destroys *out. */
int vly_model_record_marked(vly_model *model, vly_pass pass, uint32_t n, vly_gpu_commands **out,
                            vly_step_marks *marks, vly_error *err);

/* Adds one step over up to `n` tokens or rows, of a prompt where there are more than VLY_MAX_BATCH,
 * to commands that the caller records. */
int vly_model_record_step(vly_model *model, vly_step_kind kind, uint32_t layer, uint32_t n,
                          vly_gpu_commands *commands, vly_error *err);

/* Bytes that the step must read at least: its weights once, and of attention the keys and values of
 * `n_ctx` positions. */
uint64_t vly_model_step_bytes(const vly_model *model, vly_step_kind kind, uint32_t layer,
                              uint32_t n_ctx);

/* The format of the step's weights, "q8_0"; of several "q4_k+q6_k", and of steps without weights
 * "". `out` [n]. */
void vly_model_step_formats(const vly_model *model, vly_step_kind kind, uint32_t layer, char *out,
                            size_t n);

/* The bytes of a whole pass over one token and its head. */
uint64_t vly_model_pass_bytes(const vly_model *model, uint32_t n_ctx);

#endif
