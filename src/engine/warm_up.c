/* Running passes before they are needed: what is recorded, and compiled by the driver at the first
 * dispatch, would hold up the texts that are being written. */
#include "engine/engine_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/inside.h"

#include <stdlib.h>

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
    if (rc || !s->draft || vly_draft_method_model_use(s->request.draft_method) != VLY_MODEL_NEEDED)
        return rc;
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

/* ---- All of them, while nobody wants anything ---- */

/* How long the creation of an engine waits for it. */
#define WAIT_MS 500

/* Tokens or rows of a pass at most; 0: no step has it. */
static uint32_t most_of(const vly_engine *e, const vly_model *model, vly_pass pass)
{
    uint32_t blocks = e->n_parallel * (VLY_MAX_DRAFT + 1);
    bool is_draft = model == e->draft;
    if (!model || (is_draft ? pass == VLY_PASS_READ : pass > VLY_PASS_ADVANCE)) return 0;
    if (pass == VLY_PASS_ADVANCE) return e->ahead && !is_draft;
    if (pass == VLY_PASS_PROMPT) return VLY_MAX_CHUNK;
    if (is_draft && pass != VLY_PASS_LAYERS) return e->n_parallel;
    return blocks < VLY_MAX_BATCH ? blocks : VLY_MAX_BATCH;
}

/* The next pass that is not recorded: first the narrowest of each kind, which all requests need.
 * False: there is none. */
static bool find_next(const vly_engine *e, vly_warm_up *w)
{
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 2 * VLY_N_PASSES; i++) {
            vly_model *model = i < VLY_N_PASSES ? e->target : e->draft;
            vly_pass pass = i % VLY_N_PASSES;
            uint32_t most = most_of(e, model, pass);
            if (round == 0 && most > 1) most = 1;
            for (uint32_t n = 1; n <= most; n = vly_model_bucket(pass, n) + 1)
                if (!vly_model_has_pass(model, pass, n)) {
                    w->model = model;
                    w->pass = pass;
                    w->n = n;
                    return true;
                }
        }
    return false;
}

/* A pass is warm, or has failed; then whoever needs it finds out why. */
static void on_run(void *arg, int rc, const vly_error *err)
{
    vly_engine *e = arg;
    e->warm_up.busy = false;
    if (rc) {
        e->warm_up.wanted = false;
        vly_log(VLY_LOG_WARN, "engine", "warming up: %s", err->message);
    }
    vly_engine_advance(e);
}

/* In a thread of the loop's pool: drivers compile here, too. No step is prepared meanwhile, so that
 * nobody else records. */
static void record(uv_work_t *work)
{
    vly_engine *e = work->data;
    vly_warm_up *w = &e->warm_up;
    w->rc = vly_model_pass(w->model, w->pass, w->n, &w->commands, &w->err);
}

static void on_recorded(uv_work_t *work, int status)
{
    vly_engine *e = work->data;
    vly_warm_up *w = &e->warm_up;
    (void)status;
    if (e->closing) {
        w->busy = false;
        return;
    }
    clear_step(w->model, w->pass);
    if (w->rc == 0) w->rc = vly_gpu_submit(e->gpu, &w->commands, 1, on_run, e, NULL, &w->err);
    if (w->rc) on_run(e, w->rc, &w->err);
}

static void on_timer(uv_timer_t *timer)
{
    vly_engine *e = timer->data;
    vly_warm_up *w = &e->warm_up;
    /* A loop that has come to its end should not be kept from it. */
    if (!w->wanted || w->busy || e->step.n_in_flight || e->closing ||
        (!e->loading && !uv_loop_alive(e->loop)))
        return;
    w->work.data = e;
    if (find_next(e, w)) {
        w->busy = uv_queue_work(e->loop, &w->work, record, on_recorded) == 0;
        w->wanted = w->busy;
        return;
    }
    vly_error err;
    w->wanted = false;
    if (vly_engine_calibrate(e, true, &err))
        vly_log(VLY_LOG_WARN, "engine", "warming up: %s", err.message);
    else
        vly_log(VLY_LOG_INFO, "engine", "warmed up in %.0f ms", vly_ms_since(w->start_ns));
}

void vly_engine_warm_up_go_on(vly_engine *e)
{
    if (e->warm_up.wanted && !e->loading) uv_timer_start(e->warm_up.timer, on_timer, 0, 0);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

int vly_engine_warm_up_begin(vly_engine *e, const vly_engine_options *o, vly_error *err)
{
    vly_warm_up *w = &e->warm_up;
    uint64_t total = vly_engine_weights_bytes(e);
    int rc = 0;
    if (!(w->timer = malloc(sizeof *w->timer)))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a timer");
    uv_timer_init(e->loop, w->timer); /* cannot fail */
    w->timer->data = e;
    w->wanted = e->loading = true;
    w->start_ns = vly_clock_ns();
    for (double ms; rc == 0 && w->wanted && (ms = vly_ms_since(w->start_ns)) < WAIT_MS;) {
        if (o->progress && o->progress(o->progress_arg, total, total))
            rc = vly_engine_loading_stopped(err);
        /* The loop's owner has others to answer. */
        uv_timer_start(w->timer, on_timer, w->busy ? (uint64_t)(WAIT_MS - ms) + 1 : 0, 0);
        if (rc == 0) uv_run(e->loop, UV_RUN_ONCE);
    }
    e->loading = false;
    uv_unref((uv_handle_t *)w->timer);
    if (rc == 0) vly_engine_warm_up_go_on(e);
    return rc;
}

void vly_engine_warm_up_end(vly_engine *e)
{
    vly_warm_up *w = &e->warm_up;
    while (w->busy) uv_run(e->loop, UV_RUN_ONCE);
    if (w->timer) uv_close((uv_handle_t *)w->timer, on_closed);
}

bool vly_engine_is_warm(const vly_engine *e)
{
    return !e->warm_up.wanted;
}
