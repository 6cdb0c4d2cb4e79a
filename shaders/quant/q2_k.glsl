// Q2_K: 2 bits, a scale and a minimum for each 16: factors of 4 bits.
#define LOW_BITS     2
#define HIGH_BITS    0
#define SCALE_BYTES  2
#define SUPER        1
#define OFFSET       0
#define HAS_MINIMUM  1
#define HALVES       1
#include "quant/codes.glsl"
#define part_codes   plain_codes
#define block_scales scales_nibbles

Scales scales_nibbles(uint words, uint block)
{
    uint factors = block_bytes(words, block);
    vec2 both = super_scales(words, block);
    return Scales(both.x * vec2(factors & 15u, factors >> 8 & 15u),
                  both.y * vec2(factors >> 4 & 15u, factors >> 12));
}
