// The layouts of weights in tiles, as src/model/repack_tile.c makes them: what a lane loads of a unit (16
// rows x 64 weights), and how it unpacks the 8 weights that it holds of the t-th 16 x 16 of them: two
// neighbours at a time, k = 0 .. 3: weights 2 j and 2 j + 8 of row g, then of row g + 8.
layout(constant_id = VLY_MATVEC_LAYOUT) const uint LAYOUT = 0;

const bool WITH_MINIMUM = LAYOUT == VLY_TILE_Q4M || LAYOUT == VLY_TILE_Q5M;
const bool WIDE_SCALES = WITH_MINIMUM || LAYOUT == VLY_TILE_Q6;
const uint PLANES = LAYOUT == VLY_TILE_F16 ? 4 : LAYOUT == VLY_TILE_Q8 ? 2 : 1;

struct tile_unit {
    uvec4 main[4]; // the first PLANES of them
    uvec2 high;    // bits above the fourth
    uvec4 scale;   // of row g, of row g + 8
};

uint tiles()
{
    return (p.rows + VLY_TILE_ROWS - 1u) / VLY_TILE_ROWS;
}

void load_unit(uint tile, uint unit, uint units, out tile_unit w)
{
    uint lane = gl_SubgroupInvocationID, at = tile * units + unit, all = tiles() * units;
    [[unroll]] for (uint i = 0; i < PLANES; i++) w.main[i] = p.weights.at[(at * PLANES + i) * 32u + lane];
    if (LAYOUT == VLY_TILE_Q6)
        w.high = RefU2(uvec2(p.weights)).at[all * 64u + at * 32u + lane];
    else if (LAYOUT == VLY_TILE_Q5 || LAYOUT == VLY_TILE_Q5M)
        w.high.x = RefU1(uvec2(p.weights)).at[all * 128u + at * 32u + lane];
    if (WIDE_SCALES)
        w.scale = RefU4(uvec2(p.scales)).at[at * 8u + lane / 4u];
    else if (LAYOUT != VLY_TILE_F16)
        w.scale.xy = RefU2(uvec2(p.scales)).at[at * 8u + lane / 4u];
}

// What the sums of a row pair are multiplied by: its scales were divided by these powers of two.
vec2 row_factors(uint tile, uint pair)
{
    if (LAYOUT == VLY_TILE_F16) return vec2(1.0);
    uint units = (p.blocks + 1u) / 2u;
    return uintBitsToFloat(
        RefU2(uvec2(p.scales)).at[tiles() * units * (WIDE_SCALES ? 16u : 8u) + tile * VLY_TILE_ROWS / 2u + pair]);
}

// Integers of the k-th pair of the t-th 16 x 16, as f16s below the normal ones: the bits alone, worth 2^-24
// times the place at which they lie. What that is less is in the scales.
f16vec2 raw_integers(tile_unit w, uint t, uint k)
{
    if (LAYOUT == VLY_TILE_Q8) return halves(w.main[t / 2][t % 2 * 2 + k / 2] >> (k % 2 * 8) & 0x00ff00ffu);
    uint low = w.main[0][t];
    if (LAYOUT == VLY_TILE_Q4 || LAYOUT == VLY_TILE_Q4M) {
        if (k % 2 != 0) low = low >> 8 | low << 24;
        return halves(low & (k < 2 ? 0x003c003cu : 0x03c003c0u));
    }
    if (k % 2 != 0) low >>= 8;
    low &= k < 2 ? 0x000f000fu : 0x00f000f0u;
    if (LAYOUT == VLY_TILE_Q6) {
        uint n = t % 2 * 2 + k % 2, high = w.high[t / 2];
        high = n < 2 ? high << (4 - 2 * n) : high >> (2 * n);
        return halves(high & (k < 2 ? 0x00300030u : 0x03000300u) | low);
    }
    uint n = t * 2 + k % 2, high = n < 4 ? w.high.x << (4 - n) : w.high.x >> n;
    return halves(high & (k < 2 ? 0x00100010u : 0x01000100u) | low);
}

// Scale, and what is added to the product, of a row (0: g, 1: g + 8) in the t-th 16 x 16.
f16vec2 scale_and_offset(tile_unit w, uint t, uint row)
{
    if (WITH_MINIMUM) return halves(w.scale[row * 2 + t / 2]);
    float16_t scale =
        LAYOUT == VLY_TILE_Q6 ? halves(w.scale[row * 2 + t / 2])[t % 2] : halves(w.scale[row])[t / 2];
    // The middle of the integers, at their place.
    const float16_t middle = LAYOUT == VLY_TILE_Q8   ? -7.62939453125e-6hf                                        // 2^-17
                             : LAYOUT == VLY_TILE_Q5 ? (row == 0 ? -9.5367431640625e-7hf : -1.52587890625e-5hf)   // 2^-20, 2^-16
                                                     : (row == 0 ? -1.9073486328125e-6hf : -3.0517578125e-5hf); // 2^-19, 2^-15
    return f16vec2(scale, scale * middle);
}

void unpack(tile_unit w, uint t, out matrix_w a)
{
    [[unroll]] for (uint row = 0; row < 2; row++) {
        f16vec2 s = LAYOUT == VLY_TILE_F16 ? f16vec2(0.0hf) : scale_and_offset(w, t, row);
        [[unroll]] for (uint i = 0; i < 2; i++) {
            uint k = row * 2 + i;
            f16vec2 v = LAYOUT == VLY_TILE_F16 ? halves(w.main[t][k]) : fma(raw_integers(w, t, k), s.xx, s.yy);
            a[2 * k] = v.x;
            a[2 * k + 1] = v.y;
        }
    }
}
