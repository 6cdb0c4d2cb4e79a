/* The forward pass, as it is recorded. A layer is five dependent steps:
 *   A  Q, K, V = W xn, scaled by the norm, Q and K rotated
 *   B  attention over the cache's pages; the step's own K and V are stored on the way
 *   C  x += W attention; xn for the next norm
 *   D  ff = silu(gate) * up, scaled by the norm
 *   E  x += W ff; xn for the next norm
 * The norms have no step of their own: whoever writes x also writes xn = x * norm weights and the
 * sums of squares of its rows, and whoever multiplies xn scales its sums by 1 / rms(x). */
#include "model/recorder.h"
#include "model/tile_shape.h"

/* Weights of a row between two barriers of the kernels with dot products: as many as keep x,
 * rounded, for all columns within VLY_DOT_SHARED_BYTES, in whole turns of a subgroup. */
static uint32_t dot_tile(const vly_geometry *g, const vly_layout *layout, uint32_t columns,
                         uint32_t k)
{
    uint32_t turn = g->lanes * 32 / vly_layout_parts(layout), most = (k + turn - 1) / turn * turn;
    uint32_t fits = VLY_DOT_SHARED_BYTES / (columns * 9 / 4 + 1) / turn * turn;
    return fits < turn ? turn : fits < most ? fits : most;
}

/* Tokens that a workgroup computes together. A processor has no registers for more than 8: 16 took
 * 2.7 times as long to compile and 1.1 to 1.25 times as long to run. */
static uint32_t columns_of(const vly_geometry *g, uint32_t n_tok)
{
    uint32_t most = g->lane_form ? 8 : VLY_MAX_COLUMNS, parts = (n_tok + most - 1) / most;
    return (n_tok + parts - 1) / parts;
}

/* What the step under way is told of its links, where it and its neighbours wait for counts. */
static struct vly_chain counts(const recorder *r)
{
    const uint32_t n = r->number, first = r->m->at.counts * 4;
    if (n == 1) return (struct vly_chain){.word = first, .awaited = 5 * r->m->config.n_layer + 2};
    uint32_t awaited = linked(r, n) ? r->n_groups_before : 0;
    if (linked(r, n + 1)) awaited |= VLY_CHAIN_TELLS;
    return (struct vly_chain){.word = first + n, .awaited = awaited};
}

/* The same with tags. x is written by the embedding and twice in a layer. */
static struct vly_chain tags(const recorder *r)
{
    const uint32_t n = r->number, n_steps = 5 * r->m->config.n_layer + 1;
    struct vly_chain c = {.word = r->m->at.chain * 4 + 1,
                          .read = linked(r, n) ? n - 1 : 0,
                          .written = linked(r, n + 1) ? n : 0};
    uint32_t layer = (n - 2) / 5, kind = VLY_STEP_QKV + (n - 2) % 5;
    if (n == 1)
        c.residual = n_steps + 1;
    else if (n == 2)
        c.residual = 1;
    else if (kind == VLY_STEP_OUT || kind == VLY_STEP_DOWN)
        c.residual = 2 * layer + (kind == VLY_STEP_OUT ? 1 : 2);
    return c;
}

static struct vly_chain chain(const recorder *r)
{
    return tagged(r) ? tags(r) : r->links ? counts(r) : (struct vly_chain){0};
}

/* The product on matrix units: columns in whole groups of 8, all of a step in one workgroup. */
static vly_gpu_kernel *tile_kernel(recorder *r, const vly_matrix *w, uint32_t role,
                                   const vly_tile_shape *shape, uint32_t x_stride,
                                   uint32_t *columns)
{
    const vly_tile_layout *layout = vly_tile_layout_of(w->format);
    if (r->prompt) {
        uint32_t constants[] = {256, role, 0, layout->id};
        *columns = VLY_MATMUL_COLUMNS;
        return kernel(r, VLY_SHADER_matmul_tile, constants, 4);
    }
    *columns = r->n < VLY_TILE_COLUMNS ? (r->n + 7) / 8 * 8 : VLY_TILE_COLUMNS;
    uint32_t constants[] = {32 * shape->warps, role,         *columns, layout->id,
                            shape->warps,      shape->depth, r->n,     r->n * x_stride};
    bool chained = chain(r).read != 0;
    return kernel(r, chained ? VLY_SHADER_matvec_tile_chained : VLY_SHADER_matvec_tile, constants,
                  chained ? 8 : 7);
}

static void tile_product(recorder *r, const vly_gpu_kernel *k, const struct vly_push_matvec *p,
                         const vly_matrix *w, uint32_t rows, uint32_t warps, uint32_t columns)
{
    uint32_t tiles = vly_row_workgroups(&r->m->geometry, rows);
    uint32_t groups = r->prompt
                          ? (tiles + VLY_MATMUL_TILES - 1) / VLY_MATMUL_TILES
                          : vly_tile_groups(w, rows, warps, p->chain.read || p->chain.written);
    r->n_groups += groups;
    vly_gpu_cmd_dispatch(r->commands, k, NULL, p, sizeof *p, groups, (r->n + columns - 1) / columns,
                         1);
}

/* y = W x in the given role, the first `rows` of it. `p` holds what the role needs beyond the
 * matrix. */
static void matvec_rows(recorder *r, const vly_matrix *w, uint32_t rows, uint32_t role,
                        struct vly_push_matvec p)
{
    const vly_model *m = r->m;
    const vly_geometry *g = &m->geometry;
    const vly_layout *layout = vly_layout_of(w->format);
    const vly_gpu_buffer *chunk = &m->weights.chunk[w->chunk];
    uint32_t columns = columns_of(g, r->n);
    bool dot = g->dot && layout->dot >= 0;
    uint32_t constants[] = {g->width, role,      columns,
                            g->pairs, g->groups, dot_tile(g, layout, columns, w->blocks * 32)};
    int shader = g->lane_form ? layout->lane : dot ? layout->dot : layout->group;
    p.weights = chunk->address + w->parts;
    p.scales = chunk->address + w->scales;
    p.weights_quad = (uint32_t)(w->parts / 16);
    p.scales_word = (uint32_t)(w->scales / 4);
    p.act = m->act.address;
    p.step = r->step;
    p.rows = w->rows;
    p.rows_used = rows;
    p.blocks = w->blocks;
    p.norm_epsilon = m->config.norm_epsilon;
    p.dim = m->config.dim;
    p.chain = chain(r);
    if (r->program) {
        vly_program_add_product(r->program, role, &p, vly_row_workgroups(g, rows),
                                (r->n + columns - 1) / columns);
        return;
    }
    vly_tile_shape shape = vly_tile_shape_of(w);
    vly_gpu_kernel *k = g->tile_form ? tile_kernel(r, w, role, &shape, p.in_stride, &columns)
                                     : kernel(r, shader, constants,
                                              g->lane_form ? 4
                                              : dot        ? 6
                                                           : 5);
    if (!k) return;
    if (g->tile_form) {
        tile_product(r, k, &p, w, rows, shape.warps, columns);
        return;
    }
    vly_gpu_cmd_dispatch(r->commands, k, m->views ? m->views[w->chunk] : NULL, &p, sizeof p,
                         vly_row_workgroups(g, rows), (r->n + columns - 1) / columns, 1);
}

static void matvec(recorder *r, const vly_matrix *w, uint32_t role, struct vly_push_matvec p)
{
    matvec_rows(r, w, w->rows_used, role, p);
}

static void embed(recorder *r)
{
    const vly_model *m = r->m;
    const vly_matrix *w = &m->weights.embed;
    const vly_gpu_buffer *chunk = &m->weights.chunk[w->chunk];
    const uint32_t groups = m->geometry.lane_form ? 1 : 4; /* a processor takes one at a time */
    const uint32_t constants[] = {m->geometry.lanes * groups, m->geometry.tile_form};
    const vly_act_layout out = outputs(r);
    vly_gpu_kernel *k = kernel(r, vly_layout_of(w->format)->embed, constants, 2);
    struct vly_push_embed p = {
        .weights = chunk->address + w->parts,
        .scales = chunk->address + w->scales,
        .act = m->act.address,
        .step = r->step,
        .norm_quad = r->at->norms,
        .blocks = w->blocks,
        .x_quad = out.x,
        .xn_quad = out.xn,
        .stride = r->at->x_stride,
        .squares_quad = out.embed_squares,
        .chain = chain(r),
    };
    if (k) vly_gpu_cmd_dispatch(r->commands, k, NULL, &p, sizeof p, r->n, 1, 1);
}

/* The norm of x as the consumer of xn takes it: sums of squares from the embedding or from a
 * residual product. */
static struct vly_push_matvec normed(const recorder *r, bool first)
{
    const vly_act_layout at = inputs(r);
    return (struct vly_push_matvec){
        .in_quad = at.xn,
        .in_stride = at.xn_stride,
        .norm_quad = first ? at.embed_squares : at.squares,
        .norm_parts = first ? 1 : at.squares_stride,
    };
}

/* The same of what a layer takes; where only what it adds is normed, x as it is. */
static struct vly_push_matvec layer_input(const recorder *r, bool first)
{
    struct vly_push_matvec p = normed(r, first);
    if (r->m->config.arch.norms == VLY_NORMS_POST) p.norm_parts = 0;
    return p;
}

/* Q and K, which are then rotated after it. */
static void qk_norm(recorder *r, uint32_t layer)
{
    const vly_model *m = r->m;
    const vly_model_config *c = &m->config;
    vly_gpu_kernel *k = kernel(r, VLY_SHADER_qk_norm, &m->geometry.lanes, 1);
    struct vly_push_qk_norm p = {
        .act = m->act.address,
        .step = r->step,
        .qkv_quad = r->at->qkv,
        .qkv_stride = r->at->qkv_stride,
        .weights_quad = r->at->qk_norms + layer * r->at->qk_norms_stride,
        .rope_quad = r->at->rope,
        .n_head = c->n_head,
        .n_head_kv = c->n_head_kv,
        .head_dim = c->head_dim,
        .whole = c->arch.qk_norm == VLY_QK_NORM_ALL,
        .norm_epsilon = c->norm_epsilon * (float)c->head_size / (float)c->head_dim,
    };
    uint32_t norms = p.whole ? 2 : c->n_head + c->n_head_kv;
    if (k) vly_gpu_cmd_dispatch(r->commands, k, NULL, &p, sizeof p, norms, r->n, 1);
}

/* Of biases that begin at `start`, 0 being none, the layer's. */
static uint32_t layer_bias(uint32_t start, uint32_t stride, uint32_t layer)
{
    return start ? start + layer * stride : 0;
}

static void qkv(recorder *r, uint32_t layer)
{
    const vly_model *m = r->m;
    const vly_layer_weights *w = &m->weights.layer[layer];
    struct vly_push_matvec p = layer_input(r, layer == 0);
    p.out_quad = outputs(r).qkv;
    p.out_stride = r->at->qkv_stride;
    p.bias_quad = layer_bias(r->at->bias_qkv, r->at->qkv_stride, layer);
    if (!r->at->qk_norms)
        p.extra[0] = (m->config.n_head + m->config.n_head_kv) * m->config.head_dim;
    p.extra[1] = m->config.head_dim;
    p.extra[2] = r->at->rope;
    for (uint32_t i = 0; i < w->n_qkv; i++) {
        matvec(r, &w->qkv[i], VLY_ROLE_QKV, p);
        p.row_base += w->qkv[i].rows_used;
    }
    if (r->at->qk_norms) {
        barrier(r);
        qk_norm(r, layer);
    }
}

/* x += the norm of what a product left; xn as below. */
static void post_norm(recorder *r, uint32_t norm)
{
    const vly_model *m = r->m;
    const vly_act_layout *at = r->at;
    const uint32_t constants[] = {m->geometry.lanes, m->geometry.tile_form};
    vly_gpu_kernel *k = kernel(r, VLY_SHADER_post_norm, constants, 2);
    struct vly_push_post_norm p = {
        .act = m->act.address,
        .step = r->step,
        .y_quad = at->added,
        .x_quad = at->x,
        .stride = at->x_stride,
        .weights_quad = at->post_norms + norm * at->x_stride,
        .xn_quad = at->xn,
        .next_quad = at->norms + (norm + 1) * at->x_stride,
        .squares_quad = at->squares,
        .squares_stride = at->squares_stride,
        .dim = m->config.dim,
        .norm_epsilon = m->config.norm_epsilon,
    };
    if (k) vly_gpu_cmd_dispatch(r->commands, k, NULL, &p, sizeof p, r->n, 1, 1);
}

/* x += W in; xn = x * the weights of the next norm. `norm` numbers attention's and feed-forward's
 * of all layers. */
static void residual(recorder *r, const vly_matrix *w, uint32_t in, uint32_t stride, uint32_t bias,
                     uint32_t norm)
{
    const vly_act_layout *at = r->at;
    if (at->post_norms) {
        /* A plain product: of Q, K and V none would be rotated. */
        matvec(r, w, VLY_ROLE_QKV,
               (struct vly_push_matvec){.in_quad = in,
                                        .in_stride = stride,
                                        .out_quad = at->added,
                                        .out_stride = at->x_stride,
                                        .bias_quad = bias,
                                        .extra = {0, 2}});
        barrier(r);
        post_norm(r, norm);
        return;
    }
    const vly_act_layout out = outputs(r);
    matvec(r, w, VLY_ROLE_ADD,
           (struct vly_push_matvec){
               .in_quad = in,
               .in_stride = stride,
               .out_quad = tagged(r) ? r->m->tagged.x : at->x,
               .out_stride = at->x_stride,
               .bias_quad = bias,
               .extra = {out.xn, at->norms + (norm + 1) * at->x_stride, out.squares,
                         at->squares_stride},
           });
}

static void swiglu(recorder *r, uint32_t layer)
{
    const vly_model *m = r->m;
    struct vly_push_matvec p = layer_input(r, false);
    p.out_quad = outputs(r).ff;
    p.out_stride = r->at->ff_stride;
    p.bias_quad = layer_bias(r->at->bias_gate_up, r->at->gate_up_stride, layer);
    matvec(r, &m->weights.layer[layer].gate_up, VLY_ROLE_SWIGLU, p);
}

static void head(recorder *r)
{
    const vly_model *m = r->m;
    struct vly_push_matvec p = normed(r, false);
    p.out_quad = r->at->logits;
    p.out_stride = r->at->logits_stride;
    p.extra[0] = r->at->stats;
    p.extra[1] = r->at->stats_stride;
    matvec_rows(r, &m->weights.head, r->head_rows, VLY_ROLE_LOGITS, p);
}

static void pick(recorder *r)
{
    const vly_model *m = r->m;
    const vly_geometry *g = &m->geometry;
    uint32_t width = g->pick_width;
    vly_gpu_kernel *k =
        kernel(r, g->lane_form ? VLY_SHADER_pick_texel : VLY_SHADER_pick, &width, 1);
    struct vly_push_pick p = {
        .act = m->act.address,
        .step = r->step,
        .target = m->draft_target_step,
        .next = m->step[VLY_STEP_BUFFER_DRAFT].address,
        .results = m->results.address,
        .row_id = m->draft_row_id,
        .row_target = m->draft_row_target,
        .scratch = m->act.address + r->at->scratch * 16ull,
        .logits_quad = r->at->logits,
        .logits_stride = r->at->logits_stride,
        .stats_quad = r->at->stats,
        .stats_stride = r->at->stats_stride,
        .n_vocab = r->head_rows,
        .block_rows = vly_block_rows(g),
        .scratch_stride = r->at->scratch_words,
        .draft = m->draft_target_step != 0,
    };
    if (k)
        vly_gpu_cmd_dispatch(r->commands, k, m->views ? m->views[0] : NULL, &p, sizeof p, r->n, 1,
                             1);
}

static void advance(recorder *r)
{
    const vly_model *m = r->m;
    const uint32_t lanes = m->geometry.lanes;
    const uint32_t width = (VLY_BLOCK_DRAFT + lanes) / lanes * lanes; /* a row each, and more */
    vly_gpu_kernel *k = kernel(r, VLY_SHADER_advance, &width, 1);
    struct vly_push_block p = m->advance;
    p.base = (struct vly_push_advance){
        .step = r->step, .results = m->results.address, .n_vocab = m->weights.head.rows_used};
    p.blocks = m->blocks.address;
    if (k) vly_gpu_cmd_dispatch(r->commands, k, NULL, &p, sizeof p, 1, 1, 1);
}

/* Marks the time at the end of a step. */
static void mark(recorder *r, vly_step_kind kind, uint32_t layer)
{
    vly_step_marks *marks = r->marks;
    if (!marks || marks->n == VLY_GPU_MAX_TIMESTAMPS) return;
    marks->kind[marks->n] = kind;
    marks->layer[marks->n] = layer;
    vly_gpu_cmd_timestamp(r->commands, marks->n++);
}

static void step(recorder *r, vly_step_kind kind, uint32_t layer)
{
    const vly_layer_weights *w = &r->m->weights.layer[layer];
    const vly_act_layout *at = r->at;
    r->n_groups_before = r->n_groups;
    r->n_groups = 0;
    switch (kind) {
    case VLY_STEP_EMBED:
        embed(r);
        break;
    case VLY_STEP_QKV:
        qkv(r, layer);
        break;
    case VLY_STEP_ATTENTION:
        vly_attention_record(r, layer, chain(r));
        break;
    case VLY_STEP_OUT:
        residual(r, &w->out, inputs(r).att, at->att_stride,
                 layer_bias(at->bias_out, at->x_stride, layer), 2 * layer);
        break;
    case VLY_STEP_GATE_UP:
        swiglu(r, layer);
        break;
    case VLY_STEP_DOWN:
        residual(r, &w->down, inputs(r).ff, at->ff_stride,
                 layer_bias(at->bias_down, at->x_stride, layer), 2 * layer + 1);
        break;
    case VLY_STEP_HEAD:
        head(r);
        break;
    default:
        pick(r);
    }
    mark(r, kind, layer);
}

static recorder begin(vly_model *m, vly_step_buffer which, uint32_t n, vly_gpu_commands *commands,
                      vly_step_marks *marks, vly_error *err)
{
    return (recorder){.m = m,
                      .commands = commands,
                      .at = &m->at,
                      .step = m->step[which].address,
                      .prompt = which == VLY_STEP_BUFFER_PROMPT,
                      .n = n,
                      .head_rows = m->n_head_rows,
                      .marks = marks,
                      .err = err};
}

/* The five steps of all layers. */
static void layer_steps(recorder *r)
{
    r->number = 1;
    for (uint32_t i = 0; i < r->m->config.n_layer; i++)
        for (int kind = VLY_STEP_QKV; kind <= VLY_STEP_DOWN; kind++) {
            r->number++;
            if (!linked(r, r->number) && r->number > 2) barrier(r);
            step(r, kind, i);
        }
}

/* The same as a program. Not possible where its loops would take too long. */
static bool layer_program(recorder *r, vly_program *program)
{
    const vly_model *m = r->m;
    const vly_matrix *w = &m->weights.layer[0].out;
    r->program = program;
    layer_steps(r);
    attention_shape a = vly_attention_shape_of(r);
    r->program = NULL;
    if (!program->possible) return false;
    uint32_t columns = columns_of(&m->geometry, r->n);
    uint32_t constants[] = {m->geometry.lanes,  0,       columns, m->geometry.pairs,
                            m->config.head_dim, a.heads, a.share, a.rounds};
    vly_gpu_kernel *k = kernel(r, vly_layout_of(w->format)->program, constants, 8);
    vly_gpu_cmd_fill(r->commands, &m->act, m->at.program * 16ull,
                     (uint64_t)program->n * VLY_OP_WORDS * 4, 0);
    barrier(r);
    if (k) vly_program_record(program, k, m->views[w->chunk], r->step, r->commands);
    return true;
}

static void layers(recorder *r, vly_pass pass)
{
    vly_model *m = r->m;
    vly_program program;
    if (!r->prompt && !r->marks) r->links = vly_chain_links(m, r->n);
    r->number = 1;
    step(r, VLY_STEP_EMBED, 0);
    barrier(r);
    if (r->marks || !vly_model_program(m, pass, r->n, &program) || !layer_program(r, &program))
        layer_steps(r);
    r->links = 0;
}

int vly_forward_record(vly_model *model, vly_pass pass, uint32_t n, vly_gpu_commands *commands,
                       vly_step_marks *marks, vly_error *err)
{
    vly_step_buffer which = pass == VLY_PASS_PROMPT         ? VLY_STEP_BUFFER_PROMPT
                            : pass >= VLY_PASS_DRAFT_LAYERS ? VLY_STEP_BUFFER_DRAFT
                                                            : VLY_STEP_BUFFER_DECODE;
    recorder r = begin(model, which, n, commands, marks, err);
    switch (pass) {
    case VLY_PASS_HEAD_ALL:
    case VLY_PASS_DRAFT_HEAD_ALL:
        r.head_rows = model->weights.head.rows_used;
        step(&r, VLY_STEP_HEAD, 0);
        break;
    case VLY_PASS_PICK_ALL:
    case VLY_PASS_DRAFT_PICK_ALL:
        r.head_rows = model->weights.head.rows_used;
        step(&r, VLY_STEP_PICK, 0);
        break;
    case VLY_PASS_LAYERS:
    case VLY_PASS_PROMPT:
    case VLY_PASS_DRAFT_LAYERS:
        layers(&r, pass);
        break;
    case VLY_PASS_HEAD:
    case VLY_PASS_DRAFT_HEAD:
        step(&r, VLY_STEP_HEAD, 0);
        break;
    case VLY_PASS_PICK:
    case VLY_PASS_DRAFT_PICK:
        step(&r, VLY_STEP_PICK, 0);
        break;
    case VLY_PASS_ADVANCE:
        advance(&r);
        break;
    default:
        vly_gpu_cmd_copy(commands, &model->act, r.at->logits * 16ull, &model->logits, 0,
                         (uint64_t)n * r.at->logits_stride * 16);
    }
    return r.rc;
}

int vly_forward_record_step(vly_model *model, vly_step_kind kind, uint32_t layer, uint32_t n,
                            vly_gpu_commands *commands, vly_error *err)
{
    vly_step_buffer which = n > VLY_MAX_BATCH ? VLY_STEP_BUFFER_PROMPT : VLY_STEP_BUFFER_DECODE;
    recorder r = begin(model, which, n, commands, NULL, err);
    step(&r, kind, layer);
    return r.rc;
}
