#include "model/rope.h"

#include "gguf/quote.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PI 3.14159265358979323846

/* ---- Metadata ---- */

typedef struct {
    const vly_gguf *gguf;
    const char *prefix;
    vly_error *err;
    char key[128];
} source;

static const char *key_of(source *s, const char *suffix)
{
    snprintf(s->key, sizeof s->key, "%s.rope.%s", s->prefix, suffix);
    return s->key;
}

/* A number in [min, max]; a missing one leaves *out as it is. */
static int read_number(source *s, const char *suffix, float min, float max, float *out)
{
    float value;
    int rc = vly_gguf_f32_or(s->gguf, key_of(s, suffix), *out, &value, s->err);
    if (rc) return rc;
    if (!(value >= min && value <= max))
        return vly_fail(s->err, VLY_E_FORMAT, "%s: %s is %g; expected %g to %g",
                        vly_gguf_path(s->gguf), s->key, (double)value, (double)min, (double)max);
    *out = value;
    return 0;
}

static int read_scaling(source *s, vly_rope_scaling *out)
{
    static const struct {
        const char *name;
        vly_rope_scaling scaling;
    } names[] = {{"none", VLY_ROPE_SCALING_NONE},
                 {"linear", VLY_ROPE_SCALING_LINEAR},
                 {"yarn", VLY_ROPE_SCALING_YARN},
                 {"llama3", VLY_ROPE_SCALING_LLAMA3}};
    vly_bytes name;
    /* Older files have a factor without a type, and mean positions. */
    int rc = vly_gguf_string_or(s->gguf, key_of(s, "scaling.type"), "linear", &name, s->err);
    if (rc) return rc;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (name.len == strlen(names[i].name) && memcmp(name.data, names[i].name, name.len) == 0) {
            *out = names[i].scaling;
            return 0;
        }
    return vly_fail(s->err, VLY_E_UNSUPPORTED,
                    "%s: %s is %s; expected 'none', 'linear', 'yarn' or 'llama3'",
                    vly_gguf_path(s->gguf), s->key, vly_quote(name).text);
}

/* How much longer vectors get at a factor: Peng et al., section 3.4. */
static float yarn_magnitude(float factor, float weight)
{
    return factor <= 1.0f ? 1.0f : 0.1f * weight * logf(factor) + 1.0f;
}

static int read_yarn(source *s, vly_rope *r)
{
    float attention_yarn = 1, log_multiplier = 0;
    r->ramp = 1;
    r->beta_fast = 32;
    r->beta_slow = 1;
    int rc;
    if ((rc = read_number(s, "scaling.yarn_attn_factor", 0, 1e6f, &attention_yarn)) ||
        (rc = read_number(s, "scaling.yarn_ext_factor", 0, 1, &r->ramp)) ||
        (rc = read_number(s, "scaling.yarn_log_multiplier", 0, 1e6f, &log_multiplier)) ||
        (rc = read_number(s, "scaling.yarn_beta_fast", 1e-3f, 1e6f, &r->beta_fast)) ||
        (rc = read_number(s, "scaling.yarn_beta_slow", 1e-3f, 1e6f, &r->beta_slow)))
        return rc;
    r->magnitude *= attention_yarn;
    if (r->ramp > 0) r->magnitude *= yarn_magnitude(r->factor, 1);
    if (r->ramp > 0 && log_multiplier > 0)
        r->magnitude /= yarn_magnitude(r->factor, log_multiplier);
    return 0;
}

static int read_llama3(source *s, vly_rope *r)
{
    r->low_freq_factor = 1;
    r->high_freq_factor = 4;
    int rc = read_number(s, "scaling.low_freq_factor", 1e-3f, 1e6f, &r->low_freq_factor);
    if (rc == 0) rc = read_number(s, "scaling.high_freq_factor", 1e-3f, 1e6f, &r->high_freq_factor);
    if (rc == 0 && r->high_freq_factor <= r->low_freq_factor)
        return vly_fail(s->err, VLY_E_FORMAT,
                        "%s: %s is %g; expected more than low_freq_factor, %g",
                        vly_gguf_path(s->gguf), s->key, (double)r->high_freq_factor,
                        (double)r->low_freq_factor);
    return rc;
}

int vly_rope_read(const vly_gguf *gguf, const char *prefix, vly_rope_kind kind, uint32_t head_size,
                  uint32_t n_ctx, vly_rope *out, vly_error *err)
{
    source s = {.gguf = gguf, .prefix = prefix, .err = err};
    *out = (vly_rope){.kind = kind,
                      .head_size = head_size,
                      .head_dim = (head_size + 15) / 16 * 16,
                      .base = 10000,
                      .factor = 1,
                      .magnitude = 1};
    int rc;
    if ((rc =
             vly_gguf_u32_or(gguf, key_of(&s, "dimension_count"), head_size, &out->n_rotated, err)))
        return rc;
    if (out->n_rotated == 0 || out->n_rotated > head_size || out->n_rotated % 2)
        return vly_fail(err, VLY_E_FORMAT,
                        "%s: %s is %u; expected an even number, at most the head size of %u",
                        vly_gguf_path(gguf), s.key, out->n_rotated, head_size);
    if ((rc = read_number(&s, "freq_base", 1, 1e30f, &out->base)) ||
        (rc = read_scaling(&s, &out->scaling)) ||
        (rc = read_number(&s, "scale_linear", 1e-3f, 1e6f, &out->factor)) ||
        (rc = read_number(&s, "scaling.factor", 1e-3f, 1e6f, &out->factor)) ||
        (rc = read_number(&s, "scaling.attn_factor", 0, 1e6f, &out->magnitude)) ||
        (rc = vly_gguf_u32_or(gguf, key_of(&s, "scaling.original_context_length"), n_ctx,
                              &out->n_ctx_original, err)))
        return rc;
    if (out->n_ctx_original == 0 || out->n_ctx_original > 1u << 24)
        return vly_fail(err, VLY_E_FORMAT, "%s: %s is %u; expected 1 to %u", vly_gguf_path(gguf),
                        s.key, out->n_ctx_original, 1u << 24);
    if (out->scaling == VLY_ROPE_SCALING_YARN) return read_yarn(&s, out);
    return out->scaling == VLY_ROPE_SCALING_LLAMA3 ? read_llama3(&s, out) : 0;
}

/* ---- Frequencies ---- */

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* The pair that turns `turns` times within the original context. */
static double yarn_pair(const vly_rope *r, double turns)
{
    return r->n_rotated * log(r->n_ctx_original / (turns * 2 * PI)) / (2 * log((double)r->base));
}

/* Slow pairs are interpolated, fast ones left alone, those between are mixed. */
static double yarn(const vly_rope *r, uint32_t i, double frequency)
{
    double low = fmax(0, floor(yarn_pair(r, (double)r->beta_fast)));
    double high = fmin(r->n_rotated - 1, ceil(yarn_pair(r, (double)r->beta_slow)));
    double slow = clamp((i - low) / fmax(0.001, high - low), 0, 1);
    double alone = (1 - slow) * (double)r->ramp;
    return frequency / (double)r->factor * (1 - alone) + frequency * alone;
}

static double llama3(const vly_rope *r, double frequency)
{
    double low = (double)r->low_freq_factor, high = (double)r->high_freq_factor;
    double turns = r->n_ctx_original * frequency / (2 * PI);
    double fast = clamp((turns - low) / (high - low), 0, 1);
    return frequency / (double)r->factor * (1 - fast) + frequency * fast;
}

void vly_rope_frequencies(const vly_rope *r, const float *divisors, double *out)
{
    for (uint32_t i = 0; i < r->n_rotated / 2; i++) {
        double frequency = pow((double)r->base, -2.0 * i / r->n_rotated);
        if (divisors) frequency /= (double)divisors[i];
        switch (r->scaling) {
        case VLY_ROPE_SCALING_NONE:
            break;
        case VLY_ROPE_SCALING_LINEAR:
            frequency /= (double)r->factor;
            break;
        case VLY_ROPE_SCALING_YARN:
            frequency = yarn(r, i, frequency);
            break;
        case VLY_ROPE_SCALING_LLAMA3:
            frequency = llama3(r, frequency);
        }
        out[i] = frequency;
    }
}

void vly_rope_row(const vly_rope *r, const double *frequencies, uint32_t pos, float *out)
{
    double longer = sqrt(sqrt((double)r->head_dim / r->head_size)); /* of Q and of K */
    for (uint32_t i = 0; i < r->head_dim / 2; i++) {
        bool rotated = i < r->n_rotated / 2;
        double angle = rotated ? pos * frequencies[i] : 0;
        double magnitude = rotated ? longer * (double)r->magnitude : longer;
        *out++ = (float)(cos(angle) * magnitude);
        *out++ = (float)(sin(angle) * magnitude);
    }
}

uint32_t vly_rope_source(const vly_rope *r, uint32_t i)
{
    if (r->kind == VLY_ROPE_PAIRS || i >= r->n_rotated) return i;
    return i % 2 * (r->n_rotated / 2) + i / 2;
}
