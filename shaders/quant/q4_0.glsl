// Q4_0: 32 nibbles less 8 and one f16 scale. One part: weight i < 16 is the low nibble of byte i,
// weight 16 + i the high one.
#define PARTS     1
#define HAS_SCALE 1
vec4 part_quad(uvec4 part, uint j)
{
    uint q = part[j & 3u] >> ((j >> 2) * 4u);
    return vec4(int(q & 15u), int(q >> 8 & 15u), int(q >> 16 & 15u), int(q >> 24 & 15u)) - 8.0;
}

#define INT_QUADS  8
#define INT_OFFSET 8.0
int part_ints(uvec4 part, uint j)
{
    return int(part[j & 3u] >> ((j >> 2) * 4u) & 0x0f0f0f0fu);
}
