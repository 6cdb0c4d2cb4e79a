/* volley bench decode: plain decoding as the engine runs it, and where its time goes. */
#include "bench/bench.h"
#include "model/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define WARM_UP_TOKENS 8

static const vly_column columns[] = {
    {"tokens_per_s", 1}, {"min", 1},     {"max", 1},     {"ms", 4},
    {"ms_p10", 4},       {"ms_p90", 4},  {"gpu_ms", 4},  {"pass_ms", 4},
    {"layers_ms", 4},    {"head_ms", 4}, {"pick_ms", 4}, {"limit_percent", 1},
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

/* Times on the device of single passes at the context: medians. */
static int time_passes(vly_subject *s, uint32_t n_ctx, vly_pass_times *out, vly_error *err)
{
    enum { N = 15 };
    double part[4][N];
    vly_pass_times t = {0};
    int rc = vly_subject_fill(s, n_ctx, err);
    if (rc == 0) rc = vly_subject_write_step(s, 1, err);
    if (rc == 0) rc = vly_subject_settle(s, 1, err);
    for (int i = 0; rc == 0 && i < N; i++) {
        rc = vly_subject_run_pass(s, 1, false, &t, err);
        part[0][i] = t.gpu;
        if (rc == 0) rc = vly_subject_run_pass(s, 1, true, &t, err);
        part[1][i] = t.layers;
        part[2][i] = t.head;
        part[3][i] = t.pick;
    }
    *out = (vly_pass_times){.wall = NAN,
                            .gpu = vly_median(part[0], N),
                            .layers = vly_median(part[1], N),
                            .head = vly_median(part[2], N),
                            .pick = vly_median(part[3], N)};
    return rc;
}

typedef struct {
    vly_spread rate; /* tokens a second of each stretch of n_tokens */
    vly_spread ms;   /* between two tokens */
    double gpu_ms;   /* of a block, mean */
} decoding;

/* One text, cut into stretches of n_tokens: `times` [WARM_UP_TOKENS + n_repeat * n_tokens]. */
static int decode(vly_subject *s, const uint32_t *ids, uint32_t n_ctx, uint64_t *times,
                  decoding *out, vly_error *err)
{
    const vly_bench_options *o = s->options;
    uint32_t n = o->n_repeat * o->n_tokens;
    vly_bench_text text = {
        .ids = ids, .n_ids = n_ctx ? n_ctx : 1, .n_tokens = WARM_UP_TOKENS + n, .token_ns = times};
    int rc = vly_subject_generate(s, &text, err);
    double *rates = malloc(o->n_repeat * sizeof *rates), *ms = malloc(n * sizeof *ms);
    if (rc == 0 && (!rates || !ms)) rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for times");
    const uint64_t *start = times + WARM_UP_TOKENS - 1;
    for (uint32_t i = 0; rc == 0 && i < o->n_repeat; i++) {
        const uint64_t *from = start + (size_t)i * o->n_tokens;
        uint64_t ns = from[o->n_tokens] - from[0];
        rates[i] = 1e9 * o->n_tokens / (double)ns;
    }
    for (uint32_t i = 0; rc == 0 && i < n; i++) ms[i] = (double)(start[i + 1] - start[i]) * 1e-6;
    if (rc == 0) {
        out->rate = vly_spread_of(rates, o->n_repeat);
        out->ms = vly_spread_of(ms, n);
        out->gpu_ms = text.stats.blocks && text.stats.verify_ms > 0
                          ? text.stats.verify_ms / text.stats.blocks
                          : NAN;
    }
    free(rates);
    free(ms);
    return rc;
}

static int measure_context(vly_subject *s, const uint32_t *ids, uint32_t n_ctx, uint64_t *times,
                           vly_report *report, vly_error *err)
{
    decoding d = {0};
    vly_pass_times t = {0};
    int rc = time_passes(s, n_ctx, &t, err);
    vly_subject_empty(s);
    if (rc == 0) rc = decode(s, ids, n_ctx, times, &d, err);
    if (rc) return rc;
    uint64_t bytes = vly_model_pass_bytes(s->target, n_ctx + 1);
    double values[N_COLUMNS] = {
        d.rate.median, d.rate.min, d.rate.max, d.ms.median,
        d.ms.p10,      d.ms.p90,   d.gpu_ms,   t.gpu,
        t.layers,      t.head,     t.pick,     vly_subject_share(s, bytes, 1000 / d.rate.median)};
    char label[16];
    snprintf(label, sizeof label, "%u", n_ctx);
    vly_report_row(report, label, values);
    return 0;
}

static int measure_all(vly_subject *s, uint32_t more, vly_report *report, vly_error *err)
{
    const vly_ids *contexts = &s->options->contexts;
    uint32_t room = vly_engine_get_info(s->engine)->n_ctx;
    uint32_t *ids = malloc(room * sizeof *ids);
    uint64_t *times = malloc(more * sizeof *times);
    int rc = ids && times ? 0 : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a text");
    for (uint32_t i = 0; rc == 0 && i < room; i++) ids[i] = vly_subject_token(s, i);
    vly_report_table(report, "rows", "context", columns, N_COLUMNS);
    for (size_t i = 0; rc == 0 && i < contexts->len; i++) {
        uint32_t n_ctx = contexts->data[i];
        if ((uint64_t)n_ctx + more + 1 <= room)
            rc = measure_context(s, ids, n_ctx, times, report, err);
        else
            vly_report_note(report, "context %u: left out, with %u tokens it exceeds %u", n_ctx,
                            more, room);
    }
    free(ids);
    free(times);
    return rc;
}

static int measure(const vly_bench_options *o, vly_report *report, vly_error *err)
{
    vly_subject s;
    uint64_t n = (uint64_t)o->n_repeat * o->n_tokens;
    if (n > VLY_BENCH_MAX_CTX)
        return vly_fail(err, VLY_E_CONTEXT, "-n %u -r %u: expected at most %u tokens in all",
                        o->n_tokens, o->n_repeat, VLY_BENCH_MAX_CTX);
    uint32_t most = 0, more = WARM_UP_TOKENS + (uint32_t)n;
    for (size_t i = 0; i < o->contexts.len; i++)
        if (o->contexts.data[i] > most) most = o->contexts.data[i];
    int rc = vly_subject_init(&s, o, most + more + 1, report, err);
    if (rc == 0) rc = measure_all(&s, more, report, err);
    if (rc == 0 && o->profile) rc = vly_subject_fill(&s, o->contexts.data[0], err);
    if (rc == 0 && o->profile)
        rc = vly_subject_profile(&s, VLY_PASS_LAYERS, (const uint32_t[]){1}, 1, report, err);
    if (rc == 0)
        vly_report_note(report,
                        "tokens_per_s: by the clock, of %u stretch%s of %u token%s after the "
                        "context (median, min, max); ms: between tokens; gpu_ms: of the engine's "
                        "blocks on the device; pass_ms: a pass submitted alone, layers, head and "
                        "pick its parts",
                        o->n_repeat, o->n_repeat == 1 ? "" : "es", o->n_tokens,
                        vly_plural(o->n_tokens));
    vly_subject_deinit(&s);
    return rc;
}

int vly_bench_decode(int argc, char **argv)
{
    return vly_bench_main(VLY_BENCH_DECODE, "plain decoding, as the engine runs it", measure, argc,
                          argv);
}
