/* What the files of bench spec share: the grid of what is compared, and what came of it. */
#ifndef VLY_BENCH_SPEC_H
#define VLY_BENCH_SPEC_H

#include "bench/bench.h"
#include "bench/prompts.h"

#include <stdio.h>

#define VLY_SPEC_AUTO UINT32_MAX /* in a list of k: the governor's choice */

/* One way of writing texts. */
typedef struct {
    bool kv_f16;
    float temperature;
    vly_draft_method method;
    uint32_t k;  /* 0: plain decoding; VLY_SPEC_AUTO */
    size_t base; /* the plain configuration that it is compared with */
} vly_spec_config;

/* Why drafted tokens were lost: docs/speculation.md. */
typedef enum {
    VLY_LOST_PICK,
    VLY_LOST_UNMAPPED,
    VLY_LOST_SPLIT,
    VLY_LOST_FRONT,
    VLY_LOST_END,
    VLY_N_LOST
} vly_spec_loss;

/* Sums over the texts of one configuration and one prompt. */
typedef struct {
    double tokens, ms, blocks, drafted, accepted, lost[VLY_N_LOST];
    double drafted_at[VLY_MAX_DRAFT], accepted_at[VLY_MAX_DRAFT];
} vly_spec_cell;

/* The three ways of accepting compared on the same distributions: how probable it is that the
 * first drafted token is accepted. */
typedef enum { VLY_RULE_KEYED, VLY_RULE_REJECTION, VLY_RULE_GREEDY, VLY_N_RULES } vly_spec_rule;

typedef struct {
    const vly_bench_options *options;
    const char *target, *draft; /* draft: NULL for none */
    vly_prompts prompts;
    size_t n_left_out; /* prompts that the context has no room for */
    vly_spec_config *configs;
    size_t n_configs;
    vly_spec_cell *cells;  /* [prompts.n][n_configs] */
    double *rules;         /* [temperatures][VLY_N_RULES][prompts.n]; NULL: not compared */
    vly_engine *engine;    /* with the KV format of the configurations under way */
    bool templated;        /* the target has a chat template */
    vly_error untemplated; /* why not */
} vly_spec;

vly_spec_cell *vly_spec_cell_of(const vly_spec *s, size_t config, size_t prompt);

/* A figure over all prompts with the 95% confidence interval; NAN where unknown. */
typedef struct {
    double value, low, high;
} vly_spec_figure;

/* Of the tokens a second of `config` and of plain decoding, the geometric mean over prompts of the
 * ratio. */
vly_spec_figure vly_spec_speed_up(const vly_spec *s, size_t config);
/* The sum over all prompts. */
vly_spec_cell vly_spec_sum(const vly_spec *s, size_t config);

/* "model", "auto", "plain". */
const char *vly_spec_method_name(const vly_spec_config *config);

/* Fills s->rules: writes texts with the target and looks at both models' distributions there. */
int vly_spec_compare_rules(vly_spec *s, vly_error *err);

/* A prompt and its text, sampled by the target alone: ids of both, the first *n_prompt of them the
 * prompt's. */
int vly_spec_sample(const vly_spec *s, float temperature, size_t prompt, uint64_t seed,
                    vly_ids *ids, size_t *n_prompt, vly_error *err);

/* What the target and the draft give a token. */
typedef struct {
    float p, q, ratio; /* ratio is set by vly_spec_acceptance */
} vly_spec_pair;

/* How probable it is under each rule that a token drafted from q is accepted by p, two
 * distributions over the same `n` tokens, which are overwritten. Tokens that only p gives
 * anything may be one. To within 0.0001 for vocabularies of up to 100,000. Keyed noise: both picks
 * are t with probability 1 / sum_s max(p_s / p_t, q_s / q_t) (Daliri et al., arXiv 2408.07978);
 * rejection: sum_t min(p_t, q_t); greedy: p at the likeliest of q. */
void vly_spec_acceptance(vly_spec_pair *pairs, uint32_t n, double out[VLY_N_RULES]);

/* Adds tables and notes. */
void vly_spec_report(const vly_spec *s, vly_report *report);

/* Writes a page with charts that needs nothing from elsewhere to the file `path`. VLY_E_IO. */
int vly_spec_write_html(const vly_spec *s, const vly_report *report, const char *path,
                        vly_error *err);

#endif
