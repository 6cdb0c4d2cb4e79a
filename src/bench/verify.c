/* volley bench verify: what a pass over several tokens costs against one over a single token. */
#include "bench/bench.h"
#include "model/measure.h"

#include <math.h>
#include <stdio.h>

#define MOST_REPEAT 10000

static const vly_column columns[] = {
    {"gpu_ms", 4},  {"gpu_min", 4},  {"gpu_p10", 4},       {"gpu_p90", 4},      {"ratio", 3},
    {"wall_ms", 4}, {"wall_min", 4}, {"wall_p90", 4},      {"tokens_per_s", 1}, {"layers_ms", 4},
    {"head_ms", 4}, {"pick_ms", 4},  {"limit_percent", 1},
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

/* Measures passes over `n` tokens; *base is the time of the first size measured. */
static int measure_size(vly_subject *s, uint32_t n, double *base, vly_report *report,
                        vly_error *err)
{
    static double gpu[MOST_REPEAT], wall[MOST_REPEAT], part[3][MOST_REPEAT];
    uint32_t n_repeat = s->options->n_repeat;
    vly_pass_times t;
    int rc = vly_subject_write_step(s, n, err);
    if (rc == 0) rc = vly_subject_settle(s, n, err);
    for (uint32_t i = 0; rc == 0 && i < n_repeat; i++) {
        rc = vly_subject_run_pass(s, n, false, &t, err);
        gpu[i] = t.gpu;
        wall[i] = t.wall;
        if (rc == 0) rc = vly_subject_run_pass(s, n, true, &t, err);
        part[0][i] = t.layers;
        part[1][i] = t.head;
        part[2][i] = t.pick;
    }
    if (rc) return rc;
    vly_spread g = vly_spread_of(gpu, n_repeat), w = vly_spread_of(wall, n_repeat);
    double ms = isnan(g.median) ? w.median : g.median;
    if (isnan(*base)) *base = ms;
    uint64_t bytes = vly_model_pass_bytes(s->target, s->seq.n_tok + n);
    double values[N_COLUMNS] = {g.median,
                                g.min,
                                g.p10,
                                g.p90,
                                ms / *base,
                                w.median,
                                w.min,
                                w.p90,
                                1000.0 * n / w.median,
                                vly_median(part[0], n_repeat),
                                vly_median(part[1], n_repeat),
                                vly_median(part[2], n_repeat),
                                vly_subject_share(s, bytes, ms)};
    char label[16];
    snprintf(label, sizeof label, "%u", n);
    vly_report_row(report, label, values);
    return 0;
}

static int measure(const vly_bench_options *o, vly_report *report, vly_error *err)
{
    vly_subject s;
    double base = NAN;
    int rc = vly_subject_init(&s, o, o->n_ctx + VLY_MAX_BATCH, report, err);
    if (rc == 0) rc = vly_subject_fill(&s, o->n_ctx, err);
    if (rc == 0) {
        vly_report_number(report, "context", o->n_ctx, 0);
        vly_report_table(report, "rows", "n", columns, N_COLUMNS);
    }
    for (size_t i = 0; rc == 0 && i < o->sizes.len; i++)
        rc = measure_size(&s, o->sizes.data[i], &base, report, err);
    if (rc == 0) {
        vly_report_note(report,
                        "ratio: gpu_ms against that of n = %u; wall_ms: from submitting to having "
                        "waited; limit_percent: weights and cache read once at read_gb_per_s",
                        o->sizes.data[0]);
        if (o->profile)
            rc = vly_subject_profile(&s, VLY_PASS_LAYERS, o->sizes.data, o->sizes.len, report, err);
    }
    vly_subject_deinit(&s);
    return rc;
}

int vly_bench_verify(int argc, char **argv)
{
    return vly_bench_main(VLY_BENCH_VERIFY, "one pass over n tokens, against one over 1", measure,
                          argc, argv);
}
