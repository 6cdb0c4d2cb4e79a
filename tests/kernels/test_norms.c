/* The norms that have kernels of their own, against sums in double: of Q and K, which are rotated
 * too, and of what a layer adds to the residual stream. */
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

enum { N_TOK = 5, N_POS = 40 };
#define EPSILON 0.01f

static float *numbers(uint64_t *random, size_t n)
{
    float *out = malloc(n * sizeof *out);
    assert_non_null(out);
    reference_normals(random, out, n);
    return out;
}

static void expect_near(const char *what, uint32_t size, uint32_t i, float got, double expected)
{
    if (fabs((double)got - expected) > 2e-6 * (1 + fabs(expected)))
        fail_msg("%s of size %u, number %u: %.9g, not %.9g", what, size, i, (double)got, expected);
}

/* The factor of the norm of `n` numbers. */
static double factor_of(const float *x, uint32_t n)
{
    return reference_norm_factor(reference_dot(x, x, n, NULL), n, (double)EPSILON);
}

static struct vly_step *step_of(uint32_t n_tok)
{
    struct vly_step *step = kernel_fixture_step();
    memset(step, 0, sizeof *step);
    step->n_tok = n_tok;
    for (uint32_t t = 0; t < n_tok; t++) step->token[t].pos = (t * 17 + 3) % N_POS;
    return step;
}

/* ---- Q and K ---- */

/* One head: what the kernel made of `x`, with this factor, these weights and the table's row. */
static void check_head(uint32_t head_dim, const float *x, double factor, const float *weights,
                       const float *rope, const float *got)
{
    for (uint32_t i = 0; i < head_dim; i += 2) {
        double a = (double)x[i] * factor * (double)weights[i];
        double b = (double)x[i + 1] * factor * (double)weights[i + 1];
        double c = (double)rope[i], s = (double)rope[i + 1];
        expect_near("head", head_dim, i, got[i], a * c - b * s);
        expect_near("head", head_dim, i + 1, got[i + 1], a * s + b * c);
    }
}

/* A token's Q and K; V, behind them, is as it was. */
static void check_token(const struct vly_push_qk_norm *p, const float *x, const float *weights,
                        const float *rope, const float *got)
{
    uint32_t dim = p->head_dim, n_k = p->n_head + p->n_head_kv;
    for (uint32_t h = 0; h < n_k; h++) {
        bool k = h >= p->n_head;
        uint32_t first = k ? p->n_head : 0, heads = k ? p->n_head_kv : p->n_head;
        double factor =
            p->whole ? factor_of(x + first * dim, heads * dim) : factor_of(x + h * dim, dim);
        check_head(dim, x + h * dim, factor, weights + (p->whole ? h : k) * dim, rope,
                   got + h * dim);
    }
    assert_memory_equal(got + n_k * dim, x + n_k * dim, p->n_head_kv * dim * sizeof *got);
}

static void check_qk(uint32_t head_dim, uint32_t n_head, uint32_t n_head_kv, bool whole)
{
    uint64_t random = head_dim + n_head;
    uint32_t n = (n_head + 2 * n_head_kv) * head_dim, stride = n / 4 + 3;
    uint32_t n_weights = (whole ? n_head + n_head_kv : 2) * head_dim;
    float *x = numbers(&random, (size_t)N_TOK * n), *weights = numbers(&random, n_weights);
    float *rope = numbers(&random, (size_t)N_POS * head_dim);
    for (uint32_t i = 0; i < head_dim; i++) x[i] *= 1e-3f; /* epsilon counts here */
    kernel_fixture_reset();
    struct vly_push_qk_norm p = {
        .act = fixture.act.address,
        .step = fixture.step.address,
        .weights_quad = kernel_fixture_put(weights, n_weights),
        .rope_quad = kernel_fixture_put(rope, (size_t)N_POS * head_dim),
        .qkv_stride = stride,
        .n_head = n_head,
        .n_head_kv = n_head_kv,
        .head_dim = head_dim,
        .whole = whole,
        .norm_epsilon = EPSILON,
    };
    p.qkv_quad = kernel_fixture_take((size_t)(N_TOK + 2) * stride);
    const struct vly_step *step = step_of(N_TOK);
    for (uint32_t t = 0; t < N_TOK; t++)
        memcpy(kernel_fixture_act(p.qkv_quad + t * stride), x + (size_t)t * n, n * sizeof *x);
    /* Rows of workgroups for more tokens than the step has. */
    kernel_fixture_run(VLY_SHADER_qk_norm, &fixture.lanes, 1, &p, sizeof p,
                       whole ? 2 : n_head + n_head_kv, N_TOK + 2, 1);
    for (uint32_t t = 0; t < N_TOK; t++)
        check_token(&p, x + (size_t)t * n, weights, rope + (size_t)step->token[t].pos * head_dim,
                    kernel_fixture_act(p.qkv_quad + t * stride));
    const float *behind = kernel_fixture_act(p.qkv_quad + N_TOK * stride);
    for (uint32_t i = 0; i < 2 * stride * 4; i++) assert_true(isnan(behind[i]));
    free(x);
    free(weights);
    free(rope);
}

static void test_heads(void **state)
{
    (void)state;
    check_qk(16, 1, 1, false);
    check_qk(48, 3, 1, false);
    check_qk(64, 4, 2, false);
    check_qk(80, 2, 2, false);
    check_qk(128, 5, 1, false);
    check_qk(256, 2, 1, false);
}

static void test_all_heads_together(void **state)
{
    (void)state;
    check_qk(16, 1, 1, true);
    check_qk(48, 6, 2, true);
    check_qk(128, 3, 3, true);
}

/* ---- what a layer adds ---- */

/* Number i of a token's x as matrix units read it: see half_word in shaders/common.glsl. */
static float half_at(const float *x, uint32_t i)
{
    uint32_t pair = i / 2, t = pair % 32 / 8, q = pair % 8;
    uint16_t half;
    memcpy(&half, (const uint16_t *)x + 2 * (pair / 32 * 32 + q % 4 * 8 + t * 2 + q / 4) + i % 2,
           sizeof half);
    return vly_f16_to_f32(half);
}

static void check_post(uint32_t dim, bool half)
{
    uint64_t random = dim;
    uint32_t stride = dim / 4 + 2, squares_stride = 3;
    float *x = numbers(&random, (size_t)N_TOK * dim), *y = numbers(&random, (size_t)N_TOK * dim);
    float *weights = numbers(&random, dim), *next = numbers(&random, dim);
    kernel_fixture_reset();
    struct vly_push_post_norm p = {
        .act = fixture.act.address,
        .step = fixture.step.address,
        .stride = stride,
        .weights_quad = kernel_fixture_put(weights, dim),
        .next_quad = kernel_fixture_put(next, dim),
        .y_quad = kernel_fixture_take((size_t)N_TOK * stride),
        .x_quad = kernel_fixture_take((size_t)N_TOK * stride),
        .xn_quad = kernel_fixture_take((size_t)N_TOK * stride),
        .squares_quad = kernel_fixture_take((size_t)(N_TOK + 1) * squares_stride),
        .squares_stride = squares_stride,
        .dim = dim,
        .norm_epsilon = EPSILON,
    };
    uint32_t xn_stride = half ? (dim + 63) / 64 * 8 : stride;
    step_of(N_TOK);
    for (uint32_t t = 0; t < N_TOK; t++) {
        memcpy(kernel_fixture_act(p.x_quad + t * stride), x + (size_t)t * dim, dim * sizeof *x);
        memcpy(kernel_fixture_act(p.y_quad + t * stride), y + (size_t)t * dim, dim * sizeof *y);
    }
    const uint32_t constants[] = {fixture.lanes, half};
    kernel_fixture_run(VLY_SHADER_post_norm, constants, 2, &p, sizeof p, N_TOK + 1, 1, 1);
    for (uint32_t t = 0; t < N_TOK; t++) {
        const float *got = kernel_fixture_act(p.x_quad + t * stride);
        const float *xn = kernel_fixture_act(p.xn_quad + t * xn_stride);
        const float *squares = kernel_fixture_act(p.squares_quad + t * squares_stride);
        double factor = factor_of(y + (size_t)t * dim, dim);
        for (uint32_t i = 0; i < dim; i++) {
            double added = (double)y[(size_t)t * dim + i] * factor * (double)weights[i];
            expect_near("x", dim, i, got[i], (double)x[(size_t)t * dim + i] + added);
            float expected = got[i] * next[i];
            assert_true((half ? half_at(xn, i) : xn[i]) ==
                        (half ? vly_f16_to_f32(vly_f32_to_f16(expected)) : expected));
        }
        double sum = reference_dot(got, got, dim, NULL);
        assert_true(fabs((double)squares[0] - sum) < 1e-5 * sum);
        for (uint32_t i = 1; i < squares_stride * 4; i++) assert_true(squares[i] == 0.0f);
    }
    assert_true(isnan(*kernel_fixture_act(p.squares_quad + N_TOK * squares_stride)));
    free(x);
    free(y);
    free(weights);
    free(next);
}

static void test_added(void **state)
{
    (void)state;
    check_post(4, false);
    check_post(288, false);
    check_post(64, true);
    check_post(100, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_all_heads_together),
        cmocka_unit_test(test_added),
    };
    return cmocka_run_group_tests(tests, kernel_fixture_open, kernel_fixture_close);
}
