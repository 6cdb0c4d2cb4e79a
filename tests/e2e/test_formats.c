/* Small models with weights of each format, through the program: their logits are those of the same
 * weights as F32. And what it says of formats that it does not compute with. */
#include "gguf/gguf.h"
#include "gguf/random_blocks.h"
#include "tests/support/gguf_copy.h"
#include "tests/support/program.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SHAPE "layers=1,vocab=301,ctx=64,tied=0"
#define HEADS "heads=4,kv_heads=2,head_dim=64"
enum { N_POS = 2, N_VOCAB = 301 };

static char folder[] = "/tmp/volley-formats-XXXXXX";
static char model_path[64], twin_path[64];

static vly_gguf *open_model(const char *path)
{
    vly_gguf *gguf;
    vly_error err;
    if (vly_gguf_open(path, &gguf, &err)) fail_msg("%s", err.message);
    return gguf;
}

static size_t weights_of(const vly_gguf_tensor *t)
{
    size_t n = t->dims[0];
    for (uint32_t d = 1; d < t->n_dims; d++) n *= t->dims[d];
    return n;
}

/* Random blocks, unlike those of any other tensor; of the format that `arg` has for the tensor. */
static const vly_format *as_blocks(void *arg, size_t i, const vly_gguf_tensor *t, uint8_t **data)
{
    const vly_format *const *formats = arg, *format = formats[i % VLY_N_FORMATS];
    if (t->n_dims == 1) format = t->format;
    size_t n = weights_of(t) / format->block_weights, shift = 97 * i;
    uint8_t *all = malloc((n + shift) * format->block_bytes);
    vly_error err;
    *data = malloc(n * format->block_bytes);
    assert_true(all && *data);
    if (t->n_dims == 1) {
        memcpy(*data, t->data, t->n_bytes);
    } else {
        if (vly_random_blocks(format, n + shift, all, &err)) fail_msg("%s", err.message);
        memcpy(*data, all + shift * format->block_bytes, n * format->block_bytes);
    }
    free(all);
    return format;
}

static const vly_format *as_floats(void *arg, size_t i, const vly_gguf_tensor *t, uint8_t **data)
{
    (void)arg;
    (void)i;
    float *values = malloc(weights_of(t) * sizeof *values);
    assert_non_null(values);
    t->format->dequantize(t->data, weights_of(t) / t->format->block_weights, values);
    *data = (uint8_t *)values;
    return vly_format_by_id(VLY_FORMAT_f32);
}

/* Writes a model of random blocks and its twin of F32. formats [VLY_N_FORMATS]: of its tensors in
 * turn. */
static void write_models(const vly_format **formats, const char *sizes)
{
    char name[128];
    snprintf(name, sizeof name, "synthetic:" SHAPE ",%s:f32", sizes);
    vly_gguf *shape = open_model(name);
    gguf_copy_changed(shape, model_path, as_blocks, formats);
    vly_gguf_close(shape);
    vly_gguf *model = open_model(model_path);
    gguf_copy_changed(model, twin_path, as_floats, NULL);
    vly_gguf_close(model);
}

/* All logits that the program prints: out [N_POS][N_VOCAB], NaN where it printed none. */
static void read_logits(const char *path, float *out)
{
    char arguments[256];
    int status, n_lines = 0;
    for (int i = 0; i < N_POS * N_VOCAB; i++) out[i] = NAN;
    snprintf(arguments, sizeof arguments, "logits -m %s --ids 7,300 --kv f16 --top %d", path,
             N_VOCAB);
    char *text = program_output(arguments, &status), *rest = text;
    if (status) fail_msg("volley %s: %s", arguments, text);
    for (char *line; (line = strsep(&rest, "\n"));) {
        const cJSON *pair;
        if (line[0] != '{') continue;
        cJSON *json = cJSON_Parse(line);
        assert_true(json && n_lines < N_POS);
        cJSON_ArrayForEach(pair, cJSON_GetObjectItem(json, "top"))
        {
            int id = cJSON_GetArrayItem(pair, 0)->valueint;
            assert_in_range(id, 0, N_VOCAB - 1);
            out[n_lines * N_VOCAB + id] = (float)cJSON_GetArrayItem(pair, 1)->valuedouble;
        }
        cJSON_Delete(json);
        n_lines++;
    }
    free(text);
    assert_int_equal(n_lines, N_POS);
}

/* By how much logits may differ, as a part of the largest. Matrix units take weights as f16: those
 * of the twin are rounded, and those of some formats have scales that are rounded besides. */
static float bound(void)
{
    int status;
    char *text = program_output("devices --json", &status);
    cJSON *json = cJSON_Parse(text);
    const cJSON *device = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "devices"),
                                             cJSON_GetObjectItem(json, "chosen")->valueint);
    const cJSON *units =
        cJSON_GetObjectItem(cJSON_GetObjectItem(device, "features"), "coop_matrix");
    assert_true(cJSON_IsBool(units));
    float part = cJSON_IsTrue(units) ? 4e-3f : 1e-4f;
    cJSON_Delete(json);
    free(text);
    return part;
}

/* Compares the logits of both models: their weights are the same numbers, so that sums differ by
 * rounding only. */
static void compare_models(const char *what)
{
    static float got[N_POS * N_VOCAB], expected[N_POS * N_VOCAB];
    read_logits(model_path, got);
    read_logits(twin_path, expected);
    float most = 0.0f, part = bound();
    for (int i = 0; i < N_POS * N_VOCAB; i++) most = fmaxf(most, fabsf(expected[i]));
    assert_true(most > 0.1f && most < 100.0f);
    for (int i = 0; i < N_POS * N_VOCAB; i++)
        if (!(fabsf(got[i] - expected[i]) <= part * most))
            fail_msg("%s: position %d, token %d: %g, as f32 %g (of at most %g)", what, i / N_VOCAB,
                     i % N_VOCAB, (double)got[i], (double)expected[i], (double)most);
}

static void test_each_format(void **state)
{
    (void)state;
    for (int f = 0; f < VLY_N_FORMATS; f++) {
        const vly_format *formats[VLY_N_FORMATS], *format = vly_format_by_id((vly_format_id)f);
        if (!format->dequantize) continue;
        for (int i = 0; i < VLY_N_FORMATS; i++) formats[i] = format;
        write_models(formats, format->block_weights == 256 ? HEADS ",dim=256,ff=768"
                                                           : HEADS ",dim=96,ff=160");
        compare_models(format->name);
    }
}

/* Every matrix in a format of its own: embedding, Q, K, V, output, gate, up, down, head. */
static void test_mixed_formats(void **state)
{
    (void)state;
    const vly_format *formats[VLY_N_FORMATS];
    int n = 0;
    for (int start = 0; start < 2; start++) {
        for (int f = start * 7; n < VLY_N_FORMATS; f = (f + 1) % VLY_N_FORMATS)
            if (vly_format_by_id((vly_format_id)f)->dequantize)
                formats[n++] = vly_format_by_id((vly_format_id)f);
        write_models(formats, HEADS ",dim=256,ff=256");
        compare_models("mixed formats");
        n = 0;
    }
}

/* Heads that are larger on the device than in the file: rows and columns move apart. */
static void test_small_heads(void **state)
{
    (void)state;
    static const vly_format_id ids[] = {VLY_FORMAT_f16, VLY_FORMAT_q8_0, VLY_FORMAT_q6_k};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        const vly_format *formats[VLY_N_FORMATS];
        for (int j = 0; j < VLY_N_FORMATS; j++) formats[j] = vly_format_by_id(ids[i]);
        write_models(formats, "heads=32,kv_heads=8,head_dim=8,dim=256,ff=256");
        compare_models(formats[0]->name);
    }
}

/* The program refuses the model and says why. */
static void expect_refusal(const char *pattern)
{
    char arguments[256];
    int status;
    snprintf(arguments, sizeof arguments, "run -m %s -p x -n 1", model_path);
    char *text = program_output(arguments, &status);
    assert_int_equal(status, 1);
    if (!strstr(text, pattern)) fail_msg("expected '%s' in: %s", pattern, text);
    free(text);
}

/* Tensor blk.0.ffn_down.weight in a format that cannot be computed with, or, with 256 weights to a
 * block, of rows that it does not divide. */
static const vly_format *with_odd_one(void *arg, size_t i, const vly_gguf_tensor *t, uint8_t **data)
{
    const vly_format *format = arg;
    if (t->name.len != 21 || memcmp(t->name.data, "blk.0.ffn_down.weight", 21) != 0)
        return as_floats(NULL, i, t, data);
    *data = calloc(weights_of(t) / 32, format->block_bytes);
    assert_non_null(*data);
    return format;
}

static void test_refusals(void **state)
{
    (void)state;
    vly_gguf *shape = open_model("synthetic:" SHAPE "," HEADS ",dim=64,ff=256:f32");
    gguf_copy_changed(shape, model_path, with_odd_one, (void *)vly_format_by_id(VLY_FORMAT_tq2_0));
    vly_gguf_close(shape);
    expect_refusal("blk.0.ffn_down.weight has format tq2_0; the formats that work are f32, f16, ");
    shape = open_model("synthetic:" SHAPE "," HEADS ",dim=64,ff=320:f32");
    gguf_copy_changed(shape, model_path, with_odd_one, (void *)vly_format_by_id(VLY_FORMAT_q4_k));
    vly_gguf_close(shape);
    expect_refusal("blk.0.ffn_down.weight");
    expect_refusal("expected a multiple of 256 (the block of q4_k), got 320");
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(model_path, sizeof model_path, "%s/model.gguf", folder);
    snprintf(twin_path, sizeof twin_path, "%s/twin.gguf", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(model_path);
    unlink(twin_path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_format),
        cmocka_unit_test(test_mixed_formats),
        cmocka_unit_test(test_small_heads),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
