/* Chat templates against what Jinja makes of the same sources (tests/support/make_templates.py). */
#include "text/chat_template.h"

#include "tests/support/data.h"
#include "text/json.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_MESSAGES 16

static vly_bytes bytes_of(const char *text)
{
    return (vly_bytes){text, strlen(text)};
}

static cJSON *read_json(const char *name)
{
    char path[512];
    size_t n;
    snprintf(path, sizeof path, "templates/%s", name);
    char *text = test_data_read(path, &n);
    cJSON *json;
    vly_error err;
    if (vly_json_parse(text, n, &json, &err)) fail_msg("%s: %s", path, err.message);
    free(text);
    return json;
}

static const char *field(const cJSON *json, const char *name)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItem(json, name));
    assert_non_null(value);
    return value;
}

static size_t read_messages(const cJSON *json, vly_chat_message *messages)
{
    size_t n = 0;
    const cJSON *m;
    cJSON_ArrayForEach(m, json)
    {
        const char *content = cJSON_GetStringValue(cJSON_GetArrayItem(m, 1));
        assert_true(n < MAX_MESSAGES);
        messages[n++] = (vly_chat_message){cJSON_GetStringValue(cJSON_GetArrayItem(m, 0)), content,
                                           strlen(content)};
    }
    return n;
}

/* Every conversation, behind some text that must stay, gives the text at its index, or is refused
 * where that is null. Returns how many were compared. */
static int check_texts(const char *name, const vly_chat_template *t, const cJSON *conversations,
                       const cJSON *texts, bool open)
{
    int n_checked = 0;
    assert_int_equal(cJSON_GetArraySize(conversations), cJSON_GetArraySize(texts));
    const cJSON *conversation, *expected = texts->child;
    cJSON_ArrayForEach(conversation, conversations)
    {
        vly_chat_message messages[MAX_MESSAGES];
        size_t n = read_messages(conversation, messages);
        vly_text text = {0};
        vly_error err = {0};
        assert_int_equal(vly_text_append(&text, "kept", 4), 0);
        int rc = vly_chat_template_render(t, messages, n, open, &text, &err);
        if (cJSON_IsNull(expected)) {
            if (rc != VLY_E_INVALID)
                fail_msg("%s, conversation %d: expected an error, got %s", name, n_checked,
                         text.data);
            assert_non_null(strstr(err.message, "message "));
            assert_string_equal(text.data, "kept");
        } else if (rc || strcmp(text.data + 4, expected->valuestring) != 0) {
            fail_msg("%s, conversation %d: expected\n%s\ngot\n%s", name, n_checked,
                     expected->valuestring, rc ? err.message : text.data + 4);
        }
        vly_text_free(&text);
        expected = expected->next;
        n_checked++;
    }
    return n_checked;
}

static int check_source(const char *name, const cJSON *json, const cJSON *conversations,
                        const char *source)
{
    vly_chat_template *t;
    vly_error err;
    if (vly_chat_template_create(bytes_of(source), bytes_of(field(json, "bos")),
                                 bytes_of(field(json, "eos")), &t, &err))
        fail_msg("%s: %s", name, err.message);
    int n = check_texts(name, t, conversations, cJSON_GetObjectItem(json, "texts"), true);
    n += check_texts(name, t, conversations, cJSON_GetObjectItem(json, "texts_unopened"), false);
    vly_chat_template_destroy(t);
    return n;
}

static void test_references(void **state)
{
    (void)state;
    char path[512];
    cJSON *conversations = read_json("conversations.json");
    DIR *dir = opendir(test_data_path("templates", path, sizeof path));
    assert_non_null(dir);
    int n = 0, n_files = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *name = entry->d_name, *dot = strrchr(name, '.');
        if (!dot || strcmp(dot, ".json") != 0 || strcmp(name, "conversations.json") == 0) continue;
        cJSON *json = read_json(name);
        n += check_source(name, json, conversations, field(json, "template"));
        const char *family = field(json, "family");
        assert_true(!*family || vly_chat_template_has_name(family));
        if (*family) n += check_source(name, json, conversations, family);
        cJSON_Delete(json);
        n_files++;
    }
    closedir(dir);
    cJSON_Delete(conversations);
    assert_true(n_files > 0 && n >= 54 * n_files);
}

static void check_refused(const char *source, const char *why)
{
    vly_chat_template *t = NULL;
    vly_error err = {0};
    int rc =
        vly_chat_template_create(bytes_of(source), bytes_of("<s>"), bytes_of("</s>"), &t, &err);
    if (rc != VLY_E_UNSUPPORTED) fail_msg("expected a refusal of %s", source);
    assert_null(t);
    assert_non_null(strstr(err.message, "--chat-template"));
    assert_non_null(strstr(err.message, "mistral-v0.3"));
    if (!strstr(err.message, why)) fail_msg("expected \"%s\" in: %s", why, err.message);
}

#define LOOP "{% for message in messages %}{{ "
#define IM                                                                                         \
    LOOP "'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"      \
         "{% endfor %}"

static void test_refused(void **state)
{
    (void)state;
    check_refused("", "marks of none");
    check_refused("mistral", "marks of none");
    check_refused("{% for", "does not end");
    check_refused("{{ 'a }}", "does not end");
    check_refused("{# a", "does not end");
    check_refused("{{ bos_token }}" LOOP "'<start_of_turn>' + message['role'] + message['content'] "
                  "}}{% endfor %}",
                  "marks of none");
    check_refused(IM "{{ '<|im_start|>assistant: ' }}", "opens the assistant");
    check_refused(IM "{{ '<|im_start|>assistant\\n' }}{{ '<|im_start|>assistant\\n<think>' }}",
                  "in more than one way");
    check_refused(IM "{{ '<|im_start|>system\\n' }}{{ now }}{{ '<|im_end|>' }}", "system message");
    check_refused(IM
                  "{{ '<|im_start|>system\\nA<|im_end|>' }}{{ '<|im_start|>system\\nB<|im_end|>' "
                  "}}",
                  "more than one default");
    check_refused(IM "{{ '<|begin_of_box|>' }}", "<|begin_of_box|>");
    check_refused(IM "{{ message['content'].split('</think>') }}", "thoughts");
    check_refused(IM "{{ eos_token }}", "not of ChatML's shape");
    check_refused(IM "\n ", "not of ChatML's shape");
    check_refused("{{bos_token}}{{raise_exception('role')}}" LOOP
                  "'[SYSTEM_PROMPT]' + '[INST]' + message['content'] + '[/INST]' }}",
                  "[SYSTEM_PROMPT]");
    check_refused("{{bos_token}}{{raise_exception('role')}}" LOOP
                  "'[INST] ' + message['content'] + '[INST]' + '[/INST]' }}",
                  "more than one way");
    check_refused("\x02{{ role }}", "control bytes");
    check_refused("{{bos_token}} {{raise_exception('role')}} {{ a }} " LOOP
                  "'[INST] ' + message['content'] + ' [/INST]' }}",
                  "Mistral's shape");
    check_refused(LOOP "'<|start_header_id|>' + message['role'] + message['content'].strip() + "
                       "'<|eot_id|>' }}",
                  "Llama 3's shape");
    check_refused(LOOP "'[INST] <<SYS>>' + message['role'] }}", "Llama 2");
    check_refused(LOOP "'<|user|>' + message['content'] + '<|end|><|assistant|>' + eos_token }}",
                  "<|end|>");
}

static void test_bad_messages(void **state)
{
    (void)state;
    vly_chat_template *t;
    vly_error err = {0};
    vly_text out = {0};
    assert_int_equal(
        vly_chat_template_create(bytes_of("chatml"), bytes_of(""), bytes_of(""), &t, &err), 0);
    assert_string_equal(vly_chat_template_name(t), "chatml");
    assert_int_equal(vly_chat_template_render(t, NULL, 0, true, &out, &err), VLY_E_INVALID);
    vly_chat_message m[] = {{"user", "a", 1}, {"tool", "b", 1}};
    assert_int_equal(vly_chat_template_render(t, m, 2, true, &out, &err), VLY_E_INVALID);
    assert_non_null(strstr(err.message, "message 1 has the role 'tool'"));
    m[1].role = NULL;
    assert_int_equal(vly_chat_template_render(t, m, 2, true, &out, &err), VLY_E_INVALID);
    assert_int_equal(out.len, 0);
    /* Contents are bytes: zeros and what is no UTF-8 pass through. */
    m[0] = (vly_chat_message){"user", "a\0\xFF", 3};
    assert_int_equal(vly_chat_template_render(t, m, 1, false, &out, &err), 0);
    static const char expected[] = "<|im_start|>user\na\0\xFF<|im_end|>\n";
    assert_int_equal(out.len, sizeof expected - 1);
    assert_memory_equal(out.data, expected, sizeof expected);
    vly_text_free(&out);
    vly_chat_template_destroy(t);
}

/* Sources cut short or with a byte changed are refused or rendered, and nothing else. */
static void test_damaged(void **state)
{
    (void)state;
    static const char *const files[] = {"qwen3.json", "mistral-v0.3.json", "llama3.2.json",
                                        "zephyr.json", "llama2.json"};
    const vly_chat_message m[] = {{"system", " a ", 3}, {"user", "\xE3\x80", 2}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        cJSON *json = read_json(files[i]);
        char *source = strdup(field(json, "template"));
        size_t n = strlen(source);
        for (size_t at = 0; at < n; at++) {
            for (int cut = 0; cut < 2; cut++) {
                vly_chat_template *t;
                vly_error err;
                vly_text out = {0};
                char kept = source[at];
                if (!cut) source[at] ^= (char)(1 << at % 7);
                int rc = vly_chat_template_create((vly_bytes){source, cut ? at : n},
                                                  bytes_of("<s>"), bytes_of("</s>"), &t, &err);
                source[at] = kept;
                if (rc == 0) {
                    rc = vly_chat_template_render(t, m, 2, true, &out, &err);
                    assert_true(rc == 0 || rc == VLY_E_INVALID);
                    vly_chat_template_destroy(t);
                } else {
                    assert_int_equal(rc, VLY_E_UNSUPPORTED);
                }
                vly_text_free(&out);
            }
        }
        free(source);
        cJSON_Delete(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bad_messages),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
