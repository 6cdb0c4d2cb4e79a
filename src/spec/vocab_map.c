#include "spec/vocab_map.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

/* Target tokens by their bytes: open addressing, at most half full. The seed is random, so that no
 * vocabulary can be made whose tokens all collide. */
typedef struct {
    const vly_tokenizer *target;
    uint32_t *slots; /* id + 1; 0 is empty */
    size_t mask;
    uint64_t seed;
} token_index;

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static bool same_bytes(vly_bytes a, vly_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Where `bytes` are, or the empty slot where they would go. */
static uint32_t *slot_of(const token_index *index, vly_bytes bytes)
{
    size_t i = XXH3_64bits_withSeed(bytes.data, bytes.len, index->seed) & index->mask;
    while (index->slots[i] &&
           !same_bytes(vly_tokenizer_bytes(index->target, index->slots[i] - 1), bytes))
        i = (i + 1) & index->mask;
    return &index->slots[i];
}

/* How readily a model writes its bytes with a token of this type: 0 is best, 3 is not as text. */
static int rank_of(const vly_tokenizer *tokenizer, uint32_t id)
{
    if (id == vly_tokenizer_eos(tokenizer)) return 3;
    switch (vly_tokenizer_type(tokenizer, id)) {
    case VLY_TOKEN_NORMAL:
        return 0;
    case VLY_TOKEN_USER_DEFINED:
        return 1;
    case VLY_TOKEN_BYTE:
        return 2;
    default:
        return 3;
    }
}

static int index_init(token_index *index, const vly_tokenizer *target, uint32_t n, vly_error *err)
{
    *index = (token_index){.target = target};
    size_t n_slots = 2;
    while (n_slots < 2 * (size_t)n) n_slots *= 2;
    index->mask = n_slots - 1;
    index->slots = calloc(n_slots, sizeof *index->slots);
    if (!index->slots)
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to index %u target tokens", n);
    if (getrandom(&index->seed, sizeof index->seed, GRND_NONBLOCK) != sizeof index->seed)
        index->seed = vly_clock_ns();
    for (uint32_t id = 0; id < n; id++) {
        vly_bytes bytes = vly_tokenizer_bytes(target, id);
        int rank = rank_of(target, id);
        if (rank == 3 || bytes.len == 0) continue;
        uint32_t *slot = slot_of(index, bytes);
        if (!*slot || rank < rank_of(target, *slot - 1)) *slot = id + 1;
    }
    return 0;
}

static bool same_vocabulary(const vly_tokenizer *a, const vly_tokenizer *b)
{
    uint32_t n = vly_tokenizer_n_vocab(a);
    if (n != vly_tokenizer_n_vocab(b)) return false;
    for (uint32_t id = 0; id < n; id++)
        if (vly_tokenizer_type(a, id) != vly_tokenizer_type(b, id) ||
            !same_bytes(vly_tokenizer_piece(a, id), vly_tokenizer_piece(b, id)) ||
            !same_bytes(vly_tokenizer_bytes(a, id), vly_tokenizer_bytes(b, id)))
            return false;
    return true;
}

/* The longest target token that the bytes begin with, which their encoding most likely begins with,
 * too; VLY_NO_TOKEN. */
static uint32_t first_token(const token_index *index, vly_bytes bytes)
{
    for (size_t len = bytes.len; len > 0; len--) {
        uint32_t slot = *slot_of(index, (vly_bytes){bytes.data, len});
        if (slot) return slot - 1;
    }
    return VLY_NO_TOKEN;
}

/* Adds the tokens that have text without being mapped. */
static void add_unmapped(const vly_tokenizer *draft, uint32_t n_draft, const token_index *index,
                         vly_vocab_map *out)
{
    uint32_t mapped = 0;
    out->n_rows = out->n_mapped;
    for (uint32_t id = 0; id < n_draft; id++) {
        if (mapped < out->n_mapped && out->draft_id[mapped] == id) {
            mapped++;
            continue;
        }
        vly_bytes bytes = vly_tokenizer_bytes(draft, id);
        if (rank_of(draft, id) == 3 || bytes.len == 0) continue;
        uint32_t first = first_token(index, bytes);
        if (first == VLY_NO_TOKEN) continue;
        out->draft_id[out->n_rows] = id;
        out->target_id[out->n_rows++] = first;
    }
}

/* Fills `out` for draft tokens below n_draft and target tokens below n_target; *n_text counts those
 * that map by their bytes. */
static int map_by_bytes(const vly_tokenizer *draft, uint32_t n_draft, const vly_tokenizer *target,
                        uint32_t n_target, vly_vocab_map *out, uint32_t *n_text, vly_error *err)
{
    token_index index;
    int rc = index_init(&index, target, n_target, err);
    if (rc) return rc;
    uint32_t draft_eos = vly_tokenizer_eos(draft), target_eos = vly_tokenizer_eos(target);
    for (uint32_t id = 0; id < n_draft; id++) {
        uint32_t to = VLY_NO_TOKEN;
        if (id == draft_eos) {
            if (target_eos < n_target) to = target_eos;
        } else if (rank_of(draft, id) < 3) {
            vly_bytes bytes = vly_tokenizer_bytes(draft, id);
            uint32_t slot = bytes.len ? *slot_of(&index, bytes) : 0;
            if (slot) {
                to = slot - 1;
                ++*n_text;
            }
        }
        if (to == VLY_NO_TOKEN) continue;
        out->draft_id[out->n_mapped] = id;
        out->target_id[out->n_mapped++] = to;
    }
    add_unmapped(draft, n_draft, &index, out);
    free(index.slots);
    return 0;
}

static bool allocate(vly_vocab_map *out, uint32_t n_rows)
{
    out->draft_id = malloc((n_rows + (size_t)1) * sizeof *out->draft_id);
    out->target_id = malloc((n_rows + (size_t)1) * sizeof *out->target_id);
    out->target_of = malloc((out->n_draft + (size_t)1) * sizeof *out->target_of);
    out->has_target = calloc(out->n_target + (size_t)1, sizeof *out->has_target);
    return out->draft_id && out->target_id && out->target_of && out->has_target;
}

int vly_vocab_map_init(const vly_tokenizer *draft, const vly_tokenizer *target,
                       uint32_t n_head_rows, uint32_t n_target_rows, vly_vocab_map *out,
                       vly_error *err)
{
    *out = (vly_vocab_map){.n_draft = vly_tokenizer_n_vocab(draft),
                           .n_target = vly_tokenizer_n_vocab(target)};
    uint32_t n_draft = min_u32(out->n_draft, n_head_rows);
    uint32_t n_target = min_u32(out->n_target, n_target_rows);
    uint32_t n_text = 0;
    int rc = 0;
    if (!allocate(out, n_draft)) {
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory to map %u draft tokens", n_draft);
    } else if (same_vocabulary(draft, target)) {
        out->identity = true;
        out->n_mapped = out->n_rows = n_text = min_u32(n_draft, n_target);
        for (uint32_t id = 0; id < out->n_mapped; id++) out->draft_id[id] = out->target_id[id] = id;
    } else {
        rc = map_by_bytes(draft, n_draft, target, n_target, out, &n_text, err);
    }
    if (!rc && n_text == 0)
        rc = vly_fail(
            err, VLY_E_DRAFT,
            "expected a draft that shares tokens with the target, but none of its %u "
            "tokens stands for the same text as one of the target's %u; 'volley models --for "
            "TARGET' lists drafts that would do, and n-grams need none",
            n_draft, n_target);
    for (uint32_t id = 0; !rc && id < out->n_draft; id++) out->target_of[id] = VLY_NO_TOKEN;
    for (uint32_t i = 0; !rc && i < out->n_mapped; i++) {
        out->has_target[out->target_id[i]] = true;
        out->target_of[out->draft_id[i]] = out->target_id[i];
    }
    if (rc) vly_vocab_map_deinit(out);
    return rc;
}

bool vly_vocab_map_has_target(const vly_vocab_map *map, uint32_t target_id)
{
    return target_id < map->n_target && map->has_target[target_id];
}

uint32_t vly_vocab_map_target_of(const vly_vocab_map *map, uint32_t draft_id)
{
    return draft_id < map->n_draft ? map->target_of[draft_id] : VLY_NO_TOKEN;
}

void vly_vocab_map_deinit(vly_vocab_map *map)
{
    free(map->target_of);
    free(map->draft_id);
    free(map->target_id);
    free(map->has_target);
    *map = (vly_vocab_map){0};
}
