/* Byte-level BPE (GPT-2): text is cut into pre-tokens by a pattern, each is its bytes, merged by
 * the rank of a merge. Pieces spell each byte as one printable character. */
#include "text/tokenizer_internal.h"

#include "base/log.h"
#include "gguf/quote.h"

#include <string.h>

/* The byte that a code point stands for, or -1. Bytes that Latin-1 prints stand for themselves; the
 * others, 00..20, 7F..A0 and AD, are the code points from 256 on, in their order. */
static int byte_of(unsigned code)
{
    if ((code >= 0x21 && code <= 0x7E) || (code >= 0xA1 && code <= 0xFF && code != 0xAD))
        return (int)code;
    if (code >= 256 && code <= 288) return (int)code - 256;
    if (code >= 289 && code <= 322) return (int)code - 289 + 0x7F;
    return code == 323 ? 0xAD : -1;
}

/* The bytes that a spelling stands for, to `out`; one with any other character in it stands for
 * itself. Returns their number, at most n. */
static size_t spelled_bytes(const char *piece, size_t n, char *out)
{
    size_t n_out = 0;
    for (size_t i = 0, len; i < n; i += len) {
        const uint8_t *c = (const uint8_t *)piece + i;
        int byte = -1;
        if (vly_utf8_next(piece + i, n - i, &len) == VLY_UTF8_CHAR && len <= 2)
            byte = byte_of(len == 1 ? c[0] : (c[0] & 0x1Fu) << 6 | (c[1] & 0x3Fu));
        if (byte < 0) {
            memcpy(out, piece, n);
            return n;
        }
        out[n_out++] = (char)byte;
    }
    return n_out;
}

static size_t bpe_text_of(vly_bytes piece, vly_token_type type, char *out)
{
    if (type == VLY_TOKEN_BYTE) return SIZE_MAX;
    if (type == VLY_TOKEN_NORMAL || type == VLY_TOKEN_UNUSED)
        return spelled_bytes(piece.data, piece.len, out);
    if (piece.len) memcpy(out, piece.data, piece.len);
    return piece.len;
}

/* Merge `rank`, "left right" as pieces spell them. False where one of the three pieces is not in
 * the vocabulary: such a merge can never happen. */
static bool add_merge(vly_tokenizer *t, vly_bytes left, vly_bytes right, uint32_t rank)
{
    char text[2 * VLY_PIECE_MAX_BYTES];
    if (left.len > VLY_PIECE_MAX_BYTES || right.len > VLY_PIECE_MAX_BYTES) return false;
    size_t n_left = spelled_bytes(left.data, left.len, text);
    size_t n_right = spelled_bytes(right.data, right.len, text + n_left);
    uint32_t left_id = vly_piece_table_find(t, text, n_left);
    uint32_t right_id = vly_piece_table_find(t, text + n_left, n_right);
    uint32_t merged = vly_piece_table_find(t, text, n_left + n_right);
    if (left_id == VLY_NO_TOKEN || right_id == VLY_NO_TOKEN || merged == VLY_NO_TOKEN) return false;
    vly_merge_table_add(&t->merges, left_id, right_id, rank, merged);
    return true;
}

static int load_merges(vly_tokenizer *t, const vly_gguf *gguf, vly_error *err)
{
    const char *key = "tokenizer.ggml.merges";
    const vly_gguf_entry *merges;
    int rc = vly_tokenizer_array(gguf, key, VLY_ITEMS_STRING, UINT64_MAX, &merges, err);
    if (rc) return rc;
    if (merges->count > INT32_MAX)
        return vly_fail(err, VLY_E_FORMAT, "%s: expected at most %d items, found %llu", key,
                        INT32_MAX, (unsigned long long)merges->count);
    if (vly_merge_table_init(&t->merges, merges->count))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %llu merges",
                        (unsigned long long)merges->count);
    size_t n_useless = 0;
    for (uint32_t rank = 0; rank < merges->count; rank++) {
        vly_bytes line = vly_gguf_string_at(gguf, merges, rank);
        const char *space = line.len > 2 ? memchr(line.data + 1, ' ', line.len - 2) : NULL;
        if (!space)
            return vly_fail(err, VLY_E_FORMAT,
                            "%s: merge %u: expected two pieces with a space between, found %s", key,
                            rank, vly_quote(line).text);
        size_t n_left = (size_t)(space - line.data);
        vly_bytes left = {line.data, n_left}, right = {space + 1, line.len - n_left - 1};
        if (!add_merge(t, left, right, rank)) n_useless++;
    }
    if (n_useless)
        vly_log(VLY_LOG_WARN, "text",
                "%zu of %llu merges name pieces that the vocabulary does not have", n_useless,
                (unsigned long long)merges->count);
    return 0;
}

static int bpe_load(vly_tokenizer *t, const vly_gguf *gguf, vly_error *err)
{
    vly_bytes name;
    int rc = vly_gguf_string(gguf, "tokenizer.ggml.pre", &name, err);
    if (!rc) rc = vly_pretokenizer_create(name, &t->pretokenizer, err);
    if (!rc) rc = load_merges(t, gguf, err);
    if (rc) return rc;
    for (unsigned byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        t->byte_id[byte] = vly_piece_table_find(t, &c, 1);
    }
    t->adds_bos = vly_pretokenizer_adds_bos(t->pretokenizer);
    return 0;
}

static bool bpe_pair(const vly_tokenizer *t, const char *text, const vly_symbol *left,
                     const vly_symbol *right, uint32_t *order, uint32_t *merged)
{
    (void)text;
    const vly_merge_slot *slot = vly_merge_table_find(&t->merges, left->id, right->id);
    if (!slot) return false;
    *order = slot->rank;
    *merged = slot->merged;
    return true;
}

/* Bytes that no piece spells are left out, and their neighbours meet, as in reference tokenizers.
 */
static int encode_pretoken(const vly_tokenizer *t, vly_encode_work *work, const char *text,
                           size_t n, vly_ids *out)
{
    if (vly_pretokenizer_keeps_pieces(t->pretokenizer)) {
        uint32_t id = vly_piece_table_find(t, text, n);
        if (id != VLY_NO_TOKEN) return vly_ids_push(out, id);
    }
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        uint32_t id = t->byte_id[(uint8_t)text[i]];
        if (id != VLY_NO_TOKEN) rc = vly_merge_push(work, id, i, 1);
    }
    if (!rc) vly_merge_run(t, work, text);
    if (!rc && work->n_symbols)
        for (int32_t i = 0; i >= 0 && !rc; i = work->symbols[i].next)
            rc = vly_ids_push(out, work->symbols[i].id);
    work->n_symbols = 0;
    return rc;
}

/* Text without special tokens. Patterns need valid UTF-8: the text is taken in valid stretches, and
 * a byte that is in no character is a token of its own. */
static int encode_plain(const vly_tokenizer *t, vly_encode_work *work, vly_bytes text, vly_ids *out,
                        vly_error *err)
{
    for (size_t at = 0; at < text.len;) {
        size_t end = at, len;
        while (end < text.len &&
               vly_utf8_next(text.data + end, text.len - end, &len) == VLY_UTF8_CHAR)
            end += len;
        int rc = 0;
        while (at < end && !rc) {
            size_t n;
            rc = vly_pretokenizer_next(t->pretokenizer, &work->match, text.data + at, end - at, &n,
                                       err);
            if (rc) return rc;
            rc = encode_pretoken(t, work, text.data + at, n, out);
            at += n;
        }
        if (!rc && at < text.len) rc = encode_pretoken(t, work, text.data + at++, 1, out);
        if (rc) return vly_fail(err, rc, "no memory to encode %zu bytes of text", text.len);
    }
    return 0;
}

static int bpe_encode(const vly_tokenizer *t, vly_encode_work *work, vly_bytes text, bool prefix,
                      vly_ids *out, vly_error *err)
{
    (void)prefix;
    size_t from = 0;
    for (size_t at = 0; t->has_user_defined && at < text.len;) {
        uint32_t id = vly_special_at(t, text.data, text.len, at, false);
        if (id == VLY_NO_TOKEN) {
            at++;
            continue;
        }
        int rc = encode_plain(t, work, (vly_bytes){text.data + from, at - from}, out, err);
        if (rc) return rc;
        if (vly_ids_push(out, id))
            return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %zu token ids", out->len + 1);
        at += t->tokens[id].text.len;
        from = at;
    }
    return encode_plain(t, work, (vly_bytes){text.data + from, text.len - from}, out, err);
}

const vly_tokenizer_kind vly_tokenizer_bpe = {
    .name = "gpt2",
    .text_of = bpe_text_of,
    .load = bpe_load,
    .encode = bpe_encode,
    .pair = bpe_pair,
};
