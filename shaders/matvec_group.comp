// y = W x with PAIRS row pairs to a subgroup and GROUPS subgroups to a workgroup: lanes share each row's
// parts, then add up. With DOT, x is rounded in blocks of 32 to scale * (a + b / 256) with int8 a and b, a
// tile of K at a time in shared memory, and blocks are multiplied by packed 8-bit dot products: exact in
// integers, so only the order of the f32 sums over parts matters, and that is the same for every tile size
// and number of columns. (With a alone the logits of the test models are off by 0.35 and not 0.17.)
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "matvec.glsl"
#include "quant/format.glsl"
layout(constant_id = VLY_MATVEC_PAIRS) const uint PAIRS = 1;
layout(constant_id = VLY_MATVEC_GROUPS) const uint GROUPS = 1;
layout(constant_id = VLY_MATVEC_TILE) const uint TILE = 1024; // weights; DOT only

#define ROWS (2 * PAIRS)            // of a subgroup
#define ALL_PAIRS (PAIRS * GROUPS)  // of the workgroup

shared float shared_y[ALL_PAIRS * 2 * COLUMNS]; // [column][row]
shared float shared_factor[COLUMNS];
shared float shared_part[ALL_PAIRS * COLUMNS];  // [column][pair]: squares, or shares of a sum

float sum[ROWS][COLUMNS];

#if DOT
#extension GL_EXT_spirv_intrinsics : require
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int packed_dot(int a, int b, spirv_literal int packed_4x8);

#define TILE_BLOCKS (TILE / 32)
shared ivec4 shared_x[COLUMNS * TILE / 8];       // [column][all a, then all b][16 weights], packed
shared vec2 shared_scale[COLUMNS * TILE_BLOCKS]; // (scale / 256, sum of the block's 256 a + b)

int pack(ivec4 q)
{
    q &= 255;
    return q.x | q.y << 8 | q.z << 16 | q.w << 24;
}

// Rounds a block of 32 of column c; every invocation takes whole blocks.
void round_block(uint c, uint block, uint from)
{
    float high = 0.0;
    vec4 x[8];
    [[unroll]] for (uint j = 0; j < 8u; j++) {
        x[j] = READ_ACT(from + j);
        vec4 a = abs(x[j]);
        high = max(high, max(max(a.x, a.y), max(a.z, a.w)));
    }
    precise float scale = high / 127.0;
    precise float inverse = high > 0.0 ? 127.0 / high : 0.0;
    ivec2 total = ivec2(0);
    [[unroll]] for (uint i = 0; i < 2u; i++) {
        ivec4 packed_a, packed_b;
        [[unroll]] for (uint j = 0; j < 4u; j++) {
            precise vec4 scaled = x[i * 4u + j] * inverse;
            precise vec4 a = roundEven(scaled);
            precise vec4 rest = (scaled - a) * 256.0;
            ivec4 qa = ivec4(a), qb = ivec4(clamp(roundEven(rest), -128.0, 127.0));
            total += ivec2((qa.x + qa.y) + (qa.z + qa.w), (qb.x + qb.y) + (qb.z + qb.w));
            packed_a[j] = pack(qa);
            packed_b[j] = pack(qb);
        }
        uint at = c * TILE_BLOCKS * 4u + block * 2u + i;
        shared_x[at] = packed_a;
        shared_x[at + TILE_BLOCKS * 2u] = packed_b;
    }
    shared_scale[c * TILE_BLOCKS + block] = vec2(scale / 256.0, float(total.x * 256 + total.y));
}

// Codes of quad j as signed bytes. Where halves have scales of their own, the offset is taken from each
// code; else it is taken from the sum, by what the whole of x adds up to.
int packed_codes(Weights w, uint j)
{
    uint q = part_codes(w.low, w.high, j);
#if HALVES && !HAS_MINIMUM
    q = ((q | 128u * ONES) - OFFSET * ONES) ^ 128u * ONES;
#endif
    return int(q);
}

// The products of a part with a column's x, which lies at `at`, over the block's scale of x.
float dot_part(Weights w, int codes[QUADS], uint at, float total)
{
    precise float sum = w.least.x * total;
#if HALVES
    sum = 0.0;
#endif
    [[unroll]] for (uint h = 0; h <= HALVES; h++) {
        ivec2 dots = ivec2(0), sums = ivec2(0);
        [[unroll]] for (uint i = h; i < (HALVES == 1 ? h + 1u : QUADS / 4u); i++) {
            ivec4 a = shared_x[at + i], b = shared_x[at + i + TILE_BLOCKS * 2u];
            [[unroll]] for (uint j = 0; j < 4u; j++) {
                dots.x += packed_dot(codes[i * 4u + j], a[j], 0);
                dots.y += packed_dot(codes[i * 4u + j], b[j], 0);
#if HALVES && HAS_MINIMUM
                sums.x += packed_dot(int(ONES), a[j], 0);
                sums.y += packed_dot(int(ONES), b[j], 0);
#endif
            }
        }
        sum = fma(w.scale[h], float(dots.x * 256 + dots.y), sum);
#if HALVES && HAS_MINIMUM
        sum = fma(w.least[h], float(sums.x * 256 + sums.y), sum);
#endif
    }
    return sum;
}

void multiply(uint first_row)
{
    uvec2 start[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) start[r] = row_start(min(first_row + r, p.rows - 1u));
    for (uint tile = 0; tile < p.blocks; tile += TILE_BLOCKS) {
        uint n_blocks = min(TILE_BLOCKS, p.blocks - tile);
        barrier();
        for (uint i = gl_LocalInvocationIndex; i < n_blocks * COLUMNS; i += gl_WorkGroupSize.x) {
            uint c = i / n_blocks, b = i % n_blocks;
            round_block(c, b, p.in_quad + column_token(column_index(c)) * p.in_stride + (tile + b) * 8u);
        }
        barrier();
        for (uint part = gl_SubgroupInvocationID; part < n_blocks * PARTS; part += gl_SubgroupSize) {
            Weights w[ROWS];
            int codes[ROWS][QUADS];
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                w[r] = read_weights(start[r], tile * PARTS + part);
                [[unroll]] for (uint j = 0; j < QUADS; j++) codes[r][j] = packed_codes(w[r], j);
            }
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
                vec2 x_scale = shared_scale[c * TILE_BLOCKS + part / PARTS];
                uint at = c * TILE_BLOCKS * 4u + part * (QUADS / 4u);
                [[unroll]] for (uint r = 0; r < ROWS; r++)
                    sum[r][c] = fma(x_scale.x, dot_part(w[r], codes[r], at, x_scale.y), sum[r][c]);
            }
        }
    }
}
#else
void multiply(uint first_row)
{
    uint x_at[COLUMNS];
    uvec2 start[ROWS];
    [[unroll]] for (uint c = 0; c < COLUMNS; c++)
        x_at[c] = p.in_quad + column_token(column_index(c)) * p.in_stride;
    [[unroll]] for (uint r = 0; r < ROWS; r++) start[r] = row_start(min(first_row + r, p.rows - 1u));
    for (uint part = gl_SubgroupInvocationID; part < p.blocks * PARTS; part += gl_SubgroupSize) {
        Weights w[ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++) w[r] = read_weights(start[r], part);
        [[unroll]] for (uint j = 0; j < QUADS; j++) {
            vec4 quad[ROWS];
            [[unroll]] for (uint r = 0; r < ROWS; r++) quad[r] = weights_quad(w[r], j);
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
                vec4 x = READ_ACT(x_at[c] + part * QUADS + j);
                [[unroll]] for (uint r = 0; r < ROWS; r++)
                    sum[r][c] = dot_add(quad[r], x, sum[r][c]);
            }
        }
    }
}
#endif

// Pairs and columns, one to an invocation at a time; then what a whole block of rows adds up to.
void finish()
{
    for (uint i = gl_LocalInvocationIndex; i < ALL_PAIRS * COLUMNS; i += gl_WorkGroupSize.x) {
        uint c = i / ALL_PAIRS, pair = gl_WorkGroupID.x * ALL_PAIRS + i % ALL_PAIRS;
        uint column = column_index(c), token = column_token(column);
        shared_part[i] = 0.0;
        if (column >= n_columns() || (ROLE != VLY_ROLE_LOGITS && pair * 2u >= p.rows)) continue;
        precise vec2 y = vec2(shared_y[i * 2u], shared_y[i * 2u + 1u]) * shared_factor[c];
        if (ROLE == VLY_ROLE_QKV) {
            finish_qkv(token, pair, y, load_operands(token, pair));
        } else if (ROLE == VLY_ROLE_ADD) {
            shared_part[i] = finish_add(token, pair, y, load_operands(token, pair));
        } else if (ROLE == VLY_ROLE_SWIGLU) {
            finish_swiglu(token, pair, y, load_operands(token, pair));
        } else {
            vec2 l = finish_logits(column, pair, y);
            shared_y[i * 2u] = l.x;
            shared_y[i * 2u + 1u] = l.y;
        }
    }
    if (ROLE != VLY_ROLE_ADD && ROLE != VLY_ROLE_LOGITS) return;
    barrier();
    uint c = gl_LocalInvocationIndex, column = column_index(c);
    if (c >= COLUMNS || column >= n_columns()) return;
    uint token = column_token(column);
    if (ROLE == VLY_ROLE_ADD) {
        precise float squares = 0.0;
        for (uint i = 0; i < ALL_PAIRS; i++) squares += shared_part[c * ALL_PAIRS + i];
        store_squares(token, gl_WorkGroupID.x, squares);
        return;
    }
    float high = NEGATIVE_INFINITY, temperature = column_temperature(token);
    for (uint i = c * ALL_PAIRS * 2u; i < (c + 1u) * ALL_PAIRS * 2u; i++) high = max(high, shared_y[i]);
    precise float all = 0.0;
    if (temperature > 0.0 && high > NEGATIVE_INFINITY)
        for (uint i = c * ALL_PAIRS; i < (c + 1u) * ALL_PAIRS; i++)
            all += exp_share(vec2(shared_y[i * 2u], shared_y[i * 2u + 1u]), high, temperature);
    store_stats(column, gl_WorkGroupID.x, high, all);
}

void main()
{
    if (gl_WorkGroupID.y * COLUMNS >= n_columns()) return;
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) sum[r][c] = 0.0;
    uint first_row = (gl_WorkGroupID.x * GROUPS + gl_SubgroupID) * ROWS;
    multiply(first_row);
    [[unroll]] for (uint c = 0; c < COLUMNS; c++)
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            float y = subgroupAdd(sum[r][c]);
            if (subgroupElect()) shared_y[c * ALL_PAIRS * 2u + gl_SubgroupID * ROWS + r] = y;
        }
    for (uint c = gl_SubgroupID; c < COLUMNS; c += GROUPS) {
        float factor = norm_factor(column_token(min(column_index(c), n_columns() - 1u)));
        if (subgroupElect()) shared_factor[c] = factor;
    }
    barrier();
    finish();
}
