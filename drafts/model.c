/* Drafting by a small model. All k steps run on the device without the host: each pick is the next
 * step's token, and through the vocabulary map a token of the verify pass. The draft's context is
 * made of bytes: what the text grew by without this method's doing is encoded by the model's own
 * tokenizer, never mapped by id. */
#include "drafts/context.h"

#include <stdlib.h>

typedef struct {
    vly_draft base;
    vly_draft_context *context, own_context; /* the former is the latter, unless others share it */
    uint32_t n_fed;                          /* of the pending tokens, in the step under way */
    uint32_t n_proposed, verify; /* and where in the verify pass the first proposal is */
} draft_model;

static int read_text(vly_draft *draft, vly_draft_batch *batch, uint32_t most, uint32_t *n,
                     vly_error *err)
{
    return vly_draft_context_read(((draft_model *)draft)->context, batch, most, n, err);
}

uint32_t vly_draft_model_behind(const vly_draft *draft)
{
    return vly_draft_context_behind(((const draft_model *)draft)->context);
}

static int propose(vly_draft *draft, const vly_draft_input *in, uint32_t k, uint32_t *n,
                   vly_error *err)
{
    draft_model *d = (draft_model *)draft;
    vly_draft_context *c = d->context;
    bool ok;
    *n = d->n_proposed = d->n_fed = 0;
    int rc = c->full ? 0 : vly_draft_context_take(c, err);
    if (rc || c->full) return rc;
    /* Nothing to go on where the text so far has no byte that this vocabulary can spell. */
    uint32_t fed = vly_draft_context_n_pending(c);
    if (fed == 0 || !vly_draft_batch_has_room(in->batch, fed, false)) return 0;
    int64_t left = vly_draft_context_room(c);
    if (left < 0) return 0;
    if (k > left + 1) k = (uint32_t)left + 1; /* the last one is not fed */
    if ((rc = vly_draft_context_reserve(c, fed + k - 1, &ok, err)) || !ok) return rc;
    struct vly_step_sampling sampling = *in->sampling;
    sampling.noise_shift = (uint32_t)c->n_seen - (c->seq.n_tok + fed);
    vly_draft_batch_draft(in->batch, &c->seq, vly_draft_context_pending(c), fed, k, in->first,
                          &sampling, false);
    d->n_fed = fed;
    d->verify = in->first;
    *n = d->n_proposed = k;
    return 0;
}

static const uint32_t *proposed(vly_draft *draft)
{
    const draft_model *d = (const draft_model *)draft;
    return vly_model_results(d->context->model)->id + d->verify;
}

/* The cache holds what was fed and all proposals but the last. Those that the target took stay; a
 * last one that it took is still to be fed. */
static int settle(vly_draft *draft, uint32_t accepted, vly_error *err)
{
    draft_model *d = (draft_model *)draft;
    vly_draft_context *c = d->context;
    const uint32_t *ids = vly_model_results(c->model)->draft_id + d->verify;
    uint32_t kept = accepted < d->n_proposed ? accepted : d->n_proposed - 1;
    uint32_t start = c->seq.n_tok;
    vly_kv_commit(&c->seq, d->n_fed + d->n_proposed - 1);
    vly_kv_truncate(&c->seq, start + d->n_fed + kept);
    c->n_seen += accepted;
    if (vly_ids_append(&c->own, ids, accepted))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's tokens");
    vly_draft_context_offer(c);
    return 0;
}

/* ---- Ahead of the host ---- */

static bool follow(vly_draft *draft, const vly_draft_ahead *ahead)
{
    draft_model *d = (draft_model *)draft;
    vly_draft_context *c = d->context;
    /* At most: the last token of the text, what blocks in flight add to it, and the proposals. */
    uint32_t most = (uint32_t)c->own.len + VLY_MAX_RECODED +
                    ahead->n_unread * (ahead->k + VLY_MAX_RECODED) + ahead->k;
    /* A word in parts is put right with the next proposal that the host makes. */
    bool ok = !c->full && c->stale == SIZE_MAX && ahead->k > 0 &&
              most <= vly_model_get_memory(c->model)->n_ctx;
    vly_error err;
    return ok && vly_draft_context_reserve(c, most - c->seq.n_tok, &ok, &err) == 0 && ok;
}

static void begin_ahead(vly_draft *draft, struct vly_blocks *blocks)
{
    vly_draft_context_begin_ahead(((draft_model *)draft)->context, blocks);
}

/* The device took in what the context takes now (spec/recode.h, spec/words.h). */
static int settle_ahead(vly_draft *draft, const uint32_t *own_ids, uint32_t n, uint32_t accepted,
                        vly_error *err)
{
    vly_draft_context *c = ((draft_model *)draft)->context;
    int rc = vly_draft_context_take_ahead(c, err);
    if (rc) return rc;
    uint32_t fed = vly_draft_context_n_pending(c), kept = accepted < n ? accepted : n - 1;
    vly_kv_commit(&c->seq, fed + kept);
    return vly_draft_context_accept_ahead(c, own_ids, accepted, err);
}

static void end_ahead(vly_draft *draft)
{
    vly_draft_context *c = ((draft_model *)draft)->context;
    vly_kv_truncate(&c->seq, c->seq.n_tok); /* what was reserved */
    vly_draft_context_offer(c);
}

static void destroy(vly_draft *draft)
{
    draft_model *d = (draft_model *)draft;
    vly_draft_context_deinit(&d->own_context);
    free(d);
}

static const vly_draft_ops ops = {
    .read = read_text,
    .propose = propose,
    .proposed = proposed,
    .settle = settle,
    .follow = follow,
    .begin_ahead = begin_ahead,
    .settle_ahead = settle_ahead,
    .end_ahead = end_ahead,
    .destroy = destroy,
};

int vly_draft_create_model(const vly_draft_source *source, vly_draft **out, vly_error *err)
{
    draft_model *d = calloc(1, sizeof *d);
    if (!d) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft");
    d->base = (vly_draft){.ops = &ops, .proposer = VLY_DRAFT_MODEL};
    int rc = vly_draft_context_share(source, &d->own_context, &d->context, err);
    if (rc) {
        free(d);
        return rc;
    }
    *out = &d->base;
    return 0;
}
