#include "tests/support/attention_case.h"

#include "tests/support/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

uint32_t attention_case_parts_of(const attention_shape *s)
{
    return s->head_dim / (s->int8 ? 16 : 8);
}

/* The page of a slot's position: pages lie scattered. */
uint32_t attention_case_page_of(uint32_t slot, uint32_t pos)
{
    return (slot * 4 + pos / VLY_PAGE_TOKENS) * 5 % 12 + 1;
}

uint8_t *attention_case_page_at(const attention_case *o, uint32_t page)
{
    return (uint8_t *)fixture.kv.mapped + (size_t)page * o->page_quads * 16;
}

attention_case attention_case_make(attention_shape s, uint64_t seed)
{
    attention_case o = {.s = s};
    o.n_out = s.n_head_kv * s.group * s.head_dim;
    o.n_qkv = o.n_out + 2 * s.n_head_kv * s.head_dim;
    uint32_t head_bytes = 2 * VLY_PAGE_TOKENS * s.head_dim * (s.int8 ? 1 : 2);
    if (s.int8) head_bytes += 2 * VLY_PAGE_TOKENS * 2;
    o.head_quads = head_bytes / 16;
    o.page_quads = ATTENTION_N_LAYER * s.n_head_kv * o.head_quads;
    assert_true(13ull * o.page_quads * 16 <= fixture.kv.n_bytes);

    for (int slot = 0; slot < ATTENTION_N_SLOTS; slot += 2) {
        o.qkv[slot] = malloc((size_t)ATTENTION_N_POS * o.n_qkv * sizeof(float));
        assert_non_null(o.qkv[slot]);
        reference_normals(&seed, o.qkv[slot], (size_t)ATTENTION_N_POS * o.n_qkv);
        /* All zero: then so is the scale. And so small that the scale, or a half,
         * is subnormal. */
        float *zero = o.qkv[slot] + (size_t)7 * o.n_qkv, *small = zero + (size_t)4 * o.n_qkv;
        memset(zero, 0, o.n_qkv * sizeof *zero);
        for (uint32_t i = 0; i < o.n_qkv; i++) small[i] *= 0x1p-16f;
    }
    struct vly_page *table = fixture.table.mapped;
    memset(table, 0xff, ATTENTION_N_SLOTS * ATTENTION_PAGES_STRIDE * sizeof *table);
    for (uint32_t slot = 0; slot < ATTENTION_N_SLOTS; slot += 2)
        for (uint32_t i = 0; i * VLY_PAGE_TOKENS < ATTENTION_N_POS; i++) {
            uint32_t quad = attention_case_page_of(slot, i * VLY_PAGE_TOKENS) * o.page_quads;
            uint64_t address = fixture.kv.address + quad * UINT64_C(16);
            table[slot * ATTENTION_PAGES_STRIDE + i] = (struct vly_page){
                .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), quad, 0};
        }
    kernel_fixture_reset();
    kernel_fixture_take(7);
    o.push = (struct vly_push_attention){
        .act = fixture.act.address,
        .step = fixture.step.address,
        .pages = fixture.table.address,
        .pages_stride = ATTENTION_PAGES_STRIDE,
        .qkv_stride = o.n_qkv / 4 + 1,
        .out_stride = o.n_out / 4 + 2,
        .n_head = s.n_head_kv * s.group,
        .n_head_kv = s.n_head_kv,
        .layer_quad = ATTENTION_LAYER * s.n_head_kv * o.head_quads,
        .head_quads = o.head_quads,
        .scale = 1.0f / sqrtf((float)s.head_dim),
    };
    o.push.qkv_quad = kernel_fixture_take((size_t)ATTENTION_N_POS * o.push.qkv_stride);
    o.push.out_quad = kernel_fixture_take((size_t)ATTENTION_N_POS * o.push.out_stride);
    if (!s.texel) {
        uint32_t n_counters = VLY_MAX_COLUMNS * o.push.n_head;
        o.push.max_splits = (ATTENTION_N_POS + s.split - 1) / s.split;
        o.push.partial_quad = kernel_fixture_take((size_t)VLY_MAX_COLUMNS * o.push.n_head *
                                                  o.push.max_splits * (s.head_dim / 4 + 1));
        o.counters_quad = kernel_fixture_take(n_counters / 4);
        memset(kernel_fixture_act(o.counters_quad), 0, n_counters * sizeof(uint32_t));
        o.push.counters = fixture.act.address + o.counters_quad * UINT64_C(16);
    }
    return o;
}

void attention_case_free(attention_case *o)
{
    free(o->qkv[0]);
    free(o->qkv[2]);
}

void attention_case_forget_pages(const attention_case *o)
{
    memset(fixture.kv.mapped, 0xff, (size_t)13 * o->page_quads * 16);
}

/* Adds tokens pos .. pos + n - 1 of `slot` to the step. */
void attention_case_add_tokens(const attention_case *o, uint32_t slot, uint32_t pos, uint32_t n)
{
    struct vly_step *step = kernel_fixture_step();
    uint32_t first = step->n_tok;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t t = step->n_tok++;
        step->token[t] = (struct vly_step_token){.pos = pos + i, .slot = slot, .first = first};
        memcpy(kernel_fixture_act(o->push.qkv_quad + t * o->push.qkv_stride),
               o->qkv[slot] + (size_t)(pos + i) * o->n_qkv, o->n_qkv * sizeof(float));
    }
}

void attention_case_clear_step(void)
{
    memset(fixture.step.mapped, 0, fixture.step.n_bytes);
}

void attention_case_store(const attention_case *o)
{
    static const vly_shader_id shaders[2][2] = {
        {VLY_SHADER_store_f16, VLY_SHADER_store_f16_texel},
        {VLY_SHADER_store_int8, VLY_SHADER_store_int8_texel}};
    uint32_t constants[] = {fixture.lanes, o->s.head_dim};
    kernel_fixture_run(shaders[o->s.int8][o->s.texel], constants, 2, &o->push, sizeof o->push,
                       o->s.n_head_kv, kernel_fixture_step()->n_tok, 1);
}

void attention_case_attend(const attention_case *o, bool stored)
{
    static const vly_shader_id shaders[2][2] = {
        {VLY_SHADER_attention_f16, VLY_SHADER_attention_f16_texel},
        {VLY_SHADER_attention_int8, VLY_SHADER_attention_int8_texel}};
    uint32_t lanes = fixture.lanes, parts = attention_case_parts_of(&o->s), share = 1;
    while (share < parts && share < lanes) share *= 2;
    uint32_t rounds = (parts + share - 1) / share;
    uint32_t lane_constants[] = {lanes, o->s.head_dim, o->s.heads, share, rounds};
    if (o->s.texel && !stored) attention_case_store(o); /* the lane form reads pages only */
    uint32_t constants[] = {o->s.texel ? lanes : lanes * o->s.subgroups,
                            o->s.head_dim,
                            o->s.heads,
                            stored,
                            share,
                            rounds,
                            lanes,
                            o->s.split};
    kernel_fixture_run(shaders[o->s.int8][o->s.texel], o->s.texel ? lane_constants : constants,
                       o->s.texel ? 5 : 8, &o->push, sizeof o->push, o->push.n_head / o->s.heads,
                       kernel_fixture_step()->n_tok, stored || o->s.texel ? 1 : o->s.workers);
    /* Counters are ready for the next step. */
    for (uint32_t i = 0; !o->s.texel && i < VLY_MAX_COLUMNS * o->push.n_head; i++)
        assert_true(kernel_fixture_act(o->counters_quad)[i] == 0.0f);
}

const float *attention_case_output(const attention_case *o, uint32_t token)
{
    return kernel_fixture_act(o->push.out_quad + token * o->push.out_stride);
}

/* Every token in a step of its own: outputs [ATTENTION_N_POS][n_out], to be freed. */
float *attention_case_one_by_one(const attention_case *o, uint32_t slot)
{
    float *out = malloc((size_t)ATTENTION_N_POS * o->n_out * sizeof *out);
    assert_non_null(out);
    for (uint32_t pos = 0; pos < ATTENTION_N_POS; pos++) {
        attention_case_clear_step();
        attention_case_add_tokens(o, slot, pos, 1);
        attention_case_attend(o, false);
        memcpy(out + (size_t)pos * o->n_out, attention_case_output(o, 0), o->n_out * sizeof *out);
    }
    return out;
}

/* K (0) or V (1) of a position and head as its page has it: its values to `out`
 * [head_dim]; the bytes are those that quantising the step's values gives. */
static void read_stored(const attention_case *o, uint32_t slot, uint32_t pos, uint32_t kv_head,
                        uint32_t which, float *out)
{
    uint32_t dim = o->s.head_dim, i = pos % VLY_PAGE_TOKENS;
    const uint8_t *head = attention_case_page_at(o, attention_case_page_of(slot, pos)) +
                          (size_t)(ATTENTION_LAYER * o->s.n_head_kv + kv_head) * o->head_quads * 16;
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

uint32_t attention_case_first_seen(const attention_case *o, uint32_t pos)
{
    return o->push.window && pos >= o->push.window ? pos + 1 - o->push.window : 0;
}

void attention_case_check(const attention_case *o, uint32_t slot, const float *got,
                          double tolerance)
{
    uint32_t dim = o->s.head_dim;
    float *k = malloc((size_t)2 * ATTENTION_N_POS * dim * sizeof *k),
          *v = k + (size_t)ATTENTION_N_POS * dim;
    double expected[256];
    assert_non_null(k);
    for (uint32_t kv_head = 0; kv_head < o->s.n_head_kv; kv_head++) {
        for (uint32_t pos = 0; pos < ATTENTION_N_POS; pos++) {
            read_stored(o, slot, pos, kv_head, 0, k + (size_t)pos * dim);
            read_stored(o, slot, pos, kv_head, 1, v + (size_t)pos * dim);
        }
        for (uint32_t h = kv_head * o->s.group; h < (kv_head + 1) * o->s.group; h++)
            for (uint32_t pos = 0; pos < ATTENTION_N_POS; pos++) {
                const float *out = got + (size_t)pos * o->n_out + h * dim;
                size_t from = attention_case_first_seen(o, pos), n = pos + 1 - from;
                reference_attention(o->qkv[slot] + (size_t)pos * o->n_qkv + h * dim, k + from * dim,
                                    v + from * dim, (uint32_t)n, dim, (double)o->push.scale,
                                    expected);
                for (uint32_t d = 0; d < dim; d++)
                    if (!(fabs((double)out[d] - expected[d]) <= tolerance))
                        fail_msg("%s%s, head %u of %u, position %u, dimension %u: %.8g, "
                                 "not %.8g",
                                 o->s.int8 ? "int8" : "f16", o->s.texel ? " texel" : "", h, dim,
                                 pos, d, (double)out[d], expected[d]);
            }
    }
    free(k);
}
