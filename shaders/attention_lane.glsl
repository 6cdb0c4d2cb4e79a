// Attention of the lane form, by one subgroup: grouped-query attention of one token over its pages with an online
// softmax (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135). K and V of the step's own
// tokens lie in the pages already. Blocks of LANES positions start at fixed positions, so the order of every sum
// depends on the position alone and never on what else is in the step. Loops inside a block are unrolled: what
// they index stays in registers, and shuffles have constant lanes.
#include "kv.glsl"
layout(constant_id = KV_CONSTANTS + 1) const uint HEADS = 1;       // query heads taken together
layout(constant_id = KV_CONSTANTS + 2) const uint PART_LANES = 4;  // lanes that share a position's V; a power of two
layout(constant_id = KV_CONSTANTS + 3) const uint PART_ROUNDS = 1; // parts of V of one lane
#define LANES gl_WorkGroupSize.x // of a subgroup, and positions of a block: they divide a page's
#define Q_QUADS (HEAD_DIM / 4u)

// Of the blocks so far: highest score; sum of weights and of weighted V, both this lane's part.
float high[HEADS], total[HEADS];
vec4 weighted[HEADS][PART_ROUNDS * KV_QUADS];
vec4 query[HEADS][Q_QUADS]; // the same in all lanes

void load_query(uint quad)
{
    [[unroll]] for (uint i = 0; i < HEADS * Q_QUADS; i += LANES) {
        // One fetch for each lane, and then to all.
        vec4 in_lanes = READ_ACT(quad + min(i + gl_SubgroupInvocationID, HEADS * Q_QUADS - 1u));
        [[unroll]] for (uint j = 0; j < LANES; j++)
            if (i + j < HEADS * Q_QUADS) query[(i + j) / Q_QUADS][(i + j) % Q_QUADS] = subgroupShuffle(in_lanes, j);
    }
}

float highest(float v)
{
    [[unroll]] for (uint apart = 1; apart < LANES; apart *= 2u) v = max(v, subgroupShuffleXor(v, apart));
    return v;
}

// Adds the block of positions from `start` on, of which the token sees from .. len - 1. Positions that it does not
// see weigh nothing, and stand for one that it sees.
void add_block(uint slot, uint kv_head, uint start, uint from, uint len)
{
    vly_page page = page_of(slot, start);
    uint own = start + gl_SubgroupInvocationID, pos = clamp(own, from, len - 1u);
    float k_scale = kv_read_scale(page, KV_K, kv_head, pos), v_scale = kv_read_scale(page, KV_V, kv_head, pos);
    float s[HEADS];
    [[unroll]] for (uint h = 0; h < HEADS; h++) s[h] = 0.0;
    [[unroll]] for (uint part = 0; part < KV_PARTS; part++) {
        uvec4 raw = kv_read(page, kv_quad_of(KV_K, kv_head, pos) + part);
        [[unroll]] for (uint j = 0; j < KV_QUADS; j++) {
            vec4 k = kv_unpack(raw, j);
            [[unroll]] for (uint h = 0; h < HEADS; h++) s[h] = dot_add(k, query[h][part * KV_QUADS + j], s[h]);
        }
    }
    precise float factor = k_scale * p.scale;
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        precise float score = s[h] * factor;
        score = own == pos ? score : NEGATIVE_INFINITY;
        float top = max(high[h], highest(score));
        precise float keep = exp(high[h] - top), weight = exp(score - top);
        total[h] = fma(total[h], keep, weight);
        high[h] = top;
        precise float of_v = weight * v_scale;
        s[h] = of_v;
        [[unroll]] for (uint j = 0; j < PART_ROUNDS * KV_QUADS; j++) {
            precise vec4 kept = weighted[h][j] * keep;
            weighted[h][j] = kept;
        }
    }
    // LANES / PART_LANES positions at a time; each lane takes its parts of one of them.
    [[unroll]] for (uint n = 0; n < PART_LANES; n++) {
        uint lane = n * (LANES / PART_LANES) + gl_SubgroupInvocationID / PART_LANES;
        uint quad = kv_quad_of(KV_V, kv_head, clamp(start + lane, from, len - 1u));
        float w[HEADS];
        [[unroll]] for (uint h = 0; h < HEADS; h++) w[h] = subgroupShuffle(s[h], lane);
        [[unroll]] for (uint round = 0; round < PART_ROUNDS; round++) {
            uint part = min(gl_SubgroupInvocationID % PART_LANES + round * PART_LANES, KV_PARTS - 1u);
            uvec4 raw = kv_read(page, quad + part);
            [[unroll]] for (uint j = 0; j < KV_QUADS; j++) {
                vec4 v = kv_unpack(raw, j);
                [[unroll]] for (uint h = 0; h < HEADS; h++) {
                    uint at = round * KV_QUADS + j;
                    weighted[h][at] = fma(vec4(w[h]), v, weighted[h][at]);
                }
            }
        }
    }
}

// Attention of a token by group `index` of HEADS query heads, those of a KV head one after the other.
void attend(uint token, uint index)
{
    uint group = p.n_head / p.n_head_kv, groups = group / HEADS, kv_head = index / groups;
    uint head = kv_head * group + index % groups * HEADS, slot = p.step.s.token[token].slot;
    uint len = p.step.s.token[token].pos + 1u;
    uint from = p.window > 0u && len > p.window ? len - p.window : 0u;
    load_query(p.qkv_quad + token * p.qkv_stride + head * Q_QUADS);
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        high[h] = NEGATIVE_INFINITY;
        total[h] = 0.0;
        [[unroll]] for (uint j = 0; j < PART_ROUNDS * KV_QUADS; j++) weighted[h][j] = vec4(0.0);
    }
    for (uint start = from / LANES * LANES; start < len; start += LANES) add_block(slot, kv_head, start, from, len);
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        float all = subgroupAdd(total[h]);
        [[unroll]] for (uint j = 0; j < PART_ROUNDS * KV_QUADS; j++) {
            uint part = gl_SubgroupInvocationID + j / KV_QUADS * PART_LANES;
            precise vec4 v = weighted[h][j];
            [[unroll]] for (uint apart = PART_LANES; apart < LANES; apart *= 2u) v += subgroupShuffleXor(v, apart);
            precise vec4 y = v / all;
            if (gl_SubgroupInvocationID < PART_LANES && part < KV_PARTS)
                p.act.at[p.out_quad + token * p.out_stride + (head + h) * Q_QUADS + part * KV_QUADS + j % KV_QUADS] = y;
        }
    }
}
