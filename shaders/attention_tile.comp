// Attention of prompts on matrix units, with an online softmax (Dao et al., arXiv 2205.14135): a subgroup takes a head
// of 16 neighbouring tokens, which are the rows, and positions in blocks of 16. Scores are Q times K as it lies in
// pages; what the lanes hold of them is what they must hold of the weights to multiply these by V, so nothing passes
// through shared memory, and subgroups have nothing to do with each other. The tokens may be of several sequences:
// these are taken in turn, and where a row does not see a position its weight is 0 and its highest score stays.
// Blocks start at fixed positions, so a row's sums depend on its own position alone.
//
// Products run over dimensions, and outputs over columns, in an order that lets a lane read its own from 16 bytes or
// more that lie side by side: of Q and K lane j has every fourth part of 16 bytes, of V and the output lane g has
// dimensions g * WIDTH and on.
#version 460
#extension GL_GOOGLE_include_directive : require
#define VLY_TEXEL 0
#include "matrix.glsl"
#include "common.glsl"
#include "kv.glsl"
#ifdef MATRIX_EMULATED
#include "matrix_emulated.glsl"
#endif
layout(constant_id = 2) const uint HALF_OUT = 1; // 1: the output is as matrix units read it

#define ROWS     16u // tokens of a subgroup
#define BLOCK    16u // positions that are taken together
#define K_ROUNDS ((KV_PARTS + 3) / 4)
#define STEPS    (K_ROUNDS * KV_QUADS) // of 16 dimensions
#define WIDTH    (HEAD_DIM / 8)        // dimensions of V of a lane
#if KV_INT8
#define V_WORDS (WIDTH / 4)
#else
#define V_WORDS (WIDTH / 2)
#endif

uint g, j, head, kv_head;
uint first, n_tok; // the first of the rows, among the tokens of the step
matrix_w q[STEPS]; // times the scale of scores, for powers of 2
matrix_sum sum[WIDTH];
float high[2], total[2]; // of rows g and g + 8; of the total this lane's part
uint seen_from[2], seen_to[2];

uint position_of(uint token)
{
    return p.step.s.token[token].pos;
}

uint window_of(uint pos)
{
    return p.window > 0u && pos + 1u > p.window ? pos + 1u - p.window : 0u;
}

void load_queries()
{
    const float log2_e = 1.44269504;
    [[unroll]] for (uint r = 0; r < 2u; r++) {
        uint token = min(first + g + 8u * r, n_tok - 1u);
        uint at = p.qkv_quad + token * p.qkv_stride + head * (HEAD_DIM / 4u);
        [[unroll]] for (uint i = 0; i < K_ROUNDS; i++)
            [[unroll]] for (uint s = 0; s < KV_QUADS; s++) {
                uint part = j + 4u * i;
                precise vec4 v = READ_ACT(at + min(part, KV_PARTS - 1u) * KV_QUADS + s) * (p.scale * log2_e);
                v = part < KV_PARTS ? clamp(v, -65504.0, 65504.0) : vec4(0.0);
#if KV_INT8
                v = v.xzyw; // as halves_of_bytes has those of K
#endif
                [[unroll]] for (uint k = 0; k < 4u; k++) q[i * KV_QUADS + s][4u * r + k] = float16_t(v[k]);
            }
    }
}

#if KV_INT8
// The integers of bytes 0 and 2 of a word. 0x6400 and a byte are 1024 and the byte.
f16vec2 halves_of_bytes(uint word)
{
    return halves(word & 0x00ff00ffu ^ 0x00800080u | 0x64006400u) - f16vec2(1152.0);
}
#endif

// A block as it lies in its page: K of positions g and g + 8; V of those that a lane's weights are of, and their scales.
uvec4 k_raw[2 * K_ROUNDS];
uint v_raw[4 * V_WORDS];
float k_scale[4], v_scale[4];

// Position of the i-th weight of a row in a lane.
uint column_of(uint i)
{
    return 2u * j + i / 2u * 8u + i % 2u;
}

void load_keys(vly_page page, uint start)
{
    [[unroll]] for (uint t = 0; t < 2u; t++) {
        uint quad = kv_quad_of(KV_K, kv_head, start + t * 8u + g);
        [[unroll]] for (uint i = 0; i < K_ROUNDS; i++)
            k_raw[t * K_ROUNDS + i] = kv_read(page, quad + min(j + 4u * i, KV_PARTS - 1u));
    }
}

void load_values(vly_page page, uint start)
{
    uvec2 base = uvec2(page.address_lo, page.address_hi);
    [[unroll]] for (uint i = 0; i < 4u; i++) {
        uint at = kv_quad_of(KV_V, kv_head, start + column_of(i)) * 4u + g * V_WORDS;
        [[unroll]] for (uint w = 0; w < V_WORDS; w++) {
            uint n = i * V_WORDS + w;
            if (V_WORDS % 4 == 0) {
                if (w % 4u == 0u) {
                    uvec4 v = RefKv(base).at[(at + w) / 4u];
                    v_raw[n] = v.x, v_raw[n + 1u] = v.y, v_raw[n + 2u] = v.z, v_raw[n + 3u] = v.w;
                }
            } else if (V_WORDS % 2 == 0) {
                if (w % 2u == 0u) {
                    uvec2 v = RefU2(base).at[(at + w) / 2u];
                    v_raw[n] = v.x, v_raw[n + 1u] = v.y;
                }
            } else {
                v_raw[n] = RefKv1(base).at[at + w];
            }
        }
    }
}

void load_scales(vly_page page, uint start)
{
#if KV_INT8
    RefKv1 words = RefKv1(uvec2(page.address_lo, page.address_hi));
    uint at = start % VLY_PAGE_TOKENS / 2u + j;
    [[unroll]] for (uint t = 0; t < 2u; t++) {
        vec2 k = unpackHalf2x16(words.at[kv_scales_quad(KV_K, kv_head) * 4u + at + t * 4u]);
        vec2 v = unpackHalf2x16(words.at[kv_scales_quad(KV_V, kv_head) * 4u + at + t * 4u]);
        k_scale[2u * t] = k.x, k_scale[2u * t + 1u] = k.y;
        v_scale[2u * t] = v.x, v_scale[2u * t + 1u] = v.y;
    }
#endif
}

// V of positions that nobody has written is nothing that may be multiplied, not even by 0.
void drop_values(uint start, uint last)
{
    [[unroll]] for (uint i = 0; i < 4u; i++) {
        bool written = start + column_of(i) <= last;
#if KV_INT8
        if (!written) v_scale[i] = 0.0;
#else
        [[unroll]] for (uint w = 0; w < V_WORDS; w++)
            if (!written) v_raw[i * V_WORDS + w] = 0u;
#endif
    }
}

void score(out matrix_sum s[2])
{
    s[0] = MATRIX_ZERO;
    s[1] = MATRIX_ZERO;
    [[unroll]] for (uint i = 0; i < STEPS; i++)
        [[unroll]] for (uint t = 0; t < 2u; t++) {
            uvec4 raw = k_raw[t * K_ROUNDS + i / KV_QUADS];
#if KV_INT8
            f16vec2 low = halves_of_bytes(raw[i % KV_QUADS]), high_ = halves_of_bytes(raw[i % KV_QUADS] >> 8);
#else
            f16vec2 low = halves(raw[i % KV_QUADS * 2u]), high_ = halves(raw[i % KV_QUADS * 2u + 1u]);
#endif
            matrix_x b;
            b[0] = low.x;
            b[1] = low.y;
            b[2] = high_.x;
            b[3] = high_.y;
            s[t] = coopMatMulAdd(q[i], b, s[t]);
        }
}

// Makes the weights of a block's scores, and the sums so far such as go with them.
void weigh(uint start, matrix_sum s[2], out matrix_w weights)
{
    float keep[2];
    [[unroll]] for (uint r = 0; r < 2u; r++) {
        float v[4], most = NEGATIVE_INFINITY;
        [[unroll]] for (uint i = 0; i < 4u; i++) {
            uint pos = start + column_of(i);
#if KV_INT8
            precise float scaled = s[i / 2u][2u * r + i % 2u] * k_scale[i];
#else
            float scaled = s[i / 2u][2u * r + i % 2u];
#endif
            v[i] = pos >= seen_from[r] && pos < seen_to[r] ? scaled : NEGATIVE_INFINITY;
            most = max(most, v[i]);
        }
        most = max(most, subgroupShuffleXor(most, 1u));
        most = max(most, subgroupShuffleXor(most, 2u));
        float top = max(high[r], most), base = top == NEGATIVE_INFINITY ? 0.0 : top, all[4];
        keep[r] = exp2(high[r] - base);
        [[unroll]] for (uint i = 0; i < 4u; i++) {
            precise float below = v[i] - base;
            all[i] = exp2(below);
            weights[4u * r + i] = float16_t(all[i]);
        }
        precise float more = (all[0] + all[1]) + (all[2] + all[3]);
        total[r] = fma(total[r], keep[r], more);
        high[r] = top;
    }
    if (subgroupAny(keep[0] != 1.0 || keep[1] != 1.0))
        [[unroll]] for (uint n = 0; n < WIDTH; n++)
            [[unroll]] for (uint i = 0; i < 4u; i++) {
                precise float kept = sum[n][i] * keep[i / 2u];
                sum[n][i] = kept;
            }
}

void add_value(matrix_w weights, uint n, f16vec2 v01, f16vec2 v23)
{
    matrix_x b;
    b[0] = v01.x;
    b[1] = v01.y;
    b[2] = v23.x;
    b[3] = v23.y;
    sum[n] = coopMatMulAdd(weights, b, sum[n]);
}

void add_values(matrix_w weights)
{
    [[unroll]] for (uint w = 0; w < V_WORDS; w++) {
        f16vec2 v[4];
#if KV_INT8
        [[unroll]] for (uint odd = 0; odd < 2u; odd++) {
            [[unroll]] for (uint i = 0; i < 4u; i++)
                v[i] = halves_of_bytes(v_raw[i * V_WORDS + w] >> (8u * odd)) * f16vec2(v_scale[i]);
            add_value(weights, 4u * w + odd, f16vec2(v[0].x, v[1].x), f16vec2(v[2].x, v[3].x));
            add_value(weights, 4u * w + odd + 2u, f16vec2(v[0].y, v[1].y), f16vec2(v[2].y, v[3].y));
        }
#else
        [[unroll]] for (uint i = 0; i < 4u; i++) v[i] = halves(v_raw[i * V_WORDS + w]);
        add_value(weights, 2u * w, f16vec2(v[0].x, v[1].x), f16vec2(v[2].x, v[3].x));
        add_value(weights, 2u * w + 1u, f16vec2(v[0].y, v[1].y), f16vec2(v[2].y, v[3].y));
#endif
    }
}

// Tokens begin .. end - 1, which are of one sequence.
void attend(uint begin, uint end)
{
    uint slot = p.step.s.token[begin].slot, last = position_of(end - 1u);
    [[unroll]] for (uint r = 0; r < 2u; r++) {
        uint token = first + g + 8u * r;
        bool own = token >= begin && token < end;
        uint pos = position_of(own ? token : begin);
        seen_from[r] = window_of(pos);
        seen_to[r] = own ? pos + 1u : 0u;
    }
    for (uint start = window_of(position_of(begin)) / BLOCK * BLOCK; start <= last; start += BLOCK) {
        vly_page page = page_of(slot, start); // of all of the block
        load_keys(page, start);
        load_scales(page, start);
        load_values(page, start);
        if (start + BLOCK > last) drop_values(start, last);
        matrix_sum s[2];
        matrix_w weights;
        score(s);
        weigh(start, s, weights);
        add_values(weights);
    }
}

void write_output()
{
    [[unroll]] for (uint r = 0; r < 2u; r++) {
        precise float half_ = total[r] + subgroupShuffleXor(total[r], 1u);
        precise float all = half_ + subgroupShuffleXor(half_, 2u);
        uint token = first + g + 8u * r;
        if (token >= n_tok) continue;
        [[unroll]] for (uint c = 0; c < 2u; c++)
            [[unroll]] for (uint n = 0; n < WIDTH; n += 4u) {
                uint i = 2u * r + c, quad = (head * HEAD_DIM + (2u * j + c) * WIDTH + n) / 4u;
                precise vec4 y = vec4(sum[n][i], sum[n + 1u][i], sum[n + 2u][i], sum[n + 3u][i]) / all;
                store_x_quad(p.act, HALF_OUT, p.out_quad + token * p.out_stride, quad, y);
            }
    }
}

void main()
{
    g = gl_SubgroupInvocationID / 4u;
    j = gl_SubgroupInvocationID % 4u;
    head = gl_WorkGroupID.x * gl_NumSubgroups + gl_SubgroupID;
    first = gl_WorkGroupID.y * ROWS;
    n_tok = p.step.s.n_tok;
    if (head >= p.n_head || first >= n_tok) return;
    kv_head = head / (p.n_head / p.n_head_kv);
    load_queries();
    [[unroll]] for (uint n = 0; n < WIDTH; n++) sum[n] = MATRIX_ZERO;
    high[0] = high[1] = NEGATIVE_INFINITY;
    total[0] = total[1] = 0.0;
    uint end = min(first + ROWS, n_tok);
    for (uint begin = first, next; begin < end; begin = next) {
        // Rows of the sequence of row `begin`; lanes beyond the rows have none.
        uint token = min(first + gl_SubgroupInvocationID, end - 1u), of = p.step.s.token[begin].first;
        bool own = p.step.s.token[token].first == of && first + gl_SubgroupInvocationID < end;
        next = begin + subgroupBallotBitCount(subgroupBallot(own));
        attend(begin, next);
    }
    write_output();
}
