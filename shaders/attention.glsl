// Attention of the group form: grouped-query attention of one token over its pages
// with an online softmax (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv 2205.14135), in
// blocks of positions that one subgroup takes at a time. Blocks start at fixed positions, so the order of
// every sum depends on the position alone and never on what else is in the step.
//
// In decode and verify passes (STORED = 0) the step's own K and V come from the activations, rounded
// as their pages will have them, and the token's own are stored on the way.
#include "kv.glsl"
layout(constant_id = 2) const uint HEADS = 1;       // query heads of this workgroup
layout(constant_id = 3) const uint STORED = 0;
layout(constant_id = 4) const uint PART_LANES = 4;  // lanes that share a position's V; a power of two
layout(constant_id = 5) const uint PART_ROUNDS = 1; // parts of V of one lane
layout(constant_id = 6) const uint LANES = 32;      // of a subgroup, and positions of a block

uint kv_head, head, q_quad, slot, first, first_pos;
uint from, len; // the token sees positions from .. len - 1, and nothing before is read
bool first_of_kv;   // of the workgroups that share this KV head, the one that stores
float s[HEADS];     // of this lane's position in the block: scores, then weights
float v_scale;      // of its V
float weight[HEADS]; // of one position
// Of the blocks so far, by this subgroup: highest score, sum of weights, weighted V (this lane's parts).
float high[HEADS], total[HEADS];
vec4 sum[HEADS][PART_ROUNDS * KV_QUADS];

bool is_fresh(uint pos)
{
    return STORED == 0u && pos >= first_pos;
}

// Scores of this lane's position against every head, and the scale of its V.
void score(uint start)
{
    uint own = start + gl_SubgroupInvocationID, pos = clamp(own, from, len - 1u);
    vly_page page = page_of(slot, pos);
    float k_scale = kv_read_scale(page, KV_K, kv_head, pos);
    v_scale = kv_read_scale(page, KV_V, kv_head, pos);
    bool any_fresh = STORED == 0u && start + LANES > first_pos;
    uint k_fresh = fresh_quad(KV_K, first + pos - first_pos, kv_head);
    if (any_fresh && is_fresh(pos)) {
        uint v_fresh = fresh_quad(KV_V, first + pos - first_pos, kv_head);
        float k_high = 0.0, v_high = 0.0;
        for (uint d = 0; d < HEAD_DIM / 4u; d++) {
            k_high = max(k_high, quad_max(READ_ACT(k_fresh + d)));
            v_high = max(v_high, quad_max(READ_ACT(v_fresh + d)));
        }
        k_scale = kv_scale(k_high);
        v_scale = kv_scale(v_high);
    }
    [[unroll]] for (uint h = 0; h < HEADS; h++) s[h] = 0.0;
    for (uint part = 0; part < KV_PARTS; part++) {
        uvec4 raw = kv_read(page, kv_quad_of(KV_K, kv_head, pos) + part);
        [[unroll]] for (uint j = 0; j < KV_QUADS; j++) {
            vec4 k = kv_unpack(raw, j);
            if (any_fresh && is_fresh(pos))
                k = kv_round(READ_ACT(k_fresh + part * KV_QUADS + j), k_scale);
            [[unroll]] for (uint h = 0; h < HEADS; h++)
                s[h] = dot_add(k, READ_ACT(q_quad + h * (HEAD_DIM / 4u) + part * KV_QUADS + j), s[h]);
        }
    }
    precise float factor = k_scale * p.scale;
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        precise float scaled = s[h] * factor;
        s[h] = own == pos ? scaled : NEGATIVE_INFINITY;
    }
}

// Adds weight * V of one position, this lane's parts, to the sums.
void add_v(uint pos, float scale)
{
    vly_page page = page_of(slot, pos);
    [[unroll]] for (uint round = 0; round < PART_ROUNDS; round++) {
        uint part = min(gl_SubgroupInvocationID % PART_LANES + round * PART_LANES, KV_PARTS - 1u);
        uvec4 raw = kv_read(page, kv_quad_of(KV_V, kv_head, pos) + part);
        [[unroll]] for (uint j = 0; j < KV_QUADS; j++) {
            vec4 v = kv_unpack(raw, j);
            if (is_fresh(pos)) {
                uint quad = fresh_quad(KV_V, first + pos - first_pos, kv_head);
                v = kv_round(READ_ACT(quad + part * KV_QUADS + j), scale);
            }
            [[unroll]] for (uint h = 0; h < HEADS; h++)
                sum[h][round * KV_QUADS + j] = fma(vec4(weight[h]), v, sum[h][round * KV_QUADS + j]);
        }
    }
}

void begin_token(uint token, uint group_index)
{
    uint group = p.n_head / p.n_head_kv, groups = group / HEADS;
    kv_head = group_index / groups;
    head = kv_head * group + group_index % groups * HEADS;
    first_of_kv = group_index % groups == 0u;
    q_quad = p.qkv_quad + token * p.qkv_stride + head * (HEAD_DIM / 4u);
    slot = p.step.s.token[token].slot;
    first = p.step.s.token[token].first;
    first_pos = p.step.s.token[first].pos;
    len = p.step.s.token[token].pos + 1u;
    from = p.window > 0u && len > p.window ? len - p.window : 0u;
}

void begin_blocks()
{
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        high[h] = NEGATIVE_INFINITY;
        total[h] = 0.0;
        [[unroll]] for (uint j = 0; j < PART_ROUNDS * KV_QUADS; j++) sum[h][j] = vec4(0.0);
    }
}

// Adds the block of positions from `start` on, some of which the token sees.
void add_block(uint start)
{
    score(start);
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        float top = max(high[h], subgroupMax(s[h]));
        precise float keep = exp(high[h] - top);
        s[h] = exp(s[h] - top);
        total[h] = fma(total[h], keep, subgroupAdd(s[h]));
        high[h] = top;
        [[unroll]] for (uint j = 0; j < PART_ROUNDS * KV_QUADS; j++) {
            precise vec4 kept = sum[h][j] * keep;
            sum[h][j] = kept;
        }
    }
    // LANES / PART_LANES positions at a time; each lane takes its parts of one of them.
    const uint together = LANES / PART_LANES;
    for (uint n = 0; n < PART_LANES && start + n * together < len; n++) {
        uint lane = n * together + gl_SubgroupInvocationID / PART_LANES;
        float scale = subgroupShuffle(v_scale, lane);
        [[unroll]] for (uint h = 0; h < HEADS; h++) {
            precise float w = subgroupShuffle(s[h], lane) * scale;
            weight[h] = w;
        }
        add_v(clamp(start + lane, from, len - 1u), scale);
    }
}

// Adds up what the lanes have of quad j of head h: afterwards lanes < PART_LANES hold the quads of part
// lane + round * PART_LANES, with j = round * KV_QUADS + quad of the part.
vec4 whole_sum(uint h, uint j)
{
    precise vec4 v = sum[h][j];
    for (uint apart = PART_LANES; apart < LANES; apart *= 2u) v += subgroupShuffleXor(v, apart);
    return v;
}
