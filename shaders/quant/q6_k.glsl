// Q6_K: 6 bits less 32, a scale for each 16.
#define LOW_BITS     4
#define HIGH_BITS    2
#define SCALE_BYTES  2
#define SUPER        1
#define OFFSET       32
#define HAS_MINIMUM  0
#define HALVES       1
#include "quant/codes.glsl"
#define part_codes   plain_codes
#define block_scales scales_halves
