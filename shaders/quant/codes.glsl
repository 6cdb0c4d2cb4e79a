// For formats of codes: bits out of planes, and the kinds of scales. Included behind a format's constants.
#ifndef SIGNED_CODES
#define SIGNED_CODES 0
#endif
#define ONES 0x01010101u // in each byte

// The codes of quad j. Where weights have b bits in a plane, 32 of them are b words: quad j is in the four
// bytes of word j % b, shifted by b * (j / b).
uint plain_codes(uvec4 low, uvec2 high, uint j)
{
#if LOW_BITS == 8
    uint q = low[j];
#elif LOW_BITS == 4
    uint q = low[j % 4u] >> (4u * (j / 4u)) & 15u * ONES;
#else
    uint q = low[j % 2u] >> (2u * (j / 2u)) & 3u * ONES;
#endif
#if HIGH_BITS == 1
    q |= (high.x >> j & ONES) << LOW_BITS;
#elif HIGH_BITS == 2
    q |= (high[j % 2u] >> (2u * (j / 2u)) & 3u * ONES) << LOW_BITS;
#endif
    return q;
}

struct Scales {
    vec2 scale, minimum; // of weights 0..15 and 16..31
};

// The f16 numbers for 256 weights: (scale, that of the minimums).
vec2 super_scales(uint words, uint block)
{
    return unpackHalf2x16(READ_SCALES(words + block / 8u));
}

// What a row has for each 32 weights: SCALE_BYTES.
uint block_bytes(uint words, uint block)
{
    words += p.blocks / 8u * SUPER;
#if SCALE_BYTES == 4
    return READ_SCALES(words + block);
#elif SCALE_BYTES == 2
    return READ_SCALES(words + block / 2u) >> (block % 2u * 16u) & 0xffffu;
#else
    return READ_SCALES(words + block / 4u) >> (block % 4u * 8u) & 0xffu;
#endif
}

// An f16 scale.
Scales scales_f16(uint words, uint block)
{
    return Scales(unpackHalf2x16(block_bytes(words, block)).xx, vec2(0.0));
}

// An f16 scale and the f16 value of code 0.
Scales scales_f16_value(uint words, uint block)
{
    vec2 both = unpackHalf2x16(block_bytes(words, block));
    return Scales(both.xx, -both.yy);
}

// A factor of the scale and one of the minimum.
Scales scales_minimum(uint words, uint block)
{
    uint factors = block_bytes(words, block);
    vec2 both = super_scales(words, block) * vec2(factors & 255u, factors >> 8);
    return Scales(both.xx, both.yy);
}

// A signed factor for each 16 weights.
Scales scales_halves(uint words, uint block)
{
    int factors = int(block_bytes(words, block));
    return Scales(super_scales(words, block).x * vec2(factors << 24 >> 24, factors << 16 >> 24), vec2(0.0));
}
