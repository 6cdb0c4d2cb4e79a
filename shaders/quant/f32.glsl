// F32: a part is 4 floats.
#define PARTS     8
#define HAS_SCALE 0
vec4 part_quad(uvec4 part, uint j)
{
    return uintBitsToFloat(part);
}
