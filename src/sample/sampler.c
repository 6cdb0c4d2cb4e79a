#include "sample/sampler.h"

#include "shaders/shared.h"

#include <math.h>
#include <string.h>

vly_sampling vly_sampling_default(void)
{
    return (vly_sampling){.temperature = 0.7f, .top_p = 0.95f, .repeat_penalty = 1.0f};
}

int vly_sampling_check(const vly_sampling *sampling, uint32_t n_vocab, vly_error *err)
{
    const struct {
        const char *name, *range;
        float value;
        bool good;
    } checks[] = {
#define CHECK(field, range, condition) {#field, range, sampling->field, condition}
        CHECK(temperature, "0 to 100",
              sampling->temperature >= 0.0f && sampling->temperature <= 100.0f),
        CHECK(top_p, "above 0 and at most 1", sampling->top_p > 0.0f && sampling->top_p <= 1.0f),
        CHECK(min_p, "0 to 1", sampling->min_p >= 0.0f && sampling->min_p <= 1.0f),
        CHECK(repeat_penalty, "above 0 and at most 100",
              sampling->repeat_penalty > 0.0f && sampling->repeat_penalty <= 100.0f),
        CHECK(presence_penalty, "-100 to 100", fabsf(sampling->presence_penalty) <= 100.0f),
        CHECK(frequency_penalty, "-100 to 100", fabsf(sampling->frequency_penalty) <= 100.0f),
#undef CHECK
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (!checks[i].good)
            return vly_fail(err, VLY_E_INVALID, "%s: expected %s, got %g", checks[i].name,
                            checks[i].range, (double)checks[i].value);
    if (sampling->n_bias && !sampling->bias)
        return vly_fail(err, VLY_E_INVALID, "logit bias: expected %u entries, got none",
                        sampling->n_bias);
    for (uint32_t i = 0; i < sampling->n_bias; i++) {
        const vly_logit_bias *bias = &sampling->bias[i];
        if (bias->id >= n_vocab)
            return vly_fail(err, VLY_E_INVALID, "logit bias: expected a token below %u, got %u",
                            n_vocab, bias->id);
        if (isnan(bias->bias) || bias->bias == INFINITY)
            return vly_fail(err, VLY_E_INVALID,
                            "logit bias of token %u: expected a finite number or -inf, got %g",
                            bias->id, (double)bias->bias);
    }
    return 0;
}

static bool penalises(const vly_sampling *sampling)
{
    return sampling->penalty_last_n > 0 &&
           (sampling->repeat_penalty != 1.0f || sampling->presence_penalty != 0.0f ||
            sampling->frequency_penalty != 0.0f);
}

bool vly_sampling_needs_host(const vly_sampling *sampling)
{
    return penalises(sampling) || sampling->n_bias > 0;
}

/* Step for step what shaders/noise.glsl computes; the reasons are there. */
float vly_noise_gumbel(uint64_t seed, uint32_t pos, uint32_t id)
{
    uint32_t hash = vly_noise_hash((uint32_t)seed, (uint32_t)(seed >> 32), pos, id);
    float v = fminf(((float)hash + 0.5f) * 2.3283064365386963e-10f, 0.99999994f);
    float e = v < 0.001f ? v * (1.0f + v * (0.5f + v / 3.0f)) : -logf(1.0f - v);
    return -logf(e);
}

/* Tokens that one pass over the history looks at: a bit each says which it has seen, so that no
 * memory need be asked for. */
#define SLICE 65536u

static void penalise(const vly_sampling *sampling, const uint32_t *history, size_t n, float *logits,
                     uint32_t n_vocab)
{
    for (size_t base = 0; base < n_vocab; base += SLICE) {
        uint32_t len = n_vocab - base < SLICE ? n_vocab - (uint32_t)base : SLICE;
        uint64_t seen[SLICE / 64] = {0};
        for (size_t i = 0; i < n; i++) {
            uint32_t id = history[i] - (uint32_t)base; /* wraps to a large number below the slice */
            if (id >= len) continue;
            float *logit = &logits[base + id];
            uint64_t bit = UINT64_C(1) << (id % 64);
            if (!(seen[id / 64] & bit)) {
                seen[id / 64] |= bit;
                *logit = *logit > 0.0f ? *logit / sampling->repeat_penalty
                                       : *logit * sampling->repeat_penalty;
                *logit -= sampling->presence_penalty;
            }
            *logit -= sampling->frequency_penalty;
        }
    }
}

void vly_sample_adjust(const vly_sampling *sampling, const uint32_t *history, size_t n,
                       float *logits, uint32_t n_vocab)
{
    if (penalises(sampling)) {
        size_t last = n < sampling->penalty_last_n || sampling->penalty_last_n == UINT32_MAX
                          ? n
                          : sampling->penalty_last_n;
        penalise(sampling, history + (n - last), last, logits, n_vocab);
    }
    for (uint32_t i = 0; i < sampling->n_bias; i++)
        if (sampling->bias[i].id < n_vocab) logits[sampling->bias[i].id] += sampling->bias[i].bias;
}

/* The greatest logit and the first row that has it; n_vocab where every logit is NaN or -inf. */
static uint32_t best_row(const float *logits, uint32_t n_vocab, float *high)
{
    uint32_t best = n_vocab;
    *high = -INFINITY;
    for (uint32_t i = 0; i < n_vocab; i++)
        if (logits[i] > *high) {
            *high = logits[i];
            best = i;
        }
    return best;
}

static float probability(float logit, float high, float temperature)
{
    return expf((logit - high) / temperature);
}

/* Sorts `n` numbers, descending, by radix; `spare` [n] is scratch. None is NaN. */
static void sort_descending(float *values, float *spare, size_t n)
{
    enum { BITS = 11, BUCKETS = 1 << BITS };
    for (unsigned shift = 0; shift < 32; shift += BITS) {
        size_t start[BUCKETS + 1] = {0};
        for (int pass = 0; pass < 2; pass++) {
            for (size_t i = 0; i < n; i++) {
                uint32_t bits;
                memcpy(&bits, &values[i], sizeof bits);
                /* Ascending keys of descending floats. */
                uint32_t key = bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
                size_t bucket = key >> shift & (BUCKETS - 1);
                if (pass == 0)
                    start[bucket + 1]++;
                else
                    spare[start[bucket]++] = values[i];
            }
            for (size_t b = 0; pass == 0 && b < BUCKETS; b++) start[b + 1] += start[b];
        }
        memcpy(values, spare, n * sizeof *values);
    }
}

/* How many of `n` sorted logits top-p keeps, ties with the last of them aside. */
static size_t nucleus(const vly_sampling *sampling, const float *sorted, size_t n)
{
    double total = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++)
        total += (double)probability(sorted[i], sorted[0], sampling->temperature);
    size_t kept = 0;
    while (kept < n) {
        sum += (double)probability(sorted[kept++], sorted[0], sampling->temperature);
        if (sum >= (double)sampling->top_p * total) break;
    }
    return kept;
}

float vly_sample_threshold(const vly_sampling *sampling, const float *logits, uint32_t n_vocab,
                           float *scratch)
{
    float high;
    best_row(logits, n_vocab, &high);
    if (sampling->temperature <= 0.0f || isinf(high)) return high;

    /* Every filter leaves the logits above some bound, and no bound depends on min-p, which comes
     * last: the highest bound decides. */
    float floor_ =
        sampling->min_p > 0.0f ? high + sampling->temperature * logf(sampling->min_p) : -INFINITY;
    bool top_k = sampling->top_k > 0 && sampling->top_k < n_vocab, top_p = sampling->top_p < 1.0f;
    if (top_k || top_p) {
        float *sorted = scratch;
        size_t n = 0;
        for (uint32_t i = 0; i < n_vocab; i++)
            if (logits[i] > -INFINITY) sorted[n++] = logits[i];
        sort_descending(sorted, sorted + n_vocab, n);
        if (top_k && sampling->top_k < n) {
            size_t kept = sampling->top_k;
            while (kept < n && sorted[kept] == sorted[sampling->top_k - 1]) kept++;
            n = kept;
        }
        if (top_p) n = nucleus(sampling, sorted, n);
        floor_ = fmaxf(floor_, sorted[n - 1]);
    }
    float least = high;
    for (uint32_t i = 0; i < n_vocab; i++)
        if (logits[i] >= floor_ && logits[i] < least && logits[i] > -INFINITY) least = logits[i];
    return least;
}

int vly_sample_pick(const vly_sampling *sampling, const float *logits, uint32_t n_vocab,
                    uint32_t pos, const uint32_t *row_key, float *scratch, uint32_t *out,
                    vly_error *err)
{
    float high;
    uint32_t best = best_row(logits, n_vocab, &high);
    if (best == n_vocab)
        return vly_fail(err, VLY_E_INVALID,
                        "expected a token that may be picked, but all %u logits are -inf or NaN",
                        n_vocab);
    *out = best;
    if (sampling->temperature <= 0.0f || isinf(high)) return 0;
    const float low = vly_sample_threshold(sampling, logits, n_vocab, scratch);
    float best_score = -INFINITY;
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (!(logits[i] >= low)) continue;
        float score = (logits[i] - high) / sampling->temperature +
                      vly_noise_gumbel(sampling->seed, pos, row_key ? row_key[i] : i);
        if (score > best_score) {
            best_score = score;
            *out = i;
        }
    }
    return 0;
}
