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
    uint32_t n_groups;     /* workgroups of the step under way, so far, and of the one before */
    uint32_t n_groups_before;
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

static inline bool tagged(const recorder *r)
{
    return r->links && r->m->geometry.tags;
}

/* Is the step of this number linked to the one before? By counts the first one behind the embedding
 * is not: they are cleared there. */
static inline bool linked(const recorder *r, uint32_t number)
{
    if (number < (tagged(r) ? 2 : 3) || number > 5 * r->m->config.n_layer + 1) return false;
    return r->links >> (VLY_STEP_QKV + (number - 2) % 5) & 1;
}

/* Where the step of this number reads what the one before it leaves. A cache that no barrier has
 * emptied may hold what lay there when it was last read: so by counts it is another place in every
 * layer. */
static inline vly_act_layout handed_over(const recorder *r, uint32_t number)
{
    if (!linked(r, number)) return r->m->at;
    if (tagged(r)) return r->m->tagged;
    vly_act_layout at = r->m->at;
    uint32_t layer = (number - 2) / 5, kind = VLY_STEP_QKV + (number - 2) % 5;
    at.att = at.layer_att + layer * at.layer_stride;
    at.ff = at.layer_ff + layer * at.layer_stride;
    at.xn = (kind == VLY_STEP_QKV ? at.layer_xn[0] : at.layer_xn[1]) + layer * at.layer_stride;
    return at;
}

static inline vly_act_layout inputs(const recorder *r)
{
    return handed_over(r, r->number);
}

static inline vly_act_layout outputs(const recorder *r)
{
    return handed_over(r, r->number + 1);
}

/* Query heads that a workgroup takes, and how its lanes share the parts of a position's V. */
typedef struct {
    uint32_t heads, share, rounds;
} attention_shape;

attention_shape vly_attention_shape_of(const recorder *r);

/* The attention of a layer, and what stores the K and V of the step before it. */
void vly_attention_record(recorder *r, uint32_t layer, struct vly_chain chain);

#endif
