/* Merging on small vocabularies made here, and metadata that cannot be right. */
#include "base/error.h"
#include "base/log.h"
#include "tests/support/gguf_writer.h"
#include "text/tokenizer_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static vly_bytes bytes_of(const char *text)
{
    return (vly_bytes){text, strlen(text)};
}

/* --- small vocabularies */

enum { MAX_TOKENS = 600 };

typedef struct {
    const char *model, *pre;
    char spelled[256][3];
    vly_bytes pieces[MAX_TOKENS], merges[64];
    float scores[MAX_TOKENS];
    int32_t types[MAX_TOKENS];
    uint32_t n, n_merges;
} vocabulary;

static uint32_t add(vocabulary *v, const char *piece, float score, int type)
{
    v->pieces[v->n] = bytes_of(piece);
    v->scores[v->n] = score;
    v->types[v->n] = type;
    return v->n++;
}

/* The 256 bytes as GPT-2's alphabet spells them; ids are the bytes. */
static void start_bpe(vocabulary *v, const char *pre)
{
    memset(v, 0, sizeof *v);
    v->model = "gpt2";
    v->pre = pre;
    unsigned next = 256;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool printed = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
        unsigned code = printed ? byte : next++;
        if (code < 128)
            v->spelled[byte][0] = (char)code;
        else
            v->spelled[byte][0] = (char)(0xC0 | code >> 6),
            v->spelled[byte][1] = (char)(0x80 | (code & 63));
        add(v, v->spelled[byte], 0, VLY_TOKEN_NORMAL);
    }
}

/* <unk>, <s>, </s>, then the 256 bytes: byte b has id b + 3. */
static void start_spm(vocabulary *v, bool bytes)
{
    static char names[256][8];
    memset(v, 0, sizeof *v);
    v->model = "llama";
    add(v, "<unk>", 0, VLY_TOKEN_UNKNOWN);
    add(v, "<s>", 0, VLY_TOKEN_CONTROL);
    add(v, "</s>", 0, VLY_TOKEN_CONTROL);
    for (unsigned byte = 0; byte < 256 && bytes; byte++) {
        snprintf(names[byte], sizeof names[byte], "<0x%02X>", byte);
        add(v, names[byte], 0, VLY_TOKEN_BYTE);
    }
}

/* Writes the metadata, less the key `skip` (may be NULL). */
static gguf_writer *write_vocabulary(const vocabulary *v, const char *skip)
{
    gguf_writer *w = gguf_writer_create(3);
    skip = skip ? skip : "";
    if (strcmp(skip, "tokenizer.ggml.model"))
        gguf_writer_string(w, "tokenizer.ggml.model", v->model);
    if (v->pre && strcmp(skip, "tokenizer.ggml.pre"))
        gguf_writer_string(w, "tokenizer.ggml.pre", v->pre);
    if (strcmp(skip, "tokenizer.ggml.tokens"))
        gguf_writer_strings(w, "tokenizer.ggml.tokens", v->pieces, v->n);
    if (strcmp(skip, "tokenizer.ggml.scores"))
        gguf_writer_numbers(w, "tokenizer.ggml.scores", VLY_GGUF_F32, v->scores, v->n);
    if (strcmp(skip, "tokenizer.ggml.token_type"))
        gguf_writer_numbers(w, "tokenizer.ggml.token_type", VLY_GGUF_I32, v->types, v->n);
    if (strcmp(skip, "tokenizer.ggml.merges"))
        gguf_writer_strings(w, "tokenizer.ggml.merges", v->merges, v->n_merges);
    return w;
}

/* Makes a tokenizer of what the writer has, and destroys the writer. */
static int create(gguf_writer *w, vly_tokenizer **t, vly_error *err)
{
    size_t n;
    uint8_t *image = gguf_writer_image(w, &n);
    gguf_writer_destroy(w);
    vly_gguf *gguf;
    assert_int_equal(vly_gguf_open_memory(image, n, &gguf, err), 0);
    int rc = vly_tokenizer_create(gguf, t, err);
    vly_gguf_close(gguf);
    free(image);
    return rc;
}

static vly_tokenizer *create_good(const vocabulary *v)
{
    vly_tokenizer *t;
    vly_error err;
    int rc = create(write_vocabulary(v, NULL), &t, &err);
    if (rc) fail_msg("%s", err.message);
    return t;
}

static void check_ids(const vly_tokenizer *t, const char *text, unsigned flags,
                      const uint32_t *expected)
{
    vly_ids ids = {0};
    vly_error err;
    assert_int_equal(vly_tokenizer_encode(t, text, strlen(text), flags, &ids, &err), 0);
    size_t n = 0;
    while (expected[n] != VLY_NO_TOKEN) n++;
    assert_int_equal(ids.len, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(ids.data[i], expected[i]);
    vly_ids_free(&ids);
}
#define IDS(...) ((const uint32_t[]){__VA_ARGS__, VLY_NO_TOKEN})

static void test_bpe_merges_by_rank_then_from_the_left(void **state)
{
    (void)state;
    vocabulary v;
    start_bpe(&v, "gpt-2");
    uint32_t bc = add(&v, "bc", 0, VLY_TOKEN_NORMAL), ab = add(&v, "ab", 0, VLY_TOKEN_NORMAL);
    uint32_t aa = add(&v, "aa", 0, VLY_TOKEN_NORMAL), abc = add(&v, "abc", 0, VLY_TOKEN_NORMAL);
    static const char *const merges[] = {"b c", "a b", "a a", "a bc", "a b"};
    for (size_t i = 0; i < 5; i++) v.merges[v.n_merges++] = bytes_of(merges[i]);
    vly_tokenizer *t = create_good(&v);
    check_ids(t, "abd", 0, IDS(ab, 'd'));
    check_ids(t, "bcab", 0, IDS(bc, ab));
    check_ids(t, "abc", 0, IDS(abc)); /* b c first, though a b is further left */
    check_ids(t, "aabc", 0, IDS(aa, bc));
    check_ids(t, "aaa", 0, IDS(aa, 'a'));
    check_ids(t, "aaaaa", 0, IDS(aa, aa, 'a'));
    check_ids(t, "a a", 0, IDS('a', ' ', 'a')); /* nothing merges across pre-tokens */
    vly_tokenizer_destroy(t);
}

/* llama-bpe takes a whole pre-token that is a piece as it is; others reach pieces by merges only.
 */
static void test_whole_pieces(void **state)
{
    (void)state;
    static const char *const pres[] = {"llama-bpe", "qwen2"};
    for (int i = 0; i < 2; i++) {
        vocabulary v;
        start_bpe(&v, pres[i]);
        uint32_t xyz = add(&v, "xyz", 0, VLY_TOKEN_NORMAL);
        vly_tokenizer *t = create_good(&v);
        if (i == 0)
            check_ids(t, "xyz", 0, IDS(xyz));
        else
            check_ids(t, "xyz", 0, IDS('x', 'y', 'z'));
        check_ids(t, "wxyz", 0, IDS('w', 'x', 'y', 'z'));
        check_ids(t, "\xFFxyz\xE2\x96", 0,
                  i == 0 ? IDS(0xFF, xyz, 0xE2, 0x96) : IDS(0xFF, 'x', 'y', 'z', 0xE2, 0x96));
        vly_tokenizer_destroy(t);
    }
}

static void test_special_tokens(void **state)
{
    (void)state;
    vocabulary v;
    start_bpe(&v, "gpt-2");
    uint32_t end = add(&v, "<e>", 0, VLY_TOKEN_CONTROL);
    uint32_t end2 = add(&v, "<e><e>", 0, VLY_TOKEN_CONTROL);
    uint32_t user = add(&v, "[u]", 0, VLY_TOKEN_USER_DEFINED);
    uint32_t user_long = add(&v, "[u]<e>", 0, VLY_TOKEN_USER_DEFINED);
    uint32_t space = add(&v, "  ", 0, VLY_TOKEN_USER_DEFINED);
    add(&v, "", 0, VLY_TOKEN_CONTROL);
    add(&v, "[u]", 0, VLY_TOKEN_CONTROL);
    vly_tokenizer *t = create_good(&v);
    check_ids(t, "<e>", 0, IDS('<', 'e', '>'));
    check_ids(t, "<e>", VLY_ENCODE_PARSE_SPECIAL, IDS(end));
    check_ids(t, "<e><e><e>", VLY_ENCODE_PARSE_SPECIAL, IDS(end2, end));
    check_ids(t, "a[u]b", 0, IDS('a', user, 'b'));
    check_ids(t, "[u]<e>", 0, IDS(user_long));
    check_ids(t, "[u]<e>", VLY_ENCODE_PARSE_SPECIAL, IDS(user_long));
    check_ids(t, "[u][u", VLY_ENCODE_PARSE_SPECIAL, IDS(user, '[', 'u'));
    check_ids(t, "a   b", 0, IDS('a', space, ' ', 'b'));
    vly_text text = {0};
    assert_int_equal(vly_tokenizer_decode(t, IDS(user, end, space), 3, true, &text), 0);
    assert_string_equal(text.data, "[u]  ");
    vly_text_free(&text);
    vly_tokenizer_destroy(t);
}

static void test_spm_merges_by_score(void **state)
{
    (void)state;
    vocabulary v;
    start_spm(&v, true);
    uint32_t a = add(&v, "a", -9, 1), b = add(&v, "b", -9, 1), c = add(&v, "c", -9, 1);
    uint32_t ab = add(&v, "ab", -2, 1), bc = add(&v, "bc", 0.5f, 1), abc = add(&v, "abc", -3, 1);
    uint32_t aa = add(&v, "aa", -0.0f, 1), ba = add(&v, "ba", 0.0f, 1);
    uint32_t mark = add(&v, "\xE2\x96\x81", -8, 1), e = add(&v, "\xC3\xA9", -5, 1);
    vly_tokenizer *t = create_good(&v);
    unsigned on = VLY_ENCODE_CONTINUE;
    check_ids(t, "ab", on, IDS(ab));
    check_ids(t, "abc", on, IDS(abc)); /* bc, then a bc */
    check_ids(t, "aaa", on, IDS(aa, a));
    check_ids(t, "baa", on, IDS(ba, a)); /* equal scores: the left one */
    check_ids(t, "bca", on, IDS(bc, a));
    check_ids(t, "ab", 0, IDS(mark, ab));
    check_ids(t,
              "\xE2\x96\x81"
              "c",
              on, IDS(mark, c));
    check_ids(t, "\xC3\xA9\xC3\xA8", on, IDS(e, 3 + 0xC3, 3 + 0xA8));
    check_ids(t, "b\xC3", on, IDS(b, 3 + 0xC3));
    vly_tokenizer_destroy(t);
}

/* A piece with a space behind another byte: words are then not merged apart. */
static void test_spm_pieces_across_words(void **state)
{
    (void)state;
    vocabulary v;
    start_spm(&v, true);
    uint32_t a = add(&v, "a", -9, 1);
    add(&v, "\xE2\x96\x81", -9, 1);
    uint32_t mark_a = add(&v,
                          "\xE2\x96\x81"
                          "a",
                          -3, 1);
    uint32_t both = add(&v,
                        "a\xE2\x96\x81"
                        "a",
                        -1, 1);
    vly_tokenizer *t = create_good(&v);
    check_ids(t, "a a", VLY_ENCODE_CONTINUE, IDS(both));
    check_ids(t, "a a a", VLY_ENCODE_CONTINUE, IDS(both, mark_a));
    check_ids(t, "aa", VLY_ENCODE_CONTINUE, IDS(a, a));
    vly_tokenizer_destroy(t);
}

static void test_spm_without_byte_tokens(void **state)
{
    (void)state;
    vocabulary v;
    start_spm(&v, false);
    uint32_t a = add(&v, "a", -1, 1);
    vly_tokenizer *t = create_good(&v);
    check_ids(t, "axyaz", VLY_ENCODE_CONTINUE, IDS(a, 0, a, 0));
    vly_tokenizer_destroy(t);
}

static void test_spm_user_defined(void **state)
{
    (void)state;
    vocabulary v;
    start_spm(&v, true);
    uint32_t user = add(&v, "[u]", 0, VLY_TOKEN_USER_DEFINED);
    uint32_t run = add(&v, "\xE2\x96\x81\xE2\x96\x81", 0, VLY_TOKEN_USER_DEFINED);
    uint32_t mark = add(&v, "\xE2\x96\x81", -1, 1);
    uint32_t a = add(&v, "a", -1, 1), aa = add(&v, "aa", 0, 1);
    vly_tokenizer *t = create_good(&v);
    check_ids(t, "aa[u]aa", VLY_ENCODE_CONTINUE, IDS(aa, user, aa));
    check_ids(t, "[u]", 0, IDS(mark, user));
    check_ids(t, " a", 0, IDS(run, a)); /* the dummy prefix and the space */
    check_ids(t, "<s>[u]</s>", VLY_ENCODE_PARSE_SPECIAL, IDS(1, mark, user, 2));
    vly_tokenizer_destroy(t);
}

static void test_duplicate_and_odd_pieces(void **state)
{
    (void)state;
    vocabulary v;
    start_bpe(&v, "gpt-2");
    uint32_t first = add(&v, "ab", 0, 1);
    add(&v, "ab", 0, 1);
    uint32_t odd = add(&v, "\xE2\x96\x81x", 0, 1); /* spells no bytes: stands for itself */
    uint32_t broken = add(&v, "\xFF\xFE", 0, 1);
    add(&v, "", 0, 1);
    v.merges[v.n_merges++] = bytes_of("a b");
    v.merges[v.n_merges++] = bytes_of("no piece");
    vly_tokenizer *t = create_good(&v);
    check_ids(t, "ab", 0, IDS(first));
    assert_memory_equal(vly_tokenizer_bytes(t, odd).data, "\xE2\x96\x81x", 4);
    assert_memory_equal(vly_tokenizer_bytes(t, broken).data, "\xFF\xFE", 2);
    vly_tokenizer_destroy(t);
}

static void test_ends_and_bos(void **state)
{
    (void)state;
    vocabulary v;
    start_bpe(&v, "llama-bpe");
    uint32_t turn = add(&v, "<|eot_id|>", 0, VLY_TOKEN_CONTROL);
    uint32_t plain = add(&v, "<|im_end|>", 0, VLY_TOKEN_NORMAL);
    gguf_writer *w = write_vocabulary(&v, NULL);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 7);
    gguf_writer_u32(w, "tokenizer.ggml.eot_token_id", 8);
    gguf_writer_unsigned(w, "tokenizer.ggml.eom_token_id", VLY_GGUF_U64, 9);
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 10);
    vly_tokenizer *t;
    vly_error err;
    assert_int_equal(create(w, &t, &err), 0);
    for (uint32_t id = 0; id < v.n; id++)
        assert_int_equal(vly_tokenizer_is_end(t, id), id == 7 || id == 8 || id == 9 || id == turn);
    assert_false(vly_tokenizer_is_end(t, plain));
    assert_int_equal(vly_tokenizer_eos(t), 7);
    assert_int_equal(vly_tokenizer_bos(t), 10);
    assert_true(vly_tokenizer_adds_bos(t)); /* as this family does where the file does not say */
    vly_tokenizer_destroy(t);

    start_bpe(&v, "gpt-2");
    t = create_good(&v);
    assert_int_equal(vly_tokenizer_eos(t), VLY_NO_TOKEN);
    assert_int_equal(vly_tokenizer_bos(t), VLY_NO_TOKEN);
    assert_false(vly_tokenizer_adds_bos(t));
    check_ids(t, "a", VLY_ENCODE_BOS, IDS('a'));
    vly_tokenizer_destroy(t);
}

/* --- metadata that cannot be right */

static void one_string(gguf_writer *w, const char *key, const char *item)
{
    vly_bytes items[1] = {bytes_of(item)};
    gguf_writer_strings(w, key, items, 1);
}

static void write_bad(gguf_writer *w, const char *key, int how, uint32_t n)
{
    float *floats = calloc(n + 1, sizeof *floats);
    int32_t *ints = calloc(n + 1, sizeof *ints);
    char *large = calloc(1, 5001);
    memset(large, 'a', 5000);
    switch (how) {
    case 0:
        break; /* missing */
    case 1:
        gguf_writer_u32(w, key, 5);
        break;
    case 2:
        gguf_writer_string(w, key, "unheard-of");
        break;
    case 3:
        gguf_writer_numbers(w, key, VLY_GGUF_F32, floats, n - 1);
        break;
    case 4:
        gguf_writer_numbers(w, key, VLY_GGUF_I32, ints, n);
        break;
    case 5:
        floats[n / 2] = NAN;
        gguf_writer_numbers(w, key, VLY_GGUF_F32, floats, n);
        break;
    case 6:
        ints[n - 1] = 7;
        gguf_writer_numbers(w, key, VLY_GGUF_I32, ints, n);
        break;
    case 7:
        ints[n - 1] = -1;
        gguf_writer_numbers(w, key, VLY_GGUF_I32, ints, n);
        break;
    case 8:
        gguf_writer_strings(w, key, NULL, 0);
        break;
    case 9:
        one_string(w, key, large);
        break;
    case 10:
        one_string(w, key, "nospace");
        break;
    case 11:
        one_string(w, key, " b");
        break;
    case 12:
        one_string(w, key, "a ");
        break;
    case 13:
        gguf_writer_u32(w, key, n);
        break;
    case 14:
        gguf_writer_signed(w, key, VLY_GGUF_I32, -1);
        break;
    case 15:
        for (uint32_t i = 0; i < n; i++) ints[i] = VLY_TOKEN_BYTE;
        gguf_writer_numbers(w, key, VLY_GGUF_I32, ints, n);
        break;
    default:
        one_string(w, key, "");
        break;
    }
    free(large);
    free(ints);
    free(floats);
}

static void test_bad_metadata(void **state)
{
    (void)state;
    static const struct {
        bool bpe;
        const char *key;
        int how, code;
    } cases[] = {
        {false, "tokenizer.ggml.model", 0, VLY_E_FORMAT},
        {false, "tokenizer.ggml.model", 1, VLY_E_FORMAT},
        {false, "tokenizer.ggml.model", 2, VLY_E_UNSUPPORTED},
        {false, "tokenizer.ggml.tokens", 0, VLY_E_FORMAT},
        {false, "tokenizer.ggml.tokens", 1, VLY_E_FORMAT},
        {false, "tokenizer.ggml.tokens", 2, VLY_E_FORMAT},
        {false, "tokenizer.ggml.tokens", 4, VLY_E_FORMAT},
        {false, "tokenizer.ggml.tokens", 8, VLY_E_FORMAT},
        {false, "tokenizer.ggml.tokens", 9, VLY_E_FORMAT},
        {false, "tokenizer.ggml.scores", 0, VLY_E_FORMAT},
        {false, "tokenizer.ggml.scores", 1, VLY_E_FORMAT},
        {false, "tokenizer.ggml.scores", 3, VLY_E_FORMAT},
        {false, "tokenizer.ggml.scores", 4, VLY_E_FORMAT},
        {false, "tokenizer.ggml.scores", 5, VLY_E_FORMAT},
        {false, "tokenizer.ggml.token_type", 3, VLY_E_FORMAT},
        {false, "tokenizer.ggml.token_type", 6, VLY_E_FORMAT},
        {false, "tokenizer.ggml.token_type", 7, VLY_E_FORMAT},
        {false, "tokenizer.ggml.token_type", 15, VLY_E_FORMAT},
        {false, "tokenizer.ggml.bos_token_id", 13, VLY_E_FORMAT},
        {false, "tokenizer.ggml.eos_token_id", 14, VLY_E_FORMAT},
        {false, "tokenizer.ggml.eot_token_id", 2, VLY_E_FORMAT},
        {false, "tokenizer.ggml.unknown_token_id", 13, VLY_E_FORMAT},
        {false, "tokenizer.ggml.add_bos_token", 1, VLY_E_FORMAT},
        {false, "tokenizer.ggml.add_space_prefix", 2, VLY_E_FORMAT},
        {true, "tokenizer.ggml.pre", 0, VLY_E_FORMAT},
        {true, "tokenizer.ggml.pre", 1, VLY_E_FORMAT},
        {true, "tokenizer.ggml.pre", 2, VLY_E_UNSUPPORTED},
        {true, "tokenizer.ggml.merges", 0, VLY_E_FORMAT},
        {true, "tokenizer.ggml.merges", 2, VLY_E_FORMAT},
        {true, "tokenizer.ggml.merges", 4, VLY_E_FORMAT},
        {true, "tokenizer.ggml.merges", 10, VLY_E_FORMAT},
        {true, "tokenizer.ggml.merges", 11, VLY_E_FORMAT},
        {true, "tokenizer.ggml.merges", 12, VLY_E_FORMAT},
        {true, "tokenizer.ggml.merges", 16, VLY_E_FORMAT},
        {true, "tokenizer.ggml.token_type", 15, VLY_E_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vocabulary v;
        if (cases[i].bpe)
            start_bpe(&v, "gpt-2");
        else
            start_spm(&v, true);
        gguf_writer *w = write_vocabulary(&v, cases[i].key);
        write_bad(w, cases[i].key, cases[i].how, v.n);
        vly_tokenizer *t;
        vly_error err = {0};
        int rc = create(w, &t, &err);
        /* A type that does not go with a piece is told of the piece. */
        const char *named = cases[i].how == 15 ? "tokenizer.ggml.tokens" : cases[i].key;
        if (rc != cases[i].code || t || !strstr(err.message, named))
            fail_msg("%s, case %d: %d, %s", cases[i].key, cases[i].how, rc, err.message);
    }
}

/* What is odd but has a meaning. */
static void test_odd_metadata_that_works(void **state)
{
    (void)state;
    static const struct {
        bool bpe;
        const char *key;
        int how;
    } cases[] = {
        {false, "tokenizer.ggml.token_type", 0},
        {true, "tokenizer.ggml.scores", 0},
        {true, "tokenizer.ggml.merges", 8},
        {true, "tokenizer.ggml.token_type", 4}, /* all 0, "undefined" */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vocabulary v;
        if (cases[i].bpe)
            start_bpe(&v, "gpt-2");
        else
            start_spm(&v, true);
        gguf_writer *w = write_vocabulary(&v, cases[i].key);
        write_bad(w, cases[i].key, cases[i].how, v.n);
        vly_tokenizer *t;
        vly_error err = {0};
        if (create(w, &t, &err)) fail_msg("%s: %s", cases[i].key, err.message);
        vly_tokenizer_destroy(t);
    }
}

static int quiet(void **state)
{
    (void)state;
    vly_log_configure(VLY_LOG_ERROR, false);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bpe_merges_by_rank_then_from_the_left),
        cmocka_unit_test(test_whole_pieces),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_spm_merges_by_score),
        cmocka_unit_test(test_spm_pieces_across_words),
        cmocka_unit_test(test_spm_without_byte_tokens),
        cmocka_unit_test(test_spm_user_defined),
        cmocka_unit_test(test_duplicate_and_odd_pieces),
        cmocka_unit_test(test_ends_and_bos),
        cmocka_unit_test(test_bad_metadata),
        cmocka_unit_test(test_odd_metadata_that_works),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
