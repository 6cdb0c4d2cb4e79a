// F32: a part is 4 floats.
#define LOW_BITS 32
vec4 part_floats(uvec4 low, uint j)
{
    return uintBitsToFloat(low);
}
