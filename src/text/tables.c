#include "text/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* The smallest power of two that holds `n` entries at a load of at most a half. */
static size_t slot_count(size_t n)
{
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    return slots;
}

int vly_piece_table_init(vly_piece_table *table, size_t n)
{
    size_t slots = slot_count(n);
    table->slots = malloc(slots * sizeof *table->slots);
    if (!table->slots) return VLY_E_HOST_MEMORY;
    memset(table->slots, 0xFF, slots * sizeof *table->slots);
    table->mask = slots - 1;
    return 0;
}

/* The slot that holds the text, or the free one where it would go. */
static vly_piece_slot *piece_slot(const vly_tokenizer *t, const char *text, size_t n,
                                  uint32_t *hash)
{
    const vly_piece_table *table = &t->pieces;
    uint64_t h = XXH3_64bits(text, n);
    *hash = (uint32_t)(h >> 32);
    for (size_t i = h & table->mask;; i = (i + 1) & table->mask) {
        vly_piece_slot *slot = &table->slots[i];
        if (slot->id == VLY_NO_TOKEN) return slot;
        if (slot->hash != *hash) continue;
        vly_bytes found = t->tokens[slot->id].text;
        if (found.len == n && memcmp(found.data, text, n) == 0) return slot;
    }
}

void vly_piece_table_add(vly_tokenizer *t, uint32_t id)
{
    vly_bytes text = t->tokens[id].text;
    if (!text.len) return;
    uint32_t hash;
    vly_piece_slot *slot = piece_slot(t, text.data, text.len, &hash);
    if (slot->id != VLY_NO_TOKEN) return;
    *slot = (vly_piece_slot){hash, id};
    if (text.len > t->pieces.max_bytes) t->pieces.max_bytes = text.len;
}

uint32_t vly_piece_table_find(const vly_tokenizer *t, const char *text, size_t n)
{
    uint32_t hash;
    if (n > t->pieces.max_bytes) return VLY_NO_TOKEN;
    return piece_slot(t, text, n, &hash)->id;
}

int vly_merge_table_init(vly_merge_table *table, size_t n)
{
    size_t slots = slot_count(n);
    table->slots = malloc(slots * sizeof *table->slots);
    if (!table->slots) return VLY_E_HOST_MEMORY;
    memset(table->slots, 0xFF, slots * sizeof *table->slots);
    table->mask = slots - 1;
    return 0;
}

static vly_merge_slot *merge_slot(const vly_merge_table *table, uint32_t left, uint32_t right)
{
    uint32_t pair[2] = {left, right};
    for (size_t i = XXH3_64bits(pair, sizeof pair) & table->mask;; i = (i + 1) & table->mask) {
        vly_merge_slot *slot = &table->slots[i];
        if (slot->merged == VLY_NO_TOKEN || (slot->left == left && slot->right == right))
            return slot;
    }
}

void vly_merge_table_add(vly_merge_table *table, uint32_t left, uint32_t right, uint32_t rank,
                         uint32_t merged)
{
    vly_merge_slot *slot = merge_slot(table, left, right);
    if (slot->merged == VLY_NO_TOKEN) *slot = (vly_merge_slot){left, right, rank, merged};
}

const vly_merge_slot *vly_merge_table_find(const vly_merge_table *table, uint32_t left,
                                           uint32_t right)
{
    const vly_merge_slot *slot = merge_slot(table, left, right);
    return slot->merged == VLY_NO_TOKEN ? NULL : slot;
}

static int compare_bytes(vly_bytes a, vly_bytes b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* By text; among equals user-defined tokens come first, then the lower id. */
static int compare_specials(const void *a, const void *b, void *tokens)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    const vly_token *x = (const vly_token *)tokens + i, *y = (const vly_token *)tokens + j;
    int order = compare_bytes(x->text, y->text);
    if (!order) order = (int)y->type - (int)x->type;
    return order ? order : (i > j) - (i < j);
}

int vly_specials_init(vly_tokenizer *t)
{
    size_t n = 0;
    t->specials = malloc(t->n_vocab * sizeof *t->specials);
    if (!t->specials) return VLY_E_HOST_MEMORY;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        const vly_token *token = &t->tokens[id];
        bool user_defined = token->type == VLY_TOKEN_USER_DEFINED;
        if (!token->text.len || (!user_defined && token->type != VLY_TOKEN_CONTROL)) continue;
        t->specials[n++] = id;
        t->has_user_defined |= user_defined;
    }
    qsort_r(t->specials, n, sizeof *t->specials, compare_specials, t->tokens);
    for (size_t i = 0; i < n; i++) {
        vly_bytes text = t->tokens[t->specials[i]].text;
        if (t->n_specials && !compare_bytes(t->tokens[t->specials[t->n_specials - 1]].text, text))
            continue;
        t->specials[t->n_specials++] = t->specials[i];
        t->special_first[(uint8_t)text.data[0] + 1] = t->n_specials;
    }
    /* Bytes that start none: empty ranges. */
    for (int b = 0; b < 256; b++)
        if (t->special_first[b + 1] < t->special_first[b])
            t->special_first[b + 1] = t->special_first[b];
    return 0;
}

/* The first of specials[lo..hi), all longer than `depth`, whose byte there is at least `byte`. */
static uint32_t lower_bound(const vly_tokenizer *t, uint32_t lo, uint32_t hi, size_t depth,
                            int byte)
{
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if ((uint8_t)t->tokens[t->specials[mid]].text.data[depth] < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint32_t vly_special_at(const vly_tokenizer *t, const char *text, size_t len, size_t at,
                        bool control)
{
    uint8_t byte = (uint8_t)text[at];
    uint32_t lo = t->special_first[byte], hi = t->special_first[byte + 1];
    uint32_t best = VLY_NO_TOKEN;
    /* specials[lo..hi) are those that agree with the text in their first `depth` bytes; one that
     * ends there sorts before the others. */
    for (size_t depth = 1; lo < hi; depth++) {
        const vly_token *token = &t->tokens[t->specials[lo]];
        if (token->text.len == depth) {
            if (control || token->type == VLY_TOKEN_USER_DEFINED) best = t->specials[lo];
            lo++;
        }
        if (depth == len - at) break;
        byte = (uint8_t)text[at + depth];
        lo = lower_bound(t, lo, hi, depth, byte);
        hi = lower_bound(t, lo, hi, depth, byte + 1);
    }
    return best;
}
