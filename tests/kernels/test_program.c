/* A pass as a program leaves the same bits as one of a dispatch for each step. */
#include "model/model_internal.h"
#include "tests/support/gpu_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_BEFORE = 70, N_CTX = 128 }; /* tokens that lie in the pages already: more than two pages */

static vly_gpu *gpu;
static vly_model *model;
static vly_kv_seq seq;
static vly_error err;

static void submit(vly_gpu_commands *const *list, uint32_t n)
{
    uint64_t ticket;
    assert_ok(vly_gpu_submit(gpu, list, n, NULL, NULL, &ticket, &err));
    assert_ok(vly_gpu_wait(gpu, ticket, &err));
}

static vly_gpu_commands *pass(vly_pass which, uint32_t n)
{
    vly_gpu_commands *commands;
    assert_ok(vly_model_pass(model, which, n, &commands, &err));
    return commands;
}

/* The step of `n` tokens from position `pos` on. */
static void write_step(vly_step_buffer which, uint32_t pos, uint32_t n, uint32_t n_rows)
{
    struct vly_step *step = vly_model_step(model, which);
    uint32_t ids[N_BEFORE];
    for (uint32_t i = 0; i < n; i++) ids[i] = 300 + (pos + i) * 37 % 1000;
    memset(step, 0, sizeof *step);
    vly_step_write(step, 0, ids, n, pos, seq.slot);
    step->n_tok = n;
    step->n_rows = n_rows;
    for (uint32_t i = 0; i < n_rows; i++) step->row[i] = i;
}

/* `patience`: that of programs, as in the model's geometry. */
static void open_model(const char *path, uint32_t patience)
{
    vly_gguf *gguf;
    vly_model_options options = {.n_ctx = N_CTX};
    assert_ok(vly_gguf_open(path, &gguf, &err));
    assert_ok(vly_model_create(gpu, gguf, &options, &model, &err));
    vly_gguf_close(gguf);
    model->geometry.patience = patience;
    assert_ok(vly_kv_seq_init(vly_model_kv(model), &seq, &err));
    assert_ok(vly_kv_reserve(&seq, N_CTX, &err));
    write_step(VLY_STEP_BUFFER_PROMPT, 0, N_BEFORE, 0);
    vly_gpu_commands *prompt = pass(VLY_PASS_PROMPT, N_BEFORE);
    submit(&prompt, 1);
}

static void close_model(void)
{
    vly_kv_seq_deinit(&seq);
    vly_model_destroy(model);
}

/* Logits of n tokens after the layers as `layers` does them. */
static float *logits_of(vly_gpu_commands *layers, uint32_t n)
{
    size_t size = (size_t)n * vly_model_logits_stride(model) * sizeof(float);
    float *out = malloc(size);
    assert_non_null(out);
    vly_gpu_commands *const list[] = {layers, pass(VLY_PASS_HEAD, n), pass(VLY_PASS_READ, n)};
    memset(vly_model_logits(model), 0, size);
    submit(list, 3);
    memcpy(out, vly_model_logits(model), size);
    return out;
}

static void compare(const char *path, uint32_t patience)
{
    open_model(path, patience);
    for (uint32_t n = 1; n <= VLY_PROGRAM_TOKENS; n++) {
        vly_gpu_commands *stepwise;
        vly_step_marks marks;
        vly_program program;
        assert_true(vly_model_program(model, VLY_PASS_LAYERS, n, &program));
        assert_ok(vly_model_record_marked(model, VLY_PASS_LAYERS, n, &stepwise, &marks, &err));
        /* Also over fewer tokens than it is recorded for. */
        for (uint32_t n_tok = n > 2 ? n - 1 : n; n_tok <= n; n_tok++) {
            write_step(VLY_STEP_BUFFER_DECODE, N_BEFORE, n_tok, n_tok);
            float *expected = logits_of(stepwise, n_tok),
                  *got = logits_of(pass(VLY_PASS_LAYERS, n), n_tok);
            assert_memory_equal(got, expected,
                                (size_t)n_tok * vly_model_logits_stride(model) * sizeof(float));
            free(expected);
            free(got);
        }
        vly_gpu_commands_destroy(stepwise);
    }
    close_model();
}

static void test_same_bits(void **state)
{
    (void)state;
    if (vly_gpu_get_info(gpu)->type != VLY_GPU_CPU) skip();
    compare("models/stories15M-q8_0.gguf", 1000);
    compare("tests/models/stories15M-q4_0.gguf", 1000);
    compare("tests/models/smol-stories-11M-f16.gguf", 1000);
}

/* Workgroups that never wait leave, and those that are left do the rest. */
static void test_impatient(void **state)
{
    (void)state;
    if (vly_gpu_get_info(gpu)->type != VLY_GPU_CPU) skip();
    compare("models/stories15M-q8_0.gguf", 0);
}

static int setup(void **state)
{
    (void)state;
    return vly_gpu_create(NULL, &gpu, &err);
}

static int teardown(void **state)
{
    (void)state;
    vly_gpu_destroy(gpu);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_impatient)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
