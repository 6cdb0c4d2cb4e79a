// IQ4_XS: 4 bits that stand for values of a table, a scale.
#define LOW_BITS     4
#define HIGH_BITS    0
#define SCALE_BYTES  1
#define SUPER        1
#define OFFSET       0
#define HAS_MINIMUM  0
#define HALVES       0
#define SIGNED_CODES 1
#include "quant/codes.glsl"
#include "quant/iq4_table.glsl"
#define part_codes   table_codes
#define block_scales scales_signed_byte

Scales scales_signed_byte(uint words, uint block)
{
    int factor = int(block_bytes(words, block)) << 24 >> 24;
    return Scales(vec2(super_scales(words, block).x * float(factor)), vec2(0.0));
}
