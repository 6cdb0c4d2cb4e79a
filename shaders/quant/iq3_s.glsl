// IQ3_S: 4 bits that count the odd numbers from -15 to 15, a scale. (The file has numbers of groups in a table.)
#define LOW_BITS     4
#define HIGH_BITS    0
#define SCALE_BYTES  1
#define SUPER        1
#define OFFSET       15
#define HAS_MINIMUM  0
#define HALVES       0
#include "quant/codes.glsl"
#define part_codes   odd_codes
#define block_scales scales_byte

uint odd_codes(uvec4 low, uvec2 high, uint j)
{
    return plain_codes(low, high, j) << 1;
}

Scales scales_byte(uint words, uint block)
{
    return Scales(vec2(super_scales(words, block).x * float(block_bytes(words, block))), vec2(0.0));
}
