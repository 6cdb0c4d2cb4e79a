/* Drafting by n-grams: the last n tokens of the text, where they occurred before, were followed by
 * something; that is proposed again. Needs no model and no device. Prompt look-up decoding (Saxena,
 * 2023); He et al., arXiv 2311.08252, look a larger store up in the same way.
 *
 * The longest n that is found wins, and its latest place. Shorter n-grams are found nearly
 * everywhere by chance: with MIN_N = 2 the chain of this and a model does worse on plain text than
 * the model alone. A MAX_N above 4 changed nothing. (Figures: docs/speculation.md.) */
#include "drafts/draft.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define MIN_N    3
#define MAX_N    4
#define N_TABLES (MAX_N - MIN_N + 1)
#define N_PROBES 16

typedef struct {
    vly_draft base;
    const vly_ids *text;
    uint32_t *slots;  /* [N_TABLES][n_slots]: the index in the text after an n-gram; 0: empty */
    size_t n_slots;   /* a power of two, at least twice the n-grams of a table */
    size_t n_indexed; /* tokens whose n-grams are in: all but the last, which nothing follows yet */
    uint32_t n_match; /* tokens before the proposal that were the same, VLY_NGRAM_LOOK at most */
    uint32_t proposed[VLY_MAX_DRAFT];
} draft_ngram;

/* Is the n-gram before text[after] the one that ends the text before `end`? */
static bool same(const draft_ngram *d, uint32_t n, size_t after, size_t end)
{
    const uint32_t *text = d->text->data;
    return memcmp(text + after - n, text + end - n, n * sizeof *text) == 0;
}

/* The slot of the n-gram before text[end]: the one that has it, or the one where it would go. Where
 * its neighbourhood is full that is its first slot, whose owner is then forgotten: so no text,
 * whatever its hashes are, takes more than N_PROBES steps. */
static uint32_t *find_slot(const draft_ngram *d, uint32_t n, size_t end)
{
    uint32_t *table = d->slots + (n - MIN_N) * d->n_slots;
    size_t mask = d->n_slots - 1;
    size_t home = XXH3_64bits(d->text->data + end - n, n * sizeof *d->text->data) & mask;
    for (size_t i = 0; i < N_PROBES; i++) {
        uint32_t *slot = &table[(home + i) & mask];
        if (*slot == 0 || same(d, n, *slot, end)) return slot;
    }
    return &table[home];
}

/* Tables for as many tokens as the text has room for: where that does not grow, they never do. */
static int make_room(draft_ngram *d, vly_error *err)
{
    size_t n_slots = d->n_slots ? d->n_slots : 256;
    while (n_slots < 2 * d->text->cap) n_slots *= 2;
    if (n_slots == d->n_slots) return 0;
    uint32_t *slots = calloc(n_slots, N_TABLES * sizeof *slots);
    if (!slots)
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory to index the n-grams of %zu tokens",
                        d->text->cap);
    free(d->slots);
    d->slots = slots;
    d->n_slots = n_slots;
    d->n_indexed = 0;
    return 0;
}

static int index_text(draft_ngram *d, vly_error *err)
{
    int rc = make_room(d, err);
    for (; rc == 0 && d->n_indexed + 1 < d->text->len; d->n_indexed++) {
        size_t end = d->n_indexed + 1;
        for (uint32_t n = MIN_N; n <= MAX_N && n <= end; n++) *find_slot(d, n, end) = (uint32_t)end;
    }
    return rc;
}

/* Where the text went on after the longest n-gram that ends it now; 0: it did not occur before. */
static size_t find_continuation(const draft_ngram *d)
{
    size_t len = d->text->len;
    for (uint32_t n = MAX_N; n >= MIN_N; n--) {
        if (n >= len) continue;
        uint32_t after = *find_slot(d, n, len);
        if (after && same(d, n, after, len)) return after;
    }
    return 0;
}

static uint32_t match_length(const draft_ngram *d, size_t after)
{
    const uint32_t *text = d->text->data;
    size_t len = d->text->len;
    uint32_t n = 0;
    while (n < VLY_NGRAM_LOOK && n < after && text[after - 1 - n] == text[len - 1 - n]) n++;
    return n;
}

uint32_t vly_draft_ngram_match(const vly_draft *draft)
{
    return ((const draft_ngram *)draft)->n_match;
}

/* Draws up a proposal of k tokens; *n gets 0 where there is none. */
static int look_up(draft_ngram *d, uint32_t k, uint32_t *n, vly_error *err)
{
    *n = 0;
    int rc = index_text(d, err);
    size_t from = rc ? 0 : find_continuation(d), len = d->text->len;
    if (from == 0) return rc;
    d->n_match = match_length(d, from);
    /* Past its end the text goes on with the proposal itself: what repeats, repeats on. */
    for (uint32_t j = 0; j < k; j++)
        d->proposed[j] = from + j < len ? d->text->data[from + j] : d->proposed[from + j - len];
    *n = k;
    return 0;
}

const uint32_t *vly_draft_ngram_look_up(vly_draft *draft)
{
    draft_ngram *d = (draft_ngram *)draft;
    uint32_t n;
    vly_error err;
    return look_up(d, VLY_MAX_DRAFT, &n, &err) == 0 && n > 0 ? d->proposed : NULL;
}

static int propose(vly_draft *draft, const vly_draft_input *in, uint32_t k, uint32_t *n,
                   vly_error *err)
{
    draft_ngram *d = (draft_ngram *)draft;
    int rc = look_up(d, k, n, err);
    for (uint32_t j = 0; rc == 0 && j < *n; j++)
        in->verify->token[in->first + j].id = d->proposed[j];
    return rc;
}

static const uint32_t *proposed(vly_draft *draft)
{
    return ((draft_ngram *)draft)->proposed;
}

static int read_nothing(vly_draft *draft, vly_draft_batch *batch, uint32_t most, uint32_t *n,
                        vly_error *err)
{
    (void)draft, (void)batch, (void)most, (void)err;
    *n = 0;
    return 0;
}

static int settle(vly_draft *draft, uint32_t accepted, vly_error *err)
{
    (void)draft, (void)accepted, (void)err;
    return 0;
}

static void destroy(vly_draft *draft)
{
    draft_ngram *d = (draft_ngram *)draft;
    free(d->slots);
    free(d);
}

static const vly_draft_ops ops = {
    .read = read_nothing,
    .propose = propose,
    .proposed = proposed,
    .settle = settle,
    .destroy = destroy,
};

int vly_draft_create_ngram(const vly_draft_source *source, vly_draft **out, vly_error *err)
{
    draft_ngram *d = calloc(1, sizeof *d);
    if (!d) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the draft");
    d->base = (vly_draft){.ops = &ops, .proposer = VLY_DRAFT_NGRAM};
    d->text = source->text;
    int rc = make_room(d, err);
    if (rc) {
        free(d);
        return rc;
    }
    *out = &d->base;
    return 0;
}
