/* base/stats.h: medians, quantiles, intervals. */
#include "base/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void near(double expected, double actual, double limit)
{
    if (!(fabs(expected - actual) <= limit)) fail_msg("expected %.6f, got %.6f", expected, actual);
}

static void spread_of_an_odd_number(void **state)
{
    (void)state;
    double values[] = {5, 1, 4, 2, 3};
    vly_spread s = vly_spread_of(values, 5);
    assert_int_equal(5, s.n);
    near(1, s.min, 0);
    near(3, s.median, 0);
    near(5, s.max, 0);
    near(3, s.mean, 0);
    near(1.4, s.p10, 1e-12);
    near(4.6, s.p90, 1e-12);
}

static void spread_of_an_even_number(void **state)
{
    (void)state;
    double values[] = {10, -2, 4, 6};
    vly_spread s = vly_spread_of(values, 4);
    near(5, s.median, 1e-12);
    near(-2 + 0.3 * 6, s.p10, 1e-12);
    near(6 + 0.7 * 4, s.p90, 1e-12);
    near(4.5, s.mean, 1e-12);
}

static void one_value_and_none(void **state)
{
    (void)state;
    double value = 7;
    vly_spread s = vly_spread_of(&value, 1);
    near(7, s.p10, 0);
    near(7, s.median, 0);
    near(7, s.p90, 0);
    assert_true(isnan(vly_spread_of(&value, 0).median));
    assert_true(isnan(vly_median(&value, 0)));
}

/* Values of tables: t(0.975) is 12.706 for 1 degree of freedom, 2.262 for 9, 2.042 for 30. */
static void intervals(void **state)
{
    (void)state;
    double low, high, values[31];
    vly_mean_interval((double[]){1, 3}, 2, &low, &high);
    near(2 - 12.706, low, 0.001);
    near(2 + 12.706, high, 0.001);
    for (int i = 0; i < 31; i++) values[i] = i;
    vly_mean_interval(values, 10, &low, &high);
    near(4.5 - 2.262 * 3.02765 / sqrt(10), low, 0.001);
    vly_mean_interval(values, 31, &low, &high);
    near(15 + 2.042 * 9.09212 / sqrt(31), high, 0.02);
    vly_mean_interval(values, 1, &low, &high);
    assert_true(isnan(low) && isnan(high));
}

/* With equal x it is the interval of the mean; a constant ratio is certain. */
static void ratios(void **state)
{
    (void)state;
    double low, high, mean_low, mean_high, y[] = {3, 5, 4, 8}, x[] = {2, 2, 2, 2};
    vly_mean_interval(y, 4, &mean_low, &mean_high);
    vly_ratio_interval(y, x, 4, &low, &high);
    near(mean_low / 2, low, 1e-12);
    near(mean_high / 2, high, 1e-12);
    vly_ratio_interval((double[]){2, 4, 12}, (double[]){1, 2, 6}, 3, &low, &high);
    near(2, low, 1e-12);
    near(2, high, 1e-12);
    vly_ratio_interval(y, x, 1, &low, &high);
    assert_true(isnan(low) && isnan(high));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spread_of_an_odd_number),
        cmocka_unit_test(spread_of_an_even_number),
        cmocka_unit_test(one_value_and_none),
        cmocka_unit_test(intervals),
        cmocka_unit_test(ratios),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
