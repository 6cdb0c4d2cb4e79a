/* Weights on their way to the device, in tiles: those that f16 does not have are found. */
#include "gguf/gguf.h"
#include "model/weights.h"
#include "tests/support/gguf_copy.h"
#include "tests/support/gpu_fixture.h"

#include <stdlib.h>

#define SHAPE "synthetic:dim=64,layers=1,heads=2,ff=96,vocab=301,tied=0:f32"

/* What the weights of one tensor, or of one of its rows, are multiplied by. */
typedef struct {
    const char *name; /* of the tensor */
    float factor;
    bool first_row;
    vly_format_id format;
} change;

static const vly_format *change_tensor(void *arg, size_t i, const vly_gguf_tensor *t,
                                       uint8_t **data)
{
    const change *c = arg;
    (void)i;
    size_t n = t->dims[0] * (t->n_dims > 1 ? t->dims[1] : 1);
    bool changed = t->name.len == strlen(c->name) && !memcmp(t->name.data, c->name, t->name.len);
    const vly_format *format = changed ? vly_format_by_id(c->format) : t->format;
    float *values = malloc(n * sizeof *values);
    assert_non_null(values);
    memcpy(values, t->data, n * sizeof *values);
    for (size_t j = 0; changed && j < (c->first_row ? t->dims[0] : n); j++) values[j] *= c->factor;
    *data = (uint8_t *)values;
    if (format->id == VLY_FORMAT_bf16) /* the upper half of each float */
        for (size_t j = 0; j < n; j++) memmove(*data + 2 * j, *data + 4 * j + 2, 2);
    return format;
}

/* What uploading says; `beyond` is whether it is for f16's sake. */
static int upload(gpu_fixture *f, change c, bool tiled, bool *beyond, vly_error *err)
{
    vly_gguf *gguf = gguf_copy_open(SHAPE, change_tensor, &c);
    vly_model_config config;
    vly_weights weights;
    if (vly_model_config_read(gguf, NULL, &config, err) ||
        vly_weights_plan(gguf, &config, vly_gpu_get_info(f->gpu), NULL, 0, tiled, &weights, err))
        fail_msg("%s", err->message);
    int rc = vly_weights_upload(f->gpu, &weights, NULL, NULL, err);
    *beyond = weights.beyond_f16;
    vly_weights_deinit(f->gpu, &weights);
    vly_gguf_close(gguf);
    return rc;
}

static void weights_beyond_f16_are_found(void **state)
{
    static const char down[] = "blk.0.ffn_down.weight", key[] = "blk.0.attn_k.weight";
    static const struct {
        change c;
        const char *why; /* NULL: tiles hold them */
    } cases[] = {
        {{down, 1, false, VLY_FORMAT_f32}, NULL},
        {{down, 1, false, VLY_FORMAT_bf16}, NULL},
        {{down, 0, false, VLY_FORMAT_f32}, NULL},
        {{down, 1e-9f, true, VLY_FORMAT_f32}, NULL}, /* a row that hardly matters */
        {{down, 1e9f, true, VLY_FORMAT_f32}, "ffn_down.weight': weights too large for f16"},
        {{down, 1e9f, false, VLY_FORMAT_bf16}, "ffn_down.weight': weights too large for f16"},
        {{down, 1e-9f, false, VLY_FORMAT_f32}, "ffn_down.weight': weights too small for f16"},
        {{down, 1e-9f, false, VLY_FORMAT_bf16}, "ffn_down.weight': weights too small for f16"},
        {{key, 1e9f, true, VLY_FORMAT_bf16}, "attn_k.weight': weights too large for f16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_error err = {0};
        bool beyond;
        assert_int_equal(upload(*state, cases[i].c, false, &beyond, &err), 0);
        assert_false(beyond);
        int rc = upload(*state, cases[i].c, true, &beyond, &err);
        assert_int_equal(beyond, cases[i].why != NULL);
        assert_int_equal(rc, cases[i].why ? VLY_E_UNSUPPORTED : 0);
        if (cases[i].why && !strstr(err.message, cases[i].why))
            fail_msg("case %zu: '%s' lacks '%s'", i, err.message, cases[i].why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_beyond_f16_are_found),
    };
    return cmocka_run_group_tests(tests, gpu_fixture_open, gpu_fixture_close);
}
