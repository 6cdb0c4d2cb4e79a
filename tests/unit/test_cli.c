/* The commands' common helpers, and `volley inspect` on files that were made to be awkward. */
#include "cli/cli.h"
#include "tests/support/gguf_writer.h"

#include <cjson/cJSON.h>
#include <getopt.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void whole_numbers_are_strict(void **state)
{
    (void)state;
    uint64_t value = 99;
    assert_int_equal(vly_cli_parse_u64("0", 0, 10, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(vly_cli_parse_u64("18446744073709551615", 0, UINT64_MAX, &value), 0);
    assert_true(value == UINT64_MAX);
    static const char *const wrong[] = {"",    " 1", "1 ", "+1", "-1", "0x1",
                                        "1e1", "1.", "x",  "11", "0",  "18446744073709551616"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (vly_cli_parse_u64(wrong[i], 1, 10, &value) == 0) fail_msg("took '%s'", wrong[i]);
    assert_int_equal(vly_cli_parse_u64("18446744073709551616", 0, UINT64_MAX, &value), -1);
    assert_true(value == UINT64_MAX);
}

static void real_numbers_are_strict(void **state)
{
    (void)state;
    double value = 99;
    assert_int_equal(vly_cli_parse_double("0.7", 0, 2, &value), 0);
    assert_true(value == 0.7);
    assert_int_equal(vly_cli_parse_double("-1.5e-1", -1, 2, &value), 0);
    assert_true(value == -0.15);
    assert_int_equal(vly_cli_parse_double(".5", 0, 2, &value), 0);
    assert_true(value == 0.5);
    static const char *const wrong[] = {"",    " 1",  "1 ",   "nan", "inf", "0x1", "1e",
                                        "1e+", "1,5", "1.5f", "-",   "-1",  "3",   "1e999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (vly_cli_parse_double(wrong[i], 0, 2, &value) == 0) fail_msg("took '%s'", wrong[i]);
    assert_int_equal(vly_cli_parse_double("1e999", 0, INFINITY, &value), -1);
    assert_true(value == 0.5);
}

static void any_bytes_become_utf8(void **state)
{
    (void)state;
    static const struct {
        vly_bytes bytes;
        const char *expected;
    } cases[] = {
        {{"", 0}, ""},
        {{"caf\xc3\xa9", 5}, "caf\xc3\xa9"},
        {{"a\0b", 3},
         "a\xef\xbf\xbd"
         "b"},
        {{"\0", 1}, "\xef\xbf\xbd"},
        {{"\xff", 1}, "\xef\xbf\xbd"},
        {{"x\xe2\x82", 3}, "x\xef\xbf\xbd"}, /* ends within a character */
        {{"\xe2\x82\0\xac", 4}, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = vly_cli_utf8(cases[i].bytes);
        assert_string_equal(text, cases[i].expected);
        free(text);
    }
}

/* Runs inspect with standard output and error in a file each, to be freed; returns its status. */
static int run_inspect(char *const *words, int n, char **out, char **err)
{
    char *argv[8] = {0};
    for (int i = 0; i < n; i++) argv[i] = words[i];
    FILE *files[2] = {tmpfile(), tmpfile()};
    int kept[2];
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        assert_non_null(files[i]);
        kept[i] = dup(i + 1);
        assert_true(dup2(fileno(files[i]), i + 1) >= 0);
    }
    optind = 0; /* glibc: start over */
    int status = vly_cli_inspect(n, argv);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        dup2(kept[i], i + 1);
        close(kept[i]);
        off_t size = lseek(fileno(files[i]), 0, SEEK_END);
        char *text = calloc(1, (size_t)size + 1);
        assert_non_null(text);
        rewind(files[i]);
        assert_int_equal(fread(text, 1, (size_t)size, files[i]), size);
        fclose(files[i]);
        *(i ? err : out) = text;
    }
    return status;
}

/* A file of control characters, broken UTF-8, numbers beyond double, and no known architecture. */
static void write_awkward(const char *path)
{
    static const uint8_t data[72];
    gguf_writer *w = gguf_writer_create(3);
    gguf_writer_string(w, "general.architecture", "odd\x1b[2J");
    gguf_writer_string(w, "bad", "\xff\"\\\n\x01");
    gguf_writer_string(w, "c1",
                       "\xc2\x9b"
                       "2J");
    gguf_writer_u32(w, "key\x1b[31m\xfe", 1);
    gguf_writer_unsigned(w, "big", VLY_GGUF_U64, UINT64_MAX);
    gguf_writer_signed(w, "small", VLY_GGUF_I64, INT64_MIN);
    gguf_writer_f32(w, "nan", NAN);
    gguf_writer_f32(w, "epsilon", 1e-5f);
    gguf_writer_numbers(w, "u64s", VLY_GGUF_U64, (uint64_t[]){UINT64_MAX}, 1);
    gguf_writer_numbers(w, "many", VLY_GGUF_U8, data, 20);
    gguf_writer_tensor(w, "t\x1b", 1, (uint64_t[]){16}, 0, data, 64);
    gguf_writer_tensor(w, "u", 2, (uint64_t[]){32, 2}, 9, data, 72);
    assert_int_equal(gguf_writer_save(w, path), 0);
    gguf_writer_destroy(w);
}

static void inspect_survives_awkward_files(void **state)
{
    (void)state;
    char path[] = "/tmp/volley-test-XXXXXX", *out, *err;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_awkward(path);

    char command[] = "inspect", option[] = "--json";
    assert_int_equal(run_inspect((char *[]){command, path}, 2, &out, &err), 0);
    assert_string_equal(err, "");
    for (const char *p = out; *p; p++)
        assert_false((*p < 0x20 && *p != '\n' && *p > 0) || *p == 0x7f);
    assert_null(strstr(out, "\xc2\x9b"));
    assert_non_null(strstr(out, "key\\x1b[31m"));
    assert_non_null(strstr(out, "18446744073709551615"));
    assert_non_null(strstr(out, "does not run"));
    assert_non_null(strstr(out, "q8_1"));
    free(out);
    free(err);

    assert_int_equal(run_inspect((char *[]){command, option, path}, 3, &out, &err), 0);
    assert_string_equal(err, "");
    assert_non_null(strstr(out, "\"big\":18446744073709551615"));
    assert_non_null(strstr(out, "\"small\":-9223372036854775808"));
    assert_non_null(strstr(out, "\"nan\":null"));
    assert_non_null(strstr(out, "\"epsilon\":1e-05"));
    assert_non_null(strstr(out, "\"u64s\":{\"count\":1,\"first\":[18446744073709551615]}"));
    cJSON *json = cJSON_Parse(out);
    assert_non_null(json);
    const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(json, "metadata");
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(metadata, "bad")->valuestring,
                        "\xef\xbf\xbd\"\\\n\x01");
    const cJSON *many = cJSON_GetObjectItemCaseSensitive(metadata, "many");
    assert_int_equal(cJSON_GetObjectItem(many, "count")->valueint, 20);
    const cJSON *totals = cJSON_GetObjectItem(json, "totals");
    assert_int_equal(cJSON_GetObjectItem(totals, "weights")->valueint, 16 + 64);
    assert_int_equal(cJSON_GetObjectItem(totals, "bytes")->valueint, 64 + 72);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(json, "runs")));
    /* Architecture, a format, and that there is no tokenizer. */
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "problems")), 3);
    cJSON_Delete(json);
    free(out);
    free(err);
    assert_int_equal(unlink(path), 0);
}

/* Writes a file whose metadata has that shape, inspects it as JSON and returns "memory", a child of
 * *root. */
static const cJSON *memory_of(uint32_t n_layers, uint32_t n_heads, uint32_t n_heads_kv,
                              uint32_t n_ctx, cJSON **root)
{
    char path[] = "/tmp/volley-test-XXXXXX", *out, *err;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    static const uint8_t row[2 * 34];
    gguf_writer *w = gguf_writer_create(3);
    gguf_writer_string(w, "general.architecture", "llama");
    gguf_writer_u32(w, "llama.block_count", n_layers);
    gguf_writer_u32(w, "llama.context_length", n_ctx);
    gguf_writer_u32(w, "llama.embedding_length", 512);
    gguf_writer_u32(w, "llama.attention.head_count", n_heads);
    gguf_writer_u32(w, "llama.attention.head_count_kv", n_heads_kv);
    gguf_writer_tensor(w, "t", 2, (uint64_t[]){32, 2}, 8, row, sizeof row);
    assert_int_equal(gguf_writer_save(w, path), 0);
    gguf_writer_destroy(w);
    char command[] = "inspect", option[] = "--json";
    assert_int_equal(run_inspect((char *[]){command, path, option}, 3, &out, &err), 0);
    assert_int_equal(unlink(path), 0);
    *root = cJSON_Parse(out);
    assert_non_null(*root);
    free(out);
    free(err);
    return cJSON_GetObjectItem(*root, "memory");
}

static void inspect_measures_memory(void **state)
{
    (void)state;
    cJSON *root;
    const cJSON *memory = memory_of(3, 8, 2, 100, &root);
    /* 2 rows of 32 weights of a byte each, and a scale, which takes a whole word. */
    assert_int_equal(cJSON_GetObjectItem(memory, "weights")->valueint, 2 * (32 + 4));
    assert_int_equal(cJSON_GetObjectItem(memory, "context_tokens")->valueint, 100);
    const cJSON *int8 = cJSON_GetObjectItem(memory, "kv_int8");
    /* 3 layers, 2 KV heads, key and value of 64 bytes and a scale of 2; pages of 32 tokens. */
    assert_int_equal(cJSON_GetObjectItem(int8, "token")->valueint, 3 * 2 * 2 * 66);
    assert_int_equal(cJSON_GetObjectItem(int8, "context")->valueint, 3 * 2 * 2 * 66 * 128);
    const cJSON *f16 = cJSON_GetObjectItem(memory, "kv_f16");
    assert_int_equal(cJSON_GetObjectItem(f16, "token")->valueint, 3 * 2 * 2 * 128);
    cJSON_Delete(root);
    /* Shapes that would overflow or divide by zero are not known, not wrong. */
    memory = memory_of(UINT32_MAX, 1, UINT32_MAX, UINT32_MAX, &root);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(memory, "kv_int8")));
    cJSON_Delete(root);
    memory = memory_of(1, 0, 0, 1, &root);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(memory, "kv_f16")));
    cJSON_Delete(root);
}

static void inspect_refuses_wrong_usage(void **state)
{
    (void)state;
    static const struct {
        const char *words[4];
        int n, status;
        const char *message;
    } cases[] = {
        {{"inspect"}, 1, 2, "MODEL is missing"},
        {{"inspect", "a", "b"}, 3, 2, "unexpected argument 'b'"},
        {{"inspect", "a", "--nope"}, 3, 2, "unknown option '--nope'"},
        {{"inspect", "a", "-x"}, 3, 2, "unknown option '-x'"},
        {{"inspect", "a", "--json=1"}, 3, 2, "option '--json=1' takes no value"},
        {{"inspect", "/no/such/file"}, 2, 1, "volley: error: /no/such/file: No such file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char words[4][32], *argv[4], *out, *err;
        for (int j = 0; j < cases[i].n; j++) argv[j] = strcpy(words[j], cases[i].words[j]);
        assert_int_equal(run_inspect(argv, cases[i].n, &out, &err), cases[i].status);
        assert_string_equal(out, "");
        if (!strstr(err, cases[i].message)) fail_msg("no '%s' in: %s", cases[i].message, err);
        free(out);
        free(err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_are_strict),
        cmocka_unit_test(real_numbers_are_strict),
        cmocka_unit_test(any_bytes_become_utf8),
        cmocka_unit_test(inspect_survives_awkward_files),
        cmocka_unit_test(inspect_measures_memory),
        cmocka_unit_test(inspect_refuses_wrong_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
