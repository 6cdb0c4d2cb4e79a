// Gumbel noise keyed by (seed, position, target token): -log(-log(u)). With v = 1 - u the exponential
// -log(1 - v) keeps its precision where the noise is large, that is where v is small.
float gumbel(uint seed_lo, uint seed_hi, uint pos, uint id)
{
    precise float v = (float(vly_noise_hash(seed_lo, seed_hi, pos, id)) + 0.5) * 2.3283064365386963e-10;
    v = min(v, 0.99999994);
    precise float e = v < 0.001 ? v * (1.0 + v * (0.5 + v / 3.0)) : -log(1.0 - v);
    return -log(e);
}
