/* The drafting method `ngram`, against a search through the whole text. */
#include "drafts/draft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define LONGEST  4 /* the n-grams that it looks for */
#define SHORTEST 3

typedef struct {
    vly_ids text;
    vly_draft *draft;
    struct vly_step *verify;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->verify = calloc(1, sizeof *f->verify);
    assert_non_null(f->verify);
    vly_error err;
    vly_draft_source source = {.text = &f->text};
    assert_int_equal(vly_draft_create(VLY_DRAFT_NGRAM, &source, &f->draft, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    f->draft->ops->destroy(f->draft);
    vly_ids_free(&f->text);
    free(f->verify);
    free(f);
    return 0;
}

static void push(fixture *f, uint32_t id)
{
    assert_int_equal(vly_ids_push(&f->text, id), 0);
}

static uint32_t propose(fixture *f, uint32_t k)
{
    vly_draft_input in = {.verify = f->verify, .first = 1 + k % 40};
    vly_error err;
    uint32_t n = 99;
    assert_int_equal(f->draft->ops->propose(f->draft, &in, k, &n, &err), 0);
    assert_true(n <= k);
    const uint32_t *proposed = f->draft->ops->proposed(f->draft);
    for (uint32_t j = 0; j < n; j++)
        assert_int_equal(f->verify->token[in.first + j].id, proposed[j]);
    if (n) assert_int_equal(f->draft->ops->settle(f->draft, n / 2, &err), 0);
    return n;
}

/* What should be proposed, found the slow way, to `out`; returns how many. */
static uint32_t search(const vly_ids *text, uint32_t k, uint32_t *out)
{
    for (size_t n = LONGEST; n >= SHORTEST; n--)
        for (size_t after = text->len; after-- > n;) {
            if (n >= text->len) break;
            if (memcmp(text->data + after - n, text->data + text->len - n, n * sizeof *out) != 0)
                continue;
            for (uint32_t j = 0; j < k; j++)
                out[j] = after + j < text->len ? text->data[after + j] : out[after + j - text->len];
            return k;
        }
    return 0;
}

static void test_nothing_repeats(void **state)
{
    fixture *f = *state;
    assert_int_equal(propose(f, 4), 0);
    for (uint32_t i = 0; i < 100; i++) {
        push(f, i);
        assert_int_equal(propose(f, 4), 0);
    }
    push(f, 7); /* a single token is no n-gram */
    assert_int_equal(propose(f, 4), 0);
}

static void test_longest_wins(void **state)
{
    fixture *f = *state;
    const uint32_t text[] = {9, 1, 2, 3, 10, 11, 12, 8, 1, 2, 3, 20, 21, 22, 9, 1, 2, 3};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) push(f, text[i]);
    assert_int_equal(propose(f, 3), 3);
    const uint32_t *proposed = f->draft->ops->proposed(f->draft);
    assert_int_equal(proposed[0], 10);
    assert_int_equal(proposed[2], 12);
}

static void test_latest_wins(void **state)
{
    fixture *f = *state;
    const uint32_t text[] = {9, 1, 2, 3, 10, 11, 12, 8, 1, 2, 3, 20, 21, 22, 7, 1, 2, 3};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) push(f, text[i]);
    assert_int_equal(propose(f, 3), 3);
    assert_int_equal(f->draft->ops->proposed(f->draft)[0], 20);
}

static void test_repetition_goes_on(void **state)
{
    fixture *f = *state;
    for (uint32_t i = 0; i < 12; i++) push(f, i % 5);
    assert_int_equal(propose(f, VLY_MAX_DRAFT), VLY_MAX_DRAFT);
    for (uint32_t j = 0; j < VLY_MAX_DRAFT; j++)
        assert_int_equal(f->draft->ops->proposed(f->draft)[j], (12 + j) % 5);
}

/* Few different tokens, so that much is found; asked at every length and now and then. */
static void test_same_as_searching(void **state)
{
    fixture *f = *state;
    uint32_t found = 0, random = 1;
    for (uint32_t i = 0; i < 3000; i++) {
        random = random * 1664525 + 1013904223;
        push(f, (random >> 24) % 7);
        if (i > 200 && random >> 30) continue;
        uint32_t k = 1 + i % VLY_MAX_DRAFT, expected[VLY_MAX_DRAFT];
        uint32_t n = search(&f->text, k, expected);
        assert_int_equal(propose(f, k), n);
        if (n)
            assert_memory_equal(f->draft->ops->proposed(f->draft), expected, n * sizeof *expected);
        found += n > 0;
    }
    assert_true(found > 500);
}

/* Seconds of the processor to append `n` tokens, with a proposal after each. */
static double seconds(fixture *f, uint32_t n, uint32_t n_ids)
{
    uint32_t random = 1, n_proposed = 0;
    clock_t start = clock();
    for (uint32_t i = 0; i < n; i++) {
        random = random * 1664525 + 1013904223;
        push(f, n_ids ? (random >> 8) % n_ids : i);
        n_proposed += propose(f, 4);
    }
    double took = (double)(clock() - start) / CLOCKS_PER_SEC;
    print_message("%u tokens of %u: %.0f ns each, %u proposed\n", n, n_ids, took * 1e9 / n,
                  n_proposed);
    return took;
}

/* A search would look at 10^12 / 8 tokens, minutes on any processor. */
static void test_long_texts_take_linear_time(void **state)
{
    const uint32_t n_ids[] = {1, 2, 50, 32000, 0};
    for (size_t i = 0; i < sizeof n_ids / sizeof *n_ids; i++) {
        assert_true(seconds(*state, 500000, n_ids[i]) < 8);
        teardown(state);
        setup(state);
    }
}

static void test_methods_are_checked(void **state)
{
    (void)state;
    vly_ids text = {0};
    vly_draft_source source = {.text = &text};
    vly_draft *draft;
    vly_error err;
    for (int i = -1; i <= VLY_N_DRAFT_METHODS; i++) {
        vly_draft_method method = (vly_draft_method)i;
        if (vly_draft_method_name(method) && vly_draft_method_model_use(method) != VLY_MODEL_NEEDED)
            continue;
        assert_int_equal(vly_draft_create(method, &source, &draft, &err), VLY_E_INVALID);
    }
    assert_non_null(strstr(err.message, "no drafting method"));
    assert_string_equal(vly_draft_method_name(VLY_DRAFT_CHAIN), "chain");
    assert_int_equal(vly_draft_method_model_use(VLY_DRAFT_CHAIN), VLY_MODEL_NEEDED);
    assert_int_equal(vly_draft_method_model_use(VLY_DRAFT_DEFAULT), VLY_MODEL_OPTIONAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_repeats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_longest_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_latest_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repetition_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_as_searching, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_texts_take_linear_time, setup, teardown),
        cmocka_unit_test(test_methods_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
