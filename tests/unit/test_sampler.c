/* The sampler: ranges, penalties, filters against a plain restatement, and that picks under keyed
 * noise are samples of the filtered softmax, position by position. */
#include "sample/sampler.h"
#include "tests/support/chi_square.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static vly_sampling plain(float temperature)
{
    vly_sampling sampling = vly_sampling_default();
    sampling.temperature = temperature;
    sampling.top_p = 1.0f;
    return sampling;
}

static uint32_t pick(const vly_sampling *sampling, const float *logits, uint32_t n, uint32_t pos)
{
    uint32_t id = UINT32_MAX;
    vly_error err;
    float *scratch = malloc(2 * n * sizeof *scratch);
    assert_non_null(scratch);
    if (vly_sample_pick(sampling, logits, n, pos, NULL, scratch, &id, &err))
        fail_msg("%s", err.message);
    free(scratch);
    assert_true(id < n);
    return id;
}

static float threshold(const vly_sampling *sampling, const float *logits, uint32_t n)
{
    float *scratch = malloc(2 * n * sizeof *scratch);
    assert_non_null(scratch);
    float low = vly_sample_threshold(sampling, logits, n, scratch);
    free(scratch);
    return low;
}

/* Numbers for rows of logits; splitmix64 of Steele, Lea and Flood, OOPSLA 2014. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static float random_logit(uint64_t *state)
{
    return (float)(next_random(state) >> 40) * 0x1p-20f - 8.0f;
}

/* ---- Ranges ---- */

static void expect_refused(vly_sampling sampling, const char *name)
{
    vly_error err = {0};
    assert_int_equal(vly_sampling_check(&sampling, 100, &err), VLY_E_INVALID);
    assert_int_equal(err.code, VLY_E_INVALID);
    if (!strstr(err.message, name)) fail_msg("'%s' does not name %s", err.message, name);
}

#define REFUSED(field, bad)                                                                        \
    do {                                                                                           \
        vly_sampling s_ = vly_sampling_default();                                                  \
        s_.field = (bad);                                                                          \
        expect_refused(s_, #field);                                                                \
    } while (0)
#define TAKEN(field, good)                                                                         \
    do {                                                                                           \
        vly_sampling s_ = vly_sampling_default();                                                  \
        vly_error err_;                                                                            \
        s_.field = (good);                                                                         \
        assert_int_equal(vly_sampling_check(&s_, 100, &err_), 0);                                  \
    } while (0)

static void test_ranges(void **state)
{
    (void)state;
    vly_sampling sampling = vly_sampling_default();
    vly_error err;
    assert_int_equal(vly_sampling_check(&sampling, 100, &err), 0);
    assert_true(sampling.temperature == 0.7f && sampling.top_p == 0.95f);
    assert_true(sampling.top_k == 0 && sampling.min_p == 0.0f);
    assert_false(vly_sampling_needs_host(&sampling));

    REFUSED(temperature, -0.1f);
    REFUSED(temperature, 100.5f);
    REFUSED(temperature, NAN);
    TAKEN(temperature, 0.0f);
    TAKEN(temperature, 100.0f);
    REFUSED(top_p, 0.0f);
    REFUSED(top_p, 1.01f);
    REFUSED(top_p, NAN);
    TAKEN(top_p, 1.0f);
    TAKEN(top_p, 1e-6f);
    REFUSED(min_p, -0.01f);
    REFUSED(min_p, 1.01f);
    REFUSED(min_p, NAN);
    TAKEN(min_p, 1.0f);
    TAKEN(top_k, UINT32_MAX);
    REFUSED(repeat_penalty, 0.0f);
    REFUSED(repeat_penalty, -1.0f);
    REFUSED(repeat_penalty, INFINITY);
    REFUSED(repeat_penalty, NAN);
    TAKEN(repeat_penalty, 1.3f);
    REFUSED(presence_penalty, 101.0f);
    REFUSED(presence_penalty, NAN);
    TAKEN(presence_penalty, -2.0f);
    REFUSED(frequency_penalty, -INFINITY);
    REFUSED(frequency_penalty, NAN);
    TAKEN(frequency_penalty, 2.0f);
    TAKEN(penalty_last_n, UINT32_MAX);
}

static void test_bias_ranges(void **state)
{
    (void)state;
    vly_logit_bias bias[2] = {{99, 1.0f}, {100, 1.0f}};
    vly_sampling sampling = vly_sampling_default();
    vly_error err;
    sampling.bias = bias;
    sampling.n_bias = 1;
    assert_int_equal(vly_sampling_check(&sampling, 100, &err), 0);
    sampling.n_bias = 2;
    expect_refused(sampling, "logit bias");
    bias[1] = (vly_logit_bias){3, -INFINITY};
    assert_int_equal(vly_sampling_check(&sampling, 100, &err), 0);
    bias[1].bias = INFINITY;
    expect_refused(sampling, "token 3");
    bias[1].bias = NAN;
    expect_refused(sampling, "token 3");
    sampling.bias = NULL;
    expect_refused(sampling, "bias");
}

static void test_needs_host(void **state)
{
    (void)state;
    vly_logit_bias bias = {1, 1.0f};
    vly_sampling sampling = vly_sampling_default();
    sampling.repeat_penalty = 1.1f;
    assert_false(vly_sampling_needs_host(&sampling)); /* over the last 0 tokens */
    sampling.penalty_last_n = 64;
    assert_true(vly_sampling_needs_host(&sampling));
    sampling.repeat_penalty = 1.0f;
    assert_false(vly_sampling_needs_host(&sampling));
    sampling.presence_penalty = 0.5f;
    assert_true(vly_sampling_needs_host(&sampling));
    sampling.presence_penalty = 0.0f;
    sampling.frequency_penalty = -0.5f;
    assert_true(vly_sampling_needs_host(&sampling));
    sampling.frequency_penalty = 0.0f;
    sampling.bias = &bias;
    sampling.n_bias = 1;
    assert_true(vly_sampling_needs_host(&sampling));
}

/* ---- Penalties and bias ---- */

static void expect_logits(const float *logits, const float *expected, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (logits[i] != expected[i])
            fail_msg("logit %u is %g, not %g", i, (double)logits[i], (double)expected[i]);
}

static void test_penalties(void **state)
{
    (void)state;
    const uint32_t history[] = {4, 0, 1, 1, 1, 2, 99};
    const float logits[] = {2.0f, 3.0f, -2.0f, 1.0f, 8.0f};
    vly_sampling sampling = plain(1.0f);
    float row[5];

    sampling.repeat_penalty = 2.0f;
    sampling.penalty_last_n = UINT32_MAX;
    memcpy(row, logits, sizeof row);
    vly_sample_adjust(&sampling, history, 7, row, 5);
    expect_logits(row, (const float[]){1.0f, 1.5f, -4.0f, 1.0f, 4.0f}, 5);

    /* Only the last 5: tokens 1, 1, 1, 2 and one that the row does not have. */
    sampling.penalty_last_n = 5;
    sampling.presence_penalty = 0.25f;
    sampling.frequency_penalty = 0.5f;
    memcpy(row, logits, sizeof row);
    vly_sample_adjust(&sampling, history, 7, row, 5);
    expect_logits(row, (const float[]){2.0f, 1.5f - 0.25f - 1.5f, -4.75f, 1.0f, 8.0f}, 5);

    sampling.penalty_last_n = 0;
    memcpy(row, logits, sizeof row);
    vly_sample_adjust(&sampling, history, 7, row, 5);
    expect_logits(row, logits, 5);

    sampling.penalty_last_n = 100;
    vly_sample_adjust(&sampling, NULL, 0, row, 5);
    expect_logits(row, logits, 5);
}

static void test_bias(void **state)
{
    (void)state;
    const vly_logit_bias bias[] = {{1, 2.5f}, {3, -INFINITY}, {1, 0.5f}};
    const uint32_t history[] = {1};
    vly_sampling sampling = plain(0.0f);
    float row[] = {2.0f, 4.0f, -1.0f, 9.0f};
    sampling.bias = bias;
    sampling.n_bias = 3;
    sampling.repeat_penalty = 4.0f;
    sampling.penalty_last_n = 1;
    vly_sample_adjust(&sampling, history, 1, row, 4);
    expect_logits(row, (const float[]){2.0f, 4.0f, -1.0f, -INFINITY}, 4);
    sampling.temperature = 1.0f;
    for (uint32_t pos = 0; pos < 2000; pos++) assert_int_not_equal(pick(&sampling, row, 4, pos), 3);
}

/* Vocabularies wider than what one pass over the history looks at. */
static void test_penalties_of_a_wide_vocabulary(void **state)
{
    (void)state;
    enum { N = 200000 };
    float *row = malloc(N * sizeof *row);
    assert_non_null(row);
    for (uint32_t i = 0; i < N; i++) row[i] = 8.0f;
    const uint32_t history[] = {0, 65535, 65536, 131071, 131072, 199999, 65536, 200000, UINT32_MAX};
    vly_sampling sampling = plain(1.0f);
    sampling.repeat_penalty = 2.0f;
    sampling.frequency_penalty = 1.0f;
    sampling.penalty_last_n = UINT32_MAX;
    vly_sample_adjust(&sampling, history, 9, row, N);
    uint32_t n_changed = 0;
    for (uint32_t i = 0; i < N; i++) n_changed += row[i] != 8.0f;
    assert_int_equal(n_changed, 6);
    for (int i = 0; i < 6; i++) {
        float expected = history[i] == 65536 ? 2.0f : 3.0f;
        assert_true(row[history[i]] == expected);
    }
    free(row);
}

/* ---- Filters ---- */

static void test_ties(void **state)
{
    (void)state;
    const float row[] = {1.0f, 3.0f, 0.0f, 3.0f, 3.0f, 1.0f};
    vly_sampling sampling = plain(0.0f);
    assert_int_equal(pick(&sampling, row, 6, 7), 1);
    assert_true(threshold(&sampling, row, 6) == 3.0f);

    /* The k-th, and the last that top-p needs, take those that tie with them along. */
    sampling = plain(1.0f);
    for (uint32_t k = 1; k <= 3; k++) {
        sampling.top_k = k;
        assert_true(threshold(&sampling, row, 6) == 3.0f);
    }
    for (uint32_t k = 4; k <= 5; k++) {
        sampling.top_k = k;
        assert_true(threshold(&sampling, row, 6) == 1.0f);
    }
    for (uint32_t k = 6; k <= 8; k++) {
        sampling.top_k = k;
        assert_true(threshold(&sampling, row, 6) == 0.0f);
    }
    sampling = plain(1.0f);
    sampling.top_p = 0.01f;
    assert_true(threshold(&sampling, row, 6) == 3.0f);
    sampling = plain(1.0f);
    sampling.min_p = 1.0f;
    assert_true(threshold(&sampling, row, 6) == 3.0f);
    sampling = plain(1.0f);
    assert_true(threshold(&sampling, row, 6) == 0.0f);

    /* Equal logits, and so equal chances: all three are picked. */
    sampling.top_k = 1;
    bool seen[6] = {0};
    for (uint32_t pos = 0; pos < 200; pos++) seen[pick(&sampling, row, 6, pos)] = true;
    for (int i = 0; i < 6; i++) assert_int_equal(seen[i], row[i] == 3.0f);
}

/* Probabilities 0.4, 0.3, 0.2, 0.1 at temperature 1. */
static void test_borders(void **state)
{
    (void)state;
    const float row[] = {logf(0.2f), logf(0.4f), logf(0.1f), logf(0.3f), -INFINITY, NAN};
    const struct {
        uint32_t top_k;
        float top_p, min_p, expected;
    } cases[] = {
        {0, 0.39f, 0.0f, 0.4f},  {0, 0.41f, 0.0f, 0.3f}, {0, 0.69f, 0.0f, 0.3f},
        {0, 0.71f, 0.0f, 0.2f},  {0, 0.89f, 0.0f, 0.2f}, {0, 0.91f, 0.0f, 0.1f},
        {0, 1.0f, 0.24f, 0.1f},  {0, 1.0f, 0.26f, 0.2f}, {0, 1.0f, 0.74f, 0.3f},
        {0, 1.0f, 0.76f, 0.4f},  {2, 1.0f, 0.0f, 0.3f},  {3, 1.0f, 0.0f, 0.2f},
        {2, 0.56f, 0.0f, 0.4f}, /* 0.4 / 0.7 = 0.571: renormalised over what top-k left */
        {2, 0.58f, 0.0f, 0.3f},  {3, 0.43f, 0.0f, 0.4f}, {3, 0.45f, 0.0f, 0.3f},
        {0, 0.91f, 0.51f, 0.3f}, {3, 0.9f, 0.74f, 0.3f}, {1, 0.99f, 0.01f, 0.4f},
        {4, 1.0f, 0.0f, 0.1f},   {5, 1.0f, 0.0f, 0.1f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_sampling sampling = plain(1.0f);
        sampling.top_k = cases[i].top_k;
        sampling.top_p = cases[i].top_p;
        sampling.min_p = cases[i].min_p;
        float low = threshold(&sampling, row, 6);
        if (low != logf(cases[i].expected))
            fail_msg("case %zu: %g, not %g", i, (double)expf(low), (double)cases[i].expected);
    }
}

/* The threshold of `sampling`, restated: which tokens stay, decided token by token, in double. */
static float plain_threshold(const vly_sampling *sampling, const float *row, uint32_t n)
{
    float high = -INFINITY, low = INFINITY;
    bool *stays = malloc(n);
    assert_non_null(stays);
    for (uint32_t i = 0; i < n; i++) high = fmaxf(high, row[i]);
    double total = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t above = 0;
        for (uint32_t j = 0; j < n; j++) above += row[j] > row[i];
        stays[i] = sampling->top_k == 0 || above < sampling->top_k;
        if (stays[i]) total += exp((double)(row[i] - high) / (double)sampling->temperature);
    }
    for (uint32_t i = 0; i < n; i++) {
        double above = 0.0;
        for (uint32_t j = 0; j < n; j++)
            if (stays[j] && row[j] > row[i])
                above += exp((double)(row[j] - high) / (double)sampling->temperature);
        bool in =
            stays[i] && (sampling->top_p >= 1.0f || above < (double)sampling->top_p * total) &&
            exp((double)(row[i] - high) / (double)sampling->temperature) >= (double)sampling->min_p;
        if (in) low = fminf(low, row[i]);
    }
    free(stays);
    return low;
}

static void test_filters_against_restatement(void **state)
{
    (void)state;
    enum { N = 331 };
    const uint32_t ks[] = {0, 1, 2, 40, 330, 331, 1000};
    const float ps[] = {1.0f, 0.95f, 0.5f, 0.01f}, min_ps[] = {0.0f, 0.05f, 0.6f},
                temperatures[] = {0.3f, 1.0f, 5.0f};
    uint64_t random = 11;
    float row[N];
    for (uint32_t i = 0; i < 7 * 4 * 3 * 3; i++) {
        for (uint32_t j = 0; j < N; j++) {
            row[j] = random_logit(&random);
            if (i % 2) row[j] = floorf(row[j] * 4.0f) / 4.0f; /* with many ties */
        }
        vly_sampling sampling = plain(temperatures[i / 84]);
        sampling.top_k = ks[i % 7];
        sampling.top_p = ps[i / 7 % 4];
        sampling.min_p = min_ps[i / 28 % 3];
        float low = threshold(&sampling, row, N), expected = plain_threshold(&sampling, row, N);
        if (low != expected)
            fail_msg("k %u, p %g, min-p %g, T %g: %g, not %g", sampling.top_k,
                     (double)sampling.top_p, (double)sampling.min_p, (double)sampling.temperature,
                     (double)low, (double)expected);
    }
}

static void test_rows_that_are_no_numbers(void **state)
{
    (void)state;
    vly_error err;
    uint32_t id;
    float scratch[2 * 3];
    const float none[] = {-INFINITY, NAN, -INFINITY}, one[] = {NAN, -INFINITY, -3.0f, NAN},
                infinite[] = {1.0f, INFINITY, INFINITY};
    for (int t = 0; t < 2; t++) {
        vly_sampling sampling = plain((float)t);
        sampling.top_p = 0.9f;
        sampling.top_k = 2;
        assert_int_equal(vly_sample_pick(&sampling, none, 3, 0, NULL, scratch, &id, &err),
                         VLY_E_INVALID);
        assert_int_equal(pick(&sampling, one, 4, 5), 2);
        assert_int_equal(pick(&sampling, infinite, 3, 5), 1);
    }
}

/* ---- The distribution of picks ---- */

static void expect_frequencies(const uint32_t *counts, const double *probability, uint32_t n,
                               uint32_t n_picks, const char *what)
{
    double excess = chi_square_excess(counts, probability, n, n_picks);
    if (excess > 1.0) fail_msg("%s: chi-square is %.2f of what it may be", what, excess);
}

enum { N_ROW = 24, N_PICKS = 30000 };

/* What is picked of a row at 30000 positions (`by_seed`: of one position under as many seeds) is
 * distributed as the softmax over what the filters leave. */
static void check_distribution(const vly_sampling *sampling, bool by_seed)
{
    float row[N_ROW];
    for (int i = 0; i < N_ROW; i++) row[i] = 2.5f * sinf((float)(7 * i + 1));
    float low = threshold(sampling, row, N_ROW);
    double probability[N_ROW], total = 0.0;
    for (int i = 0; i < N_ROW; i++) {
        probability[i] = row[i] >= low ? exp((double)row[i] / (double)sampling->temperature) : 0.0;
        total += probability[i];
    }
    for (int i = 0; i < N_ROW; i++) probability[i] /= total;
    uint32_t counts[N_ROW] = {0};
    vly_sampling how = *sampling;
    for (uint32_t i = 0; i < N_PICKS; i++) {
        if (by_seed) how.seed = sampling->seed + i;
        counts[pick(&how, row, N_ROW, by_seed ? 12 : i)]++;
    }
    char what[128];
    snprintf(what, sizeof what, "T %g, k %u, p %g, min-p %g, seed %llx%s",
             (double)sampling->temperature, sampling->top_k, (double)sampling->top_p,
             (double)sampling->min_p, (unsigned long long)sampling->seed, by_seed ? " and on" : "");
    expect_frequencies(counts, probability, N_ROW, N_PICKS, what);
}

static void test_picks_follow_the_softmax(void **state)
{
    (void)state;
    const uint64_t seeds[] = {0, 42, UINT64_C(0xfeedface00000000)};
    for (int s = 0; s < 3; s++) {
        vly_sampling sampling = plain(1.0f);
        sampling.seed = seeds[s];
        check_distribution(&sampling, s == 1);
        sampling.temperature = 1.7f;
        check_distribution(&sampling, s == 2);
        sampling.temperature = 1.0f;
        sampling.top_k = 5;
        check_distribution(&sampling, false);
        sampling.top_p = 0.6f;
        check_distribution(&sampling, false);
        sampling.top_k = 0;
        check_distribution(&sampling, true);
        sampling.top_p = 1.0f;
        sampling.min_p = 0.3f;
        check_distribution(&sampling, false);
    }
}

/* Penalties and bias, restated from their meaning, and then a filter. */
static void test_picks_follow_penalties_and_bias(void **state)
{
    (void)state;
    enum { N = 8 };
    const float logits[N] = {1.2f, 0.8f, -0.4f, 0.3f, 2.0f, -1.0f, 0.0f, 1.0f};
    const uint32_t history[] = {4, 1, 4, 2, 7, 4}, count[N] = {0, 1, 1, 0, 3, 0, 0, 1};
    const vly_logit_bias bias[] = {{3, 0.9f}, {7, -INFINITY}, {4, 0.5f}};
    const double added[N] = {[3] = 0.9, [4] = 0.5, [7] = -INFINITY};
    vly_sampling sampling = plain(0.9f);
    sampling.repeat_penalty = 1.3f;
    sampling.presence_penalty = 0.2f;
    sampling.frequency_penalty = 0.1f;
    sampling.penalty_last_n = 6;
    sampling.bias = bias;
    sampling.n_bias = 3;
    sampling.top_k = 6; /* all but the forbidden one and the least */
    float row[N];
    memcpy(row, logits, sizeof row);
    vly_sample_adjust(&sampling, history, 6, row, N);
    double probability[N], unadjusted[N], total = 0.0, other = 0.0;
    for (int i = 0; i < N; i++) {
        double l = (double)logits[i];
        if (count[i]) l = (l > 0 ? l / 1.3 : l * 1.3) - 0.2 - 0.1 * count[i];
        total += probability[i] = i == 5 ? 0.0 : exp((l + added[i]) / 0.9);
        other += unadjusted[i] = exp((double)logits[i] / 0.9);
    }
    uint32_t counts[N] = {0};
    for (uint32_t i = 0; i < N_PICKS; i++) counts[pick(&sampling, row, N, i)]++;
    for (int i = 0; i < N; i++) probability[i] /= total, unadjusted[i] /= other;
    expect_frequencies(counts, probability, N, N_PICKS, "penalties and bias");
    assert_true(chi_square_excess(counts, unadjusted, N, N_PICKS) > 1.0);
}

/* Picks at two positions, or under two seeds, tell nothing of each other: the table of both is the
 * product of its margins. */
static void test_positions_and_seeds_are_independent(void **state)
{
    (void)state;
    enum { N = 4 };
    const float row[N] = {0.0f, 0.5f, -0.5f, 0.2f};
    double probability[N], total = 0.0, both[N * N];
    for (int i = 0; i < N; i++) total += exp((double)row[i]);
    for (int i = 0; i < N; i++) probability[i] = exp((double)row[i]) / total;
    for (int i = 0; i < N * N; i++) both[i] = probability[i / N] * probability[i % N];
    const struct {
        uint32_t pos;
        uint64_t seed;
        const char *what;
    } others[] = {
        {1, 0, "neighbouring positions"},
        {2, 0, "positions two apart"},
        {1024, 0, "positions 1024 apart"},
        {0, 1, "neighbouring seeds"},
        {0, UINT64_C(1) << 32, "seeds that differ in the upper half"},
        {0, UINT64_C(1) << 63, "seeds that differ in the last bit"},
    };
    for (size_t o = 0; o < sizeof others / sizeof *others; o++) {
        uint32_t counts[N * N] = {0};
        vly_sampling one = plain(1.0f), two = plain(1.0f);
        one.seed = 5;
        two.seed = 5 ^ others[o].seed;
        for (uint32_t i = 0; i < N_PICKS; i++)
            counts[pick(&one, row, N, 4 * i) * N + pick(&two, row, N, 4 * i + others[o].pos)]++;
        expect_frequencies(counts, both, N * N, N_PICKS, others[o].what);
    }
}

/* Gumbel: mean 0.5772, variance pi^2 / 6, and always a number. */
static void test_noise(void **state)
{
    (void)state;
    double sum = 0.0, squares = 0.0;
    enum { N = 400000 };
    for (uint32_t i = 0; i < N; i++) {
        float g = vly_noise_gumbel(i / 1000, i % 1000, i);
        assert_true(g > -3.3f && g < 22.9f);
        sum += (double)g;
        squares += (double)g * (double)g;
    }
    double mean = sum / N, variance = squares / N - mean * mean;
    /* Four standard errors: sd / sqrt(N), and of the variance sqrt((kurtosis - 1) / N) variance. */
    assert_true(fabs(mean - 0.577216) < 4.0 * 1.2825 / sqrt(N));
    assert_true(fabs(variance - 1.644934) < 4.0 * 1.644934 * sqrt(4.4 / N));
}

/* The key is the token, not the row: a head of other rows picks the same token. */
static void test_row_keys(void **state)
{
    (void)state;
    enum { N = 50 };
    float row[N], turned[N], scratch[2 * N];
    uint32_t key[N];
    uint64_t random = 3;
    for (uint32_t i = 0; i < N; i++) row[i] = random_logit(&random) / 4.0f;
    for (uint32_t i = 0; i < N; i++) {
        key[i] = (i * 7 + 3) % N;
        turned[i] = row[key[i]];
    }
    vly_sampling sampling = plain(1.0f);
    vly_error err;
    uint32_t id, n_moved = 0;
    for (uint32_t pos = 0; pos < 500; pos++) {
        assert_int_equal(vly_sample_pick(&sampling, turned, N, pos, key, scratch, &id, &err), 0);
        uint32_t same = pick(&sampling, row, N, pos);
        assert_int_equal(key[id], same);
        n_moved += id != same;
    }
    assert_true(n_moved > 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_bias_ranges),
        cmocka_unit_test(test_needs_host),
        cmocka_unit_test(test_penalties),
        cmocka_unit_test(test_bias),
        cmocka_unit_test(test_penalties_of_a_wide_vocabulary),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_borders),
        cmocka_unit_test(test_filters_against_restatement),
        cmocka_unit_test(test_rows_that_are_no_numbers),
        cmocka_unit_test(test_picks_follow_the_softmax),
        cmocka_unit_test(test_picks_follow_penalties_and_bias),
        cmocka_unit_test(test_positions_and_seeds_are_independent),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_row_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
