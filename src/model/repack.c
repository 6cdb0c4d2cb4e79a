#include "model/repack.h"

#include <string.h>

#define LAYOUT(name, n_parts, n_scale_bytes, dot_shader)                                           \
    [VLY_FORMAT_##name] = {n_parts,                                                                \
                           n_scale_bytes,                                                          \
                           VLY_SHADER_embed_##name,                                                \
                           VLY_SHADER_matvec_lane_##name,                                          \
                           VLY_SHADER_matvec_group_##name,                                         \
                           dot_shader}

static const vly_layout layouts[VLY_N_FORMATS] = {
    LAYOUT(f32, 8, 0, -1),
    LAYOUT(f16, 4, 0, -1),
    LAYOUT(bf16, 4, 0, -1),
    LAYOUT(q8_0, 2, 2, VLY_SHADER_matvec_dot_q8_0),
    LAYOUT(q4_0, 1, 2, VLY_SHADER_matvec_dot_q4_0),
};

const vly_layout *vly_layout_of(vly_format_id format)
{
    return layouts[format].parts ? &layouts[format] : NULL;
}

void vly_repack_row(vly_format_id format, const uint8_t *row, uint32_t columns, uint8_t *parts,
                    uint8_t *scales)
{
    const vly_layout *layout = vly_layout_of(format);
    const vly_format *f = vly_format_by_id(format);
    size_t blocks = (columns + 31u) / 32u, part_bytes = layout->parts * 16u;
    if (layout->scale_bytes == 0) {
        size_t n = (size_t)columns * f->block_bytes;
        memcpy(parts, row, n);
        memset(parts + n, 0, blocks * part_bytes - n);
        return;
    }
    /* Q8_0, Q4_0: the scale first, then the quants in the order that the shader wants. */
    for (size_t b = 0; b < blocks; b++, row += f->block_bytes) {
        memcpy(scales + 2 * b, row, 2);
        memcpy(parts + b * part_bytes, row + 2, part_bytes);
    }
}
