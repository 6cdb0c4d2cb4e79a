// Q8_0: 32 int8 and one f16 scale. Parts: weights 0..15, 16..31, in order.
#define PARTS     2
#define HAS_SCALE 1
vec4 part_quad(uvec4 part, uint j)
{
    int q = int(part[j]);
    return vec4(q << 24 >> 24, q << 16 >> 24, q << 8 >> 24, q >> 24);
}

#define INT_QUADS  4
#define INT_OFFSET 0.0
int part_ints(uvec4 part, uint j)
{
    return int(part[j]);
}
