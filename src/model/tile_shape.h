/* How a product on matrix units (shaders/matvec_tile.comp) is shared out. */
#ifndef VLY_MODEL_TILE_SHAPE_H
#define VLY_MODEL_TILE_SHAPE_H

#include "model/weights.h"

/* `warps` subgroups share a tile and have `depth` units under way each; a workgroup takes tiles in
 * turn, so that the first weights of the next one are on their way while one is finished. */
typedef struct {
    uint32_t warps, depth;
} vly_tile_shape;

/* The shape with the fewest turns from begin to end. It depends on the model alone, because the
 * order of sums depends on it. */
vly_tile_shape vly_tile_shape_of(const vly_matrix *matrix);

/* Workgroups for so many rows of the matrix, in a step that is linked to a neighbour or not: each
 * takes as many tiles as the others, or one less. */
uint32_t vly_tile_groups(const vly_matrix *matrix, uint32_t rows, uint32_t warps, bool linked);

#endif
