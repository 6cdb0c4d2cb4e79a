/* Where two vocabularies meet: the shipped pair, Mistral's two, and small ones made to be awkward.
 */
#include "spec/vocab_map.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/vocabulary.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NO_LIMIT UINT32_MAX

static vly_tokenizer *smol, *stories, *mistral_v1, *mistral_v3;

static int setup(void **state)
{
    (void)state;
    smol = vocabulary_open("models/smol-stories-11M-q8_0.gguf");
    stories = vocabulary_open("models/stories15M-q8_0.gguf");
    mistral_v1 = vocabulary_open("tests/data/tokenizers/mistral-v0.1.gguf");
    mistral_v3 = vocabulary_open("tests/data/tokenizers/mistral-v0.3.gguf");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    vly_tokenizer_destroy(smol);
    vly_tokenizer_destroy(stories);
    vly_tokenizer_destroy(mistral_v1);
    vly_tokenizer_destroy(mistral_v3);
    return 0;
}

/* A SentencePiece vocabulary of `n` pieces, of which `eos` ends a text. */
static vly_tokenizer *make(const char *const *pieces, const int32_t *types, size_t n, uint32_t eos)
{
    vly_bytes *tokens = calloc(n, sizeof *tokens);
    float *scores = calloc(n, sizeof *scores);
    assert_non_null(tokens);
    assert_non_null(scores);
    for (size_t i = 0; i < n; i++) {
        tokens[i] = (vly_bytes){pieces[i], strlen(pieces[i])};
        scores[i] = -(float)i;
    }
    gguf_writer *writer = gguf_writer_create(3);
    gguf_writer_string(writer, "tokenizer.ggml.model", "llama");
    gguf_writer_strings(writer, "tokenizer.ggml.tokens", tokens, n);
    gguf_writer_numbers(writer, "tokenizer.ggml.scores", VLY_GGUF_F32, scores, n);
    gguf_writer_numbers(writer, "tokenizer.ggml.token_type", VLY_GGUF_I32, types, n);
    gguf_writer_u32(writer, "tokenizer.ggml.unknown_token_id", 0);
    gguf_writer_u32(writer, "tokenizer.ggml.eos_token_id", eos);
    size_t n_bytes;
    uint8_t *image = gguf_writer_image(writer, &n_bytes);
    vly_gguf *gguf;
    vly_tokenizer *tokenizer = NULL;
    vly_error err;
    if (vly_gguf_open_memory(image, n_bytes, &gguf, &err) ||
        vly_tokenizer_create(gguf, &tokenizer, &err))
        fail_msg("%s", err.message);
    vly_gguf_close(gguf);
    free(image);
    gguf_writer_destroy(writer);
    free(scores);
    free(tokens);
    return tokenizer;
}

static vly_vocab_map map_of(const vly_tokenizer *draft, const vly_tokenizer *target)
{
    vly_vocab_map map;
    vly_error err;
    if (vly_vocab_map_init(draft, target, NO_LIMIT, NO_LIMIT, &map, &err))
        fail_msg("%s", err.message);
    assert_int_equal(map.n_draft, vly_tokenizer_n_vocab(draft));
    assert_int_equal(map.n_target, vly_tokenizer_n_vocab(target));
    for (uint32_t i = 0; i < map.n_mapped; i++) {
        assert_true(map.draft_id[i] < map.n_draft);
        assert_true(map.target_id[i] < map.n_target);
        if (i) assert_true(map.draft_id[i - 1] < map.draft_id[i]);
        assert_int_equal(vly_vocab_map_target_of(&map, map.draft_id[i]), map.target_id[i]);
    }
    /* The others that have text: each once, by the longest piece that it begins with. */
    assert_in_range(map.n_rows, map.n_mapped, map.n_draft);
    for (uint32_t i = map.n_mapped; i < map.n_rows; i++) {
        assert_true(map.draft_id[i] < map.n_draft);
        if (i > map.n_mapped) assert_true(map.draft_id[i - 1] < map.draft_id[i]);
        assert_int_equal(vly_vocab_map_target_of(&map, map.draft_id[i]), VLY_NO_TOKEN);
        vly_bytes text = vly_tokenizer_bytes(draft, map.draft_id[i]);
        vly_bytes first = vly_tokenizer_bytes(target, map.target_id[i]);
        assert_in_range(first.len, 1, text.len - 1);
        assert_memory_equal(first.data, text.data, first.len);
    }
    assert_int_equal(vly_vocab_map_target_of(&map, map.n_draft), VLY_NO_TOKEN);
    return map;
}

static uint32_t target_of(const vly_vocab_map *map, uint32_t draft_id)
{
    for (uint32_t i = 0; i < map->n_mapped; i++)
        if (map->draft_id[i] == draft_id) return map->target_id[i];
    return VLY_NO_TOKEN;
}

static uint32_t find_bytes(const vly_tokenizer *tokenizer, const char *text)
{
    size_t len = strlen(text);
    for (uint32_t id = 0; id < vly_tokenizer_n_vocab(tokenizer); id++) {
        vly_bytes bytes = vly_tokenizer_bytes(tokenizer, id);
        if (bytes.len == len && memcmp(bytes.data, text, len) == 0) return id;
    }
    return VLY_NO_TOKEN;
}

/* Every pair stands for the same bytes, and no draft token that could map is missing. The count of
 * pairs is returned. */
static uint32_t check_pairs(const vly_tokenizer *draft, const vly_tokenizer *target)
{
    vly_vocab_map map = map_of(draft, target);
    assert_false(map.identity);
    for (uint32_t i = 0; i < map.n_mapped; i++) {
        if (map.draft_id[i] == vly_tokenizer_eos(draft)) {
            assert_int_equal(map.target_id[i], vly_tokenizer_eos(target));
            continue;
        }
        vly_bytes from = vly_tokenizer_bytes(draft, map.draft_id[i]);
        vly_bytes to = vly_tokenizer_bytes(target, map.target_id[i]);
        assert_int_not_equal(from.len, 0);
        assert_int_equal(from.len, to.len);
        assert_memory_equal(from.data, to.data, from.len);
        vly_token_type type = vly_tokenizer_type(target, map.target_id[i]);
        assert_true(type == VLY_TOKEN_NORMAL || type == VLY_TOKEN_USER_DEFINED ||
                    type == VLY_TOKEN_BYTE);
    }
    uint32_t n = map.n_mapped;
    vly_vocab_map_deinit(&map);
    return n;
}

/* The counts were found by another program: the pieces of both files as sets of byte strings; and
 * the end of text. */
static void test_shipped_pair(void **state)
{
    (void)state;
    assert_int_equal(check_pairs(smol, stories), 18709 + 1);
    vly_vocab_map map = map_of(smol, stories);
    /* All but the control tokens, of which one is the end of text. */
    assert_int_equal(map.n_rows, 49152 - 17 + 1);
    uint32_t row = map.n_mapped;
    while (row < map.n_rows && map.draft_id[row] != find_bytes(smol, " healthy")) row++;
    assert_in_range(row, map.n_mapped, map.n_rows - 1);
    vly_bytes first = vly_tokenizer_bytes(stories, map.target_id[row]);
    assert_int_equal(first.len, strlen(" health"));
    uint32_t newline = target_of(&map, find_bytes(smol, "\n"));
    assert_int_equal(newline, 13);
    assert_int_equal(vly_tokenizer_type(stories, newline), VLY_TOKEN_BYTE);
    assert_int_equal(target_of(&map, vly_tokenizer_eos(smol)), vly_tokenizer_eos(stories));

    /* "A" is a byte token and a piece: text has the piece. */
    uint32_t a = target_of(&map, find_bytes(smol, "A"));
    assert_int_equal(vly_tokenizer_type(stories, a), VLY_TOKEN_NORMAL);
    vly_bytes piece = vly_tokenizer_piece(stories, a);
    assert_int_equal(piece.len, 1);
    assert_int_equal(piece.data[0], 'A');
    vly_vocab_map_deinit(&map);
}

/* v0.3 is v0.1 with 768 tokens put in behind the first three. */
static void test_mistral_versions(void **state)
{
    (void)state;
    check_pairs(smol, mistral_v1);
    vly_vocab_map v1 = map_of(smol, mistral_v1), v3 = map_of(smol, mistral_v3);
    assert_int_equal(v1.n_mapped, v3.n_mapped);
    for (uint32_t i = 0; i < v1.n_mapped; i++) {
        assert_int_equal(v1.draft_id[i], v3.draft_id[i]);
        if (v1.draft_id[i] == vly_tokenizer_eos(smol)) {
            assert_int_equal(v1.target_id[i], 2);
            assert_int_equal(v3.target_id[i], 2);
        } else {
            assert_int_equal(v3.target_id[i], v1.target_id[i] + 768);
        }
    }
    vly_vocab_map_deinit(&v1);
    vly_vocab_map_deinit(&v3);
}

static void test_identity(void **state)
{
    (void)state;
    vly_vocab_map map = map_of(mistral_v3, mistral_v3);
    assert_true(map.identity);
    assert_int_equal(map.n_mapped, vly_tokenizer_n_vocab(mistral_v3));
    for (uint32_t i = 0; i < map.n_mapped; i++) {
        assert_int_equal(map.draft_id[i], i);
        assert_int_equal(map.target_id[i], i);
    }
    vly_vocab_map_deinit(&map);

    /* The same pieces with another type of one token are another vocabulary. */
    const char *const pieces[] = {"<unk>", "</s>", "a", "b"};
    const int32_t types[] = {2, 3, 1, 1}, other_types[] = {2, 3, 1, 5};
    vly_tokenizer *one = make(pieces, types, 4, 1), *same = make(pieces, types, 4, 1);
    vly_tokenizer *other = make(pieces, other_types, 4, 1);
    map = map_of(one, same);
    assert_true(map.identity);
    vly_vocab_map_deinit(&map);
    map = map_of(one, other);
    assert_false(map.identity);
    assert_int_equal(map.n_mapped, 2);
    assert_int_equal(target_of(&map, 1), 1);
    assert_int_equal(target_of(&map, 2), 2);
    assert_int_equal(target_of(&map, 3), VLY_NO_TOKEN);
    vly_vocab_map_deinit(&map);
    vly_tokenizer_destroy(one);
    vly_tokenizer_destroy(same);
    vly_tokenizer_destroy(other);
}

/* Of tokens with the same bytes: the normal piece, then the lowest id; control and unused never. */
static void test_which_token_wins(void **state)
{
    (void)state;
    const char *const draft_pieces[] = {"<unk>", "</s>", "A", "\n", "B", "<|x|>", "C"};
    const int32_t draft_types[] = {2, 3, 1, 1, 1, 3, 1};
    const char *const target_pieces[] = {"<unk>", "<end>", "<0x41>", "<0x0A>", "B",
                                         "A",     "<|x|>", "C",      "B",      "<0x43>"};
    const int32_t target_types[] = {2, 3, 6, 6, 1, 1, 3, 5, 1, 6};
    vly_tokenizer *draft = make(draft_pieces, draft_types, 7, 1);
    vly_tokenizer *target = make(target_pieces, target_types, 10, 1);
    vly_vocab_map map = map_of(draft, target);
    const uint32_t expected[] = {VLY_NO_TOKEN, 1, 5, 3, 4, VLY_NO_TOKEN, 9};
    for (uint32_t id = 0; id < 7; id++) assert_int_equal(target_of(&map, id), expected[id]);
    assert_int_equal(map.n_mapped, 5);
    vly_vocab_map_deinit(&map);
    vly_tokenizer_destroy(draft);
    vly_tokenizer_destroy(target);
}

static void test_rows_limit(void **state)
{
    (void)state;
    vly_vocab_map map;
    vly_error err;
    assert_int_equal(vly_vocab_map_init(smol, stories, 1000, 500, &map, &err), 0);
    for (uint32_t i = 0; i < map.n_mapped; i++) {
        assert_true(map.draft_id[i] < 1000);
        assert_true(map.target_id[i] < 500);
    }
    /* The pieces of single bytes lie above: the byte tokens are what is left. */
    assert_int_equal(vly_tokenizer_type(stories, target_of(&map, find_bytes(smol, "A"))),
                     VLY_TOKEN_BYTE);
    vly_vocab_map_deinit(&map);

    assert_int_equal(vly_vocab_map_init(stories, stories, 500, NO_LIMIT, &map, &err), 0);
    assert_true(map.identity);
    assert_int_equal(map.n_mapped, 500);
    vly_vocab_map_deinit(&map);
    assert_int_equal(vly_vocab_map_init(stories, stories, 500, 0, &map, &err), VLY_E_DRAFT);
}

/* Ends of text alone are no text to draft. */
static void test_nothing_shared(void **state)
{
    (void)state;
    const char *const one[] = {"<unk>", "</s>", "a", "bc"};
    const char *const two[] = {"<unk>", "</s>", "b", "d", "e"};
    const int32_t types[] = {2, 3, 1, 1, 1};
    vly_tokenizer *draft = make(one, types, 4, 1), *target = make(two, types, 5, 1);
    vly_vocab_map map;
    vly_error err;
    assert_int_equal(vly_vocab_map_init(draft, target, NO_LIMIT, NO_LIMIT, &map, &err),
                     VLY_E_DRAFT);
    assert_int_equal(err.code, VLY_E_DRAFT);
    assert_non_null(strstr(err.message, "4"));
    assert_non_null(strstr(err.message, "5"));
    assert_null(map.draft_id);
    assert_null(map.target_id);
    vly_tokenizer_destroy(draft);
    vly_tokenizer_destroy(target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped_pair), cmocka_unit_test(test_mistral_versions),
        cmocka_unit_test(test_identity),     cmocka_unit_test(test_which_token_wins),
        cmocka_unit_test(test_rows_limit),   cmocka_unit_test(test_nothing_shared),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
