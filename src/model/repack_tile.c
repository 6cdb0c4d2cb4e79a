#include "model/repack_tile.h"

#include "gguf/dequantize.h"

#include <math.h>
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

/* What the scale of a block is multiplied by (vly_codes). */
typedef enum {
    SCALE_ALONE,  /* by 1, for blocks of 32; the minimum is added */
    SCALE_PER_32, /* by a signed factor */
    SCALE_PER_16,
    SCALE_AND_MINIMUM_PER_32 /* by one factor, the minimum, which is taken off, by the next */
} scale_kind;

/* How a format lies in tiles. */
typedef struct {
    uint8_t layout, scales;
    uint8_t add;          /* to codes, or what they stand for: the integers of the layout */
    float times;          /* what scales are multiplied by */
    const int8_t *values; /* what codes stand for, if not for themselves */
} tile_format;

/* Formats without a row become f16. Q2_K is one, as no layout has a minimum for each 16 weights. */
static const tile_format tile_formats[VLY_N_FORMATS] = {
    [VLY_FORMAT_q8_0] = {VLY_TILE_Q8, SCALE_ALONE, 128, 1, NULL},
    [VLY_FORMAT_q4_0] = {VLY_TILE_Q4, SCALE_ALONE, 0, 1, NULL},
    [VLY_FORMAT_q5_0] = {VLY_TILE_Q5, SCALE_ALONE, 0, 1, NULL},
    [VLY_FORMAT_q4_1] = {VLY_TILE_Q4M, SCALE_ALONE, 0, 1, NULL},
    [VLY_FORMAT_q5_1] = {VLY_TILE_Q5M, SCALE_ALONE, 0, 1, NULL},
    [VLY_FORMAT_q3_k] = {VLY_TILE_Q6, SCALE_PER_16, 28, 1, NULL},
    [VLY_FORMAT_q4_k] = {VLY_TILE_Q4M, SCALE_AND_MINIMUM_PER_32, 0, 1, NULL},
    [VLY_FORMAT_q5_k] = {VLY_TILE_Q5M, SCALE_AND_MINIMUM_PER_32, 0, 1, NULL},
    [VLY_FORMAT_q6_k] = {VLY_TILE_Q6, SCALE_PER_16, 0, 1, NULL},
    [VLY_FORMAT_iq4_nl] = {VLY_TILE_Q8, SCALE_ALONE, 128, 1, vly_values_iq4},
    [VLY_FORMAT_iq4_xs] = {VLY_TILE_Q8, SCALE_PER_32, 128, 1, vly_values_iq4},
    [VLY_FORMAT_iq3_s] = {VLY_TILE_Q5, SCALE_PER_32, 16, 1, vly_values_iq3_s},
    [VLY_FORMAT_iq2_xxs] = {VLY_TILE_Q8, SCALE_PER_32, 128, 0.125f, vly_values_iq2_xxs},
};

const vly_tile_layout *vly_tile_layout_of(vly_format_id format)
{
    return &layouts[tile_formats[format].layout];
}

/* ---- Rows as integers of their layout ---- */

/* What a unit of one row holds: a weight is (q - middle of the layout) * scale + offset, those of
 * its 16 columns. */
typedef struct {
    float scale[4], offset[4];
    uint8_t q[UNIT];
} row_unit;

/* Scale and offset of the n-th 16 weights of a block. */
static void scale_of(const tile_format *t, const vly_codes *c, uint32_t n, float *scale,
                     float *offset)
{
    float one = t->times * vly_f16_to_f32(c->scale), minimum = vly_f16_to_f32(c->minimum);
    switch (t->scales) {
    case SCALE_PER_32:
        *scale = one * (float)(int8_t)c->factor[n / 2];
        break;
    case SCALE_PER_16:
        *scale = one * (float)(int8_t)c->factor[n];
        break;
    case SCALE_AND_MINIMUM_PER_32:
        *scale = one * (float)c->factor[n / 2 * 2];
        *offset = -minimum * (float)c->factor[n / 2 * 2 + 1];
        break;
    default: /* SCALE_ALONE */
        *scale = one;
        *offset = minimum;
    }
}

/* No row: scales of 0. `out` [units]. */
static void unpack_row(vly_format_id format, const uint8_t *row, uint32_t columns, row_unit *out)
{
    const tile_format *t = &tile_formats[format];
    const vly_format *f = vly_format_by_id(format);
    vly_codes c = {0};
    memset(out, 0, (columns + UNIT - 1) / UNIT * sizeof *out);
    for (uint32_t i = 0; row && i < columns; i += 16) {
        uint32_t in_block = i % f->block_weights;
        row_unit *u = out + i / UNIT;
        if (in_block == 0) f->unpack(row + (size_t)(i / f->block_weights) * f->block_bytes, &c);
        scale_of(t, &c, in_block / 16, &u->scale[i % UNIT / 16], &u->offset[i % UNIT / 16]);
        for (uint32_t n = 0; n < 16; n++) {
            uint8_t code = c.code[in_block + n];
            u->q[i % UNIT + n] = (uint8_t)(t->add + (t->values ? t->values[code] : code));
        }
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

static void put_bytes(const row_unit *const rows[ROWS], uint8_t *main)
{
    for (uint32_t lane = 0; lane < 32; lane++)
        for (uint32_t t = 0; t < 4; t++)
            for (uint32_t half = 0; half < 2; half++) {
                const uint8_t *q = rows[lane / 4 + 8 * half]->q;
                uint32_t a = pair_column(t, lane % 4, 0), b = a + 8;
                put32(main, (t / 2 * 32 + lane) * 4 + t % 2 * 2 + half,
                      q[a] | (uint32_t)q[b] << 8 | (uint32_t)q[a + 1] << 16 |
                          (uint32_t)q[b + 1] << 24);
            }
}

/* Pairs of four bits, and `high_bits` more (0, 1 or 2). Pairs of row g lie low and those of row g +
 * 8 four bits higher, first those of pair 0, then of pair 1, so that the bits of an f16 below the
 * normal ones are the integers. Without more bits all lies two bits higher still. */
static void put_fields(const row_unit *const rows[ROWS], uint32_t high_bits, uint8_t *main,
                       uint8_t *high)
{
    for (uint32_t lane = 0; lane < 32; lane++) {
        uint32_t more[2] = {0, 0};
        for (uint32_t t = 0; t < 4; t++) {
            uint32_t low = 0;
            for (uint32_t k = 0; k < 4; k++) {
                const uint8_t *q = rows[lane / 4 + k / 2 * 8]->q + pair_column(t, lane % 4, k);
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
static int row_exponent(const row_unit *units, uint32_t n_units, int place)
{
    float scale = 0, offset = 0;
    int exponent = 0;
    for (uint32_t i = 0; i < n_units; i++)
        for (uint32_t t = 0; t < 4; t++) {
            float s = fabsf(units[i].scale[t]), o = fabsf(units[i].offset[t]);
            scale = s > scale ? s : scale;
            offset = o > offset ? o : offset;
        }
    frexpf(fmaxf(ldexpf(scale, place), offset) / 65504, &exponent);
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
    const float times = ldexpf(1, place - exponent), offset_times = ldexpf(1, -exponent);
    float s[4], o[4];
    for (uint32_t t = 0; t < 4; t++) {
        s[t] = u->scale[t] * times;
        o[t] = u->offset[t] * offset_times;
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

/* `units`: scratch, [ROWS][units]. */
static void repack_codes(vly_format_id format, const uint8_t *const row[ROWS], uint32_t columns,
                         row_unit *units, const vly_tile_planes *planes)
{
    const vly_tile_layout *layout = vly_tile_layout_of(format);
    const uint32_t n_units = (columns + UNIT - 1) / UNIT;
    int place[ROWS], exponent[ROWS];
    for (uint32_t r = 0; r < ROWS; r++) {
        unpack_row(format, row[r], columns, units + (size_t)r * n_units);
        place[r] = place_of(layout->id, r);
        exponent[r] = row_exponent(units + (size_t)r * n_units, n_units, place[r]);
        float factor = ldexpf(1, exponent[r]);
        memcpy(planes->factors + 4 * (size_t)r, &factor, 4);
    }
    for (uint32_t unit = 0; unit < n_units; unit++) {
        const row_unit *rows[ROWS];
        uint8_t *main = planes->main + (size_t)unit * layout->main;
        for (uint32_t r = 0; r < ROWS; r++) {
            rows[r] = units + (size_t)r * n_units + unit;
            put_scales(layout->id, rows[r], r, place[r], exponent[r],
                       planes->scales + (size_t)unit * layout->scales);
        }
        if (layout->id == VLY_TILE_Q8)
            put_bytes(rows, main);
        else
            put_fields(rows, layout->high / 128, main,
                       planes->high ? planes->high + (size_t)unit * layout->high : NULL);
    }
}

void vly_tile_repack(vly_format_id format, const uint8_t *const row[ROWS], uint32_t columns,
                     float *scratch, const vly_tile_planes *planes)
{
    /* Blocks of codes make columns a multiple of 32. */
    _Static_assert(sizeof(row_unit) <= 32 * sizeof(float), "units of a tile fit into the scratch");
    if (vly_tile_layout_of(format)->id == VLY_TILE_F16)
        repack_halves(format, row, columns, scratch, planes);
    else
        repack_codes(format, row, columns, (row_unit *)scratch, planes);
}
