// IQ2_XXS: 2 bits that stand for 8, 25 or 43, one for minus, a scale of eighths. (The file has numbers of groups in a table.)
#define LOW_BITS     2
#define HIGH_BITS    1
#define SCALE_BYTES  1
#define SUPER        1
#define OFFSET       43
#define HAS_MINIMUM  0
#define HALVES       0
#include "quant/codes.glsl"
#define part_codes   magnitude_codes
#define block_scales scales_eighths

// 43 + magnitude or 43 - magnitude: no byte borrows from another.
uint magnitude_codes(uvec4 low, uvec2 high, uint j)
{
    uint n = plain_codes(low, high, j), minus = (n >> 2 & ONES) * 255u;
    n &= 3u * ONES;
    uint magnitude = 8u * ONES + 17u * n + (n >> 1 & ONES);
    return 43u * ONES + magnitude - ((magnitude & minus) << 1);
}

Scales scales_eighths(uint words, uint block)
{
    float factor = float(block_bytes(words, block)) * 0.125;
    return Scales(vec2(super_scales(words, block).x * factor), vec2(0.0));
}
