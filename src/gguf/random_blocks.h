/* Random weights in the formats that Volley computes with: blocks whose values are finite and
 * spread like those of a trained model. */
#ifndef VLY_GGUF_RANDOM_BLOCKS_H
#define VLY_GGUF_RANDOM_BLOCKS_H

#include "base/error.h"
#include "gguf/formats.h"

#define VLY_RANDOM_DEVIATION 0.02f /* of the values; their mean is near 0 */

/* Fills `out` with `n_blocks` blocks of `format`, the same for the same arguments.
 * VLY_E_UNSUPPORTED where Volley does not compute with the format, or random bits make no blocks of
 * it. */
int vly_random_blocks(const vly_format *format, size_t n_blocks, uint8_t *out, vly_error *err);

#endif
