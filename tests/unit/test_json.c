/* JSON texts with zero bytes in their strings, and strings written as JSON. */
#include "text/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The string value of `json`, which must be `n` bytes of `expected`. */
static void check_string(const char *json, const char *expected, size_t n)
{
    cJSON *value;
    vly_error err;
    assert_int_equal(vly_json_parse(json, strlen(json), &value, &err), 0);
    assert_true(cJSON_IsString(value));
    vly_text text = {0};
    assert_int_equal(vly_json_string(value, &text), 0);
    assert_int_equal(text.len, n);
    assert_memory_equal(text.data, expected, n + 1);
    vly_text_free(&text);
    cJSON_Delete(value);
}

static void test_strings(void **state)
{
    (void)state;
    check_string("\"\"", "", 0);
    check_string("\"a\\u0000b\"", "a\0b", 3);
    check_string(" \"\\u0000\\u0000\" \n", "\0\0", 2);
    check_string("\"\\\\u0000\"", "\\u0000", 6);
    check_string("\"\\\\\\u0000\"", "\\\0", 2);
    check_string("\"\\\"\\u00e9\\ud83d\\ude00\\n\"", "\"\xC3\xA9\xF0\x9F\x98\x80\n", 8);
    check_string("\"\xC3\xA9\"", "\xC3\xA9", 2);
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        double value;
    } cases[] = {{"0", 0},       {"-0", 0},      {"10", 10},     {"-1.5", -1.5}, {"1e3", 1000},
                 {"1E+3", 1000}, {"25e-1", 2.5}, {"0.25", 0.25}, {"0e5", 0},     {" 7\r\n\t", 7}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *value;
        vly_error err;
        assert_int_equal(vly_json_parse(cases[i].json, strlen(cases[i].json), &value, &err), 0);
        assert_true(cJSON_IsNumber(value) && value->valuedouble == cases[i].value);
        cJSON_Delete(value);
    }
    check_string("\"01 1. \\\"-\"", "01 1. \"-", 8);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        size_t n;
    } cases[] = {
        {"", 0},
        {"{", 1},
        {"\"a", 2},
        {"{} {}", 5},
        {"\"\xFF\"", 3},
        {"\"\\u000\"", 7},
        {"\"\\ud800\"", 8},
        {"\"\0\"", 3},
        {"\"\xC3\"", 3},
        {"{\"a\":}", 6},
        {"[1,2", 4},
        {"nul", 3},
        {"\"\xED\xA0\x80\"", 5},
        {"\\u0000", 6},
        {"\"a\nb\"", 5},
        {"\"a\tb\"", 5},
        {"\"a\x01b\"", 5},
        {"[1,\v2]", 6},
        {"[1,\f2]", 6},
        {"[01]", 4},
        {"[-01]", 5},
        {"[-]", 3},
        {"[1.]", 4},
        {"[.5]", 4},
        {"[1.e5]", 6},
        {"[1e]", 4},
        {"[1e+]", 5},
        {"[1-1]", 5},
        {"[1.5.5]", 7},
        {"[+1]", 4},
        {"[0x1]", 5},
        {"[NaN]", 5},
        {"[\"\\\\\",01]", 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *value;
        vly_error err = {0};
        assert_int_equal(vly_json_parse(cases[i].json, cases[i].n, &value, &err), VLY_E_FORMAT);
        assert_null(value);
        assert_non_null(strstr(err.message, "expected"));
    }
}

static void test_early_end(void **state)
{
    (void)state;
    static const char *const cut[] = {"", "{", "[1,", "{\"a\":1"};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        cJSON *value;
        vly_error err = {0};
        assert_int_equal(vly_json_parse(cut[i], strlen(cut[i]), &value, &err), VLY_E_FORMAT);
        if (!strstr(err.message, "early")) fail_msg("%s: %s", cut[i], err.message);
    }
}

static void test_deep_nesting(void **state)
{
    (void)state;
    size_t n = 1000000;
    char *json = malloc(n);
    memset(json, '[', n);
    cJSON *value;
    vly_error err;
    assert_int_equal(vly_json_parse(json, n, &value, &err), VLY_E_FORMAT);
    free(json);
}

static void test_quote(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *json;
    } cases[] = {
        {"", 0, "\"\""},
        {"plain", 5, "\"plain\""},
        {"a\"b\\c\n\t\0\x1F\x7F", 10, "\"a\\\"b\\\\c\\n\\t\\u0000\\u001f\\u007f\""},
        {"\xC3\xA9\xE2\x96\x81", 5, "\"\xC3\xA9\xE2\x96\x81\""},
        {"x\xFF\xE2\x96", 4, "\"x\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_text out = {0};
        vly_bytes bytes = {cases[i].bytes, cases[i].n};
        assert_int_equal(vly_json_quote(bytes, &out), 0);
        assert_string_equal(out.data, cases[i].json);
        vly_text_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),      cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_early_end),
        cmocka_unit_test(test_deep_nesting), cmocka_unit_test(test_quote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
