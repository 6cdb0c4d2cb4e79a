/* The speculation block: draft -> map -> verify -> accept -> advance, as one submission.
 *
 *   draft    a method of drafts/ proposes up to k tokens; a model takes k steps on the device, each
 *            pick feeding the next
 *   map      the draft's head holds only rows that the target knows too, and its picks are written
 *            to the verify step as target ids
 *   verify   the target over the last token and the drafted ones, in one pass, and a pick for each
 *   accept   drafted tokens are right while they equal the target's picks, at every temperature:
 *            the picks share one keyed noise (docs/speculation.md)
 *   advance  both caches keep what was right and forget the rest
 *
 * With k = 0 a block is one step of plain decoding: the same code, the same kernels. */
#ifndef VLY_SPEC_BLOCK_H
#define VLY_SPEC_BLOCK_H

#include "base/vec.h"
#include "drafts/draft.h"
#include "sample/logprobs.h"
#include "sample/sampler.h"

typedef struct {
    vly_model *target;
    vly_kv_seq *seq;  /* the target's cache; holds all of the text but its last token */
    vly_draft *draft; /* NULL: none */
    const vly_sampling *sampling;
    const vly_ids *text; /* all tokens so far, prompt included; the last one is fed by this block */
    vly_gpu_commands *const *mark; /* three time marks, or of NULLs */

    uint32_t draft_max; /* most tokens of a proposal */
    uint32_t left;      /* tokens that the text may still grow by */
    bool logprobs;
    uint32_t n_top;     /* candidates wanted for each token */
    vly_candidate *top; /* the caller's, [VLY_MAX_BATCH][n_top] */

    /* For measuring only: not 0 makes believe that proposals are right, as many as give this mean
     * accepted length. What comes of it is no text of the target. */
    double forced_length;
    double forced_rest; /* of a token, from the blocks before */

    uint32_t n_pass; /* tokens that the target's pass computes, padding included */
    uint32_t n_drafted;
    uint32_t n_accepted;
    uint32_t tokens[VLY_MAX_BATCH];           /* decided by this block: n_accepted + 1 */
    vly_token_logprobs likely[VLY_MAX_BATCH]; /* with logprobs: how likely each was */
} vly_block;

/* Adds the commands of a block of at most k drafted tokens, 0 <= k < VLY_MAX_BATCH, and writes its
 * step buffers. The context must have room for k + 1 tokens. Does not allocate or record once the
 * passes of its sizes exist, but for pages. */
int vly_block_prepare(vly_block *block, uint32_t k, vly_submission *list, vly_error *err);

/* After completion: fills in tokens and counts, and advances both caches. The tokens are decided,
 * and the caller appends them to the text (or a first part of them, if the text ends there). */
int vly_block_finish(vly_block *block, vly_error *err);

#endif
