/* The time of each step of a pass, and how near it comes to what memory allows. */
#include "bench/bench.h"
#include "model/measure.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    uint32_t n; /* steps */
    double ms;  /* of all */
    uint64_t bytes;
} step_sum;

static const vly_column columns[] = {
    {"tokens", 0},       {"steps", 0}, {"us", 1},       {"us_per_step", 2},
    {"pass_percent", 1}, {"mb", 3},    {"gb_per_s", 3}, {"limit_percent", 1},
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

/* Runs the commands n_repeat times and adds the median time of each step to its kind's. */
static int time_steps(vly_subject *s, vly_gpu_commands *commands, const vly_step_marks *marks,
                      uint32_t n_ctx, step_sum *sums, vly_error *err)
{
    enum { MOST = 64 };
    uint64_t t[VLY_GPU_MAX_TIMESTAMPS];
    static double ms[VLY_GPU_MAX_TIMESTAMPS][MOST];
    uint32_t n_repeat = s->options->n_repeat < MOST ? s->options->n_repeat : MOST;
    int rc = 0;
    for (int i = -2; rc == 0 && i < (int)n_repeat; i++) { /* the first two are not counted */
        double wall;
        rc = vly_subject_submit(s, &commands, 1, &wall, err);
        if (rc == 0) rc = vly_gpu_commands_times(commands, marks->n, t, err);
        for (uint32_t j = 1; rc == 0 && i >= 0 && j < marks->n; j++)
            ms[j][i] = (double)(t[j] - t[j - 1]) * 1e-6;
    }
    for (uint32_t j = 1; rc == 0 && j < marks->n; j++) {
        step_sum *sum = &sums[marks->kind[j]];
        sum->n++;
        sum->ms += vly_median(ms[j], n_repeat);
        sum->bytes += vly_model_step_bytes(s->target, marks->kind[j], marks->layer[j], n_ctx);
    }
    return rc;
}

static void add_row(const vly_subject *s, vly_report *report, const char *label,
                    const step_sum *sum, uint32_t n, double pass_ms)
{
    double values[N_COLUMNS] = {
        n,
        sum->n,
        1000 * sum->ms,
        1000 * sum->ms / sum->n,
        100 * sum->ms / pass_ms,
        sum->bytes ? (double)sum->bytes * 1e-6 : NAN,
        sum->bytes ? (double)sum->bytes * 1e-6 / sum->ms : NAN,
        sum->bytes ? vly_subject_share(s, sum->bytes, sum->ms) : NAN,
    };
    vly_report_row(report, label, values);
}

static int profile(vly_subject *s, vly_pass pass, uint32_t n, vly_report *report, vly_error *err)
{
    const vly_pass passes[] = {pass, VLY_PASS_HEAD, VLY_PASS_PICK};
    step_sum sums[VLY_N_STEPS] = {0}, all = {0};
    int rc = vly_subject_write_step(s, n, err);
    uint32_t n_passes = pass == VLY_PASS_PROMPT ? 1 : 3;
    for (uint32_t i = 0; rc == 0 && i < n_passes; i++) {
        vly_step_marks marks;
        vly_gpu_commands *commands;
        rc = vly_model_record_marked(s->target, passes[i], n, &commands, &marks, err);
        if (rc) break;
        rc = time_steps(s, commands, &marks, s->seq.n_tok + n, sums, err);
        vly_gpu_commands_destroy(commands);
    }
    if (rc) return rc;
    for (int i = 0; i < VLY_N_STEPS; i++) {
        all.n += sums[i].n;
        all.ms += sums[i].ms;
        all.bytes += sums[i].bytes;
    }
    for (int i = 0; i < VLY_N_STEPS; i++)
        if (sums[i].n) add_row(s, report, vly_step_name(i), &sums[i], n, all.ms);
    add_row(s, report, "all", &all, n, all.ms);
    return 0;
}

int vly_subject_profile(vly_subject *s, vly_pass pass, const uint32_t *sizes, size_t n_sizes,
                        vly_report *report, vly_error *err)
{
    int rc = 0;
    if (!s->mark[0])
        return vly_fail(err, VLY_E_UNSUPPORTED, "%s has no timestamps: steps cannot be measured",
                        vly_gpu_get_info(s->gpu)->name);
    vly_report_table(report, "steps", "step", columns, N_COLUMNS);
    for (size_t i = 0; rc == 0 && i < n_sizes; i++) rc = profile(s, pass, sizes[i], report, err);
    vly_report_note(report,
                    "steps: of a pass over `tokens` at context %u, with a timestamp after each, "
                    "which costs up to a microsecond each",
                    s->seq.n_tok);
    return rc;
}
