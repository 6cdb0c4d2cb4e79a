/* The tokenizers on real vocabularies: the shipped pair's and Mistral's, against the ids of
 * reference tokenizers, and on whatever bytes there are. */
#include "base/error.h"
#include "tests/support/data.h"
#include "tests/support/vocabulary.h"
#include "text/json.h"
#include "text/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { SMOL, STORIES, MISTRAL_V1, MISTRAL_V3, N_VOCABULARIES };

static const char *const paths[N_VOCABULARIES] = {
    "models/smol-stories-11M-q8_0.gguf",
    "models/stories15M-q8_0.gguf",
    "tests/data/tokenizers/mistral-v0.1.gguf",
    "tests/data/tokenizers/mistral-v0.3.gguf",
};

static vly_tokenizer *tokenizers[N_VOCABULARIES];
static bool spelled[N_VOCABULARIES][256];

static int setup(void **state)
{
    (void)state;
    for (int v = 0; v < N_VOCABULARIES; v++) {
        tokenizers[v] = vocabulary_open(paths[v]);
        vocabulary_bytes(tokenizers[v], spelled[v]);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int v = 0; v < N_VOCABULARIES; v++) vly_tokenizer_destroy(tokenizers[v]);
    return 0;
}

static vly_ids encode(int v, const char *text, size_t n, unsigned flags)
{
    vly_ids ids = {0};
    vly_error err;
    assert_int_equal(vly_tokenizer_encode(tokenizers[v], text, n, flags, &ids, &err), 0);
    return ids;
}

static void assert_ids(vly_ids ids, const uint32_t *expected, size_t n)
{
    assert_int_equal(ids.len, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(ids.data[i], expected[i]);
}

/* Encodes `text` and expects the ids that follow, up to VLY_NO_TOKEN. */
static void check_ids(int v, const char *text, unsigned flags, const uint32_t *expected)
{
    size_t n = 0;
    while (expected[n] != VLY_NO_TOKEN) n++;
    vly_ids ids = encode(v, text, strlen(text), flags);
    assert_ids(ids, expected, n);
    vly_ids_free(&ids);
}
#define IDS(...) ((const uint32_t[]){__VA_ARGS__, VLY_NO_TOKEN})

static void check_vectors(int v, const char *name, unsigned flags, size_t n_expected)
{
    size_t n, n_lines = 0;
    char *data = test_data_read(name, &n);
    for (char *line = data, *end; line < data + n; line = end + 1, n_lines++) {
        end = memchr(line, '\n', (size_t)(data + n - line));
        assert_non_null(end);
        cJSON *json;
        vly_error err;
        assert_int_equal(vly_json_parse(line, (size_t)(end - line), &json, &err), 0);
        vly_text text = {0};
        assert_int_equal(vly_json_string(cJSON_GetObjectItem(json, "text"), &text), 0);
        vly_ids ids = encode(v, text.data, text.len, flags);
        const cJSON *expected = cJSON_GetObjectItem(json, "ids"), *item;
        size_t i = 0;
        bool same = (size_t)cJSON_GetArraySize(expected) == ids.len;
        cJSON_ArrayForEach(item, expected) same = same && item->valuedouble == ids.data[i++];
        if (!same) fail_msg("%s, line %zu: other ids", name, n_lines + 1);
        vly_ids_free(&ids);
        vly_text_free(&text);
        cJSON_Delete(json);
    }
    assert_int_equal(n_lines, n_expected);
    free(data);
}

static void test_vectors(void **state)
{
    (void)state;
    check_vectors(SMOL, "tokenizers/smollm2.jsonl", VLY_ENCODE_PARSE_SPECIAL, 271);
    check_vectors(MISTRAL_V1, "tokenizers/mistral_v1.jsonl", 0, 271);
    check_vectors(MISTRAL_V3, "tokenizers/mistral_v3.jsonl", 0, 271);
}

static void test_vocabularies(void **state)
{
    (void)state;
    static const struct {
        uint32_t n_vocab, bos, eos;
        bool adds_bos, space_prefix;
    } facts[] = {{49152, 0, 0, false, false},
                 {32000, 1, 2, true, true},
                 {32000, 1, 2, true, true},
                 {32768, 1, 2, true, true}};
    for (int v = 0; v < N_VOCABULARIES; v++) {
        const vly_tokenizer *t = tokenizers[v];
        assert_int_equal(vly_tokenizer_n_vocab(t), facts[v].n_vocab);
        assert_int_equal(vly_tokenizer_bos(t), facts[v].bos);
        assert_int_equal(vly_tokenizer_eos(t), facts[v].eos);
        assert_int_equal(vly_tokenizer_adds_bos(t), facts[v].adds_bos);
        assert_int_equal(vly_tokenizer_space_prefix(t), facts[v].space_prefix);
        assert_true(vly_tokenizer_is_end(t, facts[v].eos));
        assert_false(vly_tokenizer_is_end(t, 300));
        assert_false(vly_tokenizer_is_end(t, VLY_NO_TOKEN));
        assert_int_equal(vly_tokenizer_bytes(t, facts[v].eos).len, 0);
        assert_int_equal(vly_tokenizer_bytes(t, facts[v].n_vocab).len, 0);
        assert_int_equal(vly_tokenizer_piece(t, facts[v].n_vocab).len, 0);
        assert_int_equal(vly_tokenizer_type(t, facts[v].n_vocab), VLY_TOKEN_UNUSED);
    }
    assert_true(vly_tokenizer_is_end(tokenizers[SMOL], 2)); /* <|im_end|> */
    assert_int_equal(vly_tokenizer_type(tokenizers[MISTRAL_V3], 781), VLY_TOKEN_BYTE);
}

/* Pieces and the bytes that they stand for. */
static void test_bytes_of_tokens(void **state)
{
    (void)state;
    static const struct {
        int v;
        uint32_t id;
        const char *piece, *bytes;
    } cases[] = {
        {SMOL, 260, "\xC4\xA0the", " the"}, {SMOL, 198, "\xC4\x8A", "\n"},
        {SMOL, 1, "<|im_start|>", ""},      {MISTRAL_V1, 272, "\xE2\x96\x81the", " the"},
        {MISTRAL_V1, 13, "<0x0A>", "\n"},   {MISTRAL_V1, 259, "\xE2\x96\x81\xE2\x96\x81", "  "},
        {MISTRAL_V1, 0, "<unk>", ""},       {MISTRAL_V3, 3, "[INST]", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_bytes piece = vly_tokenizer_piece(tokenizers[cases[i].v], cases[i].id);
        vly_bytes bytes = vly_tokenizer_bytes(tokenizers[cases[i].v], cases[i].id);
        assert_int_equal(piece.len, strlen(cases[i].piece));
        assert_memory_equal(piece.data, cases[i].piece, piece.len);
        assert_int_equal(bytes.len, strlen(cases[i].bytes));
        if (bytes.len) assert_memory_equal(bytes.data, cases[i].bytes, bytes.len);
    }
}

static void test_unspellable_bytes(void **state)
{
    (void)state;
    static const uint8_t lacking[] = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xC0,
                                      0xC1, 0xF1, 0xF2, 0xF5, 0xF6, 0xF7, 0xF8,
                                      0xF9, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF};
    for (int byte = 0; byte < 256; byte++) {
        bool lacks = memchr(lacking, byte, sizeof lacking);
        assert_int_equal(spelled[SMOL][byte], !lacks);
        for (int v = STORIES; v < N_VOCABULARIES; v++) assert_true(spelled[v][byte]);
    }
}

/* What encoding and decoding makes of `text`: without the bytes that cannot be spelled, and in
 * SentencePiece with U+2581 as a space. Returns the length; `out` has room for n bytes. */
static size_t survivor(int v, const char *text, size_t n, char *out)
{
    size_t n_out = 0;
    for (size_t i = 0; i < n; i++) {
        if (v != SMOL && n - i >= 3 && !memcmp(text + i, "\xE2\x96\x81", 3)) {
            out[n_out++] = ' ';
            i += 2;
        } else if (spelled[v][(uint8_t)text[i]]) {
            out[n_out++] = text[i];
        }
    }
    return n_out;
}

static void check_round_trip(int v, const char *text, size_t n, unsigned flags)
{
    char expected[4096];
    assert_true(n <= sizeof expected);
    size_t n_expected = survivor(v, text, n, expected);
    vly_ids ids = encode(v, text, n, flags);
    vly_text back = {0};
    bool at_start = !(flags & VLY_ENCODE_CONTINUE);
    assert_int_equal(vly_tokenizer_decode(tokenizers[v], ids.data, ids.len, at_start, &back), 0);
    assert_int_equal(back.len, n_expected);
    if (n_expected) assert_memory_equal(back.data, expected, n_expected);
    vly_text_free(&back);
    vly_ids_free(&ids);
}

static void test_round_trip_of_one_and_two_bytes(void **state)
{
    (void)state;
    for (int v = 0; v < N_VOCABULARIES; v++) {
        check_round_trip(v, "", 0, 0);
        for (int pair = 0; pair < 65536; pair++) {
            char text[2] = {(char)(pair >> 8), (char)pair};
            if (pair < 256) check_round_trip(v, text + 1, 1, 0);
            if (pair < 256) check_round_trip(v, text + 1, 1, VLY_ENCODE_CONTINUE);
            if (v == SMOL || v == MISTRAL_V3) check_round_trip(v, text, 2, 0);
        }
    }
}

static void test_round_trip_of_every_token(void **state)
{
    (void)state;
    for (int v = 0; v < N_VOCABULARIES; v++) {
        for (uint32_t id = 0; id < vly_tokenizer_n_vocab(tokenizers[v]); id++) {
            vly_bytes bytes = vly_tokenizer_bytes(tokenizers[v], id);
            check_round_trip(v, bytes.data, bytes.len, 0);
            check_round_trip(v, bytes.data, bytes.len, VLY_ENCODE_CONTINUE);
            vly_text text = {0};
            assert_int_equal(vly_tokenizer_decode(tokenizers[v], &id, 1, false, &text), 0);
            assert_int_equal(text.len, bytes.len);
            if (bytes.len) assert_memory_equal(text.data, bytes.data, bytes.len);
            vly_text_free(&text);
        }
    }
}

static uint32_t random_u32(void)
{
    static uint64_t x = 0x9E3779B97F4A7C15u;
    x = x * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(x >> 33);
}

/* Bytes of several kinds, so that words, characters and broken characters meet. */
static size_t random_text(char *text, size_t room)
{
    static const char *const parts[] = {" ",
                                        "  ",
                                        "\n",
                                        "\r\n",
                                        "the",
                                        "'ll",
                                        "1",
                                        "\xC3",
                                        "\xA9",
                                        "\xE2\x96\x81",
                                        "\xE2\x96",
                                        "\xF0\x9F\x98\x80",
                                        "\xE4\xBD\xA0",
                                        "<s>",
                                        "<|im_end|>",
                                        "[INST]",
                                        ".",
                                        "\t"};
    size_t n = 0, target = random_u32() % room;
    while (n < target) {
        uint32_t kind = random_u32() % 4;
        const char *part = parts[random_u32() % (sizeof parts / sizeof *parts)];
        if (kind == 0)
            text[n++] = (char)random_u32();
        else if (kind == 1)
            text[n++] = (char)('a' + random_u32() % 26);
        else if (n + strlen(part) <= room)
            for (; *part; part++) text[n++] = *part;
        else
            break;
    }
    return n;
}

static void test_round_trip_of_random_bytes(void **state)
{
    (void)state;
    char text[300];
    for (int round = 0; round < 3000; round++) {
        size_t n = random_text(text, sizeof text);
        for (int v = 0; v < N_VOCABULARIES; v++)
            check_round_trip(v, text, n, round % 2 ? VLY_ENCODE_CONTINUE : 0);
    }
}

/* Where text is always cut, encoding the two sides apart gives the same ids. */
static void test_cuts(void **state)
{
    (void)state;
    char text[300];
    size_t n_words[N_VOCABULARIES] = {0}, n_lines[N_VOCABULARIES] = {0};
    for (int round = 0; round < 500; round++) {
        size_t n = random_text(text, sizeof text);
        for (size_t cut = 1; cut < n; cut++) {
            int v = round % N_VOCABULARIES;
            if (!vly_tokenizer_cuts(tokenizers[v], (uint8_t)text[cut - 1], (uint8_t)text[cut]))
                continue;
            (text[cut] == ' ' && text[cut - 1] != '\n' ? n_words : n_lines)[v]++;
            vly_ids whole = encode(v, text, n, 0), apart = encode(v, text, cut, 0);
            vly_error err;
            assert_int_equal(vly_tokenizer_encode(tokenizers[v], text + cut, n - cut,
                                                  VLY_ENCODE_CONTINUE, &apart, &err),
                             0);
            assert_ids(apart, whole.data, whole.len);
            vly_ids_free(&whole);
            vly_ids_free(&apart);
        }
    }
    /* No Mistral or Llama piece has a newline inside; the patterns of byte-level ones know runs. */
    for (int v = 0; v < N_VOCABULARIES; v++) {
        assert_true(n_words[v] > 100);
        assert_int_equal(n_lines[v] > 100, v != SMOL);
        assert_true(vly_tokenizer_cuts(tokenizers[v], 'a', ' '));
        assert_false(vly_tokenizer_cuts(tokenizers[v], 'a', 'b'));
        assert_false(vly_tokenizer_cuts(tokenizers[v], ' ', ' '));
        assert_int_equal(vly_tokenizer_cuts(tokenizers[v], '.', '\n'), v != SMOL);
    }
}

static void test_special_tokens(void **state)
{
    (void)state;
    /* Text, unless asked otherwise. */
    check_ids(SMOL, "<|im_end|>", 0, IDS(44, 108, 306, 79, 486, 108, 46));
    check_ids(SMOL, "<|im_end|>", VLY_ENCODE_PARSE_SPECIAL, IDS(2));
    check_ids(SMOL, "a<|im_end|>b", VLY_ENCODE_PARSE_SPECIAL, IDS(81, 2, 82));
    check_ids(SMOL, "<|im_end<|im_end|>", VLY_ENCODE_PARSE_SPECIAL, IDS(44, 108, 306, 79, 486, 2));
    check_ids(MISTRAL_V1, "<s>", 0, IDS(523, 28713, 28767));
    check_ids(MISTRAL_V1, "<s></s>", VLY_ENCODE_PARSE_SPECIAL, IDS(1, 2));
    /* The stretch behind a control token has the dummy prefix again; a continued text has not. */
    check_ids(MISTRAL_V1, "the</s>the", VLY_ENCODE_PARSE_SPECIAL, IDS(272, 2, 272));
    check_ids(MISTRAL_V1, "the</s> the", VLY_ENCODE_PARSE_SPECIAL, IDS(272, 2, 272));
    check_ids(MISTRAL_V1, "the", VLY_ENCODE_CONTINUE, IDS(1237));
    check_ids(MISTRAL_V3, "[INST]the[/INST]", VLY_ENCODE_PARSE_SPECIAL, IDS(3, 1040, 4));
    /* <unk> is no text that anybody means. */
    check_ids(MISTRAL_V1, "<unk>", VLY_ENCODE_PARSE_SPECIAL, IDS(523, 2060, 28767));
    /* User-defined tokens count always; the prefix stays a piece. */
    check_ids(MISTRAL_V3, "[REFERENCE_DOC_1]", 0, IDS(29473, 769));
    check_ids(MISTRAL_V3, "[REFERENCE_DOC_12]the", VLY_ENCODE_CONTINUE, IDS(758, 2005));
}

static void test_bos(void **state)
{
    (void)state;
    check_ids(MISTRAL_V1, "the", VLY_ENCODE_BOS, IDS(1, 272));
    check_ids(MISTRAL_V1, "", VLY_ENCODE_BOS, IDS(1));
    check_ids(SMOL, "the", VLY_ENCODE_BOS, IDS(0, 1195));
    /* Not twice where the text spells it and that is parsed. */
    const unsigned flags = VLY_ENCODE_BOS | VLY_ENCODE_PARSE_SPECIAL;
    check_ids(MISTRAL_V1, "<s> the", flags, IDS(1, 272));
    check_ids(MISTRAL_V1, "the<s>", flags, IDS(1, 272, 1));
    check_ids(MISTRAL_V1, "", flags, IDS(1));
}

static void test_decoding_drops_the_prefix_only(void **state)
{
    (void)state;
    static const struct {
        uint32_t ids[3];
        bool at_start;
        const char *text;
    } cases[] = {
        {{272, 272, 272}, true, "the the the"},
        {{272, 272, 272}, false, " the the the"},
        {{1, 272, 2}, true, "the"},
        {{1237, 272, 272}, true, "the the the"},
        {{259, 272, 99999}, true, "  the"},
        {{28705, 13, 13}, true, "\n\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_text text = {0};
        assert_int_equal(
            vly_tokenizer_decode(tokenizers[MISTRAL_V1], cases[i].ids, 3, cases[i].at_start, &text),
            0);
        assert_string_equal(text.data, cases[i].text);
        vly_text_free(&text);
    }
}

static void test_text_that_is_too_long(void **state)
{
    (void)state;
    vly_ids ids = {0};
    vly_error err;
    assert_int_equal(
        vly_tokenizer_encode(tokenizers[SMOL], "", (size_t)1 << 31, VLY_ENCODE_BOS, &ids, &err),
        VLY_E_INVALID);
    assert_int_equal(ids.len, 0);
    assert_non_null(strstr(err.message, "2147483648"));
}

/* The least processor time of three encodings of n bytes of `unit`, repeated. */
static double encode_seconds(int v, const char *unit, size_t n)
{
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++) text[i] = unit[i % strlen(unit)];
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        clock_t start = clock();
        vly_ids ids = encode(v, text, n, VLY_ENCODE_PARSE_SPECIAL);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        vly_ids_free(&ids);
        if (seconds < best) best = seconds;
    }
    free(text);
    return best;
}

/* 16 times the text takes about 16 times as long; quadratic work would take 256 times. */
static void test_time_is_near_linear(void **state)
{
    (void)state;
    static const char *const units[] = {
        "a",     " ",  "\n", "=", "the cat sat. ", "<|im_start|", "\xFF", "\xF0\x9F\x98\x80",
        "[INST", "12 "};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        for (int v = SMOL; v <= MISTRAL_V3; v += MISTRAL_V3) {
            double small = encode_seconds(v, units[i], 8000);
            double large = encode_seconds(v, units[i], 128000);
            if (large > 80 * (small + 0.0005))
                fail_msg("%s, \"%s\": %g s for 8 kB, %g s for 128 kB", paths[v], units[i], small,
                         large);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_vocabularies),
        cmocka_unit_test(test_bytes_of_tokens),
        cmocka_unit_test(test_unspellable_bytes),
        cmocka_unit_test(test_round_trip_of_one_and_two_bytes),
        cmocka_unit_test(test_round_trip_of_every_token),
        cmocka_unit_test(test_round_trip_of_random_bytes),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_bos),
        cmocka_unit_test(test_decoding_drops_the_prefix_only),
        cmocka_unit_test(test_text_that_is_too_long),
        cmocka_unit_test(test_time_is_near_linear),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
