// A block format, as the kernels see it. A row is a sequence of 16-byte parts; PARTS of them hold 32
// weights in order, so part p of a row holds weights p * 4 * QUADS and on. Each format defines
//   PARTS, HAS_SCALE, and vec4 part_quad(uvec4 part, uint j): weights 4 j .. 4 j + 3 of the part,
// before the block's scale. A format of integers less a constant also defines, for 8-bit dot products,
//   INT_QUADS (quads of a part), INT_OFFSET, and int part_ints(uvec4 part, uint j): the integers of quad j
//   as packed bytes, of which INT_OFFSET is still to be taken.
#if defined(FORMAT_F32)
#include "quant/f32.glsl"
#elif defined(FORMAT_F16)
#include "quant/f16.glsl"
#elif defined(FORMAT_BF16)
#include "quant/bf16.glsl"
#elif defined(FORMAT_Q8_0)
#include "quant/q8_0.glsl"
#elif defined(FORMAT_Q4_0)
#include "quant/q4_0.glsl"
#endif
#define QUADS (8 / PARTS)

#if HAS_SCALE
float f16_of_word(uint word, uint i)
{
    return unpackHalf2x16((i & 1u) != 0u ? word >> 16 : word).x;
}
#endif
