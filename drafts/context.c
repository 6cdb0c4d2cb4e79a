#include "drafts/context.h"

#include "base/log.h"

#include <string.h>

/* A proposal takes in what the text has grown by; from this many tokens on they are read first. */
#define MAX_BEHIND 16

int vly_draft_context_init(vly_draft_context *c, const vly_draft_source *source, vly_error *err)
{
    *c = (vly_draft_context){.source = *source, .model = source->model, .reading = true};
    return vly_kv_seq_init(vly_model_kv(c->model), &c->seq, err);
}

void vly_draft_context_deinit(vly_draft_context *c)
{
    vly_kv_seq_deinit(&c->seq);
    vly_ids_free(&c->own);
    vly_text_free(&c->bytes);
}

int vly_draft_context_take(vly_draft_context *c, vly_error *err)
{
    const vly_ids *text = c->source.text;
    if (c->n_seen == text->len) return 0;
    c->bytes.len = 0;
    if (vly_tokenizer_decode(c->source.text_tokenizer, text->data + c->n_seen,
                             text->len - c->n_seen, c->n_seen == 0, &c->bytes))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's text");
    const vly_tokenizer *tokenizer = c->source.model_tokenizer;
    bool start = c->own.len == 0;
    unsigned flags = start ? VLY_ENCODE_BOS : VLY_ENCODE_CONTINUE;
    if (start && !vly_tokenizer_adds_bos(tokenizer)) flags = 0;
    size_t known = c->n_ahead < c->bytes.len ? c->n_ahead : c->bytes.len;
    int rc = vly_tokenizer_encode(tokenizer, c->bytes.data + known, c->bytes.len - known, flags,
                                  &c->own, err);
    if (rc) return rc;
    c->n_seen = text->len;
    c->n_ahead = 0;
    return 0;
}

uint32_t vly_draft_context_n_pending(const vly_draft_context *c)
{
    return (uint32_t)c->own.len - c->seq.n_tok;
}

const uint32_t *vly_draft_context_pending(const vly_draft_context *c)
{
    return c->own.data + c->seq.n_tok;
}

int64_t vly_draft_context_room(vly_draft_context *c)
{
    uint32_t n_ctx = vly_model_get_memory(c->model)->n_ctx;
    int64_t left = (int64_t)n_ctx - (int64_t)c->own.len;
    if (left >= 0) return left;
    c->full = true;
    vly_log(
        VLY_LOG_WARN, "draft",
        "the draft's context of %u tokens is full: from here on n-grams of the text are drafted",
        n_ctx);
    return -1;
}

int vly_draft_context_reserve(vly_draft_context *c, uint32_t n, bool *ok, vly_error *err)
{
    int rc = vly_kv_reserve(&c->seq, c->seq.n_tok + n, err);
    *ok = rc == 0;
    return rc == VLY_E_BUSY ? 0 : rc;
}

int vly_draft_context_read(vly_draft_context *c, vly_draft_batch *batch, uint32_t most, uint32_t *n,
                           vly_error *err)
{
    *n = 0;
    vly_kv_offer(&c->seq, c->own.data, c->seq.n_tok); /* steps before this one are over */
    size_t behind = c->source.text->len - c->n_seen + vly_draft_context_n_pending(c);
    if (c->full || (!c->reading && behind <= MAX_BEHIND)) return 0;
    int rc = vly_draft_context_take(c, err);
    if (rc) return rc;
    c->reading = vly_draft_context_n_pending(c) > 1 && vly_draft_context_room(c) >= 0;
    if (!c->reading) return 0;
    if (!c->started && !c->source.compute_all)
        vly_kv_share(&c->seq, c->own.data, (uint32_t)c->own.len - 1);
    c->started = true;
    bool ok = false;
    uint32_t left = vly_draft_context_n_pending(c) - 1, take = left < most ? left : most;
    if (take > 0) rc = vly_draft_context_reserve(c, take, &ok, err);
    if (rc || !ok) return rc;
    vly_draft_batch_read(batch, &c->seq, vly_draft_context_pending(c), take);
    c->reading = take < left; /* the proposals feed what is left now */
    *n = take;
    return 0;
}

uint32_t vly_draft_context_behind(const vly_draft_context *c)
{
    if (c->full) return UINT32_MAX;
    return (uint32_t)(c->source.text->len - c->n_seen) + vly_draft_context_n_pending(c);
}
