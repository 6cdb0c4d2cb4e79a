// Attention with several subgroups to a workgroup, for devices with many processors: grouped-query attention
// of one token over its pages with an online softmax (Milakov and Gimelshein, arXiv 1805.02867; Dao et al.,
// arXiv 2205.14135). A workgroup takes splits of SPLIT positions, its subgroups the blocks of a split in turn,
// a position to a lane, and what they have is merged in order. In decode and verify passes the splits go to
// gl_NumWorkGroups.z workgroups; the last one to arrive merges them, again in order. In prompts one
// workgroup takes all, with the same arithmetic. Blocks start at fixed positions, so the order of every sum
// depends on the position alone and never on what else is in the step.
//
// In decode and verify passes (STORED = 0) the step's own K and V come from the activations, rounded as their
// pages will have them, and the token's own are stored on the way. What a block reads is on its way before
// anything is computed: with few tokens it is the waiting that takes the time.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "kv.glsl"
#include "chain.glsl"
layout(constant_id = 2) const uint HEADS = 1;       // query heads of this workgroup
layout(constant_id = 3) const uint STORED = 0;
layout(constant_id = 4) const uint PART_LANES = 4;  // lanes that share a position's V; a power of two
layout(constant_id = 5) const uint PART_ROUNDS = 1; // parts of V of one lane
layout(constant_id = 6) const uint LANES = 32;      // of a subgroup, and positions of a block
layout(constant_id = 7) const uint SPLIT = VLY_SPLIT_TOKENS;
layout(constant_id = 8) const uint HALF_OUT = 0; // 1: as matrix units read it

#define GROUPS (gl_WorkGroupSize.x / LANES)
#define HEAD_QUADS (HEAD_DIM / 4)
#define QUADS_OUT (HEADS * HEAD_QUADS)
#define ROUNDS ((QUADS_OUT + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x)
#define PART_WORDS (4 * KV_PARTS)                              // words of a token's K or V in its page
#define FRESH (STORED == 0u ? 2 * VLY_MAX_FRESH : 1)           // K and V of the step's tokens
#define FRESH_ROUNDS ((HEAD_QUADS + LANES - 1) / LANES)
const uint TOGETHER = LANES / PART_LANES; // positions whose V a subgroup adds at a time

shared vec4 shared_q[QUADS_OUT];
shared uint shared_fresh[FRESH * PART_WORDS]; // [K, V][token from `first` on], as in pages
shared float shared_fresh_scale[FRESH];
shared vec2 shared_state[GROUPS * HEADS]; // (high, total) of each subgroup
shared vec4 shared_sum[GROUPS * QUADS_OUT];
shared uint shared_arrived;

layout(buffer_reference, buffer_reference_align = 16) coherent buffer RefPartials { vec4 at[]; };

// A quad of `qkv`, which is tagged where the step is chained.
vec4 read_qkv(uint quad)
{
    if (p.chain.read == 0u) return READ_FRESH(quad);
    return chain_await_quad(p.qkv_quad + (quad - p.qkv_quad) * 2u, p.chain.read);
}

uint kv_head, head, slot, first, first_pos;
uint from, len; // the token sees positions from .. len - 1, and nothing before is read
bool first_of_kv; // of the workgroups that share this KV head, the one that stores

// A block as it lies in pages: of this lane's position K and the scales, and this lane's parts of V.
uvec4 k_raw[KV_PARTS], v_raw[PART_LANES * PART_ROUNDS];
float k_scale, v_scale;
float s[HEADS]; // of this lane's position in the block: scores, then weights
// Of the blocks so far, by this subgroup: highest score, sum of weights, weighted V (this lane's parts).
float high[HEADS], total[HEADS];
vec4 sum[HEADS * PART_ROUNDS * KV_QUADS];
// This invocation's quads (quad i = round * width + invocation of the output): of the split under way, and
// of the splits so far.
float split_high[ROUNDS], split_total[ROUNDS], out_high[ROUNDS], out_total[ROUNDS];
vec4 split_sum[ROUNDS], out_sum[ROUNDS];

void merge_group(uint r, vec2 state, vec4 sum_)
{
    if (state.y == 0.0) return; // none of its blocks is seen
    float top = max(split_high[r], state.x);
    precise float keep = exp(split_high[r] - top), take = exp(state.x - top);
    precise float total_ = split_total[r] * keep;
    precise vec4 kept = split_sum[r] * keep;
    split_total[r] = fma(state.y, take, total_);
    split_sum[r] = fma(sum_, vec4(take), kept);
    split_high[r] = top;
}

void merge_split(uint r, vec2 state, vec4 sum_)
{
    float top = max(out_high[r], state.x);
    precise float keep = exp(out_high[r] - top), take = exp(state.x - top);
    precise float total_ = out_total[r] * keep;
    precise vec4 kept = out_sum[r] * keep;
    out_total[r] = fma(state.y, take, total_);
    out_sum[r] = fma(sum_, vec4(take), kept);
    out_high[r] = top;
}

void begin_token(uint token, uint group_index)
{
    uint group = p.n_head / p.n_head_kv, groups = group / HEADS;
    vly_step_token t = p.step.s.token[token];
    kv_head = group_index / groups;
    head = kv_head * group + group_index % groups * HEADS;
    first_of_kv = group_index % groups == 0u;
    slot = t.slot;
    first = t.first;
    first_pos = t.pos - (token - first); // a sequence's tokens of a step are neighbours
    len = t.pos + 1u;
    from = p.window > 0u && len > p.window ? len - p.window : 0u;
}

bool is_fresh(uint pos)
{
    return STORED == 0u && pos >= first_pos;
}

// Position of the n-th V that this lane takes parts of, and the part.
uint v_lane(uint n)
{
    return n * TOGETHER + gl_SubgroupInvocationID / PART_LANES;
}

uint v_part(uint round_)
{
    return min(gl_SubgroupInvocationID % PART_LANES + round_ * PART_LANES, KV_PARTS - 1u);
}

void load_block(uint start)
{
    if (start >= len) return;
    uint pos = clamp(start + gl_SubgroupInvocationID, from, len - 1u);
    vly_page page = page_of(slot, pos);
    [[unroll]] for (uint part = 0; part < KV_PARTS; part++)
        k_raw[part] = kv_read(page, kv_quad_of(KV_K, kv_head, pos) + part);
    k_scale = kv_read_scale(page, KV_K, kv_head, pos);
    v_scale = kv_read_scale(page, KV_V, kv_head, pos);
    [[unroll]] for (uint n = 0; n < PART_LANES; n++) {
        uint v_pos = clamp(start + v_lane(n), from, len - 1u);
        page = page_of(slot, v_pos);
        [[unroll]] for (uint r = 0; r < PART_ROUNDS; r++)
            v_raw[n * PART_ROUNDS + r] = kv_read(page, kv_quad_of(KV_V, kv_head, v_pos) + v_part(r));
    }
}

// Rounds K and V of the sequence's tokens of this step, up to this one, into shared memory, and the token's
// own into its page.
void take_fresh(uint token)
{
    uint n = token - first + 1u;
    for (uint item = GROUPS - 1u - gl_SubgroupID; item < 2u * n; item += GROUPS) {
        uint which = item & 1u, i = item / 2u, slot_of = which * VLY_MAX_FRESH + i;
        uint quad = fresh_quad(which, first + i, kv_head);
        vec4 v[FRESH_ROUNDS];
        float most = 0.0;
        [[unroll]] for (uint r = 0; r < FRESH_ROUNDS; r++) {
            uint at = r * LANES + gl_SubgroupInvocationID;
            v[r] = vec4(0.0);
            if (at < HEAD_QUADS) v[r] = read_qkv(quad + at);
            most = max(most, quad_max(v[r]));
        }
        float scale = kv_scale(subgroupMax(most));
        bool own = i + 1u == n && first_of_kv && gl_WorkGroupID.z == 0u;
        [[unroll]] for (uint r = 0; r < FRESH_ROUNDS; r++) {
            uint at = r * LANES + gl_SubgroupInvocationID;
            if (at >= HEAD_QUADS) break;
            kv_words words = kv_pack(v[r], scale);
            [[unroll]] for (uint w = 0; w < KV_QUAD_WORDS; w++)
                shared_fresh[slot_of * PART_WORDS + at * KV_QUAD_WORDS + w] = words.word[w];
            if (own) kv_store_words(which, slot, len - 1u, kv_head, at, words);
        }
        if (own && subgroupElect()) kv_store_scale(which, slot, len - 1u, kv_head, scale);
        if (subgroupElect()) shared_fresh_scale[slot_of] = scale;
    }
}

uvec4 fresh_part(uint which, uint pos, uint part)
{
    uint at = (which * VLY_MAX_FRESH + pos - first_pos) * PART_WORDS + part * 4u;
    return uvec4(shared_fresh[at], shared_fresh[at + 1u], shared_fresh[at + 2u], shared_fresh[at + 3u]);
}

// Scores of this lane's position against every head.
void score(uint start)
{
    uint own = start + gl_SubgroupInvocationID, pos = clamp(own, from, len - 1u);
    if (STORED == 0u && is_fresh(pos)) {
        k_scale = shared_fresh_scale[pos - first_pos];
        v_scale = shared_fresh_scale[VLY_MAX_FRESH + pos - first_pos];
        [[unroll]] for (uint part = 0; part < KV_PARTS; part++) k_raw[part] = fresh_part(KV_K, pos, part);
    }
    [[unroll]] for (uint h = 0; h < HEADS; h++) s[h] = 0.0;
    [[unroll]] for (uint part = 0; part < KV_PARTS; part++)
        [[unroll]] for (uint j = 0; j < KV_QUADS; j++) {
            vec4 k = kv_unpack(k_raw[part], j);
            [[unroll]] for (uint h = 0; h < HEADS; h++)
                s[h] = dot_add(k, shared_q[h * HEAD_QUADS + part * KV_QUADS + j], s[h]);
        }
    precise float factor = k_scale * p.scale;
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        precise float scaled = s[h] * factor;
        s[h] = own == pos ? scaled : NEGATIVE_INFINITY;
    }
}

void begin_blocks()
{
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        high[h] = NEGATIVE_INFINITY;
        total[h] = 0.0;
    }
    [[unroll]] for (uint i = 0; i < HEADS * PART_ROUNDS * KV_QUADS; i++) sum[i] = vec4(0.0);
}

// Adds the loaded block of positions from `start` on, some of which the token sees.
void add_block(uint start)
{
    score(start);
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        float top = max(high[h], subgroupMax(s[h]));
        precise float keep = exp(high[h] - top);
        s[h] = exp(s[h] - top);
        total[h] = fma(total[h], keep, subgroupAdd(s[h]));
        high[h] = top;
        [[unroll]] for (uint i = h * PART_ROUNDS * KV_QUADS; i < (h + 1u) * PART_ROUNDS * KV_QUADS; i++) {
            precise vec4 kept = sum[i] * keep;
            sum[i] = kept;
        }
        precise float weighted = s[h] * v_scale;
        s[h] = weighted;
    }
    [[unroll]] for (uint n = 0; n < PART_LANES; n++) {
        float weight[HEADS];
        [[unroll]] for (uint h = 0; h < HEADS; h++) weight[h] = subgroupShuffle(s[h], v_lane(n));
        uint pos = clamp(start + v_lane(n), from, len - 1u);
        [[unroll]] for (uint r = 0; r < PART_ROUNDS; r++) {
            uvec4 raw = v_raw[n * PART_ROUNDS + r];
            if (STORED == 0u && is_fresh(pos)) raw = fresh_part(KV_V, pos, v_part(r));
            [[unroll]] for (uint j = 0; j < KV_QUADS; j++) {
                vec4 v = kv_unpack(raw, j);
                [[unroll]] for (uint h = 0; h < HEADS; h++) {
                    uint i = (h * PART_ROUNDS + r) * KV_QUADS + j;
                    sum[i] = fma(vec4(weight[h]), v, sum[i]);
                }
            }
        }
    }
}

// Adds up what the lanes have of a quad: afterwards lanes < PART_LANES hold the quads of part lane + round *
// PART_LANES.
vec4 whole_sum(uint i)
{
    precise vec4 v = sum[i];
    [[unroll]] for (uint apart = PART_LANES; apart < LANES; apart *= 2u) v += subgroupShuffleXor(v, apart);
    return v;
}

uint output_index(uint r)
{
    return r * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
}

// One split, by all subgroups; this one's first block is loaded.
void take_split(uint split)
{
    begin_blocks();
    uint end = min(len, (split + 1u) * SPLIT), first_start = split * SPLIT + gl_SubgroupID * LANES;
    for (uint start = first_start; start < end; start += GROUPS * LANES) {
        if (start != first_start) load_block(start);
        if (start + LANES > from) add_block(start);
    }
    barrier();
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        if (subgroupElect()) shared_state[gl_SubgroupID * HEADS + h] = vec2(high[h], total[h]);
        [[unroll]] for (uint j = 0; j < PART_ROUNDS * KV_QUADS; j++) {
            uint part = gl_SubgroupInvocationID + j / KV_QUADS * PART_LANES;
            vec4 v = whole_sum(h * PART_ROUNDS * KV_QUADS + j);
            if (gl_SubgroupInvocationID < PART_LANES && part < KV_PARTS)
                shared_sum[gl_SubgroupID * QUADS_OUT + h * HEAD_QUADS + part * KV_QUADS +
                           j % KV_QUADS] = v;
        }
    }
    barrier();
    [[unroll]] for (uint r = 0; r < ROUNDS; r++) {
        uint i = output_index(r);
        split_high[r] = NEGATIVE_INFINITY;
        split_total[r] = 0.0;
        split_sum[r] = vec4(0.0);
        if (i >= QUADS_OUT) break;
        for (uint g = 0; g < GROUPS && split * SPLIT + g * LANES < end; g++)
            merge_group(r, shared_state[g * HEADS + i / HEAD_QUADS], shared_sum[g * QUADS_OUT + i]);
    }
}

// Where a split of a (token, head) leaves its output: HEAD_QUADS quads, and one with (high, total).
uint partial_quad(uint token, uint split, uint i)
{
    uint h = head + i / HEAD_QUADS;
    return p.partial_quad +
           ((token * p.n_head + h) * p.max_splits + split) * (HEAD_QUADS + 1u) + i % HEAD_QUADS;
}

void write_partials(uint token, uint split)
{
    [[unroll]] for (uint r = 0; r < ROUNDS; r++) {
        uint i = output_index(r);
        if (i >= QUADS_OUT) break;
        RefPartials at = RefPartials(uvec2(p.act));
        at.at[partial_quad(token, split, i)] = split_sum[r];
        if (i % HEAD_QUADS == 0u)
            at.at[partial_quad(token, split, i) + HEAD_QUADS] = vec4(split_high[r], split_total[r], 0.0, 0.0);
    }
}

void merge_partials(uint token, uint first_split, uint splits)
{
    RefPartials at = RefPartials(uvec2(p.act));
    [[unroll]] for (uint r = 0; r < ROUNDS; r++) {
        uint i = output_index(r);
        if (i >= QUADS_OUT) break;
        for (uint split = first_split; split < splits; split++) {
            uint quad = partial_quad(token, split, i);
            merge_split(r, at.at[quad - i % HEAD_QUADS + HEAD_QUADS].xy, at.at[quad]);
        }
    }
}

// Is this the last of the workgroups that share the token and heads?
bool arrives_last(uint token, uint workers)
{
    memoryBarrierBuffer();
    barrier();
    if (gl_LocalInvocationIndex == 0u) {
        uint at = token * (p.n_head / HEADS) + gl_WorkGroupID.x;
        shared_arrived = atomicAdd(p.counters.at[at], 1u);
        if (shared_arrived == workers - 1u) p.counters.at[at] = 0u;
    }
    barrier();
    memoryBarrierBuffer();
    return shared_arrived == workers - 1u;
}

void write_output(uint token)
{
    [[unroll]] for (uint r = 0; r < ROUNDS; r++) {
        uint i = output_index(r);
        if (i >= QUADS_OUT) break;
        precise vec4 y = out_sum[r] / out_total[r];
        uint quad = head * HEAD_QUADS + i;
        if (p.chain.written == 0u)
            store_x_quad(p.act, HALF_OUT, p.out_quad + token * p.out_stride, quad, y);
        else
            chain_store_x_quad(p.out_quad + token * p.out_stride * 2u, quad, y);
    }
}

// False: another workgroup finishes what this one began.
bool attend(uint token)
{
    uint first_split = from / SPLIT, splits = (len + SPLIT - 1u) / SPLIT;
    uint workers = min(splits - first_split, gl_NumWorkGroups.z);
    uint own_split = first_split + gl_WorkGroupID.z;
    if (gl_WorkGroupID.z >= workers) return false;
    load_block(own_split * SPLIT + gl_SubgroupID * LANES);
    chain_await_workgroups();
    uint q_quad = p.qkv_quad + token * p.qkv_stride + head * HEAD_QUADS;
    [[unroll]] for (uint r = 0; r < ROUNDS; r++)
        if (output_index(r) < QUADS_OUT) shared_q[output_index(r)] = read_qkv(q_quad + output_index(r));
    if (STORED == 0u) take_fresh(token);
    barrier();

    [[unroll]] for (uint r = 0; r < ROUNDS; r++) {
        out_high[r] = NEGATIVE_INFINITY;
        out_total[r] = 0.0;
        out_sum[r] = vec4(0.0);
    }
    for (uint split = own_split; split < splits; split += workers) {
        if (split != own_split) load_block(split * SPLIT + gl_SubgroupID * LANES);
        take_split(split);
        if (workers > 1u) {
            write_partials(token, split);
            continue;
        }
        [[unroll]] for (uint r = 0; r < ROUNDS; r++)
            merge_split(r, vec2(split_high[r], split_total[r]), split_sum[r]);
    }
    if (workers > 1u) {
        if (!arrives_last(token, workers)) return false;
        merge_partials(token, first_split, splits);
    }
    write_output(token);
    return true;
}

void main()
{
    uint token = gl_WorkGroupID.y, n_tok = p.step.s.n_tok;
    if (p.chain.read != 0u) chain_begin();
    begin_token(token, gl_WorkGroupID.x); // what it reads need not wait for n_tok
    if (token < n_tok ? attend(token) : gl_WorkGroupID.z == 0u) chain_tell();
}
