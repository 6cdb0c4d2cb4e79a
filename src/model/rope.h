/* Rotary embedding: Su et al., arXiv 2104.09864. Kernels rotate neighbouring numbers of a head,
 * pair i at position pos by the (cos, sin) of a table; what families and scalings differ in is in
 * the table and in the order in which rows of Q and K are uploaded. */
#ifndef VLY_MODEL_ROPE_H
#define VLY_MODEL_ROPE_H

#include "gguf/gguf.h"
#include "model/arch.h"

typedef enum {
    VLY_ROPE_SCALING_NONE,
    VLY_ROPE_SCALING_LINEAR, /* positions / factor: Chen et al., arXiv 2306.15595 */
    VLY_ROPE_SCALING_YARN,   /* Peng et al., arXiv 2309.00071, section 3 */
    VLY_ROPE_SCALING_LLAMA3  /* long waves / factor, short ones as they are: Llama 3.1 */
} vly_rope_scaling;

typedef struct {
    vly_rope_kind kind;
    uint32_t head_size, head_dim; /* numbers of a head in the file, on the device */
    uint32_t n_rotated;           /* the first numbers of a head; even */
    float base;
    vly_rope_scaling scaling;
    float factor;                            /* >= 1 as a rule; > 0 */
    uint32_t n_ctx_original;                 /* what the model was made for before it was scaled */
    float magnitude;                         /* YaRN: cos and sin are multiplied by it */
    float ramp, beta_fast, beta_slow;        /* YaRN; ramp: its weight, 1 */
    float low_freq_factor, high_freq_factor; /* llama3 */
} vly_rope;

/* Reads "PREFIX.rope.*" of a model with heads of `head_size` and a context of `n_ctx`. VLY_E_FORMAT
 * (a number out of range: names the key), VLY_E_UNSUPPORTED (another scaling). */
int vly_rope_read(const vly_gguf *gguf, const char *prefix, vly_rope_kind kind, uint32_t head_size,
                  uint32_t n_ctx, vly_rope *out, vly_error *err);

/* Radians a position of each pair of a head, to `out` [n_rotated / 2]. `divisors` of the same shape
 * (the tensor rope_freqs), NULL: none. */
void vly_rope_frequencies(const vly_rope *rope, const float *divisors, double *out);

/* The table's row of a position: (cos, sin) of each pair, to `out` [head_dim / 2][2]. Pairs that
 * are not rotated are (1, 0). All are longer by as much as makes up for that attention divides by
 * the root of head_dim and not of head_size. */
void vly_rope_row(const vly_rope *rope, const double *frequencies, uint32_t pos, float *out);

/* Which number of a head, as the file has it, is number i on the device; head_size and more: none,
 * but zero. */
uint32_t vly_rope_source(const vly_rope *rope, uint32_t i);

#endif
