#include "tests/support/reference.h"

#include "model/repack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64: Steele, Lea and Flood, OOPSLA 2014. */
uint64_t reference_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* The sum of 12 even ones. */
float reference_normal(uint64_t *state)
{
    float sum = 0.0f;
    for (int i = 0; i < 3; i++) {
        uint64_t r = reference_random(state);
        for (int j = 0; j < 4; j++) sum += (float)(r >> 16 * j & 0xffff) * 0x1p-16f;
    }
    return sum - 6.0f;
}

void reference_normals(uint64_t *state, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = reference_normal(state);
}

static void *allocate(size_t n_bytes)
{
    void *p = calloc(1, n_bytes + 1);
    if (!p) abort();
    return p;
}

static void put_u16(uint8_t *to, uint16_t v)
{
    to[0] = (uint8_t)v;
    to[1] = (uint8_t)(v >> 8);
}

/* One block of the format, as a file has it. */
static void random_block(uint64_t *state, const vly_format *f, uint8_t *block)
{
    float v = reference_normal(state);
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    if (f->id == VLY_FORMAT_f32) {
        for (int i = 0; i < 4; i++) block[i] = (uint8_t)(bits >> 8 * i);
    } else if (f->id == VLY_FORMAT_bf16) {
        put_u16(block, (uint16_t)(bits >> 16));
    } else if (f->id == VLY_FORMAT_f16) {
        put_u16(block, vly_f32_to_f16(v));
    } else {
        uint64_t kind = reference_random(state) % 16;
        for (uint32_t i = 0; i < f->block_bytes; i++)
            block[i] = kind == 1 ? (i % 2 ? 0x80 : 0x7f) : (uint8_t)reference_random(state);
        for (uint32_t i = 0; i < f->n_scales; i++, v *= 7.0f)
            put_u16(block + f->scale_at + 2 * i, vly_f32_to_f16(kind == 0 ? 0.0f : v / 64.0f));
    }
}

reference_matrix reference_matrix_make(uint64_t *state, vly_format_id format, uint32_t rows,
                                       uint32_t k)
{
    const vly_format *f = vly_format_by_id(format);
    const vly_layout *layout = vly_layout_of(format);
    uint32_t row_blocks = k / f->block_weights, blocks = (k + 31) / 32;
    size_t part_bytes = vly_layout_parts_bytes(layout, blocks);
    size_t scale_bytes = vly_layout_scales_bytes(layout, blocks);
    reference_matrix m = {.format = format,
                          .rows = rows,
                          .k = k,
                          .w = allocate((size_t)rows * k * sizeof(float)),
                          .parts = allocate(rows * part_bytes),
                          .scales = allocate(rows * scale_bytes),
                          .n_part_bytes = rows * part_bytes,
                          .n_scale_bytes = rows * scale_bytes};
    uint8_t *row = allocate((size_t)row_blocks * f->block_bytes);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t i = 0; i < row_blocks; i++) random_block(state, f, row + i * f->block_bytes);
        f->dequantize(row, row_blocks, m.w + (size_t)r * k);
        vly_repack_row(format, row, k, m.parts + r * part_bytes, m.scales + r * scale_bytes);
    }
    free(row);
    return m;
}

void reference_matrix_free(reference_matrix *matrix)
{
    free(matrix->w);
    free(matrix->parts);
    free(matrix->scales);
    *matrix = (reference_matrix){0};
}

double reference_dot(const float *w, const float *x, size_t n, double *size)
{
    double sum = 0.0, magnitude = 0.0;
    for (size_t i = 0; i < n; i++) {
        double product = (double)w[i] * (double)x[i];
        sum += product;
        magnitude += fabs(product);
    }
    if (size) *size = magnitude;
    return sum;
}

double reference_norm_factor(double squares, uint32_t dim, double epsilon)
{
    return 1.0 / sqrt(squares / dim + epsilon);
}

double reference_silu(double x)
{
    return x / (1.0 + exp(-x));
}

uint16_t reference_kv_scale(const float *v, uint32_t n)
{
    float high = 0.0f;
    for (uint32_t i = 0; i < n; i++) high = fmaxf(high, fabsf(v[i]));
    return vly_f32_to_f16(high / 127.0f);
}

void reference_kv_quantize(const float *v, uint32_t n, float scale, int8_t *out)
{
    float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    for (uint32_t i = 0; i < n; i++)
        out[i] = (int8_t)fmaxf(-127.0f, fminf(127.0f, rintf(v[i] * inverse)));
}

void reference_attention(const float *q, const float *k, const float *v, uint32_t n, uint32_t dim,
                         double scale, double *out)
{
    double *weight = allocate(n * sizeof *weight), high = -INFINITY, total = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        weight[i] = reference_dot(q, k + (size_t)i * dim, dim, NULL) * scale;
        high = fmax(high, weight[i]);
    }
    for (uint32_t i = 0; i < n; i++) total += weight[i] = exp(weight[i] - high);
    for (uint32_t d = 0; d < dim; d++) {
        out[d] = 0.0;
        for (uint32_t i = 0; i < n; i++)
            out[d] += weight[i] / total * (double)v[(size_t)i * dim + d];
    }
    free(weight);
}

uint32_t reference_half_word(uint32_t pair)
{
    /* Of 64 values four lanes have eight words each: of each 16 values two. */
    uint32_t quarter = pair % 32 / 8, in = pair % 8;
    return pair / 32 * 32 + in % 4 * 8 + quarter * 2 + in / 4;
}
