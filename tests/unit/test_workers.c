/* base/workers.h: every part once, whatever the number of workers. */
#include "base/workers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define N_PARTS 5000

typedef struct {
    atomic_int times[N_PARTS];
    atomic_int busy[16]; /* parts that a worker does at this moment */
    uint32_t n_workers;
    atomic_int wrong;
} parts;

static void do_part(void *arg, uint32_t worker, uint64_t part)
{
    parts *p = arg;
    if (worker >= p->n_workers || atomic_fetch_add(&p->busy[worker], 1) != 0) p->wrong++;
    p->times[part]++;
    p->busy[worker]--;
}

static void check(uint32_t n_workers)
{
    static parts p;
    vly_workers *w;
    vly_error err;
    assert_int_equal(vly_workers_create(n_workers, &w, &err), 0);
    if (n_workers) assert_in_range(vly_workers_count(w), 1, n_workers);
    memset(&p, 0, sizeof p);
    p.n_workers = vly_workers_count(w);
    const uint64_t sizes[] = {N_PARTS, 0, 1, 7, N_PARTS};
    int expected[N_PARTS] = {0};
    for (size_t round = 0; round < sizeof sizes / sizeof *sizes; round++) {
        vly_workers_run(w, sizes[round], do_part, &p);
        for (uint64_t i = 0; i < sizes[round]; i++) expected[i]++;
        for (int i = 0; i < N_PARTS; i++) assert_int_equal(p.times[i], expected[i]);
    }
    assert_int_equal(p.wrong, 0);
    vly_workers_destroy(w);
}

static void every_part_once(void **state)
{
    (void)state;
    const uint32_t numbers[] = {0, 1, 2, 3, 16};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) check(numbers[i]);
}

static void more_than_there_are_places_for(void **state)
{
    (void)state;
    vly_workers *w;
    vly_error err;
    assert_int_equal(vly_workers_create(1000, &w, &err), 0);
    assert_in_range(vly_workers_count(w), 1, 16);
    vly_workers_destroy(w);
    vly_workers_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_once),
        cmocka_unit_test(more_than_there_are_places_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
