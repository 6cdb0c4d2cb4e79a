/* A sequence: reads its prompt in chunks, then runs block after block. Each submission's
 * completion, an event of the loop, prepares the next. */
#include "engine/engine_internal.h"

#include "base/clock.h"
#include "spec/block.h"

#include <stdlib.h>
#include <string.h>

struct vly_sequence {
    vly_engine *engine;
    vly_request request; /* its prompt is not kept */
    vly_logit_bias *bias;
    vly_ids text; /* prompt and generated tokens; the cache lacks the last */
    vly_kv_seq seq;
    vly_draft *draft;
    vly_block block;
    uint32_t n_read; /* prompt tokens in the submission under way */
    bool reading_draft;
    vly_utf8_stream utf8;
    vly_text out;  /* characters to hand out */
    bool at_start; /* nothing but control tokens so far: a dummy space in front is dropped */
    bool begun, cancelled;
    vly_stats stats;
    uint64_t start_ns, block_ns;
};

static void next(vly_sequence *s);

void vly_sequence_destroy(vly_sequence *s)
{
    if (!s) return;
    s->engine->sequence = NULL;
    if (s->draft) s->draft->ops->destroy(s->draft);
    vly_kv_seq_deinit(&s->seq);
    vly_ids_free(&s->text);
    vly_text_free(&s->out);
    free(s->bias);
    free(s);
}

static double ms_since(uint64_t start_ns)
{
    return (double)(vly_clock_ns() - start_ns) * 1e-6;
}

static void finish(vly_sequence *s, vly_finish how, const vly_error *err)
{
    vly_engine *e = s->engine;
    vly_request r = s->request;
    s->stats.kv_target_bytes = vly_kv_peak_bytes(vly_model_kv(e->target));
    if (e->draft) s->stats.kv_draft_bytes = vly_kv_peak_bytes(vly_model_kv(e->draft));
    if (s->block_ns == 0) s->stats.prompt_ms = ms_since(s->start_ns);
    s->out.len = 0;
    vly_utf8_stream_finish(&s->utf8, &s->out);
    if (r.on_finish) r.on_finish(r.arg, how, &s->stats, s->out.data, s->out.len, err);
    vly_sequence_destroy(s);
}

/* ---- Text ---- */

/* Hands out `n` decided tokens, and the characters that they complete. */
static int hand_out(vly_sequence *s, const uint32_t *ids, uint32_t n)
{
    s->out.len = 0;
    for (uint32_t i = 0; i < n; i++) {
        vly_bytes bytes = vly_tokenizer_bytes(s->engine->target_tokenizer, ids[i]);
        if (s->at_start && bytes.len > 0) {
            if (vly_tokenizer_space_prefix(s->engine->target_tokenizer) && bytes.data[0] == ' ') {
                bytes.data++;
                bytes.len--;
            }
            s->at_start = false;
        }
        int rc = vly_utf8_stream_push(&s->utf8, bytes.data, bytes.len, &s->out);
        if (rc) return rc;
    }
    if (s->request.on_tokens && n > 0)
        s->request.on_tokens(s->request.arg, ids, n, s->out.data ? s->out.data : "", s->out.len);
    return 0;
}

/* ---- Blocks ---- */

/* Of the tokens decided, the first `n_used` became text; the next one may have ended it. */
static void count_drafted(vly_sequence *s, uint32_t n_used, bool ended)
{
    const vly_block *b = &s->block;
    vly_stats *st = &s->stats;
    if (b->n_drafted == 0) return;
    bool cut = ended && n_used < b->n_accepted;
    uint32_t accepted = cut ? n_used + 1 : b->n_accepted, lost = b->n_drafted - accepted;
    st->drafted += b->n_drafted;
    st->accepted += accepted;
    st->drafted_by_method[s->draft->proposer] += b->n_drafted;
    st->accepted_by_method[s->draft->proposer] += accepted;
    for (uint32_t i = 0; i < b->n_drafted; i++) {
        st->drafted_by_position[i]++;
        st->accepted_by_position[i] += i < accepted;
    }
    if (cut) {
        st->lost_to_end += lost;
    } else if (lost > 0) {
        st->lost_to_pick++;
        st->lost_to_front += lost - 1;
    }
}

static void add_times(vly_sequence *s)
{
    vly_stats *st = &s->stats;
    uint64_t t[3];
    for (int i = 0; i < 3; i++)
        if (!s->engine->mark[i] || vly_gpu_commands_times(s->engine->mark[i], 1, &t[i], NULL))
            return;
    if (s->block.n_drafted) st->draft_ms += (double)(t[1] - t[0]) * 1e-6;
    st->verify_ms += (double)(t[2] - t[1]) * 1e-6;
}

static void block_done(void *arg, int rc, const vly_error *gpu_error)
{
    vly_sequence *s = arg;
    vly_error err;
    if (rc) {
        finish(s, VLY_FINISH_ERROR, gpu_error);
        return;
    }
    rc = vly_block_finish(&s->block, &err);
    s->stats.generate_ms = ms_since(s->block_ns);
    bool ended = false;
    uint32_t n = 0, left = s->request.max_tokens - s->stats.generated_tokens;
    const uint32_t *ids = s->block.tokens;
    for (; rc == 0 && n <= s->block.n_accepted && n < left; n++) {
        ended = !s->request.ignore_end && vly_tokenizer_is_end(s->engine->target_tokenizer, ids[n]);
        if (ended) break;
    }
    s->stats.generated_tokens += n;
    if (rc == 0) {
        s->stats.blocks++;
        count_drafted(s, n, ended);
        add_times(s);
    }
    if (rc == 0) rc = vly_ids_append(&s->text, ids, n);
    if (rc == 0) rc = hand_out(s, ids, n);
    if (rc == VLY_E_HOST_MEMORY) vly_fail(&err, rc, "no memory for the text");
    if (rc)
        finish(s, VLY_FINISH_ERROR, &err);
    else if (ended)
        finish(s, VLY_FINISH_STOP, NULL);
    else
        next(s);
}

static void block_start(vly_sequence *s)
{
    vly_engine *e = s->engine;
    vly_error err;
    uint32_t room = e->info.n_ctx - (uint32_t)s->text.len;
    uint32_t left = s->request.max_tokens - s->stats.generated_tokens;
    if (room < left) left = room;
    if (left == 0) {
        finish(s, VLY_FINISH_LENGTH, NULL);
        return;
    }
    /* A block of k drafted tokens decides up to k + 1. */
    uint32_t k = s->draft ? s->request.draft_max : 0;
    if (k > left - 1) k = left - 1;
    if (s->block_ns == 0) {
        s->stats.prompt_ms = ms_since(s->start_ns);
        s->block_ns = vly_clock_ns();
    }
    vly_submission list = {.n = 0};
    int rc = vly_block_prepare(&s->block, k, &list, &err);
    if (rc == 0) rc = vly_gpu_submit(e->gpu, list.commands, list.n, block_done, s, NULL, &err);
    if (rc) finish(s, VLY_FINISH_ERROR, &err);
}

/* ---- The prompt ---- */

static void prompt_done(void *arg, int rc, const vly_error *err)
{
    vly_sequence *s = arg;
    if (rc) {
        finish(s, VLY_FINISH_ERROR, err);
        return;
    }
    vly_kv_commit(&s->seq, s->n_read);
    if (s->reading_draft) s->draft->ops->read_done(s->draft);
    next(s);
}

/* Adds the next chunk of the prompt, without its last token: the first block feeds that one. Later
 * on nothing is left to add. */
static int read_target(vly_sequence *s, vly_submission *list, vly_error *err)
{
    uint32_t left = (uint32_t)s->text.len - 1 - s->seq.n_tok;
    uint32_t n = left < VLY_MAX_CHUNK ? left : VLY_MAX_CHUNK;
    s->n_read = n;
    if (n == 0) return 0;
    int rc = vly_kv_reserve(&s->seq, s->seq.n_tok + n, err);
    if (rc) return rc;
    struct vly_step *step = vly_model_step(s->engine->target);
    step->n_tok = n;
    for (uint32_t i = 0; i < n; i++)
        step->token[i] = (struct vly_step_token){s->text.data[s->seq.n_tok + i], s->seq.n_tok + i,
                                                 s->seq.slot, 0};
    return vly_model_pass(s->engine->target, VLY_PASS_LAYERS, n, &list->commands[list->n++], err);
}

/* Goes on with the prompt, with what the draft has to read, or with the next block. */
static void next(vly_sequence *s)
{
    vly_error err;
    vly_submission list = {.n = 0};
    s->begun = true;
    if (s->cancelled || atomic_load(&s->engine->interrupted)) {
        finish(s, VLY_FINISH_CANCELLED, NULL);
        return;
    }
    int rc = read_target(s, &list, &err);
    uint32_t n = list.n;
    if (rc == 0 && s->draft) rc = s->draft->ops->read(s->draft, &list, &err);
    s->reading_draft = list.n > n;
    if (rc == 0 && list.n == 0) {
        block_start(s);
        return;
    }
    if (rc == 0)
        rc = vly_gpu_submit(s->engine->gpu, list.commands, list.n, prompt_done, s, NULL, &err);
    if (rc) finish(s, VLY_FINISH_ERROR, &err);
}

/* ---- Beginning ---- */

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
    } else {
        unsigned flags = r->parse_special ? VLY_ENCODE_PARSE_SPECIAL : 0;
        if (vly_tokenizer_adds_bos(e->target_tokenizer)) flags |= VLY_ENCODE_BOS;
        rc = vly_tokenizer_encode(e->target_tokenizer, r->prompt, r->prompt_len, flags, &s->text,
                                  err);
        if (rc) return rc;
    }
    if (s->text.len == 0)
        return vly_fail(err, VLY_E_INVALID,
                        "the prompt is empty, and the model has no beginning-of-text token");
    if (s->text.len >= e->info.n_ctx)
        return vly_fail(
            err, VLY_E_CONTEXT,
            "the prompt has %zu tokens; the context of %u has room for %u and a token of text",
            s->text.len, e->info.n_ctx, e->info.n_ctx - 1);
    s->stats.prompt_tokens = (uint32_t)s->text.len;
    /* Room for the whole text, so that no block has to make some. */
    uint32_t room = e->info.n_ctx - s->stats.prompt_tokens;
    if (vly_ids_reserve(&s->text, r->max_tokens < room ? r->max_tokens : room))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a text of %u tokens", e->info.n_ctx);
    s->at_start = true;
    for (size_t i = 0; i < s->text.len && s->at_start; i++)
        s->at_start = vly_tokenizer_bytes(e->target_tokenizer, s->text.data[i]).len == 0;
    return 0;
}

/* Records a pass and runs it once over nothing: drivers that compile at the first dispatch do it
 * here and not in the first block. */
static int warm_up(vly_engine *e, vly_model *model, vly_pass pass, uint32_t n, vly_error *err)
{
    vly_gpu_commands *commands;
    uint64_t ticket;
    if (vly_model_has_pass(model, pass, n)) return 0;
    vly_model_step(model)->n_tok = vly_model_step(model)->n_rows = 0;
    int rc = vly_model_pass(model, pass, n, &commands, err);
    if (rc == 0) rc = vly_gpu_submit(e->gpu, &commands, 1, NULL, NULL, &ticket, err);
    return rc ? rc : vly_gpu_wait(e->gpu, ticket, err);
}

/* Everything that the blocks of a sequence run: the target's passes over one token and over a whole
 * proposal, the draft's over one token and over what it has to take in. */
static int warm_up_blocks(vly_sequence *s, vly_error *err)
{
    vly_engine *e = s->engine;
    uint32_t most = (s->draft ? s->request.draft_max : 0) + 1;
    vly_pass last = vly_sampling_needs_host(&s->request.sampling) ? VLY_PASS_READ : VLY_PASS_PICK;
    int rc = 0;
    for (uint32_t n = 1; rc == 0 && n <= most; n += most > 1 ? most - 1 : 1)
        if ((rc = warm_up(e, e->target, VLY_PASS_LAYERS, n, err)) == 0 &&
            (rc = warm_up(e, e->target, VLY_PASS_HEAD, n, err)) == 0)
            rc = warm_up(e, e->target, last, n, err);
    if (rc || !s->draft || !vly_draft_method_needs_model(s->request.draft_method)) return rc;
    if ((rc = warm_up(e, e->draft, VLY_PASS_HEAD, 1, err)) ||
        (rc = warm_up(e, e->draft, VLY_PASS_PICK, 1, err)))
        return rc;
    /* The draft takes in what a block wrote without it: a pick, or a whole block of n-grams. */
    uint32_t fed = s->request.draft_method == VLY_DRAFT_MODEL ? 4 : VLY_MAX_BATCH;
    for (uint32_t n = 1; rc == 0 && n <= fed; n *= 2)
        rc = warm_up(e, e->draft, VLY_PASS_LAYERS, n, err);
    return rc;
}

static int begin(vly_sequence *s, const vly_request *r, vly_error *err)
{
    vly_engine *e = s->engine;
    int rc = take_prompt(s, r, err);
    if (rc == 0) rc = vly_kv_seq_init(vly_model_kv(e->target), &s->seq, err);
    if (s->request.draft_method == VLY_DRAFT_DEFAULT && e->draft)
        s->request.draft_method = VLY_DRAFT_MODEL;
    if (rc == 0 && s->request.draft_method != VLY_DRAFT_DEFAULT && r->draft_max > 0) {
        vly_draft_source source = {&s->text, e->target_tokenizer, e->draft, e->draft_tokenizer};
        rc = vly_draft_create(s->request.draft_method, &source, &s->draft, err);
    }
    if (rc == 0) rc = warm_up_blocks(s, err);
    s->block = (vly_block){
        .target = e->target,
        .seq = &s->seq,
        .draft = s->draft,
        .sampling = &s->request.sampling,
        .text = &s->text,
        .mark = e->mark,
        .draft_max = s->draft ? s->request.draft_max : 0,
    };
    s->start_ns = vly_clock_ns();
    return rc;
}

int vly_engine_start(vly_engine *e, const vly_request *request, vly_sequence **out,
                     uint32_t **prompt_ids, size_t *n_prompt_ids, vly_error *err)
{
    int rc = vly_sampling_check(&request->sampling, e->info.n_vocab, err);
    if (rc) return rc;
    if (request->draft_max > VLY_MAX_DRAFT)
        return vly_fail(err, VLY_E_INVALID, "draft_max is %u; expected 0 to %d", request->draft_max,
                        VLY_MAX_DRAFT);
    if (e->sequence)
        return vly_fail(err, VLY_E_INVALID,
                        "a sequence is running; this engine runs one at a time");
    vly_sequence *s = calloc(1, sizeof *s);
    if (!s) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a sequence");
    s->engine = e;
    s->request = *request;
    size_t n_bias = request->sampling.n_bias;
    s->bias = malloc(n_bias ? n_bias * sizeof *s->bias : 1);
    if (!s->bias) rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a sequence");
    if (rc == 0 && n_bias) memcpy(s->bias, request->sampling.bias, n_bias * sizeof *s->bias);
    s->request.sampling.bias = s->bias;
    if (rc == 0) rc = begin(s, request, err);
    if (rc == 0 && prompt_ids) {
        *prompt_ids = malloc(s->text.len * sizeof **prompt_ids);
        if (!*prompt_ids) rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the prompt");
        if (rc == 0) memcpy(*prompt_ids, s->text.data, s->text.len * sizeof **prompt_ids);
        *n_prompt_ids = s->text.len;
    }
    if (rc) {
        vly_sequence_destroy(s);
        return rc;
    }
    atomic_store(&e->interrupted, false);
    e->sequence = s;
    *out = s;
    return 0;
}

void vly_sequence_begin(vly_sequence *s)
{
    if (!s->begun) next(s);
}

void vly_sequence_cancel(vly_sequence *s)
{
    s->cancelled = true;
}

const char *vly_finish_name(vly_finish finish_)
{
    static const char *const names[] = {"stop", "length", "cancelled", "error"};
    return names[finish_];
}
