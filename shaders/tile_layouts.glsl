// The layouts of weights in tiles, as src/model/repack_tile.c makes them: what a lane loads of a unit (16
// rows x 64 weights), and how it unpacks the 8 weights that it holds of the t-th 16 x 16 of them: two
// neighbours at a time, k = 0 .. 3: weights 2 j and 2 j + 8 of row g, then of row g + 8.
layout(constant_id = VLY_MATVEC_LAYOUT) const uint LAYOUT = 0;

#define matrix_w   coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define matrix_x   coopmat<float16_t, gl_ScopeSubgroup, 16, 8, gl_MatrixUseB>
#define matrix_sum coopmat<float, gl_ScopeSubgroup, 16, 8, gl_MatrixUseAccumulator>

const bool K_QUANT = LAYOUT == VLY_TILE_Q4K || LAYOUT == VLY_TILE_Q5K || LAYOUT == VLY_TILE_Q6K;
const uint PLANES = LAYOUT == VLY_TILE_F16 ? 4 : LAYOUT == VLY_TILE_Q8 ? 2 : 1;

struct tile_unit {
    uvec4 main[4]; // the first PLANES of them
    uvec2 high;   // bits above the fourth
    uvec2 scale;  // of row g, of row g + 8
    uvec2 factor; // of the scales
};

f16vec2 halves(uint u)
{
    return unpackFloat2x16(u);
}

uint tiles()
{
    return (p.rows + VLY_TILE_ROWS - 1u) / VLY_TILE_ROWS;
}

void load_unit(uint tile, uint unit, uint units, out tile_unit w)
{
    uint lane = gl_SubgroupInvocationID, at = tile * units + unit, all = tiles() * units;
    [[unroll]] for (uint i = 0; i < PLANES; i++) w.main[i] = p.weights.at[(at * PLANES + i) * 32u + lane];
    if (LAYOUT == VLY_TILE_Q6K)
        w.high = RefU2(uvec2(p.weights)).at[all * 64u + at * 32u + lane];
    else if (LAYOUT == VLY_TILE_Q5 || LAYOUT == VLY_TILE_Q5K)
        w.high.x = RefU1(uvec2(p.weights)).at[all * 128u + at * 32u + lane];
    if (LAYOUT != VLY_TILE_F16) w.scale = RefU2(uvec2(p.scales)).at[at * 8u + lane / 4u];
    if (K_QUANT) w.factor = RefU2(uvec2(p.scales)).at[all * 8u + (tile * (units / 4u) + unit / 4u) * 8u + lane / 4u];
}

// The small integers of two halves as f16s: 1024 + n, exactly, where n has at most 10 bits.
f16vec2 counted(uint bits)
{
    return halves(bits | 0x64006400u);
}

// Integers of the t-th 16 x 16, less what the layout takes from them.
f16vec2 unpack_integers(tile_unit w, uint t, uint k)
{
    if (LAYOUT == VLY_TILE_Q8) {
        uint two = w.main[t / 2][t % 2 * 2 + k / 2] >> (k % 2 * 8);
        return counted(two & 0x00ff00ffu) - f16vec2(1024.0hf + 128.0hf);
    }
    uint low = w.main[0][t];
    if (LAYOUT == VLY_TILE_Q4 || LAYOUT == VLY_TILE_Q4K) {
        const float16_t less = LAYOUT == VLY_TILE_Q4 ? 8.0hf : 0.0hf;
        if (k >= 2) low >>= 8;
        if (k % 2 == 0) return counted(low & 0x000f000fu) - f16vec2(1024.0hf + less);
        return fma(counted(low & 0x00f000f0u), f16vec2(0.0625hf), f16vec2(-64.0hf - less));
    }
    low = low >> (4 * k) & 0x000f000fu;
    if (LAYOUT == VLY_TILE_Q6K) {
        uint i = t % 2 * 4 + k, high = w.high[t / 2];
        high = (i < 2 ? high << (4 - 2 * i) : high >> (2 * i - 4)) & 0x00300030u;
        return counted(low | high) - f16vec2(1024.0hf + 32.0hf);
    }
    uint i = t * 4 + k, high = (i < 4 ? w.high.x << (4 - i) : w.high.x >> (i - 4)) & 0x00100010u;
    return counted(low | high) - f16vec2(LAYOUT == VLY_TILE_Q5 ? 1024.0hf + 16.0hf : 1024.0hf);
}

// Scale, and what is taken from the product, of a row (0: g, 1: g + 8) in the t-th 16 x 16.
f16vec2 scale_and_minimum(tile_unit w, uint t, uint row)
{
    uint word = w.scale[row];
    if (LAYOUT == VLY_TILE_Q4K || LAYOUT == VLY_TILE_Q5K) {
        if (t >= 2) word >>= 6;
        return (counted(word & 0x003f003fu) - f16vec2(1024.0hf)) * halves(w.factor[row]);
    }
    if (LAYOUT == VLY_TILE_Q6K) {
        f16vec2 scale = counted((word >> (8 * t) & 0xffu) * 0x00010001u) - f16vec2(1024.0hf + 128.0hf);
        return scale * halves(w.factor[row]).xx;
    }
    f16vec2 both = halves(word);
    return t < 2 ? both.xx : both.yy;
}

void unpack(tile_unit w, uint t, out matrix_w a)
{
    [[unroll]] for (uint row = 0; row < 2; row++) {
        f16vec2 s = LAYOUT == VLY_TILE_F16 ? f16vec2(0.0hf) : scale_and_minimum(w, t, row);
        [[unroll]] for (uint i = 0; i < 2; i++) {
            uint k = row * 2 + i;
            f16vec2 v;
            if (LAYOUT == VLY_TILE_F16)
                v = halves(w.main[t][k]);
            else if (LAYOUT == VLY_TILE_Q4K || LAYOUT == VLY_TILE_Q5K)
                v = fma(unpack_integers(w, t, k), s.xx, s.yy);
            else
                v = unpack_integers(w, t, k) * s.xx;
            a[2 * k] = v.x;
            a[2 * k + 1] = v.y;
        }
    }
}
