/* The stream of whole UTF-8, against the examples of Unicode 15.0, section 3.9. */
#include "text/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define R "\xEF\xBF\xBD"

static const struct {
    const char *bytes, *text;
} cases[] = {
    {"", ""},
    {"plain", "plain"},
    {"\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF",
     "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
    {"\xED\x9F\xBF\xEE\x80\x80", "\xED\x9F\xBF\xEE\x80\x80"},
    /* Table 3-8: non-shortest forms. */
    {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", R R R R R R R R "A"},
    /* Table 3-9: surrogates. */
    {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", R R R R R R R R "A"},
    /* Table 3-10: beyond U+10FFFF, and bytes that are in no character. */
    {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", R R R R R "A" R R "B"},
    /* Table 3-11: truncated sequences are one each. */
    {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", R R R R "A"},
    {"a\xF0\x9F\x98", "a" R},
    {"\xE2\x82", R},
    {"\xC3", R},
    {"\xF0\x9F\xF0\x9F\x98\x80", R "\xF0\x9F\x98\x80"},
    {"\xC3\xC3\xA9\xC3", R "\xC3\xA9" R},
};

static void check(const char *bytes, size_t n, size_t first, size_t second, const char *text)
{
    vly_utf8_stream stream = {0};
    vly_text out = {0};
    assert_int_equal(vly_utf8_stream_push(&stream, bytes, first, &out), 0);
    assert_int_equal(vly_utf8_stream_push(&stream, bytes + first, second - first, &out), 0);
    assert_true(stream.n_held <= 3);
    assert_int_equal(vly_utf8_stream_push(&stream, bytes + second, n - second, &out), 0);
    assert_int_equal(vly_utf8_stream_finish(&stream, &out), 0);
    assert_int_equal(out.len, strlen(text));
    if (out.len) assert_memory_equal(out.data, text, out.len);
    vly_text_free(&out);
}

static void test_every_split(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        size_t n = strlen(cases[c].bytes);
        for (size_t first = 0; first <= n; first++)
            for (size_t second = first; second <= n; second++)
                check(cases[c].bytes, n, first, second, cases[c].text);
    }
}

/* What can be written is written at once: at most an unfinished character waits. */
static void test_nothing_waits_that_is_whole(void **state)
{
    (void)state;
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    static const size_t whole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    vly_utf8_stream stream = {0};
    vly_text out = {0};
    for (size_t i = 0; i < strlen(text); i++) {
        assert_int_equal(vly_utf8_stream_push(&stream, text + i, 1, &out), 0);
        assert_int_equal(out.len, whole[i + 1]);
    }
    assert_memory_equal(out.data, text, strlen(text));
    vly_text_free(&out);
}

/* Every code point is whole, every surrogate is not. */
static void test_every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char b[4];
        size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
        for (size_t i = n; i-- > 1;) b[i] = (char)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3F));
        b[0] = (char)(lead[n] | c >> (6 * (n - 1)));
        vly_utf8_stream stream = {0};
        vly_text out = {0};
        assert_int_equal(vly_utf8_stream_push(&stream, b, n, &out), 0);
        assert_int_equal(vly_utf8_stream_finish(&stream, &out), 0);
        if (c >= 0xD800 && c < 0xE000) {
            assert_string_equal(out.data, R R R);
        } else {
            assert_int_equal(out.len, n);
            assert_memory_equal(out.data, b, n);
        }
        vly_text_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_nothing_waits_that_is_whole),
        cmocka_unit_test(test_every_code_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
