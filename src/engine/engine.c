/* The engine: a device, two models and a loop; the sequences that run on them. */
#include "engine/engine_internal.h"

#include "engine/inside.h"

#include <stdlib.h>
#include <string.h>

static int create_marks(vly_engine *e, vly_error *err)
{
    if (vly_gpu_get_info(e->gpu)->timestamp_ns == 0) return 0;
    for (int i = 0; i < VLY_MAX_AHEAD * VLY_N_MARKS; i++) {
        vly_gpu_commands **mark = &e->mark[i / VLY_N_MARKS][i % VLY_N_MARKS];
        int rc = vly_gpu_mark_create(e->gpu, mark, err);
        if (rc) return rc;
    }
    return 0;
}

/* ---- The loop ---- */

static void on_wake(uv_async_t *handle)
{
    vly_engine_advance(handle->data);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

/* An own loop unless the caller gave one, and the handle that wakes it. */
static int open_loop(vly_engine *e, struct uv_loop_s *loop, vly_error *err)
{
    int uv = 0;
    e->loop = loop;
    if (!loop) {
        uv = uv_loop_init(&e->own_loop);
        e->own_loop_ready = uv == 0;
        e->loop = &e->own_loop;
    }
    uv_async_t *wake = uv ? NULL : malloc(sizeof *wake);
    if (!uv && !wake) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the event loop");
    if (!uv) uv = uv_async_init(e->loop, wake, on_wake);
    if (uv) {
        free(wake);
        return vly_fail(err, VLY_E_IO, "event loop: %s", uv_strerror(uv));
    }
    wake->data = e;
    uv_unref((uv_handle_t *)wake);
    e->wake = wake;
    return vly_gpu_loop_attach(e->gpu, e->loop, err);
}

static void close_loop(vly_engine *e)
{
    if (e->wake) uv_close((uv_handle_t *)e->wake, on_closed);
    if (!e->own_loop_ready) return;
    uv_run(&e->own_loop, UV_RUN_DEFAULT);
    uv_loop_close(&e->own_loop);
}

void vly_engine_wake(vly_engine *e)
{
    uv_ref((uv_handle_t *)e->wake); /* keeps the loop going until it is looked at */
    uv_async_send(e->wake);
}

/* The first sequence whose end has come, and by what; NULL: there is none. */
static vly_sequence *find_ended(const vly_engine *e, vly_finish *how)
{
    vly_sequence *s = e->first;
    for (; s; s = s->next) {
        if (s->ended)
            *how = VLY_FINISH_STOP;
        else if (s->cancelled)
            *how = VLY_FINISH_CANCELLED;
        else if (s->failure.code)
            *how = VLY_FINISH_ERROR;
        else if (s->begun && vly_sequence_room(s) == 0)
            *how = VLY_FINISH_LENGTH;
        else
            continue;
        break;
    }
    return s;
}

void vly_engine_advance(vly_engine *e)
{
    vly_sequence *s;
    vly_finish how;
    if (e->step.n_in_flight || e->advancing || e->closing) return;
    e->advancing = true;
    if (atomic_exchange(&e->interrupted, false))
        for (s = e->first; s; s = s->next) s->cancelled = true;
    /* Callbacks may change the list, so it is looked at anew for each. */
    while ((s = find_ended(e, &how)))
        vly_sequence_finish(s, how, how == VLY_FINISH_ERROR ? &s->failure : NULL);
    vly_engine_admit(e);
    vly_engine_step_submit(e);
    e->advancing = false;
    if (e->n_sequences)
        uv_ref((uv_handle_t *)e->wake);
    else
        uv_unref((uv_handle_t *)e->wake);
    /* Nothing else comes back here for those that have failed since. */
    if (!e->step.n_in_flight && find_ended(e, &how)) uv_async_send(e->wake);
}

/* ---- Creation ---- */

int vly_engine_create(const vly_engine_options *options, vly_engine **out, vly_error *err)
{
    if (options->n_parallel > VLY_MAX_PARALLEL)
        return vly_fail(err, VLY_E_INVALID, "n_parallel is %u; expected 1 to %d",
                        options->n_parallel, VLY_MAX_PARALLEL);
    vly_engine *e = calloc(1, sizeof *e);
    if (!e) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the engine");
    e->n_parallel = options->n_parallel ? options->n_parallel : 1;
    e->n_queued = options->n_queued;
    int rc = vly_engine_load(e, options, err);
    if (rc == 0) e->ahead = vly_gpu_get_info(e->gpu)->type != VLY_GPU_CPU;
    if (rc == 0) rc = create_marks(e, err);
    if (rc == 0) rc = open_loop(e, options->loop, err);
    if (rc == 0 && options->warm_up) rc = vly_engine_warm_up_all(e, options, err);
    if (rc) {
        vly_engine_destroy(e);
        return rc;
    }
    *out = e;
    return 0;
}

void vly_engine_destroy(vly_engine *e)
{
    if (!e) return;
    e->closing = true;
    if (e->gpu) vly_gpu_loop_detach(e->gpu); /* waits for what is under way */
    while (e->first) vly_sequence_destroy(e->first);
    close_loop(e);
    for (int i = 0; i < VLY_MAX_AHEAD * VLY_N_MARKS; i++)
        vly_gpu_commands_destroy(e->mark[i / VLY_N_MARKS][i % VLY_N_MARKS]);
    vly_engine_save_profile(e);
    vly_model_destroy(e->draft);
    vly_model_destroy(e->target);
    vly_vocab_map_deinit(&e->map);
    vly_words_deinit(&e->words);
    vly_chat_template_destroy(e->chat);
    vly_store_model_deinit(&e->store);
    vly_tokenizer_destroy(e->draft_tokenizer);
    vly_tokenizer_destroy(e->target_tokenizer);
    vly_gguf_close(e->draft_file);
    vly_gguf_close(e->target_file);
    free(e->pick_scratch);
    if (e->gpu) vly_gpu_destroy(e->gpu);
    free(e);
}

/* ---- Access ---- */

const vly_engine_info *vly_engine_get_info(const vly_engine *e)
{
    return &e->info;
}

vly_gpu *vly_engine_gpu(vly_engine *e)
{
    return e->gpu;
}

vly_model *vly_engine_target(vly_engine *e)
{
    return e->target;
}

void vly_engine_keep_prompts_apart(vly_engine *e)
{
    e->prompts_as_decoding = false;
}

vly_model *vly_engine_draft(vly_engine *e)
{
    return e->draft;
}

const vly_engine_defaults *vly_engine_get_defaults(const vly_engine *e)
{
    return &e->defaults;
}

int vly_engine_tokenize(const vly_engine *e, const char *text, size_t len, bool bos,
                        bool parse_special, uint32_t **ids, size_t *n, vly_error *err)
{
    vly_ids out = {0};
    unsigned flags = parse_special ? VLY_ENCODE_PARSE_SPECIAL : 0;
    if (bos && vly_tokenizer_adds_bos(e->target_tokenizer)) flags |= VLY_ENCODE_BOS;
    int rc = vly_tokenizer_encode(e->target_tokenizer, text, len, flags, &out, err);
    if (rc) {
        vly_ids_free(&out);
        return rc;
    }
    *ids = out.data;
    *n = out.len;
    return 0;
}

const char *vly_engine_token_bytes(const vly_engine *e, uint32_t id, size_t *len)
{
    vly_bytes bytes = vly_tokenizer_bytes(e->target_tokenizer, id);
    *len = bytes.len;
    return bytes.data;
}

struct uv_loop_s *vly_engine_loop(vly_engine *e)
{
    return e->loop;
}

void vly_engine_get_metrics(const vly_engine *e, vly_engine_metrics *out)
{
    *out = e->metrics;
    for (const vly_sequence *s = e->first; s; s = s->next) {
        out->running += s->begun;
        out->queued += !s->begun;
        out->paused += s->begun && (s->paused || !s->running);
    }
    out->target = vly_kv_count_pages(vly_model_kv(e->target));
    out->device_bytes = e->info.target_bytes + vly_kv_used_bytes(vly_model_kv(e->target));
    if (!e->draft) return;
    out->draft = vly_kv_count_pages(vly_model_kv(e->draft));
    out->device_bytes += e->info.draft_bytes + vly_kv_used_bytes(vly_model_kv(e->draft));
}

void vly_engine_interrupt(vly_engine *e)
{
    atomic_store(&e->interrupted, true);
    uv_async_send(e->wake);
}

int vly_engine_run(vly_engine *e, vly_error *err)
{
    vly_engine_advance(e);
    while (e->n_sequences > 0)
        if (!uv_run(e->loop, UV_RUN_ONCE) && e->n_sequences > 0)
            return vly_fail(err, VLY_E_INVALID, "the loop ended while a sequence was still there");
    return 0;
}
