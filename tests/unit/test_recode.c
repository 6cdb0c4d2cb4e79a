/* Tokens of the target as tokens of the draft: as the draft's tokenizer goes on with their bytes.
 */
#include "spec/recode.h"
#include "tests/support/vocabulary.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define STORIES "models/stories15M-q8_0.gguf"
#define SMOL    "models/smol-stories-11M-q8_0.gguf"

/* Each row, put together again, has the token's bytes, but for those that the draft lacks; and is
 * what comes of the token after another one. */
static void check_pair(const char *target_path, const char *draft_path, uint32_t beyond)
{
    vly_tokenizer *target = vocabulary_open(target_path), *draft = vocabulary_open(draft_path);
    uint32_t n = vly_tokenizer_n_vocab(target) + beyond, n_short = 0, n_host = 0;
    struct vly_recoded *rows;
    vly_error err;
    vly_ids ids = {0};
    vly_text spelled = {0}, bytes = {0};
    bool can_spell[256];
    vocabulary_bytes(draft, can_spell);
    assert_int_equal(vly_recode_all(target, n, draft, &rows, &err), 0);
    for (uint32_t id = 0; id < n; id++) {
        ids.len = spelled.len = bytes.len = 0;
        if (id < n - beyond)
            assert_int_equal(vly_tokenizer_decode(target, &id, 1, false, &bytes), 0);
        assert_int_equal(
            vly_tokenizer_encode(draft, bytes.data, bytes.len, VLY_ENCODE_CONTINUE, &ids, &err), 0);
        uint32_t count = rows[id].n;
        if (count == VLY_RECODE_HOST) {
            n_host++;
            assert_true(ids.len > VLY_MAX_RECODED);
            continue;
        }
        assert_int_equal(count, ids.len);
        if (count) assert_memory_equal(rows[id].id, ids.data, count * sizeof *ids.data);
        assert_int_equal(vly_tokenizer_decode(draft, rows[id].id, count, false, &spelled), 0);
        size_t n_spelled = 0;
        for (size_t i = 0; i < bytes.len; i++) n_spelled += can_spell[(uint8_t)bytes.data[i]];
        assert_int_equal(spelled.len, n_spelled);
        n_short += count > 0;
    }
    assert_true(n_short > n / 10 * 9);
    assert_true(n_host < n / 100);
    vly_ids_free(&ids);
    vly_text_free(&spelled);
    vly_text_free(&bytes);
    free(rows);
    vly_tokenizer_destroy(target);
    vly_tokenizer_destroy(draft);
}

static void another_vocabulary(void **state)
{
    (void)state;
    check_pair(STORIES, SMOL, 0);
    check_pair(SMOL, STORIES, 0);
}

static void the_same_vocabulary(void **state)
{
    (void)state;
    check_pair(SMOL, SMOL, 0);
}

/* A draft with the target's vocabulary takes its tokens as they are, but for those it has no row
 * of. */
static void shared_tokens_are_themselves(void **state)
{
    (void)state;
    struct vly_recoded *rows;
    vly_error err;
    assert_int_equal(vly_recode_same(300, 256, &rows, &err), 0);
    for (uint32_t id = 0; id < 300; id++) {
        assert_int_equal(rows[id].n, id < 256);
        if (id < 256) assert_int_equal(rows[id].id[0], id);
    }
    free(rows);
}

/* Heads may have more rows than there are tokens. */
static void rows_beyond_the_vocabulary_are_empty(void **state)
{
    (void)state;
    check_pair(STORIES, SMOL, 700);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_vocabulary),
        cmocka_unit_test(the_same_vocabulary),
        cmocka_unit_test(shared_tokens_are_themselves),
        cmocka_unit_test(rows_beyond_the_vocabulary_are_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
