/* volley bench block: what speculation gains, by the number of drafted tokens. */
#include "bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const vly_column columns[] = {
    {"tokens_per_s", 1}, {"min", 1},          {"max", 1},      {"against_plain", 3},
    {"mean_length", 3},  {"block_ms", 4},     {"draft_ms", 4}, {"verify_ms", 4},
    {"wait_ms", 4},      {"idle_percent", 2},
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

typedef struct {
    double rate, best; /* tokens a second: of plain decoding, of the best row */
    char best_label[16];
} gains;

static double per_block(double ms, const vly_stats *sum)
{
    return sum->blocks ? ms / sum->blocks : NAN;
}

/* Texts with k drafted tokens a block, or with VLY_DRAFT_AUTO at most k: one row. */
static int measure_k(vly_subject *s, const uint32_t *ids, vly_draft_method method, uint32_t k,
                     gains *g, vly_report *report, vly_error *err)
{
    const vly_bench_options *o = s->options;
    char label[16];
    snprintf(label, sizeof label, "%u", k);
    if (method == VLY_DRAFT_AUTO) snprintf(label, sizeof label, "auto");
    double *rates = malloc(o->n_repeat * sizeof *rates);
    int rc = rates ? 0 : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for times");
    vly_stats sum = {0};
    for (int i = -1; rc == 0 && i < (int)o->n_repeat; i++) { /* the first is not counted */
        vly_bench_text text = {.ids = ids,
                               .n_ids = o->n_ctx ? o->n_ctx : 1,
                               .n_tokens = o->n_tokens,
                               .draft_method = method,
                               .draft_max = k,
                               .forced_length = k ? o->accept : 0};
        rc = vly_subject_generate(s, &text, err);
        if (rc || i < 0) continue;
        rates[i] = 1000.0 * text.stats.generated_tokens / text.stats.generate_ms;
        sum.blocks += text.stats.blocks;
        sum.accepted += text.stats.accepted;
        sum.generate_ms += text.stats.generate_ms;
        sum.draft_ms += text.stats.draft_ms;
        sum.verify_ms += text.stats.verify_ms;
        sum.idle_ms += text.stats.idle_ms;
    }
    if (rc == 0) {
        vly_spread r = vly_spread_of(rates, o->n_repeat);
        if (k == 0) g->rate = r.median;
        if (r.median > g->best) {
            g->best = r.median;
            snprintf(g->best_label, sizeof g->best_label, "%s", label);
        }
        bool timed = s->mark[0] != NULL;
        double values[N_COLUMNS] = {
            r.median,
            r.min,
            r.max,
            r.median / g->rate,
            1 + (double)sum.accepted / sum.blocks,
            per_block(sum.generate_ms, &sum),
            timed ? per_block(sum.draft_ms, &sum) : NAN,
            timed ? per_block(sum.verify_ms, &sum) : NAN,
            timed ? per_block(sum.generate_ms - sum.draft_ms - sum.verify_ms, &sum) : NAN,
            timed ? 100 * sum.idle_ms / (sum.draft_ms + sum.verify_ms + sum.idle_ms) : NAN};
        vly_report_row(report, label, values);
    }
    free(rates);
    return rc;
}

static int measure_all(vly_subject *s, vly_report *report, vly_error *err)
{
    const vly_bench_options *o = s->options;
    gains g = {0};
    uint32_t *ids = malloc((o->n_ctx + 1) * sizeof *ids);
    if (!ids) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a prompt");
    for (uint32_t i = 0; i <= o->n_ctx; i++) ids[i] = vly_subject_token(s, i);
    vly_report_table(report, "rows", "k", columns, N_COLUMNS);
    int rc = measure_k(s, ids, VLY_DRAFT_NONE, 0, &g, report, err);
    for (size_t i = 0; rc == 0 && i < o->sizes.len; i++) {
        uint32_t k = o->sizes.data[i];
        if (k + 1 >= o->accept)
            rc = measure_k(s, ids, VLY_DRAFT_MODEL, k, &g, report, err);
        else
            vly_report_note(report, "k = %u: left out, it accepts at most %u tokens a block", k,
                            k + 1);
    }
    if (rc == 0) rc = measure_k(s, ids, VLY_DRAFT_AUTO, VLY_MAX_DRAFT, &g, report, err);
    free(ids);
    if (rc == 0)
        vly_report_note(report, "best: k = %s, %.1f tokens/s, %.3f x plain decoding", g.best_label,
                        g.best, g.best / g.rate);
    return rc;
}

static int measure(const vly_bench_options *o, vly_report *report, vly_error *err)
{
    vly_subject s;
    if (!o->draft)
        return vly_fail(err, VLY_E_INVALID,
                        "a draft is missing: give -d FILE or --synthetic-draft SHAPE:FORMAT");
    int rc = vly_subject_init(&s, o, o->n_ctx + o->n_tokens + VLY_MAX_BATCH, report, err);
    if (rc == 0) {
        vly_report_number(report, "context", o->n_ctx, 0);
        if (o->accept > 0) vly_report_number(report, "forced_length", o->accept, 3);
        rc = measure_all(&s, report, err);
    }
    if (rc == 0 && o->accept > 0)
        vly_report_note(report, "the accepted length is forced: the text written is worthless");
    if (rc == 0)
        vly_report_note(report,
                        "k: drafted tokens a block, 0 being plain decoding, auto what the "
                        "engine chooses by itself; mean_length: tokens "
                        "that a block decides; draft_ms, verify_ms: on the device; wait_ms: the "
                        "rest of block_ms; idle_percent: of the time from the first block to the "
                        "last one, how much the device computed nothing between two, by its own "
                        "clock");
    vly_subject_deinit(&s);
    return rc;
}

int vly_bench_block(int argc, char **argv)
{
    return vly_bench_main(VLY_BENCH_BLOCK, "speculation, by the number of drafted tokens", measure,
                          argc, argv);
}
