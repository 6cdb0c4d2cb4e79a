// Attention with several subgroups to a workgroup, for devices with many processors: a workgroup takes
// splits of SPLIT positions, its subgroups the blocks of a split in turn, and what they have is
// merged in order. In decode and verify passes the splits go to gl_NumWorkGroups.z workgroups; the last one
// to arrive merges them, again in order. In prompts one workgroup takes all, with the same arithmetic.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(buffer_reference, buffer_reference_align = 16) coherent buffer RefShared { vec4 at[]; };
#include "attention.glsl"

layout(constant_id = 7) const uint SPLIT = VLY_SPLIT_TOKENS;
layout(constant_id = 8) const uint HALF_OUT = 0; // 1: as matrix units read it

#define GROUPS (gl_WorkGroupSize.x / LANES)
#define HEAD_QUADS (HEAD_DIM / 4)
#define QUADS_OUT (HEADS * HEAD_QUADS)
#define ROUNDS ((QUADS_OUT + gl_WorkGroupSize.x - 1) / gl_WorkGroupSize.x)

shared vec2 shared_state[GROUPS * HEADS]; // (high, total) of each subgroup
shared vec4 shared_sum[GROUPS * QUADS_OUT];
shared uint shared_arrived;

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

uint output_index(uint r)
{
    return r * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
}

// One split, by all subgroups.
void take_split(uint split)
{
    begin_blocks();
    uint end = min(len, (split + 1u) * SPLIT);
    for (uint start = split * SPLIT + gl_SubgroupID * LANES; start < end; start += GROUPS * LANES)
        if (start + LANES > from) add_block(start);
    barrier();
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        if (subgroupElect()) shared_state[gl_SubgroupID * HEADS + h] = vec2(high[h], total[h]);
        [[unroll]] for (uint j = 0; j < PART_ROUNDS * KV_QUADS; j++) {
            uint part = gl_SubgroupInvocationID + j / KV_QUADS * PART_LANES;
            vec4 v = whole_sum(h, j);
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
        RefShared at = RefShared(uvec2(p.act));
        at.at[partial_quad(token, split, i)] = split_sum[r];
        if (i % HEAD_QUADS == 0u)
            at.at[partial_quad(token, split, i) + HEAD_QUADS] = vec4(split_high[r], split_total[r], 0.0, 0.0);
    }
}

void merge_partials(uint token, uint first_split, uint splits)
{
    RefShared at = RefShared(uvec2(p.act));
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

void write_x(uint quad, uint i, vec4 y)
{
    if (HALF_OUT == 0u) {
        p.act.at[quad + i] = y;
    } else {
        RefU1 words = RefU1(uvec2(p.act));
        words.at[quad * 4u + half_word(2u * i)] = half_pair(y.xy);
        words.at[quad * 4u + half_word(2u * i + 1u)] = half_pair(y.zw);
    }
}

void write_output(uint token)
{
    [[unroll]] for (uint r = 0; r < ROUNDS; r++) {
        uint i = output_index(r);
        if (i >= QUADS_OUT) break;
        precise vec4 y = out_sum[r] / out_total[r];
        write_x(p.out_quad + token * p.out_stride, head * HEAD_QUADS + i, y);
    }
}

void main()
{
    uint token = gl_WorkGroupID.y;
    if (token >= p.step.s.n_tok) return;
    begin_token(token, gl_WorkGroupID.x);
    uint first_split = from / SPLIT, splits = (len + SPLIT - 1u) / SPLIT;
    uint workers = min(splits - first_split, gl_NumWorkGroups.z);
    if (gl_WorkGroupID.z >= workers) return;
    if (STORED == 0u && first_of_kv && gl_WorkGroupID.z == 0u && gl_SubgroupID == GROUPS - 1u)
        kv_store(token, kv_head);

    [[unroll]] for (uint r = 0; r < ROUNDS; r++) {
        out_high[r] = NEGATIVE_INFINITY;
        out_total[r] = 0.0;
        out_sum[r] = vec4(0.0);
    }
    for (uint split = first_split + gl_WorkGroupID.z; split < splits; split += workers) {
        take_split(split);
        if (workers > 1u) {
            write_partials(token, split);
            continue;
        }
        [[unroll]] for (uint r = 0; r < ROUNDS; r++)
            merge_split(r, vec2(split_high[r], split_total[r]), split_sum[r]);
    }
    if (workers > 1u) {
        if (!arrives_last(token, workers)) return;
        merge_partials(token, first_split, splits);
    }
    write_output(token);
}
