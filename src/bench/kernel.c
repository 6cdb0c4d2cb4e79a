/* volley bench kernel: each step of a pass alone over the model's own weights, with cold caches:
 * before each measurement other memory is read, more than caches hold. */
#include "bench/bench.h"
#include "model/measure.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_LAYERS  16 /* of those measured, spread over the model */
#define MOST_GROUPS 32 /* kinds of steps that differ in format */
#define MOST_TIMES  2048

static const vly_column columns[] = {
    {"tokens", 0}, {"us", 2}, {"us_min", 2},   {"us_p10", 2},
    {"us_p90", 2}, {"mb", 3}, {"gb_per_s", 3}, {"limit_percent", 1},
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

/* Steps of one kind and format. */
typedef struct {
    char label[64];
    uint64_t bytes; /* of one */
    double us[MOST_TIMES];
    size_t n;
} group;

typedef struct {
    vly_subject *s;
    vly_reader reader;
    uint64_t flush_bytes;
    group *groups;
    size_t n_groups;
} bench;

static group *find_group(bench *b, vly_step_kind kind, uint32_t layer, uint32_t n_ctx)
{
    char formats[40], label[64];
    vly_model_step_formats(b->s->target, kind, layer, formats, sizeof formats);
    snprintf(label, sizeof label, "%s%s%s", vly_step_name(kind), formats[0] ? " " : "", formats);
    for (size_t i = 0; i < b->n_groups; i++)
        if (strcmp(b->groups[i].label, label) == 0) return &b->groups[i];
    if (b->n_groups == MOST_GROUPS) return NULL;
    group *g = &b->groups[b->n_groups++];
    memcpy(g->label, label, sizeof label);
    g->bytes = vly_model_step_bytes(b->s->target, kind, layer, n_ctx);
    g->n = 0;
    return g;
}

/* The step of some layers, each after a reading that leaves nothing of it in caches. */
static int record(bench *b, vly_step_kind kind, const uint32_t *layers, uint32_t n_layers,
                  uint32_t n, vly_gpu_commands **out, vly_error *err)
{
    int rc = vly_gpu_commands_create(b->s->gpu, "steps alone", out, err);
    if (rc) return rc;
    for (uint32_t i = 0; rc == 0 && i < n_layers; i++) {
        rc = vly_reader_add(&b->reader, b->flush_bytes, *out, err);
        vly_gpu_cmd_barrier(*out);
        vly_gpu_cmd_timestamp(*out, 2 * i);
        if (rc == 0) rc = vly_model_record_step(b->s->target, kind, layers[i], n, *out, err);
        vly_gpu_cmd_timestamp(*out, 2 * i + 1);
        vly_gpu_cmd_barrier(*out);
    }
    if (rc == 0) rc = vly_gpu_commands_end(*out, err);
    if (rc) vly_gpu_commands_destroy(*out);
    return rc;
}

static int measure_kind(bench *b, vly_step_kind kind, uint32_t n, vly_error *err)
{
    uint32_t layers[MAX_LAYERS] = {0}, n_model = vly_model_get_config(b->s->target)->n_layer;
    uint32_t n_layers = n_model < MAX_LAYERS ? n_model : MAX_LAYERS;
    if (kind < VLY_STEP_QKV || kind > VLY_STEP_DOWN) n_layers = 1;
    for (uint32_t i = 0; i < n_layers; i++) layers[i] = i * n_model / n_layers;
    vly_gpu_commands *commands;
    int rc = record(b, kind, layers, n_layers, n, &commands, err);
    if (rc) return rc;
    for (int turn = -1; rc == 0 && turn < (int)b->s->options->n_repeat; turn++) {
        uint64_t t[2 * MAX_LAYERS];
        double wall;
        rc = vly_subject_submit(b->s, &commands, 1, &wall, err);
        if (rc == 0) rc = vly_gpu_commands_times(commands, 2 * n_layers, t, err);
        for (uint32_t i = 0; rc == 0 && turn >= 0 && i < n_layers; i++) {
            group *g = find_group(b, kind, layers[i], b->s->seq.n_tok + n);
            if (g && g->n < MOST_TIMES) g->us[g->n++] = (double)(t[2 * i + 1] - t[2 * i]) * 1e-3;
        }
    }
    vly_gpu_commands_destroy(commands);
    return rc;
}

static int measure_size(bench *b, uint32_t n, vly_report *report, vly_error *err)
{
    vly_pass_times t;
    /* A whole pass first: its activations are what the steps find. */
    int rc = vly_subject_write_step(b->s, n, err);
    if (rc == 0) rc = vly_subject_run_pass(b->s, n, false, &t, err);
    b->n_groups = 0;
    for (int kind = VLY_STEP_EMBED; rc == 0 && kind < VLY_N_STEPS; kind++)
        rc = measure_kind(b, kind, n, err);
    for (size_t i = 0; rc == 0 && i < b->n_groups; i++) {
        group *g = &b->groups[i];
        vly_spread us = vly_spread_of(g->us, g->n);
        bool reads = g->bytes > 0;
        double values[N_COLUMNS] = {n,
                                    us.median,
                                    us.min,
                                    us.p10,
                                    us.p90,
                                    reads ? (double)g->bytes * 1e-6 : NAN,
                                    reads ? (double)g->bytes * 1e-3 / us.median : NAN,
                                    reads ? vly_subject_share(b->s, g->bytes, us.median * 1e-3)
                                          : NAN};
        vly_report_row(report, g->label, values);
    }
    return rc;
}

static int measure_all(bench *b, vly_report *report, vly_error *err)
{
    const vly_bench_options *o = b->s->options;
    static group groups[MOST_GROUPS];
    b->groups = groups;
    if (!b->s->mark[0])
        return vly_fail(err, VLY_E_UNSUPPORTED, "%s has no timestamps: steps cannot be measured",
                        vly_gpu_get_info(b->s->gpu)->name);
    int rc = vly_reader_init(&b->reader, b->s->gpu, err);
    if (rc == 0) rc = vly_subject_fill(b->s, o->n_ctx, err);
    if (rc) return rc;
    /* A processor's caches are smaller and its memory slower. */
    b->flush_bytes = vly_gpu_get_info(b->s->gpu)->type == VLY_GPU_CPU ? 64u << 20 : 256u << 20;
    if (b->flush_bytes > b->reader.data.n_bytes) b->flush_bytes = b->reader.data.n_bytes;
    vly_report_number(report, "context", o->n_ctx, 0);
    vly_report_table(report, "rows", "step", columns, N_COLUMNS);
    for (size_t i = 0; rc == 0 && i < o->sizes.len; i++)
        rc = measure_size(b, o->sizes.data[i], report, err);
    return rc;
}

static int measure(const vly_bench_options *o, vly_report *report, vly_error *err)
{
    vly_subject s;
    bench b = {.s = &s};
    int rc = vly_subject_init(&s, o, o->n_ctx + VLY_MAX_BATCH, report, err);
    if (rc == 0) rc = measure_all(&b, report, err);
    if (rc == 0)
        vly_report_note(report,
                        "us: of one step, over layers spread across the model, each after reading "
                        "%llu MiB of other memory; limit_percent: of read_gb_per_s",
                        (unsigned long long)(b.flush_bytes >> 20));
    vly_reader_deinit(&b.reader);
    vly_subject_deinit(&s);
    return rc;
}

int vly_bench_kernel(int argc, char **argv)
{
    return vly_bench_main(VLY_BENCH_KERNEL, "each step of a pass alone, with cold caches", measure,
                          argc, argv);
}
