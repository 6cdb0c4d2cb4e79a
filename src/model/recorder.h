/* What records a pass, a step after the other: forward.c, and attention.c for its attention. */
#ifndef VLY_MODEL_RECORDER_H
#define VLY_MODEL_RECORDER_H

#include "model/model_internal.h"

typedef struct {
    vly_model *m;
    vly_gpu_commands *commands;
    uint64_t step; /* address of the step buffer */
    bool prompt;   /* a prompt's chunk */
    uint32_t n;    /* tokens, or rows of logits */
    const vly_act_layout *at;
    vly_step_marks *marks; /* of a recording that is measured; else NULL */
    vly_program *program;  /* what takes steps in place of dispatches; else NULL */
    uint32_t links;        /* see vly_geometry */
    uint32_t number;       /* of the step under way, where there are such */
    uint32_t head_rows; /* of the head that are computed and picked from, from its first one on */
    int rc;
    vly_error *err;
} recorder;

static inline vly_gpu_kernel *kernel(recorder *r, int shader, const uint32_t *constants, uint32_t n)
{
    vly_gpu_kernel *k = NULL;
    if (r->rc == 0)
        r->rc = vly_gpu_kernel_get(r->m->gpu, (vly_shader_id)shader, constants, n,
                                   r->m->geometry.lanes, &k, r->err);
    return k;
}

static inline void barrier(recorder *r)
{
    if (r->program)
        vly_program_barrier(r->program);
    else
        vly_gpu_cmd_barrier(r->commands);
}

/* Is the step of this number linked to the one before? */
static inline bool linked(const recorder *r, uint32_t number)
{
    if (number < 2 || number > 5 * r->m->config.n_layer + 1) return false;
    return r->links >> (VLY_STEP_QKV + (number - 2) % 5) & 1;
}

/* Where the step under way reads, and where it writes. */
static inline const vly_act_layout *inputs(const recorder *r)
{
    return linked(r, r->number) ? &r->m->tagged : &r->m->at;
}

static inline const vly_act_layout *outputs(const recorder *r)
{
    return linked(r, r->number + 1) ? &r->m->tagged : &r->m->at;
}

/* Query heads that a workgroup takes, and how its lanes share the parts of a position's V. */
typedef struct {
    uint32_t heads, share, rounds;
} attention_shape;

attention_shape vly_attention_shape_of(const recorder *r);

/* The attention of a layer, and what stores the K and V of the step before it. */
void vly_attention_record(recorder *r, uint32_t layer, struct vly_chain chain);

#endif
