/* What the kernels mean, in plain C: sums in double, one loop for each. Also the data that tests of
 * kernels run on. */
#ifndef TESTS_REFERENCE_H
#define TESTS_REFERENCE_H

#include "gguf/formats.h"

#include <stddef.h>
#include <stdint.h>

/* ---- Data ---- */

/* Numbers that look random and are the same everywhere; the state is any number. */
uint64_t reference_random(uint64_t *state);
/* Roughly normal, of standard deviation 1, and within 6 of 0. */
float reference_normal(uint64_t *state);
void reference_normals(uint64_t *state, float *out, size_t n);

/* A matrix of `rows` rows of `k` weights (a multiple of 32 and of the format's block) in `format`.
 */
typedef struct {
    vly_format_id format;
    uint32_t rows, k;
    float *w;       /* [rows][k]: the values that the blocks stand for */
    uint8_t *parts; /* as model/repack.c lays it out: [rows][n_part_bytes / rows] */
    uint8_t *scales;
    size_t n_part_bytes, n_scale_bytes;
} reference_matrix;

/* Random blocks, among them ones of extreme quants and of scale 0. Freed by reference_matrix_free.
 */
reference_matrix reference_matrix_make(uint64_t *state, vly_format_id format, uint32_t rows,
                                       uint32_t k);
void reference_matrix_free(reference_matrix *matrix);

/* ---- Meanings ---- */

/* sum w[i] x[i]; *size (may be NULL) gets sum |w[i] x[i]|, what the rounding of sums goes by. */
double reference_dot(const float *w, const float *x, size_t n, double *size);

/* 1 / sqrt(mean of x^2 + epsilon), from the sum of the squares. */
double reference_norm_factor(double squares, uint32_t dim, double epsilon);

double reference_silu(double x);

/* An int8 K or V of one token: its scale as stored (f16 bits) and its quants. */
uint16_t reference_kv_scale(const float *v, uint32_t n);
void reference_kv_quantize(const float *v, uint32_t n, float scale, int8_t *out);

/* out[d] = sum over positions of softmax(scale q . k) v[d]; k and v are [n][dim]. */
void reference_attention(const float *q, const float *k, const float *v, uint32_t n, uint32_t dim,
                         double scale, double *out);

/* Where matrix units read a pair of neighbours of x: its word (half_word of shaders/common.glsl).
 */
uint32_t reference_half_word(uint32_t pair);

#endif
