/* Attention in a chain of steps (shaders/chain.glsl): it waits for tags or for counts, and leaves
 * what it does behind a barrier. */
#include "tests/support/attention_case.h"
#include "tests/support/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Q, K and V carry the tag of the step before, and the outputs, as f16s, the
 * own one. Values are those that it has behind a barrier; without the tags it gives up and says so.
 */
static void test_tags(void **state)
{
    (void)state;
    enum { POS = 70, N = 3, READ = 17, WRITTEN = 18, EPOCH = 5000 };
    const uint32_t epochs[4] = {0, EPOCH, 0, 0}, tag = EPOCH + READ, own_tag = EPOCH + WRITTEN;
    attention_case o =
        attention_case_make((attention_shape){true, false, 64, 2, 3, 1, 2, 64, 2}, 21);
    attention_case_forget_pages(&o);
    free(attention_case_one_by_one(&o, 0)); /* pages hold the whole text */
    attention_case_clear_step();
    attention_case_add_tokens(&o, 0, POS, N);
    attention_case_attend(&o, false);
    uint16_t want[N][2 * 3 * 64];
    for (uint32_t t = 0; t < N; t++)
        for (uint32_t i = 0; i < o.n_out; i++)
            want[t][i] = vly_f32_to_f16(attention_case_output(&o, t)[i]);

    o.push.chain = (struct vly_chain){.word = kernel_fixture_put((const float *)epochs, 4) * 4 + 1,
                                      .read = READ,
                                      .written = WRITTEN};
    o.push.qkv_stride = o.n_qkv / 4;
    o.push.qkv_quad = kernel_fixture_take(2 * N * o.push.qkv_stride);
    o.push.out_stride = o.n_out / 8;
    o.push.out_quad = kernel_fixture_take(2 * N * o.push.out_stride);
    uint32_t *words = (uint32_t *)kernel_fixture_act(o.push.qkv_quad);
    for (uint32_t i = 0; i < N * o.n_qkv; i++) {
        memcpy(&words[2 * i], o.qkv[0] + (size_t)POS * o.n_qkv + i, 4);
        words[2 * i + 1] = tag;
    }
    attention_case_attend(&o, false);
    assert_int_equal(kernel_fixture_step()->stalled, 0);
    const uint32_t *out = (const uint32_t *)kernel_fixture_act(o.push.out_quad);
    for (uint32_t i = 0; i < N * o.n_out; i++) {
        uint32_t t = i / o.n_out, of_token = i % o.n_out;
        uint32_t word = t * (o.n_out / 2) + reference_half_word(of_token / 2);
        assert_int_equal(out[2 * word] >> 16 * (i % 2) & 0xffff, want[t][of_token]);
        assert_int_equal(out[2 * word + 1], own_tag);
    }

    words[2 * (N * o.n_qkv - 1) + 1]--; /* the last word is not there yet */
    attention_case_attend(&o, false);
    assert_int_equal(kernel_fixture_step()->stalled, 1);
    attention_case_free(&o);
}

/* It waits until the workgroups of the step before are done, and counts its
 * own: those that finish a token. Values are those that it has behind a barrier. */
static void test_counts(void **state)
{
    (void)state;
    enum { POS = 70, N = 3, AWAITED = 5 };
    const uint32_t counts[4] = {AWAITED, 0, 0, 0};
    attention_case o =
        attention_case_make((attention_shape){true, false, 64, 2, 3, 1, 2, 64, 2}, 22);
    attention_case_forget_pages(&o);
    free(attention_case_one_by_one(&o, 0));
    attention_case_clear_step();
    attention_case_add_tokens(&o, 0, POS, N);
    attention_case_attend(&o, false);
    float *want = malloc(N * o.n_out * sizeof *want);
    for (uint32_t t = 0; t < N; t++)
        memcpy(want + t * o.n_out, attention_case_output(&o, t), o.n_out * sizeof *want);

    uint32_t quad = kernel_fixture_put((const float *)counts, 4);
    o.push.chain = (struct vly_chain){.word = quad * 4 + 1, .awaited = AWAITED | VLY_CHAIN_TELLS};
    attention_case_attend(&o, false);
    uint32_t *count = (uint32_t *)kernel_fixture_act(quad);
    assert_int_equal(kernel_fixture_step()->stalled, 0);
    assert_int_equal(count[0], AWAITED);
    assert_int_equal(count[1], N * (o.push.n_head / o.s.heads));
    for (uint32_t t = 0; t < N; t++)
        assert_memory_equal(attention_case_output(&o, t), want + t * o.n_out,
                            o.n_out * sizeof *want);

    count[0]--; /* one is not done */
    attention_case_attend(&o, false);
    assert_int_equal(kernel_fixture_step()->stalled, 1);
    free(want);
    attention_case_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tags), cmocka_unit_test(test_counts)};
    return cmocka_run_group_tests(tests, kernel_fixture_open, kernel_fixture_close);
}
