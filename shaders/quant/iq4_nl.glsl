// IQ4_NL: 4 bits that stand for values of a table, an f16 scale.
#define LOW_BITS     4
#define HIGH_BITS    0
#define SCALE_BYTES  2
#define SUPER        0
#define OFFSET       0
#define HAS_MINIMUM  0
#define HALVES       0
#define SIGNED_CODES 1
#include "quant/codes.glsl"
#include "quant/iq4_table.glsl"
#define part_codes   table_codes
#define block_scales scales_f16
