/* Tensor formats: one table (formats.def), and the values of their blocks on the CPU. */
#ifndef VLY_GGUF_FORMATS_H
#define VLY_GGUF_FORMATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Volley's own dense numbers for the formats, in the table's order. */
typedef enum {
#define VLY_FORMAT(name, ggml_id, block_weights, block_bytes, n_scales, scale_at, kind)            \
    VLY_FORMAT_##name,
#include "gguf/formats.def"
#undef VLY_FORMAT
    VLY_N_FORMATS
} vly_format_id;

/* The integers of a block of up to 256 weights. What they stand for differs: dequantize*.c. */
typedef struct {
    uint8_t code[256];  /* one for each weight, in order; bytes of two's complement in q8_0 */
    uint8_t factor[16]; /* blocks of 256: what multiplies the scales of parts of the block */
    uint16_t scale;     /* f16 bits */
    uint16_t minimum;   /* f16 bits, of the formats that have one */
} vly_codes;

typedef struct {
    vly_format_id id;
    const char *name; /* lower case, as in formats.def: "q8_0" */
    uint32_t ggml_id;
    uint32_t block_weights; /* weights in a block; a row is a whole number of blocks */
    uint32_t block_bytes;
    uint32_t
        n_scales; /* f16 numbers of a block that scale its weights: 0..2, one behind the other */
    uint32_t scale_at; /* the first one's place in the block, in bytes */
    /* Values of `n_blocks` blocks at `blocks` (unaligned) to `out` [n_blocks * block_weights]; NULL
     * where Volley does not compute with the format. */
    void (*dequantize)(const void *blocks, size_t n_blocks, float *out);
    /* The integers of one block (unaligned); NULL where weights are floats, and where `dequantize`
     * is. */
    void (*unpack)(const void *block, vly_codes *out);
} vly_format;

/* NULL for a number that the table does not have. */
const vly_format *vly_format_by_ggml_id(uint32_t ggml_id);
const vly_format *vly_format_by_id(vly_format_id id);

/* Are the weights of `n_blocks` blocks at `blocks` (unaligned) numbers, neither NaN nor infinite?
 * Looks at floats and at f16 scales; what a format has besides is not looked at. */
bool vly_format_finite(const vly_format *format, const void *blocks, size_t n_blocks);

/* How far weights reach, for whoever computes with them as f16, in which numbers from 65520 on are
 * infinite and those below 2^-14 have ever fewer bits. Of several rows together: with |. */
enum {
    VLY_RANGE_HIGH = 1,   /* one may be 32768 or more */
    VLY_RANGE_MIDDLE = 2, /* one is 2^-13 or more, or may be */
    VLY_RANGE_LOW = 4     /* one is not 0 */
};
unsigned vly_format_range(const vly_format *format, const void *blocks, size_t n_blocks);

/* Does f16 have them, the small ones beside large ones with the precision of those? */
bool vly_range_is_f16(unsigned range);

/* The names of the formats that Volley computes with, "f32, f16, ...", for messages. Static. */
const char *vly_format_computable_names(void);

/* IEEE half and bfloat16 bits to float; half rounds to nearest even on the way back. */
float vly_f16_to_f32(uint16_t bits);
uint16_t vly_f32_to_f16(float value);
float vly_bf16_to_f32(uint16_t bits);

#endif
