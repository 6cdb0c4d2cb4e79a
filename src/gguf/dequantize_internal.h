/* Shared by the families of block formats: dequantize.c, dequantize_k.c, dequantize_iq.c. */
#ifndef VLY_GGUF_DEQUANTIZE_INTERNAL_H
#define VLY_GGUF_DEQUANTIZE_INTERNAL_H

#include "gguf/cursor.h"
#include "gguf/dequantize.h"

static inline uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)vly_load_le(p, 2);
}

/* 16 bytes: the low nibbles are weights 0..15, the high ones 16..31. */
static inline void unpack_nibbles(const uint8_t *p, uint8_t *code)
{
    for (int i = 0; i < 16; i++) {
        code[i] = p[i] & 15;
        code[i + 16] = p[i] >> 4;
    }
}

/* scale * (code - offset) - minimum. The product is exact in every format: f16 scales have 11 bits,
 * what multiplies them and the codes at most 13. */
static inline void scale_codes(const uint8_t *code, int n, int offset, float scale, float minimum,
                               float *out)
{
    for (int i = 0; i < n; i++) out[i] = scale * (float)(code[i] - offset) - minimum;
}

#endif
