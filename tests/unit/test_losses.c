/* Why drafted tokens were lost, on blocks made by hand from the words of a real vocabulary. */
#include "spec/losses.h"
#include "tests/support/vocabulary.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static vly_tokenizer *tokenizer;
static vly_losses losses;
static vly_stats stats;

static int open_vocabulary(void **state)
{
    (void)state;
    tokenizer = vocabulary_open("models/stories15M-q8_0.gguf");
    return 0;
}

static int close_vocabulary(void **state)
{
    (void)state;
    vly_tokenizer_destroy(tokenizer);
    return 0;
}

static int reset(void **state)
{
    (void)state;
    losses = (vly_losses){.tokenizer = tokenizer};
    stats = (vly_stats){0};
    return 0;
}

/* The token that stands for `text`. */
static uint32_t token(const char *text)
{
    for (uint32_t id = vly_tokenizer_n_vocab(tokenizer); id-- > 0;) {
        vly_bytes bytes = vly_tokenizer_bytes(tokenizer, id);
        if (bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0) return id;
    }
    fail_msg("there is no token '%s'", text);
    return 0;
}

#define N_WORDS 8
typedef const char *words[N_WORDS]; /* NULL: the end */

static uint32_t tokens(const words text, uint32_t *out)
{
    uint32_t n = 0;
    for (; n < N_WORDS && text[n]; n++) out[n] = token(text[n]);
    return n;
}

/* A block that proposed `drafted` and decided `picks`, all of which but the last had been drafted;
 * `rank` is that of the first lost. */
static void add(const words drafted, const words picks, uint32_t rank)
{
    uint32_t proposal[N_WORDS], decided[N_WORDS];
    vly_losses_block b = {.drafted = proposal, .decided = decided, .by_model = true, .rank = rank};
    b.n_drafted = tokens(drafted, proposal);
    b.n_decided = tokens(picks, decided);
    b.n_accepted = b.n_decided - 1;
    b.pick = decided[b.n_accepted];
    vly_losses_add(&losses, &b, &stats);
    stats.drafted += b.n_drafted;
    stats.accepted += b.n_accepted;
    uint32_t ranked = 0;
    for (int i = 0; i < VLY_N_LOST_RANKS; i++) ranked += stats.lost_by_rank[i];
    assert_int_equal(ranked, stats.lost_to_pick);
    assert_int_equal(stats.drafted, stats.accepted + stats.lost_to_pick + stats.lost_unmapped +
                                        stats.lost_split + stats.lost_to_front + stats.lost_to_end);
}

static void test_ranks(void **state)
{
    (void)state;
    static const uint32_t ranks[] = {1, 2, 3, 4, 10, 11, 100, 101, 30000};
    static const uint32_t expected[VLY_N_LOST_RANKS] = {1, 1, 1, 2, 2, 2};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
        add((words){" dog", " ran"}, (words){" cat"}, ranks[i]);
    assert_memory_equal(stats.lost_by_rank, expected, sizeof expected);
    assert_int_equal(stats.lost_to_front, 9);
}

static void test_nothing_lost(void **state)
{
    (void)state;
    add((words){" dog", " ran"}, (words){" dog", " ran", "."}, 0);
    add((words){NULL}, (words){" The"}, 0);
    assert_int_equal(stats.accepted, 2);
}

/* The target has one token for what was drafted as two. */
static void test_split_within_the_block(void **state)
{
    (void)state;
    add((words){" saw", " the", "re", " a"}, (words){" saw", " there"}, 7);
    assert_int_equal(stats.lost_split, 1);
    assert_int_equal(stats.lost_to_front, 2);
    assert_int_equal(stats.lost_to_pick, 0);
}

/* It has two for one, of which the second comes in a later block. */
static void test_split_seen_later(void **state)
{
    (void)state;
    add((words){" there", " was"}, (words){" the"}, 2);
    assert_int_equal(stats.lost_to_pick, 1);
    add((words){NULL}, (words){"re"}, 0);
    assert_int_equal(stats.lost_to_pick, 0);
    assert_int_equal(stats.lost_split, 1);
    add((words){" there", " was"}, (words){" the"}, 2);
    add((words){" dog"}, (words){" dog", " ran"}, 0);
    assert_int_equal(stats.lost_to_pick, 1);
    assert_int_equal(stats.lost_split, 1);
}

/* The same beginning alone is another word. */
static void test_prefixes_are_no_splits(void **state)
{
    (void)state;
    add((words){" a", " dog"}, (words){" and"}, 2);
    add((words){" the"}, (words){" there"}, 2); /* nobody knows how the draft would have gone on */
    add((words){" and", " a"}, (words){" a"}, 2);
    add((words){" dog"}, (words){" dog", "s"}, 0);
    assert_int_equal(stats.lost_to_pick, 3);
    assert_int_equal(stats.lost_split, 0);
}

static void test_unmapped(void **state)
{
    (void)state;
    uint32_t n = vly_tokenizer_n_vocab(tokenizer);
    bool *has_target = test_calloc(n, sizeof *has_target);
    has_target[token(" dog")] = has_target[token(" the")] = true;
    vly_vocab_map map = {.n_target = n, .has_target = has_target};
    losses.map = &map;
    add((words){" dog", " ran"}, (words){" cat"}, 2);
    assert_int_equal(stats.lost_unmapped, 1);
    add((words){" cat", " ran"}, (words){" dog"}, 2);
    assert_int_equal(stats.lost_to_pick, 1);
    add((words){" the", "re"}, (words){" there"}, 2); /* unmapped as well, but the text agrees */
    assert_int_equal(stats.lost_split, 1);
    assert_int_equal(stats.lost_unmapped, 1);
    test_free(has_target);
}

static void test_ends(void **state)
{
    (void)state;
    uint32_t drafted[] = {token(" dog"), vly_tokenizer_eos(tokenizer), token(" ran")};
    vly_losses_block b = {.drafted = drafted,
                          .decided = drafted,
                          .n_drafted = 3,
                          .n_accepted = 2,
                          .n_decided = 1,
                          .ended = true};
    vly_losses_add(&losses, &b, &stats);
    assert_int_equal(stats.lost_to_end, 1);
    assert_int_equal(stats.lost_to_pick, 0);
    /* A pick that is an end has no bytes, and neither has a drafted one. */
    uint32_t end = vly_tokenizer_eos(tokenizer);
    b = (vly_losses_block){.drafted = drafted, .n_drafted = 3, .pick = end, .rank = 3};
    vly_losses_add(&losses, &b, &stats);
    b = (vly_losses_block){.drafted = drafted + 1,
                           .decided = drafted,
                           .n_drafted = 2,
                           .n_decided = 1,
                           .pick = drafted[0],
                           .rank = 3};
    vly_losses_add(&losses, &b, &stats);
    assert_int_equal(stats.lost_to_pick, 2);
    assert_int_equal(stats.lost_split, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_ranks, reset),
        cmocka_unit_test_setup(test_nothing_lost, reset),
        cmocka_unit_test_setup(test_split_within_the_block, reset),
        cmocka_unit_test_setup(test_split_seen_later, reset),
        cmocka_unit_test_setup(test_prefixes_are_no_splits, reset),
        cmocka_unit_test_setup(test_unmapped, reset),
        cmocka_unit_test_setup(test_ends, reset),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
