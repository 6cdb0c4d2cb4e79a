/* Floats, and the formats with an f16 scale for each 32 weights. */
#include "gguf/dequantize_internal.h"

#include <string.h>

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
    for (size_t i = 0; i < n_blocks; i++) out[i] = vly_f16_to_f32(load_u16(p + 2 * i));
}

void vly_dequantize_bf16(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    for (size_t i = 0; i < n_blocks; i++) out[i] = vly_bf16_to_f32(load_u16(p + 2 * i));
}

/* f16 scale, 32 signed bytes. */
void vly_unpack_q8_0(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    out->scale = load_u16(p);
    memcpy(out->code, p + 2, 32);
}

void vly_dequantize_q8_0(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    for (size_t i = 0; i < n_blocks; i++, p += 34, out += 32) {
        float scale = vly_f16_to_f32(load_u16(p));
        for (int j = 0; j < 32; j++) out[j] = scale * (float)(int8_t)p[2 + j];
    }
}

/* f16 scale, nibbles: scale * (q - 8). */
void vly_unpack_q4_0(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    out->scale = load_u16(p);
    unpack_nibbles(p + 2, out->code);
}

void vly_dequantize_q4_0(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 18, out += 32) {
        vly_unpack_q4_0(p, &c);
        scale_codes(c.code, 32, 8, vly_f16_to_f32(c.scale), 0.0f, out);
    }
}

/* f16 scale, f16 value of 0, nibbles: scale * q + value. */
void vly_unpack_q4_1(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    out->scale = load_u16(p);
    out->minimum = load_u16(p + 2);
    unpack_nibbles(p + 4, out->code);
}

void vly_dequantize_q4_1(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 20, out += 32) {
        vly_unpack_q4_1(p, &c);
        scale_codes(c.code, 32, 0, vly_f16_to_f32(c.scale), -vly_f16_to_f32(c.minimum), out);
    }
}

/* Nibbles, and the fifth bits of all 32 in order. */
static void unpack_5_bits(const uint8_t *fifth, const uint8_t *nibbles, uint8_t *code)
{
    uint32_t bits = (uint32_t)vly_load_le(fifth, 4);
    unpack_nibbles(nibbles, code);
    for (int i = 0; i < 32; i++) code[i] |= (uint8_t)((bits >> i & 1) << 4);
}

/* f16 scale, fifth bits, nibbles: scale * (q - 16). */
void vly_unpack_q5_0(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    out->scale = load_u16(p);
    unpack_5_bits(p + 2, p + 6, out->code);
}

void vly_dequantize_q5_0(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 22, out += 32) {
        vly_unpack_q5_0(p, &c);
        scale_codes(c.code, 32, 16, vly_f16_to_f32(c.scale), 0.0f, out);
    }
}

/* f16 scale, f16 value of 0, fifth bits, nibbles: scale * q + value. */
void vly_unpack_q5_1(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    out->scale = load_u16(p);
    out->minimum = load_u16(p + 2);
    unpack_5_bits(p + 4, p + 8, out->code);
}

void vly_dequantize_q5_1(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 24, out += 32) {
        vly_unpack_q5_1(p, &c);
        scale_codes(c.code, 32, 0, vly_f16_to_f32(c.scale), -vly_f16_to_f32(c.minimum), out);
    }
}
