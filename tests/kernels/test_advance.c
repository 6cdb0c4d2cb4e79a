/* The kernel that ends a block and makes the step of the next one. */
#include "shaders/block.h"
#include "spec/words.h"
#include "tests/support/kernel_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { N_VOCAB = 100, SLOT = 3, DRAFT_SLOT = 5 };

static vly_gpu_buffer blocks_buffer, draft_results_buffer, recoded_buffer, words_buffer;
static struct vly_step *step, *first, *further;
static struct vly_results *results, *draft_results;
static struct vly_blocks *blocks;
static struct vly_recoded *recoded;

/* Own token i of the draft is spelled by one letter, and some are words of several. */
enum { N_OWN = 600, N_SLOTS = 64 };
static struct {
    struct vly_spelling spelling[N_OWN];
    struct vly_word slots[N_SLOTS];
} * words;
static uint32_t n_words; /* slots that the kernel is told of */

static void advance(void)
{
    const struct vly_push_block push = {
        .base = {.step = fixture.target.address,
                 .results = fixture.results.address,
                 .n_vocab = N_VOCAB},
        .blocks = blocks_buffer.address,
        .draft_first = fixture.step.address,
        .draft_further = fixture.step.address + sizeof *first,
        .draft_results = draft_results_buffer.address,
        .recoded = recoded_buffer.address,
        .spelling = words_buffer.address,
        .words = words_buffer.address + sizeof words->spelling,
        .n_words = n_words,
        .n_own = N_OWN,
    };
    const uint32_t width = (VLY_BLOCK_DRAFT + fixture.lanes) / fixture.lanes * fixture.lanes;
    kernel_fixture_run(VLY_SHADER_advance, &width, 1, &push, sizeof push, 1, 1, 1);
}

/* A block of `n` drafted tokens at position 31, whose draft took in the tokens 40 and 41. Token i
 * of the target is draft's 200 + i and, but for a few, 300 + i behind it. */
static void begin(uint32_t n, uint32_t left)
{
    kernel_fixture_reset();
    memset(step, 0, sizeof *step);
    memset(first, 0, 2 * sizeof *first);
    memset(results, 0xff, sizeof *results);
    memset(blocks, 0xff, sizeof *blocks);
    blocks->left = left;
    blocks->n_draft = n;
    blocks->forced = blocks->forced_rest = 0;
    step->n_tok = step->n_rows = n + 1;
    first->n_tok = 2;
    first->n_rows = further->n_tok = further->n_rows = 1;
    for (uint32_t i = 0; i <= n; i++) {
        step->token[i] = (struct vly_step_token){.id = 10 + i, .pos = 31 + i, .slot = SLOT};
        step->row[i] = i;
        results->rank[i] = 70 + i;
        draft_results->draft_id[i] = 500 + i;
    }
    for (uint32_t i = 0; i < 2; i++)
        first->token[i] = (struct vly_step_token){.id = 40 + i, .pos = 60 + i, .slot = DRAFT_SLOT};
    for (uint32_t i = 0; i < N_VOCAB; i++)
        recoded[i] = (struct vly_recoded){.n = 2, .id = {200 + i, 300 + i}};
}

/* The target agrees with `accepted` of n drafted tokens, and picks `id` then. */
static void decide(uint32_t accepted, uint32_t n, uint32_t id)
{
    for (uint32_t i = 0; i < n; i++)
        results->id[i] = i < accepted ? step->token[i + 1].id : N_VOCAB - 1;
    results->id[accepted] = id;
}

static void check_token(const struct vly_step_token *t, uint32_t id, uint32_t pos, uint32_t slot)
{
    assert_int_equal(t->id, id);
    assert_int_equal(t->pos, pos);
    assert_int_equal(t->slot, slot);
    assert_int_equal(t->first, 0);
}

static void check_nothing(const struct vly_step *s)
{
    assert_int_equal(s->n_tok + s->n_rows, 0);
}

static void a_pick_becomes_the_next_token(void **state)
{
    (void)state;
    begin(0, 100);
    for (uint32_t block = 0; block < 5; block++) {
        results->id[0] = N_VOCAB - 1 - block;
        advance();
        assert_int_equal(step->n_advanced, block + 1);
        assert_int_equal(results->advanced[block % VLY_MAX_AHEAD], N_VOCAB - 1 - block);
        const struct vly_block_result *r = &blocks->result[block % VLY_MAX_AHEAD];
        assert_int_equal(r->n_decided, 1);
        assert_int_equal(r->n_drafted, 0);
        assert_int_equal(r->continued, 1);
        assert_int_equal(blocks->left, 99 - block);
        check_token(&step->token[0], N_VOCAB - 1 - block, 32 + block, SLOT);
        assert_int_equal(step->n_tok, 1);
        assert_int_equal(step->n_rows, 1);
    }
    assert_int_equal(first->n_tok, 2); /* the draft's are left alone */
}

static void without_a_pick_all_that_follows_does_nothing(void **state)
{
    (void)state;
    static const uint32_t no_tokens[] = {VLY_NO_ID, N_VOCAB};
    for (uint32_t i = 0; i < 4; i++) {
        begin(i / 2 * 3, 100);
        decide(i / 2, i / 2 * 3, no_tokens[i % 2]);
        for (uint32_t block = 0; block < 3; block++) {
            advance();
            const struct vly_block_result *r = &blocks->result[block % VLY_MAX_AHEAD];
            assert_int_equal(results->advanced[block % VLY_MAX_AHEAD], VLY_NO_ID);
            assert_int_equal(r->n_decided, block ? 0 : i / 2 + 1);
            assert_int_equal(r->continued, 0);
            check_nothing(step);
            if (i / 2 == 0) continue;
            check_nothing(first);
            check_nothing(further);
        }
    }
}

/* What the draft is to take in after `accepted` of n: 60, 61 and all proposals but the last are in
 * its cache. */
static void check_draft(uint32_t accepted, uint32_t n, uint32_t id, uint32_t k)
{
    uint32_t kept = accepted < n ? accepted : n - 1, pos = 62 + kept, count = 0;
    if (accepted == n) check_token(&first->token[count++], 500 + n, pos, DRAFT_SLOT);
    for (uint32_t j = 0; j < recoded[id].n; j++, count++)
        check_token(&first->token[count], recoded[id].id[j], pos + count, DRAFT_SLOT);
    assert_int_equal(first->n_tok, count);
    assert_int_equal(first->n_rows, 1);
    assert_int_equal(first->row[0], count - 1);
    assert_int_equal(first->draft[0].verify, 1);
    assert_int_equal(first->draft[0].n_left, k);
    check_token(&further->token[0], first->token[count - 1].id, pos + count - 1, DRAFT_SLOT);
    assert_int_equal(further->n_tok, 1);
    assert_int_equal(further->n_rows, 1);
    /* The noise of the first proposal's position. */
    uint32_t shift = first->sampling[DRAFT_SLOT].noise_shift;
    assert_int_equal(pos + count + shift, 31 + accepted + 2);
    assert_int_equal(further->sampling[DRAFT_SLOT].noise_shift, shift);
}

static void proposals_are_accepted_while_they_are_the_picks(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= VLY_BLOCK_DRAFT; n += 2)
        for (uint32_t accepted = 0; accepted <= n; accepted++) {
            uint32_t id = 77;
            begin(n, 100);
            decide(accepted, n, id);
            recoded[id].n = accepted % VLY_MAX_RECODED + 1;
            for (uint32_t j = 2; j < recoded[id].n; j++) recoded[id].id[j] = 400 + j;
            advance();
            const struct vly_block_result *r = &blocks->result[0];
            assert_int_equal(r->n_decided, accepted + 1);
            assert_int_equal(r->n_drafted, n);
            assert_int_equal(r->rank, accepted < n ? 70 + accepted : 0);
            assert_int_equal(r->continued, 1);
            for (uint32_t j = 0; j < n; j++) {
                assert_int_equal(r->drafted[j], 11 + j);
                assert_int_equal(r->draft_id[j], 501 + j);
            }
            assert_int_equal(results->advanced[0], id);
            assert_int_equal(blocks->left, 99 - accepted);
            check_token(&step->token[0], id, 32 + accepted, SLOT);
            assert_int_equal(step->n_tok, n + 1);
            assert_int_equal(step->n_rows, n + 1);
            for (uint32_t j = 1; j <= n; j++) {
                assert_int_equal(step->token[j].pos, 32 + accepted + j);
                assert_int_equal(step->row[j], j);
            }
            check_draft(accepted, n, id, n);
        }
}

static void a_block_decides_no_more_than_is_left(void **state)
{
    (void)state;
    for (uint32_t left = 5; left < 9; left++) {
        begin(4, left);
        decide(2, 4, 77);
        advance();
        uint32_t rest = left - 3, k = rest - 1 < 4 ? rest - 1 : 4;
        assert_int_equal(blocks->left, rest);
        assert_int_equal(step->n_tok, k + 1);
        check_draft(2, 4, 77, k);
        for (uint32_t j = 0; j < k; j++) step->token[1 + j].id = 20 + j;
        decide(k, k, 78);
        advance();
        assert_int_equal(blocks->result[1].n_decided, k + 1);
        assert_int_equal(blocks->result[1].continued, rest > k + 1);
        if (rest > k + 1) continue;
        check_nothing(step);
        check_nothing(first);
    }
}

static void what_the_table_lacks_is_left_to_the_host(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t accepted = i % 2 ? 3 : 1;
        bool spelled = i / 2; /* it is, but with more tokens than fit */
        begin(3, 100);
        decide(accepted, 3, 50);
        recoded[50].n = spelled ? VLY_RECODE_HOST : 0;
        advance();
        assert_int_equal(blocks->result[0].n_decided, accepted + 1);
        assert_int_equal(results->advanced[0], 50);
        bool continued = !spelled && accepted == 3; /* with the last proposal alone */
        assert_int_equal(blocks->result[0].continued, continued);
        if (continued) {
            check_draft(3, 3, 50, 3);
        } else {
            check_nothing(step);
            check_nothing(first);
            check_nothing(further);
        }
    }
}

static vly_words table(void)
{
    return (vly_words){words->spelling, N_OWN, words->slots, N_SLOTS};
}

static struct vly_spelling letter(uint32_t i)
{
    char text[2] = {(char)(i % 251), (char)(i / 251)};
    return vly_words_spell((vly_bytes){text, 2});
}

/* Own token `id` is what the own tokens parts [n] and the target's `more` come to in a row. */
static void add_word(uint32_t id, const uint32_t *parts, uint32_t n, uint32_t more)
{
    char text[64];
    uint32_t len = 0;
    for (uint32_t i = 0; i <= n; i++) {
        uint32_t part = i < n ? parts[i] : 1000 + more;
        text[len++] = (char)(part % 251);
        text[len++] = (char)(part / 251);
    }
    struct vly_spelling s = vly_words_spell((vly_bytes){text, len});
    uint32_t at = VLY_WORD_SLOT(s.hash) % N_SLOTS;
    while (words->slots[at].id != VLY_NO_ID) at = (at + 1) % N_SLOTS;
    words->slots[at] = (struct vly_word){{s.hash[0], s.hash[1]}, id};
}

static void begin_with_words(uint32_t n, uint32_t n_tail)
{
    begin(n, 100);
    n_words = N_SLOTS;
    memset(words->slots, 0xff, sizeof words->slots);
    for (uint32_t i = 0; i < N_OWN; i++) words->spelling[i] = letter(i);
    for (uint32_t i = 0; i < N_VOCAB; i++) recoded[i].spelling = letter(1000 + i);
    blocks->n_tail = n_tail;
    for (uint32_t i = 0; i < n_tail; i++) blocks->tail[i] = 40 + 2 - n_tail + i;
}

/* The longest end that is one token with the target's takes the place of its parts, wherever these
 * lie: in what was accepted, in front of it, a last proposal that is in no cache yet included; and
 * the host finds the same. */
static void parts_become_a_word(void **state)
{
    (void)state;
    enum { TAIL = 5, ID = 77, WORD = 590 };
    for (uint32_t n = 1; n <= 6; n++)
        for (uint32_t accepted = 0; accepted <= n; accepted++)
            for (uint32_t length = 1; length <= VLY_WORD_TAIL + 1; length++) {
                uint32_t own[TAIL + 6], n_own = TAIL + accepted;
                begin_with_words(n, TAIL);
                memcpy(own, blocks->tail, TAIL * sizeof *own);
                for (uint32_t i = 0; i < accepted; i++) own[TAIL + i] = 501 + i;
                if (length > n_own) continue;
                add_word(WORD, own + n_own - length, length, ID);
                if (length > 2) add_word(WORD + 1, own + n_own - 2, 2, ID); /* a shorter one */
                decide(accepted, n, ID);
                advance();
                uint32_t known = n_own < VLY_WORD_TAIL ? n_own : VLY_WORD_TAIL, id = 0;
                vly_words w = table();
                char more[] = {(char)((1000 + ID) % 251), (char)((1000 + ID) / 251)};
                uint32_t joined = vly_words_join(&w, own + n_own - known, known,
                                                 (vly_bytes){more, sizeof more}, &id);
                assert_int_equal(joined, length <= VLY_WORD_TAIL ? length : 2);
                assert_int_equal(id, length <= VLY_WORD_TAIL ? WORD : WORD + 1);
                uint32_t pos = 62 + accepted - joined;
                assert_int_equal(first->n_tok, 1);
                assert_int_equal(first->row[0], 0);
                check_token(&first->token[0], id, pos, DRAFT_SLOT);
                check_token(&further->token[0], id, pos, DRAFT_SLOT);
                assert_int_equal(pos + 1 + first->sampling[DRAFT_SLOT].noise_shift,
                                 31 + accepted + 2);
                assert_int_equal(blocks->n_tail, known - joined + 1);
                for (uint32_t i = 0; i + 1 < blocks->n_tail; i++)
                    assert_int_equal(blocks->tail[i], own[n_own - known + i]);
                assert_int_equal(blocks->tail[blocks->n_tail - 1], id);
            }
    n_words = 0;
}

/* What is no word is taken in as the target's token, and remembered for the next one. */
static void parts_are_kept_for_later_words(void **state)
{
    (void)state;
    begin_with_words(3, 2);
    decide(3, 3, 77);
    advance();
    assert_int_equal(first->n_tok, 3); /* the last proposal, and two tokens for the target's */
    static const uint32_t expected[] = {40, 41, 501, 502, 503, 277, 377};
    assert_int_equal(blocks->n_tail, 7);
    assert_memory_equal(blocks->tail, expected, sizeof expected);
    add_word(595, (uint32_t[]){277, 377}, 2, 78);
    for (uint32_t j = 0; j < 3; j++) step->token[1 + j].id = 20 + j;
    decide(0, 3, 78);
    advance();
    check_token(&first->token[0], 595, 62 + 2 + 3 - 2, DRAFT_SLOT);
    assert_int_equal(first->n_tok, 1);
    assert_int_equal(blocks->n_tail, 6);
    assert_int_equal(blocks->tail[5], 595);
    n_words = 0;
}

static void a_forced_length_is_met_in_the_mean(void **state)
{
    (void)state;
    uint32_t n_decided = 0;
    begin(4, 1000);
    blocks->forced = 65536 * 9 / 4;
    for (uint32_t block = 0; block < 8; block++) {
        for (uint32_t j = 0; j < 5; j++) results->id[j] = 30 + j;
        advance();
        const struct vly_block_result *r = &blocks->result[block % VLY_MAX_AHEAD];
        assert_int_equal(results->advanced[block % VLY_MAX_AHEAD], 30 + r->n_decided - 1);
        n_decided += r->n_decided;
    }
    assert_int_equal(n_decided, 18);
    assert_int_equal(blocks->left, 1000 - 18);
    assert_int_equal(step->token[0].pos, 31 + 18);
}

static int create(uint64_t n_bytes, vly_gpu_memory memory, vly_gpu_buffer *out)
{
    vly_error err;
    return vly_gpu_buffer_create(fixture.gpu, n_bytes, memory, "test", out, &err);
}

static int setup(void **state)
{
    if (kernel_fixture_open(state) || create(sizeof *blocks, VLY_GPU_READBACK, &blocks_buffer) ||
        create(sizeof *draft_results, VLY_GPU_READBACK, &draft_results_buffer) ||
        create(N_VOCAB * sizeof *recoded, VLY_GPU_STEP, &recoded_buffer) ||
        create(sizeof *words, VLY_GPU_STEP, &words_buffer))
        return -1;
    step = kernel_fixture_target();
    first = kernel_fixture_step();
    further = first + 1;
    results = fixture.results.mapped;
    draft_results = draft_results_buffer.mapped;
    blocks = blocks_buffer.mapped;
    recoded = recoded_buffer.mapped;
    words = words_buffer.mapped;
    return 0;
}

static int teardown(void **state)
{
    vly_gpu_buffer *buffers[] = {&blocks_buffer, &draft_results_buffer, &recoded_buffer,
                                 &words_buffer};
    for (int i = 0; i < 4; i++) vly_gpu_buffer_destroy(fixture.gpu, buffers[i]);
    return kernel_fixture_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pick_becomes_the_next_token),
        cmocka_unit_test(without_a_pick_all_that_follows_does_nothing),
        cmocka_unit_test(proposals_are_accepted_while_they_are_the_picks),
        cmocka_unit_test(a_block_decides_no_more_than_is_left),
        cmocka_unit_test(what_the_table_lacks_is_left_to_the_host),
        cmocka_unit_test(parts_become_a_word),
        cmocka_unit_test(parts_are_kept_for_later_words),
        cmocka_unit_test(a_forced_length_is_met_in_the_mean),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
