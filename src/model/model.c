#include "model/model_internal.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const uint32_t vly_buckets[VLY_N_BUCKETS] = {1,  2,  3,  4,  5,  6,   8,   12,
                                             16, 24, 32, 48, 64, 128, 256, VLY_MAX_CHUNK};

/* ---- Layout ---- */

/* `tiles`: the tile form, where the device has it. */
static vly_geometry choose_geometry(const vly_gpu_info *info, bool tiles)
{
    uint32_t lanes = info->subgroup_size;
    if (info->type == VLY_GPU_CPU)
        return (vly_geometry){.lane_form = true,
                              .lanes = lanes,
                              .width = lanes,
                              .pairs = 2,
                              .groups = 1,
                              .patience = 150};
    uint32_t groups = 8;
    while (groups > 1 && groups * lanes > info->max_workgroup_invocations) groups /= 2;
    if (info->matrix_units && tiles)
        return (vly_geometry){
            .tile_form = true, .lanes = 32, .width = 512, .pairs = 8, .groups = 1};
    return (vly_geometry){.dot = info->int8_dot && info->shared_bytes >= 49152,
                          .lanes = lanes,
                          .width = lanes * groups,
                          .pairs = 2,
                          .groups = groups};
}

/* pick.comp's workgroups have at most that many subgroups, and 512 invocations will do. */
#define MOST_PICK_GROUPS 64u
#define MOST_PICK_WIDTH  512u
/* Logits of an invocation of it, on a processor, whose driver ends all loops of a workgroup after
 * 65535 turns (program.c): it takes up to 20 for each, with top-k and top-p. */
#define MOST_PICK_LOGITS 2600u

static uint32_t choose_pick_width(const vly_geometry *g, const vly_gpu_info *info,
                                  uint32_t head_rows)
{
    if (!g->lane_form) return 256;
    uint32_t width = 64, most = MOST_PICK_GROUPS * g->lanes;
    if (most > MOST_PICK_WIDTH) most = MOST_PICK_WIDTH;
    if (most > info->max_workgroup_invocations) most = info->max_workgroup_invocations;
    while (2 * width <= most && head_rows / width > MOST_PICK_LOGITS) width *= 2;
    return width;
}

uint32_t vly_block_rows(const vly_geometry *g)
{
    return 2 * g->pairs * (g->lane_form ? g->lanes : g->groups);
}

uint32_t vly_row_workgroups(const vly_geometry *g, uint32_t rows)
{
    uint32_t per_group = g->lane_form ? 2 * g->pairs * g->width : vly_block_rows(g);
    return (rows + per_group - 1) / per_group;
}

uint32_t vly_row_blocks(const vly_geometry *g, uint32_t rows)
{
    return vly_row_workgroups(g, rows) * (g->lane_form ? g->width / g->lanes : 1);
}

static uint32_t quads(uint32_t floats)
{
    return (floats + 3) / 4;
}

/* Activations that a product reads are padded to whole blocks of 32. */
static uint32_t padded_quads(uint32_t floats)
{
    return (floats + 31) / 32 * 8;
}

/* Of n activations that a product reads. */
static uint32_t input_quads(const vly_geometry *g, uint32_t n)
{
    return g->tile_form ? (n + VLY_TILE_UNIT - 1) / VLY_TILE_UNIT * (VLY_TILE_UNIT / 8)
                        : padded_quads(n);
}

static uint32_t take(vly_act_layout *at, uint64_t n_quads)
{
    uint64_t start = at->n_quads;
    at->n_quads += (n_quads + 15) / 16 * 16; /* regions start on 256 bytes */
    return (uint32_t)start;
}

static void take_biases(vly_act_layout *at, const vly_model_config *c)
{
    const uint32_t qkv =
        1u << VLY_TENSOR_ATTN_Q | 1u << VLY_TENSOR_ATTN_K | 1u << VLY_TENSOR_ATTN_V;
    const uint32_t gate_up = 1u << VLY_TENSOR_FFN_GATE | 1u << VLY_TENSOR_FFN_UP;
    uint64_t n = c->n_layer;
    if (c->biases & qkv) at->bias_qkv = take(at, n * at->qkv_stride);
    if (vly_config_has_bias(c, VLY_TENSOR_ATTN_OUTPUT)) at->bias_out = take(at, n * at->x_stride);
    at->gate_up_stride = quads(2 * c->ff_dim);
    if (c->biases & gate_up) at->bias_gate_up = take(at, n * at->gate_up_stride);
    if (vly_config_has_bias(c, VLY_TENSOR_FFN_DOWN)) at->bias_down = take(at, n * at->x_stride);
}

static void take_norms(vly_act_layout *at, const vly_model_config *c)
{
    uint32_t heads = c->arch.qk_norm == VLY_QK_NORM_ALL ? c->n_head + c->n_head_kv : 2;
    at->qk_norms_stride = heads * (c->head_dim / 4);
    if (c->arch.qk_norm) at->qk_norms = take(at, (uint64_t)c->n_layer * at->qk_norms_stride);
    if (c->arch.norms == VLY_NORMS_PRE) return;
    at->post_norms = take(at, 2ull * c->n_layer * at->x_stride);
    at->added = take(at, (uint64_t)VLY_MAX_CHUNK * at->x_stride);
}

/* Ops of a program at most: products of Q, K and V, one or each, and five more a layer. */
static uint32_t max_ops(const vly_model_config *c)
{
    return 8 * c->n_layer;
}

/* For chained steps that wait for counts. */
static void take_layers(vly_act_layout *at, const vly_model_config *c)
{
    at->counts = take(at, (5ull * c->n_layer + 2 + 3) / 4); /* numbers up to 5 * layers + 1 */
    uint64_t start = at->n_quads;
    at->layer_xn[0] = take(at, VLY_MAX_COUNTED * at->xn_stride);
    at->layer_att = take(at, VLY_MAX_COUNTED * at->att_stride);
    at->layer_xn[1] = take(at, VLY_MAX_COUNTED * at->xn_stride);
    at->layer_ff = take(at, VLY_MAX_COUNTED * at->ff_stride);
    at->layer_stride = (uint32_t)(at->n_quads - start);
    take(at, (uint64_t)at->layer_stride * (c->n_layer - 1));
}

static vly_act_layout lay_out(const vly_model_config *c, const vly_geometry *g, uint32_t head_rows,
                              uint32_t n_ctx)
{
    vly_act_layout at = {0};
    const uint64_t chunk = VLY_MAX_CHUNK, batch = VLY_MAX_BATCH;
    at.dim_quads = quads(c->dim);
    at.x_stride = padded_quads(c->dim);
    at.qkv_stride = (c->n_head + 2 * c->n_head_kv) * (c->head_dim / 4);
    at.xn_stride = input_quads(g, c->dim);
    at.att_stride = input_quads(g, c->n_head * c->head_dim);
    at.ff_stride = input_quads(g, c->ff_dim);
    at.squares_stride = quads(vly_row_blocks(g, c->dim));
    uint32_t blocks = vly_row_blocks(g, head_rows), block_rows = vly_block_rows(g);
    at.logits_stride = quads(blocks * block_rows);
    at.stats_stride = quads(2 * blocks);
    uint32_t width = g->pick_width;
    at.scratch_words = 2 * width * ((blocks + width - 1) / width) * block_rows;

    at.norms = take(&at, (2ull * c->n_layer + 1) * at.x_stride);
    take_biases(&at, c);
    take_norms(&at, c);
    at.rope = take(&at, (uint64_t)n_ctx * (c->head_dim / 4));
    at.x = take(&at, chunk * at.x_stride);
    at.xn = take(&at, chunk * at.xn_stride);
    at.qkv = take(&at, chunk * at.qkv_stride);
    at.att = take(&at, chunk * at.att_stride);
    at.ff = take(&at, chunk * at.ff_stride);
    at.embed_squares = take(&at, chunk);
    at.squares = take(&at, chunk * at.squares_stride);
    at.logits = take(&at, batch * at.logits_stride);
    at.stats = take(&at, batch * at.stats_stride);
    at.scratch = take(&at, batch * at.scratch_words / 4);
    at.max_splits = (n_ctx + VLY_SPLIT_TOKENS - 1) / VLY_SPLIT_TOKENS;
    if (!g->lane_form)
        at.partials = take(&at, batch * c->n_head * at.max_splits * (c->head_dim / 4 + 1));
    at.counters = take(&at, batch * c->n_head / 4 + 1);
    if (g->lane_form) at.program = take(&at, (uint64_t)max_ops(c) * VLY_OP_WORDS / 4);
    at.chain = take(&at, 1);
    if (g->tile_form) take_layers(&at, c);
    return at;
}

/* Where steps write what linked ones read: tagged words take twice the room, and no others may be
 * mistaken for them. */
static vly_act_layout lay_out_tagged(vly_act_layout *at)
{
    const uint64_t tokens = 2 * VLY_MAX_FRESH;
    vly_act_layout tagged = *at;
    tagged.x = take(at, tokens * at->x_stride);
    tagged.xn = take(at, tokens * at->xn_stride);
    tagged.qkv = take(at, tokens * at->qkv_stride);
    tagged.att = take(at, tokens * at->att_stride);
    tagged.ff = take(at, tokens * at->ff_stride);
    tagged.embed_squares = take(at, tokens);
    tagged.squares = take(at, tokens * at->squares_stride);
    return tagged;
}

/* ---- Creation ---- */

static vly_kv_shape kv_shape(const vly_model *m, const vly_model_options *o)
{
    uint32_t slots = o->n_slots ? o->n_slots : 1, n_ctx = m->memory.n_ctx;
    uint32_t window = vly_config_all_windowed(&m->config) ? m->config.window : 0;
    return (vly_kv_shape){
        .n_layer = m->config.n_layer,
        .n_head_kv = m->config.n_head_kv,
        .head_dim = m->config.head_dim,
        .int8 = !o->kv_f16,
        .max_pages = m->memory.n_pages,
        .max_slots = slots,
        .slot_tokens = n_ctx,
        .window = window,
    };
}

/* Everything about the model that can be known without allocating on the device. */
static int plan(vly_gpu *gpu, const vly_gguf *gguf, const vly_model_options *o, bool tiles,
                vly_model *m, vly_error *err)
{
    m->gpu = gpu;
    int rc = vly_model_config_read(gguf, o->arch, &m->config, err);
    if (rc) return rc;
    m->memory.n_ctx = o->n_ctx && o->n_ctx < m->config.n_ctx ? o->n_ctx : m->config.n_ctx;
    vly_kv_shape shape = kv_shape(m, o);
    m->memory.slot_pages = vly_kv_slot_pages(&shape);
    uint64_t full = (uint64_t)m->memory.slot_pages * shape.max_slots;
    m->memory.n_pages = o->n_pages && o->n_pages < full ? o->n_pages
                        : full < UINT32_MAX             ? (uint32_t)full
                                                        : UINT32_MAX;
    m->geometry = choose_geometry(vly_gpu_get_info(gpu), tiles);
    uint32_t head_rows = o->head_rows ? o->n_head_rows : m->config.n_vocab;
    m->geometry.pick_width = choose_pick_width(&m->geometry, vly_gpu_get_info(gpu), head_rows);
    m->at = lay_out(&m->config, &m->geometry, head_rows, m->memory.n_ctx);
    if (m->geometry.tile_form) m->tagged = lay_out_tagged(&m->at);
    if (m->at.n_quads > UINT32_MAX)
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "%s: activations take %.1f GiB; at most 64 can be addressed",
                        m->config.name, (double)m->at.n_quads / 67108864.0);
    rc = vly_weights_plan(gguf, &m->config, vly_gpu_get_info(gpu), o->head_rows, o->n_head_rows,
                          m->geometry.tile_form, &m->weights, err);
    if (rc) return rc;
    m->n_head_rows = o->head_rows && o->n_usual_rows ? o->n_usual_rows : head_rows;
    m->memory.weights = m->weights.n_bytes;
    m->memory.unusual_rows =
        vly_matrix_bytes(&m->weights.head) / head_rows * (head_rows - m->n_head_rows);
    m->memory.activations = m->at.n_quads * 16 + (uint64_t)VLY_MAX_BATCH * m->at.logits_stride * 16;
    m->memory.kv_per_page = vly_kv_page_bytes(&shape);
    m->memory.kv = m->memory.n_pages * m->memory.kv_per_page;
    return 0;
}

int vly_model_measure(vly_gpu *gpu, const vly_gguf *gguf, const vly_model_options *options,
                      vly_model_memory *out, vly_error *err)
{
    vly_model m = {0};
    int rc = plan(gpu, gguf, options, true, &m, err);
    *out = m.memory;
    vly_weights_deinit(NULL, &m.weights);
    return rc;
}

static int create_views(vly_model *m, vly_error *err)
{
    m->views = calloc(m->weights.n_chunks, sizeof(*m->views));
    if (!m->views) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the model");
    for (uint32_t i = 0; i < m->weights.n_chunks; i++) {
        int rc = vly_gpu_views_create(m->gpu, &m->weights.chunk[i], &m->act,
                                      vly_kv_view_buffer(m->kv), &m->views[i], err);
        if (rc) return rc;
    }
    return 0;
}

/* Are the steps of all layers such that one kernel can do them? */
static bool has_programs(const vly_model *m)
{
    const vly_weights *w = &m->weights;
    if (!m->geometry.lane_form || !vly_kv_get_shape(m->kv)->int8 || m->at.qk_norms ||
        m->at.post_norms)
        return false;
    const vly_matrix *like = &w->layer[0].out;
    for (uint32_t i = 0; i < w->n_layer; i++) {
        const vly_layer_weights *l = &w->layer[i];
        const vly_matrix *matrices[] = {&l->qkv[0], &l->out, &l->gate_up, &l->down};
        for (size_t j = 0; j < sizeof matrices / sizeof *matrices; j++)
            if (l->n_qkv != 1 || matrices[j]->format != like->format ||
                matrices[j]->chunk != like->chunk)
                return false;
    }
    return true;
}

#define PROGRAM_BUCKETS 4 /* of up to VLY_PROGRAM_TOKENS tokens */

static int create_ops(vly_model *m, vly_error *err)
{
    if (!has_programs(m)) return 0;
    return vly_gpu_buffer_create(
        m->gpu, 2ull * PROGRAM_BUCKETS * max_ops(&m->config) * sizeof(struct vly_op), VLY_GPU_STEP,
        "programs", &m->ops, err);
}

static int create(vly_model *m, const vly_model_options *o, vly_error *err)
{
    vly_kv_shape shape = kv_shape(m, o);
    int rc = vly_weights_upload(m->gpu, &m->weights, o->progress, o->progress_arg, err);
    if (rc) return rc;
    if ((rc = vly_kv_create(m->gpu, &shape, &m->kv, err)) ||
        (rc = vly_gpu_buffer_create(m->gpu, m->at.n_quads * 16, VLY_GPU_DEVICE, "activations",
                                    &m->act, err)) ||
        (rc = vly_gpu_buffer_create(m->gpu, sizeof(struct vly_results), VLY_GPU_READBACK, "results",
                                    &m->results, err)) ||
        (rc = vly_gpu_buffer_create(m->gpu, sizeof(struct vly_blocks), VLY_GPU_READBACK, "blocks",
                                    &m->blocks, err)) ||
        (rc = vly_gpu_buffer_create(m->gpu, (uint64_t)VLY_MAX_BATCH * m->at.logits_stride * 16,
                                    VLY_GPU_READBACK, "logits", &m->logits, err)) ||
        (rc = vly_vectors_upload(m, err)))
        return rc;
    for (int i = 0; rc == 0 && i < VLY_N_STEP_BUFFERS; i++)
        rc = vly_gpu_buffer_create(m->gpu, sizeof(struct vly_step), VLY_GPU_STEP, "step buffer",
                                   &m->step[i], err);
    if (rc == 0 && m->geometry.lane_form) rc = create_views(m, err);
    if (rc == 0) rc = create_ops(m, err);
    return rc ? rc : vly_chain_choose(m, err);
}

/* *beyond_f16: why tiles do not do. */
static int try_create(vly_gpu *gpu, const vly_gguf *gguf, const vly_model_options *options,
                      bool tiles, bool *beyond_f16, vly_model **out, vly_error *err)
{
    vly_model *m = calloc(1, sizeof *m);
    if (!m) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the model");
    int rc = plan(gpu, gguf, options, tiles, m, err);
    if (rc == 0 && (rc = create(m, options, err)) == VLY_E_FORMAT)
        vly_fail_within(err, "%s", vly_gguf_path(gguf));
    *beyond_f16 = m->weights.beyond_f16;
    if (rc) {
        vly_model_destroy(m);
        return rc;
    }
    *out = m;
    return 0;
}

int vly_model_create(vly_gpu *gpu, const vly_gguf *gguf, const vly_model_options *options,
                     vly_model **out, vly_error *err)
{
    vly_error why;
    bool beyond_f16 = false;
    int rc = try_create(gpu, gguf, options, true, &beyond_f16, out, &why);
    if (rc && beyond_f16) {
        vly_log(VLY_LOG_WARN, "model", "%s: %s: computed without matrix units, which is slower",
                vly_gguf_path(gguf), why.message);
        return try_create(gpu, gguf, options, false, &beyond_f16, out, err);
    }
    if (rc && err) *err = why;
    return rc;
}

void vly_model_destroy(vly_model *m)
{
    if (!m) return;
    for (int i = 0; i < VLY_N_PASSES; i++)
        for (int j = 0; j < VLY_N_BUCKETS; j++)
            if (m->passes[i][j]) vly_gpu_commands_destroy(m->passes[i][j]);
    for (uint32_t i = 0; m->views && i < m->weights.n_chunks; i++)
        if (m->views[i]) vly_gpu_views_destroy(m->gpu, m->views[i]);
    free(m->views);
    vly_kv_destroy(m->kv);
    vly_weights_deinit(m->gpu, &m->weights);
    for (int i = 0; i < VLY_N_STEP_BUFFERS; i++) vly_gpu_buffer_destroy(m->gpu, &m->step[i]);
    vly_gpu_buffer *buffers[] = {&m->act, &m->results, &m->logits, &m->tables, &m->blocks, &m->ops};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        vly_gpu_buffer_destroy(m->gpu, buffers[i]);
    free(m);
}

int vly_model_link_draft(vly_model *m, vly_model *target, const vly_draft_link *l, vly_error *err)
{
    enum { RECODED, OWN_ID, TARGET_ID, SPELLING, WORDS, N };
    const uint64_t rows = m->weights.head.rows_used * sizeof *l->own_id;
    const uint32_t n_own = l->n_words ? l->n_own : 0;
    const void *source[N] = {l->recoded, l->own_id, l->target_id, l->spelling, l->words};
    const uint64_t bytes[N] = {target->weights.head.rows_used * sizeof *l->recoded, rows, rows,
                               n_own * sizeof *l->spelling, l->n_words * sizeof *l->words};
    uint64_t at[N + 1] = {0};
    for (int i = 0; i < N; i++) at[i + 1] = at[i] + bytes[i];
    vly_gpu_upload *ring;
    int rc =
        vly_gpu_buffer_create(m->gpu, at[N], VLY_GPU_DEVICE, "vocabulary map", &m->tables, err);
    if (rc) return rc;
    if ((rc = vly_gpu_upload_create(m->gpu, 4 * at[N], &ring, err))) return rc;
    for (int i = 0; rc == 0 && i < N; i++) {
        if (bytes[i] == 0) continue;
        void *space;
        rc = vly_gpu_upload_stage(ring, &m->tables, at[i], bytes[i], &space, err);
        if (rc == 0) memcpy(space, source[i], bytes[i]);
    }
    if (rc == 0) rc = vly_gpu_upload_finish(ring, err);
    vly_gpu_upload_destroy(ring);
    m->draft_row_id = m->tables.address + at[OWN_ID];
    m->draft_row_target = m->tables.address + at[TARGET_ID];
    m->draft_target_step = target->step[VLY_STEP_BUFFER_DECODE].address;
    target->advance =
        (struct vly_push_block){.draft_first = m->step[VLY_STEP_BUFFER_DECODE].address,
                                .draft_further = m->step[VLY_STEP_BUFFER_DRAFT].address,
                                .draft_results = m->results.address,
                                .recoded = m->tables.address + at[RECODED],
                                .spelling = m->tables.address + at[SPELLING],
                                .words = m->tables.address + at[WORDS],
                                .n_words = l->n_words,
                                .n_own = n_own};
    return rc;
}

/* ---- Access ---- */

const vly_model_config *vly_model_get_config(const vly_model *m)
{
    return &m->config;
}

const vly_model_memory *vly_model_get_memory(const vly_model *m)
{
    return &m->memory;
}

vly_kv *vly_model_kv(vly_model *m)
{
    return m->kv;
}

struct vly_step *vly_model_step(vly_model *m, vly_step_buffer which)
{
    return m->step[which].mapped;
}

void vly_step_write(struct vly_step *step, uint32_t at, const uint32_t *ids, uint32_t n,
                    uint32_t pos, uint32_t slot)
{
    for (uint32_t i = 0; i < n; i++)
        step->token[at + i] = (struct vly_step_token){ids[i], pos + i, slot, at};
}

bool vly_model_prompts_as_decoding(const vly_model *m)
{
    return !m->geometry.tile_form; /* its prompts have a kernel with another order of sums */
}

const struct vly_results *vly_model_results(const vly_model *m)
{
    return m->results.mapped;
}

struct vly_blocks *vly_model_blocks(vly_model *m)
{
    return m->blocks.mapped;
}

float *vly_model_logits(const vly_model *m)
{
    return m->logits.mapped;
}

uint32_t vly_model_logits_stride(const vly_model *m)
{
    return m->at.logits_stride * 4;
}

uint32_t vly_model_head_rows(const vly_model *m)
{
    return m->weights.head.rows_used;
}

static uint32_t bucket_of(vly_pass pass, uint32_t n)
{
    uint32_t bucket = 0, least = 16;
    while (least < n) least *= 2;
    if (pass == VLY_PASS_PROMPT) n = least;
    while (vly_buckets[bucket] < n) bucket++;
    return bucket;
}

uint32_t vly_model_bucket(vly_pass pass, uint32_t n)
{
    return vly_buckets[bucket_of(pass, n)];
}

bool vly_model_program(vly_model *m, vly_pass pass, uint32_t n, vly_program *out)
{
    bool draft = pass == VLY_PASS_DRAFT_LAYERS;
    if (!m->ops.mapped || n > VLY_PROGRAM_TOKENS || (pass != VLY_PASS_LAYERS && !draft))
        return false;
    uint32_t most = max_ops(&m->config);
    uint32_t first = (bucket_of(pass, n) + (draft ? PROGRAM_BUCKETS : 0)) * most;
    vly_program_init(out, (struct vly_op *)m->ops.mapped + first,
                     m->ops.address + (uint64_t)first * sizeof(struct vly_op),
                     m->act.address + m->at.program * 16ull, most, m->geometry.lanes,
                     m->memory.n_ctx, m->geometry.patience);
    return true;
}

bool vly_model_has_pass(const vly_model *m, vly_pass pass, uint32_t n)
{
    return m->passes[pass][bucket_of(pass, n)] != NULL;
}

int vly_model_record_pass(vly_model *m, vly_pass pass, uint32_t n, vly_gpu_commands **out,
                          vly_error *err)
{
    static const char *const names[VLY_N_PASSES] = {"layers",
                                                    "head",
                                                    "pick",
                                                    "logits read-back",
                                                    "prompt",
                                                    "advance",
                                                    "whole head",
                                                    "pick among all",
                                                    "draft step",
                                                    "draft head",
                                                    "draft pick",
                                                    "whole draft head",
                                                    "draft pick among all"};
    uint32_t size = vly_model_bucket(pass, n);
    char label[256];
    vly_gpu_commands *commands;
    *out = NULL;
    snprintf(label, sizeof label, "%s of up to %u tokens of %s", names[pass], size, m->config.name);
    int rc = vly_gpu_commands_create(m->gpu, label, &commands, err);
    if (rc) return rc;
    rc = vly_forward_record(m, pass, size, commands, NULL, err);
    if (rc == 0) rc = vly_gpu_commands_end(commands, err);
    if (rc)
        vly_gpu_commands_destroy(commands);
    else
        *out = commands;
    return rc;
}

void vly_model_keep_pass(vly_model *m, vly_pass pass, uint32_t n, vly_gpu_commands *commands)
{
    m->passes[pass][bucket_of(pass, n)] = commands;
}

int vly_model_pass(vly_model *m, vly_pass pass, uint32_t n, vly_gpu_commands **out, vly_error *err)
{
    vly_gpu_commands **kept = &m->passes[pass][bucket_of(pass, n)];
    int rc = *kept ? 0 : vly_model_record_pass(m, pass, n, kept, err);
    *out = *kept;
    return rc;
}
