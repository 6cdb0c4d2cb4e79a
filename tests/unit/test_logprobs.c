/* Log-probabilities against sums in double. */
#include "sample/logprobs.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 300

static void equal_the_softmax(void **state)
{
    (void)state;
    float logits[N];
    double sum = 0;
    srand(1);
    for (int i = 0; i < N; i++) logits[i] = (float)(rand() % 1000) * 0.01f;
    for (int i = 0; i < N; i++) sum += exp((double)logits[i]);
    for (uint32_t id = 0; id < N; id++) {
        vly_token_logprobs l = vly_logprobs(logits, N, id, 0, NULL);
        assert_true(fabs((double)l.logprob - ((double)logits[id] - log(sum))) < 1e-5);
        assert_int_equal(l.n_top, 0);
    }
}

static void tell_the_likeliest(void **state)
{
    (void)state;
    float logits[N];
    vly_candidate top[VLY_MAX_TOP_LOGPROBS];
    srand(2);
    for (int i = 0; i < N; i++) logits[i] = (float)(rand() % 40); /* many ties */
    vly_token_logprobs l = vly_logprobs(logits, N, 7, VLY_MAX_TOP_LOGPROBS, top);
    assert_int_equal(l.n_top, VLY_MAX_TOP_LOGPROBS);
    for (uint32_t i = 0; i < l.n_top; i++) {
        uint32_t better = 0; /* tokens that come before this one */
        for (uint32_t id = 0; id < N; id++)
            better += logits[id] > logits[l.top[i].id] ||
                      (logits[id] == logits[l.top[i].id] && id < l.top[i].id);
        assert_int_equal(better, i);
        assert_true(l.top[i].logprob == vly_logprobs(logits, N, l.top[i].id, 0, NULL).logprob);
    }
}

static void leave_out_what_is_banned(void **state)
{
    (void)state;
    const float logits[] = {1.0f, -INFINITY, 1.0f, -INFINITY};
    vly_candidate top[4];
    vly_token_logprobs l = vly_logprobs(logits, 4, 0, 4, top);
    assert_int_equal(l.n_top, 2);
    assert_int_equal(top[0].id, 0);
    assert_int_equal(top[1].id, 2);
    assert_true(fabs((double)l.logprob + log(2.0)) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_the_softmax),
        cmocka_unit_test(tell_the_likeliest),
        cmocka_unit_test(leave_out_what_is_banned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
