/* A running sequence: reads its prompt in chunks, then runs block after block. */
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
    if (!s->running)
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
    s->block.forced_length = mean_length;
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
    if (b->n_drafted == 0) return;
    bool cut = ended && n_taken <= b->n_accepted;
    uint32_t accepted = cut ? n_taken : b->n_accepted, lost = b->n_drafted - accepted;
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

/* Device times of the block's halves; zeros where the device has no clock. */
static void read_times(const vly_sequence *s, vly_outcome *o)
{
    uint64_t t[3];
    for (int i = 0; i < 3; i++)
        if (!s->engine->mark[i] || vly_gpu_commands_times(s->engine->mark[i], 1, &t[i], NULL))
            return;
    if (s->block.n_drafted) o->draft_ns = (double)(t[1] - t[0]);
    o->verify_ns = (double)(t[2] - t[1]);
}

static void observe(vly_sequence *s)
{
    const vly_block *b = &s->block;
    vly_outcome o = {.n_drafted = b->n_drafted, .n_accepted = b->n_accepted, .n_tok = b->n_pass};
    read_times(s, &o);
    o.wall_ns = (double)(vly_clock_ns() - s->turn_ns);
    s->stats.draft_ms += o.draft_ns * 1e-6;
    s->stats.verify_ms += o.verify_ns * 1e-6;
    if (s->draft && s->draft->ops->observe) s->draft->ops->observe(s->draft, &o);
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

/* The step is over: the next one can begin. */
static void step_over(vly_sequence *s)
{
    vly_engine *e = s->engine;
    e->stepping = NULL;
    e->metrics.steps++;
    e->metrics.step_ms += vly_ms_since(e->step_start_ns);
}

static void block_done(void *arg, int rc, const vly_error *gpu_error)
{
    vly_sequence *s = arg;
    vly_engine *e = s->engine;
    vly_error err;
    bool ended = false;
    uint32_t n_taken = 0;
    if (e->closing) return;
    step_over(s);
    if (rc) {
        err = *gpu_error;
    } else {
        rc = vly_block_finish(&s->block, &err);
        s->stats.generate_ms = vly_ms_since(s->block_ns);
    }
    if (rc == 0) {
        rc = take_tokens(s, &n_taken, &ended);
        if (rc) vly_fail(&err, rc, "no memory for the text");
        s->stats.blocks++;
        count_drafted(s, n_taken, ended);
        observe(s);
    }
    if (rc)
        vly_sequence_finish(s, VLY_FINISH_ERROR, &err);
    else if (ended)
        vly_sequence_finish(s, VLY_FINISH_STOP, NULL);
    vly_engine_advance(e);
}

static int submit(vly_sequence *s, const vly_submission *list, vly_gpu_done done, vly_error *err)
{
    vly_engine *e = s->engine;
    int rc = vly_gpu_submit(e->gpu, list->commands, list->n, done, s, NULL, err);
    if (rc == 0) {
        e->stepping = s;
        e->step_start_ns = vly_clock_ns();
    }
    return rc;
}

static void block_start(vly_sequence *s)
{
    vly_engine *e = s->engine;
    vly_error err;
    uint32_t room = e->info.n_ctx - (uint32_t)s->text.len;
    uint32_t left = s->request.max_tokens - s->stats.generated_tokens;
    if (room < left) left = room;
    if (left == 0) {
        vly_sequence_finish(s, VLY_FINISH_LENGTH, NULL);
        return;
    }
    /* A block of k drafted tokens decides up to k + 1. */
    uint32_t k = s->draft ? s->request.draft_max : 0;
    if (k > left - 1) k = left - 1;
    s->block.left = left;
    if (s->block_ns == 0) {
        s->stats.prompt_ms = vly_ms_since(s->start_ns);
        s->block_ns = vly_clock_ns();
    }
    vly_submission list = {.n = 0};
    int rc = vly_block_prepare(&s->block, k, &list, &err);
    if (rc == 0) rc = submit(s, &list, block_done, &err);
    if (rc) vly_sequence_finish(s, VLY_FINISH_ERROR, &err);
}

/* ---- The prompt ---- */

static void prompt_done(void *arg, int rc, const vly_error *err)
{
    vly_sequence *s = arg;
    vly_engine *e = s->engine;
    if (e->closing) return;
    step_over(s);
    if (rc) {
        vly_sequence_finish(s, VLY_FINISH_ERROR, err);
    } else {
        vly_kv_commit(&s->seq, s->n_read);
        if (s->reading_draft) s->draft->ops->read_done(s->draft);
    }
    vly_engine_advance(e);
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
    struct vly_step *step = vly_model_step(s->engine->target, VLY_STEP_BUFFER_PROMPT);
    step->n_tok = n;
    vly_step_write(step, 0, s->text.data + s->seq.n_tok, n, s->seq.n_tok, s->seq.slot);
    return vly_model_pass(s->engine->target, VLY_PASS_PROMPT, n, &list->commands[list->n++], err);
}

/* Goes on with the prompt, with what the draft has to read, or with the next block. */
void vly_sequence_step(vly_sequence *s)
{
    vly_error err;
    vly_submission list = {.n = 0};
    s->turn_ns = vly_clock_ns();
    int rc = read_target(s, &list, &err);
    uint32_t n = list.n;
    if (rc == 0 && s->draft) rc = s->draft->ops->read(s->draft, &list, &err);
    s->reading_draft = list.n > n;
    if (rc == 0 && list.n == 0) {
        block_start(s);
        return;
    }
    if (rc == 0) rc = submit(s, &list, prompt_done, &err);
    if (rc) vly_sequence_finish(s, VLY_FINISH_ERROR, &err);
}

/* ---- Beginning ---- */

int vly_engine_warm_up(vly_engine *e, vly_model *model, vly_pass pass, uint32_t n, vly_error *err)
{
    vly_gpu_commands *commands;
    uint64_t ticket;
    if (vly_model_has_pass(model, pass, n)) return 0;
    vly_step_buffer which =
        pass >= VLY_PASS_DRAFT_LAYERS ? VLY_STEP_BUFFER_DRAFT : VLY_STEP_BUFFER_DECODE;
    vly_model_step(model, which)->n_tok = vly_model_step(model, which)->n_rows = 0;
    int rc = vly_model_pass(model, pass, n, &commands, err);
    if (rc == 0) rc = vly_gpu_submit(e->gpu, &commands, 1, NULL, NULL, &ticket, err);
    return rc ? rc : vly_gpu_wait(e->gpu, ticket, err);
}

/* Everything that the blocks of a sequence run: the target's passes over one token and over a whole
 * proposal, the draft's over one token and over what it has to take in. */
static int warm_up_blocks(vly_sequence *s, vly_error *err)
{
    vly_engine *e = s->engine;
    bool governed = s->draft && s->request.draft_method == VLY_DRAFT_AUTO;
    uint32_t most = (s->draft && !governed ? s->request.draft_max : 0) + 1;
    bool on_host = vly_sampling_needs_host(&s->request.sampling), read = s->request.logprobs;
    int rc = 0;
    for (uint32_t n = 1; rc == 0 && n <= most; n += most > 1 ? most - 1 : 1)
        if ((rc = vly_engine_warm_up(e, e->target, VLY_PASS_LAYERS, n, err)) == 0 &&
            (rc = vly_engine_warm_up(e, e->target, VLY_PASS_HEAD, n, err)) == 0 &&
            (on_host || (rc = vly_engine_warm_up(e, e->target, VLY_PASS_PICK, n, err)) == 0) &&
            (on_host || read))
            rc = vly_engine_warm_up(e, e->target, VLY_PASS_READ, n, err);
    if (rc || !s->draft || vly_draft_method_model_use(s->request.draft_method) != VLY_MODEL_NEEDED)
        return rc;
    for (int pass = VLY_PASS_DRAFT_LAYERS; rc == 0 && pass <= VLY_PASS_DRAFT_PICK; pass++)
        rc = vly_engine_warm_up(e, e->draft, pass, 1, err);
    if (rc || (rc = vly_engine_warm_up(e, e->draft, VLY_PASS_HEAD, 1, err)) ||
        (rc = vly_engine_warm_up(e, e->draft, VLY_PASS_PICK, 1, err)))
        return rc;
    /* The draft takes in what a block wrote without it: a pick, or a whole block of n-grams. */
    uint32_t fed = s->request.draft_method == VLY_DRAFT_MODEL ? 4 : 16;
    for (uint32_t n = 1; rc == 0 && n <= fed; n *= 2)
        rc = vly_engine_warm_up(e, e->draft, VLY_PASS_LAYERS, n, err);
    return rc;
}

int vly_sequence_begin(vly_sequence *s, vly_error *err)
{
    vly_engine *e = s->engine;
    s->running = true;
    int rc = 0;
    if (s->request.draft_method == VLY_DRAFT_AUTO && s->request.draft_max > 0)
        rc = vly_engine_calibrate(e, err);
    if (rc == 0) rc = vly_kv_seq_init(vly_model_kv(e->target), &s->seq, err);
    if (rc == 0 && s->request.draft_max > 0) {
        vly_draft_source source = {.text = &s->text,
                                   .text_tokenizer = e->target_tokenizer,
                                   .model = e->draft,
                                   .model_tokenizer = e->draft_tokenizer,
                                   .profile = &e->profile,
                                   .sampled = s->request.sampling.temperature > 0};
        rc = vly_draft_create(s->request.draft_method, &source, &s->draft, err);
    }
    if (rc == 0) rc = warm_up_blocks(s, err);
    s->start_ns = vly_clock_ns();
    s->stats.queue_ms = (double)(s->start_ns - s->queued_ns) * 1e-6;
    vly_block *b = &s->block;
    b->target = e->target;
    b->seq = &s->seq;
    b->draft = s->draft;
    b->sampling = &s->request.sampling;
    b->text = &s->text;
    b->mark = e->mark;
    b->draft_max = s->draft ? s->request.draft_max : 0;
    b->logprobs = s->request.logprobs;
    b->n_top = s->request.n_top_logprobs;
    return rc;
}
