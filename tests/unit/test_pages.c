/* The pages' bookkeeping against a plain model of it: lists that are searched from end to end. */
#include "kv/pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_PAGES 24
#define N_TEXTS 40
#define MAX_LEN 5 /* pages of a text */

/* Texts of few different tokens, so that many begin alike. */
static void random_tokens(uint32_t *tokens)
{
    uint32_t kind = (uint32_t)rand() % 3;
    for (int i = 0; i < VLY_PAGE_TOKENS; i++) tokens[i] = i == VLY_PAGE_TOKENS - 1 ? kind : 7;
}

typedef struct {
    uint32_t tokens[MAX_LEN][VLY_PAGE_TOKENS];
    uint32_t page[MAX_LEN];
    uint32_t n; /* 0: no text */
} text;

/* What each page must be. */
typedef struct {
    uint32_t holders, n; /* n: pages of the text up to and with this one; 0: no content */
    uint32_t tokens[MAX_LEN][VLY_PAGE_TOKENS];
    uint64_t left; /* when the last holder left */
} expected_page;

static expected_page expected[N_PAGES];
static uint64_t now;

/* The expected page with the content of the first n pages of `t`. */
static uint32_t expected_find(const text *t, uint32_t n)
{
    for (uint32_t i = 0; i < N_PAGES; i++)
        if (expected[i].n == n && memcmp(expected[i].tokens, t->tokens, n * sizeof *t->tokens) == 0)
            return i;
    return VLY_NO_PAGE;
}

/* A page may be taken if nobody holds it; with a content only if it is the one left longest ago and
 * there is none without. */
static void check_taken(uint32_t page)
{
    assert_int_equal(expected[page].holders, 0);
    if (expected[page].n == 0) return;
    for (uint32_t i = 0; i < N_PAGES; i++)
        if (i != page && expected[i].holders == 0) {
            assert_true(expected[i].n > 0);
            assert_true(expected[i].left > expected[page].left);
        }
}

/* A text of random pages: those that are there are shared, the others taken and named. */
static void begin_text(vly_pages *pages, text *t)
{
    uint32_t len = 1 + (uint32_t)rand() % MAX_LEN;
    uint64_t before = 0;
    bool shared = true;
    for (uint32_t i = 0; i < len; i++) random_tokens(t->tokens[i]);
    for (t->n = 0; t->n < len; t->n++) {
        uint32_t page = shared ? vly_pages_find(pages, before, t->tokens[t->n]) : VLY_NO_PAGE;
        if (shared) assert_int_equal(page, expected_find(t, t->n + 1));
        if (page != VLY_NO_PAGE) {
            vly_pages_hold(pages, page);
        } else {
            shared = false;
            page = vly_pages_take(pages);
            if (page == VLY_NO_PAGE) {
                for (uint32_t i = 0; i < N_PAGES; i++) assert_true(expected[i].holders > 0);
                return;
            }
            check_taken(page);
            expected[page].n = 0;
            assert_int_equal(vly_pages_content(pages, page), 0);
            if (expected_find(t, t->n + 1) == VLY_NO_PAGE) {
                vly_pages_name(pages, page, before, t->tokens[t->n]);
                expected[page].n = t->n + 1;
                memcpy(expected[page].tokens, t->tokens, (t->n + 1) * sizeof *t->tokens);
            }
        }
        expected[page].holders++;
        t->page[t->n] = page;
        before = vly_pages_content(pages, page);
        if (before == 0) { /* a content is named after a named one only */
            t->n++;
            return;
        }
    }
}

static void end_text(vly_pages *pages, text *t)
{
    while (t->n > 0) {
        uint32_t page = t->page[--t->n];
        vly_pages_leave(pages, page);
        if (--expected[page].holders == 0) expected[page].left = ++now;
    }
}

static void check_counts(const vly_pages *pages)
{
    vly_page_counts counts = vly_pages_count(pages);
    uint32_t used = 0, shared = 0;
    for (uint32_t i = 0; i < N_PAGES; i++) {
        assert_int_equal(vly_pages_holders(pages, i), expected[i].holders);
        assert_int_equal(vly_pages_content(pages, i) != 0, expected[i].n > 0);
        used += expected[i].holders > 0;
        shared += expected[i].holders > 1;
    }
    assert_int_equal(counts.used, used);
    assert_int_equal(counts.shared, shared);
    assert_int_equal(counts.free, N_PAGES - used);
    assert_int_equal(counts.total, N_PAGES);
}

static void random_texts(void **state)
{
    (void)state;
    static text texts[N_TEXTS];
    vly_pages *pages;
    uint32_t n_shared = 0, n_evicted = 0;
    assert_int_equal(vly_pages_create(N_PAGES, &pages, NULL), 0);
    vly_pages_add(pages, N_PAGES / 2);
    vly_pages_add(pages, N_PAGES - N_PAGES / 2);
    srand(1);
    for (int turn = 0; turn < 20000; turn++) {
        text *t = &texts[rand() % N_TEXTS];
        uint32_t n_blank = 0;
        for (uint32_t i = 0; i < N_PAGES; i++)
            n_blank += expected[i].holders == 0 && expected[i].n == 0;
        assert_int_equal(vly_pages_any_blank(pages), n_blank > 0);
        if (t->n)
            end_text(pages, t);
        else
            begin_text(pages, t);
        n_shared += vly_pages_count(pages).shared > 0;
        n_evicted += n_blank == 0;
        check_counts(pages);
    }
    assert_true(n_shared > 1000 && n_evicted > 1000);
    vly_pages_destroy(pages);
}

static void the_one_left_longest_ago_goes_first(void **state)
{
    (void)state;
    vly_pages *pages;
    uint32_t page[3], tokens[VLY_PAGE_TOKENS] = {0};
    assert_int_equal(vly_pages_create(3, &pages, NULL), 0);
    vly_pages_add(pages, 3);
    for (uint32_t i = 0; i < 3; i++) {
        page[i] = vly_pages_take(pages);
        tokens[0] = i;
        vly_pages_name(pages, page[i], 0, tokens);
    }
    assert_int_equal(vly_pages_take(pages), VLY_NO_PAGE);
    vly_pages_leave(pages, page[1]);
    vly_pages_leave(pages, page[0]);
    vly_pages_leave(pages, page[2]);
    tokens[0] = 1; /* used again: no longer the oldest */
    vly_pages_hold(pages, vly_pages_find(pages, 0, tokens));
    vly_pages_leave(pages, page[1]);
    assert_int_equal(vly_pages_take(pages), page[0]);
    assert_int_equal(vly_pages_take(pages), page[2]);
    assert_int_equal(vly_pages_find(pages, 0, tokens), page[1]);
    assert_int_equal(vly_pages_take(pages), page[1]);
    assert_int_equal(vly_pages_find(pages, 0, tokens), VLY_NO_PAGE);
    vly_pages_destroy(pages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_texts),
        cmocka_unit_test(the_one_left_longest_ago_goes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
