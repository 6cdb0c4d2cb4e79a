#include "drafts/context.h"

#include "base/log.h"

#include <string.h>

/* A proposal takes in what the text has grown by; from this many tokens on they are read first. */
#define MAX_BEHIND 16
/* Own tokens of a word that is encoded anew, at most. */
#define MAX_WORD 12

int vly_draft_context_init(vly_draft_context *c, const vly_draft_source *source, vly_error *err)
{
    *c = (vly_draft_context){
        .source = *source, .model = source->model, .stale = SIZE_MAX, .reading = true};
    /* Room for all tokens and, at 8 bytes each, their text, so that no block has to make some. */
    size_t n_ctx = vly_model_get_memory(c->model)->n_ctx + VLY_MAX_DRAFT;
    int rc = 0;
    c->work = vly_encode_work_create();
    if (!c->work || vly_ids_reserve(&c->own, n_ctx) || vly_text_reserve(&c->bytes, 8 * n_ctx) ||
        vly_ids_reserve(&c->encoded, n_ctx))
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's tokens");
    if (rc == 0) rc = vly_kv_seq_init(vly_model_kv(c->model), &c->seq, err);
    if (rc) vly_draft_context_deinit(c);
    return rc;
}

int vly_draft_context_share(const vly_draft_source *source, vly_draft_context *own,
                            vly_draft_context **out, vly_error *err)
{
    *out = source->context ? source->context : own;
    return source->context ? 0 : vly_draft_context_init(own, source, err);
}

void vly_draft_context_deinit(vly_draft_context *c)
{
    vly_kv_seq_deinit(&c->seq);
    vly_ids_free(&c->own);
    vly_text_free(&c->bytes);
    vly_ids_free(&c->encoded);
    vly_encode_work_destroy(c->work);
    c->work = NULL;
}

/* Own tokens that cannot be taken back. */
static uint32_t n_fixed(const vly_draft_context *c)
{
    uint32_t known = c->seq.n_known * VLY_PAGE_TOKENS, oldest = vly_kv_oldest(&c->seq);
    return known > oldest ? known : oldest;
}

/* Own tokens of the word that the text ends with, as far as they can be taken back. */
static uint32_t last_word(const vly_draft_context *c)
{
    const vly_tokenizer *t = c->source.model_tokenizer;
    uint32_t least = n_fixed(c);
    vly_bytes next = {"", 0};
    for (uint32_t n = 0; n <= MAX_WORD && least + n < c->own.len; n++) {
        vly_bytes bytes = vly_tokenizer_bytes(t, c->own.data[c->own.len - 1 - n]);
        if (bytes.len == 0) return n;
        uint8_t last = (uint8_t)bytes.data[bytes.len - 1];
        if (n > 0 && vly_tokenizer_cuts(t, last, (uint8_t)next.data[0])) return n;
        next = bytes;
    }
    return 0;
}

/* To c->bytes: those of the last n_word own tokens, and what the text has grown by. */
static int collect_bytes(vly_draft_context *c, uint32_t n_word)
{
    const vly_ids *text = c->source.text;
    c->bytes.len = 0;
    int rc = vly_tokenizer_decode(c->source.model_tokenizer, c->own.data + c->own.len - n_word,
                                  n_word, false, &c->bytes);
    size_t before = c->bytes.len;
    if (rc == 0)
        rc = vly_tokenizer_decode(c->source.text_tokenizer, text->data + c->n_seen,
                                  text->len - c->n_seen, c->n_seen == 0, &c->bytes);
    if (rc || c->n_ahead == 0) return rc;
    size_t more = c->bytes.len - before, known = c->n_ahead < more ? c->n_ahead : more;
    memmove(c->bytes.data + before, c->bytes.data + before + known, more - known);
    c->bytes.len -= known;
    return 0;
}

/* With the target's vocabulary the text is the draft's as it is, control tokens included. */
static int take_ids(vly_draft_context *c, vly_error *err)
{
    const vly_ids *text = c->source.text;
    for (; c->n_seen < text->len; c->n_seen++)
        if (text->data[c->n_seen] < c->source.map->n_mapped &&
            vly_ids_push(&c->own, text->data[c->n_seen]))
            return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's tokens");
    return 0;
}

/* Are the own tokens from `word` on what the model's tokenizer makes of their text? */
static int find_stale(vly_draft_context *c, size_t word, vly_error *err)
{
    const uint32_t *own = c->own.data + word;
    size_t n = c->own.len - word;
    c->bytes.len = c->encoded.len = 0;
    int rc = vly_tokenizer_decode(c->source.model_tokenizer, own, n, false, &c->bytes);
    if (rc) return vly_fail(err, rc, "no memory for the draft's text");
    rc = vly_tokenizer_encode_with(c->source.model_tokenizer, c->work, c->bytes.data, c->bytes.len,
                                   VLY_ENCODE_CONTINUE, &c->encoded, err);
    if (rc) return rc;
    bool same = c->encoded.len == n && memcmp(c->encoded.data, own, n * sizeof *own) == 0;
    if (!same && word < c->stale) c->stale = word;
    return 0;
}

int vly_draft_context_take(vly_draft_context *c, vly_error *err)
{
    const vly_tokenizer *tokenizer = c->source.model_tokenizer;
    if (c->n_seen == c->source.text->len) return 0;
    if (c->source.map->identity) return take_ids(c, err);
    bool start = c->own.len == 0;
    unsigned flags = start ? VLY_ENCODE_BOS : VLY_ENCODE_CONTINUE;
    if (start && !vly_tokenizer_adds_bos(tokenizer)) flags = 0;
    uint32_t from = (uint32_t)c->own.len - last_word(c), same = 0;
    if (c->stale < from && c->stale >= n_fixed(c)) from = (uint32_t)c->stale;
    uint32_t n_word = (uint32_t)c->own.len - from;
    int rc = collect_bytes(c, n_word);
    if (rc) return vly_fail(err, rc, "no memory for the draft's text");
    c->encoded.len = 0;
    rc = vly_tokenizer_encode_with(tokenizer, c->work, c->bytes.data, c->bytes.len, flags,
                                   &c->encoded, err);
    if (rc) return rc;
    while (same < n_word && same < c->encoded.len &&
           c->own.data[from + same] == c->encoded.data[same])
        same++;
    c->own.len = from + same;
    if (c->seq.n_tok > c->own.len) vly_kv_truncate(&c->seq, (uint32_t)c->own.len);
    if (vly_ids_append(&c->own, c->encoded.data + same, c->encoded.len - same))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's tokens");
    c->n_seen = c->source.text->len;
    c->n_ahead = 0;
    c->stale = SIZE_MAX;
    return 0;
}

/* ---- Ahead of the host ---- */

static void grow_tail(vly_draft_context *c, size_t n)
{
    c->n_tail = n < VLY_WORD_TAIL - c->n_tail ? c->n_tail + (uint32_t)n : VLY_WORD_TAIL;
}

void vly_draft_context_begin_ahead(vly_draft_context *c, struct vly_blocks *blocks)
{
    c->n_tail = 0;
    grow_tail(c, c->own.len - n_fixed(c));
    blocks->n_tail = c->n_tail;
    if (c->n_tail)
        memcpy(blocks->tail, c->own.data + c->own.len - c->n_tail,
               c->n_tail * sizeof *blocks->tail);
}

int vly_draft_context_take_ahead(vly_draft_context *c, vly_error *err)
{
    if (c->n_seen == c->source.text->len) return 0;
    if (c->source.map->identity) return take_ids(c, err);
    size_t word = c->own.len - last_word(c);
    int rc = collect_bytes(c, 0);
    if (rc) return vly_fail(err, rc, "no memory for the draft's text");
    c->encoded.len = 0;
    rc = vly_tokenizer_encode_with(c->source.model_tokenizer, c->work, c->bytes.data, c->bytes.len,
                                   VLY_ENCODE_CONTINUE, &c->encoded, err);
    if (rc) return rc;
    uint32_t id, joined = 0;
    if (c->encoded.len > 0)
        joined = vly_words_join(c->source.words, c->own.data + c->own.len - c->n_tail, c->n_tail,
                                (vly_bytes){c->bytes.data, c->bytes.len}, &id);
    c->n_tail -= joined;
    c->own.len -= joined;
    if (c->seq.n_tok > c->own.len) vly_kv_rewind(&c->seq, (uint32_t)c->own.len);
    size_t n = joined ? 1 : c->encoded.len;
    if (vly_ids_append(&c->own, joined ? &id : c->encoded.data, n))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's tokens");
    grow_tail(c, n);
    c->n_seen = c->source.text->len;
    if (joined) word = c->own.len - last_word(c);
    return word < c->own.len - n || joined ? find_stale(c, word, err) : 0;
}

int vly_draft_context_accept_ahead(vly_draft_context *c, const uint32_t *own_ids, uint32_t n,
                                   vly_error *err)
{
    c->n_seen += n;
    grow_tail(c, n);
    if (vly_ids_append(&c->own, own_ids, n))
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft's tokens");
    return 0;
}

void vly_draft_context_offer(vly_draft_context *c)
{
    size_t sure = c->own.len > MAX_WORD ? c->own.len - MAX_WORD : 0;
    if (sure > c->stale) sure = c->stale;
    vly_kv_offer(&c->seq, c->own.data, sure < c->seq.n_tok ? (uint32_t)sure : c->seq.n_tok);
}

uint32_t vly_draft_context_n_pending(const vly_draft_context *c)
{
    return (uint32_t)c->own.len - c->seq.n_tok;
}

const uint32_t *vly_draft_context_pending(const vly_draft_context *c)
{
    return c->own.data + c->seq.n_tok;
}

int64_t vly_draft_context_room(vly_draft_context *c)
{
    uint32_t n_ctx = vly_model_get_memory(c->model)->n_ctx;
    int64_t left = (int64_t)n_ctx - (int64_t)c->own.len;
    if (left >= 0) return left;
    c->full = true;
    vly_log(
        VLY_LOG_WARN, "draft",
        "the draft's context of %u tokens is full: from here on n-grams of the text are drafted",
        n_ctx);
    return -1;
}

int vly_draft_context_reserve(vly_draft_context *c, uint32_t n, bool *ok, vly_error *err)
{
    int rc = vly_kv_reserve(&c->seq, c->seq.n_tok + n, err);
    *ok = rc == 0;
    return rc == VLY_E_BUSY ? 0 : rc;
}

int vly_draft_context_read(vly_draft_context *c, vly_draft_batch *batch, uint32_t most, uint32_t *n,
                           vly_error *err)
{
    *n = 0;
    vly_draft_context_offer(c); /* steps before this one are over */
    size_t behind = c->source.text->len - c->n_seen + vly_draft_context_n_pending(c);
    if (c->full || (!c->reading && behind <= MAX_BEHIND)) return 0;
    int rc = vly_draft_context_take(c, err);
    if (rc) return rc;
    c->reading = vly_draft_context_n_pending(c) > 1 && vly_draft_context_room(c) >= 0;
    if (!c->reading) return 0;
    if (!c->started && !c->source.compute_all)
        vly_kv_share(&c->seq, c->own.data, (uint32_t)c->own.len - 1);
    c->started = true;
    bool ok = false;
    uint32_t left = vly_draft_context_n_pending(c) - 1, take = left < most ? left : most;
    if (take > 0) rc = vly_draft_context_reserve(c, take, &ok, err);
    if (rc || !ok) return rc;
    vly_draft_batch_read(batch, &c->seq, vly_draft_context_pending(c), take);
    c->reading = take < left; /* the proposals feed what is left now */
    *n = take;
    return 0;
}

uint32_t vly_draft_context_behind(const vly_draft_context *c)
{
    if (c->full) return UINT32_MAX;
    return (uint32_t)(c->source.text->len - c->n_seen) + vly_draft_context_n_pending(c);
}
