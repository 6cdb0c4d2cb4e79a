/* Where each pre-tokenizer cuts text, worked out by hand from its pattern. */
#include "base/error.h"
#include "text/tokenizer_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static vly_bytes bytes_of(const char *text)
{
    return (vly_bytes){text, strlen(text)};
}

/* `expected` is the text with a bar between pre-tokens; no case has a bar in its text. */
static void check_split(const char *pre, const char *expected)
{
    vly_pretokenizer *p;
    vly_error err;
    assert_int_equal(vly_pretokenizer_create(bytes_of(pre), &p, &err), 0);
    char text[256], got[512];
    size_t n_text = 0, n_got = 0, n;
    for (const char *c = expected; *c; c++)
        if (*c != '|') text[n_text++] = *c;
    void *match = NULL;
    for (size_t at = 0; at < n_text; at += n) {
        assert_int_equal(vly_pretokenizer_next(p, &match, text + at, n_text - at, &n, &err), 0);
        assert_in_range(n, 1, n_text - at);
        if (at) got[n_got++] = '|';
        memcpy(got + n_got, text + at, n);
        n_got += n;
    }
    got[n_got] = '\0';
    assert_string_equal(got, expected);
    vly_pretokenizer_match_free(match);
    vly_pretokenizer_destroy(p);
}

static void test_gpt2_splits(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "Hello| world",
        "I|'m| here|,| they|'ll| don|'t",
        "I|'|M| THEY|'|LL", /* contractions in lower case only */
        "a| 123|abc",
        "a| | b",
        "x|\n\n | y", /* white space less its last, whatever that is */
        "x|\n|y",
        "end|  ",
        "a|.|b|\t|c",
        "\xC3\xA9t\xC3\xA9| \xE4\xBD\xA0\xE5\xA5\xBD|\xEF\xBC\x81",
        "a|\xC2\x85|b",      /* U+0085 is white space */
        "a| \xE1\xA0\x8E|b", /* U+180E is not */
        "\xC2\xBD\xE2\x85\xA7" /* a fraction and a Roman numeral are numbers */,
        "e|\xCC\x81|x", /* a combining mark is no letter */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_split("gpt-2", cases[i]);
}

static void test_smollm_splits(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "Hello| world", "I|'m|1|'s",   "1|2|3|abc|4",     "a| |1",
        "1|2|  |3|4",   "  |1|\n\n|2", "x|   | y|    |7", "\xC2\xBD|\xE2\x85\xA7|x",
        "3|.|1|4",      "a|  ",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_split("smollm", cases[i]);
}

static void test_llama_bpe_splits(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "Hello| world",
        "I|'M| they|'LL| don|'t",
        "123|45| |678|90",
        "a| | b",
        "x|\n\n| | y",
        "foo|();\n\n|bar",
        "  \n| x",
        "tabs|\tword",
        "a|.b|(c|)",
        "end|  ",
        "\xC2\xBD\xC2\xB2\xC2\xB3|\xC2\xB9",
        " !\"#$|x",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_split("llama-bpe", cases[i]);
}

static void test_qwen2_splits(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "Hello| world",    "I|'M| they|'LL", "1|2|3|4| |5|abc",   "x|\n\n| | y",
        "foo|();\n\n|bar", "a|.b",           "\r\n|a|\r\n\r\n|b",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_split("qwen2", cases[i]);
}

static void test_tekken_splits(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "Hello| world",
        "camel|Case| HTTPServer| i|Phone",
        "\xC3\x89tude| \xC3\x89LAN\xC3\xA9lan|\xC3\x89", /* capitals beyond ASCII */
        "\xD0\xBC\xD0\xB8\xD1\x80|\xD0\x9C\xD0\x98\xD0\xA0",
        "\xE4\xBD\xA0\xE5\xA5\xBDxyz| \xE4\xBD\xA0Xyz", /* letters without case */
        "e\xCC\x81|X\xCC\x81z",                         /* marks belong to words */
        "1|2|3| |4",
        "don|'t| it|'S",
        "foo|();\n/\n|bar| //\n|x",
        "x|\n\n| | y|  ",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_split("tekken", cases[i]);
}

static void test_unknown_pretokenizer(void **state)
{
    (void)state;
    vly_pretokenizer *p;
    vly_error err;
    assert_int_equal(vly_pretokenizer_create(bytes_of("no-such"), &p, &err), VLY_E_UNSUPPORTED);
    static const char *const named[] = {"no-such", "smollm", "gpt-2", "llama-bpe", "qwen2"};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        assert_non_null(strstr(err.message, named[i]));
}

/* A megabyte of white space, at which patterns back up, is cut whole: no limit, no stack runs out.
 */
static void test_long_runs(void **state)
{
    (void)state;
    static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"};
    size_t n_text = 1000001, n;
    char *text = malloc(n_text);
    memset(text, ' ', n_text);
    text[n_text - 1] = 'x';
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        vly_pretokenizer *p;
        vly_error err;
        void *match = NULL;
        assert_int_equal(vly_pretokenizer_create(bytes_of(pres[i]), &p, &err), 0);
        assert_int_equal(vly_pretokenizer_next(p, &match, text, n_text, &n, &err), 0);
        assert_int_equal(n, n_text - 2);
        vly_pretokenizer_match_free(match);
        vly_pretokenizer_destroy(p);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2_splits),      cmocka_unit_test(test_smollm_splits),
        cmocka_unit_test(test_llama_bpe_splits), cmocka_unit_test(test_qwen2_splits),
        cmocka_unit_test(test_tekken_splits),    cmocka_unit_test(test_unknown_pretokenizer),
        cmocka_unit_test(test_long_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
