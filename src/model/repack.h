/* How weights lie on the device: docs/kernels.md, "Weights". A matrix is two planes, in each of
 * which row follows row:
 *
 *   parts   the low bits of the row's weights, 16 bytes after 16 bytes, then, for formats with more
 *           bits, the rest of their bits; padded to 16 bytes
 *   scales  of blocks of 256: a word for each (f16 scale, f16 scale of the minimums); then bytes
 * for each 32 weights: f16 numbers, or factors of those in the words; padded to 4 bytes
 *
 * Where weights have b bits in a plane, 32 of them are b words: the bits of weights 4 j .. 4 j + 3
 * are in the four bytes of word j % b, shifted up by b * (j / b). Rows are padded with zeros to
 * whole blocks of 32 weights. Shaders: quant/format.glsl. */
#ifndef VLY_MODEL_REPACK_H
#define VLY_MODEL_REPACK_H

#include "gguf/formats.h"
#include "gpu/gpu.h"

typedef struct {
    uint32_t low_bits, high_bits;    /* of a weight: in the row's parts, and behind them */
    uint32_t scale_bytes;            /* of 32 weights */
    bool super;                      /* a word for each 256 weights before those */
    int embed, lane, program, group; /* shaders: vly_shader_id */
    int dot;                         /* the same as `group` with 8-bit dot products; -1: none */
} vly_layout;

/* NULL where Volley does not compute with the format. */
const vly_layout *vly_layout_of(vly_format_id format);

/* What a lane takes at a time: this many parts of 32 weights, 1 to 8. */
uint32_t vly_layout_parts(const vly_layout *layout);

/* Bytes of a row of `blocks` times 32 weights in each plane: multiples of 16 and of 4. */
uint64_t vly_layout_parts_bytes(const vly_layout *layout, uint64_t blocks);
uint64_t vly_layout_scales_bytes(const vly_layout *layout, uint64_t blocks);

/* Lays out one row of `columns` weights at `row` (file format, a whole number of its blocks) in
 * `parts` [vly_layout_parts_bytes] and `scales` [vly_layout_scales_bytes], for ceil(columns / 32)
 * blocks. */
void vly_repack_row(vly_format_id format, const uint8_t *row, uint32_t columns, uint8_t *parts,
                    uint8_t *scales);

#endif
