/* What a target and its draft were seen to take and to agree on, on one device: the times of passes
 * and how often drafted tokens were accepted. All sequences of an engine share one profile and
 * refine it; it decides nothing itself (governor.h does). Pure: no device, no clock, no file. */
#ifndef VLY_SPEC_PROFILE_H
#define VLY_SPEC_PROFILE_H

#include "base/error.h"
#include "shaders/shared.h"

/* The ways to draft that are told apart: each has its own times and its own acceptance. */
typedef enum {
    VLY_ARM_NONE,  /* no proposal: a step of plain decoding */
    VLY_ARM_NGRAM, /* n-grams of the text, a short match */
    VLY_ARM_COPY,  /* the same, a long match: the text is most likely being copied */
    VLY_ARM_MODEL, /* the draft model */
    VLY_ARM_TEXT,  /* the draft model, its text encoded by the target's tokenizer */
    VLY_N_ARMS
} vly_arm;

/* Is it the draft model that drafts? */
static inline bool vly_arm_by_model(vly_arm arm)
{
    return arm == VLY_ARM_MODEL || arm == VLY_ARM_TEXT;
}

/* Decayed counts. */
typedef struct {
    float tries, hits;
} vly_tally;

#define VLY_N_ACCEPTANCES 2 /* of greedy text, and of sampled text */

/* Tokens that the draft model takes in before it proposes, where it proposed the last time, too: a
 * last proposal if that was accepted, and the target's own token. That is a part of its steps. */
#define VLY_USUALLY_FED 2

/* Zero-initialise: nothing is known. Times in nanoseconds; 0: not known. */
typedef struct {
    double verify_ns;                      /* a target pass over one token */
    float verify_ratio[VLY_MAX_BATCH + 1]; /* over n tokens, as a multiple of that; 0: not known */
    float ratio_tries[VLY_MAX_BATCH + 1];  /* times that it comes from, up to some number */
    bool ready[VLY_MAX_BATCH + 1];         /* may it be run, without time to prepare it? */
    float least_ratio[VLY_MAX_BATCH + 1];  /* of all sizes from n on that are ready; 0: none is */
    double step_ns[VLY_N_ARMS];            /* for each drafted token */
    double begin_ns[VLY_N_ARMS];           /* what the first of a block's takes more than others */
    double feed_ns;                        /* for each token that the draft model has to read */
    double overhead_ns[VLY_N_ARMS];        /* of a block: see vly_profile_overhead_ns */
    double wait_ns; /* the same of a block that waited for the host, though its like need not */
    /* Of drafted tokens whose predecessors were all accepted, those that were. */
    vly_tally accepted[VLY_N_ACCEPTANCES][VLY_N_ARMS][VLY_MAX_DRAFT];
    double elapsed_ns, probe_ns; /* time of blocks, and the part of it that probes took too much */
    uint32_t n_loaded;           /* how often it came from a file */
} vly_profile;

/* What a block took and came to. Times that were not measured are 0. */
typedef struct {
    uint32_t n_drafted, n_accepted;
    uint32_t n_tok; /* of the target's pass as it was computed, padding included; 0: not known */
    uint32_t n_fed; /* of the text, that the draft model took in before its first proposal */
    double draft_ns, verify_ns; /* on the device */
    double idle_ns;             /* nothing was computed there before it, since the last step */
    double wall_ns;             /* from the beginning of the step to its end */
    bool first;      /* the host was waited for, which it would not be in a row of such blocks */
    double map_ns;   /* of that, the host's to propose */
    uint32_t n_read; /* tokens that the draft model read before this block, in chunks of its own */
    double read_ns;
} vly_outcome;

/* Takes in the times of a block. */
void vly_profile_learn(vly_profile *profile, vly_arm arm, const vly_outcome *outcome);

/* Sets the time of a target pass over one token, as calibration measured it: those of other passes,
 * of both models, change alike. */
void vly_profile_set_level(vly_profile *profile, double ns);

/* Takes in the time of a target pass over n tokens, 1 <= n <= VLY_MAX_BATCH. The time of one token
 * follows quickly, since it differs with load and context; a ratio follows slowly once it comes
 * from many times. */
void vly_profile_add_verify(vly_profile *profile, uint32_t n, double ns);

/* Sets the ratio of n tokens to one, as calibration measured both; such a pass is ready. A pass
 * over more tokens never takes less: what says so is taken for 1. */
void vly_profile_set_ratio(vly_profile *profile, uint32_t n, double ratio);

/* Such a pass is ready, and takes what the profile has for it. */
void vly_profile_set_ready(vly_profile *profile, uint32_t n);

/* Takes a time into *mean, a mean of the last few; outliers count as twice or half of it. */
void vly_profile_add_time(double *mean, double ns);

/* Takes over a profile from elsewhere; no pass is ready yet. False, with `profile` as it was, where
 * that holds what no measurement gives. */
bool vly_profile_load(vly_profile *profile, const void *data, size_t n_bytes);

/* What a block takes beyond the device's work, in a row of such blocks: those without a proposal
 * and those by the model may run ahead of the host, others wait for it. */
double vly_profile_overhead_ns(const vly_profile *profile, vly_arm arm);

/* What is lost each time that blocks which run ahead of the host are left, or begun: the wait for
 * the host. 0 where no blocks do so. */
double vly_profile_leave_ns(const vly_profile *profile);

/* The draft steps of a block of k tokens; 0: not known, or without the model. */
double vly_profile_draft_ns(const vly_profile *profile, vly_arm arm, uint32_t k);

/* A target pass over n tokens: the least time of one that holds them and is ready; 0: none is. */
double vly_profile_verify_ns(const vly_profile *profile, uint32_t n);

#endif
