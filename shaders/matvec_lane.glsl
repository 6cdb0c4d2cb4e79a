// y = W x with PAIRS row pairs to a lane: no shared memory, no barriers. For devices whose lanes are a
// processor's vector. Reads are texel fetches, calls of some fifty instructions there whatever they bring, so
// each lane fetches another quad of x; lanes take x from each other with constant shuffles, which are one
// or two instructions.
// Included behind common.glsl.
#include "matvec.glsl"
#include "quant/format.glsl"
#ifndef LANE_ROLE // else a variable, and never that of logits
#define LANE_ROLE   ROLE
#define LANE_LOGITS (ROLE == VLY_ROLE_LOGITS)
#endif
layout(constant_id = VLY_MATVEC_PAIRS) const uint PAIRS = 2;

#define ROWS (2 * PAIRS)

// Fetches that bring a block's 8 quads of x into the lanes of a subgroup, which is the workgroup where it is narrower.
#define LANES   gl_WorkGroupSize.x
#define FETCHES (LANES < 8 ? 8 / LANES : 1)

float sum[ROWS][COLUMNS];

// norm_factor() of all columns. The loop over the columns is the inner one: compilers do not unroll one that has
// another inside, and where that one indexes `sum`, each addition to a sum goes to memory.
void norm_factors(uint y, out float factor[COLUMNS])
{
    float squares[COLUMNS];
    uint at[COLUMNS];
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        squares[c] = 0.0;
        at[c] = p.norm_quad + column_token(y * COLUMNS + c) * p.norm_parts;
    }
    for (uint i = gl_SubgroupInvocationID; i < p.norm_parts; i += gl_SubgroupSize)
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) squares[c] = add_part(squares[c], READ_ACT(at[c] + i));
    [[unroll]] for (uint c = 0; c < COLUMNS; c++)
        factor[c] = p.norm_parts == 0u ? 1.0 : norm_of_squares(squares[c]);
}

pair_operands operands_of(uint token, uint pair)
{
    pair_operands o = pair_operands(vec2(1.0, 0.0), vec2(0.0), vec2(0.0));
    uint row = p.row_base + pair * 2u;
    if (LANE_ROLE == VLY_ROLE_QKV && row < p.extra[0])
        o.a = read_pair(p.extra[2], p.step.s.token[token].pos * (p.extra[1] / 2u) + row % p.extra[1] / 2u);
    if (LANE_ROLE == VLY_ROLE_ADD) {
        o.a = RefAct2(uvec2(p.act)).at[(p.out_quad + token * p.out_stride) * 2u + pair];
        o.b = read_pair(p.extra[1], pair);
    }
    if (!LANE_LOGITS && p.bias_quad != 0u) o.bias = read_pair(p.bias_quad, row / 2u);
    return o;
}

// Column i of this lane's rows, whose sums are sum[..][c] and which begin with pair `first`; `block` numbers this
// subgroup's rows among all rows. Called by whole subgroups.
void finish(uint i, uint c, uint first, uint block, float factor)
{
    uint token = column_token(i);
    float squares = 0.0, high = NEGATIVE_INFINITY, all = 0.0;
    vec2 l[PAIRS];
    [[unroll]] for (uint pair = 0; pair < PAIRS; pair++) {
        precise vec2 y = vec2(sum[2 * pair][c], sum[2 * pair + 1][c]) * factor;
        bool owns = (first + pair) * 2u < p.rows;
        if (LANE_ROLE == VLY_ROLE_QKV) {
            if (owns) finish_qkv(token, first + pair, y, operands_of(token, first + pair));
        } else if (LANE_ROLE == VLY_ROLE_ADD) {
            if (owns) {
                precise float more = squares + finish_add(token, first + pair, y, operands_of(token, first + pair));
                squares = more;
            }
        } else if (LANE_ROLE == VLY_ROLE_SWIGLU) {
            if (owns) finish_swiglu(token, first + pair, y, operands_of(token, first + pair));
        } else if (LANE_LOGITS) {
            l[pair] = finish_logits(i, first + pair, y);
            high = max(high, max(l[pair].x, l[pair].y));
        }
    }
    if (LANE_ROLE == VLY_ROLE_ADD) {
        squares = subgroupAdd(squares);
        if (subgroupElect()) store_squares(token, block, squares);
    } else if (LANE_LOGITS) {
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

// Rows of subgroup x of all, columns y * COLUMNS and behind.
void product(uint x, uint y)
{
    uint first = (x * gl_SubgroupSize + gl_SubgroupInvocationID) * PAIRS;
    uint x_at[COLUMNS];
    uvec2 start[ROWS];
    [[unroll]] for (uint c = 0; c < COLUMNS; c++)
        x_at[c] = p.in_quad + column_token(y * COLUMNS + c) * p.in_stride + gl_SubgroupInvocationID % 8u;
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        start[r] = row_start(min(first * 2u + r, p.rows - 1u));
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) sum[r][c] = 0.0;
    }
    for (uint block = 0; block < p.blocks; block++) {
        vec4 in_lanes[COLUMNS][FETCHES];
        vec2 scale[ROWS], least[ROWS];
        [[unroll]] for (uint c = 0; c < COLUMNS; c++)
            [[unroll]] for (uint i = 0; i < FETCHES; i++)
                in_lanes[c][i] = READ_ACT(x_at[c] + block * 8u + i * LANES);
        [[unroll]] for (uint i = 0; i < PARTS; i++) {
            Weights w[ROWS];
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                w[r] = read_weights(start[r], block * PARTS + i);
#if LOW_BITS <= 8
                if (i == 0) { // scales are a block's: what the other parts fetched is not used, and so not fetched
                    scale[r] = w[r].scale;
                    least[r] = w[r].least;
                }
                w[r].scale = scale[r];
                w[r].least = least[r];
#endif
            }
            [[unroll]] for (uint k = 0; k < QUADS; k++) {
                vec4 quad[ROWS];
                const uint at = i * QUADS + k;
                [[unroll]] for (uint r = 0; r < ROWS; r++) quad[r] = weights_quad(w[r], k);
                [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
                    vec4 x = subgroupShuffle(in_lanes[c][at / LANES % FETCHES], at % LANES);
                    [[unroll]] for (uint r = 0; r < ROWS; r++)
                        sum[r][c] = dot_add(quad[r], x, sum[r][c]);
                }
            }
        }
    }
    float factor[COLUMNS];
    norm_factors(y, factor);
    [[unroll]] for (uint c = 0; c < COLUMNS; c++)
        if (y * COLUMNS + c < n_columns()) finish(y * COLUMNS + c, c, first, x, factor[c]);
}
