/* Attention over the pages: what is stored, what comes out, and that a token's
 * bits depend neither on the tokens beside it nor on whether its predecessors
 * lie in pages already. */
#include "tests/support/attention_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Nothing but this layer's tokens 0..n-1 of the slots in use has been written.
 */
static void check_untouched(const attention_case *o)
{
    const uint8_t *before = attention_case_page_at(o, 0);
    for (uint32_t i = 0; i < o->page_quads * 16; i++) assert_int_equal(before[i], 0xff);
    for (uint32_t page = 1; page < 13; page++) {
        const uint8_t *other_layer = attention_case_page_at(o, page);
        for (uint32_t i = 0; i < o->page_quads * 8; i++) assert_int_equal(other_layer[i], 0xff);
    }
}

/* ---- What comes out ---- */

static uint8_t *copy_of(const void *data, size_t n)
{
    uint8_t *copy = malloc(n);
    assert_non_null(copy);
    memcpy(copy, data, n);
    return copy;
}

static void expect_same(const attention_case *o, uint32_t token, const float *alone, uint32_t pos,
                        const char *what)
{
    if (memcmp(attention_case_output(o, token), alone + (size_t)pos * o->n_out,
               o->n_out * sizeof(float)))
        fail_msg("%s%s, head size %u, position %u: other bits %s than alone",
                 o->s.int8 ? "int8" : "f16", o->s.texel ? " texel" : "", o->s.head_dim, pos, what);
}

/* Both sequences side by side, in steps of up to 16 tokens: the borders of
 * steps, pages and blocks fall everywhere. How many workgroups share a token's
 * splits changes no bits either. */
static void check_batches(attention_case *o, const float *const *alone)
{
    const uint32_t sizes[] = {1, 16, 3, 15, 16, 2, 9, 16, 7, 11, 4};
    uint32_t n_turns = sizeof sizes / sizeof *sizes;
    assert_int_equal(1 + 16 + 3 + 15 + 16 + 2 + 9 + 16 + 7 + 11 + 4, ATTENTION_N_POS);
    uint32_t pos = 0, other = 0;
    for (uint32_t turn = 0; turn < n_turns; pos += sizes[turn++]) {
        uint32_t n = sizes[turn];
        uint32_t n_other = other + 16 - n < ATTENTION_N_POS ? 16 - n : ATTENTION_N_POS - other;
        attention_case_clear_step();
        attention_case_add_tokens(o, 2, other, n_other);
        attention_case_add_tokens(o, 0, pos, n);
        o->s.workers = 1 + turn % 3;
        attention_case_attend(o, false);
        for (uint32_t i = 0; i < n_other; i++) expect_same(o, i, alone[2], other + i, "in a batch");
        for (uint32_t i = 0; i < n; i++)
            expect_same(o, n_other + i, alone[0], pos + i, "in a batch");
        other += n_other;
    }
    for (; other < ATTENTION_N_POS; other++) { /* the rest, so that its pages can be compared */
        attention_case_clear_step();
        attention_case_add_tokens(o, 2, other, 1);
        attention_case_attend(o, false);
    }
}

/* As a prompt, in chunks: all of K and V are stored first. */
static void check_prompt(const attention_case *o, const float *const *alone)
{
    const uint32_t ends[] = {37, ATTENTION_N_POS};
    uint32_t start = 0;
    for (int chunk = 0; chunk < 2; start = ends[chunk++]) {
        uint32_t n = ends[chunk] - start;
        for (uint32_t slot = 0; slot < ATTENTION_N_SLOTS; slot += 2) {
            attention_case_clear_step();
            attention_case_add_tokens(o, slot, start, n);
            attention_case_store(o);
            attention_case_attend(o, true);
            for (uint32_t i = 0; i < n; i++)
                expect_same(o, i, alone[slot], start + i, "in a prompt");
        }
    }
}

static void check_shape(attention_shape s, uint64_t seed)
{
    attention_case o = attention_case_make(s, seed);
    size_t n_kv_bytes = (size_t)13 * o.page_quads * 16;
    attention_case_forget_pages(&o);
    float *alone[ATTENTION_N_SLOTS] = {attention_case_one_by_one(&o, 0), NULL,
                                       attention_case_one_by_one(&o, 2)};
    check_untouched(&o);
    attention_case_check(&o, 0, alone[0], 2e-5);
    attention_case_check(&o, 2, alone[2], 2e-5);
    uint8_t *pages = copy_of(fixture.kv.mapped, n_kv_bytes);

    attention_case_forget_pages(&o);
    check_batches(&o, (const float *const *)alone);
    assert_memory_equal(fixture.kv.mapped, pages, n_kv_bytes);

    attention_case_forget_pages(&o);
    check_prompt(&o, (const float *const *)alone);
    assert_memory_equal(fixture.kv.mapped, pages, n_kv_bytes);

    free(pages);
    free(alone[0]);
    free(alone[2]);
    attention_case_free(&o);
}

/* Every head size with both kinds of cache and reads. A processor that stands
 * in for a GPU takes seconds to compile a kernel of several large heads, so
 * those are few. */
static const attention_shape shapes[] = {
    /* int8, texel, head size, KV heads, group, heads; subgroups, split, workers
     */
    {true, false, 16, 2, 1, 1, 8, 512, 1},   {true, false, 48, 1, 3, 3, 2, 64, 2},
    {true, false, 64, 1, 8, 1, 1, 64, 5},    {true, false, 80, 2, 1, 1, 2, 128, 4},
    {true, false, 128, 1, 4, 1, 3, 64, 3},   {true, false, 256, 1, 2, 1, 2, 64, 2},
    {true, true, 16, 1, 8, 4, 1, 512, 1},    {true, true, 48, 2, 1, 1, 1, 512, 1},
    {true, true, 64, 1, 3, 3, 1, 512, 1},    {true, true, 80, 3, 2, 1, 1, 512, 1},
    {true, true, 128, 2, 4, 1, 1, 512, 1},   {true, true, 256, 1, 1, 1, 1, 512, 1},
    {false, false, 16, 2, 4, 4, 2, 64, 2},   {false, false, 48, 2, 1, 1, 1, 64, 5},
    {false, false, 64, 1, 3, 1, 8, 512, 1},  {false, false, 80, 1, 8, 2, 3, 64, 3},
    {false, false, 128, 2, 1, 1, 2, 128, 4}, {false, false, 256, 1, 3, 1, 2, 64, 1},
    {false, true, 16, 1, 3, 3, 1, 512, 1},   {false, true, 48, 2, 4, 2, 1, 512, 1},
    {false, true, 64, 3, 1, 1, 1, 512, 1},   {false, true, 80, 1, 8, 1, 1, 512, 1},
    {false, true, 128, 1, 2, 1, 1, 512, 1},  {false, true, 256, 2, 1, 1, 1, 512, 1},
};

static void check_shapes(bool int8, bool texel)
{
    /* The group form is unrolled: a processor compiles large heads of it for half a minute. */
    bool cpu = vly_gpu_get_info(fixture.gpu)->type == VLY_GPU_CPU;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].int8 == int8 && shapes[i].texel == texel &&
            (texel || !cpu || shapes[i].head_dim <= 80))
            check_shape(shapes[i], i);
}

static void test_int8(void **state)
{
    (void)state;
    check_shapes(true, false);
}

static void test_int8_texel(void **state)
{
    (void)state;
    check_shapes(true, true);
}

static void test_f16(void **state)
{
    (void)state;
    check_shapes(false, false);
}

static void test_f16_texel(void **state)
{
    (void)state;
    check_shapes(false, true);
}

/* Pages that the token after `pos` does not see are lost: their entries of the
 * table lead nowhere, and what they held is no number. */
static void lose_unseen(const attention_case *o, uint32_t slot, uint32_t pos)
{
    struct vly_page *table = fixture.table.mapped;
    for (uint32_t i = 0; (i + 1) * VLY_PAGE_TOKENS <= attention_case_first_seen(o, pos + 1); i++) {
        memset(attention_case_page_at(o, attention_case_page_of(slot, i * VLY_PAGE_TOKENS)), 0xff,
               o->page_quads * 16);
        memset(&table[slot * ATTENTION_PAGES_STRIDE + i], 0xff, sizeof *table);
    }
}

static void check_window(attention_shape s, uint32_t window)
{
    attention_case o = attention_case_make(s, window);
    o.push.window = window;
    attention_case_forget_pages(&o);
    float *alone[ATTENTION_N_SLOTS] = {attention_case_one_by_one(&o, 0), NULL,
                                       attention_case_one_by_one(&o, 2)};
    attention_case_check(&o, 0, alone[0], 2e-5);
    attention_case_check(&o, 2, alone[2], 2e-5);
    attention_case_forget_pages(&o);
    check_batches(&o, (const float *const *)alone);
    attention_case_forget_pages(&o);
    check_prompt(&o, (const float *const *)alone);

    attention_case_forget_pages(&o);
    for (uint32_t pos = 0; pos < ATTENTION_N_POS; pos++) {
        attention_case_clear_step();
        attention_case_add_tokens(&o, 2, pos, 1);
        attention_case_attend(&o, false);
        expect_same(&o, 0, alone[2], pos, "with pages lost before its window");
        lose_unseen(&o, 2, pos);
    }
    free(alone[0]);
    free(alone[2]);
    attention_case_free(&o);
}

/* A token sees no more than its window, and nothing before it is read. */
static void test_windows(void **state)
{
    (void)state;
    static const attention_shape forms[] = {{true, false, 48, 1, 3, 3, 2, 64, 2},
                                            {true, true, 64, 1, 3, 3, 1, 512, 1},
                                            {false, false, 16, 2, 4, 4, 2, 64, 2},
                                            {false, true, 48, 2, 4, 2, 1, 512, 1}};
    static const uint32_t windows[] = {1, 7, 33, 64};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (size_t j = 0; j < sizeof windows / sizeof *windows; j++)
            check_window(forms[i], windows[j]);
}

/* Rolling back: tokens that are stored again over rejected ones leave what they
 * would have left alone, at every offset within a page. */
static void test_rollback(void **state)
{
    (void)state;
    attention_case o =
        attention_case_make((attention_shape){true, true, 48, 2, 1, 1, 1, 512, 1}, 99);
    attention_case_forget_pages(&o);
    float *alone = attention_case_one_by_one(&o, 0);
    uint8_t *pages = copy_of(fixture.kv.mapped, (size_t)13 * o.page_quads * 16);
    for (uint32_t pos = 0; pos + 16 <= ATTENTION_N_POS; pos++) {
        /* 16 tokens of the other text from here, of which none stays. */
        attention_case_clear_step();
        struct vly_step *step = kernel_fixture_step();
        attention_case_add_tokens(&o, 2, pos, 16);
        for (uint32_t i = 0; i < 16; i++) step->token[i].slot = 0;
        attention_case_attend(&o, false);
        attention_case_clear_step();
        attention_case_add_tokens(&o, 0, pos, 3);
        attention_case_attend(&o, false);
        for (uint32_t i = 0; i < 3; i++) expect_same(&o, i, alone, pos + i, "after a rollback");
    }
    attention_case_clear_step();
    attention_case_add_tokens(&o, 0, ATTENTION_N_POS - 16, 16);
    attention_case_attend(&o, false);
    assert_memory_equal(fixture.kv.mapped, pages, (size_t)13 * o.page_quads * 16);
    free(pages);
    free(alone);
    attention_case_free(&o);
}

/* Scores far apart, and logits beyond what exp can hold: the softmax stays a
 * number. */
static void test_extreme_scores(void **state)
{
    (void)state;
    attention_case o =
        attention_case_make((attention_shape){true, false, 48, 1, 3, 3, 2, 64, 2}, 7);
    for (uint32_t pos = 0; pos < ATTENTION_N_POS; pos++)
        for (uint32_t d = 0; d < 3 * o.s.head_dim; d++)
            o.qkv[0][(size_t)pos * o.n_qkv + d] *= 200.0f;
    attention_case_forget_pages(&o);
    float *alone = attention_case_one_by_one(&o, 0);
    for (uint32_t i = 0; i < ATTENTION_N_POS * o.n_out; i++) assert_true(fabsf(alone[i]) < 7.0f);
    free(alone);
    attention_case_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_int8),
        cmocka_unit_test(test_int8_texel),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_f16_texel),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_rollback),
        cmocka_unit_test(test_extreme_scores),
    };
    return cmocka_run_group_tests(tests, kernel_fixture_open, kernel_fixture_close);
}
