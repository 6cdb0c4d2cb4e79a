/* The way from the target's vocabulary to the draft's: a token's bytes as tokens of the draft, for
 * all tokens at once, so that the device can go on drafting behind a token that the draft did not
 * propose. */
#ifndef VLY_SPEC_RECODE_H
#define VLY_SPEC_RECODE_H

#include "shaders/block.h"
#include "text/tokenizer.h"

/* (*out)[i] is for target token i, of n_target; none where the draft's vocabulary spells none of
 * its bytes. For the caller to free. VLY_E_HOST_MEMORY. */
int vly_recode_all(const vly_tokenizer *target, uint32_t n_target, const vly_tokenizer *draft,
                   struct vly_recoded **out, vly_error *err);

/* The same of a draft with the target's own vocabulary, which takes the tokens below `n_shared` as
 * they are, control tokens too. */
int vly_recode_same(uint32_t n_target, uint32_t n_shared, struct vly_recoded **out, vly_error *err);

#endif
