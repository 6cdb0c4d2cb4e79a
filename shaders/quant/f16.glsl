// F16: a part is 8 halves.
#define LOW_BITS 16
vec4 part_floats(uvec4 low, uint j)
{
    return vec4(unpackHalf2x16(low[2u * j]), unpackHalf2x16(low[2u * j + 1u]));
}
