/* Who has a place in the caches. A sequence is admitted with room for the text that it has, and
 * takes more as that grows; where there is no more, one gives up its place and resumes later. */
#include "engine/engine_internal.h"

/* Sequences that could give up their place. */
typedef struct {
    vly_sequence *sequence[VLY_MAX_PARALLEL];
    vly_schedule_demand demand[VLY_MAX_PARALLEL];
    bool idle[VLY_MAX_PARALLEL];
    uint32_t n;
    uint32_t n_pages; /* of all of them, shared ones as often as they are held */
} candidates;

static void add(candidates *c, vly_sequence *s)
{
    c->sequence[c->n] = s;
    c->demand[c->n] = (vly_schedule_demand){.priority = s->request.priority, .age = s->age};
    c->idle[c->n++] = s->paused;
    c->n_pages += s->seq.n_pages;
}

static void preempt_one(candidates *c)
{
    uint32_t i = vly_schedule_victim(c->demand, c->idle, c->n);
    vly_sequence_preempt(c->sequence[i]);
    c->n--;
    c->sequence[i] = c->sequence[c->n];
    c->demand[i] = c->demand[c->n];
    c->idle[i] = c->idle[c->n];
}

bool vly_engine_preempt(vly_engine *e)
{
    candidates c = {.n = 0};
    for (vly_sequence *s = e->first; s; s = s->next)
        if (s->running) add(&c, s);
    if (c.n < 2) return false;
    preempt_one(&c);
    return true;
}

/* The waiting sequence whose turn is next: of the highest priority the oldest. */
static vly_sequence *next_waiting(const vly_engine *e)
{
    vly_sequence *best = NULL;
    for (vly_sequence *s = e->first; s; s = s->next)
        if (!s->running && !s->cancelled && !s->failure.code && !(s->begun && s->paused) &&
            (!best || s->request.priority > best->request.priority ||
             (s->request.priority == best->request.priority && s->age < best->age)))
            best = s;
    return best;
}

/* Pages that it needs beyond those that others hold for it anyway. */
static uint32_t pages_needed(const vly_sequence *s)
{
    const vly_kv *kv = vly_model_kv(s->engine->target);
    uint32_t len = (uint32_t)s->text.len, n_held = 0, need = vly_kv_pages_for(len + 1);
    uint32_t most = vly_kv_slot_pages(vly_kv_get_shape(kv));
    if (!s->request.no_prefix_reuse) vly_kv_find(kv, s->text.data, len - 1, &n_held);
    need -= n_held;
    return need < most ? need : most;
}

/* Is there a place for it, besides a page for each that runs to grow into? Those who take part in
 * no step give up theirs for it, and under page shortage those of lower priority. */
static bool make_room(vly_engine *e, const vly_sequence *for_)
{
    vly_kv *kv = vly_model_kv(e->target);
    uint32_t n_running = 0;
    candidates idle = {.n = 0}, all = {.n = 0};
    for (vly_sequence *s = e->first; s; s = s->next) {
        n_running += s->running;
        if (!s->running) continue;
        if (s->paused) add(&idle, s);
        if (s->paused || s->request.priority < for_->request.priority) add(&all, s);
    }
    if (n_running == e->n_parallel && idle.n == 0) return false;
    uint32_t need = pages_needed(for_);
    if (n_running == e->n_parallel) {
        if (vly_kv_count_pages(kv).free + idle.n_pages >= need + n_running) {
            all = idle;
            preempt_one(&all);
            n_running--;
        }
    }
    if (n_running == e->n_parallel || vly_kv_count_pages(kv).free + all.n_pages < need + n_running)
        return false;
    for (; vly_kv_count_pages(kv).free < need + n_running && all.n > 0; n_running--)
        preempt_one(&all);
    return vly_kv_count_pages(kv).free >= need + n_running;
}

static bool anyone_runs(const vly_engine *e)
{
    const vly_sequence *s = e->first;
    while (s && !s->running) s = s->next;
    return s != NULL;
}

void vly_engine_admit(vly_engine *e)
{
    vly_sequence *s;
    while ((s = next_waiting(e))) {
        vly_error err;
        if (make_room(e, s)) {
            if (vly_sequence_begin(s, &err)) s->failure = err;
        } else if (!anyone_runs(e)) {
            vly_fail(&s->failure, VLY_E_DEVICE_MEMORY,
                     "a text of %zu token%s needs %u page%s of the KV cache, which has %u",
                     s->text.len, vly_plural(s->text.len), pages_needed(s),
                     vly_plural(pages_needed(s)),
                     vly_kv_count_pages(vly_model_kv(e->target)).total);
        } else {
            return;
        }
    }
}
