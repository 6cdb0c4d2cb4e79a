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

#define COLUMNS 512
#define UNITS   (COLUMNS / VLY_TILE_UNIT)

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
    float offset = minimums ? half_of(word, 1) : scale * middle, factor;
    memcpy(&factor, p->factors + 4 * (size_t)(g + 8 * upper), 4);
    return (raw(l, p, unit, lane, t, k, e) * scale + offset) * factor;
}

/* Random blocks whose f16 scales are small numbers. */
static void random_rows(const vly_format *f, uint8_t *rows, size_t row_bytes)
{
    uint32_t state = 7;
    for (size_t i = 0; i < VLY_TILE_ROWS * row_bytes; i++) {
        state = state * 1664525u + 1013904223u;
        rows[i] = (uint8_t)(state >> 24);
    }
    if (f->n_scales == 0) { /* floats of a kind */
        for (size_t i = 0; i < VLY_TILE_ROWS * COLUMNS; i++) {
            float v = (float)((int)(i * 7919 % 2001) - 1000) / 1024;
            uint16_t half = vly_f32_to_f16(v);
            uint32_t bits;
            memcpy(&bits, &v, 4);
            if (f->id == VLY_FORMAT_f32)
                memcpy(rows + 4 * i, &v, 4);
            else if (f->id == VLY_FORMAT_f16)
                memcpy(rows + 2 * i, &half, 2);
            else {
                half = (uint16_t)(bits >> 16);
                memcpy(rows + 2 * i, &half, 2);
            }
        }
        return;
    }
    for (size_t i = 0; i < VLY_TILE_ROWS * row_bytes / f->block_bytes; i++)
        for (uint32_t s = 0; s < f->n_scales; s++) {
            uint16_t half = vly_f32_to_f16(0.001f * (float)(1 + (i + s) % 17));
            memcpy(rows + i * f->block_bytes + f->scale_at + 2 * s, &half, 2);
        }
}

static void check_format(const vly_format *f)
{
    const vly_tile_layout *l = vly_tile_layout_of(f->id);
    size_t row_bytes = COLUMNS / f->block_weights * f->block_bytes;
    uint8_t *rows = calloc(VLY_TILE_ROWS, row_bytes);
    float *values = calloc(VLY_TILE_ROWS * COLUMNS, sizeof *values);
    float *want = calloc(VLY_TILE_ROWS * COLUMNS, sizeof *want);
    vly_tile_planes p = {calloc(UNITS, l->main), l->high ? calloc(UNITS, l->high) : NULL,
                         l->scales ? calloc(UNITS, l->scales) : NULL,
                         l->factors ? calloc(1, l->factors) : NULL};
    const uint8_t *row[VLY_TILE_ROWS];
    random_rows(f, rows, row_bytes);
    for (uint32_t r = 0; r < VLY_TILE_ROWS; r++) {
        row[r] = r == 13 ? NULL : rows + r * row_bytes; /* a row of padding */
        if (row[r]) f->dequantize(row[r], COLUMNS / f->block_weights, want + (size_t)r * COLUMNS);
    }
    vly_tile_repack(f->id, row, COLUMNS, values, &p);
    float most[VLY_TILE_ROWS] = {0}; /* scales and minimums are rounded to f16 */
    for (uint32_t i = 0; i < VLY_TILE_ROWS * COLUMNS; i++)
        most[i / COLUMNS] = fmaxf(most[i / COLUMNS], fabsf(want[i]));
    for (uint32_t unit = 0; unit < UNITS; unit++)
        for (uint32_t lane = 0; lane < 32; lane++)
            for (uint32_t i = 0; i < 32; i++) {
                uint32_t t = i / 8, k = i / 2 % 4, e = i % 2;
                uint32_t r = lane / 4 + k / 2 * 8;
                uint32_t column = unit * 64 + 16 * t + lane % 4 * 2 + k % 2 * 8 + e;
                float got = unpacked(l, &p, unit, lane, t, k, e);
                float expected = want[r * COLUMNS + column];
                if (fabsf(got - expected) > 1e-3f * fabsf(expected) + 5e-4f * most[r])
                    fail_msg("%s: row %u, column %u: expected %g, got %g", f->name, r, column,
                             (double)expected, (double)got);
            }
    free(rows);
    free(values);
    free(want);
    free(p.main);
    free(p.high);
    free(p.scales);
    free(p.factors);
}

static void test_formats(void **state)
{
    (void)state;
    for (int id = 0; id < VLY_N_FORMATS; id++) {
        const vly_format *f = vly_format_by_id((vly_format_id)id);
        if (f->dequantize) check_format(f);
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
    vly_tile_repack(f->id, row, 32, NULL, &(vly_tile_planes){main, NULL, scales, factors});
    assert_true(half_of(word_at(scales, 0), 0) > 0);
    assert_true(half_of(word_at(scales, 0), 1) == 0); /* the second block's scale */
    for (uint32_t i = 1; i < 16; i++) assert_int_equal(word_at(scales, i), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
