#include "model/repack_tile.h"

#include <string.h>

#define UNIT VLY_TILE_UNIT
#define ROWS VLY_TILE_ROWS

static const vly_tile_layout layouts[VLY_N_TILE_LAYOUTS] = {
    [VLY_TILE_F16] = {VLY_TILE_F16, 2048, 0, 0, 0, UNIT},
    [VLY_TILE_Q8] = {VLY_TILE_Q8, 1024, 0, 64, 0, UNIT},
    [VLY_TILE_Q4] = {VLY_TILE_Q4, 512, 0, 64, 0, UNIT},
    [VLY_TILE_Q5] = {VLY_TILE_Q5, 512, 128, 64, 0, UNIT},
    [VLY_TILE_Q4K] = {VLY_TILE_Q4K, 512, 0, 64, 64, 4 * UNIT},
    [VLY_TILE_Q5K] = {VLY_TILE_Q5K, 512, 128, 64, 64, 4 * UNIT},
    [VLY_TILE_Q6K] = {VLY_TILE_Q6K, 512, 256, 64, 64, 4 * UNIT},
};

const vly_tile_layout *vly_tile_layout_of(vly_format_id format)
{
    switch (format) {
    case VLY_FORMAT_q8_0:
        return &layouts[VLY_TILE_Q8];
    case VLY_FORMAT_q4_0:
        return &layouts[VLY_TILE_Q4];
    case VLY_FORMAT_q5_0:
        return &layouts[VLY_TILE_Q5];
    case VLY_FORMAT_q4_k:
        return &layouts[VLY_TILE_Q4K];
    case VLY_FORMAT_q5_k:
        return &layouts[VLY_TILE_Q5K];
    case VLY_FORMAT_q6_k:
        return &layouts[VLY_TILE_Q6K];
    default:
        return &layouts[VLY_TILE_F16];
    }
}

/* ---- Blocks of a row, as integers without their offsets ---- */

/* What a unit of one row holds. */
typedef struct {
    uint8_t q[UNIT];
    uint32_t scale;  /* the row's word of the scales plane */
    uint32_t factor; /* of the factors plane */
} row_unit;

static uint32_t half_at(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static void unpack_q8_0(const uint8_t *block, uint8_t *q)
{
    for (int i = 0; i < 32; i++) q[i] = (uint8_t)(block[2 + i] + 128);
}

static void unpack_q4_0(const uint8_t *block, uint8_t *q)
{
    for (int i = 0; i < 16; i++) {
        q[i] = block[2 + i] & 15;
        q[16 + i] = block[2 + i] >> 4;
    }
}

static void unpack_q5_0(const uint8_t *block, uint8_t *q)
{
    uint32_t high = half_at(block + 2) | half_at(block + 4) << 16;
    for (int i = 0; i < 16; i++) {
        q[i] = (uint8_t)((block[6 + i] & 15) | (high >> i & 1) << 4);
        q[16 + i] = (uint8_t)(block[6 + i] >> 4 | (high >> (16 + i) & 1) << 4);
    }
}

/* Units of two blocks of 32, each with an f16 scale in front. */
static void take_simple(const uint8_t *row, uint32_t n_blocks, uint32_t unit, uint32_t block_bytes,
                        uint8_t zero, void (*unpack)(const uint8_t *, uint8_t *), row_unit *out)
{
    memset(out->q, zero, UNIT);
    out->scale = out->factor = 0;
    for (uint32_t i = 0; i < 2 && 2 * unit + i < n_blocks; i++) {
        const uint8_t *block = row + (size_t)(2 * unit + i) * block_bytes;
        unpack(block, out->q + 32 * i);
        out->scale |= half_at(block) << 16 * i;
    }
}

/* Scale and minimum of the i-th 32 weights of a block of Q4_K or Q5_K: 6 bits each, in 12 bytes. */
static uint32_t scale_and_minimum(const uint8_t *s, uint32_t i)
{
    uint32_t scale, minimum;
    if (i < 4) {
        scale = s[i] & 63;
        minimum = s[i + 4] & 63;
    } else {
        scale = (s[i + 4] & 15u) | (uint32_t)(s[i - 4] >> 6) << 4;
        minimum = (uint32_t)(s[i + 4] >> 4) | (uint32_t)(s[i] >> 6) << 4;
    }
    return scale | minimum << 16;
}

/* A quarter of a block of Q4_K (`high` NULL) or Q5_K. */
static void take_q45_k(const uint8_t *block, const uint8_t *high, const uint8_t *low, uint32_t i,
                       row_unit *out)
{
    for (uint32_t n = 0; n < 32; n++) {
        uint8_t both = low[32 * i + n];
        out->q[n] = both & 15;
        out->q[32 + n] = both >> 4;
        if (!high) continue;
        out->q[n] |= (uint8_t)((high[n] >> (2 * i) & 1) << 4);
        out->q[32 + n] |= (uint8_t)((high[n] >> (2 * i + 1) & 1) << 4);
    }
    out->scale = scale_and_minimum(block + 4, 2 * i) | scale_and_minimum(block + 4, 2 * i + 1) << 6;
    out->factor = half_at(block) | (half_at(block + 2) ^ 0x8000u) << 16; /* minimums are taken */
}

/* A quarter of a block of Q6_K: 128 bytes of low bits, 64 of high ones, 16 scales, a factor. */
static void take_q6_k(const uint8_t *block, uint32_t i, row_unit *out)
{
    const uint8_t *low = block + i / 2 * 64, *high = block + 128 + i / 2 * 32;
    const uint8_t *scales = block + 192 + 4 * i;
    for (uint32_t n = 0; n < 32; n++)
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t four = low[n + 32 * half] >> (i % 2 * 4) & 15u;
            uint32_t two = high[n] >> (2 * (i % 2 * 2 + half)) & 3u;
            out->q[32 * half + n] = (uint8_t)(four | two << 4);
        }
    out->scale = 0;
    for (uint32_t n = 0; n < 4; n++) out->scale |= (uint32_t)(uint8_t)(scales[n] + 128) << (8 * n);
    out->factor = half_at(block + 208);
}

static void take_unit(vly_format_id format, const uint8_t *row, uint32_t columns, uint32_t unit,
                      row_unit *out)
{
    const vly_format *f = vly_format_by_id(format);
    const uint8_t *block = row + (size_t)(unit / 4) * f->block_bytes;
    switch (format) {
    case VLY_FORMAT_q8_0:
        take_simple(row, columns / 32, unit, f->block_bytes, 128, unpack_q8_0, out);
        break;
    case VLY_FORMAT_q4_0:
        take_simple(row, columns / 32, unit, f->block_bytes, 8, unpack_q4_0, out);
        break;
    case VLY_FORMAT_q5_0:
        take_simple(row, columns / 32, unit, f->block_bytes, 16, unpack_q5_0, out);
        break;
    case VLY_FORMAT_q4_k:
        take_q45_k(block, NULL, block + 16, unit % 4, out);
        break;
    case VLY_FORMAT_q5_k:
        take_q45_k(block, block + 16, block + 48, unit % 4, out);
        break;
    default: /* q6_k */
        take_q6_k(block, unit % 4, out);
    }
}

/* ---- Tiles ---- */

static void put32(uint8_t *at, uint32_t i, uint32_t word)
{
    memcpy(at + 4 * (size_t)i, &word, 4);
}

/* Column of the first weight of the k-th pair that lane quarter j holds of the t-th 16 columns;
 * pairs 0 and 1 are of row g, 2 and 3 of row g + 8. */
static uint32_t pair_column(uint32_t t, uint32_t j, uint32_t k)
{
    return 16 * t + 2 * j + 8 * (k % 2);
}

static void put_bytes(const row_unit *rows, uint8_t *main)
{
    for (uint32_t lane = 0; lane < 32; lane++)
        for (uint32_t t = 0; t < 4; t++)
            for (uint32_t half = 0; half < 2; half++) {
                const uint8_t *q = rows[lane / 4 + 8 * half].q;
                uint32_t a = pair_column(t, lane % 4, 0), b = a + 8;
                put32(main, (t / 2 * 32 + lane) * 4 + t % 2 * 2 + half,
                      q[a] | (uint32_t)q[b] << 8 | (uint32_t)q[a + 1] << 16 |
                          (uint32_t)q[b + 1] << 24);
            }
}

/* The low four bits of all pairs, and `high_bits` more (0, 1 or 2). */
static void put_fields(const row_unit *rows, uint32_t high_bits, uint8_t *main, uint8_t *high)
{
    for (uint32_t lane = 0; lane < 32; lane++) {
        uint32_t more[2] = {0, 0};
        for (uint32_t t = 0; t < 4; t++) {
            uint32_t low = 0;
            for (uint32_t k = 0; k < 4; k++) {
                const uint8_t *q = rows[lane / 4 + k / 2 * 8].q + pair_column(t, lane % 4, k);
                low |= (q[0] & 15u) << (4 * k) | (q[1] & 15u) << (4 * k + 16);
                uint32_t pair = (uint32_t)(q[0] >> 4) | (uint32_t)(q[1] >> 4) << 16;
                if (high_bits == 1) more[0] |= pair << (t * 4 + k);
                if (high_bits == 2) more[t / 2] |= pair << (2 * (t % 2 * 4 + k));
            }
            put32(main, lane * 4 + t, low);
        }
        for (uint32_t i = 0; i < high_bits; i++) put32(high, lane * high_bits + i, more[i]);
    }
}

static void put_halves(const float *values, uint32_t columns, uint32_t unit, uint8_t *main)
{
    for (uint32_t t = 0; t < 4; t++)
        for (uint32_t lane = 0; lane < 32; lane++)
            for (uint32_t k = 0; k < 4; k++) {
                uint32_t column = unit * UNIT + pair_column(t, lane % 4, k);
                const float *v = values + (size_t)(lane / 4 + k / 2 * 8) * columns + column;
                uint32_t a = column < columns ? vly_f32_to_f16(v[0]) : 0;
                uint32_t b = column + 1 < columns ? vly_f32_to_f16(v[1]) : 0;
                put32(main, (t * 32 + lane) * 4 + k, a | b << 16);
            }
}

static void repack_halves(vly_format_id format, const uint8_t *const row[ROWS], uint32_t columns,
                          float *values, const vly_tile_planes *planes)
{
    const vly_format *f = vly_format_by_id(format);
    for (uint32_t r = 0; r < ROWS; r++) {
        float *v = values + (size_t)r * columns;
        if (row[r])
            f->dequantize(row[r], columns / f->block_weights, v);
        else
            memset(v, 0, columns * sizeof *v);
    }
    for (uint32_t unit = 0; unit * UNIT < columns; unit++)
        put_halves(values, columns, unit, planes->main + (size_t)unit * 2048);
}

void vly_tile_repack(vly_format_id format, const uint8_t *const row[ROWS], uint32_t columns,
                     float *values, const vly_tile_planes *planes)
{
    const vly_tile_layout *layout = vly_tile_layout_of(format);
    if (layout->id == VLY_TILE_F16) {
        repack_halves(format, row, columns, values, planes);
        return;
    }
    row_unit rows[ROWS];
    for (uint32_t unit = 0; unit * UNIT < columns; unit++) {
        for (uint32_t r = 0; r < ROWS; r++) {
            if (row[r])
                take_unit(format, row[r], columns, unit, &rows[r]);
            else
                memset(&rows[r], 0, sizeof rows[r]); /* scales of 0 */
        }
        uint8_t *main = planes->main + (size_t)unit * layout->main;
        if (layout->id == VLY_TILE_Q8)
            put_bytes(rows, main);
        else
            put_fields(rows, layout->high / 128, main,
                       planes->high ? planes->high + (size_t)unit * layout->high : NULL);
        for (uint32_t r = 0; r < ROWS; r++) {
            uint32_t word = r % 8 * 2 + r / 8;
            put32(planes->scales + (size_t)unit * 64, word, rows[r].scale);
            if (layout->factors && unit % 4 == 0)
                put32(planes->factors + (size_t)(unit / 4) * 64, word, rows[r].factor);
        }
    }
}
