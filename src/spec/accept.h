/* Acceptance by equality: with keyed noise the target's pick is fixed by the seed, so a drafted
 * token is right exactly where it equals that pick. */
#ifndef VLY_SPEC_ACCEPT_H
#define VLY_SPEC_ACCEPT_H

#include <stdint.h>

/* How many of the `n` drafted tokens (target ids) at the front equal the target's picks. pick[j] is
 * the target's token at the position of drafted[j]; pick[n] follows the last. The block's text is
 * pick[0 .. accepted], accepted + 1 tokens. */
uint32_t vly_accept(const uint32_t *drafted, const uint32_t *pick, uint32_t n);

#endif
