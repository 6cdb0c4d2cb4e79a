/* volley bench prefill: how fast prompts are read. */
#include "bench/bench.h"

#include "model/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_REPEAT 10000

static const vly_column columns[] = {
    {"tokens_per_s", 1},     {"min", 1}, {"p10", 1}, {"p90", 1}, {"wall_ms", 3}, {"gpu_ms", 3},
    {"gpu_tokens_per_s", 1},
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

/* As the engine reads it, the last token being the first that is decoded: from the start of the
 * sequence to the submission of its first block. */
static int read_prompt(vly_subject *s, const uint32_t *ids, uint32_t n, double *ms, vly_error *err)
{
    vly_bench_text text = {.ids = ids, .n_ids = n + 1, .n_tokens = 1};
    int rc = vly_subject_generate(s, &text, err);
    *ms = text.stats.prompt_ms;
    return rc;
}

/* The time on the device alone, chunk after chunk. */
static int time_chunks(vly_subject *s, uint32_t n, double *ms, vly_error *err)
{
    int rc = vly_subject_fill(s, 0, err);
    *ms = 0;
    while (rc == 0 && s->seq.n_tok < n) {
        vly_gpu_commands *list[3] = {s->mark[0], NULL, s->mark[1]};
        uint32_t chunk = n - s->seq.n_tok < VLY_MAX_CHUNK ? n - s->seq.n_tok : VLY_MAX_CHUNK;
        uint64_t t[2] = {0, 0};
        double wall;
        if ((rc = vly_subject_write_step(s, chunk, err)) ||
            (rc = vly_model_pass(s->target, VLY_PASS_PROMPT, chunk, &list[1], err)) ||
            (rc = vly_subject_submit(s, list, 3, &wall, err)) ||
            (rc = vly_gpu_commands_times(list[0], 1, &t[0], err)) ||
            (rc = vly_gpu_commands_times(list[2], 1, &t[1], err)))
            break;
        *ms += (double)(t[1] - t[0]) * 1e-6;
        vly_kv_commit(&s->seq, chunk);
    }
    vly_subject_empty(s);
    return rc;
}

static int measure_size(vly_subject *s, const uint32_t *ids, uint32_t n, vly_report *report,
                        vly_error *err)
{
    static double rate[MOST_REPEAT], wall[MOST_REPEAT], gpu[MOST_REPEAT];
    uint32_t n_repeat = s->options->n_repeat;
    double first;
    int rc = read_prompt(s, ids, n, &first, err); /* not counted */
    for (uint32_t i = 0; rc == 0 && i < n_repeat; i++) {
        rc = read_prompt(s, ids, n, &wall[i], err);
        rate[i] = 1000.0 * n / wall[i];
        gpu[i] = NAN;
        if (rc == 0 && s->mark[0]) rc = time_chunks(s, n, &gpu[i], err);
    }
    if (rc) return rc;
    vly_spread r = vly_spread_of(rate, n_repeat);
    double gpu_ms = vly_median(gpu, n_repeat);
    double values[N_COLUMNS] = {
        r.median, r.min, r.p10, r.p90, vly_median(wall, n_repeat), gpu_ms, 1000.0 * n / gpu_ms};
    char label[16];
    snprintf(label, sizeof label, "%u", n);
    vly_report_row(report, label, values);
    return 0;
}

static int measure_all(vly_subject *s, uint32_t most, vly_report *report, vly_error *err)
{
    const vly_ids *sizes = &s->options->sizes;
    uint32_t *ids = malloc((most + 1) * sizeof *ids), n_ctx = vly_engine_get_info(s->engine)->n_ctx;
    if (!ids) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a prompt");
    for (uint32_t i = 0; i <= most; i++) ids[i] = vly_subject_token(s, i);
    vly_report_table(report, "rows", "tokens", columns, N_COLUMNS);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizes->len; i++) {
        if (sizes->data[i] + 2 <= n_ctx)
            rc = measure_size(s, ids, sizes->data[i], report, err);
        else
            vly_report_note(report, "%u tokens: left out, the context is %u", sizes->data[i],
                            n_ctx);
    }
    free(ids);
    return rc;
}

static int measure(const vly_bench_options *o, vly_report *report, vly_error *err)
{
    vly_subject s;
    uint32_t most = 0;
    for (size_t i = 0; i < o->sizes.len; i++)
        if (o->sizes.data[i] > most) most = o->sizes.data[i];
    int rc = vly_subject_init(&s, o, most + 2, report, err);
    if (rc == 0) rc = measure_all(&s, most, report, err);
    if (rc == 0 && o->profile) {
        uint32_t n = most < VLY_MAX_CHUNK ? most : VLY_MAX_CHUNK;
        uint32_t room = vly_engine_get_info(s.engine)->n_ctx - 1;
        if (n > room) n = room;
        rc = vly_subject_fill(&s, 0, err);
        if (rc == 0) rc = vly_subject_profile(&s, VLY_PASS_PROMPT, &n, 1, report, err);
    }
    if (rc == 0)
        vly_report_note(report,
                        "tokens_per_s: by the clock, as the engine reads a prompt from an empty "
                        "context; gpu: the passes on the device alone");
    vly_subject_deinit(&s);
    return rc;
}

int vly_bench_prefill(int argc, char **argv)
{
    return vly_bench_main(VLY_BENCH_PREFILL, "how fast prompts are read, from an empty context",
                          measure, argc, argv);
}
