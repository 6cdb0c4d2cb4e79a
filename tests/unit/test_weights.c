/* Where weights will lie on a device, and how many bytes they take: of models of random weights,
 * which take no memory. */
#include "model/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
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
        cmocka_unit_test(a_matrix_larger_than_a_chunk_has_its_own),
        cmocka_unit_test(a_matrix_larger_than_a_buffer_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
