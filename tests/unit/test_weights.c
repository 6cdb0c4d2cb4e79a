/* Where weights will lie on a device, and how many bytes they take: of models of random weights,
 * which take no memory. */
#include "model/repack_tile.h"
#include "model/weights.h"
#include "tests/support/gguf_copy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GIB (1ull << 30)

/* Two layers of Mistral 7B. */
#define SHAPE "synthetic:dim=4096,layers=2,heads=32,kv_heads=8,ff=14336,vocab=32000,tied=0"

/* The plan for a device whose buffers hold `limit` bytes. */
static int plan(const char *name, uint64_t limit, bool tiled, vly_weights *out, vly_error *err)
{
    const vly_gpu_info info = {.max_buffer_bytes = limit, .max_allocation_bytes = UINT64_MAX};
    vly_gguf *gguf;
    vly_model_config config;
    if (vly_gguf_open(name, &gguf, err) || vly_model_config_read(gguf, NULL, &config, err))
        fail_msg("%s", err->message);
    int rc = vly_weights_plan(gguf, &config, &info, NULL, 0, tiled, out, err);
    vly_gguf_close(gguf);
    return rc;
}

static void models_take_the_bits_of_their_format(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        double bits, tiled_bits; /* a weight */
    } want[] = {
        {"f16", 16, 16},       {"q4_0", 4.5, 4.5},     {"q4_1", 5, 5},
        {"q5_0", 5.5, 5.5},    {"q5_1", 6, 6},         {"q8_0", 8.5, 8.5},
        {"q2_k", 2.625, 16},   {"q3_k", 3.625, 7},     {"q4_k", 4.625, 5},
        {"q5_k", 5.625, 6},    {"q6_k", 6.625, 7},     {"iq4_nl", 4.5, 8.5},
        {"iq3_s", 4.375, 5.5}, {"iq4_xs", 4.375, 8.5}, {"iq2_xxs", 3.375, 8.5},
    };
    const double embedded = 32000.0 * 4096; /* the head as well */
    const double multiplied = 2 * 4096.0 * (2 * 4096 + 2 * 1024 + 3 * 14336) + embedded;
    for (size_t i = 0; i < 2 * sizeof want / sizeof *want; i++) {
        bool tiled = i % 2;
        const char *format = want[i / 2].format;
        double bits = want[i / 2].bits, expected;
        char name[128];
        vly_weights weights;
        vly_error err;
        snprintf(name, sizeof name, SHAPE ":%s", format);
        if (plan(name, 4 * GIB, tiled, &weights, &err)) fail_msg("%s", err.message);
        /* The embedding lies in rows always. */
        expected = (embedded * bits + multiplied * (tiled ? want[i / 2].tiled_bits : bits)) / 8;
        if ((double)weights.n_bytes < 0.999 * expected ||
            (double)weights.n_bytes > 1.003 * expected)
            fail_msg("%s, %s: expected about %.0f bytes, got %llu", format,
                     tiled ? "tiles" : "rows", expected, (unsigned long long)weights.n_bytes);
        vly_weights_deinit(NULL, &weights);
    }
}

/* ---- A file whose matrices are all of other formats ---- */

/* Zeros, of the formats in turn that can be computed with. */
static const vly_format *as_zeros(void *arg, size_t i, const vly_gguf_tensor *t, uint8_t **data)
{
    const vly_format *formats[VLY_N_FORMATS], *format = t->format;
    size_t n_formats = 0, rows = t->n_dims > 1 ? t->dims[1] : 1;
    (void)arg;
    for (int id = 0; id < VLY_N_FORMATS; id++) {
        formats[n_formats] = vly_format_by_id((vly_format_id)id);
        n_formats += formats[n_formats]->dequantize != NULL;
    }
    if (t->n_dims > 1) format = formats[i % n_formats];
    *data = calloc(t->dims[0] / format->block_weights * rows, format->block_bytes);
    assert_non_null(*data);
    return format;
}

/* A matrix has the format of its tensors, and in tiles the bytes of that: whole ones of 16 rows and
 * units of 64 columns. */
static void expect_matrix(const vly_matrix *m, vly_format_id format)
{
    const vly_tile_layout *l = vly_tile_layout_of(format);
    uint64_t tiles = (m->rows_used + 15) / 16, units = (m->columns + 63) / 64;
    assert_int_equal(m->format, format);
    assert_true(m->tiled);
    assert_int_equal(vly_matrix_bytes(m),
                     tiles * (units * (l->main + l->high + l->scales) + l->factors));
}

static void files_of_many_formats_keep_them(void **state)
{
    (void)state;
    const vly_gpu_info info = {.max_buffer_bytes = GIB, .max_allocation_bytes = GIB};
    vly_gguf *gguf =
        gguf_copy_open("synthetic:dim=256,layers=3,heads=4,kv_heads=2,ff=768,vocab=301,tied=0:f32",
                       as_zeros, NULL);
    vly_model_config config;
    vly_weights w;
    vly_error err;
    if (vly_model_config_read(gguf, NULL, &config, &err) ||
        vly_weights_plan(gguf, &config, &info, NULL, 0, true, &w, &err))
        fail_msg("%s", err.message);
    for (uint32_t i = 0; i < 3; i++) {
        const vly_layer_weights *l = &w.layer[i];
        const vly_tensor_set *t = &w.tensors.layer[i];
        assert_int_equal(l->n_qkv, 3);
        expect_matrix(&l->qkv[0], t->weight[VLY_TENSOR_ATTN_Q]->format->id);
        expect_matrix(&l->qkv[1], t->weight[VLY_TENSOR_ATTN_K]->format->id);
        expect_matrix(&l->qkv[2], t->weight[VLY_TENSOR_ATTN_V]->format->id);
        expect_matrix(&l->out, t->weight[VLY_TENSOR_ATTN_OUTPUT]->format->id);
        expect_matrix(&l->gate_up, VLY_FORMAT_f32); /* rows of two formats in turn */
        expect_matrix(&l->down, t->weight[VLY_TENSOR_FFN_DOWN]->format->id);
    }
    expect_matrix(&w.head, w.tensors.model.weight[VLY_TENSOR_OUTPUT]->format->id);
    assert_false(w.embed.tiled);
    vly_weights_deinit(NULL, &w);
    vly_gguf_close(gguf);
}

/* ---- Large matrices ---- */

/* 151936 x 4096 f16 are 1.16 GiB: the head of an 8B model. */
#define LARGE "synthetic:dim=4096,layers=2,heads=32,ff=64,vocab=151936,tied=0:f16"

static void a_matrix_larger_than_a_chunk_has_its_own(void **state)
{
    (void)state;
    for (int tiled = 0; tiled < 2; tiled++) {
        vly_weights weights;
        vly_error err;
        if (plan(LARGE, 4 * GIB, tiled, &weights, &err)) fail_msg("%s", err.message);
        assert_int_equal(weights.n_chunks, 3);
        assert_int_equal(weights.embed.chunk, 0);
        assert_int_equal(weights.layer[0].out.chunk, 1);
        assert_int_equal(weights.layer[1].down.chunk, 1);
        assert_int_equal(weights.head.chunk, 2);
        assert_true(weights.chunk_bytes[2] > GIB && weights.chunk_bytes[1] < GIB);
        assert_true(weights.n_bytes ==
                    weights.chunk_bytes[0] + weights.chunk_bytes[1] + weights.chunk_bytes[2]);
        vly_weights_deinit(NULL, &weights);
    }
}

static void a_matrix_larger_than_a_buffer_is_named(void **state)
{
    (void)state;
    vly_weights weights;
    vly_error err;
    assert_int_equal(plan(LARGE, GIB, false, &weights, &err), VLY_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "tensor token_embd.weight takes 1187.0 MiB; the device's "
                                        "buffers hold at most 1024.0 MiB"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_take_the_bits_of_their_format),
        cmocka_unit_test(files_of_many_formats_keep_them),
        cmocka_unit_test(a_matrix_larger_than_a_chunk_has_its_own),
        cmocka_unit_test(a_matrix_larger_than_a_buffer_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
