/* SentencePiece BPE: a text is its characters, merged by the score of what they become; characters
 * that no piece spells are bytes. Pieces write a space as U+2581; in here, and in the text that is
 * merged, it is a space. */
#include "text/tokenizer_internal.h"

#include <math.h>
#include <string.h>

static const char space_mark[] = "\xE2\x96\x81";

/* Copies `n` bytes with U+2581 as a space; returns how many were written, at most n. */
static size_t copy_with_spaces(const char *bytes, size_t n, char *out)
{
    size_t n_out = 0;
    for (size_t i = 0; i < n;) {
        if (n - i >= 3 && !memcmp(bytes + i, space_mark, 3)) {
            out[n_out++] = ' ';
            i += 3;
        } else {
            out[n_out++] = bytes[i++];
        }
    }
    return n_out;
}

/* -1 where it is not a hexadecimal digit. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

static size_t spm_text_of(vly_bytes piece, vly_token_type type, char *out)
{
    if (type == VLY_TOKEN_BYTE) { /* <0x0A> */
        if (piece.len != 6 || memcmp(piece.data, "<0x", 3) || piece.data[5] != '>') return SIZE_MAX;
        int high = hex_digit(piece.data[3]), low = hex_digit(piece.data[4]);
        if (high < 0 || low < 0) return SIZE_MAX;
        out[0] = (char)(high << 4 | low);
        return 1;
    }
    if (type == VLY_TOKEN_CONTROL) {
        if (piece.len) memcpy(out, piece.data, piece.len);
        return piece.len;
    }
    return copy_with_spaces(piece.data, piece.len, out);
}

/* An order of the floats as integers: the higher the score, the lower the number. */
static uint32_t order_of_score(float score)
{
    uint32_t bits;
    score += 0.0f; /* -0 and 0 are one score */
    memcpy(&bits, &score, sizeof bits);
    return bits & 0x80000000u ? bits : ~bits & 0x7FFFFFFFu;
}

static bool has_inner_space(vly_bytes text)
{
    for (size_t i = 1; i < text.len; i++)
        if (text.data[i] == ' ' && text.data[i - 1] != ' ') return true;
    return false;
}

static int spm_load(vly_tokenizer *t, const vly_gguf *gguf, vly_error *err)
{
    const char *key = "tokenizer.ggml.scores";
    const vly_gguf_entry *scores;
    int rc = vly_tokenizer_array(gguf, key, VLY_ITEMS_FLOAT, t->n_vocab, &scores, err);
    if (rc) return rc;
    t->words_split = true;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        vly_token *token = &t->tokens[id];
        float score = (float)vly_gguf_float_at(scores, id);
        if (isnan(score))
            return vly_fail(err, VLY_E_FORMAT, "%s: token %u: expected a number, found NaN", key,
                            id);
        token->order = order_of_score(score);
        if (token->type == VLY_TOKEN_BYTE) {
            uint32_t *byte_id = &t->byte_id[(uint8_t)token->text.data[0]];
            if (*byte_id == VLY_NO_TOKEN) *byte_id = id;
        }
        if (token->type == VLY_TOKEN_NORMAL && has_inner_space(token->text)) t->words_split = false;
    }
    t->adds_bos = true;
    return vly_gguf_bool_or(gguf, "tokenizer.ggml.add_space_prefix", true, &t->space_prefix, err);
}

static bool spm_pair(const vly_tokenizer *t, const char *text, const vly_symbol *left,
                     const vly_symbol *right, uint32_t *order, uint32_t *merged)
{
    *merged = vly_piece_table_find(t, text + left->at, (size_t)left->n_bytes + right->n_bytes);
    if (*merged == VLY_NO_TOKEN) return false;
    *order = t->tokens[*merged].order;
    return true;
}

/* A symbol without a piece: its byte tokens, or one unknown token for a run of such bytes. */
static int push_bytes(const vly_tokenizer *t, const char *bytes, size_t n, bool *after_unknown,
                      vly_ids *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t id = t->byte_id[(uint8_t)bytes[i]];
        bool unknown = id == VLY_NO_TOKEN;
        if (unknown && !*after_unknown) id = t->unknown;
        *after_unknown = unknown;
        int rc = id == VLY_NO_TOKEN ? 0 : vly_ids_push(out, id);
        if (rc) return rc;
    }
    return 0;
}

/* Merges the symbols gathered so far and appends what they became. */
static int flush(const vly_tokenizer *t, vly_encode_work *work, const char *text,
                 bool *after_unknown, vly_ids *out)
{
    if (!work->n_symbols) return 0;
    int rc = 0;
    vly_merge_run(t, work, text);
    for (int32_t i = 0; !rc && i >= 0; i = work->symbols[i].next) {
        const vly_symbol *symbol = &work->symbols[i];
        if (symbol->id == VLY_NO_TOKEN) {
            rc = push_bytes(t, text + symbol->at, symbol->n_bytes, after_unknown, out);
        } else {
            rc = vly_ids_push(out, symbol->id);
            *after_unknown = false;
        }
    }
    work->n_symbols = 0;
    return rc;
}

/* The ids of normalised text. User-defined tokens are cut out first. Where no piece has a space
 * behind another byte, nothing merges across the front of a word, and words are merged one by one:
 * the same ids, from small heaps. */
static int encode_normal(const vly_tokenizer *t, vly_encode_work *work, const char *text,
                         size_t len, vly_ids *out)
{
    bool after_unknown = false;
    for (size_t at = 0, n; at < len; at += n) {
        uint32_t id = VLY_NO_TOKEN;
        if (t->has_user_defined) id = vly_special_at(t, text, len, at, false);
        bool cut = id != VLY_NO_TOKEN;
        bool word = t->words_split && text[at] == ' ' && at && text[at - 1] != ' ';
        int rc = cut || word ? flush(t, work, text, &after_unknown, out) : 0;
        if (rc) return rc;
        if (cut) {
            n = t->tokens[id].text.len;
            rc = vly_ids_push(out, id);
            after_unknown = false;
        } else {
            /* Bytes that are no UTF-8 are symbols one by one. */
            if (vly_utf8_next(text + at, len - at, &n) != VLY_UTF8_CHAR) n = 1;
            rc = vly_merge_push(work, vly_piece_table_find(t, text + at, n), at, n);
        }
        if (rc) return rc;
    }
    return flush(t, work, text, &after_unknown, out);
}

static int spm_encode(const vly_tokenizer *t, vly_encode_work *work, vly_bytes text, bool prefix,
                      vly_ids *out, vly_error *err)
{
    vly_text *normal = &work->normal;
    normal->len = 0;
    int rc = vly_text_append(normal, " ", prefix);
    if (!rc) rc = vly_text_append(normal, text.data, text.len);
    if (!rc) {
        size_t n = copy_with_spaces(normal->data, normal->len, normal->data);
        rc = encode_normal(t, work, normal->data, n, out);
    }
    return rc ? vly_fail(err, rc, "no memory to encode %zu bytes of text", text.len) : 0;
}

const vly_tokenizer_kind vly_tokenizer_spm = {
    .name = "llama",
    .text_of = spm_text_of,
    .load = spm_load,
    .encode = spm_encode,
    .pair = spm_pair,
};
