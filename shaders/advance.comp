// Ends a block and makes the step of the next one, which is in flight behind it: accepts drafted tokens
// while they are the target's picks, moves both models on behind them, and has the draft take in the
// target's own token as tokens of its own. What was decided is kept for the host, which reads it later.
// One workgroup, an invocation for each row.
#version 460
#extension GL_GOOGLE_include_directive : require
#define VLY_TEXEL 0
#include "common.glsl"
layout(buffer_reference) buffer RefBlocks;
layout(buffer_reference) readonly buffer RefRecoded;
layout(buffer_reference) readonly buffer RefSpellings;
layout(buffer_reference) readonly buffer RefWords;
#include "block.h"
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer RefRecoded { vly_recoded at[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer RefSpellings { vly_spelling at[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer RefWords { vly_word at[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer RefBlocks { vly_blocks s; };
layout(push_constant, scalar) uniform Push { vly_push_block p; };

shared uint agreed; // proposals at the front that are the target's picks
shared uint joined; // the draft's last own tokens that are one token with the target's
shared uint tail[VLY_WORD_TAIL], word[VLY_WORD_TAIL];
shared uint pick[VLY_BLOCK_DRAFT + 1], rank[VLY_BLOCK_DRAFT + 1], own[VLY_BLOCK_DRAFT + 1];

void draft_nothing()
{
    p.draft_first.s.n_tok = p.draft_first.s.n_rows = 0u;
    p.draft_further.s.n_tok = p.draft_further.s.n_rows = 0u;
}

// The own token that is `back` before the last one of the draft, which took `accepted` in as well.
uint own_before(uint back, uint accepted)
{
    return back < accepted ? own[accepted - 1u - back] : p.blocks.s.tail[p.blocks.s.n_tail - 1u + accepted - back];
}

// Is the text of the last `n` own tokens, behind which `more` stands, one token? Then word[n - 1].
void look_up(uint n, uint accepted, vly_spelling more)
{
    for (uint back = 0u; back < n; back++) {
        uint id = own_before(back, accepted);
        if (id >= p.n_own) return;
        vly_spelling before = p.spelling.at[id];
        for (uint j = 0u; j < 2u; j++) {
            more.hash[j] += before.hash[j] * more.power[j];
            more.power[j] *= before.power[j];
        }
    }
    for (uint i = 0u; i < VLY_WORD_PROBES; i++) {
        vly_word at = p.words.at[(VLY_WORD_SLOT(more.hash) + i) & (p.n_words - 1u)];
        if (at.id == VLY_NO_ID) return;
        if (at.hash[0] != more.hash[0] || at.hash[1] != more.hash[1]) continue;
        word[n - 1u] = at.id;
        atomicMax(joined, n);
        return;
    }
}

// The last own tokens are, from here on, those in `tail`, less `joined`, and `count` more.
void keep_tail(uint n_tail, uint count)
{
    uint kept = n_tail - joined, n = min(kept + count, VLY_WORD_TAIL), dropped = kept + count - n;
    for (uint i = 0u; i < n; i++) {
        uint at = i + dropped; // the last `count` are those that were fed
        p.blocks.s.tail[i] =
            at < kept ? tail[at] : p.draft_first.s.token[p.draft_first.s.n_tok - count + at - kept].id;
    }
    p.blocks.s.n_tail = n;
}

// The draft's next steps: it kept what was accepted, but for a last proposal that it has not taken in
// yet, and takes in the target's token `id`, which is now at `pos`. False: the host has to.
bool draft_on(uint id, uint pos, uint accepted, uint n, uint k, uint n_tail)
{
    vly_recoded recoded = p.recoded.at[id];
    vly_step_token fed = p.draft_first.s.token[0];
    uint start = fed.pos + p.draft_first.s.n_tok + min(accepted, n - 1u), count = 0u, last = 0u;
    if (recoded.n == VLY_RECODE_HOST || (accepted < n && recoded.n == 0u)) return false;
    if (joined > 0u) {
        start = fed.pos + p.draft_first.s.n_tok + accepted - joined;
        recoded.n = 1u;
        recoded.id[0] = word[joined - 1u];
    } else if (accepted == n) {
        last = own[n - 1u];
        p.draft_first.s.token[count++] = vly_step_token(last, start, fed.slot, 0u);
    }
    [[unroll]] for (uint i = 0u; i < VLY_MAX_RECODED; i++) {
        if (i >= recoded.n) break;
        last = recoded.id[i];
        p.draft_first.s.token[count] = vly_step_token(last, start + count, fed.slot, 0u);
        count++;
    }
    p.draft_first.s.n_tok = count;
    keep_tail(n_tail, recoded.n);
    p.draft_first.s.row[0] = count - 1u;
    p.draft_first.s.draft[0] = vly_step_draft(1u, k);
    p.draft_further.s.token[0] = vly_step_token(last, start + count - 1u, fed.slot, 0u);
    // The first proposal's noise is that of the position behind `pos`.
    uint shift = pos + 1u - (start + count);
    p.draft_first.s.sampling[fed.slot].noise_shift = shift;
    p.draft_further.s.sampling[fed.slot].noise_shift = shift;
    return true;
}

void verify_on(uint id, uint pos, uint slot, uint k)
{
    p.base.step.s.token[0] = vly_step_token(id, pos, slot, 0u);
    for (uint j = 1u; j <= k; j++) { // their ids come from the draft
        p.base.step.s.token[j].pos = pos + j;
        p.base.step.s.token[j].slot = slot;
        p.base.step.s.token[j].first = 0u;
    }
    p.base.step.s.n_tok = p.base.step.s.n_rows = k + 1u;
}

void main()
{
    uint row = gl_LocalInvocationIndex, n_rows = p.base.step.s.n_rows, n = max(n_rows, 1u) - 1u;
    uint block = p.base.step.s.n_advanced, at = block % VLY_MAX_AHEAD;
    uint left = p.blocks.s.left, n_draft = p.blocks.s.n_draft;
    uint forced = p.blocks.s.forced, rest = p.blocks.s.forced_rest;
    if (row == 0u) {
        agreed = n;
        joined = 0u;
    }
    barrier();
    if (row < n_rows) {
        pick[row] = p.base.results.s.id[row];
        rank[row] = p.base.results.s.rank[row];
    }
    if (row < n) {
        uint drafted = p.base.step.s.token[row + 1u].id;
        own[row] = p.draft_results.s.draft_id[row + 1u];
        p.blocks.s.result[at].drafted[row] = drafted;
        p.blocks.s.result[at].draft_id[row] = own[row];
        if (drafted != pick[row]) atomicMin(agreed, row);
    }
    barrier();

    uint accepted = agreed, id = VLY_NO_ID;
    if (forced > 0u && n > 0u) {
        rest += forced - 65536u;
        accepted = min(rest >> 16, n);
    }
    if (n_rows > 0u) id = pick[accepted];
    if (id >= p.base.n_vocab) id = VLY_NO_ID; // no logit was a number
    uint n_tail = 0u;
    if (n > 0u && id != VLY_NO_ID && p.n_words > 0u) {
        n_tail = min(p.blocks.s.n_tail + accepted, VLY_WORD_TAIL);
        if (row < n_tail) {
            tail[n_tail - 1u - row] = own_before(row, accepted);
            if (p.recoded.at[id].n > 0u) look_up(row + 1u, accepted, p.recoded.at[id].spelling);
        }
    }
    barrier();
    if (row != 0u) return;

    p.blocks.s.result[at].rank = agreed < n ? rank[agreed] : 0u;
    if (forced > 0u && n > 0u) p.blocks.s.forced_rest = rest & 65535u;
    p.base.results.s.advanced[at] = id;
    p.blocks.s.result[at].n_decided = n_rows > 0u ? accepted + 1u : 0u;
    p.blocks.s.result[at].n_drafted = n;
    p.base.step.s.n_advanced = block + 1u;

    vly_step_token last = p.base.step.s.token[0];
    uint pos = last.pos + accepted + 1u;
    left -= min(accepted + 1u, left);
    bool goes_on = id != VLY_NO_ID && left > 0u;
    uint k = goes_on ? min(n_draft, left - 1u) : 0u;
    if (goes_on && n > 0u) goes_on = draft_on(id, pos, accepted, n, k, n_tail);
    p.blocks.s.left = left;
    p.blocks.s.result[at].continued = goes_on ? 1u : 0u;
    if (goes_on) {
        verify_on(id, pos, last.slot, k);
    } else { // the blocks in flight behind it compute nothing
        p.base.step.s.n_tok = p.base.step.s.n_rows = 0u;
        if (n_draft > 0u) draft_nothing();
    }
}
