/* The K formats: blocks of 256, with an f16 scale (and one for the minimums), and integers that
 * multiply it for each 16 or 32 weights. */
#include "gguf/dequantize_internal.h"

/* Each 128 weights are 2 bits of 32 bytes: 32 weights in the lowest bits, 32 in the next, ... */
static void unpack_2_bits(const uint8_t *p, uint8_t *code)
{
    for (int j = 0; j < 8; j++, code += 32)
        for (int i = 0; i < 32; i++) code[i] = p[j / 4 * 32 + i] >> (j % 4 * 2) & 3;
}

/* A bit of each of 32 bytes makes 32 weights; the lowest bits are weights 0..31. */
static void add_bits(const uint8_t *p, int shift, uint8_t *code)
{
    for (int j = 0; j < 8; j++, code += 32)
        for (int i = 0; i < 32; i++) code[i] |= (uint8_t)((p[i] >> j & 1) << shift);
}

/* Each 64 weights are the nibbles of 32 bytes: first the low ones, then the high ones. */
static void unpack_long_nibbles(const uint8_t *p, uint8_t *code)
{
    for (int j = 0; j < 8; j++, code += 32)
        for (int i = 0; i < 32; i++) code[i] = p[j / 2 * 32 + i] >> (j % 2 * 4) & 15;
}

/* 16 bytes (for each 16 weights the factor of the scale, and above it that of the minimum), 2 bits
 * a weight, f16 scale, f16 scale of the minimums. */
void vly_unpack_q2_k(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    for (int i = 0; i < 16; i++) out->factor[i] = p[i];
    unpack_2_bits(p + 16, out->code);
    out->scale = load_u16(p + 80);
    out->minimum = load_u16(p + 82);
}

void vly_dequantize_q2_k(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 84, out += 256) {
        vly_unpack_q2_k(p, &c);
        float scale = vly_f16_to_f32(c.scale), minimum = vly_f16_to_f32(c.minimum);
        for (int j = 0; j < 16; j++)
            scale_codes(c.code + 16 * j, 16, 0, scale * (float)(c.factor[j] & 15),
                        minimum * (float)(c.factor[j] >> 4), out + 16 * j);
    }
}

/* Third bits, 2 bits a weight, 16 factors of 6 bits less 32 in 12 bytes, f16 scale. */
void vly_unpack_q3_k(const void *block, vly_codes *out)
{
    const uint8_t *p = block, *factors = p + 96;
    unpack_2_bits(p + 32, out->code);
    add_bits(p, 2, out->code);
    for (int i = 0; i < 16; i++) {
        int low = factors[i % 8] >> (i / 8 * 4) & 15, high = factors[8 + i % 4] >> (i / 4 * 2) & 3;
        out->factor[i] = (uint8_t)((low | high << 4) - 32);
    }
    out->scale = load_u16(p + 108);
}

void vly_dequantize_q3_k(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 110, out += 256) {
        vly_unpack_q3_k(p, &c);
        for (int j = 0; j < 16; j++)
            scale_codes(c.code + 16 * j, 16, 4,
                        vly_f16_to_f32(c.scale) * (float)(int8_t)c.factor[j], 0.0f, out + 16 * j);
    }
}

/* 12 bytes with 8 factors of the scale and 8 of the minimum, 6 bits each: the first four of both in
 * a byte each, whose upper two bits are those of the last four. */
static void unpack_factors(const uint8_t *p, uint8_t *factor)
{
    for (int i = 0; i < 4; i++) {
        factor[2 * i] = p[i] & 63;
        factor[2 * i + 1] = p[4 + i] & 63;
        factor[8 + 2 * i] = (uint8_t)((p[8 + i] & 15) | p[i] >> 6 << 4);
        factor[9 + 2 * i] = (uint8_t)(p[8 + i] >> 4 | p[4 + i] >> 6 << 4);
    }
}

static void dequantize_32(const vly_codes *c, float *out)
{
    float scale = vly_f16_to_f32(c->scale), minimum = vly_f16_to_f32(c->minimum);
    for (int j = 0; j < 8; j++)
        scale_codes(c->code + 32 * j, 32, 0, scale * (float)c->factor[2 * j],
                    minimum * (float)c->factor[2 * j + 1], out + 32 * j);
}

/* f16 scale, f16 scale of the minimums, factors, nibbles. */
void vly_unpack_q4_k(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    out->scale = load_u16(p);
    out->minimum = load_u16(p + 2);
    unpack_factors(p + 4, out->factor);
    unpack_long_nibbles(p + 16, out->code);
}

void vly_dequantize_q4_k(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 144, out += 256) {
        vly_unpack_q4_k(p, &c);
        dequantize_32(&c, out);
    }
}

/* The same with fifth bits before the nibbles. */
void vly_unpack_q5_k(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    out->scale = load_u16(p);
    out->minimum = load_u16(p + 2);
    unpack_factors(p + 4, out->factor);
    unpack_long_nibbles(p + 48, out->code);
    add_bits(p + 16, 4, out->code);
}

void vly_dequantize_q5_k(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 176, out += 256) {
        vly_unpack_q5_k(p, &c);
        dequantize_32(&c, out);
    }
}

/* Nibbles (each 128 weights are those of 64 bytes, first the low ones), the bits above them as in
 * Q2_K, 16 signed factors, f16 scale. */
void vly_unpack_q6_k(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    unpack_2_bits(p + 128, out->code);
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 64; i++) {
            uint8_t *code = out->code + 64 * j + i;
            *code = (uint8_t)((p[j / 2 * 64 + i] >> (j % 2 * 4) & 15) | *code << 4);
        }
    for (int i = 0; i < 16; i++) out->factor[i] = p[192 + i];
    out->scale = load_u16(p + 208);
}

void vly_dequantize_q6_k(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 210, out += 256) {
        vly_unpack_q6_k(p, &c);
        for (int j = 0; j < 16; j++)
            scale_codes(c.code + 16 * j, 16, 32,
                        vly_f16_to_f32(c.scale) * (float)(int8_t)c.factor[j], 0.0f, out + 16 * j);
    }
}
