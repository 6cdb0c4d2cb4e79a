/* Profiles: means that follow what is measured, and files that cannot do harm. */
#include "spec/profile.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void expect_near(double actual, double expected)
{
    if (fabs(actual - expected) > 0.02 * expected) fail_msg("%g, expected %g", actual, expected);
}

static void test_times_are_followed(void **state)
{
    (void)state;
    double mean = 0;
    vly_profile_add_time(&mean, 100);
    expect_near(mean, 100);
    for (int i = 0; i < 100; i++) vly_profile_add_time(&mean, 300);
    expect_near(mean, 300);
    vly_profile_add_time(&mean, 1e12); /* the machine slept: no more than twice as long */
    assert_true(mean < 330);
    const double nonsense[] = {0, -1, NAN, INFINITY};
    double before = mean;
    for (int i = 0; i < 4; i++) vly_profile_add_time(&mean, nonsense[i]);
    assert_true(mean == before);
}

/* A device of which all passes become slower keeps its ratios; one of which a size becomes slower
 * changes that one. */
static void test_levels_and_ratios(void **state)
{
    (void)state;
    vly_profile p = {0};
    assert_true(vly_profile_verify_ns(&p, 1) == 0);
    vly_profile_add_verify(&p, 4, 130); /* of what? */
    assert_true(vly_profile_verify_ns(&p, 4) == 0);
    for (int i = 0; i < 50; i++) {
        vly_profile_add_verify(&p, 1, 100);
        vly_profile_add_verify(&p, 4, 130);
    }
    expect_near(vly_profile_verify_ns(&p, 4), 130);
    expect_near(vly_profile_verify_ns(&p, 3), 130); /* the least that holds them */
    assert_true(vly_profile_verify_ns(&p, 5) == 0);
    for (int i = 0; i < 100; i++) vly_profile_add_verify(&p, 1, 200);
    expect_near(vly_profile_verify_ns(&p, 4), 260);
    for (int i = 0; i < 300; i++) {
        vly_profile_add_verify(&p, 1, 200);
        vly_profile_add_verify(&p, 4, 400);
    }
    expect_near(vly_profile_verify_ns(&p, 1), 200);
    expect_near(vly_profile_verify_ns(&p, 4), 400);
    vly_profile_set_ratio(&p, 8, 1.5); /* a pass over 8 holds 4 as well, and takes less */
    expect_near(vly_profile_verify_ns(&p, 4), 300);
}

/* Calibration's ratios give way to what blocks take, soon; those that no block took as the others
 * do.
 */
static void test_ratios_that_were_wrong(void **state)
{
    (void)state;
    vly_profile p = {0};
    vly_profile_set_level(&p, 100);
    vly_profile_set_ratio(&p, 2, 2.2);
    vly_profile_set_ratio(&p, 4, 3);
    for (int i = 0; i < 12; i++) {
        vly_profile_add_verify(&p, 1, 100);
        vly_profile_add_verify(&p, 2, 110);
    }
    assert_in_range((int)vly_profile_verify_ns(&p, 2), 105, 130);
    assert_in_range((int)vly_profile_verify_ns(&p, 4), 140, 180);
    vly_profile_set_ratio(&p, 8, 0.7); /* a pass over more tokens takes no less */
    assert_true(vly_profile_verify_ns(&p, 8) == vly_profile_verify_ns(&p, 1));
    float before = p.verify_ratio[2];
    vly_profile_set_ready(&p, 2);
    assert_true(p.verify_ratio[2] == before && p.ratio_tries[2] > 10);
}

/* What slows the target down slows the draft down. */
static void test_a_level_is_that_of_both_models(void **state)
{
    (void)state;
    vly_profile p = {.feed_ns = 10, .step_ns = {[VLY_ARM_MODEL] = 30, [VLY_ARM_TEXT] = 40}};
    vly_profile_set_level(&p, 100);
    assert_true(p.feed_ns == 10);
    vly_profile_set_level(&p, 300);
    expect_near(p.feed_ns, 30);
    expect_near(p.step_ns[VLY_ARM_MODEL], 90);
    for (int i = 0; i < 100; i++) vly_profile_add_verify(&p, 1, 100);
    expect_near(p.step_ns[VLY_ARM_MODEL], 30);
    expect_near(p.step_ns[VLY_ARM_TEXT], 40);
}

/* A GPU that rested has low clocks, which rise in the middle of a text: what both models' times
 * agree on says nothing of ratios, though it be four times as much and nothing is known for long.
 */
static void test_clocks_that_change(void **state)
{
    (void)state;
    vly_profile p = {0};
    vly_outcome o = {
        .n_tok = 3, .n_drafted = 2, .n_fed = 2, .draft_ns = 4 * 600, .verify_ns = 4400};
    vly_profile_set_level(&p, 1000);
    vly_profile_set_ratio(&p, 3, 1.1);
    p.step_ns[VLY_ARM_MODEL] = 300;
    for (int i = 0; i < 3; i++) vly_profile_learn(&p, VLY_ARM_MODEL, &o);
    expect_near(p.verify_ns, 4000);
    expect_near(p.step_ns[VLY_ARM_MODEL], 1200);
    expect_near((double)p.verify_ratio[3], 1.1);
    o.draft_ns /= 4;
    o.verify_ns /= 4;
    for (int i = 0; i < 3; i++) vly_profile_learn(&p, VLY_ARM_MODEL, &o);
    expect_near(p.verify_ns, 1000);
    expect_near((double)p.verify_ratio[3], 1.1);
    o.draft_ns *= 4; /* the draft alone is slower than it was */
    for (int i = 0; i < 60; i++) vly_profile_learn(&p, VLY_ARM_MODEL, &o);
    expect_near(p.step_ns[VLY_ARM_MODEL], 1200);
    expect_near(p.verify_ns, 1000);
    for (int i = 0; i < 12; i++) vly_profile_add_verify(&p, 1, 4000); /* plain decoding's, soon */
    expect_near(p.verify_ns, 4000);
}

/* What the first step of a block takes more than others is told apart from these. */
static void test_the_first_step(void **state)
{
    (void)state;
    vly_profile p = {0};
    vly_outcome one = {.n_tok = 2, .n_drafted = 1, .n_fed = 2, .draft_ns = 64, .verify_ns = 120};
    vly_outcome eight = {.n_tok = 9, .n_drafted = 8, .n_fed = 2, .draft_ns = 414, .verify_ns = 130};
    vly_profile_set_level(&p, 118);
    for (int i = 0; i < 200; i++) vly_profile_learn(&p, VLY_ARM_MODEL, &one);
    assert_true(fabs(vly_profile_draft_ns(&p, VLY_ARM_MODEL, 1) - 64) < 1);
    for (int i = 0; i < 200; i++) {
        vly_profile_learn(&p, VLY_ARM_MODEL, &eight);
        vly_profile_learn(&p, VLY_ARM_MODEL, &one);
    }
    assert_true(fabs(vly_profile_draft_ns(&p, VLY_ARM_MODEL, 1) - 64) < 1);
    assert_true(fabs(vly_profile_draft_ns(&p, VLY_ARM_MODEL, 4) - 214) < 3);
    for (int i = 0; i < 100; i++) vly_profile_learn(&p, VLY_ARM_MODEL, &eight);
    assert_true(fabs(vly_profile_draft_ns(&p, VLY_ARM_MODEL, 1) - 64) < 1);
    assert_true(vly_profile_draft_ns(&p, VLY_ARM_NGRAM, 8) == 0);
}

/* A draft that reads what the text has grown by without it is not slower at drafting. */
static void test_reading_is_no_drafting(void **state)
{
    (void)state;
    vly_profile p = {.feed_ns = 50};
    vly_outcome o = {.n_tok = 3, .n_drafted = 2, .n_fed = 2, .draft_ns = 200, .verify_ns = 1000};
    vly_profile_set_level(&p, 900);
    for (int i = 0; i < 20; i++) vly_profile_learn(&p, VLY_ARM_MODEL, &o);
    double step = p.step_ns[VLY_ARM_MODEL] / p.verify_ns;
    o.n_fed = 12;
    o.draft_ns += 10 * p.feed_ns;
    for (int i = 0; i < 20; i++) vly_profile_learn(&p, VLY_ARM_MODEL, &o);
    expect_near(p.step_ns[VLY_ARM_MODEL] / p.verify_ns, step);
}

/* What a block waits for the host is learned, unless blocks like it would not in a row. */
static void test_overheads(void **state)
{
    (void)state;
    vly_profile p = {0};
    vly_outcome plain = {.n_tok = 1, .verify_ns = 1000, .wall_ns = 1040};
    vly_outcome drafted = {.n_tok = 4, .n_drafted = 3, .draft_ns = 900, .verify_ns = 1300};
    drafted.wall_ns = 2200 + 500;
    for (int i = 0; i < 100; i++) {
        vly_profile_learn(&p, VLY_ARM_NONE, &plain);
        vly_profile_learn(&p, VLY_ARM_MODEL, &drafted);
    }
    expect_near(vly_profile_overhead_ns(&p, VLY_ARM_NONE), 40);
    expect_near(vly_profile_overhead_ns(&p, VLY_ARM_MODEL), 500);
    vly_outcome once = {.n_tok = 4, .n_drafted = 3, .verify_ns = 1300, .wall_ns = 1e6};
    vly_profile_learn(&p, VLY_ARM_NGRAM, &once); /* another program was waited for */
    assert_true(vly_profile_overhead_ns(&p, VLY_ARM_NGRAM) < 50);
    plain.first = drafted.first = true;
    plain.wall_ns = 1600;
    for (int i = 0; i < 100; i++) {
        vly_profile_learn(&p, VLY_ARM_NONE, &plain);
        vly_profile_learn(&p, VLY_ARM_MODEL, &drafted);
    }
    expect_near(vly_profile_overhead_ns(&p, VLY_ARM_NONE), 40);
    expect_near(vly_profile_overhead_ns(&p, VLY_ARM_MODEL), 40);
    expect_near(p.step_ns[VLY_ARM_MODEL], 300);
    /* Which is what it costs to leave a row. */
    assert_true(p.wait_ns > 500 && p.wait_ns < 600); /* of 600 and 500, in turns */
    expect_near(vly_profile_leave_ns(&p), p.wait_ns - 40);
    assert_true(vly_profile_overhead_ns(&p, VLY_ARM_TEXT) == p.wait_ns);
}

static void test_leaving_is_free_where_nothing_runs_ahead(void **state)
{
    (void)state;
    vly_profile p = {0};
    vly_outcome plain = {.n_tok = 1, .verify_ns = 1000, .wall_ns = 1040};
    for (int i = 0; i < 10; i++) vly_profile_learn(&p, VLY_ARM_NONE, &plain);
    expect_near(vly_profile_leave_ns(&p), 0);
    expect_near(vly_profile_overhead_ns(&p, VLY_ARM_TEXT), 40);
    plain.first = true; /* the very first one may wait for much that no other does */
    plain.wall_ns = 1e7;
    vly_profile_learn(&p, VLY_ARM_NONE, &plain);
    assert_true(p.wait_ns > 0 && p.wait_ns < 1.1 * plain.verify_ns);
}

static void test_loading(void **state)
{
    (void)state;
    vly_profile p, loaded = {.feed_ns = 7};
    memset(&p, 0, sizeof p);
    p.verify_ns = 1000;
    p.verify_ratio[1] = 1;
    p.accepted[1][VLY_ARM_MODEL][3] = (vly_tally){10, 5};
    assert_false(vly_profile_load(&loaded, &p, sizeof p - 1));
    assert_true(loaded.feed_ns == 7 && loaded.n_loaded == 0);
    assert_true(vly_profile_load(&loaded, &p, sizeof p));
    assert_true(loaded.verify_ns == 1000 && loaded.n_loaded == 1);
    assert_true(vly_profile_verify_ns(&loaded, 1) == 0); /* until its pass is ready */
    vly_profile_set_ratio(&loaded, 1, 1);
    assert_true(vly_profile_verify_ns(&loaded, 1) == 1000);
    vly_profile broken = p;
    broken.verify_ns = NAN;
    assert_false(vly_profile_load(&loaded, &broken, sizeof broken));
    broken = p;
    broken.verify_ratio[5] = -1;
    assert_false(vly_profile_load(&loaded, &broken, sizeof broken));
    broken = p;
    broken.accepted[0][VLY_ARM_COPY][0] = (vly_tally){5, 10};
    assert_false(vly_profile_load(&loaded, &broken, sizeof broken));
    broken = p;
    broken.probe_ns = INFINITY;
    assert_false(vly_profile_load(&loaded, &broken, sizeof broken));
    assert_true(loaded.verify_ns == 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times_are_followed),
        cmocka_unit_test(test_levels_and_ratios),
        cmocka_unit_test(test_ratios_that_were_wrong),
        cmocka_unit_test(test_a_level_is_that_of_both_models),
        cmocka_unit_test(test_clocks_that_change),
        cmocka_unit_test(test_the_first_step),
        cmocka_unit_test(test_reading_is_no_drafting),
        cmocka_unit_test(test_overheads),
        cmocka_unit_test(test_leaving_is_free_where_nothing_runs_ahead),
        cmocka_unit_test(test_loading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
