/* Why the drafted tokens of a sequence were lost: fills in those fields of its statistics. Pure.
 *
 * The first token lost of a block is counted as one of
 * - split: the target wrote the drafted bytes, but cut them into other tokens: "un" + "happy" was
 *   drafted where its token is "unhappy". That may show only in the next blocks, until which the
 *   loss is one of the other two;
 * - unmapped: no token of the draft stands for the target's pick, so that it could not be drafted;
 * - pick: else, by the rank that the target gave the drafted token;
 * and the others as lost behind it, or behind the end of the text. */
#ifndef VLY_SPEC_LOSSES_H
#define VLY_SPEC_LOSSES_H

#include "spec/vocab_map.h"

#define VLY_LOSS_BYTES 64 /* of drafted text that are compared */

/* Zero-initialise but for the first two. */
typedef struct {
    const vly_tokenizer *tokenizer; /* the target's */
    const vly_vocab_map *map;       /* of the draft model; NULL: without one */
    /* A loss that may turn out to be a split: where it is counted now, and the bytes drafted from
     * there on. */
    uint32_t *counted, *ranked; /* NULL: there is no such loss, or it has no rank */
    char bytes[VLY_LOSS_BYTES];
    uint32_t n_bytes, n_same; /* drafted; so many of them the text has, too */
    uint32_t n_needed;        /* that many make a split */
} vly_losses;

/* What became of a block's proposals. */
typedef struct {
    const uint32_t *drafted; /* [n_drafted] target ids */
    const uint32_t *decided; /* [n_decided] tokens that became text, of n_accepted + 1 picks */
    uint32_t n_drafted, n_accepted, n_decided;
    bool ended;    /* within the decided tokens: what was drafted behind was lost to that */
    bool by_model; /* proposed by the draft model, from its own vocabulary */
    uint32_t pick; /* the target's, in place of the first lost */
    uint32_t rank; /* of that one by the target's logits, from 1; 0: not known */
} vly_losses_block;

/* Call it after each block, with a proposal or without. `stats` is the same each time. */
void vly_losses_add(vly_losses *losses, const vly_losses_block *block, vly_stats *stats);

#endif
