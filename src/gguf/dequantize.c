#include "gguf/dequantize.h"

#include "gguf/cursor.h"
#include "gguf/formats.h"

#include <string.h>

static float load_f16(const uint8_t *p)
{
    return vly_f16_to_f32((uint16_t)vly_load_le(p, 2));
}

void vly_dequantize_f32(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    for (size_t i = 0; i < n_blocks; i++) {
        uint32_t bits = (uint32_t)vly_load_le(p + 4 * i, 4);
        memcpy(&out[i], &bits, sizeof bits);
    }
}

void vly_dequantize_f16(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    for (size_t i = 0; i < n_blocks; i++) out[i] = load_f16(p + 2 * i);
}

void vly_dequantize_bf16(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    for (size_t i = 0; i < n_blocks; i++)
        out[i] = vly_bf16_to_f32((uint16_t)vly_load_le(p + 2 * i, 2));
}

/* f16 scale, 32 signed bytes: scale * q. */
void vly_dequantize_q8_0(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    for (size_t i = 0; i < n_blocks; i++, p += 34, out += 32) {
        float scale = load_f16(p);
        for (int j = 0; j < 32; j++) out[j] = scale * (float)(int8_t)p[2 + j];
    }
}

/* f16 scale, 16 bytes: the low nibbles are weights 0..15, the high ones 16..31: scale * (q - 8). */
void vly_dequantize_q4_0(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    for (size_t i = 0; i < n_blocks; i++, p += 18, out += 32) {
        float scale = load_f16(p);
        for (int j = 0; j < 16; j++) {
            out[j] = scale * (float)((p[2 + j] & 15) - 8);
            out[j + 16] = scale * (float)((p[2 + j] >> 4) - 8);
        }
    }
}
