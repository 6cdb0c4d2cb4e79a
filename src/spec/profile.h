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
    VLY_N_ARMS
} vly_arm;

/* Decayed counts. */
typedef struct {
    float tries, hits;
} vly_tally;

#define VLY_N_ACCEPTANCES 2 /* of greedy text, and of sampled text */

/* Zero-initialise: nothing is known. Times in nanoseconds; 0: not known. */
typedef struct {
    double verify_ns;                      /* a target pass over one token */
    float verify_ratio[VLY_MAX_BATCH + 1]; /* over n tokens, as a multiple of that; 0: not known */
    double step_ns[VLY_N_ARMS];            /* for each drafted token */
    double feed_ns;                        /* for each token that the draft model has to read */
    double overhead_ns[VLY_N_ARMS];        /* of a block, beyond the device's work */
    /* Of drafted tokens whose predecessors were all accepted, those that were. */
    vly_tally accepted[VLY_N_ACCEPTANCES][VLY_N_ARMS][VLY_MAX_DRAFT];
    double elapsed_ns, probe_ns; /* time of blocks, and the part of it that probes took too much */
} vly_profile;

/* Takes in the time of a target pass over n tokens, 1 <= n <= VLY_MAX_BATCH. The time of one token
 * follows quickly, since it differs with load and context; ratios follow slowly. */
void vly_profile_add_verify(vly_profile *profile, uint32_t n, double ns);

/* Sets the ratio of n tokens to one, as calibration measured both. */
void vly_profile_set_ratio(vly_profile *profile, uint32_t n, double ratio);

/* Takes a time into *mean, a mean of the last few; outliers count as twice or half of it. */
void vly_profile_add_time(double *mean, double ns);

/* A target pass over n tokens: the least time known of one that holds them; 0 where none is. */
double vly_profile_verify_ns(const vly_profile *profile, uint32_t n);

#endif
