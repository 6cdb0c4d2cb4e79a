/* Weights for the tile form (shaders/matvec_tile.comp): tiles of 16 rows, each in units of 64
 * columns, laid out so that a lane of a subgroup of 32 loads what it multiplies. With g = lane / 4
 * and j = lane % 4 a lane holds, of each 16 columns, rows g and g + 8, columns 2 j, 2 j + 1, 2 j +
 * 8, 2 j + 9.
 *
 * Planes, each [tile][unit], padding rows and columns zero:
 *   main     f16: 4 x [lane] 16 bytes; 8 bits (+ 128): 2 x [lane] 16 bytes; else 4 bits: [lane] 16
 *            bytes
 *   high     bits above the fourth: [lane] 8 bytes of 2-bit or 4 bytes of 1-bit fields
 *   scales   f16s, [g] 8 or 16 bytes: row g, row g + 8; a word a row: its two blocks of 32; two
 *            words: for each such block (scale, minimum), or the scales of four blocks of 16
 *   factors  [tile][row] f32, a power of two: what the sums of the row are multiplied by. Scales
 *            are divided by it, and multiplied by what the place of the integers is worth */
#ifndef VLY_MODEL_REPACK_TILE_H
#define VLY_MODEL_REPACK_TILE_H

#include "gguf/formats.h"
#include "shaders/shared.h"

/* Bytes of the planes, for one unit of one tile; of the factors, for a tile. */
typedef struct {
    uint32_t id; /* VLY_TILE_... */
    uint32_t main, high, scales, factors;
} vly_tile_layout;

/* How weights of a format lie in tiles: those without a layout of their own become f16. */
const vly_tile_layout *vly_tile_layout_of(vly_format_id format);

/* Where the planes of a tile go. */
typedef struct {
    uint8_t *main, *high, *scales, *factors;
} vly_tile_planes;

/* Lays one tile out: `row` [16] as they lie in the file (NULL: zeros) with `columns` weights each
 * of `format`. `scratch`: 16 * columns floats. */
void vly_tile_repack(vly_format_id format, const uint8_t *const row[VLY_TILE_ROWS],
                     uint32_t columns, float *scratch, const vly_tile_planes *planes);

#endif
