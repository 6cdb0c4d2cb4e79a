// y = W x with PAIRS row pairs to a lane: no shared memory, no barriers, no shuffles in the loop. For
// devices whose lanes are a processor's vector: reads are texel fetches, and one fetch of x serves all of a
// lane's rows.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "matvec.glsl"
#include "quant/format.glsl"
layout(constant_id = VLY_MATVEC_PAIRS) const uint PAIRS = 2;

#define ROWS (2 * PAIRS)

// A block is computed in so many turns of an unrolled loop: code grows with the columns, and with it the time
// that compilers take (8 columns at once: twice as long).
#define TURNS (COLUMNS > 4 ? 2 : 1)

float sum[ROWS][COLUMNS];

// Column c of this lane's rows, which begin with pair `first`; `block` numbers this subgroup's rows among
// all rows. Called by whole subgroups.
void finish(uint c, uint first, uint block)
{
    uint i = column_index(c), token = column_token(i);
    float factor = norm_factor(token), squares = 0.0, high = NEGATIVE_INFINITY, all = 0.0;
    vec2 l[PAIRS];
    if (i >= n_columns()) return;
    [[unroll]] for (uint pair = 0; pair < PAIRS; pair++) {
        precise vec2 y = vec2(sum[2 * pair][c], sum[2 * pair + 1][c]) * factor;
        bool owns = (first + pair) * 2u < p.rows;
        if (ROLE == VLY_ROLE_QKV) {
            if (owns) finish_qkv(token, first + pair, y, load_operands(token, first + pair));
        } else if (ROLE == VLY_ROLE_ADD) {
            if (owns) {
                precise float more = squares + finish_add(token, first + pair, y, load_operands(token, first + pair));
                squares = more;
            }
        } else if (ROLE == VLY_ROLE_SWIGLU) {
            if (owns) finish_swiglu(token, first + pair, y, load_operands(token, first + pair));
        } else {
            l[pair] = finish_logits(i, first + pair, y);
            high = max(high, max(l[pair].x, l[pair].y));
        }
    }
    if (ROLE == VLY_ROLE_ADD) {
        squares = subgroupAdd(squares);
        if (subgroupElect()) store_squares(token, block, squares);
    } else if (ROLE == VLY_ROLE_LOGITS) {
        float temperature = column_temperature(token);
        high = subgroupMax(high);
        if (temperature > 0.0 && high > NEGATIVE_INFINITY) {
            [[unroll]] for (uint pair = 0; pair < PAIRS; pair++) {
                precise float more = all + exp_share(l[pair], high, temperature);
                all = more;
            }
            all = subgroupAdd(all);
        }
        if (subgroupElect()) store_stats(i, block, high, all);
    }
}

void main()
{
    if (gl_WorkGroupID.y * COLUMNS >= n_columns()) return;
    uint first = gl_GlobalInvocationID.x * PAIRS;
    uint x_at[COLUMNS];
    uvec2 start[ROWS];
    [[unroll]] for (uint c = 0; c < COLUMNS; c++)
        x_at[c] = p.in_quad + column_token(column_index(c)) * p.in_stride;
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        start[r] = row_start(min(first * 2u + r, p.rows - 1u));
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) sum[r][c] = 0.0;
    }
    for (uint turn = 0; turn < p.blocks * TURNS; turn++) {
        uint first_quad = QUADS == 8 ? turn % TURNS * (8 / TURNS) : 0; // of the part
        [[unroll]] for (uint i = 0; i < 8 / TURNS; i += min(QUADS, 8 / TURNS)) {
            uint part = (turn * (8 / TURNS) + i) / QUADS;
            Weights w[ROWS];
            [[unroll]] for (uint r = 0; r < ROWS; r++) w[r] = read_weights(start[r], part);
            [[unroll]] for (uint k = 0; k < min(QUADS, 8 / TURNS); k++) {
                vec4 quad[ROWS];
                [[unroll]] for (uint r = 0; r < ROWS; r++) quad[r] = weights_quad(w[r], first_quad + k);
                [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
                    vec4 x = READ_ACT(x_at[c] + turn * (8 / TURNS) + i + k);
                    [[unroll]] for (uint r = 0; r < ROWS; r++)
                        sum[r][c] = dot_add(quad[r], x, sum[r][c]);
                }
            }
        }
    }
    uint block = gl_WorkGroupID.x * gl_NumSubgroups + gl_SubgroupID;
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) finish(c, first, block);
}
