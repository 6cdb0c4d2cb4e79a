/* The kernel that makes the next block's step of the one before. */
#include "tests/support/kernel_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static kernel_fixture fixture;

enum { N_VOCAB = 100 };

static void advance(void)
{
    const struct vly_push_advance push = {
        .step = fixture.step.address, .results = fixture.results.address, .n_vocab = N_VOCAB};
    kernel_fixture_run(&fixture, VLY_SHADER_advance, &fixture.lanes, 1, &push, sizeof push, 1, 1,
                       1);
}

static void a_pick_becomes_the_next_token(void **state)
{
    (void)state;
    kernel_fixture_reset(&fixture);
    struct vly_step *step = kernel_fixture_step(&fixture);
    struct vly_results *results = fixture.results.mapped;
    memset(step, 0, sizeof *step);
    memset(results, 0xff, sizeof *results);
    step->n_tok = step->n_rows = 1;
    step->token[0] = (struct vly_step_token){.id = 5, .pos = 31, .slot = 3, .first = 0};
    for (uint32_t block = 0; block < 5; block++) {
        results->id[0] = N_VOCAB - 1 - block;
        advance();
        assert_int_equal(step->n_advanced, block + 1);
        assert_int_equal(results->advanced[block % VLY_MAX_AHEAD], N_VOCAB - 1 - block);
        assert_int_equal(step->token[0].id, N_VOCAB - 1 - block);
        assert_int_equal(step->token[0].pos, 32 + block);
        assert_int_equal(step->token[0].slot, 3);
        assert_int_equal(step->n_tok, 1);
        assert_int_equal(step->n_rows, 1);
    }
}

static void without_a_pick_all_that_follows_does_nothing(void **state)
{
    (void)state;
    static const uint32_t no_tokens[] = {VLY_NO_ID, N_VOCAB};
    for (int i = 0; i < 2; i++) {
        kernel_fixture_reset(&fixture);
        struct vly_step *step = kernel_fixture_step(&fixture);
        struct vly_results *results = fixture.results.mapped;
        memset(step, 0, sizeof *step);
        step->n_tok = step->n_rows = 1;
        step->token[0] = (struct vly_step_token){.id = 5, .pos = 31, .slot = 3, .first = 0};
        results->id[0] = no_tokens[i];
        for (uint32_t block = 0; block < 3; block++) {
            advance();
            assert_int_equal(results->advanced[block % VLY_MAX_AHEAD], VLY_NO_ID);
            assert_int_equal(step->n_tok + step->n_rows, 0);
            assert_int_equal(step->token[0].id, 5);
            assert_int_equal(step->token[0].pos, 31);
        }
    }
}

static int setup(void **state)
{
    (void)state;
    return kernel_fixture_open(&fixture);
}

static int teardown(void **state)
{
    (void)state;
    kernel_fixture_close(&fixture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pick_becomes_the_next_token),
        cmocka_unit_test(without_a_pick_all_that_follows_does_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
