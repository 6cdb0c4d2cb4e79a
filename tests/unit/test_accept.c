/* Acceptance by equality. */
#include "spec/accept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const uint32_t pick[] = {5, 6, 7, 8, 9};

static void test_equal_front(void **state)
{
    (void)state;
    const uint32_t all[] = {5, 6, 7, 8}, none[] = {6, 6, 7, 8}, two[] = {5, 6, 8, 8};
    assert_int_equal(vly_accept(all, pick, 4), 4);
    assert_int_equal(vly_accept(none, pick, 4), 0);
    assert_int_equal(vly_accept(two, pick, 4), 2);
}

/* What is right behind a wrong token was drafted for another text. */
static void test_nothing_after_a_wrong_token(void **state)
{
    (void)state;
    const uint32_t drafted[] = {5, 0, 7, 8};
    assert_int_equal(vly_accept(drafted, pick, 4), 1);
}

static void test_only_n_count(void **state)
{
    (void)state;
    const uint32_t drafted[] = {5, 6, 7, 8};
    for (uint32_t n = 0; n <= 4; n++) assert_int_equal(vly_accept(drafted, pick, n), n);
    assert_int_equal(vly_accept(NULL, pick, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_front),
        cmocka_unit_test(test_nothing_after_a_wrong_token),
        cmocka_unit_test(test_only_n_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
