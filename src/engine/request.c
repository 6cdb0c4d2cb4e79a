/* Requests become sequences: what is asked for is checked and copied, and waits for its turn. */
#include "engine/engine_internal.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

static int encode(const vly_engine *e, const vly_request *r, vly_ids *out, vly_error *err)
{
    /* Text that is far too long should not take the time that cutting it into tokens takes. */
    size_t most = e->info.n_ctx * e->max_token_bytes;
    if (r->prompt_len > most)
        return vly_fail(err, VLY_E_CONTEXT,
                        "the prompt has %zu bytes; the context of %u tokens has room for %zu "
                        "at most",
                        r->prompt_len, e->info.n_ctx, most);
    unsigned flags = r->parse_special ? VLY_ENCODE_PARSE_SPECIAL : 0;
    if (vly_tokenizer_adds_bos(e->target_tokenizer)) flags |= VLY_ENCODE_BOS;
    return vly_tokenizer_encode(e->target_tokenizer, r->prompt, r->prompt_len, flags, out, err);
}

int vly_engine_encode_prompt(const vly_engine *e, const vly_request *r, uint32_t **ids, size_t *n,
                             vly_error *err)
{
    vly_ids out = {0};
    int rc = encode(e, r, &out, err);
    if (rc) {
        vly_ids_free(&out);
        return rc;
    }
    *ids = out.data;
    *n = out.len;
    return 0;
}

/* The prompt as target tokens in s->text. */
static int take_prompt(vly_sequence *s, const vly_request *r, vly_error *err)
{
    vly_engine *e = s->engine;
    int rc;
    if (r->prompt_tokens) {
        for (size_t i = 0; i < r->n_prompt_tokens; i++)
            if (r->prompt_tokens[i] >= e->info.n_vocab)
                return vly_fail(err, VLY_E_INVALID, "prompt token %zu is %u; the vocabulary has %u",
                                i, r->prompt_tokens[i], e->info.n_vocab);
        rc = vly_ids_append(&s->text, r->prompt_tokens, r->n_prompt_tokens);
        if (rc) return vly_fail(err, rc, "no memory for the prompt");
    } else if ((rc = encode(e, r, &s->text, err))) {
        return rc;
    }
    if (s->text.len == 0)
        return vly_fail(err, VLY_E_INVALID,
                        "the prompt is empty, and the model has no beginning-of-text token");
    if (s->text.len >= e->info.n_ctx)
        return vly_fail(
            err, VLY_E_CONTEXT,
            "the prompt has %zu token%s; the context of %u has room for %u and a token of text",
            s->text.len, vly_plural(s->text.len), e->info.n_ctx, e->info.n_ctx - 1);
    s->stats.prompt_tokens = (uint32_t)s->text.len;
    /* Room for the whole text, so that no block has to make some. */
    uint32_t room = e->info.n_ctx - s->stats.prompt_tokens;
    if (vly_ids_reserve(&s->text, r->max_tokens < room ? r->max_tokens : room))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a text of %u tokens", e->info.n_ctx);
    return 0;
}

/* What is wrong with a request whatever its prompt is. */
static int check(const vly_engine *e, const vly_request *r, vly_error *err)
{
    int rc = vly_sampling_check(&r->sampling, e->info.n_vocab, err);
    if (rc) return rc;
    if (r->draft_max > VLY_MAX_DRAFT && r->draft_max != VLY_DRAFT_MAX_DEFAULT)
        return vly_fail(err, VLY_E_INVALID, "draft_max is %u; expected 0 to %d", r->draft_max,
                        VLY_MAX_DRAFT);
    if (r->n_top_logprobs > VLY_MAX_TOP_LOGPROBS)
        return vly_fail(err, VLY_E_INVALID, "n_top_logprobs is %u; expected 0 to %d",
                        r->n_top_logprobs, VLY_MAX_TOP_LOGPROBS);
    if (r->priority < VLY_PRIORITY_LOW || r->priority > VLY_PRIORITY_HIGH)
        return vly_fail(err, VLY_E_INVALID, "priority is %d; expected %d to %d", (int)r->priority,
                        VLY_PRIORITY_LOW, VLY_PRIORITY_HIGH);
    if (r->draft_method != VLY_DRAFT_DEFAULT && r->draft_max > 0)
        return vly_draft_check(r->draft_method, e->draft != NULL, err);
    return 0;
}

/* Copies what the request points to. */
static int take_request(vly_sequence *s, const vly_request *r, vly_error *err)
{
    s->request = *r;
    s->request.stop = NULL; /* in s->output */
    s->request.prompt = NULL;
    s->request.prompt_tokens = NULL;
    s->request.sampling.bias = NULL;
    if (r->draft_max == VLY_DRAFT_MAX_DEFAULT)
        s->request.draft_max = vly_draft_method_default_max(r->draft_method);
    if (r->draft_method == VLY_DRAFT_DEFAULT) s->request.draft_method = VLY_DRAFT_AUTO;
    size_t n_bias = r->sampling.n_bias;
    if (n_bias) {
        s->bias = malloc(n_bias * sizeof *s->bias);
        if (!s->bias) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %zu biases", n_bias);
        memcpy(s->bias, r->sampling.bias, n_bias * sizeof *s->bias);
        s->request.sampling.bias = s->bias;
    }
    if (r->logprobs && r->n_top_logprobs) {
        s->block.top = calloc((size_t)VLY_BLOCK_TOKENS * r->n_top_logprobs, sizeof *s->block.top);
        if (!s->block.top)
            return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for log-probabilities");
    }
    vly_engine *e = s->engine;
    if (vly_sampling_needs_host(&r->sampling) && !e->pick_scratch) {
        uint32_t n = vly_model_head_rows(e->target);
        e->pick_scratch = malloc(2 * (size_t)n * sizeof *e->pick_scratch);
        if (!e->pick_scratch)
            return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to sort %u logits", n);
    }
    s->block.scratch = e->pick_scratch;
    int rc = take_prompt(s, r, err);
    return rc ? rc
              : vly_output_init(&s->output, s->engine->target_tokenizer, s->text.data, s->text.len,
                                r->stop, r->n_stop, err);
}

static int copy_prompt(const vly_sequence *s, uint32_t **ids, size_t *n, vly_error *err)
{
    *n = s->text.len;
    *ids = malloc(s->text.len * sizeof **ids);
    if (!*ids) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the prompt");
    memcpy(*ids, s->text.data, s->text.len * sizeof **ids);
    return 0;
}

static void append(vly_engine *e, vly_sequence *s)
{
    s->previous = e->last;
    *(e->last ? &e->last->next : &e->first) = s;
    e->last = s;
    e->n_sequences++;
}

int vly_engine_start(vly_engine *e, const vly_request *request, vly_sequence **out,
                     uint32_t **prompt_ids, size_t *n_prompt_ids, vly_error *err)
{
    int rc = check(e, request, err);
    if (rc) return rc;
    if (e->n_sequences >= (uint64_t)e->n_parallel + e->n_queued)
        return vly_fail(
            err, VLY_E_BUSY, "%u sequence%s there already; no more than %u may run and %u wait",
            e->n_sequences, e->n_sequences == 1 ? " is" : "s are", e->n_parallel, e->n_queued);
    vly_sequence *s = calloc(1, sizeof *s);
    if (!s) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a sequence");
    s->engine = e;
    s->stats.stop_index = -1;
    rc = take_request(s, request, err);
    if (rc == 0 && prompt_ids && n_prompt_ids) rc = copy_prompt(s, prompt_ids, n_prompt_ids, err);
    if (rc) {
        vly_sequence_destroy(s);
        return rc;
    }
    s->queued_ns = vly_clock_ns();
    s->age = e->n_ever++;
    if (e->n_sequences == 0) atomic_store(&e->interrupted, false);
    append(e, s);
    vly_engine_wake(e);
    *out = s;
    return 0;
}
