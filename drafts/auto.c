/* Drafting by whatever is expected to be fastest: block by block the governor (spec/governor.h)
 * chooses between nothing, n-grams and the draft model, and how many tokens. The model reads
 * nothing of the text before it is wanted for the first time, which may be from the beginning. */
#include "base/log.h"
#include "drafts/context.h"

#include <stdlib.h>
#include <string.h>

#define COPY_MATCH 8 /* so many tokens that match are no coincidence: the text is being copied */

typedef struct {
    vly_draft base;
    vly_draft *ngram, *model;  /* model: NULL without one */
    vly_draft *text;           /* as the model, and NULL where the vocabulary is the target's */
    vly_draft_context context; /* of both */
    vly_draft *last;           /* whose proposal it is */
    vly_profile own_profile;   /* where the engine has none */
    vly_governor governor;
    vly_decision decision; /* for the block under way */
    bool reading;          /* the decision stands, and waits until the model has read */
    uint32_t n_reading;    /* tokens, in the step under way */
    vly_outcome read;      /* what reading took since the last block */
    const vly_ids *written;
    /* What n-grams would have proposed, which tells how good they are at no cost: the text met the
     * first n_met of it, and goes on from `at`. */
    struct {
        vly_arm arm; /* VLY_ARM_NONE: nothing is watched */
        uint32_t n_met;
        size_t at;
        uint32_t ids[VLY_MAX_DRAFT];
    } watched;
} draft_auto;

static int read_text(vly_draft *draft, vly_draft_batch *batch, uint32_t most, uint32_t *n,
                     vly_error *err)
{
    draft_auto *d = (draft_auto *)draft;
    *n = 0;
    int rc = d->reading ? d->model->ops->read(d->model, batch, most, n, err) : 0;
    d->n_reading = *n;
    return rc;
}

static void read_done(vly_draft *draft, double ns)
{
    draft_auto *d = (draft_auto *)draft;
    if (!(ns > 0)) return;
    d->read.n_read += d->n_reading;
    d->read.read_ns += ns;
}

static bool model_can_draft(const draft_auto *d)
{
    return d->model && vly_draft_model_behind(d->model) != UINT32_MAX;
}

/* The arm of what n-grams proposed last. */
static vly_arm ngram_arm(const draft_auto *d)
{
    return vly_draft_ngram_match(d->ngram) >= COPY_MATCH ? VLY_ARM_COPY : VLY_ARM_NGRAM;
}

/* Adds to the governor's input what there is to choose from. */
static void offer(const draft_auto *d, uint32_t n_ngram, uint32_t k, vly_governor_input *in)
{
    in->k_max[ngram_arm(d)] = n_ngram;
    if (!model_can_draft(d)) return;
    in->k_max[VLY_ARM_MODEL] = k;
    in->k_max[VLY_ARM_TEXT] = d->text ? k : 0;
    in->behind = vly_draft_model_behind(d->model);
}

/* Takes a decision, unless one waits for the model: what n-grams have to propose is known, it being
 * free to ask them. */
static void decide(draft_auto *d, const vly_draft_input *block, uint32_t n_ngram, uint32_t k)
{
    vly_governor_input in = {.left = block->left,
                             .beside_tok = block->beside_tok,
                             .beside_decided = block->beside_decided};
    offer(d, n_ngram, k, &in);
    if (d->reading && in.k_max[VLY_ARM_MODEL]) {
        if (in.behind > VLY_MAX_BATCH) return; /* it goes on reading */
        d->reading = false;
        if (d->decision.k > k) d->decision.k = k;
        return;
    }
    d->decision = vly_governor_choose(&d->governor, &in);
    /* A text that is not short is read beside blocks without the model: the first words do not wait
     * for it. */
    d->reading = vly_arm_by_model(d->decision.arm) && in.behind > VLY_MAX_BATCH;
}

static int propose(vly_draft *draft, const vly_draft_input *in, uint32_t k, uint32_t *n,
                   vly_error *err)
{
    draft_auto *d = (draft_auto *)draft;
    uint32_t n_ngram;
    int rc = d->ngram->ops->propose(d->ngram, in, k, &n_ngram, err);
    *n = 0;
    if (rc) return rc;
    /* What the text was drafted for stands, unless a block came between. */
    if (!d->base.waiting || d->decision.arm != VLY_ARM_TEXT) decide(d, in, n_ngram, k);
    d->base.probing = d->decision.probe;
    d->base.waiting = false;
    if (d->reading || d->decision.k == 0) return 0;
    d->last = d->decision.arm == VLY_ARM_MODEL  ? d->model
              : d->decision.arm == VLY_ARM_TEXT ? d->text
                                                : d->ngram;
    uint32_t most = d->decision.k < k ? d->decision.k : k;
    if (d->last != d->ngram) rc = d->last->ops->propose(d->last, in, most, n, err);
    if (d->last == d->ngram) *n = most;
    d->base.proposer = d->last->proposer;
    d->base.waiting = d->last->waiting;
    return rc;
}

static const uint32_t *proposed(vly_draft *draft)
{
    draft_auto *d = (draft_auto *)draft;
    return d->last->ops->proposed(d->last);
}

static int settle(vly_draft *draft, uint32_t accepted, vly_error *err)
{
    draft_auto *d = (draft_auto *)draft;
    return d->last->ops->settle(d->last, accepted, err);
}

static bool follow(vly_draft *draft, const vly_draft_ahead *ahead)
{
    draft_auto *d = (draft_auto *)draft;
    vly_arm arm = ahead->k > 0 ? VLY_ARM_MODEL : VLY_ARM_NONE;
    vly_governor_input in = {.left = ahead->left, .ahead = {ahead->n_unread, arm, ahead->k}};
    if (d->reading) return false;
    offer(d, vly_draft_ngram_look_up(d->ngram) ? ahead->k_max : 0, ahead->k_max, &in);
    return vly_governor_keeps(&d->governor, &in) &&
           (ahead->k == 0 || d->model->ops->follow(d->model, ahead));
}

static void begin_ahead(vly_draft *draft, struct vly_blocks *blocks)
{
    draft_auto *d = (draft_auto *)draft;
    d->model->ops->begin_ahead(d->model, blocks);
}

static int settle_ahead(vly_draft *draft, const uint32_t *own_ids, uint32_t n, uint32_t accepted,
                        vly_error *err)
{
    draft_auto *d = (draft_auto *)draft;
    if (d->decision.arm != VLY_ARM_MODEL) { /* one that only followed */
        d->decision = (vly_decision){.arm = VLY_ARM_MODEL, .k = n};
        d->base.probing = false;
    }
    return d->model->ops->settle_ahead(d->model, own_ids, n, accepted, err);
}

static void end_ahead(vly_draft *draft)
{
    draft_auto *d = (draft_auto *)draft;
    d->model->ops->end_ahead(d->model);
}

/* Compares the tokens that the text grew by with what n-grams would have proposed. */
static void watch_ngrams(draft_auto *d)
{
    const vly_ids *text = d->written;
    for (bool hit; d->watched.arm != VLY_ARM_NONE && d->watched.at < text->len;) {
        hit = d->watched.ids[d->watched.n_met] == text->data[d->watched.at++];
        vly_governor_watch(&d->governor, d->watched.arm, d->watched.n_met++, hit);
        if (!hit || d->watched.n_met == VLY_MAX_DRAFT) d->watched.arm = VLY_ARM_NONE;
    }
    if (d->watched.arm != VLY_ARM_NONE) return;
    const uint32_t *ids = vly_draft_ngram_look_up(d->ngram);
    if (!ids) return;
    d->watched.arm = ngram_arm(d);
    d->watched.n_met = 0;
    d->watched.at = text->len;
    memcpy(d->watched.ids, ids, sizeof d->watched.ids);
}

static void observe(vly_draft *draft, const vly_outcome *outcome)
{
    draft_auto *d = (draft_auto *)draft;
    static const vly_decision plain = {.arm = VLY_ARM_NONE};
    vly_outcome o = *outcome;
    o.n_read = d->read.n_read;
    o.read_ns = d->read.read_ns;
    d->read = (vly_outcome){0};
    vly_governor_learn(&d->governor, d->reading ? &plain : &d->decision, &o);
    /* What n-grams proposed themselves was counted there. */
    if (o.n_drafted > 0 && !vly_arm_by_model(d->decision.arm)) d->watched.arm = VLY_ARM_NONE;
    watch_ngrams(d);
    vly_log(VLY_LOG_DEBUG, "governor", "arm %d, %u drafted%s, %u accepted: %.3f ms%s",
            (int)d->decision.arm, o.n_drafted, d->base.probing ? " as a probe" : "", o.n_accepted,
            o.wall_ns * 1e-6, o.first ? ", waited for the host" : "");
    if (!d->reading) d->decision = plain;
}

static void destroy(vly_draft *draft)
{
    draft_auto *d = (draft_auto *)draft;
    if (d->ngram) d->ngram->ops->destroy(d->ngram);
    if (d->model) d->model->ops->destroy(d->model);
    if (d->text) d->text->ops->destroy(d->text);
    vly_draft_context_deinit(&d->context);
    free(d);
}

static const vly_draft_ops ops = {
    .read = read_text,
    .read_done = read_done,
    .propose = propose,
    .proposed = proposed,
    .settle = settle,
    .follow = follow,
    .begin_ahead = begin_ahead,
    .settle_ahead = settle_ahead,
    .end_ahead = end_ahead,
    .observe = observe,
    .destroy = destroy,
};

static int create_model(draft_auto *d, const vly_draft_source *source, vly_error *err)
{
    vly_draft_source shared = *source;
    int rc = vly_draft_context_init(&d->context, source, err);
    if (rc) return rc;
    shared.context = &d->context;
    rc = vly_draft_create_model(&shared, &d->model, err);
    if (rc == 0 && !source->map->identity) rc = vly_draft_create_text(&shared, &d->text, err);
    return rc;
}

/* Where the model is expected to pay from the beginning it reads beside the target, so that the
 * first block need not be a plain one. */
static void want_early(draft_auto *d, const vly_draft_source *source)
{
    vly_governor_input in = {.left = source->left, .behind = (uint32_t)source->text->len};
    /* A text has more tokens of the draft's than of the target's, two for one and more. */
    if (source->left == 0 || in.behind <= VLY_MAX_BATCH / 2) return;
    in.k_max[VLY_ARM_MODEL] = VLY_MAX_DRAFT;
    in.k_max[VLY_ARM_TEXT] = d->text ? VLY_MAX_DRAFT : 0;
    d->decision = vly_governor_choose(&d->governor, &in);
    d->reading = !d->decision.probe && vly_arm_by_model(d->decision.arm);
}

int vly_draft_create_auto(const vly_draft_source *source, vly_draft **out, vly_error *err)
{
    draft_auto *d = calloc(1, sizeof *d);
    if (!d) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft");
    d->base = (vly_draft){.ops = &ops, .proposer = VLY_DRAFT_NONE};
    d->written = source->text;
    vly_governor_init(&d->governor, source->profile ? source->profile : &d->own_profile,
                      source->sampled);
    int rc = vly_draft_create_ngram(source, &d->ngram, err);
    if (rc == 0 && source->model) rc = create_model(d, source, err);
    if (rc == 0 && source->model) want_early(d, source);
    if (rc) {
        destroy(&d->base);
        return rc;
    }
    *out = &d->base;
    return 0;
}
