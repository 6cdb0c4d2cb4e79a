/* Drafting by a small model. All k steps run on the device without the host: each pick is the next
 * step's token, and through the vocabulary map a token of the verify pass. The draft's context is
 * made of bytes: what the text grew by without this method's doing is encoded by the model's own
 * tokenizer, never mapped by id. */
#include "base/log.h"
#include "drafts/draft.h"

#include <stdlib.h>
#include <string.h>

/* A proposal takes in up to VLY_MAX_BATCH tokens; from this many of the text on they are read
 * first. */
#define MAX_BEHIND (VLY_MAX_BATCH / 4)

typedef struct {
    vly_draft base;
    vly_draft_source source;
    vly_model *model;
    vly_kv_seq seq;
    size_t n_seen;   /* tokens of the text that were encoded, or proposed and accepted */
    vly_text bytes;  /* of those that are being encoded */
    vly_ids pending; /* own tokens of the text that the cache does not hold yet */
    uint32_t n_fed;  /* of them, in the submission under way */
    uint32_t n_proposed;
    bool reading; /* chunk by chunk, until one token is left */
    bool full;    /* the context has no room for the text: nothing more to do */
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
    bool start = d->seq.n_tok == 0 && d->pending.len == 0;
    unsigned flags = start ? VLY_ENCODE_BOS : VLY_ENCODE_CONTINUE;
    if (start && !vly_tokenizer_adds_bos(tokenizer)) flags = 0;
    int rc = vly_tokenizer_encode(tokenizer, d->bytes.data, d->bytes.len, flags, &d->pending, err);
    if (rc == 0) d->n_seen = text->len;
    return rc;
}

/* Puts the first n pending tokens into the step and makes room for `more` after them. */
static int feed(draft_model *d, vly_step_buffer which, uint32_t n, uint32_t more, vly_error *err)
{
    int rc = vly_kv_reserve(&d->seq, d->seq.n_tok + n + more, err);
    if (rc) return rc;
    struct vly_step *step = vly_model_step(d->model, which);
    step->n_tok = n;
    vly_step_write(step, 0, d->pending.data, n, d->seq.n_tok, d->seq.slot);
    d->n_fed = n;
    return 0;
}

static void forget_pending(draft_model *d, size_t n)
{
    d->pending.len -= n;
    memmove(d->pending.data, d->pending.data + n, d->pending.len * sizeof *d->pending.data);
}

/* Tokens that the context has room for after the pending ones; -1 where it has none for these. */
static int64_t room(draft_model *d)
{
    uint32_t n_ctx = vly_model_get_memory(d->model)->n_ctx;
    int64_t left = (int64_t)n_ctx - d->seq.n_tok - (int64_t)d->pending.len;
    if (left >= 0) return left;
    d->full = true;
    vly_log(
        VLY_LOG_WARN, "draft",
        "the draft's context of %u tokens is full: from here on n-grams of the text are drafted",
        n_ctx);
    return -1;
}

static int add(draft_model *d, vly_submission *list, vly_pass pass, uint32_t n, vly_error *err)
{
    return vly_model_pass(d->model, pass, n, &list->commands[list->n++], err);
}

/* All but the last token, which the next proposal feeds. Once the prompt is read, a proposal feeds
 * what there is, unless others have proposed for long. */
static int read_text(vly_draft *draft, vly_submission *list, vly_error *err)
{
    draft_model *d = (draft_model *)draft;
    d->n_fed = 0;
    size_t behind = d->source.text->len - d->n_seen + d->pending.len;
    if (d->full || (!d->reading && behind <= MAX_BEHIND)) return 0;
    int rc = take_text(d, err);
    if (rc) return rc;
    d->reading = d->pending.len > 1 && room(d) >= 0;
    if (!d->reading) return 0;
    uint32_t n = d->pending.len - 1 < VLY_MAX_CHUNK ? (uint32_t)d->pending.len - 1 : VLY_MAX_CHUNK;
    rc = feed(d, VLY_STEP_BUFFER_PROMPT, n, 0, err);
    return rc ? rc : add(d, list, VLY_PASS_PROMPT, n, err);
}

static void read_done(vly_draft *draft)
{
    draft_model *d = (draft_model *)draft;
    vly_kv_commit(&d->seq, d->n_fed);
    forget_pending(d, d->n_fed);
}

uint32_t vly_draft_model_behind(const vly_draft *draft)
{
    const draft_model *d = (const draft_model *)draft;
    return d->full ? UINT32_MAX : (uint32_t)(d->source.text->len - d->n_seen + d->pending.len);
}

static int propose(vly_draft *draft, const vly_draft_input *in, uint32_t k, vly_submission *list,
                   uint32_t *n, vly_error *err)
{
    draft_model *d = (draft_model *)draft;
    *n = d->n_proposed = d->n_fed = 0;
    int rc = d->full ? 0 : take_text(d, err);
    if (rc || d->full) return rc;
    /* Nothing to go on where the text so far has no byte that this vocabulary can spell. */
    if (d->pending.len == 0 || d->pending.len > VLY_MAX_BATCH) return 0;
    uint32_t fed = (uint32_t)d->pending.len;
    int64_t left = room(d);
    if (left < 0) return 0;
    if (k > left + 1) k = (uint32_t)left + 1; /* the last one is not fed */
    if ((rc = feed(d, VLY_STEP_BUFFER_DECODE, fed, k - 1, err))) return rc;
    struct vly_step_sampling sampling = *in->sampling;
    sampling.noise_shift = (uint32_t)d->n_seen - (d->seq.n_tok + fed);
    struct vly_step *first = vly_model_step(d->model, VLY_STEP_BUFFER_DECODE);
    struct vly_step *further = vly_model_step(d->model, VLY_STEP_BUFFER_DRAFT);
    first->n_rows = further->n_tok = further->n_rows = 1;
    first->row[0] = fed - 1;
    further->row[0] = 0;
    first->draft[0] = (struct vly_step_draft){.verify = 1, .n_left = k};
    first->sampling[d->seq.slot] = further->sampling[d->seq.slot] = sampling;
    if ((rc = add(d, list, VLY_PASS_LAYERS, fed, err)) ||
        (rc = add(d, list, VLY_PASS_HEAD, 1, err)) || (rc = add(d, list, VLY_PASS_PICK, 1, err)))
        return rc;
    for (uint32_t j = 1; j < k; j++)
        for (int pass = VLY_PASS_DRAFT_LAYERS; pass <= VLY_PASS_DRAFT_PICK; pass++)
            if ((rc = add(d, list, pass, 1, err))) return rc;
    *n = d->n_proposed = k;
    return rc;
}

static const uint32_t *proposed(vly_draft *draft)
{
    return vly_model_results(((draft_model *)draft)->model)->id + 1;
}

/* The cache holds what was fed and all proposals but the last. Those that the target took stay; a
 * last one that it took is still to be fed. */
static int settle(vly_draft *draft, uint32_t accepted, vly_error *err)
{
    draft_model *d = (draft_model *)draft;
    uint32_t kept = accepted < d->n_proposed ? accepted : d->n_proposed - 1;
    uint32_t start = d->seq.n_tok;
    vly_kv_commit(&d->seq, d->n_fed + d->n_proposed - 1);
    vly_kv_truncate(&d->seq, start + d->n_fed + kept);
    forget_pending(d, d->n_fed);
    d->n_seen += accepted;
    if (accepted > kept &&
        vly_ids_push(&d->pending, vly_model_results(d->model)->draft_id[1 + kept]))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's tokens");
    return 0;
}

static void destroy(vly_draft *draft)
{
    draft_model *d = (draft_model *)draft;
    vly_kv_seq_deinit(&d->seq);
    vly_ids_free(&d->pending);
    vly_text_free(&d->bytes);
    free(d);
}

static const vly_draft_ops ops = {
    .read = read_text,
    .read_done = read_done,
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
