// Q8_0: signed bytes, an f16 scale.
#define LOW_BITS     8
#define HIGH_BITS    0
#define SCALE_BYTES  2
#define SUPER        0
#define OFFSET       0
#define HAS_MINIMUM  0
#define HALVES       0
#define SIGNED_CODES 1
#include "quant/codes.glsl"
#define part_codes   plain_codes
#define block_scales scales_f16
