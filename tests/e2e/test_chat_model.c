/* Models that bring a chat template: the engine spells conversations with it. */
#include "text/json.h"
#include "volley.h"

#include "tests/support/data.h"
#include "tests/support/gguf_copy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/volley-test-XXXXXX";

/* The shipped target with `source` for its template. */
static void write_model(const char *source)
{
    vly_gguf *gguf;
    vly_error err;
    if (vly_gguf_open("models/stories15M-q8_0.gguf", &gguf, &err)) fail_msg("%s", err.message);
    gguf_copy_with(gguf, "tokenizer.chat_template", source, path);
    vly_gguf_close(gguf);
}

static char *reference_template(const char *name)
{
    char file[128];
    size_t n;
    cJSON *json;
    vly_error err;
    snprintf(file, sizeof file, "templates/%s.json", name);
    char *text = test_data_read(file, &n);
    assert_int_equal(vly_json_parse(text, n, &json, &err), 0);
    char *source = strdup(cJSON_GetStringValue(cJSON_GetObjectItem(json, "template")));
    cJSON_Delete(json);
    free(text);
    return source;
}

static vly_engine *load(const char *chat_template)
{
    vly_engine *engine;
    vly_error err;
    vly_engine_options options = {.target = path, .chat_template = chat_template};
    if (vly_engine_create(&options, &engine, &err)) fail_msg("%s", err.message);
    return engine;
}

static void check_spelled(vly_engine *engine, const vly_chat_message *messages, size_t n,
                          const char *expected)
{
    char *text;
    size_t len;
    vly_error err;
    if (vly_engine_apply_template(engine, messages, n, true, &text, &len, &err))
        fail_msg("%s", err.message);
    assert_string_equal(text, expected);
    assert_int_equal(len, strlen(expected));
    free(text);
}

static const vly_chat_message hello[] = {{"system", "Be brief.", 9}, {"user", "Hi", 2}};

static void test_own_template(void **state)
{
    (void)state;
    char *source = reference_template("mistral-v0.3");
    write_model(source);
    free(source);
    vly_engine *engine = load(NULL);
    check_spelled(engine, hello, 2, "<s>[INST] Be brief.\n\nHi[/INST]");
    /* Its beginning of text is the one token, and not put in front again. */
    uint32_t *ids;
    size_t n;
    vly_error err;
    assert_int_equal(vly_engine_tokenize(engine, "<s> Hi", 6, true, true, &ids, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], 1);
    free(ids);
    char *text;
    size_t len;
    const vly_chat_message twice[] = {hello[1], hello[1]};
    assert_int_equal(vly_engine_apply_template(engine, twice, 2, true, &text, &len, &err),
                     VLY_E_INVALID);
    assert_non_null(strstr(err.message, "message 1"));
    vly_engine_destroy(engine);
}

static void test_other_template(void **state)
{
    (void)state;
    vly_engine *engine = load("zephyr");
    check_spelled(engine, hello, 2, "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\n");
    vly_engine_destroy(engine);
    vly_error err;
    vly_engine_options options = {.target = path, .chat_template = "{{ messages }}"};
    assert_int_equal(vly_engine_create(&options, &engine, &err), VLY_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "--chat-template"));
}

/* A model whose template is not known writes text as any other; only conversations it cannot. */
static void test_unknown_template(void **state)
{
    (void)state;
    write_model("{{ messages }}");
    vly_engine *engine = load(NULL);
    char *text;
    size_t len;
    vly_error err;
    assert_int_equal(vly_engine_apply_template(engine, hello, 2, true, &text, &len, &err),
                     VLY_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "--chat-template"));
    vly_engine_destroy(engine);
}

static int set_up(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_template),
        cmocka_unit_test(test_other_template),
        cmocka_unit_test(test_unknown_template),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
