/* The engine: loads a target and a draft onto one device, and owns the loop. */
#include "engine/engine_internal.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Memory ---- */

typedef struct {
    vly_model_options target, draft;
    vly_model_memory target_memory, draft_memory;
    uint64_t done, total; /* bytes of weights, for progress over both models */
    const vly_engine_options *options;
} loader;

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    loader *l = arg;
    (void)total;
    l->options->progress(l->options->progress_arg, l->done + done, l->total);
}

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576.0;
}

#define OTHER_BYTES (96ull << 20) /* staging, steps, tables */

/* Sets both models up for a context of `n_ctx` tokens (0: the target's own) and tells what they
 * need in all. */
static int measure(vly_engine *e, loader *l, uint32_t n_ctx, uint64_t *bytes, vly_error *err)
{
    vly_model_memory *t = &l->target_memory, *d = &l->draft_memory;
    l->target.n_ctx = n_ctx;
    int rc = vly_model_measure(e->gpu, e->target_file, &l->target, t, err);
    if (rc == 0 && e->draft_file) {
        /* More than the text can come to is of no use; the draft's tokens may be shorter. */
        l->draft.n_ctx = 4 * t->n_ctx;
        rc = vly_model_measure(e->gpu, e->draft_file, &l->draft, d, err);
    }
    l->total = t->weights + d->weights;
    *bytes = l->total + t->activations + t->kv + d->activations + d->kv + OTHER_BYTES;
    return rc;
}

/* The longest context, in whole pages, of at most `n_pages` that fits `have` bytes, and sets both
 * models up for it: 0 where not even one page does, which *bytes then tells of. */
static int find_context(vly_engine *e, loader *l, uint32_t n_pages, uint64_t have, uint32_t *n_ctx,
                        uint64_t *bytes, vly_error *err)
{
    uint32_t fits = 0, too_many = n_pages + 1;
    while (too_many - fits > 1) {
        uint32_t pages = fits + (too_many - fits) / 2;
        int rc = measure(e, l, pages * VLY_PAGE_TOKENS, bytes, err);
        if (rc) return rc;
        *(*bytes <= have ? &fits : &too_many) = pages;
    }
    *n_ctx = fits * VLY_PAGE_TOKENS;
    return measure(e, l, fits ? *n_ctx : VLY_PAGE_TOKENS, bytes, err);
}

/* Sees to it that both models and their caches fit before anything is allocated. A context that the
 * caller did not ask for shrinks to what fits. */
static int check_memory(vly_engine *e, loader *l, vly_error *err)
{
    uint64_t need, fit_bytes, have = vly_gpu_available_bytes(e->gpu);
    uint32_t fits;
    int rc = measure(e, l, l->options->n_ctx, &need, err);
    if (rc || need <= have) return rc;
    const vly_model_memory t = l->target_memory, d = l->draft_memory;
    if ((rc = find_context(e, l, t.n_ctx / VLY_PAGE_TOKENS, have, &fits, &fit_bytes, err)))
        return rc;
    if (fits && l->options->n_ctx == 0) {
        vly_log(VLY_LOG_WARN, "engine",
                "context reduced from %u to %u tokens, which fit the device", t.n_ctx, fits);
        return 0;
    }
    char would[128];
    uint64_t others = fit_bytes - l->total;
    if (fits)
        snprintf(would, sizeof would, "a context of %u tokens would fit", fits);
    else
        snprintf(would, sizeof would, "models with weights of at most %.1f MiB would fit",
                 mib(have > others ? have - others : 0));
    return vly_fail(err, VLY_E_DEVICE_MEMORY,
                    "%.1f MiB of device memory are needed and %s has %.1f MiB available: target "
                    "weights %.1f, draft weights %.1f, activations and staging %.1f, KV cache for "
                    "%u tokens %.1f MiB; %s",
                    mib(need), e->info.device_name, mib(have), mib(t.weights), mib(d.weights),
                    mib(t.activations + d.activations + OTHER_BYTES), t.n_ctx, mib(t.kv + d.kv),
                    would);
}

/* ---- Loading ---- */

static int open_file(const char *path, vly_gguf **file, vly_tokenizer **tokenizer, vly_error *err)
{
    int rc = vly_gguf_open(path, file, err);
    if (rc) return rc;
    /* A file that cannot run should say so before its vocabulary is read. */
    vly_model_config config;
    rc = vly_model_config_read(*file, &config, err);
    return rc ? rc : vly_tokenizer_create(*file, tokenizer, err);
}

static int open_draft(vly_engine *e, loader *l, vly_error *err)
{
    vly_model_config target, draft;
    int rc = open_file(l->options->draft, &e->draft_file, &e->draft_tokenizer, err);
    if (rc) return vly_fail_within(err, "draft");
    if ((rc = vly_model_config_read(e->target_file, &target, err)) ||
        (rc = vly_model_config_read(e->draft_file, &draft, err)) ||
        (rc = vly_vocab_map_init(e->draft_tokenizer, e->target_tokenizer, draft.n_vocab,
                                 target.n_vocab, &e->map, err)))
        return rc;
    l->draft = (vly_model_options){
        .kv_f16 = l->options->kv_f16,
        .head_rows = e->map.identity ? NULL : e->map.draft_id,
        .n_head_rows = e->map.n_mapped,
    };
    return 0;
}

static int load_draft(vly_engine *e, loader *l, vly_error *err)
{
    int rc = vly_model_create(e->gpu, e->draft_file, &l->draft, &e->draft, err);
    if (rc) return vly_fail_within(err, "draft");
    e->info.draft_name = vly_model_get_config(e->draft)->name;
    e->info.n_draft_mapped = e->map.n_mapped;
    e->info.n_draft_vocab = e->map.n_draft;
    e->info.draft_bytes =
        vly_model_get_memory(e->draft)->weights + vly_model_get_memory(e->draft)->activations;
    return vly_model_link_draft(e->draft, e->target, e->map.draft_id, e->map.target_id, err);
}

static int load(vly_engine *e, const vly_engine_options *options, vly_error *err)
{
    loader l = {.options = options};
    l.target = (vly_model_options){.n_ctx = options->n_ctx, .kv_f16 = options->kv_f16};
    int rc = open_file(options->target, &e->target_file, &e->target_tokenizer, err);
    if (rc) return rc;
    if ((rc = vly_gpu_create(options->device, &e->gpu, err))) return rc;
    e->info.device_name = vly_gpu_get_info(e->gpu)->name;
    if (options->draft && (rc = open_draft(e, &l, err))) return rc;
    if ((rc = check_memory(e, &l, err))) return rc;
    if (options->progress) l.target.progress = l.draft.progress = on_progress;
    l.target.progress_arg = l.draft.progress_arg = &l;
    if ((rc = vly_model_create(e->gpu, e->target_file, &l.target, &e->target, err))) return rc;
    l.done = vly_model_get_memory(e->target)->weights;
    if (options->draft && (rc = load_draft(e, &l, err))) return rc;
    vly_gguf_close(e->target_file);
    vly_gguf_close(e->draft_file);
    e->target_file = e->draft_file = NULL;
    e->info.target_name = vly_model_get_config(e->target)->name;
    e->info.n_ctx = vly_model_get_memory(e->target)->n_ctx;
    e->info.n_vocab = vly_model_get_config(e->target)->n_vocab;
    e->info.target_bytes =
        vly_model_get_memory(e->target)->weights + vly_model_get_memory(e->target)->activations;
    return 0;
}

static int create_marks(vly_engine *e, vly_error *err)
{
    if (vly_gpu_get_info(e->gpu)->timestamp_ns == 0) return 0;
    for (int i = 0; i < 3; i++) {
        int rc = vly_gpu_commands_create(e->gpu, "time mark", &e->mark[i], err);
        if (rc) return rc;
        vly_gpu_cmd_timestamp(e->mark[i], 0);
        if ((rc = vly_gpu_commands_end(e->mark[i], err))) return rc;
    }
    return 0;
}

int vly_engine_create(const vly_engine_options *options, vly_engine **out, vly_error *err)
{
    vly_engine *e = calloc(1, sizeof *e);
    if (!e) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the engine");
    int rc = load(e, options, err);
    if (rc == 0) rc = create_marks(e, err);
    if (rc == 0) {
        int uv = uv_loop_init(&e->loop);
        e->loop_ready = uv == 0;
        rc = uv ? vly_fail(err, VLY_E_IO, "event loop: %s", uv_strerror(uv))
                : vly_gpu_loop_attach(e->gpu, &e->loop, err);
    }
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
    if (e->sequence) vly_sequence_destroy(e->sequence);
    if (e->loop_ready) {
        vly_gpu_loop_detach(e->gpu);
        uv_run(&e->loop, UV_RUN_DEFAULT);
        uv_loop_close(&e->loop);
    }
    for (int i = 0; i < 3; i++)
        if (e->mark[i]) vly_gpu_commands_destroy(e->mark[i]);
    vly_model_destroy(e->draft);
    vly_model_destroy(e->target);
    vly_vocab_map_deinit(&e->map);
    vly_tokenizer_destroy(e->draft_tokenizer);
    vly_tokenizer_destroy(e->target_tokenizer);
    vly_gguf_close(e->draft_file);
    vly_gguf_close(e->target_file);
    if (e->gpu) vly_gpu_destroy(e->gpu);
    free(e);
}

/* ---- Access ---- */

const vly_engine_info *vly_engine_get_info(const vly_engine *e)
{
    return &e->info;
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

void vly_engine_interrupt(vly_engine *e)
{
    atomic_store(&e->interrupted, true);
}

int vly_engine_run(vly_engine *e, vly_error *err)
{
    if (e->sequence) vly_sequence_begin(e->sequence);
    uv_run(&e->loop, UV_RUN_DEFAULT);
    if (!e->sequence) return 0;
    return vly_fail(err, VLY_E_INVALID, "the loop ended while a sequence was still running");
}
