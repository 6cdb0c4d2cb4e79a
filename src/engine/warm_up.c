/* Running passes before they are needed: what is recorded, and compiled by the driver at the first
 * dispatch, would hold up the texts that are being written. */
#include "engine/engine_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <unistd.h>

/* Nothing is to be computed by it. */
static void clear_step(vly_model *model, vly_pass pass)
{
    vly_step_buffer which = pass >= VLY_PASS_DRAFT_LAYERS ? VLY_STEP_BUFFER_DRAFT
                            : pass == VLY_PASS_PROMPT     ? VLY_STEP_BUFFER_PROMPT
                                                          : VLY_STEP_BUFFER_DECODE;
    vly_model_step(model, which)->n_tok = vly_model_step(model, which)->n_rows = 0;
}

int vly_engine_warm_up(vly_engine *e, vly_model *model, vly_pass pass, uint32_t n, vly_error *err)
{
    vly_gpu_commands *commands;
    uint64_t ticket;
    if (vly_model_has_pass(model, pass, n)) return 0;
    clear_step(model, pass);
    int rc = vly_model_pass(model, pass, n, &commands, err);
    if (rc == 0) rc = vly_gpu_submit(e->gpu, &commands, 1, NULL, NULL, &ticket, err);
    return rc ? rc : vly_gpu_wait(e->gpu, ticket, err);
}

/* ---- One sequence ---- */

/* The passes that read `n` tokens of a prompt: whole chunks, and the rest. */
static int warm_up_prompt(vly_engine *e, vly_model *model, uint32_t n, vly_error *err)
{
    int rc = 0;
    if (n >= VLY_MAX_CHUNK) rc = vly_engine_warm_up(e, model, VLY_PASS_PROMPT, VLY_MAX_CHUNK, err);
    if (rc == 0 && n % VLY_MAX_CHUNK)
        rc = vly_engine_warm_up(e, model, VLY_PASS_PROMPT, n % VLY_MAX_CHUNK, err);
    return rc;
}

int vly_sequence_warm_up(vly_sequence *s, vly_error *err)
{
    vly_engine *e = s->engine;
    uint32_t n_read = s->seq.n_tok < s->n_prompt ? s->n_prompt - s->seq.n_tok : 0;
    bool governed = s->draft && s->request.draft_method == VLY_DRAFT_AUTO;
    uint32_t most = (s->draft && !governed ? s->request.draft_max : 0) + 1;
    bool on_host = vly_sampling_needs_host(&s->request.sampling), read = s->request.logprobs;
    int rc = warm_up_prompt(e, e->target, n_read, err);
    for (uint32_t n = 1; rc == 0 && n <= most; n += most > 1 ? most - 1 : 1)
        if ((rc = vly_engine_warm_up(e, e->target, VLY_PASS_LAYERS, n, err)) == 0 &&
            (rc = vly_engine_warm_up(e, e->target, VLY_PASS_HEAD, n, err)) == 0 &&
            (on_host || (rc = vly_engine_warm_up(e, e->target, VLY_PASS_PICK, n, err)) == 0) &&
            (on_host || read))
            rc = vly_engine_warm_up(e, e->target, VLY_PASS_READ, n, err);
    bool ahead = e->ahead && !on_host && !read && (!s->draft || s->draft->ops->follow);
    if (rc == 0 && ahead) rc = vly_engine_warm_up(e, e->target, VLY_PASS_ADVANCE, 1, err);
    if (rc || !s->draft || !e->draft) return rc;
    /* With `auto` calibration saw to the others. */
    if (governed && s->text.len > VLY_MAX_BATCH)
        return warm_up_prompt(e, e->draft, (uint32_t)s->text.len, err);
    if (vly_draft_method_model_use(s->request.draft_method) != VLY_MODEL_NEEDED) return 0;
    if ((rc = warm_up_prompt(e, e->draft, n_read, err))) return rc;
    const vly_pass *pass = vly_draft_passes(s->request.draft_method == VLY_DRAFT_TEXT);
    for (int i = 0; rc == 0 && i < VLY_N_DRAFT_PASSES; i++)
        rc = vly_engine_warm_up(e, e->draft, pass[i], 1, err);
    if (rc) return rc;
    /* The draft takes in what a block wrote without it: a pick, or a whole block of n-grams. */
    uint32_t fed = s->request.draft_method == VLY_DRAFT_CHAIN ? 16 : 4;
    for (uint32_t n = 1; rc == 0 && n <= fed; n *= 2)
        rc = vly_engine_warm_up(e, e->draft, VLY_PASS_LAYERS, n, err);
    if (rc == 0 && ahead)
        rc = vly_engine_warm_up(e, e->draft, VLY_PASS_LAYERS, VLY_MAX_ADVANCED, err);
    return rc;
}

/* ---- All of them ---- */

#define MAX_THREADS 4u /* that record; of the loop's pool, which has as many */

typedef struct {
    struct warm_up *all;
    uv_work_t work;
    vly_model *model;
    vly_pass pass;
    uint32_t n;
    vly_gpu_commands *commands;
    bool recorded;
    int rc;
    vly_error err;
} recording;

/* Passes are recorded in threads, where drivers compile, and run one after the other as they come,
 * since some compile then. */
typedef struct warm_up {
    vly_engine *engine;
    recording *list;
    uint32_t n;
    uint32_t n_begun, n_recording, n_run; /* of the list: so many from its front */
    bool running;
    int rc; /* the first failure, which ends it */
    vly_error *err;
} warm_up;

/* Tokens or rows of a pass at most; 0: no step has it. */
static uint32_t most_of(const vly_engine *e, const vly_model *model, vly_pass pass)
{
    uint32_t blocks = e->n_parallel * (VLY_MAX_DRAFT + 1);
    bool is_draft = model == e->draft;
    if (is_draft ? pass == VLY_PASS_READ : pass > VLY_PASS_ADVANCE) return 0;
    if (pass == VLY_PASS_ADVANCE) return e->ahead && !is_draft;
    if (pass == VLY_PASS_PROMPT) return VLY_MAX_CHUNK;
    /* A text's first proposal may take in as many tokens as fit. */
    if (is_draft) return pass == VLY_PASS_LAYERS ? VLY_MAX_BATCH : e->n_parallel;
    return blocks < VLY_MAX_BATCH ? blocks : VLY_MAX_BATCH;
}

/* Lists the passes of a model that are not recorded; without a list only counts them. */
static void list_passes(warm_up *w, vly_model *model)
{
    if (!model) return;
    for (int pass = 0; pass < VLY_N_PASSES; pass++) {
        uint32_t most = most_of(w->engine, model, pass);
        for (uint32_t n = 1; n <= most; n = vly_model_bucket(pass, n) + 1) {
            if (vly_model_has_pass(model, pass, n)) continue;
            if (w->list)
                w->list[w->n] = (recording){.all = w, .model = model, .pass = pass, .n = n};
            w->n++;
        }
    }
}

static void record(uv_work_t *work)
{
    recording *r = work->data;
    r->rc = vly_model_record_pass(r->model, r->pass, r->n, &r->commands, &r->err);
}

static void on_recorded(uv_work_t *work, int status)
{
    recording *r = work->data;
    (void)status;
    r->all->n_recording--;
    r->recorded = true;
}

static void fail(warm_up *w, int rc, const vly_error *err)
{
    if (w->rc) return;
    w->rc = rc;
    if (w->err) *w->err = *err;
}

static void on_run(void *arg, int rc, const vly_error *err)
{
    warm_up *w = arg;
    w->running = false;
    w->n_run++;
    if (rc) fail(w, rc, err);
}

static uint32_t n_threads(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n < (long)MAX_THREADS ? (uint32_t)n : MAX_THREADS;
}

static void begin_recordings(warm_up *w, uint32_t most)
{
    while (w->n_begun < w->n && w->n_recording < most) {
        recording *r = &w->list[w->n_begun];
        r->work.data = r;
        if (uv_queue_work(w->engine->loop, &r->work, record, on_recorded)) { /* no threads */
            record(&r->work);
            r->recorded = true;
        } else {
            w->n_recording++;
        }
        w->n_begun++;
    }
}

static void run_next(warm_up *w)
{
    recording *r = &w->list[w->n_run];
    if (w->running || w->n_run == w->n_begun || !r->recorded) return;
    if (r->rc) {
        fail(w, r->rc, &r->err);
        return;
    }
    vly_model_keep_pass(r->model, r->pass, r->n, r->commands);
    /* Prompts of all sizes have the same kernels, and workgroups enough to take their time. */
    if (r->pass == VLY_PASS_PROMPT && r->n > 1) {
        r->commands = NULL;
        w->n_run++;
        return;
    }
    clear_step(r->model, r->pass);
    w->running = true;
    int rc = vly_gpu_submit(w->engine->gpu, &r->commands, 1, on_run, w, NULL, &r->err);
    r->commands = NULL;
    if (rc) on_run(w, rc, &r->err);
}

/* Runs the loop until all has been recorded and run, or what was begun has ended. */
static void run(warm_up *w, const vly_engine_options *o)
{
    const uint64_t weights = vly_engine_weights_bytes(w->engine);
    const uint64_t share = vly_engine_progress_total(o, weights) - weights, most = n_threads();
    for (;;) {
        /* The end is told when all is done. */
        uint64_t done = weights + (w->n ? share * w->n_run / (w->n + 1) : 0);
        if (w->rc == 0 && o->progress && o->progress(o->progress_arg, done, weights + share))
            w->rc = vly_engine_loading_stopped(w->err);
        if (w->rc == 0) begin_recordings(w, (uint32_t)most);
        if (w->rc == 0) run_next(w);
        if (!w->running && w->n_recording == 0 && (w->rc || w->n_run == w->n)) return;
        /* The loop's owner has others to answer meanwhile. */
        if (w->running || w->n_recording > 0) uv_run(w->engine->loop, UV_RUN_ONCE);
    }
}

int vly_engine_warm_up_all(vly_engine *e, const vly_engine_options *o, vly_error *err)
{
    uint64_t start_ns = vly_clock_ns();
    warm_up w = {.engine = e, .err = err};
    list_passes(&w, e->target);
    list_passes(&w, e->draft);
    w.list = calloc(w.n + 1, sizeof *w.list);
    if (!w.list) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for passes");
    w.n = 0;
    list_passes(&w, e->target);
    list_passes(&w, e->draft);
    run(&w, o);
    for (uint32_t i = 0; i < w.n; i++) vly_gpu_commands_destroy(w.list[i].commands);
    free(w.list);
    int rc = w.rc ? w.rc : vly_engine_calibrate(e, true, err);
    uint64_t total = vly_engine_progress_total(o, vly_engine_weights_bytes(e));
    if (rc == 0 && o->progress && o->progress(o->progress_arg, total, total))
        rc = vly_engine_loading_stopped(err);
    if (rc == 0) vly_log(VLY_LOG_INFO, "engine", "warmed up in %.0f ms", vly_ms_since(start_ns));
    return rc;
}
