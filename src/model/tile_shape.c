#include "model/tile_shape.h"

#include "model/repack_tile.h"

#define SUBGROUPS 4224u /* of a product that a device is given at a time: 32 for each of 132 */
#define MAX_WARPS 16u
#define MIN_WARPS 4u
#define TILE_COST 2u /* beginning and finishing a tile, in turns */

uint32_t vly_tile_groups(uint32_t tiles, uint32_t warps)
{
    uint32_t most = SUBGROUPS / warps, waves = (tiles + most - 1) / most;
    return (tiles + waves - 1) / waves;
}

vly_tile_shape vly_tile_shape_of(const vly_matrix *w)
{
    uint32_t tiles = (w->rows + VLY_TILE_ROWS - 1) / VLY_TILE_ROWS, units = (w->blocks + 1) / 2;
    uint32_t layout = vly_tile_layout_of(w->format)->id, best = UINT32_MAX;
    /* As many bytes on their way as leave registers for 32 subgroups to a processor. */
    bool wide = layout == VLY_TILE_F16 || layout == VLY_TILE_Q8 || layout == VLY_TILE_Q6;
    vly_tile_shape shape = {0};
    for (uint32_t warps = MAX_WARPS; warps >= MIN_WARPS; warps /= 2) {
        uint32_t groups = vly_tile_groups(tiles, warps), waves = (tiles + groups - 1) / groups;
        uint32_t turns = (units + warps - 1) / warps, cost = waves * (turns + TILE_COST);
        if (cost >= best) continue;
        best = cost;
        shape = (vly_tile_shape){warps, wide || turns == 1 ? 1 : 2};
    }
    return shape;
}
