#include "model/recorder.h"

#include <math.h>

static uint32_t part_lanes(uint32_t lanes, uint32_t parts)
{
    uint32_t n = 1;
    while (n < parts && n < lanes) n *= 2;
    return n;
}

#define MOST_HEADS 2u /* of a workgroup of the group form */

/* Subgroups of a workgroup of the group form: as many as leave what they share within 16 KiB, also
 * where it takes all the heads that it may: the order of sums must not depend on these. */
static uint32_t attention_groups(uint32_t head_dim)
{
    uint32_t groups = 8;
    while (groups > 1 && groups * MOST_HEADS * head_dim * 4 > 16128) groups /= 2;
    return groups;
}

attention_shape vly_attention_shape_of(const recorder *r)
{
    const vly_model *m = r->m;
    const vly_model_config *c = &m->config;
    uint32_t group = c->n_head / c->n_head_kv, heads = group;
    /* On GPUs more workgroups of fewer heads: K and V are read again from a cache. */
    const bool one = vly_kv_get_shape(m->kv)->int8 && !r->prompt;
    const uint32_t most_heads = m->geometry.lane_form ? 4 : one ? 1 : MOST_HEADS;
    while (heads > most_heads) heads = heads % 2 == 0 ? heads / 2 : 1;
    if (r->program)
        heads = 1; /* several took two seconds to compile, and threads share them badly */
    uint32_t parts = vly_kv_get_shape(m->kv)->int8 ? c->head_dim / 16 : c->head_dim / 8;
    uint32_t share = part_lanes(m->geometry.lanes, parts);
    return (attention_shape){heads, share, (parts + share - 1) / share};
}

/* K and V of the step's tokens into the pages. */
static void store(recorder *r, const struct vly_push_attention *p)
{
    const vly_model *m = r->m;
    bool texel = m->geometry.lane_form, int8 = vly_kv_get_shape(m->kv)->int8;
    int shader = int8 ? (texel ? VLY_SHADER_store_int8_texel : VLY_SHADER_store_int8)
                      : (texel ? VLY_SHADER_store_f16_texel : VLY_SHADER_store_f16);
    uint32_t constants[] = {m->geometry.lanes, m->config.head_dim};
    if (r->program) {
        vly_program_add_attention(r->program, VLY_OP_STORE, p, m->config.head_dim, p->n_head_kv,
                                  r->n);
        return;
    }
    vly_gpu_kernel *k = kernel(r, shader, constants, 2);
    if (k)
        vly_gpu_cmd_dispatch(r->commands, k, m->views ? m->views[0] : NULL, p, sizeof *p,
                             p->n_head_kv, r->n, 1);
}

#define TILE_ROWS  16u /* tokens of a subgroup on matrix units */
#define TILE_HEADS 4u  /* subgroups of a workgroup, a head each */

/* Prompts on matrix units, which attention_tile.comp is for. */
static bool takes_tiles(const recorder *r)
{
    uint32_t head_dim = r->m->config.head_dim;
    return r->prompt && r->m->geometry.tile_form && head_dim % 32 == 0 && head_dim <= 256;
}

static void attend_tiles(recorder *r, const struct vly_push_attention *p)
{
    const vly_geometry *g = &r->m->geometry;
    uint32_t constants[] = {TILE_HEADS * g->lanes, r->m->config.head_dim, g->tile_form};
    bool int8 = vly_kv_get_shape(r->m->kv)->int8;
    vly_gpu_kernel *k = kernel(
        r, int8 ? VLY_SHADER_attention_tile_int8 : VLY_SHADER_attention_tile_f16, constants, 3);
    if (k)
        vly_gpu_cmd_dispatch(r->commands, k, NULL, p, sizeof *p,
                             (p->n_head + TILE_HEADS - 1) / TILE_HEADS,
                             (r->n + TILE_ROWS - 1) / TILE_ROWS, 1);
}

static void attend(recorder *r, const struct vly_push_attention *p, bool stored)
{
    const vly_model *m = r->m;
    const vly_geometry *g = &m->geometry;
    bool int8 = vly_kv_get_shape(m->kv)->int8;
    uint32_t head_dim = m->config.head_dim, splits = r->at->max_splits;
    attention_shape a = vly_attention_shape_of(r);
    if (r->program) {
        vly_program_add_attention(r->program, VLY_OP_ATTENTION, p, head_dim, p->n_head / a.heads,
                                  r->n);
        return;
    }
    if (g->lane_form) {
        uint32_t constants[] = {g->lanes, head_dim, a.heads, a.share, a.rounds};
        int shader = int8 ? VLY_SHADER_attention_int8_texel : VLY_SHADER_attention_f16_texel;
        vly_gpu_kernel *k = kernel(r, shader, constants, 5);
        if (k)
            vly_gpu_cmd_dispatch(r->commands, k, m->views[0], p, sizeof *p, p->n_head / a.heads,
                                 r->n, 1);
        return;
    }
    uint32_t constants[] = {g->lanes * attention_groups(head_dim),
                            head_dim,
                            a.heads,
                            stored,
                            a.share,
                            a.rounds,
                            g->lanes,
                            VLY_SPLIT_TOKENS,
                            g->tile_form};
    uint32_t workers = splits < VLY_MAX_SPLIT_WORKERS ? splits : VLY_MAX_SPLIT_WORKERS;
    vly_gpu_kernel *k =
        kernel(r, int8 ? VLY_SHADER_attention_int8 : VLY_SHADER_attention_f16, constants, 9);
    r->n_groups = p->n_head / a.heads * r->n; /* those that finish a token */
    if (k)
        vly_gpu_cmd_dispatch(r->commands, k, NULL, p, sizeof *p, p->n_head / a.heads, r->n,
                             r->prompt ? 1 : workers);
}

void vly_attention_record(recorder *r, uint32_t layer, struct vly_chain chain)
{
    const vly_model *m = r->m;
    const vly_model_config *c = &m->config;
    uint32_t head_quads = vly_kv_head_bytes(vly_kv_get_shape(m->kv)) / 16;
    struct vly_push_attention p = {
        .act = m->act.address,
        .step = r->step,
        .pages = vly_kv_table_address(m->kv),
        .pages_stride = vly_kv_table_stride(m->kv),
        .qkv_quad = inputs(r).qkv,
        .qkv_stride = r->at->qkv_stride,
        .out_quad = outputs(r).att,
        .out_stride = r->at->att_stride,
        .n_head = c->n_head,
        .n_head_kv = c->n_head_kv,
        .layer_quad = layer * c->n_head_kv * head_quads,
        .head_quads = head_quads,
        .scale = 1.0f / sqrtf((float)c->head_dim),
        .partial_quad = r->at->partials,
        .max_splits = r->at->max_splits,
        .counters = m->act.address + r->at->counters * 16ull,
        .chain = chain,
        .window = vly_config_window(c, layer),
    };
    /* The group form holds the K and V of few of a step's tokens at a time, the lane form none:
     * else all go into the pages first, in a step of their own. */
    bool stored = r->prompt || m->geometry.lane_form || r->n > VLY_MAX_FRESH;
    if (stored) {
        store(r, &p);
        barrier(r);
    }
    if (takes_tiles(r))
        attend_tiles(r, &p);
    else
        attend(r, &p, stored);
}
