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

static kernel_fixture fixture;

enum { N_VOCAB = 37 };

static void check_tokens(const struct vly_push_embed *p, const reference_matrix *w,
                         const float *norm_weights, uint32_t n_tok)
{
    const struct vly_step *step = kernel_fixture_step(&fixture);
    for (uint32_t t = 0; t < n_tok; t++) {
        const float *x = kernel_fixture_act(&fixture, p->x_quad + t * p->stride);
        const float *xn = kernel_fixture_act(&fixture, p->xn_quad + t * p->stride);
        const float *squares = kernel_fixture_act(&fixture, p->squares_quad + t);
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
        assert_true(fabs((double)squares[0] - sum) <= 1e-6 * sum);
        for (int i = 1; i < 4; i++) assert_true(squares[i] == 0.0f);
    }
    assert_true(isnan(*kernel_fixture_act(&fixture, p->squares_quad + n_tok)));
}

static void check_format(vly_format_id format, uint32_t k, uint32_t n_tok)
{
    uint64_t random = format * 1000u + k;
    kernel_fixture_reset(&fixture);
    kernel_fixture_take(&fixture, 11);
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
        .norm_quad = kernel_fixture_put(&fixture, norm_weights, k + 32),
        .blocks = (k + 31) / 32,
        .stride = (k + 31) / 32 * 8 + 2,
    };
    p.x_quad = kernel_fixture_take(&fixture, (size_t)n_tok * p.stride);
    p.xn_quad = kernel_fixture_take(&fixture, (size_t)n_tok * p.stride);
    p.squares_quad = kernel_fixture_take(&fixture, n_tok);
    struct vly_step *step = kernel_fixture_step(&fixture);
    memset(step, 0, sizeof *step);
    step->n_tok = n_tok;
    for (uint32_t t = 0; t < n_tok; t++) step->token[t].id = (t * 5 + 36) % N_VOCAB;
    /* Recorded for more tokens than there are. */
    kernel_fixture_run(&fixture, (vly_shader_id)vly_layout_of(format)->embed, &fixture.lanes, 1, &p,
                       sizeof p, n_tok + 3, 1, 1);
    check_tokens(&p, &w, norm_weights, n_tok);
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
                         n_tok[(i + f) % 4]);
    }
}

static int setup(void **state)
{
    (void)state;
    return kernel_fixture_open(&fixture);
}

static int teardown(void **state)
{
    (void)state;
    kernel_fixture_close(&fixture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formats)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
