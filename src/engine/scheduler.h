/* Who takes part in the next step, and with how much: a pure function of what the sequences still
 * have to do. A step is one submission: a chunk of prompts, then a pass over decoded and drafted
 * tokens. */
#ifndef VLY_ENGINE_SCHEDULER_H
#define VLY_ENGINE_SCHEDULER_H

#include "volley.h"

/* A sequence that could take part. */
typedef struct {
    vly_priority priority;
    uint64_t age;    /* smaller is older; no two are equal */
    uint32_t n_read; /* prompt tokens that are still to be read */
    uint32_t
        n_feed; /* tokens of the text behind these that the cache lacks: at least the last one */
    uint32_t n_draft; /* tokens that may be drafted behind these */
} vly_schedule_demand;

/* What it does in the step. */
typedef struct {
    uint32_t n_read;
    uint32_t n_feed; /* only with the prompt all read; less than wanted: no token is decided */
    uint32_t n_draft;
} vly_schedule_share;

typedef struct {
    uint32_t n_batch;        /* tokens of a decode pass, >= the number of sequences */
    uint32_t n_chunk;        /* tokens of a prompt chunk when nobody decodes */
    uint32_t n_chunk_beside; /* and beside others that decode, whose text it holds up */
} vly_schedule_limits;

/* Fills share[0 .. n), n <= VLY_MAX_PARALLEL. `turn` counts steps: what cannot be divided evenly
 * goes round.
 *
 * Everybody whose prompt is read decodes. Drafted tokens share what is left of the pass evenly, one
 * priority after the other. Of prompts the one with the least left goes first within a priority, so
 * that short ones do not wait for long ones; a quarter of the chunk is the oldest's, so that long
 * ones do not wait for ever. */
void vly_schedule(const vly_schedule_limits *limits, const vly_schedule_demand *demand, uint32_t n,
                  uint32_t turn, vly_schedule_share *share);

/* Which of n sequences gives up its pages first: of the lowest priority the youngest; none of whom
 * there is no other. `idle` ones (they take part in no step) go before all others of their
 * priority.
 */
uint32_t vly_schedule_victim(const vly_schedule_demand *demand, const bool *idle, uint32_t n);

#endif
