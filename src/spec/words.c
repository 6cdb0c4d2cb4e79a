#include "spec/words.h"

#include <stdlib.h>
#include <string.h>

/* Polynomials over the bytes, so that the hash of two texts in a row follows from theirs. */
static const uint32_t base[2] = {16777619u, 2246822519u};

static void add_digit(struct vly_spelling *s, uint32_t digit)
{
    for (int j = 0; j < 2; j++) {
        s->hash[j] = s->hash[j] * base[j] + digit;
        s->power[j] *= base[j];
    }
}

struct vly_spelling vly_words_spell(vly_bytes bytes)
{
    struct vly_spelling s = {.power = {1, 1}};
    for (size_t i = 0; i < bytes.len; i++) add_digit(&s, (uint8_t)bytes.data[i] + 1);
    return s;
}

/* A token without bytes, as control tokens are, gets a digit that no byte has: no word goes across
 * it. */
static struct vly_spelling spell_token(vly_bytes bytes)
{
    struct vly_spelling s = vly_words_spell(bytes);
    if (bytes.len == 0) add_digit(&s, 257);
    return s;
}

static const struct vly_word *find(const vly_words *w, const uint32_t hash[2])
{
    for (uint32_t i = 0; i < VLY_WORD_PROBES; i++) {
        const struct vly_word *slot = &w->slots[(VLY_WORD_SLOT(hash) + i) & (w->n_slots - 1)];
        if (slot->id == VLY_NO_ID) return NULL;
        if (slot->hash[0] == hash[0] && slot->hash[1] == hash[1]) return slot;
    }
    return NULL;
}

uint32_t vly_words_join(const vly_words *w, const uint32_t *tail, uint32_t n_tail, vly_bytes more,
                        uint32_t *id)
{
    struct vly_spelling all = vly_words_spell(more);
    uint32_t joined = 0;
    for (uint32_t n = 1; w->n_slots > 0 && n <= n_tail; n++) {
        if (tail[n_tail - n] >= w->n_tok) break;
        const struct vly_spelling *s = &w->spelling[tail[n_tail - n]];
        for (int j = 0; j < 2; j++) {
            all.hash[j] += s->hash[j] * all.power[j];
            all.power[j] *= s->power[j];
        }
        const struct vly_word *word = find(w, all.hash);
        if (!word) continue;
        joined = n;
        *id = word->id;
    }
    return joined;
}

/* Tokens whose neighbourhood is full are left out. */
static void insert(vly_words *w, uint32_t id)
{
    const uint32_t *hash = w->spelling[id].hash;
    for (uint32_t i = 0; i < VLY_WORD_PROBES; i++) {
        struct vly_word *slot = &w->slots[(VLY_WORD_SLOT(hash) + i) & (w->n_slots - 1)];
        if (slot->id != VLY_NO_ID) continue;
        *slot = (struct vly_word){.hash = {hash[0], hash[1]}, .id = id};
        return;
    }
}

int vly_words_init(const vly_tokenizer *draft, vly_words *w, vly_error *err)
{
    uint32_t n = vly_tokenizer_n_vocab(draft);
    *w = (vly_words){.n_tok = n, .n_slots = 1};
    while (w->n_slots < 2 * (uint64_t)n) w->n_slots *= 2;
    w->spelling = malloc((n + (size_t)1) * sizeof *w->spelling);
    w->slots = malloc(w->n_slots * sizeof *w->slots);
    if (!w->spelling || !w->slots)
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the words of %u tokens", n);
    memset(w->slots, 0xff, w->n_slots * sizeof *w->slots); /* VLY_NO_ID */
    for (uint32_t id = 0; id < n; id++) {
        vly_bytes bytes = vly_tokenizer_bytes(draft, id);
        w->spelling[id] = spell_token(bytes);
        if (bytes.len > 1) insert(w, id);
    }
    return 0;
}

void vly_words_deinit(vly_words *w)
{
    free(w->spelling);
    free(w->slots);
    *w = (vly_words){0};
}
