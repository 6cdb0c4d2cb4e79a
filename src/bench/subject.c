#include "bench/bench.h"

#include "base/clock.h"
#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_NS  UINT64_C(300000000)
#define WAKE_NS    UINT64_C(1200000000) /* the same of a device that was left alone for seconds */
#define MIN_SETTLE 3                    /* passes */

/* ---- Loading ---- */

static void report_device(const vly_subject *s, vly_report *report)
{
    const vly_gpu_info *info = vly_gpu_get_info(s->gpu);
    vly_report_fact(report, "volley", VLY_VERSION);
    vly_report_fact(report, "device", info->name);
    vly_report_fact(report, "driver", info->driver);
    char clocks[128];
    if (vly_bench_clocks(info, clocks, sizeof clocks)) vly_report_fact(report, "clocks", clocks);
    vly_report_number(report, "read_gb_per_s", s->bytes_per_ns, 1);
    vly_report_fact(report, "model", vly_engine_get_info(s->engine)->target_name);
    if (vly_engine_get_info(s->engine)->draft_name)
        vly_report_fact(report, "draft", vly_engine_get_info(s->engine)->draft_name);
    vly_report_fact(report, "kv", s->options->kv_f16 ? "f16" : "int8");
    const vly_model_memory *memory = vly_model_get_memory(s->target);
    vly_report_number(report, "weights_mib", (double)memory->weights / 1048576.0, 1);
}

static int create_marks(vly_subject *s, vly_error *err)
{
    int rc = 0;
    if (vly_gpu_get_info(s->gpu)->timestamp_ns == 0) return 0;
    for (int i = 0; rc == 0 && i < 4; i++) rc = vly_gpu_mark_create(s->gpu, &s->mark[i], err);
    return rc;
}

int vly_subject_init(vly_subject *s, const vly_bench_options *o, uint32_t n_ctx, vly_report *report,
                     vly_error *err)
{
    *s = (vly_subject){.options = o};
    vly_engine_options engine = {.target = o->target,
                                 .draft = o->draft,
                                 .device = o->device,
                                 .arch = o->arch,
                                 .n_ctx = n_ctx,
                                 .n_parallel = 1,
                                 .kv_f16 = o->kv_f16};
    int rc = vly_engine_create(&engine, &s->engine, err);
    if (rc) return rc;
    s->gpu = vly_engine_gpu(s->engine);
    s->target = vly_engine_target(s->engine);
    vly_reader reader;
    rc = vly_reader_init(&reader, s->gpu, err);
    s->bytes_per_ns = reader.bytes_per_ns;
    vly_reader_deinit(&reader);
    if (rc == 0) rc = create_marks(s, err);
    if (rc == 0) report_device(s, report);
    return rc;
}

void vly_subject_deinit(vly_subject *s)
{
    vly_subject_empty(s);
    for (int i = 0; i < 4; i++)
        if (s->mark[i]) vly_gpu_commands_destroy(s->mark[i]);
    vly_engine_destroy(s->engine);
}

double vly_subject_share(const vly_subject *s, uint64_t bytes, double ms)
{
    return 100 * (double)bytes / s->bytes_per_ns / (ms * 1e6);
}

/* ---- Steps ---- */

uint32_t vly_subject_token(const vly_subject *s, uint32_t i)
{
    /* Control tokens and bytes come first or last in the vocabularies there are. */
    uint32_t n = vly_engine_get_info(s->engine)->n_vocab, margin = n / 8;
    return margin + i * 2654435761u % (n - 2 * margin);
}

/* For a prompt's pass, and where there are few enough for one of decoding too. */
static void write_tokens(vly_subject *s, uint32_t n)
{
    uint32_t pos = s->seq.n_tok, slot = s->seq.slot;
    for (int which = VLY_STEP_BUFFER_DECODE; which <= VLY_STEP_BUFFER_PROMPT; which++) {
        struct vly_step *step = vly_model_step(s->target, which);
        uint32_t n_rows = n <= VLY_MAX_BATCH ? n : 1;
        step->n_tok = n;
        step->n_rows = n_rows;
        step->sampling[slot] = (struct vly_step_sampling){.temperature = 0, .top_p = 1};
        for (uint32_t i = 0; i < n; i++)
            step->token[i] =
                (struct vly_step_token){vly_subject_token(s, pos + i), pos + i, slot, 0};
        for (uint32_t i = 0; i < n_rows; i++) step->row[i] = i;
    }
}

int vly_subject_write_step(vly_subject *s, uint32_t n, vly_error *err)
{
    int rc = vly_kv_reserve(&s->seq, s->seq.n_tok + n, err);
    if (rc == 0) write_tokens(s, n);
    return rc;
}

int vly_subject_fill(vly_subject *s, uint32_t n, vly_error *err)
{
    int rc = vly_kv_seq_init(vly_model_kv(s->target), &s->seq, err);
    while (rc == 0 && s->seq.n_tok < n) {
        vly_gpu_commands *layers;
        double ms;
        uint32_t chunk = n - s->seq.n_tok < VLY_MAX_CHUNK ? n - s->seq.n_tok : VLY_MAX_CHUNK;
        if ((rc = vly_subject_write_step(s, chunk, err)) ||
            (rc = vly_model_pass(s->target, VLY_PASS_PROMPT, chunk, &layers, err)) ||
            (rc = vly_subject_submit(s, &layers, 1, &ms, err)))
            break;
        vly_kv_commit(&s->seq, chunk);
    }
    return rc;
}

void vly_subject_empty(vly_subject *s)
{
    vly_kv_seq_deinit(&s->seq);
    s->seq = (vly_kv_seq){0};
}

/* ---- Running ---- */

int vly_subject_submit(vly_subject *s, vly_gpu_commands *const *commands, uint32_t n,
                       double *wall_ms, vly_error *err)
{
    uint64_t ticket, start = vly_clock_ns();
    int rc = vly_gpu_submit(s->gpu, commands, n, NULL, NULL, &ticket, err);
    if (rc == 0) rc = vly_gpu_wait(s->gpu, ticket, err);
    *wall_ms = (double)(vly_clock_ns() - start) * 1e-6;
    return rc;
}

int vly_subject_run_pass(vly_subject *s, uint32_t n, bool apart, vly_pass_times *out,
                         vly_error *err)
{
    static const vly_pass passes[] = {VLY_PASS_LAYERS, VLY_PASS_HEAD, VLY_PASS_PICK};
    vly_gpu_commands *list[7];
    uint32_t n_list = 0;
    int rc = 0;
    *out = (vly_pass_times){NAN, NAN, NAN, NAN, NAN};
    if (s->mark[0]) list[n_list++] = s->mark[0];
    for (int i = 0; rc == 0 && i < 3; i++) {
        rc = vly_model_pass(s->target, passes[i], n, &list[n_list++], err);
        if (s->mark[0] && (apart || i == 2)) list[n_list++] = s->mark[i + 1];
    }
    if (rc == 0) rc = vly_subject_submit(s, list, n_list, &out->wall, err);
    uint64_t t[4] = {0};
    for (int i = 0; rc == 0 && s->mark[0] && i < 4; i++)
        if (apart || i == 0 || i == 3) rc = vly_gpu_commands_times(s->mark[i], 1, &t[i], err);
    if (rc || !s->mark[0]) return rc;
    out->gpu = (double)(t[3] - t[0]) * 1e-6;
    if (!apart) return 0;
    out->layers = (double)(t[1] - t[0]) * 1e-6;
    out->head = (double)(t[2] - t[1]) * 1e-6;
    out->pick = (double)(t[3] - t[2]) * 1e-6;
    return 0;
}

int vly_subject_settle(vly_subject *s, uint32_t n, vly_error *err)
{
    const bool gpu = vly_gpu_get_info(s->gpu)->type != VLY_GPU_CPU;
    const uint64_t settle_ns = s->settled ? SETTLE_NS : WAKE_NS;
    uint64_t start_ns = vly_clock_ns(), best_at_ns = start_ns;
    double best = INFINITY;
    int rc = 0;
    for (int i = 0; rc == 0; i++) {
        uint64_t now_ns = vly_clock_ns();
        bool settled = !gpu || now_ns - best_at_ns > settle_ns || now_ns - start_ns > 8 * settle_ns;
        if (i >= MIN_SETTLE && settled) break;
        vly_pass_times t;
        rc = vly_subject_run_pass(s, n, true, &t, err);
        if (rc || t.wall > 0.98 * best) continue;
        best = t.wall;
        best_at_ns = now_ns;
    }
    s->settled = true;
    return rc;
}

/* ---- Texts ---- */

typedef struct {
    vly_bench_text *text;
    vly_error *err;
    int rc;
} text_run;

static void on_tokens(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *bytes, size_t len)
{
    vly_bench_text *text = ((text_run *)arg)->text;
    uint64_t now = vly_clock_ns();
    (void)ids;
    (void)logprobs;
    (void)bytes;
    (void)len;
    for (uint32_t i = 0; i < n && text->n_done < text->n_tokens; i++, text->n_done++)
        if (text->token_ns) text->token_ns[text->n_done] = now;
}

static void on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *bytes,
                      size_t len, const vly_error *err)
{
    text_run *run = arg;
    (void)bytes;
    (void)len;
    run->text->stats = *stats;
    if (finish == VLY_FINISH_ERROR) run->rc = vly_fail(run->err, err->code, "%s", err->message);
}

int vly_subject_generate(vly_subject *s, vly_bench_text *text, vly_error *err)
{
    text_run run = {text, err, 0};
    vly_request request = {.prompt_tokens = text->ids,
                           .n_prompt_tokens = text->n_ids,
                           .max_tokens = text->n_tokens,
                           .ignore_end = true,
                           .no_prefix_reuse = true,
                           .sampling = vly_sampling_default(),
                           .draft_method = text->draft_max ? text->draft_method : VLY_DRAFT_NONE,
                           .draft_max = text->draft_max,
                           .on_tokens = on_tokens,
                           .on_finish = on_finish,
                           .arg = &run};
    vly_sequence *sequence;
    request.sampling.temperature = 0;
    text->n_done = 0;
    int rc = vly_engine_start(s->engine, &request, &sequence, NULL, NULL, err);
    if (rc) return rc;
    if (text->forced_length > 0) vly_sequence_force_acceptance(sequence, text->forced_length);
    rc = vly_engine_run(s->engine, err);
    if (rc == 0) rc = run.rc;
    if (rc == 0 && text->n_done < text->n_tokens)
        rc = vly_fail(err, VLY_E_CONTEXT, "the text ended after %u of %u tokens", text->n_done,
                      text->n_tokens);
    return rc;
}
