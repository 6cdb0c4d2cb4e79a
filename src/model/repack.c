#include "model/repack.h"

#include <string.h>

#define LAYOUT(name, low, high, scales, has_super, dot_shader)                                     \
    [VLY_FORMAT_##name] = {low,                                                                    \
                           high,                                                                   \
                           scales,                                                                 \
                           has_super,                                                              \
                           VLY_SHADER_embed_##name,                                                \
                           VLY_SHADER_matvec_lane_##name,                                          \
                           VLY_SHADER_program_lane_##name,                                         \
                           VLY_SHADER_matvec_group_##name,                                         \
                           dot_shader}
#define FLOATS(name, bits) LAYOUT(name, bits, 0, 0, false, -1)
#define CODES(name, low, high, scales, has_super)                                                  \
    LAYOUT(name, low, high, scales, has_super, VLY_SHADER_matvec_dot_##name)

/* Bits of a weight: low, high; bytes of 32 weights' scales; is there a word for each 256? */
static const vly_layout layouts[VLY_N_FORMATS] = {
    FLOATS(f32, 32),
    FLOATS(f16, 16),
    FLOATS(bf16, 16),
    CODES(q4_0, 4, 0, 2, false),
    CODES(q4_1, 4, 0, 4, false),
    CODES(q5_0, 4, 1, 2, false),
    CODES(q5_1, 4, 1, 4, false),
    CODES(q8_0, 8, 0, 2, false),
    CODES(q2_k, 2, 0, 2, true),
    CODES(q3_k, 2, 1, 2, true),
    CODES(q4_k, 4, 0, 2, true),
    CODES(q5_k, 4, 1, 2, true),
    CODES(q6_k, 4, 2, 2, true),
    CODES(iq4_nl, 4, 0, 2, false),
    CODES(iq4_xs, 4, 0, 1, true),
    CODES(iq3_s, 4, 0, 1, true),
    CODES(iq2_xxs, 2, 1, 1, true),
};

const vly_layout *vly_layout_of(vly_format_id format)
{
    return layouts[format].low_bits ? &layouts[format] : NULL;
}

uint32_t vly_layout_parts(const vly_layout *layout)
{
    return layout->low_bits > 4 ? layout->low_bits / 4 : 1;
}

uint64_t vly_layout_parts_bytes(const vly_layout *layout, uint64_t blocks)
{
    return (blocks * 4 * (layout->low_bits + layout->high_bits) + 15) / 16 * 16;
}

uint64_t vly_layout_scales_bytes(const vly_layout *layout, uint64_t blocks)
{
    uint64_t n_words = layout->super ? blocks / 8 : 0;
    return n_words * 4 + (blocks * layout->scale_bytes + 3) / 4 * 4;
}

/* Bits `shift` .. `shift + bits - 1` of 32 codes, as they lie in a plane of so many bits. */
static void pack_bits(const uint8_t *code, uint32_t shift, uint32_t bits, uint8_t *out)
{
    uint32_t n = 4 * bits;
    uint8_t mask = (uint8_t)((1u << bits) - 1);
    for (uint32_t i = 0; i < n; i++) out[i] = code[i] >> shift & mask;
    for (uint32_t turn = 1; turn < 8 / bits; turn++)
        for (uint32_t i = 0; i < n; i++)
            out[i] |= (uint8_t)((code[turn * n + i] >> shift & mask) << turn * bits);
}

static void put_u16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
}

static void repack_codes(const vly_layout *layout, const vly_format *format, const uint8_t *row,
                         uint32_t blocks, uint8_t *parts, uint8_t *scales)
{
    uint32_t n = format->block_weights / 32, low = layout->low_bits, high = layout->high_bits;
    uint8_t *factors = scales + (layout->super ? blocks / 8 * 4 : 0);
    vly_codes c = {0};
    for (uint32_t b = 0; b < blocks; b += n, row += format->block_bytes) {
        format->unpack(row, &c);
        for (uint32_t i = 0; i < n; i++) {
            pack_bits(c.code + 32 * i, 0, low, parts + (b + i) * 4 * low);
            if (high)
                pack_bits(c.code + 32 * i, low, high,
                          parts + blocks * 4 * low + (b + i) * 4 * high);
        }
        uint8_t *f16 = layout->super ? scales + b / 8 * 4 : scales + b * layout->scale_bytes;
        put_u16(f16, c.scale);
        if (layout->super || layout->scale_bytes == 4) put_u16(f16 + 2, c.minimum);
        if (layout->super)
            memcpy(factors + b * layout->scale_bytes, c.factor, n * layout->scale_bytes);
    }
}

void vly_repack_row(vly_format_id format, const uint8_t *row, uint32_t columns, uint8_t *parts,
                    uint8_t *scales)
{
    const vly_layout *layout = vly_layout_of(format);
    const vly_format *f = vly_format_by_id(format);
    uint32_t blocks = (columns + 31) / 32;
    size_t scales_used = (size_t)blocks * layout->scale_bytes;
    size_t n_parts = vly_layout_parts_bytes(layout, blocks);
    size_t n_scales = vly_layout_scales_bytes(layout, blocks);
    size_t used = f->unpack ? (size_t)blocks * 4 * (layout->low_bits + layout->high_bits)
                            : (size_t)columns * f->block_bytes;
    memset(parts + used, 0, n_parts - used);
    if (!layout->super) memset(scales + scales_used, 0, n_scales - scales_used);
    if (!f->unpack)
        memcpy(parts, row, used);
    else
        repack_codes(layout, f, row, blocks, parts, scales);
}
