/* gguf/synthetic.h: models of random weights. */
#include "gguf/gguf.h"
#include "gguf/random_blocks.h"
#include "gguf/synthetic_shape.h"
#include "model/config.h"
#include "spec/vocab_map.h"
#include "text/tokenizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static vly_gguf *open_model(const char *name)
{
    vly_gguf *gguf = NULL;
    vly_error err;
    if (vly_gguf_open(name, &gguf, &err)) fail_msg("%s: %s", name, err.message);
    return gguf;
}

static const char *format_of(const vly_gguf *gguf, const char *name)
{
    const vly_gguf_tensor *t = vly_gguf_tensor_find(gguf, name);
    assert_non_null(t);
    return t->format->name;
}

/* Every row of shapes.def is a model that Volley would run, of that shape. */
static void shapes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t dim, n_layer, n_head, n_head_kv, head_dim, ff_dim, n_vocab, n_ctx;
        bool tied;
    } rows[] = {
#define VLY_SHAPE(name, arch, dim, n_layer, n_head, n_head_kv, head_dim, ff_dim, n_vocab, n_ctx,   \
                  rope_base, family, tied)                                                         \
    {name, dim, n_layer, n_head, n_head_kv, head_dim, ff_dim, n_vocab, n_ctx, tied},
#include "gguf/shapes.def"
#undef VLY_SHAPE
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[64];
        snprintf(name, sizeof name, "synthetic:%s:q8_0", rows[i].name);
        vly_gguf *gguf = open_model(name);
        vly_model_config c;
        vly_error err;
        if (vly_model_config_read(gguf, NULL, &c, &err)) fail_msg("%s", err.message);
        assert_int_equal(c.dim, rows[i].dim);
        assert_int_equal(c.n_layer, rows[i].n_layer);
        assert_int_equal(c.n_head, rows[i].n_head);
        assert_int_equal(c.n_head_kv, rows[i].n_head_kv);
        assert_int_equal(c.head_dim, rows[i].head_dim);
        assert_int_equal(c.ff_dim, rows[i].ff_dim);
        assert_int_equal(c.n_vocab, rows[i].n_vocab);
        assert_int_equal(c.n_ctx, rows[i].n_ctx);
        assert_true(c.tied_head == rows[i].tied);
        vly_gguf_close(gguf);
    }
}

static void dimensions(void **state)
{
    (void)state;
    vly_gguf *gguf = open_model("synthetic:dim=96,layers=3,heads=6,kv_heads=2,head_dim=16,ff=160,"
                                "vocab=300,ctx=77,tied=1:f16");
    vly_model_config c;
    vly_error err;
    assert_int_equal(vly_model_config_read(gguf, NULL, &c, &err), 0);
    assert_int_equal(c.dim, 96);
    assert_int_equal(c.n_layer, 3);
    assert_int_equal(c.n_head, 6);
    assert_int_equal(c.n_head_kv, 2);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.ff_dim, 160);
    assert_int_equal(c.n_vocab, 300);
    assert_int_equal(c.n_ctx, 77);
    assert_true(c.tied_head);
    vly_gguf_close(gguf);
}

static void mixes(void **state)
{
    (void)state;
    vly_synthetic_shape s;
    vly_error err;
    assert_int_equal(vly_synthetic_shape_read("mistral-7b:q4_k_m", &s, &err), 0);
    const struct {
        vly_synthetic_role role;
        uint32_t layer;
        const char *format;
    } cases[] = {
        {VLY_SYNTHETIC_EMBED, 0, "q4_k"}, {VLY_SYNTHETIC_HEAD, 0, "q6_k"},
        {VLY_SYNTHETIC_OTHER, 0, "q4_k"}, {VLY_SYNTHETIC_V, 0, "q6_k"},
        {VLY_SYNTHETIC_V, 3, "q6_k"},     {VLY_SYNTHETIC_V, 4, "q4_k"},
        {VLY_SYNTHETIC_V, 5, "q4_k"},     {VLY_SYNTHETIC_DOWN, 6, "q6_k"},
        {VLY_SYNTHETIC_DOWN, 7, "q4_k"},  {VLY_SYNTHETIC_DOWN, 31, "q6_k"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(vly_synthetic_format(&s, cases[i].role, cases[i].layer, 4096)->name,
                            cases[i].format);
    uint32_t n_better = 0;
    for (uint32_t i = 0; i < 32; i++)
        n_better += vly_synthetic_format(&s, VLY_SYNTHETIC_V, i, 4096)->id == VLY_FORMAT_q6_k;
    assert_int_equal(n_better, 16);
    /* A tied head is the embedding, and rows that are no whole blocks have another format. */
    assert_int_equal(vly_synthetic_shape_read("smollm2-135m:q4_k_m", &s, &err), 0);
    assert_string_equal(vly_synthetic_format(&s, VLY_SYNTHETIC_EMBED, 0, 1536)->name, "q6_k");
    const vly_format *f = vly_synthetic_format(&s, VLY_SYNTHETIC_OTHER, 0, 576);
    assert_true(f->id == VLY_FORMAT_q5_0 || f->id == VLY_FORMAT_q8_0);
}

/* Random blocks of every format that Volley computes with have numbers like a model's; without f16
 * scales there are none. */
static void weights(void **state)
{
    (void)state;
    enum { N = 4096 };
    uint32_t n_formats = 0;
    for (int i = 0; i < VLY_N_FORMATS; i++) {
        const vly_format *f = vly_format_by_id(i);
        vly_error err;
        if (!f->dequantize || (f->block_weights > 1 && f->n_scales == 0)) {
            uint8_t block[512];
            assert_int_equal(vly_random_blocks(f, 1, block, &err), VLY_E_UNSUPPORTED);
            continue;
        }
        size_t n_blocks = N / f->block_weights;
        uint8_t *blocks = malloc(n_blocks * f->block_bytes);
        float *values = malloc(N * sizeof *values);
        if (vly_random_blocks(f, n_blocks, blocks, &err)) fail_msg("%s", err.message);
        assert_true(vly_format_finite(f, blocks, n_blocks));
        f->dequantize(blocks, n_blocks, values);
        double sum = 0, squares = 0;
        for (int j = 0; j < N; j++) {
            sum += (double)values[j];
            squares += (double)values[j] * (double)values[j];
        }
        double deviation = sqrt(squares / N);
        if (fabs(sum / N) > 0.004 || deviation < 0.015 || deviation > 0.025)
            fail_msg("%s: mean %g, deviation %g", f->name, sum / N, deviation);
        free(blocks);
        free(values);
        n_formats++;
    }
    assert_in_range(n_formats, 5, VLY_N_FORMATS);
}

/* A large tensor repeats a small pool, in whole blocks. */
static void large_tensors(void **state)
{
    (void)state;
    vly_gguf *gguf = open_model("synthetic:dim=4096,layers=1,vocab=32000:q8_0");
    const vly_gguf_tensor *t = vly_gguf_tensor_find(gguf, "output.weight");
    assert_non_null(t);
    assert_string_equal(format_of(gguf, "output.weight"), "q8_0");
    assert_int_equal(t->n_bytes, 32000ull * 4096 / 32 * 34);
    vly_error err;
    size_t n_blocks = t->n_bytes / 34;
    assert_int_equal(vly_gguf_check_finite(t, t->data, n_blocks, &err), 0);
    assert_int_equal(vly_gguf_check_finite(t, t->data + (n_blocks - 1) * 34, 1, &err), 0);
    vly_gguf_close(gguf);
}

static void encodes_to(const vly_tokenizer *t, const char *text, const uint32_t *expected, size_t n)
{
    vly_ids ids = {0};
    vly_error err;
    assert_int_equal(vly_tokenizer_encode(t, text, strlen(text), 0, &ids, &err), 0);
    assert_int_equal(ids.len, n);
    assert_memory_equal(ids.data, expected, n * sizeof *expected);
    vly_ids_free(&ids);
}

/* Words are tokens, and text of words encodes to them. */
static void vocabulary(void **state)
{
    (void)state;
    vly_gguf *gguf = open_model("synthetic:mistral-7b:q8_0");
    vly_tokenizer *t;
    vly_error err;
    assert_int_equal(vly_tokenizer_create(gguf, &t, &err), 0);
    assert_int_equal(vly_tokenizer_n_vocab(t), 32000);
    const uint32_t a = 259 + 1, ab = 259 + 1 + 26 + 1, x = 3 + 'X';
    encodes_to(t, " a ab", (const uint32_t[]){a, ab}, 2);
    encodes_to(t, " aX", (const uint32_t[]){a, x}, 2);
    for (uint32_t id = 259; id < 32000; id += 613) {
        vly_bytes bytes = vly_tokenizer_bytes(t, id);
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)bytes.len, bytes.data);
        encodes_to(t, text, &id, 1);
    }
    vly_tokenizer_destroy(t);
    vly_gguf_close(gguf);
}

/* Target and draft of unlike families share what they spell alike. */
static void families(void **state)
{
    (void)state;
    vly_gguf *target = open_model("synthetic:mistral-7b:q8_0");
    vly_gguf *draft = open_model("synthetic:smollm2-135m:q8_0");
    vly_gguf *same = open_model("synthetic:tinyllama:f16");
    vly_tokenizer *t, *d, *s;
    vly_error err;
    assert_int_equal(vly_tokenizer_create(target, &t, &err), 0);
    assert_int_equal(vly_tokenizer_create(draft, &d, &err), 0);
    assert_int_equal(vly_tokenizer_create(same, &s, &err), 0);
    vly_vocab_map map;
    assert_int_equal(vly_vocab_map_init(d, t, 49152, 32000, &map, &err), 0);
    assert_false(map.identity);
    assert_in_range(map.n_mapped, 18432, 19000);
    vly_vocab_map_deinit(&map);
    assert_int_equal(vly_vocab_map_init(s, t, 32000, 32000, &map, &err), 0);
    assert_true(map.identity);
    vly_vocab_map_deinit(&map);
    vly_tokenizer_destroy(t);
    vly_tokenizer_destroy(d);
    vly_tokenizer_destroy(s);
    vly_gguf_close(target);
    vly_gguf_close(draft);
    vly_gguf_close(same);
}

static void wrong_names(void **state)
{
    (void)state;
    static const struct {
        const char *name, *says;
    } cases[] = {
        {"synthetic:", "expected SHAPE:FORMAT"},
        {"synthetic:mistral-7b", "expected SHAPE:FORMAT"},
        {"synthetic:gpt-9:q8_0", "mistral-7b"},
        {"synthetic:mistral-7b:q99", "q8_0"},
        {"synthetic:mistral-7b:", "q8_0"},
        {"synthetic:dim=64:q8_0", "layers=N"},
        {"synthetic:dim=64,layers=0:q8_0", "layers: expected"},
        {"synthetic:dim=64,layers=x:q8_0", "layers: expected"},
        {"synthetic:dim=64,layers=2x:q8_0", "layers: expected"},
        {"synthetic:dim=64,layers=99999999999999999999:q8_0", "layers: expected"},
        {"synthetic:dim=65,layers=2:q8_0", "multiples of 32"},
        {"synthetic:dim=64,layers=2,=3:q8_0", "NAME=NUMBER"},
        {"synthetic:dim=64,layers=2,vocab=3:q8_0", "vocab: expected"},
        {"synthetic:dim=64,layers=2,,:q8_0", "NAME=NUMBER"},
        {"synthetic:dim=64,layers=2,heads=3,head_dim=16:q8_0", "multiple of 32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_gguf *gguf;
        vly_error err;
        int rc = vly_gguf_open(cases[i].name, &gguf, &err);
        if (rc != VLY_E_INVALID) fail_msg("%s: expected an error, got %d", cases[i].name, rc);
        if (!strstr(err.message, cases[i].says))
            fail_msg("%s: expected '%s' in: %s", cases[i].name, cases[i].says, err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),   cmocka_unit_test(dimensions),    cmocka_unit_test(mixes),
        cmocka_unit_test(weights),  cmocka_unit_test(large_tensors), cmocka_unit_test(vocabulary),
        cmocka_unit_test(families), cmocka_unit_test(wrong_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
