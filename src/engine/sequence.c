/* A sequence: its place in the caches, its blocks' tokens on their way out, its end. */
#include "engine/engine_internal.h"

#include "base/clock.h"
#include "engine/inside.h"

#include <stdlib.h>
#include <string.h>

double vly_ms_since(uint64_t start_ns)
{
    return (double)(vly_clock_ns() - start_ns) * 1e-6;
}

/* ---- Ending ---- */

static void unlink_sequence(vly_sequence *s)
{
    vly_engine *e = s->engine;
    if (!s->previous && e->first != s) return; /* never was among them */
    *(s->previous ? &s->previous->next : &e->first) = s->next;
    *(s->next ? &s->next->previous : &e->last) = s->previous;
    e->n_sequences--;
}

void vly_sequence_destroy(vly_sequence *s)
{
    unlink_sequence(s);
    if (s->draft) s->draft->ops->destroy(s->draft);
    vly_kv_seq_deinit(&s->seq);
    vly_output_deinit(&s->output);
    vly_ids_free(&s->text);
    free(s->block.top);
    free(s->bias);
    free(s);
}

void vly_sequence_finish(vly_sequence *s, vly_finish how, const vly_error *err)
{
    vly_engine *e = s->engine;
    const vly_request r = s->request;
    s->stats.kv_target_bytes = vly_kv_peak_bytes(vly_model_kv(e->target));
    if (e->draft) s->stats.kv_draft_bytes = vly_kv_peak_bytes(vly_model_kv(e->draft));
    if (!s->begun)
        s->stats.queue_ms = vly_ms_since(s->queued_ns);
    else if (s->block_ns == 0)
        s->stats.prompt_ms = vly_ms_since(s->start_ns);
    s->stats.stop_index = s->output.stop_index;
    vly_output_finish(&s->output); /* without memory for them, held back bytes are lost */
    vly_bytes text = vly_output_take(&s->output);
    if (r.on_finish) r.on_finish(r.arg, how, &s->stats, text.data, text.len, err);
    vly_sequence_destroy(s);
}

void vly_sequence_cancel(vly_sequence *s)
{
    s->cancelled = true;
    vly_engine_wake(s->engine);
}

void vly_sequence_pause(vly_sequence *s, bool paused)
{
    s->paused = paused;
    vly_engine_wake(s->engine);
}

void vly_sequence_force_acceptance(vly_sequence *s, double mean_length)
{
    s->block.forced_length = (uint32_t)(mean_length * 65536 + 0.5);
}

const char *vly_finish_name(vly_finish finish)
{
    static const char *const names[] = {"stop", "length", "cancelled", "error"};
    return names[finish];
}

/* ---- Blocks ---- */

/* Of the tokens decided, the first `n_taken` were looked at; the last of these may have ended the
 * text. */
static void count_drafted(vly_sequence *s, uint32_t n_taken, bool ended)
{
    const vly_block *b = &s->block;
    vly_stats *st = &s->stats;
    bool cut = ended && n_taken <= b->n_accepted;
    uint32_t accepted = cut ? n_taken : b->n_accepted;
    vly_draft_method method = b->n_drafted ? s->draft->proposer : VLY_DRAFT_NONE;
    st->blocks++;
    st->blocks_by_length[b->n_drafted]++;
    st->blocks_by_method[method]++;
    st->probes += b->n_drafted && s->draft->probing;
    st->drafted += b->n_drafted;
    st->accepted += accepted;
    st->drafted_by_method[method] += b->n_drafted;
    st->accepted_by_method[method] += accepted;
    for (uint32_t i = 0; i < b->n_drafted; i++) {
        st->drafted_by_position[i]++;
        st->accepted_by_position[i] += i < accepted;
    }
    vly_losses_block losses = {.drafted = b->drafted,
                               .decided = b->tokens,
                               .n_drafted = b->n_drafted,
                               .n_accepted = accepted,
                               .n_decided = n_taken,
                               .ended = cut,
                               .by_model = method == VLY_DRAFT_MODEL,
                               .pick = b->tokens[b->n_accepted],
                               .rank = b->lost_rank};
    vly_losses_add(&s->losses, &losses, st);
}

/* Adds decided tokens to the text, up to its end: *n_taken of them were looked at, of which the
 * last may be an end of text and so no part of it. */
static int take_tokens(vly_sequence *s, uint32_t *n_taken, bool *ended)
{
    uint32_t n = 0, left = s->request.max_tokens - s->stats.generated_tokens;
    const uint32_t *ids = s->block.tokens;
    int rc = 0;
    *ended = false;
    for (*n_taken = 0; !*ended && *n_taken <= s->block.n_accepted && *n_taken < left; ++*n_taken) {
        uint32_t id = ids[*n_taken];
        *ended = !s->request.ignore_end && vly_tokenizer_is_end(s->engine->target_tokenizer, id);
        if (*ended) continue;
        if ((rc = vly_output_push(&s->output, id)) || (rc = vly_ids_push(&s->text, id))) return rc;
        s->stats.generated_bytes += vly_tokenizer_bytes(s->engine->target_tokenizer, id).len;
        *ended = s->output.stop_index >= 0;
        n++;
    }
    s->stats.generated_tokens += n;
    vly_bytes text = vly_output_take(&s->output);
    if (s->request.on_tokens && n > 0)
        s->request.on_tokens(s->request.arg, ids, s->block.logprobs ? s->block.likely : NULL, n,
                             text.data, text.len);
    return 0;
}

/* Tokens that its draft took in, in the step that is done. */
static uint32_t n_fed(const vly_sequence *s)
{
    const vly_draft_batch *b = &s->engine->step.batch.draft;
    bool followed = s->block.ahead && s->block.n_done > 1;
    return b->n_rows && !followed ? b->n_fed / b->n_rows : 0;
}

void vly_sequence_block_waited(vly_sequence *s, const vly_outcome *o)
{
    s->waited.n_fed += n_fed(s);
    s->waited.draft_ns += o->draft_ns;
    s->waited.wall_ns += o->wall_ns;
    s->waited.map_ns += s->block.map_ns;
}

static vly_arm arm_of(const vly_block *b)
{
    if (b->n_drafted == 0) return VLY_ARM_NONE;
    return b->draft->proposer == VLY_DRAFT_MODEL  ? VLY_ARM_MODEL
           : b->draft->proposer == VLY_DRAFT_TEXT ? VLY_ARM_TEXT
                                                  : VLY_ARM_NGRAM;
}

/* What the step took in which n_decided tokens of the text came to be, and those before it that
 * drafted for it: to the statistics, the profile and the draft. */
static void observe(vly_sequence *s, vly_outcome o, uint32_t n_decided)
{
    const vly_block *b = &s->block;
    vly_profile *p = &s->engine->profile;
    vly_stats *st = &s->stats;
    const vly_outcome waited = s->waited;
    s->waited = (vly_outcome){0};
    /* A block that drafted nothing is plain decoding. */
    double plain_ns = n_decided * (p->verify_ns + vly_profile_overhead_ns(p, VLY_ARM_NONE));
    st->plain_ms += (b->n_drafted ? plain_ns : o.wall_ns) * 1e-6;
    o.wall_ns += waited.wall_ns;
    o.map_ns = b->map_ns + waited.map_ns;
    if (b->n_drafted) st->draft_ms += o.draft_ns * 1e-6;
    st->draft_ms += waited.draft_ns * 1e-6;
    st->verify_ms += o.verify_ns * 1e-6;
    st->map_ms += o.map_ns * 1e-6;
    if (st->blocks > 1) st->idle_ms += o.idle_ns * 1e-6;
    double wait_ns = o.wall_ns - o.draft_ns - waited.draft_ns - o.verify_ns - o.map_ns;
    if (wait_ns > 0) st->wait_ms += wait_ns * 1e-6;
    /* The draft steps of all sequences take as long as those of the one with the most. */
    uint32_t n_steps = s->engine->step.batch.draft.n_steps;
    o.draft_ns = waited.wall_ns > 0 ? waited.draft_ns
                 : n_steps          ? o.draft_ns * b->n_drafted / n_steps
                                    : 0;
    o.n_drafted = b->n_drafted;
    o.n_accepted = b->n_accepted;
    o.n_fed = waited.n_fed ? waited.n_fed : n_fed(s);
    o.first = vly_engine_ahead_first(s->engine, s);
    vly_profile_learn(p, arm_of(b), &o);
    if (s->draft && s->draft->ops->observe) s->draft->ops->observe(s->draft, &o);
}

void vly_sequence_offer(vly_sequence *s)
{
    uint32_t n = s->seq.n_tok < s->text.len ? s->seq.n_tok : (uint32_t)s->text.len;
    if (s->engine->prompts_as_decoding) vly_kv_offer(&s->seq, s->text.data, n);
}

void vly_sequence_block_done(vly_sequence *s, const vly_outcome *step)
{
    vly_error err;
    bool ended = false;
    uint32_t n_taken = 0;
    int rc = vly_block_finish(&s->block, &err);
    /* Only what the cache had lost was fed, or it was in flight where nothing could follow. */
    if (rc == 0 && s->block.n_rows == 0) return;
    s->stats.generate_ms = vly_ms_since(s->block_ns);
    if (rc == 0) {
        rc = take_tokens(s, &n_taken, &ended);
        if (rc) vly_fail(&err, rc, "no memory for the text");
        count_drafted(s, n_taken, ended);
        observe(s, *step, n_taken);
    }
    if (rc == 0 && !s->block.ahead) vly_sequence_offer(s);
    if (rc) s->failure = err;
    s->ended = ended;
}

uint32_t vly_sequence_room(const vly_sequence *s)
{
    uint32_t room = s->engine->info.n_ctx - (uint32_t)s->text.len;
    uint32_t left = s->request.max_tokens - s->stats.generated_tokens;
    return left < room ? left : room;
}

/* ---- Its place ---- */

/* What earlier texts left in the target's cache. */
static void share_prefix(vly_sequence *s)
{
    vly_engine_metrics *m = &s->engine->metrics;
    uint32_t n = 0;
    if (!s->request.no_prefix_reuse) n = vly_kv_share(&s->seq, s->text.data, s->n_prompt);
    if (s->begun) return; /* it resumes */
    s->stats.n_cached_tokens = n;
    m->prefix_hit_tokens += n;
    m->prefix_miss_tokens += s->stats.prompt_tokens - n;
}

static int create_draft(vly_sequence *s, vly_error *err)
{
    vly_engine *e = s->engine;
    vly_draft_source source = {.text = &s->text,
                               .text_tokenizer = e->target_tokenizer,
                               .model = e->draft,
                               .model_tokenizer = e->draft_tokenizer,
                               .map = &e->map,
                               .words = &e->words,
                               .profile = &e->profile,
                               .sampled = s->request.sampling.temperature > 0,
                               .left = e->n_sequences == 1 ? vly_sequence_room(s) : 0,
                               .compute_all = s->request.no_prefix_reuse};
    if (s->request.draft_max == 0) return 0;
    return vly_draft_create(s->request.draft_method, &source, &s->draft, err);
}

int vly_sequence_begin(vly_sequence *s, vly_error *err)
{
    vly_engine *e = s->engine;
    int rc = 0;
    s->running = true;
    s->n_prompt = s->stats.prompt_tokens - 1;
    /* What it generated before it lost its place. */
    if (e->prompts_as_decoding) s->n_prompt = (uint32_t)s->text.len - 1;
    bool all = s->request.draft_method == VLY_DRAFT_AUTO;
    if (s->request.draft_method != VLY_DRAFT_NONE && s->request.draft_max > 0 &&
        !(all ? e->calibrated : e->n_calibrated > 0))
        rc = vly_engine_calibrate(e, all, err);
    if (rc == 0) rc = vly_kv_seq_init(vly_model_kv(e->target), &s->seq, err);
    if (rc == 0) share_prefix(s);
    if (rc == 0) rc = create_draft(s, err);
    if (rc == 0) rc = vly_sequence_warm_up(s, err);
    if (!s->begun) {
        s->start_ns = vly_clock_ns();
        s->stats.queue_ms = (double)(s->start_ns - s->queued_ns) * 1e-6;
    }
    s->begun = true;
    vly_block *b = &s->block;
    b->target = e->target;
    b->seq = &s->seq;
    b->draft = s->draft;
    b->sampling = &s->request.sampling;
    b->text = &s->text;
    b->logprobs = s->request.logprobs;
    b->n_top = s->request.n_top_logprobs;
    s->losses.tokenizer = e->target_tokenizer;
    s->losses.map = e->draft ? &e->map : NULL;
    return rc;
}

void vly_sequence_preempt(vly_sequence *s)
{
    s->running = false;
    s->engine->metrics.preempted++;
    if (s->draft) s->draft->ops->destroy(s->draft);
    s->draft = s->block.draft = NULL;
    vly_kv_seq_deinit(&s->seq);
}
