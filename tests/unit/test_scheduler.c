/* The scheduler: what every plan must keep to, over random states, and the promises about waiting.
 */
#include "engine/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N VLY_MAX_PARALLEL

static const vly_schedule_limits limits = {.n_batch = 64, .n_chunk = 512, .n_chunk_beside = 256};

static uint32_t random_below(uint32_t n)
{
    return (uint32_t)rand() % n;
}

static uint32_t make_random(vly_schedule_demand *demand)
{
    uint32_t n = 1 + random_below(N);
    for (uint32_t i = 0; i < n; i++)
        demand[i] = (vly_schedule_demand){
            .priority = (int)random_below(3) - 1,
            .age = (i * 37 + 11) % N,
            .n_read = random_below(3) ? 0 : 1 + random_below(1000),
            .n_feed = random_below(8) ? 1 : 1 + random_below(300),
            .n_draft = random_below(16),
        };
    return n;
}

static void plans_keep_within_the_limits(void **state)
{
    (void)state;
    srand(5);
    for (uint32_t turn = 0; turn < 5000; turn++) {
        vly_schedule_demand demand[N];
        vly_schedule_share share[N], again[N];
        uint32_t n = make_random(demand), n_read = 0, n_tok = 0, n_wanted = 0;
        bool anyone_decodes = false, anyone_reads = false;
        vly_schedule(&limits, demand, n, turn, share);
        for (uint32_t i = 0; i < n; i++) {
            anyone_decodes |= demand[i].n_read == 0;
            anyone_reads |= demand[i].n_read > 0;
            n_wanted += demand[i].n_read;
            n_read += share[i].n_read;
            n_tok += share[i].n_feed + share[i].n_draft;
            assert_true(share[i].n_read <= demand[i].n_read);
            assert_true(share[i].n_feed <= demand[i].n_feed);
            assert_true(share[i].n_draft <= demand[i].n_draft);
            /* Whoever has read its prompt decodes, and nobody else. */
            assert_int_equal(share[i].n_feed > 0, share[i].n_read == demand[i].n_read);
            if (share[i].n_feed < demand[i].n_feed) assert_int_equal(share[i].n_draft, 0);
        }
        uint32_t chunk = anyone_decodes ? limits.n_chunk_beside : limits.n_chunk;
        assert_true(n_tok <= limits.n_batch);
        /* The chunk is full, or everybody has what it wants. */
        assert_int_equal(n_read, n_wanted < chunk ? n_wanted : chunk);
        assert_true(n_read > 0 || !anyone_reads);
        vly_schedule(&limits, demand, n, turn, again);
        assert_memory_equal(share, again, n * sizeof *share);
    }
}

/* Equal sequences draft equally much, but for one token that goes round. */
static void drafted_tokens_are_shared_evenly(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= N; n++) {
        vly_schedule_demand demand[N];
        vly_schedule_share share[N];
        uint32_t sum[N] = {0};
        for (uint32_t i = 0; i < n; i++)
            demand[i] = (vly_schedule_demand){.age = i, .n_feed = 1, .n_draft = 15};
        for (uint32_t turn = 0; turn < n; turn++) {
            uint32_t least = 99, most = 0;
            vly_schedule(&limits, demand, n, turn, share);
            for (uint32_t i = 0; i < n; i++) {
                least = share[i].n_draft < least ? share[i].n_draft : least;
                most = share[i].n_draft > most ? share[i].n_draft : most;
                sum[i] += share[i].n_draft;
            }
            assert_true(most - least <= 1);
        }
        for (uint32_t i = 1; i < n; i++) assert_int_equal(sum[i], sum[0]);
    }
}

static void higher_priorities_draft_first(void **state)
{
    (void)state;
    vly_schedule_demand demand[12];
    vly_schedule_share share[12];
    for (uint32_t i = 0; i < 12; i++)
        demand[i] = (vly_schedule_demand){
            .priority = (int)(i % 3) - 1, .age = i, .n_feed = 1, .n_draft = 10};
    vly_schedule(&limits, demand, 12, 0, share);
    for (uint32_t i = 0; i < 12; i++)
        assert_int_equal(share[i].n_draft, i % 3 == 2 ? 10 : i % 3 == 1 ? 3 : 0);
}

/* Runs prompts to their end; steps until number `watched` decodes. */
static uint32_t steps_until_read(vly_schedule_demand *demand, uint32_t n, uint32_t watched)
{
    vly_schedule_share share[N];
    for (uint32_t turn = 0; turn < 10000; turn++) {
        vly_schedule(&limits, demand, n, turn, share);
        if (share[watched].n_feed) return turn + 1;
        for (uint32_t i = 0; i < n; i++) demand[i].n_read -= share[i].n_read;
    }
    return UINT32_MAX;
}

static void a_short_prompt_does_not_wait_for_a_long_one(void **state)
{
    (void)state;
    vly_schedule_demand demand[N];
    for (uint32_t i = 0; i < N; i++)
        demand[i] = (vly_schedule_demand){.age = i, .n_read = 4000, .n_feed = 1};
    demand[7].n_read = 100;
    assert_int_equal(steps_until_read(demand, 8, 7), 1);
    demand[7].n_read = 4000;
    demand[40].n_read = 100;
    demand[41] = (vly_schedule_demand){.age = 41, .n_feed = 1}; /* beside one that decodes */
    assert_int_equal(steps_until_read(demand, 42, 40), 1);
}

/* Short prompts come without end; the old long one is still read, at a quarter of the chunk. */
static void a_long_prompt_does_not_wait_for_ever(void **state)
{
    (void)state;
    vly_schedule_demand demand[N];
    vly_schedule_share share[N];
    uint32_t turn = 0;
    demand[0] = (vly_schedule_demand){.age = 0, .n_read = 4000, .n_feed = 1};
    for (; demand[0].n_read > 0; turn++) {
        assert_true(turn < 40);
        for (uint32_t i = 1; i < N; i++)
            demand[i] = (vly_schedule_demand){.age = i, .n_read = 200, .n_feed = 1};
        vly_schedule(&limits, demand, N, turn, share);
        demand[0].n_read -= share[0].n_read;
    }
}

static void the_youngest_of_the_lowest_priority_gives_way(void **state)
{
    (void)state;
    srand(9);
    for (int turn = 0; turn < 2000; turn++) {
        vly_schedule_demand demand[N];
        bool idle[N];
        uint32_t n = make_random(demand);
        for (uint32_t i = 0; i < n; i++) idle[i] = random_below(4) == 0;
        uint32_t v = vly_schedule_victim(demand, idle, n);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(demand[i].priority >= demand[v].priority);
            if (i == v || demand[i].priority != demand[v].priority) continue;
            assert_true(idle[v] || !idle[i]);
            if (idle[v] == idle[i]) assert_true(demand[i].age < demand[v].age);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_keep_within_the_limits),
        cmocka_unit_test(drafted_tokens_are_shared_evenly),
        cmocka_unit_test(higher_priorities_draft_first),
        cmocka_unit_test(a_short_prompt_does_not_wait_for_a_long_one),
        cmocka_unit_test(a_long_prompt_does_not_wait_for_ever),
        cmocka_unit_test(the_youngest_of_the_lowest_priority_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
