// Q5_0: 5 bits less 16, an f16 scale.
#define LOW_BITS     4
#define HIGH_BITS    1
#define SCALE_BYTES  2
#define SUPER        0
#define OFFSET       16
#define HAS_MINIMUM  0
#define HALVES       0
#include "quant/codes.glsl"
#define part_codes   plain_codes
#define block_scales scales_f16
