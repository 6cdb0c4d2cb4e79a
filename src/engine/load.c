/* Loading a target and a draft onto one device, with the caches that fit it. */
#include "engine/engine_internal.h"

#include "base/log.h"
#include "spec/recode.h"
#include "spec/words.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Memory ---- */

typedef struct {
    vly_model_options target, draft;
    vly_model_memory target_memory, draft_memory;
    uint64_t done, total; /* bytes of weights, for progress over both models */
    vly_arch described;
    const vly_arch *arch; /* that, or NULL */
    const vly_engine_options *options;
} loader;

int vly_engine_loading_stopped(vly_error *err)
{
    return vly_fail(err, VLY_E_CANCELLED, "loading was stopped");
}

/* vly_progress of the model whose weights are on their way */
static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    loader *l = arg;
    const vly_engine_options *o = l->options;
    (void)total;
    return o->progress ? o->progress(o->progress_arg, l->done + done,
                                     vly_engine_progress_total(o, l->total))
                       : 0;
}

/* After each part of loading that has no progress of its own. */
static int go_on(loader *l, vly_error *err)
{
    return on_progress(l, 0, 0) ? vly_engine_loading_stopped(err) : 0;
}

typedef struct {
    uint64_t all, caches;
} memory_need;

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576.0;
}

#define OTHER_BYTES (96ull << 20) /* staging, steps, tables */

/* Sets both models up for contexts of `n_ctx` tokens (0: as recommended, or the target's own) and
 * `n_pages` of the target's cache (0: for all sequences), and tells what they need. The draft's
 * cache is in proportion. */
static int measure(vly_engine *e, loader *l, uint32_t n_ctx, uint32_t n_pages, memory_need *need,
                   vly_error *err)
{
    vly_model_memory *t = &l->target_memory, *d = &l->draft_memory;
    l->target.n_ctx = n_ctx ? n_ctx : e->store.params.n_ctx;
    l->target.n_pages = n_pages;
    int rc = vly_model_measure(e->gpu, e->target_file, &l->target, t, err);
    if (rc == 0 && e->draft_file) {
        /* More than the text can come to is of no use; the draft's tokens may be shorter. */
        l->draft.n_ctx = 4 * t->n_ctx;
        l->draft.n_pages = 0;
        rc = vly_model_measure(e->gpu, e->draft_file, &l->draft, d, err);
        if (rc == 0 && n_pages) {
            uint64_t full = (uint64_t)t->slot_pages * e->n_parallel;
            l->draft.n_pages = (uint32_t)((uint64_t)d->n_pages * n_pages / full) + 1;
            rc = vly_model_measure(e->gpu, e->draft_file, &l->draft, d, err);
        }
    }
    l->total = t->weights + d->weights;
    need->caches = t->kv + d->kv;
    need->all = l->total + t->activations + d->activations + need->caches + OTHER_BYTES;
    return rc;
}

static bool fits(const memory_need *need, const memory_need *have)
{
    return need->all <= have->all && need->caches <= have->caches;
}

/* The longest context, in whole pages, of at most `n_pages` of which at least one fits, and sets
 * both models up for it: 0 where not even one page does, which *need then tells of. */
static int find_context(vly_engine *e, loader *l, uint32_t n_pages, const memory_need *have,
                        uint32_t *n_ctx, memory_need *need, vly_error *err)
{
    uint32_t fit = 0, too_many = n_pages + 1;
    while (too_many - fit > 1) {
        uint32_t pages = fit + (too_many - fit) / 2;
        int rc = measure(e, l, pages * VLY_PAGE_TOKENS, pages, need, err);
        if (rc) return rc;
        *(fits(need, have) ? &fit : &too_many) = pages;
    }
    *n_ctx = fit * VLY_PAGE_TOKENS;
    return measure(e, l, fit ? *n_ctx : VLY_PAGE_TOKENS, fit ? fit : 1, need, err);
}

/* As many pages as fit, of those of one context to those of all. */
static int find_pages(vly_engine *e, loader *l, uint32_t n_ctx, const memory_need *have,
                      vly_error *err)
{
    memory_need need;
    uint32_t one = l->target_memory.slot_pages, fit = one;
    uint32_t too_many = one * e->n_parallel + 1;
    while (too_many - fit > 1) {
        uint32_t pages = fit + (too_many - fit) / 2;
        int rc = measure(e, l, n_ctx, pages, &need, err);
        if (rc) return rc;
        *(fits(&need, have) ? &fit : &too_many) = pages;
    }
    return measure(e, l, n_ctx, fit, &need, err);
}

typedef struct {
    char text[24];
} amount;

/* "1.5 MiB", or in KiB what a number without its unit may allow. */
static amount amount_of(uint64_t n_bytes)
{
    amount a;
    const bool small = n_bytes < UINT64_C(1) << 20;
    snprintf(a.text, sizeof a.text, "%.1f %s", mib(n_bytes) * (small ? 1024 : 1),
             small ? "KiB" : "MiB");
    return a;
}

static int too_large(vly_engine *e, loader *l, const memory_need *need, const memory_need *have,
                     uint32_t n_ctx, const memory_need *smallest, const vly_model_memory *t,
                     const vly_model_memory *d, vly_error *err)
{
    char would[128];
    uint64_t others = smallest->all - l->total;
    uint64_t draft = l->draft_memory.weights + l->draft_memory.activations + l->draft_memory.kv;
    if (n_ctx)
        snprintf(would, sizeof would, "a context of %u tokens would fit", n_ctx);
    else if (smallest->caches > have->caches)
        snprintf(would, sizeof would, "it needs at least %s", amount_of(smallest->caches).text);
    else if (e->draft_file && smallest->all - draft <= have->all)
        snprintf(would, sizeof would, "the target without the draft would fit");
    else
        snprintf(would, sizeof would, "models with weights of at most %.1f MiB would fit",
                 mib(have->all > others ? have->all - others : 0));
    if (need->caches > have->caches)
        return vly_fail(err, VLY_E_DEVICE_MEMORY,
                        "the KV cache for %u tokens takes %s, and may take %s; %s", t->n_ctx,
                        amount_of(need->caches).text, amount_of(have->caches).text, would);
    return vly_fail(err, VLY_E_DEVICE_MEMORY,
                    "%.1f MiB of device memory are needed and %s has %.1f MiB available: target "
                    "weights %.1f, draft weights %.1f, activations and staging %.1f, KV cache for "
                    "%u tokens %.1f MiB; %s",
                    mib(need->all), e->info.device_name, mib(have->all), mib(t->weights),
                    mib(d->weights), mib(t->activations + d->activations + OTHER_BYTES), t->n_ctx,
                    mib(need->caches), would);
}

/* Sees to it that both models and their caches fit before anything is allocated. The caches shrink
 * to what fits, down to one context; a context that the caller did not ask for shrinks then. */
static int check_memory(vly_engine *e, loader *l, vly_error *err)
{
    uint32_t n_ctx = l->options->n_ctx, fit;
    uint64_t most = l->options->kv_bytes ? l->options->kv_bytes : UINT64_MAX;
    memory_need need, smallest, have = {vly_gpu_available_bytes(e->gpu), most};
    int rc = measure(e, l, n_ctx, 0, &need, err);
    if (rc || fits(&need, &have)) return rc;
    uint32_t n_pages = vly_kv_pages_for(l->target_memory.n_ctx);
    rc = measure(e, l, n_ctx, l->target_memory.slot_pages, &need, err);
    if (rc == 0 && fits(&need, &have)) return find_pages(e, l, n_ctx, &have, err);
    const vly_model_memory t = l->target_memory, d = l->draft_memory;
    if (rc == 0) rc = find_context(e, l, n_pages, &have, &fit, &smallest, err);
    if (rc) return rc;
    if (fit == 0 || n_ctx) return too_large(e, l, &need, &have, fit, &smallest, &t, &d, err);
    vly_log(VLY_LOG_WARN, "engine", "context reduced from %u to %u tokens, which fit the device",
            t.n_ctx, fit);
    return 0;
}

/* ---- Loading ---- */

static int open_file(const loader *l, const char *name, vly_store_model *model, vly_gguf **file,
                     vly_tokenizer **tokenizer, vly_error *err)
{
    int rc = vly_store_find(name, model, err);
    if (rc || (rc = vly_gguf_open(model->path, file, err))) return rc;
    /* A file that cannot run should say so before its vocabulary is read. */
    vly_model_config config;
    rc = vly_model_check(*file, l->arch, &config, err);
    return rc ? rc : vly_tokenizer_create(*file, tokenizer, err);
}

static int open_draft(vly_engine *e, loader *l, vly_error *err)
{
    vly_model_config target, draft;
    vly_store_model model = {0};
    int rc = open_file(l, l->options->draft, &model, &e->draft_file, &e->draft_tokenizer, err);
    vly_store_model_deinit(&model);
    if (rc) return vly_fail_within(err, "draft");
    if ((rc = vly_model_config_read(e->target_file, l->arch, &target, err)) ||
        (rc = vly_model_config_read(e->draft_file, l->arch, &draft, err)) ||
        (rc = vly_vocab_map_init(e->draft_tokenizer, e->target_tokenizer, draft.n_vocab,
                                 target.n_vocab, &e->map, err)))
        return rc;
    l->draft = (vly_model_options){
        .n_slots = e->n_parallel,
        .kv_f16 = l->options->kv_f16,
        .arch = l->arch,
        .head_rows = e->map.n_rows == draft.n_vocab && e->map.identity ? NULL : e->map.draft_id,
        .n_head_rows = e->map.n_rows,
        .n_usual_rows = e->map.n_mapped,
    };
    return 0;
}

static int link_draft(vly_engine *e, vly_error *err)
{
    struct vly_recoded *recoded;
    uint32_t n_target = vly_model_head_rows(e->target);
    vly_draft_link link = {.own_id = e->map.draft_id, .target_id = e->map.target_id};
    int rc = e->map.identity
                 ? vly_recode_same(n_target, e->map.n_mapped, &recoded, err)
                 : vly_recode_all(e->target_tokenizer, n_target, e->draft_tokenizer, &recoded, err);
    if (rc) return rc;
    link.recoded = recoded;
    /* Where a window moves on, tokens cannot always be taken back. */
    if (!e->map.identity && vly_kv_get_shape(vly_model_kv(e->draft))->window == 0) {
        rc = vly_words_init(e->draft_tokenizer, &e->words, err);
        link.spelling = e->words.spelling;
        link.n_own = e->words.n_tok;
        link.words = e->words.slots;
        link.n_words = e->words.n_slots;
    }
    if (rc == 0) rc = vly_model_link_draft(e->draft, e->target, &link, err);
    free(recoded);
    return rc;
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
    return link_draft(e, err);
}

/* Bytes of text that one token can stand for: SentencePiece takes U+2581 in text for a space, so
 * that its pieces may be longer than what they write. */
static size_t longest_token(const vly_tokenizer *tokenizer)
{
    size_t longest = 1;
    for (uint32_t id = 0; id < vly_tokenizer_n_vocab(tokenizer); id++) {
        size_t piece = vly_tokenizer_piece(tokenizer, id).len;
        size_t text = vly_tokenizer_bytes(tokenizer, id).len;
        if (piece > longest) longest = piece;
        if (text > longest) longest = text;
    }
    return longest;
}

int vly_engine_load(vly_engine *e, const vly_engine_options *options, vly_error *err)
{
    loader l = {.options = options};
    int rc = options->arch ? vly_arch_read(options->arch, &l.described, err) : 0;
    if (rc) return rc;
    if (options->arch) l.arch = &l.described;
    l.target =
        (vly_model_options){.n_slots = e->n_parallel, .kv_f16 = options->kv_f16, .arch = l.arch};
    if ((rc =
             open_file(&l, options->target, &e->store, &e->target_file, &e->target_tokenizer, err)))
        return rc;
    const vly_store_params *params = &e->store.params;
    e->defaults = (vly_engine_defaults){.sampling = params->sampling,
                                        .max_tokens = params->max_tokens,
                                        .stop = (const char *const *)params->stop,
                                        .n_stop = params->n_stop,
                                        .system = e->store.system};
    if ((rc = vly_engine_load_template(e, options->chat_template, err)) || (rc = go_on(&l, err)))
        return rc;
    if ((rc = vly_gpu_create(options->device, &e->gpu, err)) || (rc = go_on(&l, err))) return rc;
    e->info.device_name = vly_gpu_get_info(e->gpu)->name;
    if (options->draft && (rc = open_draft(e, &l, err))) return rc;
    if ((rc = check_memory(e, &l, err)) || (rc = go_on(&l, err))) return rc;
    uint64_t draft_bytes = l.draft_memory.weights - l.draft_memory.unusual_rows;
    if (draft_bytes > l.target_memory.weights)
        vly_log(VLY_LOG_WARN, "engine",
                "the draft's weights, %.1f MiB, are more than the target's, %.1f MiB: such a draft "
                "hardly makes anything faster",
                mib(draft_bytes), mib(l.target_memory.weights));
    l.target.progress = l.draft.progress = on_progress;
    l.target.progress_arg = l.draft.progress_arg = &l;
    if ((rc = vly_model_create(e->gpu, e->target_file, &l.target, &e->target, err))) return rc;
    l.done = vly_model_get_memory(e->target)->weights;
    if (options->draft && (rc = load_draft(e, &l, err))) return rc;
    vly_gguf_close(e->target_file);
    vly_gguf_close(e->draft_file);
    e->target_file = e->draft_file = NULL;
    e->prompts_as_decoding = vly_model_prompts_as_decoding(e->target);
    e->info.target_name = vly_model_get_config(e->target)->name;
    e->info.n_ctx = vly_model_get_memory(e->target)->n_ctx;
    e->info.n_vocab = vly_model_get_config(e->target)->n_vocab;
    e->max_token_bytes = longest_token(e->target_tokenizer);
    e->info.target_bytes =
        vly_model_get_memory(e->target)->weights + vly_model_get_memory(e->target)->activations;
    return 0;
}

uint64_t vly_engine_progress_total(const vly_engine_options *o, uint64_t weights)
{
    return o->warm_up ? weights + weights / 4 : weights;
}

uint64_t vly_engine_weights_bytes(const vly_engine *e)
{
    return vly_model_get_memory(e->target)->weights +
           (e->draft ? vly_model_get_memory(e->draft)->weights : 0);
}
