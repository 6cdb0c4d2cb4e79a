/* What the passes take that VLY_DRAFT_AUTO chooses among: measured before the first such sequence,
 * within a time that nobody notices, and kept. What it did not come to is not chosen. */
#include "engine/engine_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/stats.h"

#include <math.h>

#define BUDGET_NS 150000000u
#define N_RUNS    3 /* of each pass; the median counts */
#define N_FEED    16u

/* Sizes of target passes, those first that tell most; the first few are measured in any case. */
static const uint32_t sizes[] = {1, 2, 4, 8, 3, 5, 6, 12, 16, 32, 64, 24, 48};
#define N_SIZES     (sizeof sizes / sizeof *sizes)
#define N_MANDATORY 3

/* A step of `n` tokens at the beginning of `seq`, all token 0, which every vocabulary has; a row of
 * logits for each, or for the first one. */
static void write_step(vly_model *model, const vly_kv_seq *seq, uint32_t n, uint32_t n_rows)
{
    struct vly_step *step = vly_model_step(model, VLY_STEP_BUFFER_DECODE);
    step->n_tok = n;
    step->n_rows = n_rows;
    step->draft[0] = (struct vly_step_draft){.verify = 1, .n_left = 1};
    step->sampling[seq->slot] = (struct vly_step_sampling){.top_p = 1};
    for (uint32_t i = 0; i < n; i++) {
        step->token[i] = (struct vly_step_token){.pos = i, .slot = seq->slot};
        step->row[i] = i;
    }
}

/* Time of the commands on the device, or where that has no clock from here; 0 after an error that
 * is in *rc. */
static double run_ns(vly_engine *e, vly_gpu_commands *const *commands, uint32_t n, int *rc,
                     vly_error *err)
{
    vly_gpu_commands *list[8];
    uint64_t ticket, t[2];
    uint32_t n_list = 0;
    if (e->mark[0][0]) list[n_list++] = e->mark[0][0];
    for (uint32_t i = 0; i < n; i++) list[n_list++] = commands[i];
    if (e->mark[0][0]) list[n_list++] = e->mark[0][1];
    uint64_t start_ns = vly_clock_ns();
    *rc = vly_gpu_submit(e->gpu, list, n_list, NULL, NULL, &ticket, err);
    if (*rc == 0) *rc = vly_gpu_wait(e->gpu, ticket, err);
    if (*rc) return 0;
    if (e->mark[0][0] && !vly_gpu_commands_times(e->mark[0][0], 1, &t[0], NULL) &&
        !vly_gpu_commands_times(e->mark[0][1], 1, &t[1], NULL))
        return (double)(t[1] - t[0]);
    return (double)(vly_clock_ns() - start_ns);
}

/* *ns: the time of a pass over n tokens and n_rows picks (0: layers alone), among `all` tokens of a
 * draft or the mapped ones. */
static int run_pass(vly_engine *e, vly_model *model, const vly_kv_seq *seq, uint32_t n,
                    uint32_t n_rows, bool all, double *ns, vly_error *err)
{
    const vly_pass *head_and_pick = vly_draft_passes(all);
    vly_gpu_commands *commands[3];
    uint32_t n_passes = n_rows ? 3 : 1;
    int rc = vly_model_pass(model, VLY_PASS_LAYERS, n, &commands[0], err);
    for (uint32_t i = 1; rc == 0 && i < n_passes; i++)
        rc = vly_model_pass(model, head_and_pick[i - 1], n_rows, &commands[i], err);
    if (rc) return rc;
    write_step(model, seq, n, n_rows);
    *ns = run_ns(e, commands, n_passes, &rc, err);
    return rc;
}

/* The target's passes over n[0 .. count-1] tokens, in turns with one over a single token, even if
 * its time is known. It is the ratios that matter, each within one turn: clocks that fell while
 * kernels were compiled, to a quarter, rise again amid of this, and others compute meanwhile. */
static int measure_sizes(vly_engine *e, const vly_kv_seq *seq, const uint32_t *n, size_t count,
                         vly_error *err)
{
    vly_profile *p = &e->profile;
    double ratio[N_SIZES][N_RUNS] = {0}, one[N_RUNS] = {0}, ns;
    int rc = 0;
    if (count == 0) return 0;
    for (int round = 0; rc == 0 && round < N_RUNS; round++) {
        rc = run_pass(e, e->target, seq, 1, 1, false, &one[round], err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            if (n[i] > 1) rc = run_pass(e, e->target, seq, n[i], n[i], false, &ns, err);
            ratio[i][round] = n[i] > 1 && one[round] > 0 ? ns / one[round] : 1;
        }
    }
    if (rc) return rc;
    double level = vly_median(one, N_RUNS);
    vly_profile_set_level(p, level);
    for (size_t i = 0; i < count; i++) {
        double usual = vly_median(ratio[i], N_RUNS);
        if (n[i] > 1) vly_profile_set_ratio(p, n[i], usual);
        vly_log(VLY_LOG_DEBUG, "governor", "target pass over %u tokens: %.3f ms, %.3f of one", n[i],
                usual * level * 1e-6, usual);
    }
    return 0;
}

static int warm_up_passes(vly_engine *e, vly_model *model, uint32_t n, uint32_t n_rows,
                          vly_error *err)
{
    int rc = vly_engine_warm_up(e, model, VLY_PASS_LAYERS, n, err);
    if (rc == 0 && n_rows) rc = vly_engine_warm_up(e, model, VLY_PASS_HEAD, n_rows, err);
    if (rc == 0 && n_rows) rc = vly_engine_warm_up(e, model, VLY_PASS_PICK, n_rows, err);
    return rc;
}

/* One token is measured each time, the other sizes once; of these one more each time, so that a
 * time which was wrong does not stay for ever. What blocks alone told of a size does not count: the
 * first ones of a kind may have waited for kernels. */
static int calibrate_target(vly_engine *e, const vly_kv_seq *seq, size_t n_sizes, vly_error *err)
{
    uint64_t start_ns = vly_clock_ns();
    vly_profile *p = &e->profile;
    int rc = 0;
    size_t again = 1 + p->n_loaded % (N_SIZES - 1);
    uint32_t due[N_SIZES], n_due = 0;
    for (size_t i = e->n_calibrated; rc == 0 && i < n_sizes; i++) {
        uint32_t n = sizes[i];
        bool known = i > 0 && i != again && p->n_loaded > 0 && p->verify_ratio[n] > 0;
        if (n > seq->n_pages * VLY_PAGE_TOKENS) continue;
        if (i >= N_MANDATORY && vly_clock_ns() - start_ns > BUDGET_NS) break;
        rc = warm_up_passes(e, e->target, n, n, err);
        if (rc == 0 && known) vly_profile_set_ready(p, n);
        if (rc == 0 && !known) due[n_due++] = n;
        if (n_due > 0 && i + 1 < (n_sizes < N_MANDATORY ? n_sizes : N_MANDATORY)) continue;
        if (rc == 0) rc = measure_sizes(e, seq, due, n_due, err);
        if (rc == 0) e->n_calibrated = (uint32_t)i + 1;
        n_due = 0;
    }
    return rc;
}

/* Times of one draft step, and of a block's first; and from passes over one token and many, of
 * reading a token. In turns with a pass of the target, whose time is known, as in measure_sizes. */
static int measure_draft(vly_engine *e, const vly_kv_seq *target, const vly_kv_seq *draft,
                         vly_error *err)
{
    enum { TEXT, MODEL, BEGIN, FEED_ONE, FEED_MANY, N };
    static const struct {
        uint32_t n, n_rows;
        bool all;
    } of[N] = {[TEXT] = {1, 1, true},
               [MODEL] = {1, 1, false},
               [BEGIN] = {VLY_USUALLY_FED, 1, false},
               [FEED_ONE] = {1, 0, false},
               [FEED_MANY] = {N_FEED, 0, false}};
    vly_profile *p = &e->profile;
    double ratio[N][N_RUNS] = {0}, ns[N], one, pass;
    int rc = 0;
    if (p->n_loaded > 0 && p->step_ns[VLY_ARM_MODEL] > 0 && p->feed_ns > 0) return 0;
    for (int round = 0; rc == 0 && round < N_RUNS; round++) {
        rc = run_pass(e, e->target, target, 1, 1, false, &one, err);
        for (int i = 0; rc == 0 && i < N; i++) {
            rc = run_pass(e, e->draft, draft, of[i].n, of[i].n_rows, of[i].all, &pass, err);
            ratio[i][round] = one > 0 ? pass / one : 0;
        }
    }
    if (rc) return rc;
    for (int i = 0; i < N; i++) ns[i] = vly_median(ratio[i], N_RUNS) * p->verify_ns;
    double more = ns[FEED_MANY] - ns[FEED_ONE];
    p->step_ns[VLY_ARM_TEXT] = ns[TEXT];
    p->step_ns[VLY_ARM_MODEL] = ns[MODEL];
    p->begin_ns[VLY_ARM_TEXT] = p->begin_ns[VLY_ARM_MODEL] = fmax(ns[BEGIN] - ns[MODEL], 0);
    p->feed_ns = more > 0 ? more / (N_FEED - 1) : ns[FEED_ONE] / N_FEED;
    vly_log(VLY_LOG_DEBUG, "governor", "draft step: %.3f ms, %.3f ms to read a token",
            p->step_ns[VLY_ARM_MODEL] * 1e-6, p->feed_ns * 1e-6);
    return 0;
}

static int calibrate_draft(vly_engine *e, const vly_kv_seq *target, vly_error *err)
{
    vly_kv_seq seq = {0};
    int rc = vly_kv_seq_init(vly_model_kv(e->draft), &seq, err);
    if (rc == 0) rc = vly_kv_reserve(&seq, N_FEED, err);
    if (rc == 0) rc = warm_up_passes(e, e->draft, 1, 1, err);
    for (int i = 0; rc == 0 && i < 2 * VLY_N_DRAFT_PASSES; i++)
        rc = vly_engine_warm_up(e, e->draft, vly_draft_passes(i % 2)[i / 2], 1, err);
    /* It takes in, in one pass, whatever was written without it, up to what it would read apart. */
    for (uint32_t n = 2; rc == 0 && n <= VLY_MAX_BATCH; n *= 2)
        rc = vly_engine_warm_up(e, e->draft, VLY_PASS_LAYERS, n, err);
    if (rc == 0 && e->ahead)
        rc = vly_engine_warm_up(e, e->draft, VLY_PASS_LAYERS, VLY_MAX_ADVANCED, err);
    if (rc == 0) rc = measure_draft(e, target, &seq, err);
    vly_kv_seq_deinit(&seq);
    return rc;
}

int vly_engine_calibrate(vly_engine *e, bool all, vly_error *err)
{
    uint64_t start_ns = vly_clock_ns();
    size_t n_sizes = all ? N_SIZES : 1;
    vly_kv_seq seq = {0};
    if (e->n_calibrated >= n_sizes) return 0;
    if (e->n_calibrated == 0) vly_engine_load_profile(e);
    uint32_t most = e->n_parallel > 1 ? VLY_MAX_BATCH : VLY_MAX_DRAFT + 1; /* of a pass */
    if (most > e->info.n_ctx) most = e->info.n_ctx;
    int rc = vly_kv_seq_init(vly_model_kv(e->target), &seq, err);
    if (rc == 0) rc = vly_kv_reserve(&seq, most, err);
    if (rc == 0) rc = calibrate_target(e, &seq, n_sizes, err);
    if (rc == 0 && e->draft && all) rc = calibrate_draft(e, &seq, err);
    vly_kv_seq_deinit(&seq);
    if (rc == 0) e->calibrated |= all;
    if (all) vly_log(VLY_LOG_INFO, "governor", "calibrated in %.0f ms", vly_ms_since(start_ns));
    return rc;
}
