// Q4_K: 4 bits, a scale and a minimum.
#define LOW_BITS     4
#define HIGH_BITS    0
#define SCALE_BYTES  2
#define SUPER        1
#define OFFSET       0
#define HAS_MINIMUM  1
#define HALVES       0
#include "quant/codes.glsl"
#define part_codes   plain_codes
#define block_scales scales_minimum
