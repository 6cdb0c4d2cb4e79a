/* Running passes before they are needed: what is recorded, and compiled by the driver at the first
 * dispatch, would hold up the texts that are being written. */
#include "engine/engine_internal.h"

#include "base/clock.h"
#include "base/log.h"

/* A submission on its way. */
typedef struct {
    bool done;
    int rc;
    vly_error *err;
} flight;

static void on_done(void *arg, int rc, const vly_error *err)
{
    flight *f = arg;
    f->done = true;
    f->rc = rc;
    if (rc) *f->err = *err;
}

/* While loading, the loop goes on: a driver may compile for seconds, and the loop's owner has
 * others to answer. */
static int run_loading(vly_engine *e, vly_gpu_commands *commands, vly_error *err)
{
    const vly_engine_options *o = e->loading;
    uint64_t total = vly_engine_weights_bytes(e);
    flight f = {.err = err};
    if (o->progress && o->progress(o->progress_arg, total, total))
        return vly_engine_loading_stopped(err);
    int rc = vly_gpu_submit(e->gpu, &commands, 1, on_done, &f, NULL, err);
    while (rc == 0 && !f.done) uv_run(e->loop, UV_RUN_ONCE);
    return rc ? rc : f.rc;
}

int vly_engine_warm_up(vly_engine *e, vly_model *model, vly_pass pass, uint32_t n, vly_error *err)
{
    vly_gpu_commands *commands;
    uint64_t ticket;
    if (vly_model_has_pass(model, pass, n)) return 0;
    vly_step_buffer which = pass >= VLY_PASS_DRAFT_LAYERS ? VLY_STEP_BUFFER_DRAFT
                            : pass == VLY_PASS_PROMPT     ? VLY_STEP_BUFFER_PROMPT
                                                          : VLY_STEP_BUFFER_DECODE;
    vly_model_step(model, which)->n_tok = vly_model_step(model, which)->n_rows = 0;
    int rc = vly_model_pass(model, pass, n, &commands, err);
    if (rc) return rc;
    if (e->loading) return run_loading(e, commands, err);
    rc = vly_gpu_submit(e->gpu, &commands, 1, NULL, NULL, &ticket, err);
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

/* ---- All of them ---- */

/* The passes of every size up to that for `most` tokens or rows. */
static int warm_up_sizes(vly_engine *e, vly_model *model, vly_pass pass, uint32_t most,
                         vly_error *err)
{
    for (uint32_t n = 1, size; n <= most; n = size + 1) {
        size = vly_model_bucket(pass, n);
        int rc = vly_engine_warm_up(e, model, pass, size, err);
        if (rc) return rc;
    }
    return 0;
}

int vly_engine_warm_up_all(vly_engine *e, vly_error *err)
{
    uint64_t start_ns = vly_clock_ns();
    uint32_t blocks = e->n_parallel * (VLY_MAX_DRAFT + 1);
    if (blocks > VLY_MAX_BATCH) blocks = VLY_MAX_BATCH;
    int rc = warm_up_sizes(e, e->target, VLY_PASS_PROMPT, VLY_MAX_CHUNK, err);
    for (int pass = VLY_PASS_LAYERS; rc == 0 && pass <= VLY_PASS_READ; pass++)
        rc = warm_up_sizes(e, e->target, pass, blocks, err);
    if (rc == 0 && e->ahead) rc = vly_engine_warm_up(e, e->target, VLY_PASS_ADVANCE, 1, err);
    if (rc == 0 && e->draft) {
        rc = warm_up_sizes(e, e->draft, VLY_PASS_PROMPT, VLY_MAX_CHUNK, err);
        if (rc == 0) rc = warm_up_sizes(e, e->draft, VLY_PASS_LAYERS, blocks, err);
        for (int i = 0; rc == 0 && i < 2 * VLY_N_DRAFT_PASSES; i++)
            rc = warm_up_sizes(e, e->draft, vly_draft_passes(i % 2)[i / 2], e->n_parallel, err);
    }
    if (rc == 0) rc = vly_engine_calibrate(e, true, err);
    if (rc == 0) vly_log(VLY_LOG_INFO, "engine", "warmed up in %.0f ms", vly_ms_since(start_ns));
    return rc;
}
