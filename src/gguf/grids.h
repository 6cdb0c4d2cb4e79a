/* The codebooks of the IQ formats, as ggml publishes them. */
#ifndef VLY_GGUF_GRIDS_H
#define VLY_GGUF_GRIDS_H

#include <stdint.h>

/* Entries of 8 magnitudes, 2 bits each, the first lowest: 0, 1, 2 stand for 8, 25, 43. */
extern const uint16_t vly_grid_iq2_xxs[256];
/* Entries of 4 magnitudes, a nibble each, the first lowest: n stands for 2 n + 1. */
extern const uint16_t vly_grid_iq3_s[512];

#endif
