/* How weights lie on the device. A matrix is two planes: parts (16 bytes each, a row after the
 * other) and, for formats with block scales, the f16 scales. Shaders: quant/format.glsl. Rows are
 * padded with zeros to whole blocks of 32 weights. */
#ifndef VLY_MODEL_REPACK_H
#define VLY_MODEL_REPACK_H

#include "gguf/formats.h"
#include "gpu/gpu.h"

typedef struct {
    uint32_t parts;         /* 16-byte parts in 32 weights */
    uint32_t scale_bytes;   /* of 32 weights: 0 or 2 */
    int embed, lane, group; /* shaders: vly_shader_id */
    int dot;                /* the same as `group` with 8-bit dot products; -1: none */
} vly_layout;

/* NULL where Volley does not compute with the format. */
const vly_layout *vly_layout_of(vly_format_id format);

/* Lays out one row of `columns` weights at `row` (file format) as `parts` [blocks * layout.parts *
 * 16] and `scales` [blocks * layout.scale_bytes], blocks = ceil(columns / 32). */
void vly_repack_row(vly_format_id format, const uint8_t *row, uint32_t columns, uint8_t *parts,
                    uint8_t *scales);

#endif
