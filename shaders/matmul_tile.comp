// Y = W X on matrix units for the many tokens of a prompt: as matvec_tile.comp, but a subgroup takes ROW_TILES
// tiles of 16 rows and all of K by itself, for GROUPS groups of 8 columns, so that a weight is unpacked once
// for many of them. Sums run over K in one order; they differ from matvec_tile's in that no subgroups share
// them, and depend on nothing else in the step.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#define VLY_TEXEL 0
#define HALF_X 1
#include "matrix.glsl"
#include "common.glsl"
#include "matvec.glsl"
#include "tile_layouts.glsl"

#define ROW_TILES 2 // of a subgroup
#define GROUPS    8 // of columns, of a subgroup
#define ROW_WARPS 4 // subgroups of a workgroup along the rows; 2 along the columns
#define WIDE      VLY_MATMUL_COLUMNS // columns of a workgroup: 2 * 8 * GROUPS

layout(buffer_reference, buffer_reference_align = 16) readonly buffer RefX { uvec4 at[]; };

shared float shared_factor[WIDE];

matrix_sum sum[ROW_TILES * GROUPS];

void multiply(uint first_tile, uint first_column, uint units)
{
    uint lane = gl_SubgroupInvocationID, last = tiles() - 1u, x_at[GROUPS];
    [[unroll]] for (uint c = 0; c < GROUPS; c++)
        x_at[c] = p.in_quad + min(first_column + c * 8u + lane / 4u, VLY_MAX_CHUNK - 1u) * p.in_stride + lane % 4u * 2u;
    tile_unit w[ROW_TILES];
    [[unroll]] for (uint r = 0; r < ROW_TILES; r++) load_unit(min(first_tile + r, last), 0u, units, w[r]);
    for (uint unit = 0; unit < units; unit++) {
        tile_unit next[ROW_TILES];
        [[unroll]] for (uint r = 0; r < ROW_TILES; r++)
            load_unit(min(first_tile + r, last), min(unit + 1u, units - 1u), units, next[r]);
        [[unroll]] for (uint half_ = 0; half_ < 2u; half_++) {
            uvec4 x[GROUPS];
            [[unroll]] for (uint c = 0; c < GROUPS; c++) x[c] = RefX(uvec2(p.act)).at[x_at[c] + unit * 8u + half_];
            [[unroll]] for (uint i = 0; i < 2u; i++) {
                matrix_w a[ROW_TILES];
                [[unroll]] for (uint r = 0; r < ROW_TILES; r++) unpack(w[r], half_ * 2u + i, a[r]);
                [[unroll]] for (uint c = 0; c < GROUPS; c++) {
                    matrix_x b;
                    f16vec2 low = halves(x[c][i * 2]), high = halves(x[c][i * 2 + 1]);
                    b[0] = low.x;
                    b[1] = low.y;
                    b[2] = high.x;
                    b[3] = high.y;
                    [[unroll]] for (uint r = 0; r < ROW_TILES; r++)
                        sum[r * GROUPS + c] = coopMatMulAdd(a[r], b, sum[r * GROUPS + c]);
                }
            }
        }
        [[unroll]] for (uint r = 0; r < ROW_TILES; r++) w[r] = next[r];
    }
}

// A row pair of a column: its number in the tile is `i`. All lanes come here together; `written` tells
// those whose pair and column there are.
float finish(uint tile, uint i, uint column, vec2 y, bool written)
{
    uint pair = tile * 8u + i;
    written = written && pair * 2u < p.rows;
    pair_operands o;
    if (written) o = load_operands(column, pair);
    if (ROLE == VLY_ROLE_QKV && written) finish_qkv(column, pair, y, o);
    if (ROLE == VLY_ROLE_ADD && written) return finish_add(column, pair, y, o);
    if (ROLE == VLY_ROLE_SWIGLU) {
        float h = written ? swiglu(y, o) : 0.0, next = subgroupShuffleXor(h, 8u); // of the pair behind
        if (written && i % 2u == 0u)
            RefU1(uvec2(p.act)).at[(p.out_quad + column * p.out_stride) * 4u + half_word(pair / 2u)] =
                half_pair(vec2(h, next));
    }
    return 0.0;
}

// A lane holds rows g and g + 8 of columns 2 j and 2 j + 1; a pair of rows is split over two lanes. Lanes of
// even g take the first column's pairs, the others the second's.
void finish_all(uint first_tile, uint first_column, uint factor_at)
{
    uint g = gl_SubgroupInvocationID / 4u, j = gl_SubgroupInvocationID % 4u;
    bool odd = (g & 1u) != 0u;
    [[unroll]] for (uint r = 0; r < ROW_TILES; r++) {
        uint tile = min(first_tile + r, tiles() - 1u);
        vec2 rows[2] = {row_factors(tile, g / 2u), row_factors(tile, g / 2u + 4u)};
        [[unroll]] for (uint c = 0; c < GROUPS; c++) {
            uint in_group = c * 8u + 2u * j + (odd ? 1u : 0u), column = first_column + in_group;
            bool written = first_tile + r < tiles() && column < n_columns();
            float squares = 0.0;
            [[unroll]] for (uint upper = 0; upper < 2u; upper++) {
                float even_column = sum[r * GROUPS + c][2 * upper], odd_column = sum[r * GROUPS + c][2 * upper + 1];
                float given = subgroupShuffleXor(odd ? even_column : odd_column, 4u);
                precise vec2 y = (odd ? vec2(given, odd_column) : vec2(even_column, given)) *
                                 rows[upper] * shared_factor[factor_at + in_group];
                precise float more = squares + finish(first_tile + r, g / 2u + 4u * upper, column, y, written);
                squares = more;
            }
            if (ROLE == VLY_ROLE_ADD) {
                precise float all = squares + subgroupShuffleXor(squares, 8u);
                all += subgroupShuffleXor(all, 16u);
                if (written && g < 2u) store_squares(column, first_tile + r, all);
            }
        }
    }
}

void main()
{
    uint block_column = gl_WorkGroupID.y * WIDE;
    if (block_column >= n_columns()) return;
    [[unroll]] for (uint i = 0; i < ROW_TILES * GROUPS; i++) sum[i] = MATRIX_ZERO;
    for (uint c = gl_SubgroupID; c < WIDE && block_column + c < n_columns(); c += gl_NumSubgroups) {
        float factor = norm_factor(block_column + c);
        if (subgroupElect()) shared_factor[c] = factor;
    }
    barrier();
    uint first_tile = (gl_WorkGroupID.x * ROW_WARPS + gl_SubgroupID % ROW_WARPS) * ROW_TILES;
    uint from = gl_SubgroupID / ROW_WARPS * 8u * GROUPS;
    if (block_column + from >= n_columns()) return;
    multiply(first_tile, block_column + from, (p.blocks + 1u) / 2u);
    finish_all(first_tile, block_column + from, from);
}
