// y = W x with one row pair to a lane: no shared memory, no barriers, no shuffles in the loop. For
// devices whose lanes are a processor's vector: reads are texel fetches.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "quant/format.glsl"
#include "matvec.glsl"

// Column i of row pair `pair`, whose two sums are y. `owns`: this lane has a pair; `block` numbers this
// subgroup's rows among all rows. Called by whole subgroups.
void finish(uint i, uint pair, bool owns, vec2 y, uint block)
{
    uint token = column_token(i);
    precise vec2 scaled = y * norm_factor(token);
    if (i >= n_columns()) return;
    if (ROLE == VLY_ROLE_QKV) {
        if (owns) finish_qkv(token, pair, scaled);
    } else if (ROLE == VLY_ROLE_ADD) {
        float squares = subgroupAdd(owns ? finish_add(token, pair, scaled) : 0.0);
        if (subgroupElect()) store_squares(token, block, squares);
    } else if (ROLE == VLY_ROLE_SWIGLU) {
        if (owns) finish_swiglu(token, pair, scaled);
    } else {
        vec2 l = finish_logits(i, pair, scaled);
        float high = subgroupMax(max(l.x, l.y)), temperature = column_temperature(token), sum = 0.0;
        if (temperature > 0.0 && high > NEGATIVE_INFINITY)
            sum = subgroupAdd(exp_share(l, high, temperature));
        if (subgroupElect()) store_stats(i, block, high, sum);
    }
}

void main()
{
    if (gl_WorkGroupID.y * COLUMNS >= n_columns()) return;
    uint pair = gl_GlobalInvocationID.x;
    bool owns = ROLE == VLY_ROLE_LOGITS || pair * 2u < p.rows;
    uint row = min(pair * 2u, p.rows - 2u);

    uint x_at[COLUMNS];
    float sum0[COLUMNS], sum1[COLUMNS];
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        x_at[c] = p.in_quad + column_token(column_index(c)) * p.in_stride;
        sum0[c] = 0.0;
        sum1[c] = 0.0;
    }
    for (uint b = 0; b < p.blocks; b++) {
        uint block0 = row * p.blocks + b, block1 = block0 + p.blocks;
#if HAS_SCALE
        float scale0 = f16_of_word(READ_SCALES(block0 >> 1), block0);
        float scale1 = f16_of_word(READ_SCALES(block1 >> 1), block1);
        float dot0[COLUMNS], dot1[COLUMNS];
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            dot0[c] = 0.0;
            dot1[c] = 0.0;
        }
#else
#define dot0 sum0
#define dot1 sum1
#endif
        [[unroll]] for (uint i = 0; i < PARTS; i++) {
            uvec4 part0 = READ_WEIGHTS(block0 * PARTS + i);
            uvec4 part1 = READ_WEIGHTS(block1 * PARTS + i);
            [[unroll]] for (uint j = 0; j < QUADS; j++) {
                vec4 w0 = part_quad(part0, j), w1 = part_quad(part1, j);
                [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
                    vec4 x = READ_ACT(x_at[c] + b * 8u + i * QUADS + j);
                    dot0[c] = dot_add(w0, x, dot0[c]);
                    dot1[c] = dot_add(w1, x, dot1[c]);
                }
            }
        }
#if HAS_SCALE
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            sum0[c] = fma(scale0, dot0[c], sum0[c]);
            sum1[c] = fma(scale1, dot1[c], sum1[c]);
        }
#endif
    }
    uint block = gl_WorkGroupID.x * gl_NumSubgroups + gl_SubgroupID;
    [[unroll]] for (uint c = 0; c < COLUMNS; c++)
        finish(column_index(c), pair, owns, vec2(sum0[c], sum1[c]), block);
}
