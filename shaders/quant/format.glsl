// A block format, as the kernels see it: blocks of 32 weights, read a part (32 / PARTS of them) at a time.
// src/model/repack.h says how a row lies in memory. A format's file defines
//   LOW_BITS      bits of a weight in its part: 32, 16, 8, 4 or 2
// and where weights are floats (LOW_BITS >= 16)
//   part_floats   vec4 of (low, j): weights 4 j .. 4 j + 3 of a part
// and where they are codes
//   HIGH_BITS     bits above those, in a plane of their own: 0, 1 or 2
//   SCALE_BYTES   for each 32 weights, behind a word for each 256 where
//   SUPER         is 1
//   OFFSET        what is taken from a code: weight = scale * (code - OFFSET) - minimum
//   HAS_MINIMUM   1: there is a minimum, and then no OFFSET
//   HALVES        1: weights 0..15 and 16..31 of a block have scales of their own
//   part_codes    uint of (low, high, j): the codes of weights 4 j .. 4 j + 3 of a part, a byte each, < 128;
//                 with SIGNED_CODES two's complement
//   block_scales  Scales of (words, block): of a row whose scales begin at word `words`
// The functions may be macros that name one of codes.glsl.
#if defined(FORMAT_F32)
#include "quant/f32.glsl"
#elif defined(FORMAT_F16)
#include "quant/f16.glsl"
#elif defined(FORMAT_BF16)
#include "quant/bf16.glsl"
#elif defined(FORMAT_Q4_0)
#include "quant/q4_0.glsl"
#elif defined(FORMAT_Q4_1)
#include "quant/q4_1.glsl"
#elif defined(FORMAT_Q5_0)
#include "quant/q5_0.glsl"
#elif defined(FORMAT_Q5_1)
#include "quant/q5_1.glsl"
#elif defined(FORMAT_Q8_0)
#include "quant/q8_0.glsl"
#elif defined(FORMAT_Q2_K)
#include "quant/q2_k.glsl"
#elif defined(FORMAT_Q3_K)
#include "quant/q3_k.glsl"
#elif defined(FORMAT_Q4_K)
#include "quant/q4_k.glsl"
#elif defined(FORMAT_Q5_K)
#include "quant/q5_k.glsl"
#elif defined(FORMAT_Q6_K)
#include "quant/q6_k.glsl"
#elif defined(FORMAT_IQ4_NL)
#include "quant/iq4_nl.glsl"
#elif defined(FORMAT_IQ4_XS)
#include "quant/iq4_xs.glsl"
#elif defined(FORMAT_IQ3_S)
#include "quant/iq3_s.glsl"
#elif defined(FORMAT_IQ2_XXS)
#include "quant/iq2_xxs.glsl"
#endif

#if LOW_BITS > 4
#define PARTS (LOW_BITS / 4)
#else
#define PARTS 1
#endif
#define QUADS (8 / PARTS)

// A part of a row. Weights of codes are scale * code + least.
struct Weights {
    uvec4 low;
#if LOW_BITS <= 8
    uvec2 high;
    vec2 scale, least; // of weights 0..15 and 16..31
#endif
};

// Where a row's planes begin: (part, word).
uvec2 row_start(uint row)
{
#if LOW_BITS <= 8
    return row * uvec2((p.blocks * (LOW_BITS + HIGH_BITS) + 3u) / 4u,
                       (p.blocks * SCALE_BYTES + p.blocks / 8u * (SUPER * 4u) + 3u) / 4u);
#else
    return uvec2(row * p.blocks * PARTS, 0u);
#endif
}

Weights read_weights(uvec2 start, uint part)
{
    Weights w;
#if LOW_BITS == 2
    w.low = uvec4(READ_WEIGHTS_PAIR(start.x * 2u + part), 0u, 0u);
#else
    w.low = READ_WEIGHTS(start.x + part);
#endif
#if LOW_BITS <= 8
#if HIGH_BITS == 1
    w.high = uvec2(READ_WEIGHTS_WORD(start.x * 4u + p.blocks * LOW_BITS + part), 0u);
#elif HIGH_BITS == 2
    w.high = READ_WEIGHTS_PAIR(start.x * 2u + p.blocks * (LOW_BITS / 2) + part);
#else
    w.high = uvec2(0u);
#endif
    Scales s = block_scales(start.y, part / PARTS);
    w.scale = s.scale;
#if HAS_MINIMUM
    w.least = -s.minimum;
#else
    w.least = s.scale * -float(OFFSET);
#endif
#endif
    return w;
}

// Weights 4 j .. 4 j + 3 of the part.
vec4 weights_quad(Weights w, uint j)
{
#if LOW_BITS > 8
    return part_floats(w.low, j);
#else
    uint q = part_codes(w.low, w.high, j);
    uint half_block = HALVES * (j / 4u);
#if SIGNED_CODES
    int s = int(q);
    precise vec4 weights = vec4(s << 24 >> 24, s << 16 >> 24, s << 8 >> 24, s >> 24) * w.scale[half_block];
#else
    precise vec4 weights = fma(vec4(q & 255u, q >> 8 & 255u, q >> 16 & 255u, q >> 24),
                               vec4(w.scale[half_block]), vec4(w.least[half_block]));
#endif
    return weights;
#endif
}
