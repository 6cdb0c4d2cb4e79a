// Q4_1: 4 bits, an f16 scale and the value of 0.
#define LOW_BITS     4
#define HIGH_BITS    0
#define SCALE_BYTES  4
#define SUPER        0
#define OFFSET       0
#define HAS_MINIMUM  1
#define HALVES       0
#include "quant/codes.glsl"
#define part_codes   plain_codes
#define block_scales scales_f16_value
