/* The norm and rotation of Q's and K's heads, against sums in double; V stays as it is. */
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

enum { N_TOK = 5, N_POS = 40 };
#define EPSILON 0.01f

static float *numbers(uint64_t *random, size_t n)
{
    float *out = malloc(n * sizeof *out);
    assert_non_null(out);
    reference_normals(random, out, n);
    return out;
}

static void expect_near(uint32_t head_dim, uint32_t head, uint32_t i, float got, double expected)
{
    if (fabs((double)got - expected) > 2e-6 * (1 + fabs(expected)))
        fail_msg("head size %u, head %u, number %u: %.9g, not %.9g", head_dim, head, i, (double)got,
                 expected);
}

/* One head: what the kernel made of `x`, with this norm and the table's row. */
static void check_head(uint32_t head_dim, uint32_t head, const float *x, const float *weights,
                       const float *rope, const float *got)
{
    double squares = reference_dot(x, x, head_dim, NULL);
    double factor = reference_norm_factor(squares, head_dim, (double)EPSILON);
    for (uint32_t i = 0; i < head_dim; i += 2) {
        double a = (double)x[i] * factor * (double)weights[i];
        double b = (double)x[i + 1] * factor * (double)weights[i + 1];
        double c = (double)rope[i], s = (double)rope[i + 1];
        expect_near(head_dim, head, i, got[i], a * c - b * s);
        expect_near(head_dim, head, i + 1, got[i + 1], a * s + b * c);
    }
}

static void check(uint32_t head_dim, uint32_t n_head, uint32_t n_head_kv)
{
    uint64_t random = head_dim + n_head;
    uint32_t n_heads = n_head + 2 * n_head_kv, n = n_heads * head_dim, stride = n / 4 + 3;
    float *x = numbers(&random, (size_t)N_TOK * n), *weights = numbers(&random, 2 * head_dim);
    float *rope = numbers(&random, (size_t)N_POS * head_dim);
    for (uint32_t i = 0; i < head_dim; i++) x[i] *= 1e-3f; /* epsilon counts here */
    kernel_fixture_reset(&fixture);
    struct vly_push_qk_norm p = {
        .act = fixture.act.address,
        .step = fixture.step.address,
        .weights_quad = kernel_fixture_put(&fixture, weights, 2 * head_dim),
        .rope_quad = kernel_fixture_put(&fixture, rope, (size_t)N_POS * head_dim),
        .qkv_stride = stride,
        .n_head = n_head,
        .head_dim = head_dim,
        .norm_epsilon = EPSILON,
    };
    p.qkv_quad = kernel_fixture_take(&fixture, (size_t)(N_TOK + 2) * stride);
    struct vly_step *step = kernel_fixture_step(&fixture);
    memset(step, 0, sizeof *step);
    step->n_tok = N_TOK;
    for (uint32_t t = 0; t < N_TOK; t++) {
        step->token[t].pos = (t * 17 + 3) % N_POS;
        memcpy(kernel_fixture_act(&fixture, p.qkv_quad + t * stride), x + (size_t)t * n,
               n * sizeof *x);
    }
    /* Rows of workgroups for more tokens than the step has. */
    kernel_fixture_run(&fixture, VLY_SHADER_qk_norm, &fixture.lanes, 1, &p, sizeof p,
                       n_head + n_head_kv, N_TOK + 2, 1);
    for (uint32_t t = 0; t < N_TOK; t++) {
        const float *got = kernel_fixture_act(&fixture, p.qkv_quad + t * stride);
        for (uint32_t h = 0; h < n_head + n_head_kv; h++)
            check_head(head_dim, h, x + (size_t)t * n + h * head_dim,
                       weights + (h < n_head ? 0 : head_dim),
                       rope + (size_t)step->token[t].pos * head_dim, got + h * head_dim);
        size_t rotated = (size_t)(n_head + n_head_kv) * head_dim;
        assert_memory_equal(got + rotated, x + (size_t)t * n + rotated,
                            (n - rotated) * sizeof *got);
    }
    const float *behind = kernel_fixture_act(&fixture, p.qkv_quad + N_TOK * stride);
    for (uint32_t i = 0; i < 2 * stride * 4; i++) assert_true(isnan(behind[i]));
    free(x);
    free(weights);
    free(rope);
}

static void test_heads(void **state)
{
    (void)state;
    check(16, 1, 1);
    check(48, 3, 1);
    check(64, 4, 2);
    check(80, 2, 2);
    check(128, 5, 1);
    check(256, 2, 1);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_heads)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
