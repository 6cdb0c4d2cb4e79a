/* The step: one submission for all sequences that take part. Host work lies before it (preparing)
 * and after it (completing), never within. */
#include "engine/engine_internal.h"

#include "base/clock.h"

static const vly_schedule_limits limits = {
    .n_batch = VLY_MAX_BATCH, .n_chunk = VLY_MAX_CHUNK, .n_chunk_beside = VLY_MAX_CHUNK / 2};

/* ---- Who takes part ---- */

static void collect(vly_engine *e)
{
    vly_engine_step *step = &e->step;
    step->n = 0;
    for (vly_sequence *s = e->first; s; s = s->next) {
        if (!s->running || s->paused || s->failure.code) continue;
        uint32_t at = s->seq.n_tok, len = (uint32_t)s->text.len, room = vly_sequence_room(s);
        uint32_t n_draft = s->draft && room > 0 ? s->request.draft_max : 0;
        step->sequence[step->n] = s;
        /* A block of k drafted tokens decides up to k + 1. */
        step->demand[step->n++] = (vly_schedule_demand){
            .priority = s->request.priority,
            .age = s->age,
            .n_read = at < s->n_prompt ? s->n_prompt - at : 0,
            .n_feed = at < s->n_prompt ? len - s->n_prompt : len - at,
            .n_draft = n_draft < room || room == 0 ? n_draft : room - 1,
        };
    }
}

/* Reserves pages for all that the step writes. VLY_E_BUSY: there are too few. */
static int reserve(vly_engine *e)
{
    const vly_engine_step *step = &e->step;
    for (uint32_t i = 0; i < step->n; i++) {
        vly_sequence *s = step->sequence[i];
        const vly_schedule_share *share = &step->share[i];
        vly_error err;
        int rc = vly_kv_reserve(
            &s->seq, s->seq.n_tok + share->n_read + share->n_feed + share->n_draft, &err);
        if (rc == VLY_E_BUSY) return rc;
        if (rc) s->failure = err;
    }
    return 0;
}

/* Chooses who takes part, and has pages for them; sequences may have lost their place by that. */
static void schedule(vly_engine *e)
{
    vly_engine_step *step = &e->step;
    for (;;) {
        collect(e);
        vly_schedule(&limits, step->demand, step->n, (uint32_t)e->metrics.steps, step->share);
        if (reserve(e) == 0) return;
        if (!vly_engine_preempt(e)) break;
    }
    uint32_t n_pages = vly_kv_count_pages(vly_model_kv(e->target)).total;
    for (uint32_t i = 0; i < step->n; i++)
        vly_fail(&step->sequence[i]->failure, VLY_E_CONTEXT,
                 "the KV cache's %u page%s of %u tokens cannot hold a text of %zu tokens", n_pages,
                 vly_plural(n_pages), VLY_PAGE_TOKENS, step->sequence[i]->text.len);
}

/* ---- Preparing ---- */

static void read_prompts(vly_engine *e)
{
    vly_engine_step *step = &e->step;
    bool beside = false;
    for (uint32_t i = 0; i < step->n; i++) {
        vly_sequence *s = step->sequence[i];
        uint32_t n = s->failure.code ? 0 : step->share[i].n_read;
        if (n > 0) vly_batch_read(&step->batch, &s->seq, s->text.data + s->seq.n_tok, n);
        beside |= step->demand[i].n_read == 0;
    }
    /* The drafts read what they have not, each time beginning with another sequence. */
    uint32_t most = beside ? limits.n_chunk_beside : limits.n_chunk;
    for (uint32_t j = 0; j < step->n; j++) {
        vly_sequence *s = step->sequence[(j + e->metrics.steps) % step->n];
        s->n_draft_read = 0;
        if (!s->draft || s->failure.code) continue;
        vly_error err;
        int rc = s->draft->ops->read(s->draft, &step->batch.draft, most - step->batch.draft.n_read,
                                     &s->n_draft_read, &err);
        if (rc) s->failure = err;
    }
}

/* What the blocks of this step were like when they were last. */
static void expect(vly_engine_step *step)
{
    for (uint32_t i = 0; i < step->n; i++) {
        if (step->share[i].n_feed == 0) continue;
        step->batch.usual_tok += 1 + step->sequence[i]->block.n_drafted;
        step->batch.usual_decided += 1 + step->sequence[i]->block.n_accepted;
    }
}

/* Adds blocks, first of all of those whose logits the host reads. */
static void add_blocks(vly_engine *e, bool on_host)
{
    vly_engine_step *step = &e->step;
    for (uint32_t i = 0; i < step->n; i++) {
        vly_sequence *s = step->sequence[i];
        const vly_schedule_share *share = &step->share[i];
        if (vly_block_reads_logits(&s->block) != on_host) continue;
        s->block.n_fed = 0;
        s->block.waits = false;
        if (share->n_feed == 0 || s->failure.code) continue;
        if (s->block_ns == 0) {
            s->block_ns = step->begin_ns;
            s->stats.prompt_ms =
                step->begin_ns > s->start_ns ? (double)(step->begin_ns - s->start_ns) * 1e-6 : 0;
        }
        vly_error err;
        s->block.left = vly_sequence_room(s);
        if (vly_block_prepare(&s->block, &step->batch, share->n_feed, share->n_draft, &err)) {
            s->failure = err;
            s->block.n_fed = 0;
        }
    }
}

static bool anyone_takes_part(const vly_engine_step *step)
{
    uint32_t i = 0;
    while (i < step->n && step->sequence[i]->failure.code) i++;
    return i < step->n;
}

/* What the step cannot do fails all that take part; a lost device all that there are, since those
 * that are paused would not find out before they go on. */
static void fail_all(vly_engine *e, const vly_error *err)
{
    for (uint32_t i = 0; i < e->step.n; i++) e->step.sequence[i]->failure = *err;
    if (err->code != VLY_E_DEVICE_LOST) return;
    for (vly_sequence *s = e->first; s; s = s->next) s->failure = *err;
}

/* ---- Completing ---- */

/* What the oldest submission of the step, which is complete, took, and when it ended by the
 * device's clock; zeros where that has none. */
static uint64_t read_times(const vly_engine *e, double *chunk_ns, vly_outcome *o)
{
    const vly_engine_step *step = &e->step;
    vly_gpu_commands *const *mark =
        e->mark[(step->n_submitted - step->n_in_flight) % VLY_MAX_AHEAD];
    uint64_t t[VLY_N_MARKS];
    *chunk_ns = 0;
    o->wall_ns = (double)(vly_clock_ns() - step->begin_ns);
    o->n_tok = step->batch.n_pass;
    for (int i = 0; i < VLY_N_MARKS; i++) {
        const vly_gpu_commands *of = mark[step->batch.mark[i]];
        if (!of || vly_gpu_commands_times(of, 1, &t[i], NULL)) return 0;
    }
    *chunk_ns = (double)(t[VLY_MARK_DRAFT] - t[VLY_MARK_CHUNK]);
    o->draft_ns = (double)(t[VLY_MARK_VERIFY] - t[VLY_MARK_DRAFT]);
    o->verify_ns = (double)(t[VLY_MARK_END] - t[VLY_MARK_VERIFY]);
    o->wall_ns -= *chunk_ns;
    if (step->end_ns && t[VLY_MARK_CHUNK] > step->end_ns)
        o->idle_ns = (double)(t[VLY_MARK_CHUNK] - step->end_ns);
    return t[VLY_MARK_END];
}

/* The draft has read its part of the chunk, which took `ns`. */
static void draft_read_done(vly_engine *e, vly_sequence *s, double ns)
{
    const vly_batch *b = &e->step.batch;
    if (s->n_draft_read == 0 || !s->draft->ops->read_done) return;
    double share = b->n_read ? 0 : ns * s->n_draft_read / b->draft.n_read;
    s->draft->ops->read_done(s->draft, share);
}

static void complete(void *arg, int rc, const vly_error *gpu_error)
{
    vly_engine *e = arg;
    vly_engine_step *step = &e->step;
    vly_outcome outcome = {0};
    uint64_t now = vly_clock_ns();
    double chunk_ns;
    if (e->closing) return;
    e->metrics.steps++;
    e->metrics.step_ms += vly_ms_since(step->start_ns);
    if (rc) fail_all(e, gpu_error);
    uint64_t end_ns = read_times(e, &chunk_ns, &outcome);
    step->n_in_flight--;
    for (uint32_t i = 0; i < step->n; i++) {
        vly_sequence *s = step->sequence[i];
        if (s->block_ns == step->begin_ns) { /* its first block, behind the chunk */
            s->block_ns += (uint64_t)chunk_ns;
            s->stats.prompt_ms += chunk_ns * 1e-6;
        }
        if (s->failure.code || s->ended) continue;
        uint32_t n_known = s->seq.n_tok < s->n_prompt ? s->seq.n_tok : s->n_prompt;
        if (!s->block.ahead) vly_kv_offer(&s->seq, s->text.data, n_known);
        draft_read_done(e, s, chunk_ns);
        if (s->block.waits) vly_sequence_block_waited(s, &outcome);
        if (s->block.n_fed == 0) continue;
        vly_sequence_block_done(s, &outcome);
        outcome.n_tok = 0; /* one of them tells what the pass took */
    }
    step->begin_ns = step->start_ns = now; /* of what is in flight behind it */
    /* What was in flight where nothing could follow is idle time, too. */
    if (!step->batch.advances || step->sequence[0]->block.n_rows > 0) step->end_ns = end_ns;
    if (step->batch.advances) vly_engine_ahead_submit(e, complete);
    if (step->n_in_flight) return;
    if (step->batch.advances) vly_engine_ahead_end(e);
    vly_engine_advance(e);
}

void vly_engine_step_submit(vly_engine *e)
{
    vly_engine_step *step = &e->step;
    vly_submission *list = &step->commands;
    vly_error err;
    step->begin_ns = vly_clock_ns();
    schedule(e);
    vly_batch_begin(&step->batch, e->target, e->draft);
    read_prompts(e);
    expect(step);
    add_blocks(e, true);
    add_blocks(e, false);
    if (!anyone_takes_part(step)) {
        step->end_ns = 0; /* the device rests because nobody wants anything */
        return;
    }
    step->batch.advances = vly_engine_ahead_begin(e);
    list->n = 0;
    int rc = vly_batch_add_commands(&step->batch, e->mark[0], list, &err);
    if (rc == 0) rc = vly_gpu_submit(e->gpu, list->commands, list->n, complete, e, NULL, &err);
    if (rc) {
        fail_all(e, &err);
        if (step->batch.advances) vly_engine_ahead_end(e);
        return;
    }
    step->n_in_flight = step->n_submitted = 1;
    step->start_ns = vly_clock_ns();
    if (step->batch.advances) vly_engine_ahead_submit(e, complete);
}
