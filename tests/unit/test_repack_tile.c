/* Tiles of weights against the blocks that they were made of: what a lane of matvec_tile.comp
 * unpacks is the weight of its row and column. */
#include "gguf/formats.h"
#include "model/repack_tile.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

static uint32_t word_at(const uint8_t *plane, uint32_t i)
{
    uint32_t word;
    memcpy(&word, plane + 4 * (size_t)i, 4);
    return word;
}

static float half_of(uint32_t word, uint32_t i)
{
    return vly_f16_to_f32((uint16_t)(i ? word >> 16 : word & 0xffff));
}

/* The bits, as an f16 below the normal ones, that the lane has as element e of pair k of the t-th
 * 16 columns of a unit. */
static float raw(const vly_tile_layout *l, const vly_tile_planes *p, uint32_t unit, uint32_t lane,
                 uint32_t t, uint32_t k, uint32_t e)
{
    const uint8_t *main = p->main + (size_t)unit * l->main;
    const uint8_t *high = l->high ? p->high + (size_t)unit * l->high : NULL;
    uint32_t bits, word, n;
    switch (l->id) {
    case VLY_TILE_Q8:
        bits = word_at(main, (t / 2 * 32 + lane) * 4 + t % 2 * 2 + k / 2) >> (8 * (k % 2)) &
               0x00ff00ffu;
        break;
    case VLY_TILE_Q4:
    case VLY_TILE_Q4M:
        word = word_at(main, lane * 4 + t);
        if (k % 2) word = word >> 8 | word << 24;
        bits = word & (k < 2 ? 0x003c003cu : 0x03c003c0u);
        break;
    default:
        bits = word_at(main, lane * 4 + t) >> (8 * (k % 2)) & (k < 2 ? 0x000f000fu : 0x00f000f0u);
        if (l->id == VLY_TILE_Q6) {
            n = t % 2 * 2 + k % 2;
            word = word_at(high, lane * 2 + t / 2);
            word = n < 2 ? word << (4 - 2 * n) : word >> (2 * n);
            bits |= word & (k < 2 ? 0x00300030u : 0x03000300u);
        } else {
            n = t * 2 + k % 2;
            word = word_at(high, lane);
            word = n < 4 ? word << (4 - n) : word >> n;
            bits |= word & (k < 2 ? 0x00100010u : 0x01000100u);
        }
    }
    assert_true((bits >> 16 * e & 0xffff) < 0x400);
    return half_of(bits, e);
}

static float as_half(float value)
{
    return vly_f16_to_f32(vly_f32_to_f16(value));
}

/* The weight that the lane makes of it, computed in f16 as there. */
static float unpacked(const vly_tile_layout *l, const vly_tile_planes *p, uint32_t unit,
                      uint32_t lane, uint32_t t, uint32_t k, uint32_t e)
{
    if (l->id == VLY_TILE_F16)
        return half_of(word_at(p->main + (size_t)unit * l->main, (t * 32 + lane) * 4 + k), e);
    bool minimums = l->id == VLY_TILE_Q4M || l->id == VLY_TILE_Q5M;
    uint32_t g = lane / 4, upper = k / 2;
    const uint8_t *scales = p->scales + (size_t)unit * l->scales;
    uint32_t word = l->scales == 128 ? word_at(scales, g * 4 + upper * 2 + t / 2)
                                     : word_at(scales, g * 2 + upper);
    float scale = half_of(word, minimums ? 0 : l->id == VLY_TILE_Q6 ? t % 2 : t / 2);
    float middle = l->id == VLY_TILE_Q8   ? -0x1p-17f
                   : l->id == VLY_TILE_Q5 ? (upper ? -0x1p-16f : -0x1p-20f)
                                          : (upper ? -0x1p-15f : -0x1p-19f);
    float offset = minimums ? half_of(word, 1) : as_half(scale * middle), factor;
    memcpy(&factor, p->factors + 4 * (size_t)(g + 8 * upper), 4);
    return as_half(raw(l, p, unit, lane, t, k, e) * scale + offset) * factor;
}

/* f16 numbers that blocks have in turn, one behind the other where they have two. */
typedef struct {
    const char *name;
    float scale[5];
} scales_case;

static const scales_case scales_cases[] = {
    {"small", {0x1p-10f, 0x1.8p-10f, 0x1.fp-9f, 0x1.2p-11f, 0x1.44p-9f}},
    {"negative", {-0x1p-10f, 0x1.8p-10f, -0x1.fp-9f, -0x1.2p-11f, 0x1.44p-9f}},
    {"denormal", {0x1p-24f, 0x1.8p-23f, 0x1.2p-20f, -0x1.4p-22f, 0x1.fp-17f}},
    {"zero", {0, -0.0f, 0, 0, -0.0f}},
    {"some zero", {0, 0x1.4p-8f, 0, 0, -0x1.1p-9f}},
    {"as large as tiles take", {0x1.ffcp2f, -0x1.ffcp2f, 0x1.8p1f, 0x1p2f, 0x1.ffcp2f}},
    {"far apart", {0x1.ffcp2f, 0x1p-24f, -0x1.3p-12f, 0x1.234p-4f, 0}},
};

static void fill_floats(const vly_format *f, const scales_case *c, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++, out += f->block_bytes) {
        float v = c->scale[i % 5] * (float)((int)(i * 7919 % 2001) - 1000) / 4;
        uint16_t half = vly_f32_to_f16(v);
        uint32_t bits;
        memcpy(&bits, &v, 4);
        if (f->id == VLY_FORMAT_bf16) half = (uint16_t)(bits >> 16);
        memcpy(out, f->id == VLY_FORMAT_f32 ? (void *)&bits : &half, f->block_bytes);
    }
}

/* Random blocks with these f16 numbers. */
static void fill_rows(const vly_format *f, const scales_case *c, size_t n_blocks, uint8_t *out)
{
    uint32_t state = 7, turn = 0;
    if (f->n_scales == 0) {
        fill_floats(f, c, n_blocks, out);
        return;
    }
    for (size_t i = 0; i < n_blocks * f->block_bytes; i++) {
        state = state * 1664525u + 1013904223u;
        out[i] = (uint8_t)(state >> 24);
    }
    for (size_t i = 0; i < n_blocks; i++)
        for (uint32_t s = 0; s < f->n_scales; s++) {
            uint16_t half = vly_f32_to_f16(c->scale[turn++ % 5]);
            memcpy(out + i * f->block_bytes + f->scale_at + 2 * s, &half, 2);
        }
}

static float most_of(const float *values, uint32_t n)
{
    float most = 0;
    for (uint32_t i = 0; i < n; i++) most = fmaxf(most, fabsf(values[i]));
    return most;
}

/* Compares what lanes unpack with the row's weights: `want` [16][columns]. An f16 of a row, scales
 * and minimums as well as weights, is rounded by 2^-12 of it, and by no less than what is nothing
 * beside the row's largest. Padding is exactly 0. */
static void compare(const vly_format *f, const scales_case *c, uint32_t columns, const float *want,
                    const vly_tile_planes *p)
{
    const vly_tile_layout *l = vly_tile_layout_of(f->id);
    float most[VLY_TILE_ROWS];
    for (uint32_t r = 0; r < VLY_TILE_ROWS; r++)
        most[r] = most_of(want + (size_t)r * columns, columns);
    for (uint32_t i = 0; i < (columns + 63) / 64 * 1024; i++) {
        uint32_t unit = i / 1024, lane = i / 32 % 32, t = i % 32 / 8, k = i / 2 % 4, e = i % 2;
        uint32_t r = lane / 4 + k / 2 * 8;
        uint32_t column = unit * 64 + 16 * t + lane % 4 * 2 + k % 2 * 8 + e;
        float got = unpacked(l, p, unit, lane, t, k, e), expected = 0, bound = 0;
        if (column < columns) {
            const float *block = want + (size_t)r * columns + column / 32 * 32;
            expected = want[(size_t)r * columns + column];
            bound = 0x1p-11f * most_of(block, columns - column / 32 * 32 < 32 ? columns % 32 : 32) +
                    0x1p-11f * fabsf(expected) + 0x1p-17f * most[r];
            if (l->id == VLY_TILE_F16) bound = 0x1p-11f * fabsf(expected) + 0x1p-25f;
        }
        if (!(fabsf(got - expected) <= bound))
            fail_msg("%s, %u columns, scales %s: row %u, column %u: expected %g, got %g", f->name,
                     columns, c->name, r, column, (double)expected, (double)got);
    }
}

static void check_format(const vly_format *f, const scales_case *c, uint32_t columns)
{
    const vly_tile_layout *l = vly_tile_layout_of(f->id);
    size_t n_blocks = columns / f->block_weights, units = (columns + 63) / 64;
    uint8_t *rows = calloc(VLY_TILE_ROWS * n_blocks, f->block_bytes);
    float *scratch = calloc(VLY_TILE_ROWS * (size_t)columns, sizeof *scratch);
    float *want = calloc(VLY_TILE_ROWS * (size_t)columns, sizeof *want);
    vly_tile_planes p = {malloc(units * l->main), l->high ? malloc(units * l->high) : NULL,
                         l->scales ? malloc(units * l->scales) : NULL,
                         l->factors ? malloc(l->factors) : NULL};
    const uint8_t *row[VLY_TILE_ROWS];
    fill_rows(f, c, VLY_TILE_ROWS * n_blocks, rows);
    for (uint32_t r = 0; r < VLY_TILE_ROWS; r++) {
        row[r] = r == 13 ? NULL : rows + r * n_blocks * f->block_bytes; /* a row of padding */
        if (row[r]) f->dequantize(row[r], n_blocks, want + (size_t)r * columns);
    }
    vly_tile_repack(f->id, row, columns, scratch, &p);
    compare(f, c, columns, want, &p);
    free(rows);
    free(scratch);
    free(want);
    free(p.main);
    free(p.high);
    free(p.scales);
    free(p.factors);
}

static void test_formats(void **state)
{
    (void)state;
    static const uint32_t blocks_of_32[] = {1, 2, 3, 7, 18}, blocks_of_256[] = {1, 2, 5};
    for (int id = 0; id < VLY_N_FORMATS; id++) {
        const vly_format *f = vly_format_by_id((vly_format_id)id);
        if (!f->dequantize) continue;
        for (size_t i = 0; i < sizeof scales_cases / sizeof *scales_cases; i++) {
            if (f->block_weights == 256)
                for (int j = 0; j < 3; j++)
                    check_format(f, &scales_cases[i], 256 * blocks_of_256[j]);
            else
                for (int j = 0; j < 5; j++) check_format(f, &scales_cases[i], 32 * blocks_of_32[j]);
            if (f->block_weights == 1) check_format(f, &scales_cases[i], 50);
        }
    }
}

/* Which formats keep their bits: what a model takes on the device, for 1024 weights. */
static void test_bytes(void **state)
{
    (void)state;
    static const struct {
        vly_format_id id;
        uint32_t n_bytes;
    } want[] = {
        {VLY_FORMAT_f32, 2048},  {VLY_FORMAT_f16, 2048},     {VLY_FORMAT_bf16, 2048},
        {VLY_FORMAT_q4_0, 576},  {VLY_FORMAT_q4_1, 640},     {VLY_FORMAT_q5_0, 704},
        {VLY_FORMAT_q5_1, 768},  {VLY_FORMAT_q8_0, 1088},    {VLY_FORMAT_q2_k, 2048},
        {VLY_FORMAT_q3_k, 896},  {VLY_FORMAT_q4_k, 640},     {VLY_FORMAT_q5_k, 768},
        {VLY_FORMAT_q6_k, 896},  {VLY_FORMAT_iq4_nl, 1088},  {VLY_FORMAT_iq4_xs, 1088},
        {VLY_FORMAT_iq3_s, 704}, {VLY_FORMAT_iq2_xxs, 1088},
    };
    size_t n = 0;
    for (int id = 0; id < VLY_N_FORMATS; id++)
        n += vly_format_by_id((vly_format_id)id)->dequantize != NULL;
    assert_int_equal(n, sizeof want / sizeof *want);
    for (size_t i = 0; i < n; i++) {
        const vly_tile_layout *l = vly_tile_layout_of(want[i].id);
        assert_int_equal(l->main + l->high + l->scales, want[i].n_bytes);
    }
}

/* Columns that are no whole number of units are padded with zeros. */
static void test_padding(void **state)
{
    (void)state;
    const vly_format *f = vly_format_by_id(VLY_FORMAT_q8_0);
    uint8_t rows[34], main[1024], scales[64], factors[64];
    const uint8_t *row[VLY_TILE_ROWS] = {rows};
    memset(rows, 0x11, sizeof rows);
    memset(main, 0xee, sizeof main);
    memset(scales, 0xee, sizeof scales);
    float scratch[VLY_TILE_ROWS * 32];
    vly_tile_repack(f->id, row, 32, scratch, &(vly_tile_planes){main, NULL, scales, factors});
    assert_true(half_of(word_at(scales, 0), 0) > 0);
    assert_true(half_of(word_at(scales, 0), 1) == 0); /* the second block's scale */
    for (uint32_t i = 1; i < 16; i++) assert_int_equal(word_at(scales, i), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
