// y = W x on matrix units (KHR_cooperative_matrix): weights in tiles of 16 rows, x as f16, sums in f32. A
// workgroup computes one tile for all columns: its subgroups take the tile's units of 64 weights in turn,
// and what they have is added up in order. Columns are padded to groups of 8, and a column's sums are the
// same whatever the others hold, so the bits of a token do not depend on the batch.
//
// A subgroup multiplies 16 rows x 16 weights by 16 weights x 8 columns. Each lane holds 8 of the weights:
// with g = lane / 4 and j = lane % 4, rows g and g + 8, weights 2 j, 2 j + 1, 2 j + 8, 2 j + 9; of x the same
// weights of column g; of the sums rows g and g + 8 of columns 2 j, 2 j + 1. Vulkan leaves this to the
// device: src/model/tile.c asks it, and the form is used only where the answer is this one. So the weights
// can lie as the lanes want them, and unpacking one needs no shared memory.
#version 460
#extension GL_GOOGLE_include_directive : require
#define VLY_TEXEL 0
#define HALF_X 1
#define TAGS   1
#include "matrix.glsl"
#include "common.glsl"
#include "matvec.glsl"
#include "tile_layouts.glsl"
layout(constant_id = VLY_MATVEC_WARPS) const uint WARPS = 16;
layout(constant_id = VLY_MATVEC_DEPTH) const uint DEPTH = 1;
layout(constant_id = VLY_MATVEC_TOKENS) const uint TOKENS = 8;     // that there can be, over all workgroups

#define GROUPS (COLUMNS / 8) // of columns
#define PAIRS  (VLY_TILE_ROWS / 2)

#define SUMS (WARPS * 8 * VLY_TILE_ROWS) // of a group of columns: [subgroup][column][row]
shared float shared_sum[2 * SUMS]; // in turns: one is written while the other is still being read
shared float shared_factor[COLUMNS];

uint units; // of a row

matrix_sum sum[GROUPS];

// Is there a token for column i, or can there be one? What is none is computed and dropped, but nobody writes its words.
bool there(uint i)
{
    return i < (CHAINED != 0 ? n_columns() : TOKENS);
}

#if CHAINED
// x of all tokens, taken once and for all tiles of the workgroup.
layout(constant_id = VLY_MATVEC_X) const uint X_QUADS = 1;
shared uvec4 shared_x[X_QUADS];
#define X_ROUNDS 2

// Reads x as its words come. Where many would look all the time, one looks at a word that comes late first.
void take_x()
{
    uint n = n_columns() * p.in_stride, width = WARPS * 32u, tag = chain_epoch + p.chain.read;
    if (X_QUADS > 128u) {
        if (gl_LocalInvocationIndex == 0u && n > 0u) chain_await(p.in_quad + n * 2u - 1u, p.chain.read);
        barrier();
    }
    for (uint first = gl_LocalInvocationIndex; first < n; first += X_ROUNDS * width) {
        uvec4 a[X_ROUNDS], b[X_ROUNDS];
        uint polls = 0u;
        bool all_there;
        do {
            all_there = true;
            [[unroll]] for (uint r = 0; r < min(X_ROUNDS, (X_QUADS + width - 1u) / width); r++) {
                uint i = min(first + r * width, n - 1u);
                a[r] = RefTagged4(uvec2(p.act)).at[p.in_quad + i * 2u];
                b[r] = RefTagged4(uvec2(p.act)).at[p.in_quad + i * 2u + 1u];
            }
            [[unroll]] for (uint r = 0; r < min(X_ROUNDS, (X_QUADS + width - 1u) / width); r++)
                all_there = all_there && chain_has(a[r], tag) && chain_has(b[r], tag);
        } while (!all_there && chain_look_again(polls));
        [[unroll]] for (uint r = 0; r < min(X_ROUNDS, (X_QUADS + width - 1u) / width); r++)
            if (first + r * width < n) shared_x[first + r * width] = uvec4(a[r].xz, b[r].xz);
    }
}
#else
layout(buffer_reference, buffer_reference_align = 16) readonly buffer RefX { uvec4 at[]; };
#endif

// Of a unit, this lane's 16 values of x of the c-th group of columns.
void load_x(uint c, uint unit, out uvec4 x0, out uvec4 x1)
{
    uint i = column_index(c * 8u + gl_SubgroupInvocationID / 4u);
#if CHAINED
    uint at = min(i, TOKENS - 1u) * p.in_stride + unit * 8u + gl_SubgroupInvocationID % 4u * 2u;
    x0 = x1 = uvec4(0);
    if (unit >= units) return;
    x0 = shared_x[at];
    x1 = shared_x[at + 1u];
#else
    uint at = column_token(i) * p.in_stride + unit * 8u + gl_SubgroupInvocationID % 4u * 2u;
    x0 = x1 = uvec4(0);
    if (unit >= units || i >= TOKENS) return;
    x0 = RefX(uvec2(p.act)).at[p.in_quad + at];
    x1 = RefX(uvec2(p.act)).at[p.in_quad + at + 1u];
#endif
}

tile_unit w[DEPTH];

void load_weights(uint tile, uint base)
{
    [[unroll]] for (uint d = 0; d < DEPTH; d++) load_unit(tile, min(base + d * WARPS, units - 1u), units, w[d]);
}

// Multiplies a loaded unit.
void multiply(tile_unit u, uint unit)
{
    uvec4 x[GROUPS * 2];
    [[unroll]] for (uint c = 0; c < GROUPS; c++) load_x(c, unit, x[2 * c], x[2 * c + 1]);
    [[unroll]] for (uint t = 0; t < 4u; t++) {
        matrix_w a;
        unpack(u, t, a);
        [[unroll]] for (uint c = 0; c < GROUPS; c++) {
            matrix_x b;
            f16vec2 low = halves(x[2 * c + t / 2][t % 2 * 2]);
            f16vec2 high = halves(x[2 * c + t / 2][t % 2 * 2 + 1]);
            b[0] = low.x;
            b[1] = low.y;
            b[2] = high.x;
            b[3] = high.y;
            sum[c] = coopMatMulAdd(a, b, sum[c]);
        }
    }
}

// All units of a tile, whose first are loaded: where one was multiplied, the next one takes its place.
void multiply_tile(uint tile)
{
    [[unroll]] for (uint c = 0; c < GROUPS; c++) sum[c] = MATRIX_ZERO;
    for (uint base = gl_SubgroupID; base < units; base += WARPS * DEPTH) {
        uint further = base + WARPS * DEPTH;
        [[unroll]] for (uint d = 0; d < DEPTH; d++) {
            multiply(w[d], base + d * WARPS);
            if (further < units) load_unit(tile, min(further + d * WARPS, units - 1u), units, w[d]);
        }
    }
}

// What the subgroups have of a group of 8 columns, added up: a row pair of a column to each of the
// workgroup's first 64 invocations.
vec2 whole_sum(uint turn, uint pair, uint c)
{
    precise vec2 y = vec2(0.0);
    [[unroll]] for (uint w = 0; w < WARPS; w++) {
        uint at = turn * SUMS + (w * 8u + c) * VLY_TILE_ROWS + pair * 2u;
        y += vec2(shared_sum[at], shared_sum[at + 1u]);
    }
    return y;
}

// Of the 8 lanes that hold a column's row pairs, the sum and the maximum, in one order.
float add_lanes(float v)
{
    precise float sum_ = v;
    [[unroll]] for (uint apart = 1; apart < PAIRS; apart *= 2u) sum_ += subgroupShuffleXor(sum_, apart);
    return sum_;
}

float max_lanes(float v)
{
    [[unroll]] for (uint apart = 1; apart < PAIRS; apart *= 2u) v = max(v, subgroupShuffleXor(v, apart));
    return v;
}

// One row pair of one column. All lanes of a subgroup come here together.
void finish(uint tile, uint pair_in_tile, uint column, vec2 sums, vec2 rows, pair_operands o)
{
    uint pair = tile * PAIRS + pair_in_tile, i = column_index(column), token = column_token(i);
    bool inside = i < n_columns();
    precise vec2 y = sums * rows * shared_factor[column];
    if (ROLE == VLY_ROLE_QKV) {
        if (inside && pair * 2u < p.rows) finish_qkv(token, pair, y, o);
    } else if (ROLE == VLY_ROLE_ADD) {
        float squares = 0.0;
        if (inside && pair * 2u < p.rows) squares = finish_add(token, pair, y, o);
        squares = add_lanes(squares);
        if (inside && pair_in_tile == 0u) store_squares(token, tile, squares);
    } else if (ROLE == VLY_ROLE_SWIGLU) {
        float h = swiglu(y, o), next = subgroupShuffleXor(h, 1u);
        if (inside && pair * 2u < p.rows && pair % 2u == 0u)
            store_half_word(p.out_quad, p.out_stride, token, half_word(pair / 2u),
                            half_pair(vec2(h, pair * 2u + 2u < p.rows ? next : 0.0)));
    } else {
        vec2 l = vec2(NEGATIVE_INFINITY);
        if (inside) l = finish_logits(i, pair, y);
        float high = max_lanes(max(l.x, l.y)), share = 0.0;
        float temperature = inside ? column_temperature(token) : 0.0;
        if (temperature > 0.0 && high > NEGATIVE_INFINITY) share = exp_share(l, high, temperature);
        share = add_lanes(share);
        if (inside && pair_in_tile == 0u) store_stats(i, tile, high, share);
    }
}

// Of the columns that there are, what their sums are multiplied by.
void take_norms()
{
    for (uint c = gl_SubgroupID; c < COLUMNS && there(column_index(c)); c += WARPS) {
        float factor = norm_factor(column_token(column_index(c)));
        if (subgroupElect()) shared_factor[c] = factor;
    }
}

uint turn = 0u;

// What the epilogue of the first columns reads is fetched before the products: with few tokens it is waiting for
// one thing after the other that takes the time. Where x is in shared memory registers are few, and operands wait
// there too: each invocation reads what it left there itself.
vec2 factors_of; // of this invocation's row pair
#if CHAINED
shared vec2 shared_operands[3][PAIRS * 8];
#else
pair_operands operands_of;
#endif

void fetch_operands(uint tile)
{
    uint own = gl_LocalInvocationIndex, i = column_index(own / PAIRS);
    if (own >= PAIRS * 8u) return;
    factors_of = row_factors(tile, own % PAIRS);
    if (!there(i)) return;
    pair_operands o = load_operands(column_token(i), tile * PAIRS + own % PAIRS);
#if CHAINED
    shared_operands[0][own] = o.a;
    shared_operands[1][own] = o.b;
    shared_operands[2][own] = o.bias;
#else
    operands_of = o;
#endif
}

pair_operands fetched_operands()
{
#if CHAINED
    uint own = gl_LocalInvocationIndex;
    return pair_operands(shared_operands[0][own], shared_operands[1][own], shared_operands[2][own]);
#else
    return operands_of;
#endif
}

// Adds up what the subgroups have, and finishes the columns that there are.
void finish_all(uint tile)
{
    uint own = gl_LocalInvocationIndex, own_pair = own % PAIRS, own_column = own / PAIRS;
    uint g = gl_SubgroupInvocationID / 4u, j = gl_SubgroupInvocationID % 4u;
    [[unroll]] for (uint c = 0; c < GROUPS; c++) {
        if (c > 0u && column_index(c * 8u) >= n_columns()) return;
        [[unroll]] for (uint i = 0; i < 4u; i++)
            shared_sum[turn * SUMS + (gl_SubgroupID * 8u + 2u * j + i % 2u) * VLY_TILE_ROWS + g + i / 2u * 8u] =
                sum[c][i];
        barrier();
        if (own < PAIRS * 8u) {
            pair_operands operands = fetched_operands();
            if (c > 0u && column_index(c * 8u + own_column) < n_columns())
                operands =
                    load_operands(column_token(column_index(c * 8u + own_column)), tile * PAIRS + own_pair);
            finish(tile, own_pair, c * 8u + own_column, whole_sum(turn, own_pair, own_column), factors_of, operands);
        }
        turn ^= 1u;
    }
}

// Tiles in turn; the first weights of the next one are on their way while one is finished, and those of the
// first while the step before ends.
void main()
{
    uint tile = gl_WorkGroupID.x;
    if (gl_WorkGroupID.y > 0u && column_index(0) >= n_columns()) return;
    units = (p.blocks + 1u) / 2u;
    if (chain_tagged()) chain_begin();
    if (ROLE == VLY_ROLE_QKV && p.chain.residual != 0u && gl_WorkGroupID.x + gl_LocalInvocationIndex == 0u)
        RefU1(uvec2(p.act)).at[p.chain.word - 1u] = chain_epoch; // the embedding has read it
    load_weights(tile, gl_SubgroupID);
    chain_await_workgroups();
    fetch_operands(tile);
#if CHAINED
    take_x();
#endif
    take_norms();
#if CHAINED
    barrier();
#endif
    // Of the head not all rows may be wanted.
    uint n_tiles = ROLE == VLY_ROLE_LOGITS ? (p.rows_used + VLY_TILE_ROWS - 1u) / VLY_TILE_ROWS : tiles();
    for (uint next; tile < n_tiles; tile = next) {
        next = tile + gl_NumWorkGroups.x;
        multiply_tile(tile);
        if (next < n_tiles) load_weights(next, gl_SubgroupID);
        finish_all(tile);
        if (next < n_tiles) fetch_operands(next);
    }
    chain_tell();
}
