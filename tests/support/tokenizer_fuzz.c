#include "tests/support/tokenizer_fuzz.h"

#include "base/log.h"
#include "tests/support/vocabulary.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_MODELS = 4, METADATA = 0xFF };

typedef struct {
    vly_tokenizer *tokenizer;
    bool spelled[256];
} model;

/* What comes back of `text`: no bytes that the vocabulary cannot spell; in SentencePiece U+2581 is
 * a space. */
static void expect(const model *m, const char *text, size_t n, vly_text *out)
{
    const bool prefix = vly_tokenizer_space_prefix(m->tokenizer);
    for (size_t i = 0; i < n; i++) {
        bool mark = prefix && n - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0;
        if (!mark && !m->spelled[(uint8_t)text[i]]) continue;
        if (vly_text_append(out, mark ? " " : text + i, 1)) abort();
        if (mark) i += 2;
    }
}

static void check_text(const model *m, const char *text, size_t n, unsigned flags)
{
    const vly_tokenizer *t = m->tokenizer;
    vly_ids ids = {0};
    vly_text back = {0}, expected = {0};
    vly_error err;
    if (vly_tokenizer_encode(t, text, n, flags, &ids, &err)) abort();
    for (size_t i = 0; i < ids.len; i++)
        if (ids.data[i] >= vly_tokenizer_n_vocab(t)) abort();
    bool at_start = !(flags & VLY_ENCODE_CONTINUE);
    if (vly_tokenizer_decode(t, ids.data, ids.len, at_start, &back)) abort();
    expect(m, text, n, &expected);
    /* Parsed control tokens are gone from the text, by design. */
    bool same = back.len == expected.len &&
                (back.len == 0 || memcmp(back.data, expected.data, back.len) == 0);
    if (!same && !(flags & VLY_ENCODE_PARSE_SPECIAL)) abort();

    /* Streamed as UTF-8, in pieces as tokens come, it is what it is as a whole. */
    vly_utf8_stream stream = {0}, whole = {0};
    vly_text streamed = {0}, at_once = {0};
    for (size_t i = 0; i < back.len; i += 1 + i % 5) {
        size_t step = 1 + i % 5 < back.len - i ? 1 + i % 5 : back.len - i;
        if (vly_utf8_stream_push(&stream, back.data + i, step, &streamed)) abort();
        if (stream.n_held > 3) abort();
    }
    if (vly_utf8_stream_finish(&stream, &streamed)) abort();
    if (vly_utf8_stream_push(&whole, back.data, back.len, &at_once)) abort();
    if (vly_utf8_stream_finish(&whole, &at_once)) abort();
    if (streamed.len != at_once.len) abort();
    if (streamed.len && memcmp(streamed.data, at_once.data, streamed.len)) abort();
    vly_text_free(&streamed);
    vly_text_free(&at_once);
    vly_text_free(&expected);
    vly_text_free(&back);
    vly_ids_free(&ids);
}

static void check_metadata(const uint8_t *image, size_t n)
{
    static const char text[] = "The cat's  caf\xC3\xA9 \xE2\x96\x81 123</s><|im_end|>\n\n \xFF\x80"
                               "aaaa abab ab c \xF0\x9F\x98\x80 [u]";
    vly_gguf *gguf;
    vly_tokenizer *t = NULL;
    vly_error err = {0};
    if (vly_gguf_open_memory(image, n, &gguf, &err)) return;
    int rc = vly_tokenizer_create(gguf, &t, &err);
    vly_gguf_close(gguf);
    if ((rc == 0) != (t != NULL) || (rc && !err.message[0])) abort();
    if (!t) return;
    for (unsigned flags = 0; flags < 8; flags++) {
        vly_ids ids = {0};
        vly_text back = {0};
        if (vly_tokenizer_encode(t, text, sizeof text - 1, flags, &ids, &err)) abort();
        if (vly_tokenizer_decode(t, ids.data, ids.len, true, &back)) abort();
        for (size_t i = 0; i < ids.len; i++)
            if (ids.data[i] >= vly_tokenizer_n_vocab(t)) abort();
        vly_ids_free(&ids);
        vly_text_free(&back);
    }
    uint32_t n_vocab = vly_tokenizer_n_vocab(t);
    for (uint32_t id = 0; id < n_vocab; id++) {
        vly_bytes bytes = vly_tokenizer_bytes(t, id), piece = vly_tokenizer_piece(t, id);
        if (bytes.len > piece.len || vly_tokenizer_is_end(t, n_vocab)) abort();
    }
    vly_tokenizer_destroy(t);
}

void tokenizer_fuzz(const char *const *models, size_t n_models, const uint8_t *data, size_t n)
{
    static model opened[MAX_MODELS];
    if (n_models > MAX_MODELS) abort();
    if (!opened[0].tokenizer) {
        vly_log_configure(VLY_LOG_ERROR, false);
        for (size_t i = 0; i < n_models; i++) {
            opened[i].tokenizer = vocabulary_open(models[i]);
            vocabulary_bytes(opened[i].tokenizer, opened[i].spelled);
        }
    }
    if (n == 0) return;
    if (data[0] == METADATA)
        check_metadata(data + 1, n - 1);
    else
        check_text(&opened[data[0] / 8 % n_models], (const char *)data + 1, n - 1, data[0] % 8);
}
