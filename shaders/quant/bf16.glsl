// BF16: a part is 8 upper halves of floats.
#define LOW_BITS 16
vec4 part_floats(uvec4 low, uint j)
{
    uint a = low[2u * j], b = low[2u * j + 1u];
    return uintBitsToFloat(uvec4(a << 16, a & 0xffff0000u, b << 16, b & 0xffff0000u));
}
