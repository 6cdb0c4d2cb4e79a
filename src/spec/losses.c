#include "spec/losses.h"

#include <string.h>

static uint32_t rank_bin(uint32_t rank)
{
    static const uint32_t last[VLY_N_LOST_RANKS - 1] = {1, 2, 3, 10, 100};
    uint32_t bin = 0;
    while (bin < VLY_N_LOST_RANKS - 1 && rank > last[bin]) bin++;
    return bin;
}

/* Compares the text as it goes on with what was drafted. */
static void follow(vly_losses *l, const uint32_t *ids, uint32_t n, vly_stats *st)
{
    for (uint32_t i = 0; l->counted && i < n; i++) {
        vly_bytes bytes = vly_tokenizer_bytes(l->tokenizer, ids[i]);
        size_t most = l->n_bytes - l->n_same, len = bytes.len < most ? bytes.len : most;
        if (len && memcmp(l->bytes + l->n_same, bytes.data, len) != 0) {
            l->counted = NULL;
        } else if ((l->n_same += (uint32_t)len) >= l->n_needed) {
            --*l->counted;
            if (l->ranked) --*l->ranked;
            st->lost_split++;
            l->counted = NULL;
        } else if (len < bytes.len) {
            l->counted = NULL; /* beyond what was drafted nothing can be said */
        }
    }
}

/* Keeps the drafted bytes from the first lost token on. */
static void remember(vly_losses *l, const vly_losses_block *b)
{
    vly_bytes lost = vly_tokenizer_bytes(l->tokenizer, b->drafted[b->n_accepted]);
    vly_bytes pick = vly_tokenizer_bytes(l->tokenizer, b->pick);
    size_t needed = lost.len > pick.len ? lost.len : pick.len, n = 0;
    for (uint32_t i = b->n_accepted; i < b->n_drafted && n < VLY_LOSS_BYTES; i++) {
        vly_bytes bytes = vly_tokenizer_bytes(l->tokenizer, b->drafted[i]);
        size_t len = bytes.len < VLY_LOSS_BYTES - n ? bytes.len : VLY_LOSS_BYTES - n;
        if (len) memcpy(l->bytes + n, bytes.data, len);
        n += len;
    }
    l->n_bytes = (uint32_t)n;
    l->n_same = 0;
    l->n_needed = (uint32_t)needed;
    if (lost.len == 0 || pick.len == 0 || needed > n) l->counted = NULL;
}

void vly_losses_add(vly_losses *l, const vly_losses_block *b, vly_stats *st)
{
    uint32_t lost = b->n_drafted - b->n_accepted;
    follow(l, b->decided, b->n_decided, st);
    if (lost == 0) return;
    if (b->ended) {
        st->lost_to_end += lost;
        return;
    }
    bool unmapped = b->by_model && l->map && !vly_vocab_map_has_target(l->map, b->pick);
    l->counted = unmapped ? &st->lost_unmapped : &st->lost_to_pick;
    l->ranked = unmapped || b->rank == 0 ? NULL : &st->lost_by_rank[rank_bin(b->rank)];
    ++*l->counted;
    if (l->ranked) ++*l->ranked;
    st->lost_to_front += lost - 1;
    remember(l, b);
    if (b->n_decided > b->n_accepted)
        follow(l, b->decided + b->n_accepted, b->n_decided - b->n_accepted, st);
}
