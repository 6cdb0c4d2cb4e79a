/* The way from the target's vocabulary to the draft's: a token's bytes as tokens of the draft, for
 * all tokens at once, so that the device can go on drafting behind a token that the draft did not
 * propose. */
#ifndef VLY_SPEC_RECODE_H
#define VLY_SPEC_RECODE_H

#include "shaders/block.h"
#include "text/tokenizer.h"

/* Row i is for target token i: at most VLY_MAX_RECODED ids of the draft, VLY_NO_ID behind them, as
 * its tokenizer goes on with the token's bytes; none where it spells none of them. VLY_RECODE_HOST
 * in front where there are more. `*out` [n_target][VLY_MAX_RECODED] is for the caller to free.
 * VLY_E_HOST_MEMORY. */
int vly_recode_all(const vly_tokenizer *target, uint32_t n_target, const vly_tokenizer *draft,
                   uint32_t (**out)[VLY_MAX_RECODED], vly_error *err);

#endif
