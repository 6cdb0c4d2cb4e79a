// BF16: a part is 8 upper halves of floats.
#define PARTS     4
#define HAS_SCALE 0
vec4 part_quad(uvec4 part, uint j)
{
    uint a = part[2u * j], b = part[2u * j + 1u];
    return uintBitsToFloat(uvec4(a << 16, a & 0xffff0000u, b << 16, b & 0xffff0000u));
}
