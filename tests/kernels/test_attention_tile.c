/* Attention of prompts on matrix units: by what stands for these (matrix_emulated.glsl) on any
 * device, and by themselves where it has them. A token's bits depend neither on how its prompt is
 * cut into chunks nor on what else is in one. */
#include "tests/support/attention_case.h"
#include "tests/support/reference.h"

#include "gguf/formats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint32_t words_int8[] = {
#include "attention_emulated_int8.inc"
};
static const uint32_t words_f16[] = {
#include "attention_emulated_f16.inc"
};
static const gpu_spirv emulated[] = {{"attention_emulated_f16", words_f16, sizeof words_f16},
                                     {"attention_emulated_int8", words_int8, sizeof words_int8}};

/* Subgroups of a workgroup on matrix units; 0: these are emulated. */
static uint32_t subgroups;

static void attend(const attention_case *o, bool half_out)
{
    uint32_t heads = subgroups ? subgroups : 1, n_tok = kernel_fixture_step()->n_tok;
    uint32_t constants[] = {32 * heads, o->s.head_dim, half_out};
    uint32_t x = (o->push.n_head + heads - 1) / heads, y = (n_tok + 15) / 16;
    if (subgroups)
        kernel_fixture_run(o->s.int8 ? VLY_SHADER_attention_tile_int8
                                     : VLY_SHADER_attention_tile_f16,
                           constants, 3, &o->push, sizeof o->push, x, y, 1);
    else
        kernel_fixture_run_spirv(&emulated[o->s.int8], constants, 3, &o->push, sizeof o->push, x, y,
                                 1);
}

typedef struct {
    float *of[ATTENTION_N_SLOTS]; /* [ATTENTION_N_POS][n_out] */
} outputs;

static outputs outputs_make(const attention_case *o)
{
    outputs out = {{0}};
    for (uint32_t slot = 0; slot < ATTENTION_N_SLOTS; slot += 2) {
        out.of[slot] = malloc((size_t)ATTENTION_N_POS * o->n_out * sizeof(float));
        assert_non_null(out.of[slot]);
    }
    return out;
}

static void outputs_free(outputs *out)
{
    free(out->of[0]);
    free(out->of[2]);
}

/* One pass over both sequences' tokens from .. to - 1 of the slots that are given an end. */
static void take_chunk(const attention_case *o, const uint32_t *from, const uint32_t *to,
                       outputs *out)
{
    uint32_t token = 0;
    attention_case_clear_step();
    for (uint32_t slot = 0; slot < ATTENTION_N_SLOTS; slot += 2)
        attention_case_add_tokens(o, slot, from[slot], to[slot] - from[slot]);
    attention_case_store(o);
    attend(o, false);
    for (uint32_t slot = 0; slot < ATTENTION_N_SLOTS; slot += 2)
        for (uint32_t pos = from[slot]; pos < to[slot]; pos++)
            memcpy(out->of[slot] + (size_t)pos * o->n_out, attention_case_output(o, token++),
                   o->n_out * sizeof(float));
}

/* Both sequences in chunks that end so. Pages hold no numbers where nothing was written. */
static outputs take_chunks(const attention_case *o, const uint32_t (*ends)[ATTENTION_N_SLOTS],
                           uint32_t n)
{
    outputs out = outputs_make(o);
    uint32_t from[ATTENTION_N_SLOTS] = {0};
    attention_case_forget_pages(o);
    for (uint32_t i = 0; i < n; memcpy(from, ends[i++], sizeof from))
        take_chunk(o, from, ends[i], &out);
    return out;
}

static attention_case make(bool int8, uint32_t head_dim, uint32_t n_head_kv, uint32_t group)
{
    /* The last four are the group form's. */
    return attention_case_make(
        (attention_shape){int8, false, head_dim, n_head_kv, group, 1, 1, 512, 1}, head_dim);
}

static void check_shape(bool int8, uint32_t head_dim, uint32_t n_head_kv, uint32_t group,
                        uint32_t window)
{
    enum { N = ATTENTION_N_POS };
    static const uint32_t alone[][ATTENTION_N_SLOTS] = {{N, 0, 0}, {N, 0, N}};
    static const uint32_t cuts[][ATTENTION_N_SLOTS] = {{1, 0, 0},   {17, 0, 5},  {33, 0, 20},
                                                       {33, 0, 21}, {39, 0, 23}, {64, 0, 87},
                                                       {65, 0, 87}, {N, 0, N}};
    attention_case o = make(int8, head_dim, n_head_kv, group);
    o.push.window = window;
    outputs whole = take_chunks(&o, alone, 2), cut;
    for (uint32_t slot = 0; slot < ATTENTION_N_SLOTS; slot += 2)
        attention_case_check(&o, slot, whole.of[slot], 2e-3);
    cut = take_chunks(&o, cuts, sizeof cuts / sizeof *cuts);
    for (uint32_t slot = 0; slot < ATTENTION_N_SLOTS; slot += 2)
        for (uint32_t pos = 0; pos < N; pos++)
            if (memcmp(whole.of[slot] + (size_t)pos * o.n_out, cut.of[slot] + (size_t)pos * o.n_out,
                       o.n_out * sizeof(float)))
                fail_msg("%s, head size %u, window %u, slot %u, position %u: other bits in chunks",
                         int8 ? "int8" : "f16", head_dim, window, slot, pos);
    outputs_free(&whole);
    outputs_free(&cut);
    attention_case_free(&o);
}

static void check_shapes(void)
{
    static const struct {
        bool int8;
        uint32_t head_dim, n_head_kv, group, window;
    } shapes[] = {{true, 32, 3, 2, 0},    {true, 64, 1, 4, 0},  {true, 64, 1, 1, 7},
                  {true, 96, 1, 1, 33},   {true, 128, 1, 4, 0}, {true, 256, 1, 1, 0},
                  {false, 32, 1, 1, 7},   {false, 64, 2, 3, 0}, {false, 96, 1, 2, 0},
                  {false, 128, 1, 2, 33}, {false, 256, 1, 1, 0}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_shape(shapes[i].int8, shapes[i].head_dim, shapes[i].n_head_kv, shapes[i].group,
                    shapes[i].window);
}

/* By what stands for matrix units, and by these where the device has them. */
static void test_shapes(void **state)
{
    (void)state;
    uint32_t most = fixture.info->matrix_units ? 4 : 0;
    for (subgroups = 0; subgroups <= most; subgroups++) check_shapes();
}

/* What products on matrix units read: halves, in the order of their lanes (half_word of
 * common.glsl). */
static void test_halves(void **state)
{
    (void)state;
    attention_case o = make(true, 64, 2, 2);
    attention_case_forget_pages(&o);
    attention_case_clear_step();
    attention_case_add_tokens(&o, 2, 0, 50);
    attention_case_store(&o);
    subgroups = 0;
    attend(&o, false);
    float *floats = malloc((size_t)50 * o.n_out * sizeof *floats);
    assert_non_null(floats);
    for (uint32_t t = 0; t < 50; t++)
        memcpy(floats + (size_t)t * o.n_out, attention_case_output(&o, t), o.n_out * sizeof(float));
    attend(&o, true);
    for (uint32_t t = 0; t < 50; t++) {
        const uint16_t *got = (const uint16_t *)attention_case_output(&o, t);
        for (uint32_t i = 0; i < o.n_out; i++) {
            uint32_t word = reference_half_word(i / 2);
            assert_int_equal(got[2 * word + i % 2],
                             vly_f32_to_f16(floats[(size_t)t * o.n_out + i]));
        }
    }
    free(floats);
    attention_case_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_halves),
    };
    return cmocka_run_group_tests(tests, kernel_fixture_open, kernel_fixture_close);
}
