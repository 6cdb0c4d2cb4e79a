// Q3_K: 3 bits less 4, a scale for each 16.
#define LOW_BITS     2
#define HIGH_BITS    1
#define SCALE_BYTES  2
#define SUPER        1
#define OFFSET       4
#define HAS_MINIMUM  0
#define HALVES       1
#include "quant/codes.glsl"
#define part_codes   plain_codes
#define block_scales scales_halves
