#include "spec/block.h"

#include "spec/accept.h"

#include <stdlib.h>
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

static int add(vly_block *b, vly_submission *list, vly_pass pass, uint32_t n, vly_error *err)
{
    return vly_model_pass(b->target, pass, n, &list->commands[list->n++], err);
}

static void add_mark(vly_block *b, vly_submission *list, int i)
{
    if (b->mark[i]) list->commands[list->n++] = b->mark[i];
}

/* The step of the verify pass: the last token of the text, then the drafted ones, whose ids the
 * draft writes. */
static void write_verify_step(vly_block *b, const struct vly_step_sampling *sampling)
{
    struct vly_step *step = vly_model_step(b->target, VLY_STEP_BUFFER_DECODE);
    uint32_t pos = b->seq->n_tok;
    step->n_tok = step->n_rows = b->n_drafted + 1;
    step->sampling[b->seq->slot] = *sampling;
    step->token[0].id = b->text->data[b->text->len - 1];
    for (uint32_t j = 0; j <= b->n_drafted; j++) {
        step->token[j].pos = pos + j;
        step->token[j].slot = b->seq->slot;
        step->token[j].first = 0;
        step->row[j] = j;
    }
}

/* The least pass for the drafted tokens and the last one that was warmed up; that of the longest
 * proposal always was. */
static uint32_t pass_size(const vly_block *b)
{
    uint32_t n = b->n_drafted + 1;
    while (n <= b->draft_max && !vly_model_has_pass(b->target, VLY_PASS_LAYERS, n)) n++;
    return n;
}

int vly_block_prepare(vly_block *b, uint32_t k, vly_submission *list, vly_error *err)
{
    struct vly_step_sampling sampling = step_sampling(b->sampling);
    uint32_t pos = b->seq->n_tok;
    int rc = 0;
    b->n_drafted = 0;
    add_mark(b, list, 0);
    if (k > 0 && b->draft) {
        vly_draft_input in = {&sampling, vly_model_step(b->target, VLY_STEP_BUFFER_DECODE),
                              b->left};
        rc = b->draft->ops->propose(b->draft, &in, k, list, &b->n_drafted, err);
        if (rc) return rc;
    }
    add_mark(b, list, 1);
    if ((rc = vly_kv_reserve(b->seq, pos + b->n_drafted + 1, err))) return rc;
    write_verify_step(b, &sampling);
    uint32_t n = pass_size(b);
    b->n_pass = vly_model_bucket(VLY_PASS_LAYERS, n);
    bool on_host = vly_sampling_needs_host(b->sampling);
    if ((rc = add(b, list, VLY_PASS_LAYERS, n, err)) || (rc = add(b, list, VLY_PASS_HEAD, n, err)))
        return rc;
    if (!on_host && (rc = add(b, list, VLY_PASS_PICK, n, err))) return rc;
    if ((on_host || b->logprobs) && (rc = add(b, list, VLY_PASS_READ, n, err))) return rc;
    add_mark(b, list, 2);
    return 0;
}

/* How likely the token decided at position j of the block was. */
static void take_logprobs(vly_block *b, uint32_t j, const float *logits)
{
    if (!b->logprobs) return;
    b->likely[j] = vly_logprobs(logits, vly_model_head_rows(b->target), b->tokens[j], b->n_top,
                                b->top + (size_t)j * b->n_top);
}

/* The target's picks with penalties and bias: row after row on the host, each with the tokens
 * before it as its history, up to the first that differs from the draft's. */
static int pick_on_host(vly_block *b, const uint32_t *drafted, vly_error *err)
{
    uint32_t n_vocab = vly_model_head_rows(b->target), stride = vly_model_logits_stride(b->target);
    size_t len = b->text->len;
    uint32_t *history = malloc((len + b->n_drafted + 1) * sizeof *history);
    float *row = malloc(n_vocab * sizeof *row);
    int rc = 0;
    if (!history || !row) rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory to pick on the host");
    if (rc == 0) memcpy(history, b->text->data, len * sizeof *history);
    for (uint32_t j = 0; rc == 0 && j <= b->n_drafted; j++) {
        memcpy(row, vly_model_logits(b->target) + (size_t)j * stride, n_vocab * sizeof *row);
        vly_sample_adjust(b->sampling, history, len + j, row, n_vocab);
        rc = vly_sample_pick(b->sampling, row, n_vocab, b->seq->n_tok + 1 + j, NULL, &b->tokens[j],
                             err);
        if (rc == 0) take_logprobs(b, j, row);
        history[len + j] = b->tokens[j];
        b->n_accepted = j;
        if (j < b->n_drafted && drafted[j] != b->tokens[j]) break;
    }
    free(history);
    free(row);
    return rc;
}

/* How many proposals are to pass for right: the wanted mean, in whole tokens over the blocks. */
static uint32_t force_acceptance(vly_block *b)
{
    if (b->n_drafted == 0) return 0;
    double wanted = b->forced_length - 1 + b->forced_rest;
    uint32_t n = wanted >= b->n_drafted ? b->n_drafted : wanted > 0 ? (uint32_t)wanted : 0;
    b->forced_rest = wanted - n < 1 ? wanted - n : 0;
    return n;
}

int vly_block_finish(vly_block *b, vly_error *err)
{
    const uint32_t *drafted = b->n_drafted ? b->draft->ops->proposed(b->draft) : NULL;
    int rc;
    if (vly_sampling_needs_host(b->sampling)) {
        if ((rc = pick_on_host(b, drafted, err))) return rc;
    } else {
        const uint32_t *pick = vly_model_results(b->target)->id;
        b->n_accepted = vly_accept(drafted, pick, b->n_drafted);
        if (pick[b->n_accepted] == VLY_NO_ID)
            return vly_fail(err, VLY_E_FORMAT,
                            "position %u: expected finite logits, but those of %s leave no token "
                            "to pick: its weights are broken",
                            b->seq->n_tok + b->n_accepted, vly_model_get_config(b->target)->name);
        if (b->forced_length > 0) b->n_accepted = force_acceptance(b);
        if (b->n_accepted > 0) memcpy(b->tokens, drafted, b->n_accepted * sizeof *drafted);
        b->tokens[b->n_accepted] = pick[b->n_accepted];
        for (uint32_t j = 0; j <= b->n_accepted; j++)
            take_logprobs(
                b, j, vly_model_logits(b->target) + (size_t)j * vly_model_logits_stride(b->target));
    }
    uint32_t pos = b->seq->n_tok;
    vly_kv_commit(b->seq, b->n_drafted + 1);
    vly_kv_truncate(b->seq, pos + b->n_accepted + 1);
    return b->n_drafted ? b->draft->ops->settle(b->draft, b->n_accepted, err) : 0;
}
