/* Stop strings against a search of the whole text, however it is cut. */
#include "text/stop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The earliest end of any string in `text`, of those the longest; -1: none. */
static int32_t search(const char *const *strings, uint32_t n, const char *text, size_t *end)
{
    for (*end = 1; *end <= strlen(text); ++*end) {
        int32_t found = -1;
        for (uint32_t i = 0; i < n; i++) {
            size_t len = strlen(strings[i]);
            if (len <= *end && memcmp(text + *end - len, strings[i], len) == 0 &&
                (found < 0 || len > strlen(strings[found])))
                found = (int32_t)i;
        }
        if (found >= 0) return found;
    }
    return -1;
}

/* The longest end of the first `len` bytes of `text` that begins a string. */
static size_t longest_beginning(const char *const *strings, uint32_t n, const char *text,
                                size_t len)
{
    for (size_t tail = len; tail > 0; tail--)
        for (uint32_t i = 0; i < n; i++)
            if (strncmp(strings[i], text + len - tail, tail) == 0 && strlen(strings[i]) > tail)
                return tail;
    return 0;
}

static void check(const char *const *strings, uint32_t n, const char *text, size_t piece)
{
    vly_stop stop;
    assert_int_equal(vly_stop_init(&stop, strings, n, NULL), 0);
    size_t end, len = strlen(text), n_read = 0, n_tail = 0, at = 0;
    int32_t expected = search(strings, n, text, &end), found = -1;
    while (found < 0 && at < len) {
        size_t take = len - at < piece ? len - at : piece;
        found = vly_stop_read(&stop, text + at, take, &n_read, &n_tail);
        at += n_read;
        if (found < 0) {
            assert_int_equal(n_read, take);
            assert_int_equal(n_tail, longest_beginning(strings, n, text, at));
        }
    }
    assert_int_equal(found, expected);
    if (found >= 0) {
        assert_int_equal(at, end);
        assert_int_equal(n_tail, strlen(strings[found]));
    }
    vly_stop_deinit(&stop);
}

static void finds_what_a_search_finds(void **state)
{
    (void)state;
    srand(3);
    for (int turn = 0; turn < 4000; turn++) {
        char text[40], string[VLY_MAX_STOP][6];
        const char *strings[VLY_MAX_STOP];
        uint32_t n = 1 + (uint32_t)rand() % VLY_MAX_STOP;
        for (uint32_t i = 0; i < n; i++) {
            size_t len = 1 + (size_t)rand() % 5;
            for (size_t j = 0; j < len; j++) string[i][j] = (char)('a' + rand() % 2);
            string[i][len] = '\0';
            strings[i] = string[i];
        }
        size_t len = (size_t)rand() % sizeof text;
        for (size_t j = 0; j < len; j++) text[j] = (char)('a' + rand() % (turn % 2 ? 2 : 4));
        text[len] = '\0';
        check(strings, n, text, 1 + (size_t)rand() % 6);
    }
}

static void of_two_that_end_together_the_longer_counts(void **state)
{
    (void)state;
    const char *strings[] = {"bc", "abc", "c"};
    vly_stop stop;
    size_t n_read, n_tail;
    assert_int_equal(vly_stop_init(&stop, strings, 3, NULL), 0);
    assert_int_equal(vly_stop_read(&stop, "xabcx", 5, &n_read, &n_tail), 1);
    assert_int_equal(n_read, 4);
    assert_int_equal(n_tail, 3);
    vly_stop_deinit(&stop);
}

static void refuses_what_it_cannot_find(void **state)
{
    (void)state;
    const char *strings[VLY_MAX_STOP + 1];
    for (int i = 0; i <= VLY_MAX_STOP; i++) strings[i] = "a";
    vly_stop stop;
    vly_error err;
    assert_int_equal(vly_stop_init(&stop, strings, VLY_MAX_STOP + 1, &err), VLY_E_INVALID);
    vly_stop_deinit(&stop);
    strings[1] = "";
    assert_int_equal(vly_stop_init(&stop, strings, 2, &err), VLY_E_INVALID);
    assert_non_null(strstr(err.message, "stop string 1"));
    vly_stop_deinit(&stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_a_search_finds),
        cmocka_unit_test(of_two_that_end_together_the_longer_counts),
        cmocka_unit_test(refuses_what_it_cannot_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
