/* The governor of one sequence: from measured times and acceptance it chooses, block by block, how
 * to draft and how many tokens, 0 included, so that tokens per second are the most.
 *
 *   score(arm, k) = expected tokens / expected time
 *                 = (1 + a1 + a1 a2 + ... + a1..ak) / (overhead + begin + k step + verify(k + 1))
 *
 * where a_i is how often the i-th drafted token is accepted once those before it were. What is not
 * known of a sequence is taken from the profile of the engine, and what is not known there from
 * rough figures. The model, where it looks worse than another way, is tried again now and then, at
 * intervals that double while it stays worse, and only while what such probes cost is below
 * VLY_PROBE_SHARE of all time; n-grams are watched instead. Pure: no device, no clock. */
#ifndef VLY_SPEC_GOVERNOR_H
#define VLY_SPEC_GOVERNOR_H

#include "spec/profile.h"

#define VLY_PROBE_SHARE 0.01

typedef struct {
    vly_profile *profile; /* shared; vly_governor_learn counts acceptance in it */
    bool sampled;         /* temperature above 0 */
    vly_tally accepted[VLY_N_ARMS][VLY_MAX_DRAFT];
    double trust[VLY_N_ARMS];  /* in the profile's acceptance, in blocks */
    double doubt[VLY_N_ARMS];  /* chance of the last misses in a row, or hits, were all as before */
    bool hit[VLY_N_ARMS];      /* which of the two */
    uint32_t idle[VLY_N_ARMS]; /* blocks since the arm was last used */
    uint32_t interval[VLY_N_ARMS]; /* blocks between probes of it */
} vly_governor;

/* `profile` must outlive the governor. */
void vly_governor_init(vly_governor *governor, vly_profile *profile, bool sampled);

/* Blocks in flight that run ahead of the host, of `k` drafted tokens each by `arm`. To choose
 * another way is to leave them, and to wait for the host; what they decide comes first. */
typedef struct {
    uint32_t n; /* 0: none */
    vly_arm arm;
    uint32_t k;
} vly_ahead;

/* What a block may be. */
typedef struct {
    uint32_t k_max[VLY_N_ARMS]; /* drafted tokens at most; 0: the arm has nothing to propose */
    uint32_t behind;            /* tokens that the draft model has to read before it proposes */
    uint32_t left;              /* tokens that the text may still grow by */
    vly_ahead ahead;            /* what it may follow */
    /* Other sequences in the same target pass: their tokens in it, and how many of these are
     * expected to be decided. 0 where the block is alone. */
    uint32_t beside_tok;
    double beside_decided;
} vly_governor_input;

typedef struct {
    vly_arm arm;
    uint32_t k;
    bool probe;
    double score; /* tokens per ns that the best known way is expected to give */
} vly_decision;

vly_decision vly_governor_choose(vly_governor *governor, const vly_governor_input *input);

/* Would it go on with blocks like those ahead, of which there are some? A little better length is
 * not worth leaving them. */
bool vly_governor_keeps(vly_governor *governor, const vly_governor_input *input);

/* What came of it. The profile has to be told as well, of each block. */
void vly_governor_learn(vly_governor *governor, const vly_decision *decision,
                        const vly_outcome *outcome);

/* The text went on, or did not, with the i-th token that the arm would have proposed, those before
 * it having been right: for what is not drafted, but known. */
void vly_governor_watch(vly_governor *governor, vly_arm arm, uint32_t i, bool hit);

/* Expected tokens of a block of k drafted tokens, the target's own included. */
double vly_governor_expect(const vly_governor *governor, vly_arm arm, uint32_t k);

#endif
