/* Weights for the tile form (shaders/matvec_tile.comp): tiles of 16 rows, each in units of 64
 * columns, laid out so that a lane of a subgroup of 32 loads what it multiplies. With g = lane / 4
 * and j = lane % 4 a lane holds, of each 16 columns, rows g and g + 8, columns 2 j, 2 j + 1, 2 j +
 * 8, 2 j + 9.
 *
 * Planes, each [tile][unit], padding rows and columns zero:
 *   main    f16: 4 x [lane] 16 bytes; 8 bits (+ 128): 2 x [lane] 16 bytes; else low 4 bits: [lane]
 * 16 bytes high    bits above the fourth: [lane] 8 bytes of 2-bit or 4 bytes of 1-bit fields scales
 * [g] 8 bytes: row g, row g + 8; what they hold is said in shaders/tile_layouts.glsl factors
 * [tile][unit / 4][g] 8 bytes: f16 pairs by which scales and minimums are multiplied */
#ifndef VLY_MODEL_REPACK_TILE_H
#define VLY_MODEL_REPACK_TILE_H

#include "gguf/formats.h"
#include "shaders/shared.h"

/* Bytes of the planes, for one unit of one tile (factors: for four). */
typedef struct {
    uint32_t id; /* VLY_TILE_... */
    uint32_t main, high, scales, factors;
    uint32_t unit_columns; /* weights that one unit, or the four that share factors, cover */
} vly_tile_layout;

/* How weights of a format lie in tiles: those without a layout of their own become f16. */
const vly_tile_layout *vly_tile_layout_of(vly_format_id format);

/* Where the planes of a tile go. */
typedef struct {
    uint8_t *main, *high, *scales, *factors;
} vly_tile_planes;

/* Lays one tile out: `row` [16] as they lie in the file (NULL: zeros) with `columns` weights each
 * of `format`. `values` is scratch of 16 * columns floats, for formats that become f16. */
void vly_tile_repack(vly_format_id format, const uint8_t *const row[VLY_TILE_ROWS],
                     uint32_t columns, float *values, const vly_tile_planes *planes);

#endif
