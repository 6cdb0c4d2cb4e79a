#include "spec/block.h"

#include "base/clock.h"
#include "spec/accept.h"

#include <string.h>

static struct vly_step_sampling step_sampling(const vly_sampling *s)
{
    return (struct vly_step_sampling){
        .temperature = s->temperature,
        .top_p = s->top_p,
        .min_p = s->min_p,
        .top_k = s->top_k,
        .seed_lo = (uint32_t)s->seed,
        .seed_hi = (uint32_t)(s->seed >> 32),
    };
}

bool vly_block_reads_logits(const vly_block *b)
{
    return b->logprobs || vly_sampling_needs_host(b->sampling);
}

/* The block's tokens in the verify pass: those of the text, then the drafted ones, whose ids the
 * draft writes. */
static void write_tokens(vly_block *b, vly_batch *batch, struct vly_step *step)
{
    uint32_t pos = b->seq->n_tok, n = b->n_fed + b->n_drafted;
    vly_step_write(step, b->first, b->text->data + pos, b->n_fed, pos, b->seq->slot);
    for (uint32_t j = b->n_fed; j < n; j++) {
        step->token[b->first + j].pos = pos + j;
        step->token[b->first + j].slot = b->seq->slot;
        step->token[b->first + j].first = b->first;
    }
    for (uint32_t j = 0; j < b->n_rows; j++)
        step->row[b->first_row + j] = b->first + b->n_fed - 1 + j;
    batch->n_tok += n;
    batch->n_rows += b->n_rows;
    if (b->n_rows && vly_block_reads_logits(b)) batch->n_host_rows = batch->n_rows;
    if (b->n_rows && !vly_sampling_needs_host(b->sampling)) batch->picks = true;
}

int vly_block_prepare(vly_block *b, vly_batch *batch, uint32_t n_feed, uint32_t k, vly_error *err)
{
    struct vly_step *step = vly_model_step(b->target, VLY_STEP_BUFFER_DECODE);
    struct vly_step_sampling sampling = step_sampling(b->sampling);
    bool decides = b->seq->n_tok + n_feed == b->text->len;
    if (!decides) k = 0;
    b->first = batch->n_tok;
    b->first_row = batch->n_rows;
    b->n_fed = n_feed;
    vly_draft_input in = {
        .sampling = &sampling,
        .verify = step,
        .first = b->first + n_feed,
        .left = b->left,
        .beside_tok = batch->usual_tok - (1 + b->n_drafted),
        .beside_decided = batch->usual_decided - (1 + b->n_accepted),
        .batch = &batch->draft,
    };
    b->n_drafted = 0;
    int rc = vly_kv_reserve(b->seq, b->seq->n_tok + n_feed + k, err);
    uint64_t start_ns = vly_clock_ns();
    b->waits = false;
    if (rc == 0 && k > 0 && b->draft) {
        rc = b->draft->ops->propose(b->draft, &in, k, &b->n_drafted, err);
        b->waits = rc == 0 && b->draft->waiting;
    }
    b->map_ns = (double)(vly_clock_ns() - start_ns);
    if (rc || b->waits) {
        b->n_fed = b->n_rows = 0;
        return rc;
    }
    b->n_rows = decides ? 1 + b->n_drafted : 0;
    step->sampling[b->seq->slot] = sampling;
    write_tokens(b, batch, step);
    return 0;
}

static float *logits_of(const vly_block *b, uint32_t j)
{
    size_t row = b->first_row + j;
    return vly_model_logits(b->target) + row * vly_model_logits_stride(b->target);
}

/* How likely the token decided at position j of the block was. */
static void take_logprobs(vly_block *b, uint32_t j)
{
    if (!b->logprobs) return;
    b->likely[j] = vly_logprobs(logits_of(b, j), vly_model_head_rows(b->target), b->tokens[j],
                                b->n_top, b->top + (size_t)j * b->n_top);
}

/* As pick.comp has it. */
static uint32_t rank_of(const float *logits, uint32_t n_vocab, uint32_t id)
{
    uint32_t rank = 1;
    for (uint32_t i = 0; i < n_vocab; i++) rank += logits[i] > logits[id];
    return rank;
}

/* The target's picks with penalties and bias: row after row on the host, each with the tokens
 * before it as its history, up to the first that differs from the draft's. They are written behind
 * the text, where they will belong. */
static int pick_on_host(vly_block *b, const uint32_t *drafted, vly_error *err)
{
    uint32_t n_vocab = vly_model_head_rows(b->target), len = (uint32_t)b->text->len;
    int rc = 0;
    for (uint32_t j = 0; rc == 0 && j <= b->n_drafted; j++) {
        vly_sample_adjust(b->sampling, b->text->data, len + j, logits_of(b, j), n_vocab);
        rc = vly_sample_pick(b->sampling, logits_of(b, j), n_vocab, len + j, NULL, b->scratch,
                             &b->tokens[j], err);
        if (rc) break;
        take_logprobs(b, j);
        b->text->data[len + j] = b->tokens[j];
        b->n_accepted = j;
        if (j == b->n_drafted || drafted[j] == b->tokens[j]) continue;
        b->lost_rank = rank_of(logits_of(b, j), n_vocab, drafted[j]);
        break;
    }
    return rc;
}

/* How many proposals are to pass for right: the wanted mean, in whole tokens over the blocks. As
 * advance.comp has it. */
static uint32_t force_acceptance(vly_block *b)
{
    if (b->n_drafted == 0) return 0;
    uint32_t wanted = b->forced_rest + b->forced_length - 65536, n = wanted >> 16;
    b->forced_rest = wanted & 65535;
    return n < b->n_drafted ? n : b->n_drafted;
}

static int no_pick(const vly_block *b, vly_error *err)
{
    return vly_fail(err, VLY_E_FORMAT,
                    "position %u: expected finite logits, but those of %s leave no token to pick: "
                    "its weights are broken",
                    (uint32_t)b->text->len - 1 + b->n_accepted,
                    vly_model_get_config(b->target)->name);
}

static int pick_on_device(vly_block *b, vly_error *err)
{
    const struct vly_results *results = vly_model_results(b->target);
    const uint32_t *pick = results->id + b->first_row;
    b->n_accepted = vly_accept(b->drafted, pick, b->n_drafted);
    if (b->n_accepted < b->n_drafted) b->lost_rank = results->rank[b->first_row + b->n_accepted];
    if (pick[b->n_accepted] == VLY_NO_ID) return no_pick(b, err);
    if (b->forced_length > 0) b->n_accepted = force_acceptance(b);
    if (b->n_accepted > 0) memcpy(b->tokens, b->drafted, b->n_accepted * sizeof *b->drafted);
    b->tokens[b->n_accepted] = pick[b->n_accepted];
    for (uint32_t j = 0; j <= b->n_accepted; j++) take_logprobs(b, j);
    return 0;
}

static int finish(vly_block *b, vly_error *err)
{
    int rc = 0;
    b->n_accepted = b->lost_rank = 0;
    b->drafted = b->n_drafted ? b->draft->ops->proposed(b->draft) : NULL;
    if (b->n_rows)
        rc = vly_sampling_needs_host(b->sampling) ? pick_on_host(b, b->drafted, err)
                                                  : pick_on_device(b, err);
    if (rc) return rc;
    vly_kv_commit(b->seq, b->n_fed + b->n_accepted);
    vly_kv_truncate(b->seq, b->seq->n_tok); /* what was reserved for the rest */
    if (b->n_drafted == 0) return 0;
    uint64_t start_ns = vly_clock_ns();
    rc = b->draft->ops->settle(b->draft, b->n_accepted, err);
    b->map_ns += (double)(vly_clock_ns() - start_ns);
    return rc;
}

/* ---- Ahead of the host ---- */

_Static_assert(VLY_BLOCK_DRAFT == VLY_MAX_DRAFT, "shaders/block.h has the limit of volley.h");

void vly_block_run_ahead(vly_block *b)
{
    struct vly_blocks *blocks = vly_model_blocks(b->target);
    blocks->left = b->left;
    blocks->n_draft = b->n_drafted;
    blocks->forced = b->forced_length;
    blocks->forced_rest = b->forced_rest;
    if (b->n_drafted) b->draft->ops->begin_ahead(b->draft, blocks);
    b->ahead = b->continued = true;
    b->n_done = 0;
}

/* The same as `finish`, of what the device decided. */
static int finish_ahead(vly_block *b, vly_error *err)
{
    uint32_t at = b->n_done++ % VLY_MAX_AHEAD, id = vly_model_results(b->target)->advanced[at];
    const struct vly_block_result *result = &vly_model_blocks(b->target)->result[at];
    b->continued = result->continued;
    b->n_rows = result->n_decided > 0;
    if (b->n_rows == 0) return 0;
    b->n_fed = 1;
    b->n_drafted = result->n_drafted;
    b->n_accepted = result->n_decided - 1;
    b->lost_rank = result->rank;
    b->drafted = result->drafted;
    if (id == VLY_NO_ID) return no_pick(b, err);
    if (b->forced_length > 0) force_acceptance(b);
    memcpy(b->tokens, result->drafted, b->n_accepted * sizeof *b->tokens);
    b->tokens[b->n_accepted] = id;
    vly_kv_commit(b->seq, b->n_fed + b->n_accepted);
    b->map_ns = 0;
    if (b->n_drafted == 0) return 0;
    uint64_t start_ns = vly_clock_ns();
    int rc =
        b->draft->ops->settle_ahead(b->draft, result->draft_id, b->n_drafted, b->n_accepted, err);
    b->map_ns = (double)(vly_clock_ns() - start_ns);
    return rc;
}

int vly_block_finish(vly_block *b, vly_error *err)
{
    if (vly_model_stalled(b->target))
        return vly_fail(err, VLY_E_DEVICE,
                        "a step waited in vain for the one before it: the device did not run them "
                        "in order");
    return b->ahead ? finish_ahead(b, err) : finish(b, err);
}
