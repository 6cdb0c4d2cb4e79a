/* A sequence that is cancelled, as that of a client that went away: whatever it is at, it leaves
 * after the step under way, and both models' pages with it. */
#include "engine/inside.h"
#include "tests/support/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

/* A prompt of a thousand tokens, which are two chunks. */
static const char *long_prompt(void)
{
    static char text[1000 * 4];
    if (!text[0])
        for (int i = 0; i < 990; i++) strcat(text, i % 7 ? " cat" : " the");
    return text;
}

static void begin(vly_engine *e, job *j, const char *prompt)
{
    *j = job_make(prompt, 200);
    j->request.ignore_end = j->request.no_prefix_reuse = true;
    job_begin(e, j);
}

static vly_engine_metrics metrics_of(const vly_engine *e)
{
    vly_engine_metrics m;
    vly_engine_get_metrics(e, &m);
    return m;
}

static void run_steps(vly_engine *e, uint64_t n)
{
    for (uint64_t from = metrics_of(e).steps; metrics_of(e).steps < from + n;)
        uv_run(vly_engine_loop(e), UV_RUN_ONCE);
}

/* Cancels it. */
static void expect_to_leave(vly_engine *e, job *j)
{
    vly_engine_metrics before = metrics_of(e), after;
    assert_false(j->finished);
    vly_sequence_cancel(j->sequence);
    while (!j->finished) uv_run(vly_engine_loop(e), UV_RUN_ONCE);
    after = metrics_of(e);
    assert_int_equal(j->finish, VLY_FINISH_CANCELLED);
    assert_true(after.steps - before.steps <= 1);
    assert_int_equal(after.running + after.queued, before.running + before.queued - 1);
    if (after.running == 0) assert_int_equal(after.target.used + after.draft.used, 0);
}

static vly_engine *create(void)
{
    vly_engine_options o = {.target = "tests/models/smol-stories-11M-f16.gguf",
                            .draft = "models/smol-stories-11M-q8_0.gguf",
                            .n_parallel = 2,
                            .n_queued = 1};
    vly_engine *e;
    vly_error err;
    if (vly_engine_create(&o, &e, &err)) fail_msg("%s", err.message);
    vly_engine_set_ahead(e, false); /* else two steps may be under way */
    return e;
}

static void it_leaves_within_a_step(void **state)
{
    (void)state;
    vly_engine *e = create();
    job j, other, waiting;
    begin(e, &j, long_prompt()); /* before its first step */
    expect_to_leave(e, &j);
    begin(e, &j, long_prompt()); /* while its prompt is read */
    run_steps(e, 1);
    assert_int_equal(j.n_ids, 0);
    assert_true(metrics_of(e).target.used > 0);
    expect_to_leave(e, &j);
    begin(e, &j, "Once upon a time"); /* while it writes */
    while (j.n_ids < 20) run_steps(e, 1);
    assert_true(metrics_of(e).target.used > 0 && metrics_of(e).draft.used > 0);
    expect_to_leave(e, &j);
    begin(e, &j, "Once upon a time"); /* beside another one, and with one that waits */
    begin(e, &other, "The cat sat on the mat");
    begin(e, &waiting, long_prompt());
    while (j.n_ids < 20 || other.n_ids < 20) run_steps(e, 1);
    expect_to_leave(e, &waiting);
    uint32_t both = metrics_of(e).target.used;
    expect_to_leave(e, &j);
    assert_true(metrics_of(e).target.used < both);
    expect_to_leave(e, &other);
    vly_engine_destroy(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_leaves_within_a_step)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
