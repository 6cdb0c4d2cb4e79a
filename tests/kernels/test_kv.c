/* The cache's pages: which sequence holds how many, where they lie, and when they are given back.
 */
#include "kv/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static vly_gpu *gpu;

enum { PAGE = VLY_PAGE_TOKENS };

static vly_kv *create(uint32_t max_pages, uint32_t slot_tokens, uint32_t window)
{
    vly_kv_shape shape = {.n_layer = 1,
                          .n_head_kv = 1,
                          .head_dim = 16,
                          .max_pages = max_pages,
                          .max_slots = 2,
                          .slot_tokens = slot_tokens,
                          .window = window};
    vly_kv *kv;
    vly_error err;
    if (vly_kv_create(gpu, &shape, &kv, &err)) fail_msg("%s", err.message);
    return kv;
}

static uint32_t used(const vly_kv *kv)
{
    return vly_kv_count_pages(kv).used;
}

static vly_kv_seq begin(vly_kv *kv)
{
    vly_kv_seq seq;
    vly_error err;
    if (vly_kv_seq_init(kv, &seq, &err)) fail_msg("%s", err.message);
    return seq;
}

static void grow(vly_kv_seq *seq, uint32_t n)
{
    vly_error err;
    if (vly_kv_reserve(seq, seq->n_tok + n, &err)) fail_msg("%s", err.message);
    vly_kv_commit(seq, n);
}

static void test_truncate_gives_back(void **state)
{
    (void)state;
    vly_kv *kv = create(6, 8 * PAGE, 0);
    vly_kv_seq a = begin(kv), b = begin(kv);
    grow(&a, 3 * PAGE + 1);
    assert_int_equal(used(kv), 4);
    assert_int_equal(vly_kv_oldest(&a), 0);
    vly_kv_truncate(&a, PAGE);
    assert_int_equal(used(kv), 1);
    grow(&b, 5 * PAGE);
    vly_error err;
    assert_int_equal(vly_kv_reserve(&a, PAGE + 1, &err), VLY_E_BUSY);
    assert_int_equal(used(kv), 6);
    vly_kv_seq_deinit(&b);
    assert_int_equal(used(kv), 1);
    grow(&a, 1);
    vly_kv_seq_deinit(&a);
    assert_int_equal(used(kv), 0);
    vly_kv_destroy(kv);
}

/* A window's sequence goes on for ever in the pages of its window and of a step, and can be cut
 * back to what it had before any step. */
static void test_windows_move_on(void **state)
{
    (void)state;
    const uint32_t windows[] = {1, 5, PAGE, PAGE + 1, 100};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        uint32_t window = windows[i], most = 0;
        vly_kv *kv = create(16, 64 * PAGE, window);
        vly_kv_seq seq = begin(kv);
        for (uint32_t step = 1; seq.n_tok + 16 < 64 * PAGE; step = step % 16 + 1) {
            uint32_t n_tok = seq.n_tok, from = n_tok + 1 > window ? n_tok + 1 - window : 0;
            grow(&seq, step);
            assert_in_range(vly_kv_oldest(&seq), 0, n_tok);
            uint32_t pages = (seq.n_tok + PAGE - 1) / PAGE - from / PAGE;
            assert_int_equal(used(kv), pages);
            if (pages > most) most = pages;
            if (step % 3 == 0) vly_kv_truncate(&seq, n_tok + 1);
        }
        assert_in_range(most, 1, (window + 16) / PAGE + 2);
        vly_kv_seq_deinit(&seq);
        assert_int_equal(used(kv), 0);
        vly_kv_destroy(kv);
    }
}

/* What a sequence is said to take at most suffices for any steps. */
static void test_slot_pages_suffice(void **state)
{
    (void)state;
    for (uint32_t window = 1; window < 3 * PAGE; window += 7) {
        vly_kv_shape shape = {.slot_tokens = 8192, .window = window};
        vly_kv *kv = create(vly_kv_slot_pages(&shape), 8192, window);
        vly_kv_seq seq = begin(kv);
        grow(&seq, 31);
        while (seq.n_tok + VLY_MAX_CHUNK + VLY_MAX_BATCH <= 8192)
            grow(&seq, VLY_MAX_CHUNK + VLY_MAX_BATCH);
        vly_kv_seq_deinit(&seq);
        vly_kv_destroy(kv);
    }
}

static int setup(void **state)
{
    (void)state;
    vly_error err;
    if (vly_gpu_create(getenv("VLY_TEST_DEVICE"), &gpu, &err) == 0) return 0;
    print_error("%s\n", err.message);
    return -1;
}

static int teardown(void **state)
{
    (void)state;
    vly_gpu_destroy(gpu);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncate_gives_back),
        cmocka_unit_test(test_windows_move_on),
        cmocka_unit_test(test_slot_pages_suffice),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
