#include "engine/scheduler.h"

#include <string.h>

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ---- Prompts ---- */

/* Does a's prompt come before b's? */
static bool reads_before(const vly_schedule_demand *a, const vly_schedule_demand *b)
{
    if (a->priority != b->priority) return a->priority > b->priority;
    if (a->n_read != b->n_read) return a->n_read < b->n_read;
    return a->age < b->age;
}

/* The oldest of the highest priority among those who read; n: nobody does. */
static uint32_t oldest_reader(const vly_schedule_demand *demand, uint32_t n)
{
    uint32_t best = n;
    for (uint32_t i = 0; i < n; i++)
        if (demand[i].n_read &&
            (best == n || demand[i].priority > demand[best].priority ||
             (demand[i].priority == demand[best].priority && demand[i].age < demand[best].age)))
            best = i;
    return best;
}

static void share_chunk(const vly_schedule_demand *demand, uint32_t n, uint32_t budget,
                        vly_schedule_share *share)
{
    uint32_t oldest = oldest_reader(demand, n);
    if (oldest == n) return;
    share[oldest].n_read = min_u32(demand[oldest].n_read, budget / 4);
    budget -= share[oldest].n_read;
    while (budget > 0) {
        uint32_t next = n;
        for (uint32_t i = 0; i < n; i++)
            if (share[i].n_read < demand[i].n_read && (i == oldest || share[i].n_read == 0) &&
                (next == n || reads_before(&demand[i], &demand[next])))
                next = i;
        if (next == n) return;
        uint32_t more = min_u32(demand[next].n_read - share[next].n_read, budget);
        share[next].n_read += more;
        budget -= more;
    }
}

/* ---- Decoding ---- */

static bool decodes(const vly_schedule_demand *demand, const vly_schedule_share *share)
{
    return share->n_read == demand->n_read;
}

/* Texts whose cache was given up are fed again, the oldest first. */
static uint32_t share_feeds(const vly_schedule_demand *demand, uint32_t n, uint32_t left,
                            vly_schedule_share *share)
{
    for (uint32_t i = 0; i < n; i++)
        if (decodes(&demand[i], &share[i])) {
            share[i].n_feed = 1;
            left--;
        }
    for (;;) {
        uint32_t next = n;
        for (uint32_t i = 0; i < n; i++)
            if (share[i].n_feed == 1 && demand[i].n_feed > 1 &&
                (next == n || demand[i].age < demand[next].age))
                next = i;
        if (next == n || left == 0) return left;
        uint32_t more = min_u32(demand[next].n_feed - 1, left);
        share[next].n_feed += more;
        left -= more;
    }
}

/* One token each in turn, beginning with another sequence at each step. */
static uint32_t share_drafts(const vly_schedule_demand *demand, uint32_t n, uint32_t turn,
                             int priority, uint32_t left, vly_schedule_share *share)
{
    for (bool any = true; any && left > 0;) {
        any = false;
        for (uint32_t j = 0; j < n && left > 0; j++) {
            uint32_t i = (turn + j) % n;
            if (demand[i].priority != priority || share[i].n_feed != demand[i].n_feed ||
                share[i].n_draft == demand[i].n_draft)
                continue;
            share[i].n_draft++;
            left--;
            any = true;
        }
    }
    return left;
}

void vly_schedule(const vly_schedule_limits *limits, const vly_schedule_demand *demand, uint32_t n,
                  uint32_t turn, vly_schedule_share *share)
{
    bool anyone_decodes = false;
    memset(share, 0, n * sizeof *share);
    for (uint32_t i = 0; i < n; i++) anyone_decodes |= demand[i].n_read == 0;
    share_chunk(demand, n, anyone_decodes ? limits->n_chunk_beside : limits->n_chunk, share);
    uint32_t left = share_feeds(demand, n, limits->n_batch, share);
    for (int priority = VLY_PRIORITY_HIGH; priority >= VLY_PRIORITY_LOW; priority--)
        left = share_drafts(demand, n, turn, priority, left, share);
}

uint32_t vly_schedule_victim(const vly_schedule_demand *demand, const bool *idle, uint32_t n)
{
    uint32_t victim = 0;
    for (uint32_t i = 1; i < n; i++) {
        const vly_schedule_demand *a = &demand[i], *b = &demand[victim];
        bool before = a->priority != b->priority ? a->priority < b->priority
                      : idle[i] != idle[victim]  ? idle[i]
                                                 : a->age > b->age;
        if (before) victim = i;
    }
    return victim;
}
