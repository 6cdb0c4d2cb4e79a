/* Where two vocabularies meet: at bytes. A draft token maps to the target token that stands for the
 * same bytes. Token-level intersection: Timor et al., arXiv 2502.05202, algorithm 4. Other tokens
 * of the draft are text that the target spells with several tokens. */
#ifndef VLY_SPEC_VOCAB_MAP_H
#define VLY_SPEC_VOCAB_MAP_H

#include "base/error.h"
#include "text/tokenizer.h"

typedef struct {
    bool identity;       /* the same vocabulary: ids go across unchanged */
    uint32_t n_mapped;   /* draft tokens that have a target token */
    uint32_t n_rows;     /* these, and behind them those that are text without being mapped */
    uint32_t *draft_id;  /* [n_rows] ascending in either part: the draft's ids */
    uint32_t *target_id; /* [n_rows]: the target's ids of the same tokens; of one that is not
                            mapped, the longest that its bytes begin with */
    uint32_t *target_of; /* [n_draft]: of a mapped token, its target_id; else VLY_NO_TOKEN */
    uint32_t n_draft, n_target;
    bool *has_target; /* [n_target]: is it a target_id? */
} vly_vocab_map;

/* Builds the map. Of several target tokens with the same bytes the normal piece wins over the byte
 * token, then the lowest id; control tokens map only by role (end of text to end of text); unused
 * and unknown tokens never. A draft whose vocabulary is the target's own (the same pieces and
 * types) gets the identity. `n_head_rows` limits draft ids and `n_target_rows` target ids to rows
 * that the models' heads have. VLY_E_DRAFT where no token with text is shared: says so and how
 * large both are; VLY_E_HOST_MEMORY. The caller deinits. */
int vly_vocab_map_init(const vly_tokenizer *draft, const vly_tokenizer *target,
                       uint32_t n_head_rows, uint32_t n_target_rows, vly_vocab_map *out,
                       vly_error *err);
/* Does some draft token map to this target token? */
bool vly_vocab_map_has_target(const vly_vocab_map *map, uint32_t target_id);
/* VLY_NO_TOKEN where the draft token is not mapped. */
uint32_t vly_vocab_map_target_of(const vly_vocab_map *map, uint32_t draft_id);
void vly_vocab_map_deinit(vly_vocab_map *map);

#endif
