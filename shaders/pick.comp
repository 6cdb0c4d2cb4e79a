// Picks the next token of each row of logits: the argmax of logit / T + noise over the tokens that
// temperature, top-k, top-p and min-p leave, in this order; with T = 0 the argmax of the logits.
// One workgroup a row. Thresholds are found four bits of a float at a time, so that no sort is
// needed; which rows a thread looks at is fixed, so that every sum has one order.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "noise.glsl"
layout(push_constant, scalar) uniform Push { vly_push_pick p; };

#define WIDTH gl_WorkGroupSize.x
// -log(-log u) lies between -3.2 and 22.9 here: what is further below the best cannot win.
#define LEAST_NOISE (-3.2)
#define NOISE_SPAN  27.0

shared float shared_value[128];
shared uint shared_id[128];
shared float shared_digit[64 * 16]; // [subgroup][digit]
shared float shared_total[16];

uint thread;   // 0 .. WIDTH - 1
uint n_blocks; // row blocks of the head
uint mine;     // start of this thread's candidates: (row, logit bits) pairs
uint n_mine;

float workgroup_max(float v)
{
    v = subgroupMax(v);
    barrier();
    if (subgroupElect()) shared_value[gl_SubgroupID] = v;
    barrier();
    for (uint i = 0; i < gl_NumSubgroups; i++) v = max(v, shared_value[i]);
    return v;
}

float workgroup_add(float v)
{
    v = subgroupAdd(v);
    barrier();
    if (subgroupElect()) shared_value[gl_SubgroupID] = v;
    barrier();
    precise float sum = 0.0;
    for (uint i = 0; i < gl_NumSubgroups; i++) sum += shared_value[i];
    return sum;
}

// The id of the greatest value; of equal ones the lowest id.
uint workgroup_argmax(float v, uint id)
{
    float high = subgroupMax(v);
    uint low_id = subgroupMin(v == high ? id : VLY_NO_ID);
    barrier();
    if (subgroupElect()) {
        shared_value[gl_SubgroupID] = high;
        shared_id[gl_SubgroupID] = low_id;
    }
    barrier();
    for (uint i = 0; i < gl_NumSubgroups; i++) high = max(high, shared_value[i]);
    low_id = VLY_NO_ID;
    for (uint i = 0; i < gl_NumSubgroups; i++)
        if (shared_value[i] == high) low_id = min(low_id, shared_id[i]);
    return low_id;
}

// Floats as unsigned numbers in the same order, and back.
uint ordered(float v)
{
    uint bits = floatBitsToUint(v);
    return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

// Keys below that of minus infinity are no numbers; they stand for it.
float unordered(uint key)
{
    if (key < 0x007fffffu) return NEGATIVE_INFINITY;
    return uintBitsToFloat((key & 0x80000000u) != 0u ? key & 0x7fffffffu : ~key);
}

vec2 block_stats(uint row, uint block)
{
    vec4 two = READ_ACT(p.stats_quad + row * p.stats_stride + block / 2u);
    return (block & 1u) != 0u ? two.zw : two.xy;
}

float candidate_logit(uint i)
{
    return uintBitsToFloat(p.scratch.at[mine + 2u * i + 1u]);
}

// A search for the greatest key such that what is not below it comes to a target, four bits at a time:
// sums[d] is what is not below key + (d << shift). Adds an element to this thread's sums.
float sums[16];

void begin_digit()
{
    [[unroll]] for (uint d = 1; d < 16u; d++) sums[d] = 0.0;
}

void add_element(uint element_key, float weight, uint key, uint shift)
{
    uint digit = element_key < key ? 0u : min((element_key - key) >> shift, 15u);
    [[unroll]] for (uint d = 1; d < 16u; d++) sums[d] += digit >= d ? weight : 0.0;
}

// The greatest digit whose sum, over all threads, reaches the target.
uint best_digit(float target)
{
    barrier();
    [[unroll]] for (uint d = 1; d < 16u; d++) {
        float sum = subgroupAdd(sums[d]);
        if (subgroupElect()) shared_digit[gl_SubgroupID * 16u + d] = sum;
    }
    barrier();
    if (thread > 0u && thread < 16u) {
        precise float sum = 0.0;
        for (uint i = 0; i < gl_NumSubgroups; i++) sum += shared_digit[i * 16u + thread];
        shared_total[thread] = sum;
    }
    barrier();
    uint best = 0u;
    [[unroll]] for (uint d = 1; d < 16u; d++)
        if (shared_total[d] >= target) best = d;
    return best;
}

// The greatest t such that at least k row blocks have a logit >= t: at most the k-th greatest logit.
float kth_block(uint row, uint k)
{
    uint key = 0u;
    for (uint shift = 32u; shift > 0u;) {
        shift -= 4u;
        begin_digit();
        for (uint b = thread; b < n_blocks; b += WIDTH)
            add_element(ordered(block_stats(row, b).x), 1.0, key, shift);
        key += best_digit(float(k)) << shift;
    }
    return unordered(key);
}

// The greatest t >= floor_ such that the candidates >= t come to `target` or more: counted, or by mass,
// that is exp((logit - high) * inv_t). floor_ where there is none.
float threshold(float target, bool by_mass, float high, float inv_t, float floor_)
{
    uint key = 0u;
    for (uint shift = 32u; shift > 0u;) {
        shift -= 4u;
        begin_digit();
        for (uint i = 0; i < n_mine; i++) {
            float l = candidate_logit(i);
            if (l >= floor_) add_element(ordered(l), by_mass ? exp((l - high) * inv_t) : 1.0, key, shift);
        }
        key += best_digit(target) << shift;
    }
    return max(unordered(key), floor_);
}

// This thread's rows with a logit >= low, as candidates.
void collect(uint row, float low)
{
    n_mine = 0u;
    for (uint b = thread; b < n_blocks; b += WIDTH) {
        if (block_stats(row, b).x < low) continue;
        for (uint i = 0; i < p.block_rows; i += 4u) {
            uint id = b * p.block_rows + i;
            vec4 l = READ_ACT(p.logits_quad + row * p.logits_stride + id / 4u);
            [[unroll]] for (uint j = 0; j < 4u; j++)
                if (l[j] >= low && id + j < p.n_vocab) {
                    p.scratch.at[mine + 2u * n_mine] = id + j;
                    p.scratch.at[mine + 2u * n_mine + 1u] = floatBitsToUint(l[j]);
                    n_mine++;
                }
        }
    }
}

bool has_top_k(vly_step_sampling how)
{
    return how.top_k > 0u && how.top_k < p.n_vocab;
}

float lowest_by_min_p(vly_step_sampling how, float high)
{
    return how.min_p > 0.0 ? high + how.temperature * log(how.min_p) : NEGATIVE_INFINITY;
}

// The lowest logit that top-k or top-p, and min-p, leave; collects candidates that include all those left.
float filter_rows(uint row, vly_step_sampling how, float high)
{
    float inv_t = 1.0 / how.temperature;
    bool top_k = has_top_k(how), top_p = how.top_p < 1.0;
    float min_p = lowest_by_min_p(how, high);
    float low = NEGATIVE_INFINITY, total = 0.0;
    if (top_k) {
        if (how.top_k <= n_blocks) low = kth_block(row, how.top_k);
    } else {
        precise float sum = 0.0;
        for (uint b = thread; b < n_blocks; b += WIDTH) {
            vec2 stats = block_stats(row, b);
            if (stats.x > NEGATIVE_INFINITY) sum += stats.y * exp((stats.x - high) * inv_t);
        }
        total = workgroup_add(sum);
        // Fewer than n_vocab tokens, each of less than (1 - top_p) / n_vocab, cannot be needed.
        low = max(min_p, high + how.temperature * log((1.0 - how.top_p) * total / float(p.n_vocab)));
        low = min(low, high);
    }
    collect(row, low);
    if (top_k) low = threshold(float(how.top_k), false, high, inv_t, low);
    if (top_p) {
        if (top_k) {
            precise float sum = 0.0;
            for (uint i = 0; i < n_mine; i++)
                if (candidate_logit(i) >= low) sum += exp((candidate_logit(i) - high) * inv_t);
            total = workgroup_add(sum);
        }
        low = threshold(how.top_p * total, true, high, inv_t, low);
    }
    return min(max(low, min_p), high);
}

uint pick_greedy(uint row, float high)
{
    uint best = VLY_NO_ID;
    for (uint b = thread; b < n_blocks && best == VLY_NO_ID; b += WIDTH) {
        if (block_stats(row, b).x != high) continue;
        for (uint i = 0; i < p.block_rows; i++) {
            uint id = b * p.block_rows + i;
            vec4 l = READ_ACT(p.logits_quad + row * p.logits_stride + id / 4u);
            if (l[id & 3u] == high && id < p.n_vocab) {
                best = id;
                break;
            }
        }
    }
    return workgroup_argmax(best == VLY_NO_ID ? 0.0 : 1.0, best);
}

// The best token so far, of this thread's.
float best_score;
uint best_id;

void consider(vly_step_sampling how, uint noise_pos, float below, uint id)
{
    uint key = p.draft != 0u ? p.row_target.at[id] : id;
    uint hash = vly_noise_hash(how.seed_lo, how.seed_hi, noise_pos, key);
    // The token with the highest logit has LEAST_NOISE or more, and noise is -log v at most: most tokens cannot win, and
    // need no logarithms.
    float needed = max(best_score, LEAST_NOISE) - below;
    if (noise_part(hash) > 1.01 * exp(-needed)) return;
    precise float score = below + gumbel(hash);
    if (score > best_score || best_id == VLY_NO_ID) {
        best_score = score;
        best_id = id;
    }
}

// With neither top-k nor top-p: no threshold has to be found, and each logit is read once.
void consider_all(uint row, vly_step_sampling how, float high, uint noise_pos)
{
    float low = min(max(lowest_by_min_p(how, high), high - how.temperature * NOISE_SPAN), high);
    for (uint id = 4u * thread; id < p.n_vocab; id += 4u * WIDTH) {
        vec4 l = READ_ACT(p.logits_quad + row * p.logits_stride + id / 4u);
        [[unroll]] for (uint j = 0; j < 4u; j++) {
            if (!(l[j] >= low) || id + j >= p.n_vocab) continue;
            precise float below = (l[j] - high) / how.temperature;
            consider(how, noise_pos, below, id + j);
        }
    }
}

void consider_filtered(uint row, vly_step_sampling how, float high, uint noise_pos)
{
    float low = filter_rows(row, how, high);
    for (uint i = 0; i < n_mine; i++) {
        if (candidate_logit(i) < low) continue;
        precise float below = (candidate_logit(i) - high) / how.temperature;
        consider(how, noise_pos, below, p.scratch.at[mine + 2u * i]);
    }
}

uint pick_sampled(uint row, vly_step_sampling how, float high, uint noise_pos)
{
    best_score = NEGATIVE_INFINITY;
    best_id = VLY_NO_ID;
    if (has_top_k(how) || how.top_p < 1.0)
        consider_filtered(row, how, high, noise_pos);
    else
        consider_all(row, how, high, noise_pos);
    return workgroup_argmax(best_score, best_id);
}

// One more than the logits above that of `id`.
uint rank_of(uint row, uint id)
{
    float l = READ_ACT(p.logits_quad + row * p.logits_stride + id / 4u)[id & 3u];
    uint above = 0u;
    for (uint b = thread; b < n_blocks; b += WIDTH) {
        if (!(block_stats(row, b).x > l)) continue;
        for (uint i = 0; i < p.block_rows; i += 4u) {
            uint first = b * p.block_rows + i;
            vec4 other = READ_ACT(p.logits_quad + row * p.logits_stride + first / 4u);
            [[unroll]] for (uint j = 0; j < 4u; j++)
                above += other[j] > l && first + j < p.n_vocab ? 1u : 0u;
        }
    }
    above = subgroupAdd(above);
    barrier();
    if (subgroupElect()) shared_id[gl_SubgroupID] = above;
    barrier();
    uint rank = 1u;
    for (uint i = 0; i < gl_NumSubgroups; i++) rank += shared_id[i];
    return rank;
}

// The token of a verify pass that was drafted to follow `token`; VLY_NO_ID: none.
uint drafted_after(uint token)
{
    if (p.draft != 0u || token + 1u >= p.step.s.n_tok) return VLY_NO_ID;
    vly_step_token here = p.step.s.token[token], next = p.step.s.token[token + 1u];
    return next.slot == here.slot && next.pos == here.pos + 1u && next.id < p.n_vocab ? next.id : VLY_NO_ID;
}

void main()
{
    uint row = gl_WorkGroupID.x;
    if (row >= p.step.s.n_rows) return;
    thread = gl_LocalInvocationIndex;
    n_blocks = (p.n_vocab + p.block_rows - 1u) / p.block_rows;
    mine = row * p.scratch_stride + thread * ((n_blocks + WIDTH - 1u) / WIDTH) * p.block_rows * 2u;

    uint token = p.step.s.row[row];
    uint slot = p.step.s.token[token].slot, pos = p.step.s.token[token].pos;
    vly_step_sampling how = p.step.s.sampling[slot];

    float high = NEGATIVE_INFINITY;
    for (uint b = thread; b < n_blocks; b += WIDTH) high = max(high, block_stats(row, b).x);
    high = workgroup_max(high);
    uint id = how.temperature > 0.0 ? pick_sampled(row, how, high, pos + 1u + how.noise_shift)
                                    : pick_greedy(row, high);
    uint drafted = drafted_after(token), rank = 0u;
    if (drafted != VLY_NO_ID && drafted != id) rank = rank_of(row, drafted);
    barrier();
    if (thread != 0u) return;
    if (p.draft == 0u) { // VLY_NO_ID: no logit is a number, which the host reports
        p.results.s.id[row] = id;
        p.results.s.rank[row] = rank;
        return;
    }
    if (id >= p.n_vocab) id = 0u; // a poor draft, no error
    // A draft step: its pick is a token of the verify pass, and the row's token of the next step.
    vly_step_draft todo = p.step.s.draft[row];
    if (todo.n_left == 0u) return;
    uint own = p.row_id.at[id];
    p.results.s.id[todo.verify] = p.row_target.at[id];
    p.results.s.draft_id[todo.verify] = own;
    p.target.s.token[todo.verify].id = p.row_target.at[id];
    p.next.s.draft[row] = vly_step_draft(todo.verify + 1u, todo.n_left - 1u);
    if (todo.n_left > 1u) p.next.s.token[row] = vly_step_token(own, pos + 1u, slot, row);
}
