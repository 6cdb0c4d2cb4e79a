/* Drafting by two methods: the second proposes where the first has nothing to propose. Each finds
 * in the text what the other contributed, so neither is told. */
#include "drafts/draft.h"

#include <stdlib.h>

typedef struct {
    vly_draft base;
    vly_draft *part[2];
    vly_draft *last; /* the one that proposed */
} draft_chain;

static int read_text(vly_draft *draft, vly_draft_batch *batch, uint32_t most, uint32_t *n,
                     vly_error *err)
{
    draft_chain *d = (draft_chain *)draft;
    uint32_t more = 0;
    int rc = d->part[0]->ops->read(d->part[0], batch, most, n, err);
    if (rc == 0) rc = d->part[1]->ops->read(d->part[1], batch, most - *n, &more, err);
    *n += more;
    return rc;
}

static int propose(vly_draft *draft, const vly_draft_input *in, uint32_t k, uint32_t *n,
                   vly_error *err)
{
    draft_chain *d = (draft_chain *)draft;
    int rc = 0;
    *n = 0;
    for (int i = 0; rc == 0 && *n == 0 && i < 2; i++) {
        if (i > 0 && d->last->waiting) break;
        d->last = d->part[i];
        rc = d->last->ops->propose(d->last, in, k, n, err);
    }
    d->base.proposer = d->last->proposer;
    d->base.waiting = d->last->waiting;
    return rc;
}

static const uint32_t *proposed(vly_draft *draft)
{
    draft_chain *d = (draft_chain *)draft;
    return d->last->ops->proposed(d->last);
}

static int settle(vly_draft *draft, uint32_t accepted, vly_error *err)
{
    draft_chain *d = (draft_chain *)draft;
    return d->last->ops->settle(d->last, accepted, err);
}

/* The second part proposes only where the first one, asked before, does not. */
static bool follow(vly_draft *draft, const vly_draft_ahead *ahead)
{
    draft_chain *d = (draft_chain *)draft;
    return d->last == d->part[0] && d->last->ops->follow && d->last->ops->follow(d->last, ahead);
}

static void begin_ahead(vly_draft *draft, struct vly_blocks *blocks)
{
    draft_chain *d = (draft_chain *)draft;
    d->last->ops->begin_ahead(d->last, blocks);
}

static int settle_ahead(vly_draft *draft, const uint32_t *own_ids, uint32_t n, uint32_t accepted,
                        vly_error *err)
{
    draft_chain *d = (draft_chain *)draft;
    return d->last->ops->settle_ahead(d->last, own_ids, n, accepted, err);
}

static void end_ahead(vly_draft *draft)
{
    draft_chain *d = (draft_chain *)draft;
    d->last->ops->end_ahead(d->last);
}

static void destroy(vly_draft *draft)
{
    draft_chain *d = (draft_chain *)draft;
    for (int i = 0; i < 2; i++)
        if (d->part[i]) d->part[i]->ops->destroy(d->part[i]);
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

static int create(const vly_draft_source *source, vly_draft_create_fn *first,
                  vly_draft_create_fn *second, vly_draft **out, vly_error *err)
{
    draft_chain *d = calloc(1, sizeof *d);
    if (!d) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft");
    d->base.ops = &ops;
    int rc = first(source, &d->part[0], err);
    if (rc == 0) rc = second(source, &d->part[1], err);
    if (rc) {
        destroy(&d->base);
        return rc;
    }
    *out = &d->base;
    return 0;
}

int vly_draft_create_model_then_ngram(const vly_draft_source *source, vly_draft **out,
                                      vly_error *err)
{
    return create(source, vly_draft_create_model, vly_draft_create_ngram, out, err);
}

int vly_draft_create_text_then_ngram(const vly_draft_source *source, vly_draft **out,
                                     vly_error *err)
{
    return create(source, vly_draft_create_text, vly_draft_create_ngram, out, err);
}

int vly_draft_create_ngram_then_model(const vly_draft_source *source, vly_draft **out,
                                      vly_error *err)
{
    return create(source, vly_draft_create_ngram, vly_draft_create_model, out, err);
}
