/* Drafting by a small model whose text counts, not its tokens: it picks among all tokens of its own
 * vocabulary, and proposed is its text as the target's tokenizer encodes it, up to the last place
 * where that is cut whatever follows. String-level exact match: Timor et al., arXiv 2502.05202,
 * algorithm 2; proposals being target tokens, they are accepted by equality like all others.
 *
 * The host has to see the draft's tokens before the target does: the device drafts in one step, and
 * the block is in the next one. Where the last word has a token that is not mapped and no end yet,
 * another step drafts on. */
#include "drafts/context.h"

#include <stdlib.h>
#include <string.h>

#define MORE_STEPS 3                   /* drafted at a time where the last word has no end */
#define MAX_OWN    (2 * VLY_MAX_DRAFT) /* tokens drafted for a block at most */

typedef struct {
    vly_draft base;
    vly_draft_context *context, own_context; /* the former is the latter, unless others share it */
    size_t text_len;                         /* of the text that is drafted for */
    uint32_t own[MAX_OWN], n_own;            /* tokens drafted after it */
    uint32_t place, n_steps;                 /* of those that the step under way drafts */
    vly_text word;                           /* bytes that are being encoded */
    vly_ids ids;                             /* what the drafted tokens come to: [0, n_proposed) are
                                                proposed */
    uint32_t n_proposed;
} draft_text;

/* Is there something drafted for the text as it is now? It may have grown by a block for which
 * nobody asked for proposals. */
static bool is_under_way(const draft_text *d)
{
    return d->base.waiting && d->text_len == d->context->source.text->len;
}

/* Between two steps of one proposal the context stays as it is. */
static int read_text(vly_draft *draft, vly_draft_batch *batch, uint32_t most, uint32_t *n,
                     vly_error *err)
{
    draft_text *d = (draft_text *)draft;
    *n = 0;
    if (is_under_way(d)) return 0;
    vly_draft_batch_claim(batch);
    return vly_draft_context_read(d->context, batch, most, n, err);
}

/* ---- Own tokens to the target's ---- */

/* As text goes, the end of text is something that has a length. */
static uint32_t length_of(const vly_tokenizer *tokenizer, uint32_t id)
{
    size_t len = vly_tokenizer_bytes(tokenizer, id).len;
    return len ? (uint32_t)len : 1;
}

/* Is text cut before token i, whatever it is behind? */
static bool is_cut(const draft_text *d, uint32_t i)
{
    const vly_draft_source *s = &d->context->source;
    vly_bytes before = vly_tokenizer_bytes(s->model_tokenizer, d->own[i - 1]);
    vly_bytes after = vly_tokenizer_bytes(s->model_tokenizer, d->own[i]);
    if (before.len == 0 || after.len == 0) return true;
    return vly_tokenizer_cuts(s->text_tokenizer, (uint8_t)before.data[before.len - 1],
                              (uint8_t)after.data[0]);
}

static bool all_mapped(const draft_text *d, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        if (vly_vocab_map_target_of(d->context->source.map, d->own[i]) == VLY_NO_TOKEN)
            return false;
    return true;
}

/* Adds the target's tokens for own tokens [from, to), one word or part of one. */
static int add_word(draft_text *d, uint32_t from, uint32_t to)
{
    const vly_draft_source *s = &d->context->source;
    vly_error err;
    d->word.len = 0;
    if (vly_tokenizer_decode(s->model_tokenizer, d->own + from, to - from, false, &d->word))
        return VLY_E_HOST_MEMORY;
    if (d->word.len) /* what a control token leaves of it has none */
        return vly_tokenizer_encode_with(s->text_tokenizer, d->context->work, d->word.data,
                                         d->word.len, VLY_ENCODE_CONTINUE, &d->ids, &err);
    return vly_ids_push(&d->ids, vly_vocab_map_target_of(s->map, d->own[from]));
}

static int add_mapped(draft_text *d, uint32_t from, uint32_t to)
{
    int rc = 0;
    for (uint32_t i = from; rc == 0 && i < to; i++)
        rc = vly_ids_push(&d->ids, vly_vocab_map_target_of(d->context->source.map, d->own[i]));
    return rc;
}

/* Encodes what was drafted into d->ids, word by word. The last word may go on: where its tokens are
 * mapped they count as they are; else *open, and the target's last token for it is left out, which
 * more text could change. */
static int encode(draft_text *d, bool *open, vly_error *err)
{
    uint32_t from = 0;
    int rc = 0;
    bool ended = false;
    d->ids.len = 0;
    *open = false;
    if (d->context->source.map->identity) rc = add_mapped(d, 0, from = d->n_own);
    for (uint32_t i = from + 1; rc == 0 && !ended && i <= d->n_own; i++) {
        if (i < d->n_own && !is_cut(d, i)) continue;
        ended = vly_tokenizer_bytes(d->context->source.model_tokenizer, d->own[i - 1]).len == 0;
        if (i < d->n_own || ended) {
            rc = add_word(d, from, i);
        } else if (all_mapped(d, from, i)) {
            rc = add_mapped(d, from, i);
        } else {
            rc = add_word(d, from, i);
            if (rc == 0 && d->ids.len) d->ids.len--;
            *open = true;
        }
        from = i;
    }
    return rc ? vly_fail(err, rc, "no memory for the draft's text") : 0;
}

/* ---- Drafting ---- */

/* Has the device draft `n` more tokens after those that there are. Where it cannot, nothing waits.
 */
static int draft_on(draft_text *d, const vly_draft_input *in, uint32_t n, vly_error *err)
{
    vly_draft_context *c = d->context;
    uint32_t ids[VLY_MAX_BATCH], pending = vly_draft_context_n_pending(c);
    uint32_t fed = pending + d->n_own;
    bool ok;
    if (fed == 0 || !vly_draft_batch_has_room(in->batch, fed, true)) return 0;
    int64_t left = vly_draft_context_room(c) - d->n_own;
    if (left < 0) return 0;
    if (n > left + 1) n = (uint32_t)left + 1; /* the last one is not fed */
    int rc = vly_draft_context_reserve(c, fed + n - 1, &ok, err);
    if (rc || !ok) return rc;
    memcpy(ids, vly_draft_context_pending(c), pending * sizeof *ids);
    memcpy(ids + pending, d->own, d->n_own * sizeof *ids);
    struct vly_step_sampling sampling = *in->sampling;
    /* The drafted tokens come to as many of the target's. */
    sampling.noise_shift = (uint32_t)c->n_seen + (uint32_t)d->ids.len - (c->seq.n_tok + fed);
    d->place = vly_draft_batch_set_apart(in->batch, n);
    d->n_steps = n;
    vly_draft_batch_draft(in->batch, &c->seq, ids, fed, n, d->place, &sampling, true);
    d->base.waiting = true;
    return 0;
}

static int begin(draft_text *d, const vly_draft_input *in, uint32_t k, vly_error *err)
{
    vly_draft_context *c = d->context;
    int rc = c->full ? 0 : vly_draft_context_take(c, err);
    if (rc || c->full) return rc;
    d->text_len = c->source.text->len;
    d->n_own = 0;
    d->ids.len = 0;
    return draft_on(d, in, k, err);
}

/* Takes in what the last step drafted. */
static void collect(draft_text *d)
{
    const uint32_t *ids = vly_model_results(d->context->model)->draft_id + d->place;
    memcpy(d->own + d->n_own, ids, d->n_steps * sizeof *ids);
    d->n_own += d->n_steps;
}

static int propose(vly_draft *draft, const vly_draft_input *in, uint32_t k, uint32_t *n,
                   vly_error *err)
{
    draft_text *d = (draft_text *)draft;
    bool open;
    *n = d->n_proposed = 0;
    bool drafted = is_under_way(d);
    d->base.waiting = false;
    if (!drafted) return begin(d, in, k, err);
    collect(d);
    int rc = encode(d, &open, err);
    uint32_t more = MORE_STEPS < k ? MORE_STEPS : k;
    if (rc == 0 && open && d->ids.len < k && d->n_own + more <= MAX_OWN)
        rc = draft_on(d, in, more, err);
    if (rc || d->base.waiting) return rc;
    *n = d->n_proposed = (uint32_t)d->ids.len < k ? (uint32_t)d->ids.len : k;
    for (uint32_t j = 0; j < *n; j++) in->verify->token[in->first + j].id = d->ids.data[j];
    return 0;
}

static const uint32_t *proposed(vly_draft *draft)
{
    return ((draft_text *)draft)->ids.data;
}

/* Own tokens stay as far as the target's cover them; what is accepted beyond is a part of a token,
 * and is encoded anew with the rest of the text. */
static int settle(vly_draft *draft, uint32_t accepted, vly_error *err)
{
    draft_text *d = (draft_text *)draft;
    vly_draft_context *c = d->context;
    const vly_tokenizer *own = c->source.model_tokenizer, *target = c->source.text_tokenizer;
    uint32_t n_bytes = 0, n_kept = 0, kept_bytes = 0, n_seen = 0, seen_bytes = 0, len;
    for (uint32_t j = 0; j < accepted; j++) n_bytes += length_of(target, d->ids.data[j]);
    for (; n_kept < d->n_own && kept_bytes + (len = length_of(own, d->own[n_kept])) <= n_bytes;
         n_kept++)
        kept_bytes += len;
    for (; n_seen < accepted &&
           seen_bytes + (len = length_of(target, d->ids.data[n_seen])) <= kept_bytes;
         n_seen++)
        seen_bytes += len;
    uint32_t cached = n_kept < d->n_own ? n_kept : d->n_own - 1; /* the last one was not fed */
    vly_kv_commit(&c->seq, (uint32_t)c->own.len + d->n_own - 1 - c->seq.n_tok);
    vly_kv_truncate(&c->seq, (uint32_t)c->own.len + cached);
    c->n_seen += n_seen;
    c->n_ahead = kept_bytes - seen_bytes;
    if (vly_ids_append(&c->own, d->own, n_kept))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's tokens");
    vly_draft_context_offer(c);
    return 0;
}

static void destroy(vly_draft *draft)
{
    draft_text *d = (draft_text *)draft;
    vly_draft_context_deinit(&d->own_context);
    vly_text_free(&d->word);
    vly_ids_free(&d->ids);
    free(d);
}

static const vly_draft_ops ops = {
    .read = read_text,
    .propose = propose,
    .proposed = proposed,
    .settle = settle,
    .destroy = destroy,
};

int vly_draft_create_text(const vly_draft_source *source, vly_draft **out, vly_error *err)
{
    draft_text *d = calloc(1, sizeof *d);
    if (!d) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft");
    d->base = (vly_draft){.ops = &ops, .proposer = VLY_DRAFT_TEXT};
    int rc = vly_draft_context_share(source, &d->own_context, &d->context, err);
    if (rc == 0 && (vly_text_reserve(&d->word, 0) || vly_ids_reserve(&d->ids, MAX_OWN)))
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's text");
    if (rc) {
        destroy(&d->base);
        return rc;
    }
    *out = &d->base;
    return 0;
}
