/* Attention over the pages: what is stored, what comes out, and that a token's
 * bits depend neither on the tokens beside it nor on whether its predecessors
 * lie in pages already. */
#include "tests/support/kernel_fixture.h"
#include "tests/support/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static kernel_fixture fixture;

enum { N_POS = 100, N_LAYER = 2, LAYER = 1, PAGES_STRIDE = 5, N_SLOTS = 3 };

/* A model's attention and the kernels that do it: `heads` of a group are taken
 * together. The rest is of the group form (which is the one that reads by
 * address): subgroups of a workgroup, positions of a split, workgroups that may
 * share the splits of a token. */
typedef struct {
    bool int8, texel;
    uint32_t head_dim, n_head_kv, group, heads;
    uint32_t subgroups, split, workers;
} shape;

/* Two sequences, in slots 0 and 2, of N_POS tokens each. */
typedef struct {
    shape s;
    float *qkv[N_SLOTS]; /* [N_POS][n_qkv] */
    uint32_t n_qkv, n_out, head_quads, page_quads, counters_quad;
    struct vly_push_attention push;
} operands;

static uint32_t parts_of(const shape *s)
{
    return s->head_dim / (s->int8 ? 16 : 8);
}

/* The page of a slot's position: pages lie scattered. */
static uint32_t page_of(uint32_t slot, uint32_t pos)
{
    return (slot * 4 + pos / VLY_PAGE_TOKENS) * 5 % 12 + 1;
}

static uint8_t *page_at(const operands *o, uint32_t page)
{
    return (uint8_t *)fixture.kv.mapped + (size_t)page * o->page_quads * 16;
}

static operands operands_make(shape s, uint64_t seed)
{
    operands o = {.s = s};
    o.n_out = s.n_head_kv * s.group * s.head_dim;
    o.n_qkv = o.n_out + 2 * s.n_head_kv * s.head_dim;
    uint32_t head_bytes = 2 * VLY_PAGE_TOKENS * s.head_dim * (s.int8 ? 1 : 2);
    if (s.int8) head_bytes += 2 * VLY_PAGE_TOKENS * 2;
    o.head_quads = head_bytes / 16;
    o.page_quads = N_LAYER * s.n_head_kv * o.head_quads;
    assert_true(13ull * o.page_quads * 16 <= fixture.kv.n_bytes);

    for (int slot = 0; slot < N_SLOTS; slot += 2) {
        o.qkv[slot] = malloc((size_t)N_POS * o.n_qkv * sizeof(float));
        assert_non_null(o.qkv[slot]);
        reference_normals(&seed, o.qkv[slot], (size_t)N_POS * o.n_qkv);
        /* All zero: then so is the scale. And so small that the scale, or a half,
         * is subnormal. */
        float *zero = o.qkv[slot] + (size_t)7 * o.n_qkv, *small = zero + (size_t)4 * o.n_qkv;
        memset(zero, 0, o.n_qkv * sizeof *zero);
        for (uint32_t i = 0; i < o.n_qkv; i++) small[i] *= 0x1p-16f;
    }
    struct vly_page *table = fixture.table.mapped;
    memset(table, 0xff, N_SLOTS * PAGES_STRIDE * sizeof *table);
    for (uint32_t slot = 0; slot < N_SLOTS; slot += 2)
        for (uint32_t i = 0; i * VLY_PAGE_TOKENS < N_POS; i++) {
            uint32_t quad = page_of(slot, i * VLY_PAGE_TOKENS) * o.page_quads;
            uint64_t address = fixture.kv.address + quad * UINT64_C(16);
            table[slot * PAGES_STRIDE + i] = (struct vly_page){
                .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), quad, 0};
        }
    kernel_fixture_reset(&fixture);
    kernel_fixture_take(&fixture, 7);
    o.push = (struct vly_push_attention){
        .act = fixture.act.address,
        .step = fixture.step.address,
        .pages = fixture.table.address,
        .pages_stride = PAGES_STRIDE,
        .qkv_stride = o.n_qkv / 4 + 1,
        .out_stride = o.n_out / 4 + 2,
        .n_head = s.n_head_kv * s.group,
        .n_head_kv = s.n_head_kv,
        .layer_quad = LAYER * s.n_head_kv * o.head_quads,
        .head_quads = o.head_quads,
        .scale = 1.0f / sqrtf((float)s.head_dim),
    };
    o.push.qkv_quad = kernel_fixture_take(&fixture, (size_t)N_POS * o.push.qkv_stride);
    o.push.out_quad = kernel_fixture_take(&fixture, (size_t)N_POS * o.push.out_stride);
    if (!s.texel) {
        uint32_t n_counters = VLY_MAX_COLUMNS * o.push.n_head;
        o.push.max_splits = (N_POS + s.split - 1) / s.split;
        o.push.partial_quad =
            kernel_fixture_take(&fixture, (size_t)VLY_MAX_COLUMNS * o.push.n_head *
                                              o.push.max_splits * (s.head_dim / 4 + 1));
        o.counters_quad = kernel_fixture_take(&fixture, n_counters / 4);
        memset(kernel_fixture_act(&fixture, o.counters_quad), 0, n_counters * sizeof(uint32_t));
        o.push.counters = fixture.act.address + o.counters_quad * UINT64_C(16);
    }
    return o;
}

static void operands_free(operands *o)
{
    free(o->qkv[0]);
    free(o->qkv[2]);
}

static void forget_pages(const operands *o)
{
    memset(fixture.kv.mapped, 0xff, (size_t)13 * o->page_quads * 16);
}

/* Adds tokens pos .. pos + n - 1 of `slot` to the step. */
static void add_tokens(const operands *o, uint32_t slot, uint32_t pos, uint32_t n)
{
    struct vly_step *step = kernel_fixture_step(&fixture);
    uint32_t first = step->n_tok;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t t = step->n_tok++;
        step->token[t] = (struct vly_step_token){.pos = pos + i, .slot = slot, .first = first};
        memcpy(kernel_fixture_act(&fixture, o->push.qkv_quad + t * o->push.qkv_stride),
               o->qkv[slot] + (size_t)(pos + i) * o->n_qkv, o->n_qkv * sizeof(float));
    }
}

static void clear_step(void)
{
    memset(fixture.step.mapped, 0, fixture.step.n_bytes);
}

static void store(const operands *o)
{
    static const vly_shader_id shaders[2][2] = {
        {VLY_SHADER_store_f16, VLY_SHADER_store_f16_texel},
        {VLY_SHADER_store_int8, VLY_SHADER_store_int8_texel}};
    uint32_t constants[] = {fixture.lanes, o->s.head_dim};
    kernel_fixture_run(&fixture, shaders[o->s.int8][o->s.texel], constants, 2, &o->push,
                       sizeof o->push, o->s.n_head_kv, kernel_fixture_step(&fixture)->n_tok, 1);
}

static void attend(const operands *o, bool stored)
{
    static const vly_shader_id shaders[2][2] = {
        {VLY_SHADER_attention_f16, VLY_SHADER_attention_f16_texel},
        {VLY_SHADER_attention_int8, VLY_SHADER_attention_int8_texel}};
    uint32_t lanes = fixture.lanes, parts = parts_of(&o->s), share = 1;
    while (share < parts && share < lanes) share *= 2;
    uint32_t rounds = (parts + share - 1) / share;
    uint32_t lane_constants[] = {lanes, o->s.head_dim, o->s.heads, share, rounds};
    if (o->s.texel && !stored) store(o); /* the lane form reads pages only */
    uint32_t constants[] = {o->s.texel ? lanes : lanes * o->s.subgroups,
                            o->s.head_dim,
                            o->s.heads,
                            stored,
                            share,
                            rounds,
                            lanes,
                            o->s.split};
    kernel_fixture_run(
        &fixture, shaders[o->s.int8][o->s.texel], o->s.texel ? lane_constants : constants,
        o->s.texel ? 5 : 8, &o->push, sizeof o->push, o->push.n_head / o->s.heads,
        kernel_fixture_step(&fixture)->n_tok, stored || o->s.texel ? 1 : o->s.workers);
    /* Counters are ready for the next step. */
    for (uint32_t i = 0; !o->s.texel && i < VLY_MAX_COLUMNS * o->push.n_head; i++)
        assert_true(kernel_fixture_act(&fixture, o->counters_quad)[i] == 0.0f);
}

static const float *output(const operands *o, uint32_t token)
{
    return kernel_fixture_act(&fixture, o->push.out_quad + token * o->push.out_stride);
}

/* ---- What is stored ---- */

/* K (0) or V (1) of a position and head as its page has it: its values to `out`
 * [head_dim]; the bytes are those that quantising the step's values gives. */
static void read_stored(const operands *o, uint32_t slot, uint32_t pos, uint32_t kv_head,
                        uint32_t which, float *out)
{
    uint32_t dim = o->s.head_dim, i = pos % VLY_PAGE_TOKENS;
    const uint8_t *head = page_at(o, page_of(slot, pos)) +
                          (size_t)(LAYER * o->s.n_head_kv + kv_head) * o->head_quads * 16;
    const float *fresh =
        o->qkv[slot] + (size_t)pos * o->n_qkv + o->n_out + (which * o->s.n_head_kv + kv_head) * dim;
    if (o->s.int8) {
        const int8_t *q = (const int8_t *)head + (which * VLY_PAGE_TOKENS + i) * dim;
        uint16_t scale, expected_scale = reference_kv_scale(fresh, dim);
        int8_t expected[256];
        memcpy(&scale, head + 2 * VLY_PAGE_TOKENS * dim + (which * VLY_PAGE_TOKENS + i) * 2, 2);
        assert_int_equal(scale, expected_scale);
        reference_kv_quantize(fresh, dim, vly_f16_to_f32(scale), expected);
        for (uint32_t d = 0; d < dim; d++) {
            /* A division that is off by an ulp may tip a value that lies between two
             * quants. */
            float exact = fresh[d] / vly_f16_to_f32(scale);
            bool between = fabsf(fabsf(exact - floorf(exact)) - 0.5f) < 1e-4f;
            assert_in_range(abs(q[d] - expected[d]), 0, between ? 1 : 0);
            out[d] = (float)q[d] * vly_f16_to_f32(scale);
        }
    } else {
        const uint8_t *v = head + (size_t)(which * VLY_PAGE_TOKENS + i) * dim * 2;
        for (uint32_t d = 0; d < dim; d++) {
            uint16_t half;
            memcpy(&half, v + 2 * d, 2);
            out[d] = vly_f16_to_f32(half);
            assert_true(out[d] == vly_f16_to_f32(vly_f32_to_f16(fresh[d])));
        }
    }
}

/* Nothing but this layer's tokens 0..n-1 of the slots in use has been written.
 */
static void check_untouched(const operands *o)
{
    const uint8_t *before = page_at(o, 0);
    for (uint32_t i = 0; i < o->page_quads * 16; i++) assert_int_equal(before[i], 0xff);
    for (uint32_t page = 1; page < 13; page++) {
        const uint8_t *other_layer = page_at(o, page);
        for (uint32_t i = 0; i < o->page_quads * 8; i++) assert_int_equal(other_layer[i], 0xff);
    }
}

/* ---- What comes out ---- */

/* Of the positions up to `pos`, the first that its token sees. */
static uint32_t first_seen(const operands *o, uint32_t pos)
{
    return o->push.window && pos >= o->push.window ? pos + 1 - o->push.window : 0;
}

/* Outputs [N_POS][n_out] of `slot` against the reference, computed from the
 * pages. */
static void check_outputs(const operands *o, uint32_t slot, const float *got)
{
    uint32_t dim = o->s.head_dim;
    float *k = malloc((size_t)2 * N_POS * dim * sizeof *k), *v = k + (size_t)N_POS * dim;
    double expected[256];
    assert_non_null(k);
    for (uint32_t kv_head = 0; kv_head < o->s.n_head_kv; kv_head++) {
        for (uint32_t pos = 0; pos < N_POS; pos++) {
            read_stored(o, slot, pos, kv_head, 0, k + (size_t)pos * dim);
            read_stored(o, slot, pos, kv_head, 1, v + (size_t)pos * dim);
        }
        for (uint32_t h = kv_head * o->s.group; h < (kv_head + 1) * o->s.group; h++)
            for (uint32_t pos = 0; pos < N_POS; pos++) {
                const float *out = got + (size_t)pos * o->n_out + h * dim;
                size_t from = first_seen(o, pos), n = pos + 1 - from;
                reference_attention(o->qkv[slot] + (size_t)pos * o->n_qkv + h * dim, k + from * dim,
                                    v + from * dim, (uint32_t)n, dim, (double)o->push.scale,
                                    expected);
                for (uint32_t d = 0; d < dim; d++)
                    if (fabs((double)out[d] - expected[d]) > 2e-5)
                        fail_msg("%s%s, head %u of %u, position %u, dimension %u: %.8g, "
                                 "not %.8g",
                                 o->s.int8 ? "int8" : "f16", o->s.texel ? " texel" : "", h, dim,
                                 pos, d, (double)out[d], expected[d]);
            }
    }
    free(k);
}

static uint8_t *copy_of(const void *data, size_t n)
{
    uint8_t *copy = malloc(n);
    assert_non_null(copy);
    memcpy(copy, data, n);
    return copy;
}

/* Every token in a step of its own: outputs [N_POS][n_out], to be freed. */
static float *one_by_one(const operands *o, uint32_t slot)
{
    float *out = malloc((size_t)N_POS * o->n_out * sizeof *out);
    assert_non_null(out);
    for (uint32_t pos = 0; pos < N_POS; pos++) {
        clear_step();
        add_tokens(o, slot, pos, 1);
        attend(o, false);
        memcpy(out + (size_t)pos * o->n_out, output(o, 0), o->n_out * sizeof *out);
    }
    return out;
}

static void expect_same(const operands *o, uint32_t token, const float *alone, uint32_t pos,
                        const char *what)
{
    if (memcmp(output(o, token), alone + (size_t)pos * o->n_out, o->n_out * sizeof(float)))
        fail_msg("%s%s, head size %u, position %u: other bits %s than alone",
                 o->s.int8 ? "int8" : "f16", o->s.texel ? " texel" : "", o->s.head_dim, pos, what);
}

/* Both sequences side by side, in steps of up to 16 tokens: the borders of
 * steps, pages and blocks fall everywhere. How many workgroups share a token's
 * splits changes no bits either. */
static void check_batches(operands *o, const float *const *alone)
{
    const uint32_t sizes[] = {1, 16, 3, 15, 16, 2, 9, 16, 7, 11, 4};
    uint32_t n_turns = sizeof sizes / sizeof *sizes;
    assert_int_equal(1 + 16 + 3 + 15 + 16 + 2 + 9 + 16 + 7 + 11 + 4, N_POS);
    uint32_t pos = 0, other = 0;
    for (uint32_t turn = 0; turn < n_turns; pos += sizes[turn++]) {
        uint32_t n = sizes[turn];
        uint32_t n_other = other + 16 - n < N_POS ? 16 - n : N_POS - other;
        clear_step();
        add_tokens(o, 2, other, n_other);
        add_tokens(o, 0, pos, n);
        o->s.workers = 1 + turn % 3;
        attend(o, false);
        for (uint32_t i = 0; i < n_other; i++) expect_same(o, i, alone[2], other + i, "in a batch");
        for (uint32_t i = 0; i < n; i++)
            expect_same(o, n_other + i, alone[0], pos + i, "in a batch");
        other += n_other;
    }
    for (; other < N_POS; other++) { /* the rest, so that its pages can be compared */
        clear_step();
        add_tokens(o, 2, other, 1);
        attend(o, false);
    }
}

/* As a prompt, in chunks: all of K and V are stored first. */
static void check_prompt(const operands *o, const float *const *alone)
{
    const uint32_t ends[] = {37, N_POS};
    uint32_t start = 0;
    for (int chunk = 0; chunk < 2; start = ends[chunk++]) {
        uint32_t n = ends[chunk] - start;
        for (uint32_t slot = 0; slot < N_SLOTS; slot += 2) {
            clear_step();
            add_tokens(o, slot, start, n);
            store(o);
            attend(o, true);
            for (uint32_t i = 0; i < n; i++)
                expect_same(o, i, alone[slot], start + i, "in a prompt");
        }
    }
}

static void check_shape(shape s, uint64_t seed)
{
    operands o = operands_make(s, seed);
    size_t n_kv_bytes = (size_t)13 * o.page_quads * 16;
    forget_pages(&o);
    float *alone[N_SLOTS] = {one_by_one(&o, 0), NULL, one_by_one(&o, 2)};
    check_untouched(&o);
    check_outputs(&o, 0, alone[0]);
    check_outputs(&o, 2, alone[2]);
    uint8_t *pages = copy_of(fixture.kv.mapped, n_kv_bytes);

    forget_pages(&o);
    check_batches(&o, (const float *const *)alone);
    assert_memory_equal(fixture.kv.mapped, pages, n_kv_bytes);

    forget_pages(&o);
    check_prompt(&o, (const float *const *)alone);
    assert_memory_equal(fixture.kv.mapped, pages, n_kv_bytes);

    free(pages);
    free(alone[0]);
    free(alone[2]);
    operands_free(&o);
}

/* Every head size with both kinds of cache and reads. A processor that stands
 * in for a GPU takes seconds to compile a kernel of several large heads, so
 * those are few. */
static const shape shapes[] = {
    /* int8, texel, head size, KV heads, group, heads; subgroups, split, workers
     */
    {true, false, 16, 2, 1, 1, 8, 512, 1},   {true, false, 48, 1, 3, 3, 2, 64, 2},
    {true, false, 64, 1, 8, 1, 1, 64, 5},    {true, false, 80, 2, 1, 1, 2, 128, 4},
    {true, false, 128, 1, 4, 1, 3, 64, 3},   {true, false, 256, 1, 2, 1, 2, 64, 2},
    {true, true, 16, 1, 8, 4, 1, 512, 1},    {true, true, 48, 2, 1, 1, 1, 512, 1},
    {true, true, 64, 1, 3, 3, 1, 512, 1},    {true, true, 80, 3, 2, 1, 1, 512, 1},
    {true, true, 128, 2, 4, 1, 1, 512, 1},   {true, true, 256, 1, 1, 1, 1, 512, 1},
    {false, false, 16, 2, 4, 4, 2, 64, 2},   {false, false, 48, 2, 1, 1, 1, 64, 5},
    {false, false, 64, 1, 3, 1, 8, 512, 1},  {false, false, 80, 1, 8, 2, 3, 64, 3},
    {false, false, 128, 2, 1, 1, 2, 128, 4}, {false, false, 256, 1, 3, 1, 2, 64, 1},
    {false, true, 16, 1, 3, 3, 1, 512, 1},   {false, true, 48, 2, 4, 2, 1, 512, 1},
    {false, true, 64, 3, 1, 1, 1, 512, 1},   {false, true, 80, 1, 8, 1, 1, 512, 1},
    {false, true, 128, 1, 2, 1, 1, 512, 1},  {false, true, 256, 2, 1, 1, 1, 512, 1},
};

static void check_shapes(bool int8, bool texel)
{
    /* The group form is unrolled: a processor compiles large heads of it for half a minute. */
    bool cpu = vly_gpu_get_info(fixture.gpu)->type == VLY_GPU_CPU;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].int8 == int8 && shapes[i].texel == texel &&
            (texel || !cpu || shapes[i].head_dim <= 80))
            check_shape(shapes[i], i);
}

static void test_int8(void **state)
{
    (void)state;
    check_shapes(true, false);
}

static void test_int8_texel(void **state)
{
    (void)state;
    check_shapes(true, true);
}

static void test_f16(void **state)
{
    (void)state;
    check_shapes(false, false);
}

static void test_f16_texel(void **state)
{
    (void)state;
    check_shapes(false, true);
}

/* Pages that the token after `pos` does not see are lost: their entries of the
 * table lead nowhere, and what they held is no number. */
static void lose_unseen(const operands *o, uint32_t slot, uint32_t pos)
{
    struct vly_page *table = fixture.table.mapped;
    for (uint32_t i = 0; (i + 1) * VLY_PAGE_TOKENS <= first_seen(o, pos + 1); i++) {
        memset(page_at(o, page_of(slot, i * VLY_PAGE_TOKENS)), 0xff, o->page_quads * 16);
        memset(&table[slot * PAGES_STRIDE + i], 0xff, sizeof *table);
    }
}

static void check_window(shape s, uint32_t window)
{
    operands o = operands_make(s, window);
    o.push.window = window;
    forget_pages(&o);
    float *alone[N_SLOTS] = {one_by_one(&o, 0), NULL, one_by_one(&o, 2)};
    check_outputs(&o, 0, alone[0]);
    check_outputs(&o, 2, alone[2]);
    forget_pages(&o);
    check_batches(&o, (const float *const *)alone);
    forget_pages(&o);
    check_prompt(&o, (const float *const *)alone);

    forget_pages(&o);
    for (uint32_t pos = 0; pos < N_POS; pos++) {
        clear_step();
        add_tokens(&o, 2, pos, 1);
        attend(&o, false);
        expect_same(&o, 0, alone[2], pos, "with pages lost before its window");
        lose_unseen(&o, 2, pos);
    }
    free(alone[0]);
    free(alone[2]);
    operands_free(&o);
}

/* A token sees no more than its window, and nothing before it is read. */
static void test_windows(void **state)
{
    (void)state;
    static const shape forms[] = {{true, false, 48, 1, 3, 3, 2, 64, 2},
                                  {true, true, 64, 1, 3, 3, 1, 512, 1},
                                  {false, false, 16, 2, 4, 4, 2, 64, 2},
                                  {false, true, 48, 2, 4, 2, 1, 512, 1}};
    static const uint32_t windows[] = {1, 7, 33, 64};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (size_t j = 0; j < sizeof windows / sizeof *windows; j++)
            check_window(forms[i], windows[j]);
}

/* Rolling back: tokens that are stored again over rejected ones leave what they
 * would have left alone, at every offset within a page. */
static void test_rollback(void **state)
{
    (void)state;
    operands o = operands_make((shape){true, true, 48, 2, 1, 1, 1, 512, 1}, 99);
    forget_pages(&o);
    float *alone = one_by_one(&o, 0);
    uint8_t *pages = copy_of(fixture.kv.mapped, (size_t)13 * o.page_quads * 16);
    for (uint32_t pos = 0; pos + 16 <= N_POS; pos++) {
        /* 16 tokens of the other text from here, of which none stays. */
        clear_step();
        struct vly_step *step = kernel_fixture_step(&fixture);
        add_tokens(&o, 2, pos, 16);
        for (uint32_t i = 0; i < 16; i++) step->token[i].slot = 0;
        attend(&o, false);
        clear_step();
        add_tokens(&o, 0, pos, 3);
        attend(&o, false);
        for (uint32_t i = 0; i < 3; i++) expect_same(&o, i, alone, pos + i, "after a rollback");
    }
    clear_step();
    add_tokens(&o, 0, N_POS - 16, 16);
    attend(&o, false);
    assert_memory_equal(fixture.kv.mapped, pages, (size_t)13 * o.page_quads * 16);
    free(pages);
    free(alone);
    operands_free(&o);
}

/* Scores far apart, and logits beyond what exp can hold: the softmax stays a
 * number. */
static void test_extreme_scores(void **state)
{
    (void)state;
    operands o = operands_make((shape){true, false, 48, 1, 3, 3, 2, 64, 2}, 7);
    for (uint32_t pos = 0; pos < N_POS; pos++)
        for (uint32_t d = 0; d < 3 * o.s.head_dim; d++)
            o.qkv[0][(size_t)pos * o.n_qkv + d] *= 200.0f;
    forget_pages(&o);
    float *alone = one_by_one(&o, 0);
    for (uint32_t i = 0; i < N_POS * o.n_out; i++) assert_true(fabsf(alone[i]) < 7.0f);
    free(alone);
    operands_free(&o);
}

/* In a chain of steps Q, K and V carry the tag of the step before, and the outputs, as f16s, the
 * own one. Values are those that it has behind a barrier; without the tags it gives up and says so.
 */
static void test_chained(void **state)
{
    (void)state;
    enum { POS = 70, N = 3, READ = 17, WRITTEN = 18, EPOCH = 5000 };
    const uint32_t epochs[4] = {0, EPOCH, 0, 0}, tag = EPOCH + READ, own_tag = EPOCH + WRITTEN;
    operands o = operands_make((shape){true, false, 64, 2, 3, 1, 2, 64, 2}, 21);
    forget_pages(&o);
    free(one_by_one(&o, 0)); /* pages hold the whole text */
    clear_step();
    add_tokens(&o, 0, POS, N);
    attend(&o, false);
    uint16_t want[N][2 * 3 * 64];
    for (uint32_t t = 0; t < N; t++)
        for (uint32_t i = 0; i < o.n_out; i++) want[t][i] = vly_f32_to_f16(output(&o, t)[i]);

    o.push.chain =
        (struct vly_chain){.word = kernel_fixture_put(&fixture, (const float *)epochs, 4) * 4 + 1,
                           .read = READ,
                           .written = WRITTEN};
    o.push.qkv_stride = o.n_qkv / 4;
    o.push.qkv_quad = kernel_fixture_take(&fixture, 2 * N * o.push.qkv_stride);
    o.push.out_stride = o.n_out / 8;
    o.push.out_quad = kernel_fixture_take(&fixture, 2 * N * o.push.out_stride);
    uint32_t *words = (uint32_t *)kernel_fixture_act(&fixture, o.push.qkv_quad);
    for (uint32_t i = 0; i < N * o.n_qkv; i++) {
        memcpy(&words[2 * i], o.qkv[0] + (size_t)POS * o.n_qkv + i, 4);
        words[2 * i + 1] = tag;
    }
    attend(&o, false);
    assert_int_equal(kernel_fixture_step(&fixture)->stalled, 0);
    const uint32_t *out = (const uint32_t *)kernel_fixture_act(&fixture, o.push.out_quad);
    for (uint32_t i = 0; i < N * o.n_out; i++) {
        uint32_t t = i / o.n_out, of_token = i % o.n_out;
        uint32_t word = t * (o.n_out / 2) + reference_half_word(of_token / 2);
        assert_int_equal(out[2 * word] >> 16 * (i % 2) & 0xffff, want[t][of_token]);
        assert_int_equal(out[2 * word + 1], own_tag);
    }

    words[2 * (N * o.n_qkv - 1) + 1]--; /* the last word is not there yet */
    attend(&o, false);
    assert_int_equal(kernel_fixture_step(&fixture)->stalled, 1);
    operands_free(&o);
}

/* In a chain by counts it waits until the workgroups of the step before are done, and counts its
 * own: those that finish a token. Values are those that it has behind a barrier. */
static void test_counted(void **state)
{
    (void)state;
    enum { POS = 70, N = 3, AWAITED = 5 };
    const uint32_t counts[4] = {AWAITED, 0, 0, 0};
    operands o = operands_make((shape){true, false, 64, 2, 3, 1, 2, 64, 2}, 22);
    forget_pages(&o);
    free(one_by_one(&o, 0));
    clear_step();
    add_tokens(&o, 0, POS, N);
    attend(&o, false);
    float *want = malloc(N * o.n_out * sizeof *want);
    for (uint32_t t = 0; t < N; t++)
        memcpy(want + t * o.n_out, output(&o, t), o.n_out * sizeof *want);

    uint32_t quad = kernel_fixture_put(&fixture, (const float *)counts, 4);
    o.push.chain = (struct vly_chain){.word = quad * 4 + 1, .awaited = AWAITED | VLY_CHAIN_TELLS};
    attend(&o, false);
    uint32_t *count = (uint32_t *)kernel_fixture_act(&fixture, quad);
    assert_int_equal(kernel_fixture_step(&fixture)->stalled, 0);
    assert_int_equal(count[0], AWAITED);
    assert_int_equal(count[1], N * (o.push.n_head / o.s.heads));
    for (uint32_t t = 0; t < N; t++)
        assert_memory_equal(output(&o, t), want + t * o.n_out, o.n_out * sizeof *want);

    count[0]--; /* one is not done */
    attend(&o, false);
    assert_int_equal(kernel_fixture_step(&fixture)->stalled, 1);
    free(want);
    operands_free(&o);
}

static int setup(void **state)
{
    (void)state;
    return kernel_fixture_open(&fixture);
}

static int teardown(void **state)
{
    (void)state;
    kernel_fixture_close(&fixture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_int8),
        cmocka_unit_test(test_int8_texel),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_f16_texel),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_rollback),
        cmocka_unit_test(test_extreme_scores),
        cmocka_unit_test(test_chained),
        cmocka_unit_test(test_counted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
