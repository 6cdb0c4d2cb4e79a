/* Drafting by a small model. All k steps run on the device without the host: each pick is the next
 * step's token, and through the vocabulary map a token of the verify pass. The draft's context is
 * made of bytes: what the text grew by without this method's doing is encoded by the model's own
 * tokenizer, never mapped by id. */
#include "base/log.h"
#include "drafts/draft.h"

#include <stdlib.h>
#include <string.h>

/* A proposal takes in what the text has grown by; from this many tokens on they are read first. */
#define MAX_BEHIND 16

typedef struct {
    vly_draft base;
    vly_draft_source source;
    vly_model *model;
    vly_kv_seq seq;
    size_t n_seen;  /* tokens of the text that were encoded, or proposed and accepted */
    vly_text bytes; /* of those that are being encoded */
    vly_ids own; /* own tokens of the text: first those in the cache, then those that are pending */
    uint32_t n_fed;              /* of the latter, in the step under way */
    uint32_t n_proposed, verify; /* and where in the verify pass the first proposal is */
    bool started;                /* pages of earlier texts were looked for */
    bool reading;                /* chunk by chunk, until one token is left */
    bool full;                   /* the context has no room for the text: nothing more to do */
} draft_model;

/* Encodes what the text has grown by. */
static int take_text(draft_model *d, vly_error *err)
{
    const vly_ids *text = d->source.text;
    if (d->n_seen == text->len) return 0;
    d->bytes.len = 0;
    if (vly_tokenizer_decode(d->source.text_tokenizer, text->data + d->n_seen,
                             text->len - d->n_seen, d->n_seen == 0, &d->bytes))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's text");
    const vly_tokenizer *tokenizer = d->source.model_tokenizer;
    bool start = d->own.len == 0;
    unsigned flags = start ? VLY_ENCODE_BOS : VLY_ENCODE_CONTINUE;
    if (start && !vly_tokenizer_adds_bos(tokenizer)) flags = 0;
    int rc = vly_tokenizer_encode(tokenizer, d->bytes.data, d->bytes.len, flags, &d->own, err);
    if (rc == 0) d->n_seen = text->len;
    return rc;
}

static uint32_t n_pending(const draft_model *d)
{
    return (uint32_t)d->own.len - d->seq.n_tok;
}

static const uint32_t *pending(const draft_model *d)
{
    return d->own.data + d->seq.n_tok;
}

/* Tokens that the context has room for after the pending ones; -1 where it has none for these. */
static int64_t room(draft_model *d)
{
    uint32_t n_ctx = vly_model_get_memory(d->model)->n_ctx;
    int64_t left = (int64_t)n_ctx - (int64_t)d->own.len;
    if (left >= 0) return left;
    d->full = true;
    vly_log(
        VLY_LOG_WARN, "draft",
        "the draft's context of %u tokens is full: from here on n-grams of the text are drafted",
        n_ctx);
    return -1;
}

/* Makes room for `n` more tokens; *ok is false where others hold all pages, which is no error: then
 * nothing is drafted until they leave. */
static int reserve(draft_model *d, uint32_t n, bool *ok, vly_error *err)
{
    int rc = vly_kv_reserve(&d->seq, d->seq.n_tok + n, err);
    *ok = rc == 0;
    return rc == VLY_E_BUSY ? 0 : rc;
}

/* All but the last token, which the next proposal feeds. Once the prompt is read, a proposal feeds
 * what there is, unless nothing was proposed for long. */
static int read_text(vly_draft *draft, vly_draft_batch *batch, uint32_t most, uint32_t *n,
                     vly_error *err)
{
    draft_model *d = (draft_model *)draft;
    *n = 0;
    vly_kv_offer(&d->seq, d->own.data, d->seq.n_tok); /* steps before this one are over */
    size_t behind = d->source.text->len - d->n_seen + n_pending(d);
    if (d->full || (!d->reading && behind <= MAX_BEHIND)) return 0;
    int rc = take_text(d, err);
    if (rc) return rc;
    d->reading = n_pending(d) > 1 && room(d) >= 0;
    if (!d->reading) return 0;
    if (!d->started && !d->source.compute_all)
        vly_kv_share(&d->seq, d->own.data, (uint32_t)d->own.len - 1);
    d->started = true;
    bool ok = false;
    uint32_t left = n_pending(d) - 1, take = left < most ? left : most;
    if (take > 0) rc = reserve(d, take, &ok, err);
    if (rc || !ok) return rc;
    vly_draft_batch_read(batch, &d->seq, pending(d), take);
    d->reading = take < left; /* the proposals feed what is left now */
    *n = take;
    return 0;
}

uint32_t vly_draft_model_behind(const vly_draft *draft)
{
    const draft_model *d = (const draft_model *)draft;
    return d->full ? UINT32_MAX : (uint32_t)(d->source.text->len - d->n_seen) + n_pending(d);
}

static int propose(vly_draft *draft, const vly_draft_input *in, uint32_t k, uint32_t *n,
                   vly_error *err)
{
    draft_model *d = (draft_model *)draft;
    bool ok;
    *n = d->n_proposed = d->n_fed = 0;
    int rc = d->full ? 0 : take_text(d, err);
    if (rc || d->full) return rc;
    /* Nothing to go on where the text so far has no byte that this vocabulary can spell. */
    uint32_t fed = n_pending(d);
    if (fed == 0 || !vly_draft_batch_has_room(in->batch, fed)) return 0;
    int64_t left = room(d);
    if (left < 0) return 0;
    if (k > left + 1) k = (uint32_t)left + 1; /* the last one is not fed */
    if ((rc = reserve(d, fed + k - 1, &ok, err)) || !ok) return rc;
    struct vly_step_sampling sampling = *in->sampling;
    sampling.noise_shift = (uint32_t)d->n_seen - (d->seq.n_tok + fed);
    vly_draft_batch_draft(in->batch, &d->seq, pending(d), fed, k, in->first, &sampling);
    d->n_fed = fed;
    d->verify = in->first;
    *n = d->n_proposed = k;
    return 0;
}

static const uint32_t *proposed(vly_draft *draft)
{
    const draft_model *d = (const draft_model *)draft;
    return vly_model_results(d->model)->id + d->verify;
}

/* The cache holds what was fed and all proposals but the last. Those that the target took stay; a
 * last one that it took is still to be fed. */
static int settle(vly_draft *draft, uint32_t accepted, vly_error *err)
{
    draft_model *d = (draft_model *)draft;
    const uint32_t *ids = vly_model_results(d->model)->draft_id + d->verify;
    uint32_t kept = accepted < d->n_proposed ? accepted : d->n_proposed - 1;
    uint32_t start = d->seq.n_tok;
    vly_kv_commit(&d->seq, d->n_fed + d->n_proposed - 1);
    vly_kv_truncate(&d->seq, start + d->n_fed + kept);
    d->n_seen += accepted;
    if (vly_ids_append(&d->own, ids, accepted))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's tokens");
    vly_kv_offer(&d->seq, d->own.data, d->seq.n_tok);
    return 0;
}

static void destroy(vly_draft *draft)
{
    draft_model *d = (draft_model *)draft;
    vly_kv_seq_deinit(&d->seq);
    vly_ids_free(&d->own);
    vly_text_free(&d->bytes);
    free(d);
}

static const vly_draft_ops ops = {
    .read = read_text,
    .propose = propose,
    .proposed = proposed,
    .settle = settle,
    .destroy = destroy,
};

int vly_draft_create_model(const vly_draft_source *source, vly_draft **out, vly_error *err)
{
    draft_model *d = calloc(1, sizeof *d);
    if (!d) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft");
    d->base = (vly_draft){.ops = &ops, .proposer = VLY_DRAFT_MODEL};
    d->source = *source;
    d->model = source->model;
    d->reading = true;
    int rc = vly_kv_seq_init(vly_model_kv(d->model), &d->seq, err);
    if (rc) {
        free(d);
        return rc;
    }
    *out = &d->base;
    return 0;
}
