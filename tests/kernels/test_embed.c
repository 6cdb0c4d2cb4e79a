/* The embedding kernel: rows of every format, the first norm's input and the sums of squares. */
#include "model/repack.h"
#include "tests/support/kernel_fixture.h"
#include "tests/support/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_VOCAB = 37 };

static void check_tokens(const struct vly_push_embed *p, const reference_matrix *w,
                         const float *norm_weights, uint32_t n_tok, uint32_t groups)
{
    const struct vly_step *step = kernel_fixture_step();
    for (uint32_t t = 0; t < n_tok; t++) {
        const float *x = kernel_fixture_act(p->x_quad + t * p->stride);
        const float *xn = kernel_fixture_act(p->xn_quad + t * p->stride);
        const float *squares = kernel_fixture_act(p->squares_quad + t);
        const float *row = w->w + (size_t)step->token[t].id * w->k;
        for (uint32_t i = 0; i < w->k; i++) {
            /* One product each: exactly so. */
            assert_true(x[i] == row[i]);
            assert_true(xn[i] == row[i] * norm_weights[i]);
        }
        uint32_t padded = p->blocks * 32;
        for (uint32_t i = w->k; i < padded; i++) assert_true(x[i] == 0.0f && xn[i] == 0.0f);
        assert_true(isnan(x[padded])); /* between tokens nothing is written */
        assert_true(isnan(xn[padded]));
        double sum = reference_dot(row, row, w->k, NULL);
        double parts = 0;
        for (uint32_t i = 0; i < 4; i++) parts += (double)squares[i];
        assert_true(fabs(parts - sum) <= 1e-6 * sum);
        for (uint32_t i = groups; i < 4; i++) assert_true(squares[i] == 0.0f);
    }
    assert_true(isnan(*kernel_fixture_act(p->squares_quad + n_tok)));
}

/* `groups`: subgroups that share a token. */
static void check_format(vly_format_id format, uint32_t k, uint32_t n_tok, uint32_t groups)
{
    uint64_t random = format * 1000u + k;
    kernel_fixture_reset();
    kernel_fixture_take(11);
    reference_matrix w = reference_matrix_make(&random, format, N_VOCAB, k);
    const uint64_t parts_at = 48, scales_at = UINT64_C(768) * 1024 + 12;
    assert_true(parts_at + w.n_part_bytes <= scales_at);
    memcpy((char *)fixture.weights.mapped + parts_at, w.parts, w.n_part_bytes);
    memcpy((char *)fixture.weights.mapped + scales_at, w.scales, w.n_scale_bytes);
    float *norm_weights = calloc(k + 32, sizeof *norm_weights); /* zeros beyond k, as a model's */
    assert_non_null(norm_weights);
    reference_normals(&random, norm_weights, k);
    struct vly_push_embed p = {
        .weights = fixture.weights.address + parts_at,
        .scales = fixture.weights.address + scales_at,
        .act = fixture.act.address,
        .step = fixture.step.address,
        .norm_quad = kernel_fixture_put(norm_weights, k + 32),
        .blocks = (k + 31) / 32,
        .stride = (k + 31) / 32 * 8 + 2,
    };
    p.x_quad = kernel_fixture_take((size_t)n_tok * p.stride);
    p.xn_quad = kernel_fixture_take((size_t)n_tok * p.stride);
    p.squares_quad = kernel_fixture_take(n_tok);
    struct vly_step *step = kernel_fixture_step();
    memset(step, 0, sizeof *step);
    step->n_tok = n_tok;
    for (uint32_t t = 0; t < n_tok; t++) step->token[t].id = (t * 5 + 36) % N_VOCAB;
    const uint32_t width = fixture.lanes * groups;
    /* Recorded for more tokens than there are. */
    kernel_fixture_run((vly_shader_id)vly_layout_of(format)->embed, &width, 1, &p, sizeof p,
                       n_tok + 3, 1, 1);
    check_tokens(&p, &w, norm_weights, n_tok, groups);
    free(norm_weights);
    reference_matrix_free(&w);
}

static void test_formats(void **state)
{
    (void)state;
    const uint32_t ks[] = {32, 96, 288, 576}, long_ks[] = {256, 512, 768, 1024};
    const uint32_t float_ks[] = {4, 32, 100, 578}, n_tok[] = {1, 5, 16, 40};
    for (uint32_t f = 0; f < VLY_N_FORMATS; f++) {
        if (!vly_layout_of((vly_format_id)f)) continue;
        uint32_t block = vly_format_by_id((vly_format_id)f)->block_weights;
        for (uint32_t i = 0; i < 4; i++)
            check_format((vly_format_id)f,
                         block == 256  ? long_ks[i]
                         : block == 32 ? ks[i]
                                       : float_ks[i],
                         n_tok[(i + f) % 4], (i + f) % 3 == 0 ? 4 : (i + f) % 3);
    }
}

/* A pass whose steps wait for counts begins with none, and with plain values. */
static void test_clears_counts(void **state)
{
    (void)state;
    enum { K = 64, N_COUNTS = 300 };
    uint64_t random = 6;
    const uint32_t constants[] = {4 * fixture.lanes, 1};
    kernel_fixture_reset();
    reference_matrix w = reference_matrix_make(&random, VLY_FORMAT_f32, N_VOCAB, K);
    memcpy(fixture.weights.mapped, w.parts, w.n_part_bytes);
    struct vly_push_embed p = {.weights = fixture.weights.address,
                               .scales = fixture.weights.address,
                               .act = fixture.act.address,
                               .step = fixture.step.address,
                               .blocks = K / 32,
                               .stride = K / 4};
    p.norm_quad = kernel_fixture_take(K / 4);
    p.x_quad = kernel_fixture_take(K / 4);
    p.xn_quad = kernel_fixture_take(K / 8);
    p.squares_quad = kernel_fixture_take(1);
    uint32_t quad = kernel_fixture_take(N_COUNTS / 4 + 1);
    uint32_t *count = (uint32_t *)kernel_fixture_act(quad);
    memset(count, 0x55, (N_COUNTS + 1) * sizeof *count);
    p.chain = (struct vly_chain){.word = quad * 4, .awaited = N_COUNTS};
    struct vly_step *step = kernel_fixture_step();
    memset(step, 0, sizeof *step);
    step->n_tok = 1;
    step->token[0].id = 3;
    kernel_fixture_run((vly_shader_id)vly_layout_of(VLY_FORMAT_f32)->embed, constants, 2, &p,
                       sizeof p, 1, 1, 1);
    for (uint32_t i = 0; i < N_COUNTS; i++) assert_int_equal(count[i], 0);
    assert_int_equal(count[N_COUNTS], 0x55555555);
    assert_memory_equal(kernel_fixture_act(p.x_quad), w.w + 3 * K, K * sizeof(float));
    reference_matrix_free(&w);
}

/* What a chain of steps reads: the same values, each with the pass's tag, and the next epoch. */
static void test_tagged(void **state)
{
    (void)state;
    enum { K = 128, N_TOK = 3, APART = 77 };
    uint64_t random = 5;
    const uint32_t constants[] = {4 * fixture.lanes, 1}, epochs[4] = {1000, 1000, 0, 0};
    kernel_fixture_reset();
    reference_matrix w = reference_matrix_make(&random, VLY_FORMAT_f32, N_VOCAB, K);
    memcpy(fixture.weights.mapped, w.parts, w.n_part_bytes);
    float norm_weights[K];
    for (int i = 0; i < K; i++) norm_weights[i] = 1;
    struct vly_push_embed p = {.weights = fixture.weights.address,
                               .scales = fixture.weights.address,
                               .act = fixture.act.address,
                               .step = fixture.step.address,
                               .norm_quad = kernel_fixture_put(norm_weights, K),
                               .blocks = K / 32,
                               .stride = K / 4};
    uint32_t epoch_quad = kernel_fixture_put((const float *)epochs, 4);
    p.chain = (struct vly_chain){.word = epoch_quad * 4 + 1, .written = 1, .residual = APART};
    p.x_quad = kernel_fixture_take(2 * N_TOK * K / 4);
    p.xn_quad = kernel_fixture_take(N_TOK * K / 4);
    p.squares_quad = kernel_fixture_take(2 * N_TOK);
    struct vly_step *step = kernel_fixture_step();
    memset(step, 0, sizeof *step);
    step->n_tok = N_TOK;
    for (uint32_t t = 0; t < N_TOK; t++) step->token[t].id = 7 * t;
    kernel_fixture_run((vly_shader_id)vly_layout_of(VLY_FORMAT_f32)->embed, constants, 2, &p,
                       sizeof p, N_TOK, 1, 1);
    const uint32_t tag = 1000 + APART + 1;
    const uint32_t *epoch = (const uint32_t *)kernel_fixture_act(epoch_quad);
    assert_int_equal(epoch[0], 1000); /* which the first step after it moves on */
    assert_int_equal(epoch[1], 1000 + APART);
    for (uint32_t t = 0; t < N_TOK; t++) {
        const float *row = w.w + (size_t)step->token[t].id * K;
        const float *x = kernel_fixture_act(p.x_quad + t * K / 2);
        const float *xn = kernel_fixture_act(p.xn_quad + t * K / 4);
        const float *squares = kernel_fixture_act(p.squares_quad + 2 * t);
        double sum = 0;
        for (uint32_t i = 0; i < K; i++) {
            uint32_t word = reference_half_word(i / 2), half;
            assert_true(x[2 * i] == row[i]);
            assert_memory_equal(&x[2 * i + 1], &tag, 4);
            memcpy(&half, &xn[2 * word], 4);
            assert_int_equal(i % 2 ? half >> 16 : half & 0xffff, vly_f32_to_f16(row[i]));
            assert_memory_equal(&xn[2 * word + 1], &tag, 4);
        }
        for (uint32_t i = 0; i < 4; i++) {
            sum += (double)squares[2 * i];
            assert_memory_equal(&squares[2 * i + 1], &tag, 4);
        }
        double want = reference_dot(row, row, K, NULL);
        assert_true(fabs(sum - want) <= 1e-6 * want);
    }
    reference_matrix_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formats),
                                       cmocka_unit_test(test_clears_counts),
                                       cmocka_unit_test(test_tagged)};
    return cmocka_run_group_tests(tests, kernel_fixture_open, kernel_fixture_close);
}
