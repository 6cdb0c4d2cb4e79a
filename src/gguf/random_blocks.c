#include "gguf/random_blocks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Blocks by which the values of random bits are measured. */
#define N_SAMPLE 64

/* splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* About normal: a sum of four even numbers of 16 bits. */
static float next_normal(uint64_t *state)
{
    uint64_t bits = next_random(state);
    uint32_t sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    return ((float)sum - 131070.0f) * (VLY_RANDOM_DEVIATION / 37837.0f);
}

static void put_u16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
}

static void fill_floats(const vly_format *format, size_t n, uint8_t *out)
{
    uint64_t state = 1;
    for (size_t i = 0; i < n; i++, out += format->block_bytes) {
        float value = next_normal(&state);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (format->id == VLY_FORMAT_f32)
            memcpy(out, &bits, sizeof bits);
        else
            put_u16(out,
                    format->id == VLY_FORMAT_f16 ? vly_f32_to_f16(value) : (uint16_t)(bits >> 16));
    }
}

/* Gives the blocks their f16 numbers: what weights are multiplied by and, where there are two, what
 * they are moved by. */
static void set_scales(const vly_format *format, float scale, float offset, size_t n_blocks,
                       uint8_t *blocks)
{
    uint8_t *at = blocks + format->scale_at;
    for (size_t i = 0; i < n_blocks; i++, at += format->block_bytes) {
        put_u16(at, vly_f32_to_f16(scale));
        if (format->n_scales == 2) put_u16(at + 2, vly_f32_to_f16(offset));
    }
}

typedef struct {
    double mean, deviation;
} spread;

/* Of the sample's values with these numbers. `values` [N_SAMPLE * block_weights]. */
static spread measure(const vly_format *format, float scale, float offset, uint8_t *sample,
                      float *values)
{
    size_t n = (size_t)N_SAMPLE * format->block_weights;
    set_scales(format, scale, offset, N_SAMPLE, sample);
    format->dequantize(sample, N_SAMPLE, values);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += (double)values[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    return (spread){mean, sqrt(squares / (double)n)};
}

/* Chooses the numbers so that random bits come to values of mean 0 and the wanted deviation. What
 * they do is measured, not known: value = scale * a + offset * b for some a and b of the bits. */
static int fit(const vly_format *format, uint8_t *sample, float *scale, float *offset,
               vly_error *err)
{
    float *values = malloc((size_t)N_SAMPLE * format->block_weights * sizeof *values);
    if (!values) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for random weights");
    *offset = 0;
    if (format->n_scales == 2) {
        double moved = measure(format, 0, 1, sample, values).mean;
        if (moved != 0) *offset = (float)(-measure(format, 1, 0, sample, values).mean / moved);
    }
    double deviation = measure(format, 1, *offset, sample, values).deviation;
    free(values);
    if (!(deviation > 0 && deviation < 1e6))
        return vly_fail(err, VLY_E_UNSUPPORTED, "random blocks of %s have no usable values",
                        format->name);
    *scale = (float)((double)VLY_RANDOM_DEVIATION / deviation);
    *offset *= *scale;
    return 0;
}

int vly_random_blocks(const vly_format *format, size_t n_blocks, uint8_t *out, vly_error *err)
{
    if (!format->dequantize)
        return vly_fail(err, VLY_E_UNSUPPORTED,
                        "Volley does not compute with %s; the formats that work are %s",
                        format->name, vly_format_computable_names());
    if (format->block_weights == 1) {
        fill_floats(format, n_blocks, out);
        return 0;
    }
    if (format->n_scales == 0)
        return vly_fail(err, VLY_E_UNSUPPORTED, "there are no random weights in format %s",
                        format->name);
    size_t n_bytes = n_blocks * format->block_bytes;
    uint64_t state = 1;
    for (size_t i = 0; i < n_bytes; i += 8) {
        uint64_t bits = next_random(&state);
        memcpy(out + i, &bits, n_bytes - i < 8 ? n_bytes - i : 8);
    }
    uint8_t *sample = malloc((size_t)N_SAMPLE * format->block_bytes);
    if (!sample) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for random weights");
    for (size_t i = 0; i < N_SAMPLE; i++)
        memcpy(sample + i * format->block_bytes, out + i % n_blocks * format->block_bytes,
               format->block_bytes);
    float scale = 0, offset = 0;
    int rc = fit(format, sample, &scale, &offset, err);
    free(sample);
    if (rc == 0) set_scales(format, scale, offset, n_blocks, out);
    return rc;
}
