/* The IQ formats: integers that stand for values of a table, or of whole groups of weights. */
#include "gguf/dequantize_internal.h"
#include "gguf/grids.h"

const int8_t vly_values_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};
const int8_t vly_values_iq3_s[16] = {-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15};
const int8_t vly_values_iq2_xxs[8] = {8, 25, 43, 0, -8, -25, -43, 0}; /* no code is 3 or 7 */

/* f16 scale, nibbles: scale * value. */
void vly_unpack_iq4_nl(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    out->scale = load_u16(p);
    unpack_nibbles(p + 2, out->code);
}

void vly_dequantize_iq4_nl(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 18, out += 32) {
        vly_unpack_iq4_nl(p, &c);
        for (int j = 0; j < 32; j++)
            out[j] = vly_f16_to_f32(c.scale) * (float)vly_values_iq4[c.code[j]];
    }
}

/* f16 scale, 8 factors of 6 bits less 32 (the upper 2 bits of all in 2 bytes, then the nibbles),
 * nibbles of each 32 weights. */
void vly_unpack_iq4_xs(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    uint32_t high = load_u16(p + 2);
    out->scale = load_u16(p);
    for (int i = 0; i < 8; i++) {
        uint32_t low = p[4 + i / 2] >> (i % 2 * 4) & 15;
        out->factor[i] = (uint8_t)((low | (high >> 2 * i & 3) << 4) - 32);
        unpack_nibbles(p + 8 + 16 * i, out->code + 32 * i);
    }
}

void vly_dequantize_iq4_xs(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 136, out += 256) {
        vly_unpack_iq4_xs(p, &c);
        for (int j = 0; j < 256; j++)
            out[j] = vly_f16_to_f32(c.scale) * (float)(int8_t)c.factor[j / 32] *
                     (float)vly_values_iq4[c.code[j]];
    }
}

/* f16 scale, 64 numbers of groups of 4 (their lower 8 bits, then 64 ninth bits), 256 signs, 8
 * nibbles n: scale * (2 n + 1) * magnitude. The codes count the odd numbers -15, -13, ... 15. */
void vly_unpack_iq3_s(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    out->scale = load_u16(p);
    for (int i = 0; i < 64; i++) {
        uint32_t entry = vly_grid_iq3_s[p[2 + i] | (p[66 + i / 8] >> (i % 8) & 1) << 8];
        for (int j = 0; j < 4; j++) {
            int magnitude = entry >> 4 * j & 7, weight = 4 * i + j;
            bool negative = p[74 + weight / 8] >> (weight % 8) & 1;
            out->code[weight] = (uint8_t)(negative ? 7 - magnitude : 8 + magnitude);
        }
    }
    for (int i = 0; i < 8; i++)
        out->factor[i] = (uint8_t)(2 * (p[106 + i / 2] >> (i % 2 * 4) & 15) + 1);
}

void vly_dequantize_iq3_s(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 110, out += 256) {
        vly_unpack_iq3_s(p, &c);
        for (int j = 0; j < 256; j++)
            out[j] = vly_f16_to_f32(c.scale) * (float)c.factor[j / 32] *
                     (float)vly_values_iq3_s[c.code[j]];
    }
}

/* f16 scale; for each 32 weights 4 bytes, the numbers of groups of 8, and a word: 7 signs for each
 * group, the eighth such that an even number of them are minus, and a nibble n on top: scale *
 * (2 n + 1) / 8 * magnitude. A code is the magnitude's number, and 4 for minus. */
void vly_unpack_iq2_xxs(const void *block, vly_codes *out)
{
    const uint8_t *p = block;
    out->scale = load_u16(p);
    for (int i = 0; i < 32; i++) {
        const uint8_t *part = p + 2 + i / 4 * 8;
        uint32_t entry = vly_grid_iq2_xxs[part[i % 4]];
        uint32_t signs = (uint32_t)vly_load_le(part + 4, 4) >> (i % 4 * 7) & 127;
        signs |= (uint32_t)(__builtin_popcount(signs) & 1) << 7;
        for (int j = 0; j < 8; j++)
            out->code[8 * i + j] = (uint8_t)((entry >> 2 * j & 3) | (signs >> j & 1) << 2);
        out->factor[i / 4] = (uint8_t)(2 * (part[7] >> 4) + 1);
    }
}

void vly_dequantize_iq2_xxs(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *p = blocks;
    vly_codes c;
    for (size_t i = 0; i < n_blocks; i++, p += 66, out += 256) {
        vly_unpack_iq2_xxs(p, &c);
        for (int j = 0; j < 256; j++)
            out[j] = vly_f16_to_f32(c.scale) * 0.125f * (float)c.factor[j / 32] *
                     (float)vly_values_iq2_xxs[c.code[j]];
    }
}
