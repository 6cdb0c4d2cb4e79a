// Gumbel noise of a hash of (seed, position, target token): -log(-log(u)). With v = 1 - u the exponential
// -log(1 - v) keeps its precision where the noise is large, that is where v is small.
float noise_part(uint hash)
{
    precise float v = (float(hash) + 0.5) * 2.3283064365386963e-10;
    return min(v, 0.99999994);
}

float gumbel(uint hash)
{
    float v = noise_part(hash);
    precise float e = v < 0.001 ? v * (1.0 + v * (0.5 + v / 3.0)) : -log(1.0 - v);
    return -log(e);
}
