/* The speculation block of one sequence: draft -> map -> verify -> accept -> advance, in one step
 * of the device that it shares with others (spec/batch.h).
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

#include "drafts/draft.h"
#include "sample/logprobs.h"
#include "sample/sampler.h"
#include "spec/batch.h"

#define VLY_BLOCK_TOKENS (VLY_MAX_DRAFT + 1)

typedef struct {
    vly_model *target;
    vly_kv_seq *seq;  /* the target's cache */
    vly_draft *draft; /* NULL: none */
    const vly_sampling *sampling;
    vly_ids *text; /* all tokens so far, prompt included, with room for those of a block */
    uint32_t left; /* tokens that the text may still grow by */
    bool logprobs;
    uint32_t n_top;     /* candidates wanted for each token */
    vly_candidate *top; /* the caller's, [VLY_BLOCK_TOKENS][n_top] */
    float *scratch;     /* the same, [2][n_vocab]; for picks on the host alone */

    /* For measuring only: not 0 makes believe that proposals are right, as many as give this mean
     * accepted length. What comes of it is no text of the target. */
    uint32_t forced_length; /* in 65536ths of a token */
    uint32_t forced_rest;   /* from the blocks before */

    /* One of several in flight, of which the device begins the next by itself: n_done of them are
     * finished. The caches keep what is reserved for those behind. */
    bool ahead;
    bool continued; /* the device could go on behind the last one */
    uint32_t n_done;

    /* Of the step under way: this block's place in the verify pass. */
    uint32_t first, first_row;
    uint32_t n_fed;  /* tokens of the text */
    uint32_t n_rows; /* rows of logits; 0: nothing is decided, and all below is as it was */
    uint32_t n_drafted;
    bool waits; /* it is not in the step: the draft model drafts for it, in this one first */

    const uint32_t *drafted; /* [n_drafted] target ids; until the next submission */

    double map_ns; /* host time that proposing took, and settling it */
    uint32_t n_accepted;
    uint32_t lost_rank; /* of the first proposal that was not accepted by the target's logits, from
                           1; 0: there is none */
    uint32_t tokens[VLY_BLOCK_TOKENS];           /* decided by this block: n_accepted + 1 */
    vly_token_logprobs likely[VLY_BLOCK_TOKENS]; /* with logprobs: how likely each was */
} vly_block;

/* Does the host read this sequence's logits? Blocks of those that it does come first in a batch. */
bool vly_block_reads_logits(const vly_block *block);

/* Adds a block to a batch: `n_feed` tokens of the text that the cache lacks, and where these are
 * all of them at most k drafted tokens, k <= VLY_MAX_DRAFT. The batch must have room for n_feed + k
 * tokens and the context for k + 1 more. Where it fails nothing was added. Does not allocate but
 * for pages. */
int vly_block_prepare(vly_block *block, vly_batch *batch, uint32_t n_feed, uint32_t k,
                      vly_error *err);

/* Of a prepared block that is alone in its batch, which has `advances` set: further ones follow
 * it. What it drafts is by the model. */
void vly_block_run_ahead(vly_block *block);

/* After the step: fills in tokens and counts, and advances both caches. The tokens are decided, and
 * the caller appends them to the text (or a first part of them, if the text ends there). */
int vly_block_finish(vly_block *block, vly_error *err);

#endif
