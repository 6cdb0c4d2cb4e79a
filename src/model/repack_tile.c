#include "model/repack_tile.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define UNIT VLY_TILE_UNIT
#define ROWS VLY_TILE_ROWS

static const vly_tile_layout layouts[VLY_N_TILE_LAYOUTS] = {
    [VLY_TILE_F16] = {VLY_TILE_F16, 2048, 0, 0, 0},
    [VLY_TILE_Q8] = {VLY_TILE_Q8, 1024, 0, 64, 64},
    [VLY_TILE_Q4] = {VLY_TILE_Q4, 512, 0, 64, 64},
    [VLY_TILE_Q5] = {VLY_TILE_Q5, 512, 128, 64, 64},
    [VLY_TILE_Q4M] = {VLY_TILE_Q4M, 512, 0, 128, 64},
    [VLY_TILE_Q5M] = {VLY_TILE_Q5M, 512, 128, 128, 64},
    [VLY_TILE_Q6] = {VLY_TILE_Q6, 512, 256, 128, 64},
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
        return &layouts[VLY_TILE_Q4M];
    case VLY_FORMAT_q5_k:
        return &layouts[VLY_TILE_Q5M];
    case VLY_FORMAT_q6_k:
        return &layouts[VLY_TILE_Q6];
    default:
        return &layouts[VLY_TILE_F16];
    }
}

/* ---- Blocks of a row, as integers without their offsets ---- */

/* What a unit of one row holds: a weight is (q - middle of the layout) * scale + offset, those of
 * its 16 columns. */
typedef struct {
    float scale[4], offset[4];
    uint8_t q[UNIT];
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

static float float_at(const uint8_t *p)
{
    return vly_f16_to_f32((uint16_t)half_at(p));
}

/* Units of two blocks of 32, each with an f16 scale in front. */
static void take_simple(const uint8_t *row, uint32_t n_blocks, uint32_t unit, uint32_t block_bytes,
                        void (*unpack)(const uint8_t *, uint8_t *), row_unit *out)
{
    for (uint32_t i = 0; i < 2 && 2 * unit + i < n_blocks; i++) {
        const uint8_t *block = row + (size_t)(2 * unit + i) * block_bytes;
        if (unpack) unpack(block, out->q + 32 * i);
        out->scale[2 * i] = out->scale[2 * i + 1] = float_at(block);
    }
}

/* Scale and minimum of the i-th 32 weights of a block of Q4_K or Q5_K: 6 bits each, in 12 bytes,
 * to be multiplied by the two f16s in front. */
static void take_scale_and_minimum(const uint8_t *block, uint32_t i, float *scale, float *offset)
{
    const uint8_t *s = block + 4;
    uint32_t a, b;
    if (i < 4) {
        a = s[i] & 63;
        b = s[i + 4] & 63;
    } else {
        a = (s[i + 4] & 15u) | (uint32_t)(s[i - 4] >> 6) << 4;
        b = (uint32_t)(s[i + 4] >> 4) | (uint32_t)(s[i] >> 6) << 4;
    }
    scale[0] = scale[1] = float_at(block) * (float)a;
    offset[0] = offset[1] = -float_at(block + 2) * (float)b;
}

/* Integers of a quarter of a block of Q4_K (`high` NULL) or Q5_K. */
static void unpack_q45_k(const uint8_t *high, const uint8_t *low, uint32_t i, row_unit *out)
{
    for (uint32_t n = 0; n < 32; n++) {
        uint8_t both = low[32 * i + n];
        out->q[n] = both & 15;
        out->q[32 + n] = both >> 4;
        if (!high) continue;
        out->q[n] |= (uint8_t)((high[n] >> (2 * i) & 1) << 4);
        out->q[32 + n] |= (uint8_t)((high[n] >> (2 * i + 1) & 1) << 4);
    }
}

static void take_minimums(const uint8_t *block, uint32_t i, row_unit *out)
{
    for (uint32_t half = 0; half < 2; half++)
        take_scale_and_minimum(block, 2 * i + half, out->scale + 2 * half, out->offset + 2 * half);
}

/* The same of Q6_K: 128 bytes of low bits, 64 of high ones, 16 scales, a factor. */
static void unpack_q6_k(const uint8_t *block, uint32_t i, row_unit *out)
{
    const uint8_t *low = block + i / 2 * 64, *high = block + 128 + i / 2 * 32;
    for (uint32_t n = 0; n < 32; n++)
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t four = low[n + 32 * half] >> (i % 2 * 4) & 15u;
            uint32_t two = high[n] >> (2 * (i % 2 * 2 + half)) & 3u;
            out->q[32 * half + n] = (uint8_t)(four | two << 4);
        }
}

/* `whole`: the integers too, not only the scales. No row: scales of 0. */
static void take_unit(vly_format_id format, const uint8_t *row, uint32_t columns, uint32_t unit,
                      bool whole, row_unit *out)
{
    const vly_format *f = vly_format_by_id(format);
    memset(out, 0, whole ? sizeof *out : offsetof(row_unit, q));
    if (!row) return;
    const uint8_t *block = row + (size_t)(unit / 4) * f->block_bytes;
    switch (format) {
    case VLY_FORMAT_q8_0:
        take_simple(row, columns / 32, unit, f->block_bytes, whole ? unpack_q8_0 : NULL, out);
        break;
    case VLY_FORMAT_q4_0:
        take_simple(row, columns / 32, unit, f->block_bytes, whole ? unpack_q4_0 : NULL, out);
        break;
    case VLY_FORMAT_q5_0:
        take_simple(row, columns / 32, unit, f->block_bytes, whole ? unpack_q5_0 : NULL, out);
        break;
    case VLY_FORMAT_q4_k:
        take_minimums(block, unit % 4, out);
        if (whole) unpack_q45_k(NULL, block + 16, unit % 4, out);
        break;
    case VLY_FORMAT_q5_k:
        take_minimums(block, unit % 4, out);
        if (whole) unpack_q45_k(block + 16, block + 48, unit % 4, out);
        break;
    default: /* q6_k */
        for (uint32_t n = 0; n < 4; n++)
            out->scale[n] = float_at(block + 208) * (float)(int8_t)block[192 + unit % 4 * 4 + n];
        if (whole) unpack_q6_k(block, unit % 4, out);
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

/* Pairs of four bits, and `high_bits` more (0, 1 or 2). Pairs of row g lie low and those of row g +
 * 8 four bits higher, first those of pair 0, then of pair 1, so that the bits of an f16 below the
 * normal ones are the integers. Without more bits all lies two bits higher still. */
static void put_fields(const row_unit *rows, uint32_t high_bits, uint8_t *main, uint8_t *high)
{
    for (uint32_t lane = 0; lane < 32; lane++) {
        uint32_t more[2] = {0, 0};
        for (uint32_t t = 0; t < 4; t++) {
            uint32_t low = 0;
            for (uint32_t k = 0; k < 4; k++) {
                const uint8_t *q = rows[lane / 4 + k / 2 * 8].q + pair_column(t, lane % 4, k);
                uint32_t at = 8 * (k % 2) + 4 * (k / 2);
                low |= (q[0] & 15u) << at | (uint32_t)(q[1] & 15) << (at + 16);
                uint32_t pair = (uint32_t)(q[0] >> 4) | (uint32_t)(q[1] >> 4) << 16;
                /* Fields of pairs that are unpacked with one shift are four bits apart too. */
                uint32_t n = (high_bits == 1 ? t : t % 2) * 2 + k % 2,
                         half = high_bits == 1 ? 4 : 2;
                uint32_t place = n % half * high_bits + n / half * 8 + 4 * (k / 2);
                more[high_bits == 1 ? 0 : t / 2] |= pair << place;
            }
            put32(main, lane * 4 + t, high_bits ? low : low << 2 | low >> 30);
        }
        for (uint32_t i = 0; i < high_bits; i++) put32(high, lane * high_bits + i, more[i]);
    }
}

/* Where the integers of a row lie: their last bit is worth 2^-place as an f16. */
static int place_of(uint32_t layout, uint32_t row)
{
    if (layout == VLY_TILE_Q8 || row < 8)
        return layout == VLY_TILE_Q4 || layout == VLY_TILE_Q4M ? 22 : 24;
    return layout == VLY_TILE_Q4 || layout == VLY_TILE_Q4M ? 18 : 20;
}

/* The power of two by which the scales of a row are divided, so that all are within f16. */
static int row_exponent(vly_format_id format, const uint8_t *row, uint32_t columns, int place)
{
    float most = 0;
    for (uint32_t unit = 0; row && unit * UNIT < columns; unit++) {
        row_unit u;
        take_unit(format, row, columns, unit, false, &u);
        for (uint32_t t = 0; t < 4; t++) {
            most = fmaxf(most, ldexpf(fabsf(u.scale[t]), place));
            most = fmaxf(most, fabsf(u.offset[t]));
        }
    }
    int exponent = 0;
    frexpf(most / 65504, &exponent);
    return exponent;
}

static uint32_t half_pair(float a, float b)
{
    return vly_f32_to_f16(a) | (uint32_t)vly_f32_to_f16(b) << 16;
}

/* The scales of a unit of row r. */
static void put_scales(uint32_t layout, const row_unit *u, uint32_t r, int place, int exponent,
                       uint8_t *scales)
{
    float s[4], o[4];
    for (uint32_t t = 0; t < 4; t++) {
        s[t] = ldexpf(u->scale[t], place - exponent);
        o[t] = ldexpf(u->offset[t], -exponent);
    }
    bool minimums = layout == VLY_TILE_Q4M || layout == VLY_TILE_Q5M;
    uint32_t at = r % 8 * 4 + r / 8 * 2;
    if (minimums || layout == VLY_TILE_Q6) {
        put32(scales, at, minimums ? half_pair(s[0], o[0]) : half_pair(s[0], s[1]));
        put32(scales, at + 1, minimums ? half_pair(s[2], o[2]) : half_pair(s[2], s[3]));
    } else {
        put32(scales, at / 2, half_pair(s[0], s[2]));
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
    int place[ROWS], exponent[ROWS];
    for (uint32_t r = 0; r < ROWS; r++) {
        place[r] = place_of(layout->id, r);
        exponent[r] = row_exponent(format, row[r], columns, place[r]);
        float factor = ldexpf(1, exponent[r]);
        memcpy(planes->factors + 4 * (size_t)r, &factor, 4);
    }
    for (uint32_t unit = 0; unit * UNIT < columns; unit++) {
        uint8_t *main = planes->main + (size_t)unit * layout->main;
        uint8_t *scales = planes->scales + (size_t)unit * layout->scales;
        for (uint32_t r = 0; r < ROWS; r++) {
            take_unit(format, row[r], columns, unit, true, &rows[r]);
            put_scales(layout->id, &rows[r], r, place[r], exponent[r], scales);
        }
        if (layout->id == VLY_TILE_Q8)
            put_bytes(rows, main);
        else
            put_fields(rows, layout->high / 128, main,
                       planes->high ? planes->high + (size_t)unit * layout->high : NULL);
    }
}
