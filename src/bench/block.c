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

/* Texts with k drafted tokens a block, or with VLY_DRAFT_AUTO at most k. */
typedef struct {
    vly_draft_method method;
    uint32_t k;
    double *rates; /* [n_repeat] tokens a second */
    vly_stats sum;
} row;

static double per_block(double ms, const vly_stats *sum)
{
    return sum->blocks ? ms / sum->blocks : NAN;
}

static int write_text(vly_subject *s, const uint32_t *ids, row *r, int i, vly_error *err)
{
    const vly_bench_options *o = s->options;
    vly_bench_text text = {.ids = ids,
                           .n_ids = o->n_ctx ? o->n_ctx : 1,
                           .n_tokens = o->n_tokens,
                           .draft_method = r->method,
                           .draft_max = r->k,
                           .forced_length = r->k ? o->accept : 0};
    int rc = vly_subject_generate(s, &text, err);
    if (rc || i < 0) return rc;
    r->rates[i] = 1000.0 * text.stats.generated_tokens / text.stats.generate_ms;
    r->sum.blocks += text.stats.blocks;
    r->sum.accepted += text.stats.accepted;
    r->sum.generate_ms += text.stats.generate_ms;
    r->sum.draft_ms += text.stats.draft_ms;
    r->sum.verify_ms += text.stats.verify_ms;
    r->sum.idle_ms += text.stats.idle_ms;
    return 0;
}

/* One text of each row after the other, so that what else happens on the machine meets all alike;
 * the first of each is not counted. */
static int write_texts(vly_subject *s, row *rows, size_t n_rows, vly_error *err)
{
    const vly_bench_options *o = s->options;
    uint32_t *ids = malloc((o->n_ctx + 1) * sizeof *ids);
    int rc = ids ? 0 : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a prompt");
    for (uint32_t i = 0; rc == 0 && i <= o->n_ctx; i++) ids[i] = vly_subject_token(s, i);
    for (int i = -1; rc == 0 && i < (int)o->n_repeat; i++)
        for (size_t j = 0; rc == 0 && j < n_rows; j++) rc = write_text(s, ids, &rows[j], i, err);
    free(ids);
    return rc;
}

/* Adds a row of the table; the median of its rates. `plain` is that of plain decoding; 0: of this
 * row. */
static double report_row(const vly_subject *s, row *r, double plain, vly_report *report)
{
    const vly_stats *sum = &r->sum;
    vly_spread rate = vly_spread_of(r->rates, s->options->n_repeat);
    bool timed = s->mark[0] != NULL;
    double values[N_COLUMNS] = {
        rate.median,
        rate.min,
        rate.max,
        plain > 0 ? rate.median / plain : 1,
        1 + (double)sum->accepted / sum->blocks,
        per_block(sum->generate_ms, sum),
        timed ? per_block(sum->draft_ms, sum) : NAN,
        timed ? per_block(sum->verify_ms, sum) : NAN,
        timed ? per_block(sum->generate_ms - sum->draft_ms - sum->verify_ms, sum) : NAN,
        timed ? 100 * sum->idle_ms / (sum->draft_ms + sum->verify_ms + sum->idle_ms) : NAN};
    char label[16];
    snprintf(label, sizeof label, "%u", r->k);
    vly_report_row(report, r->method == VLY_DRAFT_AUTO ? "auto" : label, values);
    return rate.median;
}

static void report_rows(const vly_subject *s, row *rows, size_t n_rows, vly_report *report)
{
    double plain = 0, best = 0, rate = 0;
    uint32_t best_k = 0;
    vly_report_table(report, "rows", "k", columns, N_COLUMNS);
    for (size_t i = 0; i < n_rows; i++) {
        rate = report_row(s, &rows[i], plain, report);
        if (i == 0) plain = rate;
        if (rate <= best || rows[i].method == VLY_DRAFT_AUTO) continue;
        best = rate;
        best_k = rows[i].k;
    }
    vly_report_note(report, "best: k = %u, %.1f tokens/s, %.3f x plain decoding", best_k, best,
                    best / plain);
    vly_report_note(report, "auto reaches %.3f of that and %.3f of plain decoding", rate / best,
                    rate / plain);
}

/* Plain decoding first, the governor's choice last. */
static int measure_all(vly_subject *s, vly_report *report, vly_error *err)
{
    const vly_bench_options *o = s->options;
    size_t n_rows = 0, most = o->sizes.len + 2;
    row *rows = calloc(most, sizeof *rows);
    double *rates = calloc(most * o->n_repeat, sizeof *rates);
    int rc = rows && rates ? 0 : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for times");
    if (rc == 0) rows[n_rows++] = (row){.method = VLY_DRAFT_NONE};
    for (size_t i = 0; rc == 0 && i < o->sizes.len; i++) {
        uint32_t k = o->sizes.data[i];
        if (k + 1 >= o->accept)
            rows[n_rows++] = (row){.method = VLY_DRAFT_MODEL, .k = k};
        else
            vly_report_note(report, "k = %u: left out, it accepts at most %u tokens a block", k,
                            k + 1);
    }
    if (rc == 0) rows[n_rows++] = (row){.method = VLY_DRAFT_AUTO, .k = VLY_MAX_DRAFT};
    for (size_t i = 0; i < n_rows; i++) rows[i].rates = rates + i * o->n_repeat;
    if (rc == 0) rc = write_texts(s, rows, n_rows, err);
    if (rc == 0) report_rows(s, rows, n_rows, report);
    free(rates);
    free(rows);
    return rc;
}

static int measure(const vly_bench_options *o, vly_report *report, vly_error *err)
{
    vly_subject s;
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
