// The values of IQ4_NL and IQ4_XS, -127 to 113, four signed bytes a word.
uint table_value(uint n)
{
    uint low = (n & 4u) != 0u ? 0xf6eaddcfu : 0xbfad9881u, high = (n & 4u) != 0u ? 0x71594535u : 0x26190d01u;
    return ((n & 8u) != 0u ? high : low) >> (n % 4u * 8u) & 255u;
}

uint table_codes(uvec4 low, uvec2 high, uint j)
{
    uint n = plain_codes(low, high, j);
    return table_value(n & 15u) | table_value(n >> 8 & 15u) << 8 | table_value(n >> 16 & 15u) << 16 |
           table_value(n >> 24) << 24;
}
