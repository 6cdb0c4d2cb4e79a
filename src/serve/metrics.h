/* Counters and histograms, in Prometheus' text format. */
#ifndef VLY_SERVE_METRICS_H
#define VLY_SERVE_METRICS_H

#include "base/error.h"
#include "serve/writer.h"

/* How completions end. */
typedef enum {
    VLY_OUTCOME_STOP,
    VLY_OUTCOME_LENGTH,
    VLY_OUTCOME_CANCELLED, /* the client went away */
    VLY_OUTCOME_TIMEOUT,
    VLY_OUTCOME_SHUTDOWN,
    VLY_OUTCOME_ERROR,
    VLY_OUTCOME_INVALID, /* refused: the request is wrong */
    VLY_OUTCOME_REFUSED, /* refused: no room, or not ready */
    VLY_N_OUTCOMES
} vly_outcome;

const char *vly_outcome_name(vly_outcome outcome);

#define VLY_HISTOGRAM_BUCKETS 20

/* Of seconds, in buckets that double from a tenth of a millisecond. */
typedef struct {
    uint64_t n_in[VLY_HISTOGRAM_BUCKETS + 1]; /* the last: above all bounds */
    uint64_t n;
    double sum_s;
} vly_histogram;

/* `n` observations of `seconds` each. */
void vly_histogram_add(vly_histogram *histogram, double seconds, uint64_t n);

typedef struct {
    uint64_t completions[VLY_N_OUTCOMES];
    uint64_t prompt_tokens, generated_tokens;
    uint64_t drafts, drafted, accepted, accepted_by_position[VLY_MAX_DRAFT];
    uint64_t lost_to_pick, lost_unmapped, lost_split, lost_to_front, lost_to_end;
    vly_histogram first_token, inter_token, duration;
    uint64_t connections_accepted, connections_refused;
    double serve_s;    /* spent on writing and sending answers, without the engine's work */
    double mean_run_s; /* of late completions, without waiting, the newest counting most */
} vly_serve_metrics;

/* Counts what a completion did that ran. */
void vly_metrics_count(vly_serve_metrics *metrics, const vly_stats *stats);

/* Appends everything. `engine` may be NULL, while it is loaded. */
void vly_metrics_write(const vly_serve_metrics *metrics, const vly_engine *engine,
                       uint32_t n_connections, vly_writer *out);

#endif
