/* Blocks that run ahead of the host: where one sequence alone decodes and nothing needs the host,
 * the device makes the step of the next block itself (shaders/advance.comp). So the next one is in
 * flight before the host has read the one before, and the device never waits for it. What follows
 * the end of a text is computed in vain, into pages that are given back after it. */
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

/* Is nothing to be drafted? */
static bool rests(const vly_sequence *s)
{
    uint32_t room = vly_sequence_room(s), most = s->request.draft_max;
    if (!s->draft) return true;
    return s->draft->ops->rests && room > 0 &&
           s->draft->ops->rests(s->draft, most < room ? most : room - 1, room);
}

/* Has the sequence to take another block, after those in flight, with nobody waiting for an end? */
static bool goes_on(const vly_engine *e, const vly_sequence *s)
{
    return e->n_sequences == 1 && !s->ended && !s->failure.code && !s->cancelled && !s->paused &&
           !atomic_load(&e->interrupted) && vly_sequence_room(s) > e->step.n_in_flight && rests(s);
}

bool vly_engine_ahead_begin(vly_engine *e)
{
    const vly_engine_step *step = &e->step;
    vly_sequence *s = step->sequence[0];
    const vly_batch *b = &step->batch;
    if (!e->ahead || step->n != 1 || b->n_read > 0 || b->draft.n_read > 0 ||
        vly_block_reads_logits(&s->block) || b->n_tok != 1 || b->n_rows != 1 || !goes_on(e, s))
        return false;
    s->block.ahead = true;
    s->block.n_done = 0;
    return true;
}

void vly_engine_ahead_submit(vly_engine *e, vly_gpu_done done)
{
    vly_engine_step *step = &e->step;
    vly_sequence *s = step->sequence[0];
    vly_submission *list = &step->commands;
    while (step->n_in_flight < VLY_MAX_AHEAD && goes_on(e, s)) {
        vly_error err;
        /* Where there is no page for it, an ordinary step finds one. */
        if (vly_kv_reserve(&s->seq, s->seq.n_tok + step->n_in_flight + 1, &err)) return;
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

void vly_engine_ahead_end(vly_engine *e)
{
    vly_sequence *s = e->step.sequence[0];
    s->block.ahead = false;
    if (s->failure.code) return;
    vly_kv_truncate(&s->seq, s->seq.n_tok); /* what was reserved ahead */
    vly_sequence_offer(s);
}
