/* Blocks that run ahead of the host: where one sequence alone decodes, with the draft model or
 * without, and nothing needs the host, the device makes the step of the next block itself
 * (shaders/advance.comp). So the next one is in flight before the host has read the one before, and
 * the device never waits for it. What follows the end of a text is computed in vain, into pages
 * that are given back after it. Where the device cannot go on, the blocks in flight do nothing, and
 * an ordinary step follows them. */
#include "engine/engine_internal.h"

#include "engine/inside.h"

void vly_engine_set_ahead(vly_engine *e, bool ahead)
{
    e->ahead = ahead;
}

uint64_t vly_engine_count_ahead(const vly_engine *e)
{
    return e->n_ahead;
}

/* Tokens that each block in flight proposes, at most. */
static uint32_t n_drafted(const vly_engine_step *step)
{
    return step->batch.draft.n_steps;
}

/* Has the sequence to take another block like those in flight, with nobody waiting for an end? */
static bool goes_on(const vly_engine *e, const vly_sequence *s)
{
    uint32_t room = vly_sequence_room(s), most = s->request.draft_max;
    if (e->n_sequences != 1 || s->ended || s->failure.code || s->cancelled || s->paused ||
        atomic_load(&e->interrupted) || !s->block.continued || room <= e->step.n_in_flight)
        return false;
    const vly_draft_ahead ahead = {.k = n_drafted(&e->step),
                                   .k_max = most < room ? most : room - 1,
                                   .n_unread = e->step.n_in_flight,
                                   .left = room};
    if (!s->draft) return true;
    return s->draft->ops->follow && s->draft->ops->follow(s->draft, &ahead);
}

bool vly_engine_ahead_begin(vly_engine *e)
{
    const vly_engine_step *step = &e->step;
    vly_sequence *s = step->sequence[0];
    const vly_batch *b = &step->batch;
    vly_block *block = &s->block;
    block->continued = true;
    /* Alone, and nothing but a block: its one token, and what the draft model proposes. */
    if (!e->ahead || step->n != 1 || b->n_read > 0 || b->draft.n_read > 0 ||
        vly_block_reads_logits(block) || block->n_drafted != n_drafted(step) ||
        b->n_tok != 1 + block->n_drafted || b->n_rows != b->n_tok || !goes_on(e, s))
        return false;
    vly_block_run_ahead(block);
    return true;
}

/* Pages for one block more than are in flight, whatever these decide. */
static int reserve(const vly_engine *e, vly_sequence *s)
{
    const vly_engine_step *step = &e->step;
    uint32_t most = s->seq.n_tok + (step->n_in_flight + 1) * (1 + n_drafted(step));
    vly_error err;
    return vly_kv_reserve(&s->seq, most < e->info.n_ctx ? most : e->info.n_ctx, &err);
}

void vly_engine_ahead_submit(vly_engine *e, vly_gpu_done done)
{
    vly_engine_step *step = &e->step;
    vly_sequence *s = step->sequence[0];
    vly_submission *list = &step->commands;
    while (step->n_in_flight < VLY_MAX_AHEAD && goes_on(e, s)) {
        vly_error err;
        if (reserve(e, s)) return; /* where there is no page for it, an ordinary step finds one */
        vly_gpu_commands *const *mark = e->mark[step->n_submitted % VLY_MAX_AHEAD];
        list->n = 0;
        int rc = vly_batch_add_next(&step->batch, mark, list, &err);
        if (rc == 0) rc = vly_gpu_submit(e->gpu, list->commands, list->n, done, e, NULL, &err);
        if (rc) {
            s->failure = err;
            return;
        }
        if (step->n_in_flight++ > 0) e->n_ahead++;
        step->n_submitted++;
    }
}

bool vly_engine_ahead_first(const vly_engine *e, const vly_sequence *s)
{
    const vly_block *b = &s->block;
    bool can = b->n_drafted == 0 || s->draft->proposer == VLY_DRAFT_MODEL;
    return e->ahead && e->n_sequences == 1 && can && !vly_block_reads_logits(b) &&
           !(b->ahead && b->n_done > 1);
}

void vly_engine_ahead_end(vly_engine *e)
{
    vly_sequence *s = e->step.sequence[0];
    s->block.ahead = false;
    if (s->failure.code) return;
    vly_kv_truncate(&s->seq, s->seq.n_tok); /* what was reserved ahead */
    vly_sequence_offer(s);
    if (n_drafted(&e->step)) s->draft->ops->end_ahead(s->draft);
}
