#include "text/tokenizer_internal.h"

#include "gguf/quote.h"

#include <stdlib.h>
#include <string.h>

static const vly_tokenizer_kind *const kinds[] = {&vly_tokenizer_spm, &vly_tokenizer_bpe};

/* Control tokens that end a turn or a text, as the families of models spell them. */
static const char *const end_pieces[] = {
    "</s>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|return|>",
    "<|endofturn|>",
    "<EOT>",
    "<|eot|>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
};

int vly_tokenizer_array(const vly_gguf *gguf, const char *key, vly_items items, uint64_t count,
                        const vly_gguf_entry **out, vly_error *err)
{
    static const char *const names[] = {"strings", "floats", "integers"};
    const vly_gguf_entry *e = vly_gguf_find(gguf, key);
    if (!e) return vly_fail(err, VLY_E_FORMAT, "%s is missing", key);
    vly_items actual = e->item_type == VLY_GGUF_STRING ? VLY_ITEMS_STRING
                       : e->item_type == VLY_GGUF_F32 || e->item_type == VLY_GGUF_F64
                           ? VLY_ITEMS_FLOAT
                           : VLY_ITEMS_INT;
    if (e->type != VLY_GGUF_ARRAY || actual != items)
        return vly_fail(err, VLY_E_FORMAT, "%s: expected an array of %s, found %stype %d", key,
                        names[items], e->type == VLY_GGUF_ARRAY ? "an array of " : "",
                        (int)(e->type == VLY_GGUF_ARRAY ? e->item_type : e->type));
    if (count != UINT64_MAX && e->count != count)
        return vly_fail(err, VLY_E_FORMAT,
                        "%s: expected %llu items, one for each token, found %llu", key,
                        (unsigned long long)count, (unsigned long long)e->count);
    *out = e;
    return 0;
}

static int choose_kind(vly_tokenizer *t, const vly_gguf *gguf, vly_error *err)
{
    vly_bytes name;
    int rc = vly_gguf_string(gguf, "tokenizer.ggml.model", &name, err);
    if (rc) return rc;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (name.len == strlen(kinds[i]->name) && !memcmp(name.data, kinds[i]->name, name.len)) {
            t->kind = kinds[i];
            return 0;
        }
    }
    return vly_fail(
        err, VLY_E_UNSUPPORTED,
        "tokenizer.ggml.model is %s; the kinds that work are '%s' (SentencePiece BPE) and "
        "'%s' (byte-level BPE)",
        vly_quote(name).text, kinds[0]->name, kinds[1]->name);
}

static int load_type(const vly_gguf_entry *types, uint32_t id, uint8_t *type, vly_error *err)
{
    int64_t value = types ? vly_gguf_int_at(types, id) : VLY_TOKEN_NORMAL;
    /* 0 is "undefined" to the writers of these files; they mean a normal token. */
    if (value == 0) value = VLY_TOKEN_NORMAL;
    if (value < VLY_TOKEN_NORMAL || value > VLY_TOKEN_BYTE)
        return vly_fail(
            err, VLY_E_FORMAT,
            "tokenizer.ggml.token_type: token %u: expected a type of 1 to 6, found %lld", id,
            (long long)value);
    *type = (uint8_t)value;
    return 0;
}

static int sum_pieces(const vly_gguf *gguf, const vly_gguf_entry *pieces, size_t *n_bytes,
                      vly_error *err)
{
    *n_bytes = 0;
    for (uint64_t i = 0; i < pieces->count; i++) {
        size_t len = vly_gguf_string_at(gguf, pieces, i).len;
        if (len > VLY_PIECE_MAX_BYTES)
            return vly_fail(
                err, VLY_E_FORMAT,
                "tokenizer.ggml.tokens: token %llu: expected at most %d bytes, found %zu",
                (unsigned long long)i, VLY_PIECE_MAX_BYTES, len);
        *n_bytes += len;
    }
    return 0;
}

/* Fills t->tokens, the arena (each piece, then the text that it stands for), and t->pieces. */
static int load_tokens(vly_tokenizer *t, const vly_gguf *gguf, vly_error *err)
{
    const vly_gguf_entry *pieces, *types = NULL;
    int rc = vly_tokenizer_array(gguf, "tokenizer.ggml.tokens", VLY_ITEMS_STRING, UINT64_MAX,
                                 &pieces, err);
    if (rc) return rc;
    if (pieces->count < 1 || pieces->count > INT32_MAX)
        return vly_fail(err, VLY_E_FORMAT,
                        "tokenizer.ggml.tokens: expected 1 to %d tokens, found %llu", INT32_MAX,
                        (unsigned long long)pieces->count);
    t->n_vocab = (uint32_t)pieces->count;
    size_t n_bytes;
    rc = sum_pieces(gguf, pieces, &n_bytes, err);
    if (rc) return rc;
    if (vly_gguf_find(gguf, "tokenizer.ggml.token_type")) {
        rc = vly_tokenizer_array(gguf, "tokenizer.ggml.token_type", VLY_ITEMS_INT, t->n_vocab,
                                 &types, err);
        if (rc) return rc;
    }
    t->tokens = calloc(t->n_vocab, sizeof *t->tokens);
    t->arena = malloc(2 * n_bytes + 1);
    if (!t->tokens || !t->arena || vly_piece_table_init(&t->pieces, t->n_vocab))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a vocabulary of %u tokens",
                        t->n_vocab);

    char *free_bytes = t->arena;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        vly_token *token = &t->tokens[id];
        rc = load_type(types, id, &token->type, err);
        if (rc) return rc;
        vly_bytes piece = vly_gguf_string_at(gguf, pieces, id);
        if (piece.len) memcpy(free_bytes, piece.data, piece.len);
        token->piece = (vly_bytes){free_bytes, piece.len};
        free_bytes += piece.len;
        size_t n_text = t->kind->text_of(token->piece, token->type, free_bytes);
        if (n_text == SIZE_MAX)
            return vly_fail(err, VLY_E_FORMAT,
                            "tokenizer.ggml.tokens: token %u: %s cannot be of type %d in a '%s' "
                            "vocabulary",
                            id, vly_quote(piece).text, token->type, t->kind->name);
        token->text = (vly_bytes){free_bytes, n_text};
        free_bytes += n_text;
        if (token->type == VLY_TOKEN_NORMAL || token->type == VLY_TOKEN_USER_DEFINED)
            vly_piece_table_add(t, id);
    }
    return 0;
}

/* VLY_NO_TOKEN where the key is missing. */
static int load_id(const vly_tokenizer *t, const vly_gguf *gguf, const char *key, uint32_t *id,
                   vly_error *err)
{
    int rc = vly_gguf_u32_or(gguf, key, VLY_NO_TOKEN, id, err);
    if (rc) return rc;
    if (*id >= t->n_vocab && vly_gguf_find(gguf, key))
        return vly_fail(err, VLY_E_FORMAT, "%s: expected an id below %u, found %u", key, t->n_vocab,
                        *id);
    return 0;
}

/* A static list, so that a scan for each control token is enough. */
static bool is_end_piece(vly_bytes piece)
{
    for (size_t i = 0; i < sizeof end_pieces / sizeof *end_pieces; i++)
        if (piece.len == strlen(end_pieces[i]) && !memcmp(piece.data, end_pieces[i], piece.len))
            return true;
    return false;
}

static int load_special_ids(vly_tokenizer *t, const vly_gguf *gguf, vly_error *err)
{
    uint32_t eot, eom;
    const struct {
        const char *key;
        uint32_t *id;
        bool ends;
    } keys[] = {
        {"tokenizer.ggml.bos_token_id", &t->bos, false},
        {"tokenizer.ggml.unknown_token_id", &t->unknown, false},
        {"tokenizer.ggml.eos_token_id", &t->eos, true},
        {"tokenizer.ggml.eot_token_id", &eot, true},
        {"tokenizer.ggml.eom_token_id", &eom, true},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int rc = load_id(t, gguf, keys[i].key, keys[i].id, err);
        if (rc) return rc;
        if (keys[i].ends && *keys[i].id != VLY_NO_TOKEN) t->tokens[*keys[i].id].is_end = true;
    }
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        vly_token *token = &t->tokens[id];
        if (token->type == VLY_TOKEN_CONTROL && is_end_piece(token->piece)) token->is_end = true;
        if (token->type == VLY_TOKEN_UNKNOWN && t->unknown == VLY_NO_TOKEN) t->unknown = id;
    }
    return 0;
}

static bool is_white(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A byte-level vocabulary without pieces of several newlines still cuts by its pattern, which may
 * take a newline for one with what is before it: only words are known to be cut there. */
static void find_cuts(vly_tokenizer *t)
{
    t->cuts_words = true;
    t->cuts_lines = t->pretokenizer == NULL;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        const vly_token *token = &t->tokens[id];
        if (token->type != VLY_TOKEN_NORMAL && token->type != VLY_TOKEN_USER_DEFINED) continue;
        for (size_t i = 1; i < token->text.len; i++) {
            char before = token->text.data[i - 1], after = token->text.data[i];
            if (after == ' ' && !is_white(before)) t->cuts_words = false;
            if (before == '\n' || after == '\n') t->cuts_lines = false;
        }
    }
}

static int load(vly_tokenizer *t, const vly_gguf *gguf, vly_error *err)
{
    int rc = choose_kind(t, gguf, err);
    if (!rc) rc = load_tokens(t, gguf, err);
    if (!rc) rc = load_special_ids(t, gguf, err);
    if (rc) return rc;
    if (vly_specials_init(t))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the special tokens");
    memset(t->byte_id, 0xFF, sizeof t->byte_id);
    rc = t->kind->load(t, gguf, err);
    if (rc) return rc;
    find_cuts(t);
    return vly_gguf_bool_or(gguf, "tokenizer.ggml.add_bos_token", t->adds_bos, &t->adds_bos, err);
}

int vly_tokenizer_create(const vly_gguf *gguf, vly_tokenizer **out, vly_error *err)
{
    *out = NULL;
    vly_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a tokenizer");
    int rc = load(t, gguf, err);
    if (rc) {
        /* What reads metadata names the file itself. */
        const char *path = vly_gguf_path(gguf);
        vly_tokenizer_destroy(t);
        if (err && strncmp(err->message, path, strlen(path)) != 0) vly_fail_within(err, "%s", path);
        return rc;
    }
    *out = t;
    return 0;
}

void vly_tokenizer_destroy(vly_tokenizer *t)
{
    if (!t) return;
    vly_pretokenizer_destroy(t->pretokenizer);
    free(t->merges.slots);
    free(t->specials);
    free(t->pieces.slots);
    free(t->arena);
    free(t->tokens);
    free(t);
}

uint32_t vly_tokenizer_n_vocab(const vly_tokenizer *t)
{
    return t->n_vocab;
}

uint32_t vly_tokenizer_bos(const vly_tokenizer *t)
{
    return t->bos;
}

uint32_t vly_tokenizer_eos(const vly_tokenizer *t)
{
    return t->eos;
}

bool vly_tokenizer_is_end(const vly_tokenizer *t, uint32_t id)
{
    return id < t->n_vocab && t->tokens[id].is_end;
}

bool vly_tokenizer_adds_bos(const vly_tokenizer *t)
{
    return t->adds_bos && t->bos != VLY_NO_TOKEN;
}

vly_token_type vly_tokenizer_type(const vly_tokenizer *t, uint32_t id)
{
    return id < t->n_vocab ? (vly_token_type)t->tokens[id].type : VLY_TOKEN_UNUSED;
}

vly_bytes vly_tokenizer_piece(const vly_tokenizer *t, uint32_t id)
{
    return id < t->n_vocab ? t->tokens[id].piece : (vly_bytes){"", 0};
}

vly_bytes vly_tokenizer_bytes(const vly_tokenizer *t, uint32_t id)
{
    vly_token_type type = vly_tokenizer_type(t, id);
    if (id >= t->n_vocab || type == VLY_TOKEN_CONTROL || type == VLY_TOKEN_UNKNOWN)
        return (vly_bytes){"", 0};
    return t->tokens[id].text;
}

bool vly_tokenizer_cuts(const vly_tokenizer *t, uint8_t before, uint8_t after)
{
    if (t->cuts_lines && (before == '\n' || after == '\n')) return true;
    /* Of other characters one byte does not tell what is white space; SentencePiece knows U+2581.
     */
    bool plain = t->pretokenizer ? before < 0x80 : before != 0x81;
    return t->cuts_words && after == ' ' && plain && !is_white((char)before);
}

bool vly_tokenizer_space_prefix(const vly_tokenizer *t)
{
    return t->space_prefix;
}

/* Encodes text[0..len): the stretches between control tokens by kind, the control tokens as
 * themselves. A stretch that starts the text or follows a control token gets the dummy prefix, as
 * reference tokenizers encode each stretch on its own; behind a control token a space that is there
 * already serves as one, because chat templates spell it ("[INST] text"). */
static int encode_all(const vly_tokenizer *t, vly_encode_work *work, const char *text, size_t len,
                      unsigned flags, vly_ids *out, vly_error *err)
{
    bool control = flags & VLY_ENCODE_PARSE_SPECIAL;
    bool prefix = t->space_prefix && !(flags & VLY_ENCODE_CONTINUE);
    size_t from = 0;
    for (size_t at = 0; control && at < len;) {
        uint32_t id = vly_special_at(t, text, len, at, true);
        if (id == VLY_NO_TOKEN) {
            at++;
            continue;
        }
        size_t end = at + t->tokens[id].text.len;
        if (t->tokens[id].type == VLY_TOKEN_CONTROL) {
            int rc = 0;
            if (at > from)
                rc =
                    t->kind->encode(t, work, (vly_bytes){text + from, at - from}, prefix, out, err);
            if (rc) return rc;
            if (vly_ids_push(out, id)) goto no_memory;
            prefix = t->space_prefix && !(end < len && text[end] == ' ');
            from = end;
        }
        at = end;
    }
    if (len > from)
        return t->kind->encode(t, work, (vly_bytes){text + from, len - from}, prefix, out, err);
    return 0;
no_memory:
    return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %zu token ids", out->len + 1);
}

static void deinit_work(vly_encode_work *work)
{
    free(work->symbols);
    free(work->heap);
    vly_text_free(&work->normal);
    vly_pretokenizer_match_free(work->match);
}

void vly_encode_work_destroy(vly_encode_work *work)
{
    if (work) deinit_work(work);
    free(work);
}

vly_encode_work *vly_encode_work_create(void)
{
    vly_encode_work *work = calloc(1, sizeof *work);
    if (work && (vly_merge_reserve(work) || vly_text_reserve(&work->normal, 0))) {
        vly_encode_work_destroy(work);
        return NULL;
    }
    return work;
}

int vly_tokenizer_encode(const vly_tokenizer *t, const char *text, size_t len, unsigned flags,
                         vly_ids *out, vly_error *err)
{
    vly_encode_work work = {0};
    int rc = vly_tokenizer_encode_with(t, &work, text, len, flags, out, err);
    deinit_work(&work);
    return rc;
}

int vly_tokenizer_encode_with(const vly_tokenizer *t, vly_encode_work *work, const char *text,
                              size_t len, unsigned flags, vly_ids *out, vly_error *err)
{
    if (len > VLY_ENCODE_MAX_BYTES)
        return vly_fail(err, VLY_E_INVALID, "expected at most %zu bytes of text, found %zu",
                        VLY_ENCODE_MAX_BYTES, len);
    size_t n_before = out->len;
    int rc = 0;
    bool bos = (flags & VLY_ENCODE_BOS) && t->bos != VLY_NO_TOKEN;
    if (bos && (flags & VLY_ENCODE_PARSE_SPECIAL) && len &&
        vly_special_at(t, text, len, 0, true) == t->bos)
        bos = false;
    if (bos && vly_ids_push(out, t->bos))
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for token ids");
    work->n_symbols = 0;
    if (!rc) rc = encode_all(t, work, text, len, flags, out, err);
    if (rc) out->len = n_before;
    return rc;
}

int vly_tokenizer_decode(const vly_tokenizer *t, const uint32_t *ids, size_t n, bool at_start,
                         vly_text *out)
{
    bool drop_space = at_start && t->space_prefix;
    for (size_t i = 0; i < n; i++) {
        vly_bytes bytes = vly_tokenizer_bytes(t, ids[i]);
        if (!bytes.len) continue;
        size_t skip = drop_space && bytes.data[0] == ' ';
        drop_space = false;
        int rc = vly_text_append(out, bytes.data + skip, bytes.len - skip);
        if (rc) return rc;
    }
    return 0;
}
