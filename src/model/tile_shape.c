#include "model/tile_shape.h"

#include "model/repack_tile.h"

/* Subgroups of a product that a device is given at a time: 32 for each of 132 processors. Linked
 * ones have more registers, and some wait beside them. */
#define SUBGROUPS        4224u
#define LINKED_SUBGROUPS 3168u
#define MAX_WARPS        16u
#define MIN_WARPS        4u
#define TILE_COST        2u /* beginning and finishing a tile, in turns */

static uint32_t tiles_of(uint32_t rows)
{
    return (rows + VLY_TILE_ROWS - 1) / VLY_TILE_ROWS;
}

/* Tiles that a workgroup takes. */
static uint32_t waves_of(const vly_matrix *w, uint32_t rows, uint32_t warps, bool linked)
{
    uint32_t most = (linked ? LINKED_SUBGROUPS : SUBGROUPS) / warps;
    return (tiles_of(rows) + tiles_of(w->rows_beside) + most - 1) / most;
}

uint32_t vly_tile_groups(const vly_matrix *w, uint32_t rows, uint32_t warps, bool linked)
{
    uint32_t waves = waves_of(w, rows, warps, linked);
    return (tiles_of(rows) + waves - 1) / waves;
}

vly_tile_shape vly_tile_shape_of(const vly_matrix *w)
{
    uint32_t units = (w->blocks + 1) / 2;
    uint32_t layout = vly_tile_layout_of(w->format)->id, best = UINT32_MAX;
    /* As many bytes on their way as leave registers for 32 subgroups to a processor. */
    bool wide = layout == VLY_TILE_F16 || layout == VLY_TILE_Q6;
    vly_tile_shape shape = {0};
    for (uint32_t warps = MAX_WARPS; warps >= MIN_WARPS; warps /= 2) {
        uint32_t turns = (units + warps - 1) / warps;
        uint32_t cost = waves_of(w, w->rows, warps, false) * (turns + TILE_COST);
        if (cost >= best) continue;
        best = cost;
        shape = (vly_tile_shape){warps, wide || turns == 1 ? 1 : 2};
    }
    return shape;
}
