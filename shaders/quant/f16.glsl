// F16: a part is 8 halves.
#define PARTS     4
#define HAS_SCALE 0
vec4 part_quad(uvec4 part, uint j)
{
    return vec4(unpackHalf2x16(part[2u * j]), unpackHalf2x16(part[2u * j + 1u]));
}
