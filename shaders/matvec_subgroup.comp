// y = W x with PAIRS row pairs to a subgroup: lanes share each row's parts, then add up.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "quant/format.glsl"
#include "matvec.glsl"
layout(constant_id = VLY_MATVEC_PAIRS) const uint PAIRS = 1;

void main()
{
    if (gl_WorkGroupID.y * COLUMNS >= n_columns()) return;
    uint block = gl_WorkGroupID.x * gl_NumSubgroups + gl_SubgroupID;
    uint lane = gl_SubgroupInvocationID;
    uint parts = p.blocks * PARTS;

    uint x_at[COLUMNS];
    float sum[PAIRS * 2][COLUMNS];
    uint row[PAIRS * 2];
    [[unroll]] for (uint c = 0; c < COLUMNS; c++)
        x_at[c] = p.in_quad + column_token(column_index(c)) * p.in_stride;
    [[unroll]] for (uint r = 0; r < PAIRS * 2; r++) {
        row[r] = min(block * PAIRS * 2u + r, p.rows - 1u);
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) sum[r][c] = 0.0;
    }
    for (uint part = lane; part < parts; part += gl_SubgroupSize) {
        uvec4 w[PAIRS * 2];
        [[unroll]] for (uint r = 0; r < PAIRS * 2; r++) w[r] = READ_WEIGHTS(row[r] * parts + part);
#if HAS_SCALE
        float scale[PAIRS * 2];
        [[unroll]] for (uint r = 0; r < PAIRS * 2; r++) {
            uint b = row[r] * p.blocks + part / PARTS;
            scale[r] = f16_of_word(READ_SCALES(b >> 1), b);
        }
#endif
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            vec4 x[QUADS];
            [[unroll]] for (uint j = 0; j < QUADS; j++) x[j] = READ_ACT(x_at[c] + part * QUADS + j);
            [[unroll]] for (uint r = 0; r < PAIRS * 2; r++) {
#if HAS_SCALE
                float dot = 0.0;
                [[unroll]] for (uint j = 0; j < QUADS; j++) dot = dot_add(part_quad(w[r], j), x[j], dot);
                sum[r][c] = fma(scale[r], dot, sum[r][c]);
#else
                [[unroll]] for (uint j = 0; j < QUADS; j++)
                    sum[r][c] = dot_add(part_quad(w[r], j), x[j], sum[r][c]);
#endif
            }
        }
    }
    // Lane i < PAIRS finishes pair i.
    uint pair = block * PAIRS + lane;
    bool owns = lane < PAIRS && (ROLE == VLY_ROLE_LOGITS || pair * 2u < p.rows);
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        vec2 y = vec2(0.0);
        [[unroll]] for (uint i = 0; i < PAIRS; i++) {
            vec2 both = vec2(subgroupAdd(sum[2 * i][c]), subgroupAdd(sum[2 * i + 1][c]));
            if (lane == i) y = both;
        }
        finish(column_index(c), pair, owns, y, block);
    }
}
