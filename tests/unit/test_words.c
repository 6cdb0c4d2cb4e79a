/* The draft's tokens by their bytes: parts that come to be a word. */
#include "spec/words.h"
#include "tests/support/vocabulary.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STORIES "models/stories15M-q8_0.gguf"
#define SMOL    "models/smol-stories-11M-q8_0.gguf"

static void encode(const vly_tokenizer *t, const char *text, size_t len, vly_ids *ids)
{
    vly_error err;
    ids->len = 0;
    assert_int_equal(vly_tokenizer_encode(t, text, len, VLY_ENCODE_CONTINUE, ids, &err), 0);
}

/* Whatever place a token is cut at, what its front is encoded to becomes it together with its rest:
 * where the tokenizer itself makes that of the whole. */
static void check_vocabulary(const char *path)
{
    vly_tokenizer *t = vocabulary_open(path);
    vly_words words;
    vly_error err;
    vly_ids ids = {0};
    uint32_t n_cut = 0, n_found = 0;
    assert_int_equal(vly_words_init(t, &words, &err), 0);
    for (uint32_t id = 0; id < words.n_tok; id += 3) {
        vly_bytes bytes = vly_tokenizer_bytes(t, id);
        encode(t, bytes.data, bytes.len, &ids);
        bool whole = ids.len == 1 && ids.data[0] == id;
        for (size_t at = 1; at < bytes.len; at++) {
            vly_bytes rest = {bytes.data + at, bytes.len - at};
            uint32_t word = 0;
            encode(t, bytes.data, at, &ids);
            if (ids.len == 0 || ids.len > VLY_WORD_TAIL) continue;
            vly_text front = {0};
            assert_int_equal(vly_tokenizer_decode(t, ids.data, ids.len, false, &front), 0);
            bool spelled = front.len == at && memcmp(front.data, bytes.data, at) == 0;
            vly_text_free(&front);
            if (!spelled) continue;
            uint32_t n = vly_words_join(&words, ids.data, (uint32_t)ids.len, rest, &word);
            n_cut += whole;
            n_found += whole && n == ids.len && word == id;
        }
    }
    print_message("%u of %u\n", n_found, n_cut);
    assert_true(n_cut > words.n_tok && n_found > n_cut / 1000 * 998);
    vly_ids_free(&ids);
    vly_words_deinit(&words);
    vly_tokenizer_destroy(t);
}

static void tokens_are_found_by_their_parts(void **state)
{
    (void)state;
    check_vocabulary(SMOL);
    check_vocabulary(STORIES);
}

/* The longest end counts; what is no word, or no token at all, is none. */
static void the_longest_end_is_taken(void **state)
{
    (void)state;
    vly_tokenizer *t = vocabulary_open(SMOL);
    vly_words words;
    vly_error err;
    vly_ids ids = {0};
    uint32_t id = 0, tail[3];
    assert_int_equal(vly_words_init(t, &words, &err), 0);
    encode(t, " the", 4, &ids);
    tail[0] = ids.data[0];
    encode(t, " o", 2, &ids);
    assert_int_equal(ids.len, 1);
    tail[1] = ids.data[0];
    encode(t, "the", 3, &ids); /* "the" + "r" alone would be "ther" */
    assert_int_equal(ids.len, 1);
    tail[2] = ids.data[0];
    encode(t, " other", 6, &ids);
    assert_int_equal(ids.len, 1);
    assert_int_equal(vly_words_join(&words, tail, 3, (vly_bytes){"r", 1}, &id), 2);
    assert_int_equal(id, ids.data[0]);
    assert_int_equal(vly_words_join(&words, tail, 3, (vly_bytes){"\n\x04zq", 4}, &id), 0);
    assert_int_equal(vly_words_join(&words, tail, 0, (vly_bytes){"r", 1}, &id), 0);
    tail[1] = VLY_NO_ID;
    encode(t, "ther", 4, &ids);
    uint32_t n = vly_words_join(&words, tail, 3, (vly_bytes){"r", 1}, &id);
    assert_int_equal(n, ids.len == 1);
    vly_ids_free(&ids);
    vly_words_deinit(&words);
    vly_tokenizer_destroy(t);
}

/* A control token has no bytes, and yet stands between what is before it and behind it. */
static void words_end_at_control_tokens(void **state)
{
    (void)state;
    vly_tokenizer *t = vocabulary_open(STORIES);
    vly_words words;
    vly_error err;
    vly_ids ids = {0};
    uint32_t control = 1, id = 0;
    assert_int_equal(vly_words_init(t, &words, &err), 0);
    assert_int_equal(vly_tokenizer_type(t, control), VLY_TOKEN_CONTROL);
    encode(t, " the", 4, &ids);
    assert_int_equal(ids.len, 1);
    assert_int_equal(vly_words_join(&words, ids.data, 1, (vly_bytes){"re", 2}, &id), 1);
    uint32_t tail[] = {ids.data[0], control};
    assert_int_equal(vly_words_join(&words, tail, 2, (vly_bytes){"re", 2}, &id), 0);
    assert_int_equal(vly_words_join(&words, &control, 1, (vly_bytes){" the", 4}, &id), 0);
    vly_ids_free(&ids);
    vly_words_deinit(&words);
    vly_tokenizer_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_found_by_their_parts),
        cmocka_unit_test(the_longest_end_is_taken),
        cmocka_unit_test(words_end_at_control_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
