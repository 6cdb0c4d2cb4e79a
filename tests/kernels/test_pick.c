/* The picking kernel against src/sample: greedy, every filter, and draft steps. */
#include "sample/sampler.h"
#include "tests/support/chi_square.h"
#include "tests/support/kernel_fixture.h"
#include "tests/support/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NOISE_SHIFT = 1000, N_ROWS = 16 };

/* Rows of logits as a head leaves them, and how each is picked from. */
typedef struct {
    uint32_t n_vocab, block_rows, width, n_rows;
    bool texel;
    float *logits; /* [n_rows][n_vocab] */
    vly_sampling how[N_ROWS];
    uint32_t pos[N_ROWS]; /* of the token whose logits these are */
    struct vly_push_pick push;
} problem;

static uint32_t token_of(uint32_t row)
{
    return (row * 7 + 3) % N_ROWS;
}

static problem problem_make(uint32_t n_vocab, uint32_t block_rows, uint32_t n_rows, bool texel)
{
    problem p = {.n_vocab = n_vocab,
                 .block_rows = block_rows,
                 .width = texel ? 64 : 8 * fixture.lanes,
                 .n_rows = n_rows,
                 .texel = texel};
    p.logits = malloc((size_t)n_rows * n_vocab * sizeof *p.logits);
    assert_non_null(p.logits);
    for (uint32_t r = 0; r < n_rows; r++) {
        p.how[r] = vly_sampling_default();
        p.how[r].top_p = 1.0f;
        p.pos[r] = r * 3 + 5;
    }
    return p;
}

static void problem_free(problem *p)
{
    free(p->logits);
}

/* Writes logits, statistics and the step. */
static void place(problem *p)
{
    uint32_t blocks = (p->n_vocab + p->block_rows - 1) / p->block_rows;
    uint32_t padded = blocks * p->block_rows;
    kernel_fixture_reset();
    kernel_fixture_take(5);
    p->push = (struct vly_push_pick){
        .act = fixture.act.address,
        .step = fixture.step.address,
        .results = fixture.results.address,
        .logits_stride = padded / 4 + 1,
        .stats_stride = blocks / 2 + 1,
        .n_vocab = p->n_vocab,
        .block_rows = p->block_rows,
        .scratch_stride = 2 * p->width * ((blocks + p->width - 1) / p->width) * p->block_rows,
    };
    p->push.logits_quad = kernel_fixture_take((size_t)p->n_rows * p->push.logits_stride);
    p->push.stats_quad = kernel_fixture_take((size_t)p->n_rows * p->push.stats_stride);
    uint32_t scratch = kernel_fixture_take((size_t)p->n_rows * p->push.scratch_stride / 4 + 1);
    p->push.scratch = fixture.act.address + scratch * UINT64_C(16);

    struct vly_step *step = kernel_fixture_step();
    memset(step, 0, sizeof *step);
    memset(fixture.results.mapped, 0xff, fixture.results.n_bytes);
    step->n_tok = N_ROWS;
    step->n_rows = p->n_rows;
    for (uint32_t r = 0; r < p->n_rows; r++) {
        const float *row = p->logits + (size_t)r * p->n_vocab;
        float *logits = kernel_fixture_act(p->push.logits_quad + r * p->push.logits_stride);
        float *stats = kernel_fixture_act(p->push.stats_quad + r * p->push.stats_stride);
        const vly_sampling *how = &p->how[r];
        for (uint32_t i = 0; i < padded; i++) logits[i] = i < p->n_vocab ? row[i] : -INFINITY;
        for (uint32_t b = 0; b < blocks; b++) {
            float high = -INFINITY, sum = 0.0f;
            for (uint32_t i = 0; i < p->block_rows; i++)
                high = fmaxf(high, logits[b * p->block_rows + i]);
            if (how->temperature > 0.0f && high > -INFINITY)
                for (uint32_t i = 0; i < p->block_rows; i++)
                    sum += expf((logits[b * p->block_rows + i] - high) / how->temperature);
            stats[2 * b] = high;
            stats[2 * b + 1] = sum;
        }
        uint32_t slot = r * 3 + 1;
        step->row[r] = token_of(r);
        step->token[token_of(r)] = (struct vly_step_token){.pos = p->pos[r], .slot = slot};
        step->sampling[slot] =
            (struct vly_step_sampling){how->temperature,    how->top_p,
                                       how->min_p,          how->top_k,
                                       (uint32_t)how->seed, (uint32_t)(how->seed >> 32),
                                       NOISE_SHIFT,         0};
    }
}

static void run(const problem *p)
{
    /* One workgroup more than there are rows. */
    kernel_fixture_run(p->texel ? VLY_SHADER_pick_texel : VLY_SHADER_pick, &p->width, 1, &p->push,
                       sizeof p->push, p->n_rows + (p->push.draft ? 0 : 1), 1, 1);
    for (int i = 4; i < 16; i++) assert_true(isnan(kernel_fixture_act(fixture.act_used)[i]));
}

/* ---- Comparing picks ---- */

/* Does float rounding decide whether the filters leave logit `l`? Within 1e-5 of a border it may.
 */
static bool doubtful(const vly_sampling *how, const float *row, uint32_t n, float l)
{
    double high = -INFINITY, above = 0.0, total = 0.0, t = (double)how->temperature;
    vly_sampling top_k = *how;
    top_k.top_p = 1.0f;
    top_k.min_p = 0.0f;
    float *scratch = malloc(2 * n * sizeof *scratch);
    assert_non_null(scratch);
    const float low = vly_sample_threshold(&top_k, row, n, scratch);
    free(scratch);
    for (uint32_t i = 0; i < n; i++) high = fmax(high, (double)row[i]);
    for (uint32_t i = 0; i < n; i++)
        if (row[i] >= low) {
            double probability = exp(((double)row[i] - high) / t);
            total += probability;
            if (row[i] > l) above += probability;
        }
    return fabs(exp(((double)l - high) / t) - (double)how->min_p) < 1e-5 * (double)how->min_p ||
           (how->top_p < 1.0f && fabs(above / total - (double)how->top_p) < 1e-5);
}

/* The scores that decided: so near that rounding could turn them round? */
static bool near_tie(const vly_sampling *how, const float *row, uint32_t pos, const uint32_t *key,
                     uint32_t a, uint32_t b)
{
    float ga = vly_noise_gumbel(how->seed, pos, key ? key[a] : a);
    float gb = vly_noise_gumbel(how->seed, pos, key ? key[b] : b);
    float sa = row[a] / how->temperature + ga, sb = row[b] / how->temperature + gb;
    return fabsf(sa - sb) < 1e-5f * (1.0f + fabsf(row[a] / how->temperature));
}

static uint32_t n_compared, n_border;

static void expect_pick(const vly_sampling *how, const float *row, uint32_t n, uint32_t pos,
                        const uint32_t *key, uint32_t got)
{
    uint32_t expected;
    vly_error err;
    float *scratch = malloc(2 * n * sizeof *scratch);
    assert_non_null(scratch);
    assert_int_equal(vly_sample_pick(how, row, n, pos, key, scratch, &expected, &err), 0);
    free(scratch);
    n_compared++;
    if (got == expected) return;
    assert_true(got < n);
    if (how->temperature > 0.0f &&
        (doubtful(how, row, n, row[got]) || doubtful(how, row, n, row[expected]) ||
         near_tie(how, row, pos, key, got, expected))) {
        n_border++;
        return;
    }
    fail_msg("T %g, top-k %u, top-p %g, min-p %g, %u tokens: picked %u (%.8g), not %u (%.8g)",
             (double)how->temperature, how->top_k, (double)how->top_p, (double)how->min_p, n, got,
             (double)row[got], expected, (double)row[expected]);
}

static void check(const problem *p)
{
    const struct vly_results *results = fixture.results.mapped;
    for (uint32_t r = 0; r < p->n_rows; r++)
        expect_pick(&p->how[r], p->logits + (size_t)r * p->n_vocab, p->n_vocab,
                    p->pos[r] + 1 + NOISE_SHIFT, NULL, results->id[r]);
    for (uint32_t r = p->n_rows; r < VLY_MAX_BATCH; r++)
        assert_int_equal(results->id[r], UINT32_MAX);
}

static void compute_and_check(problem *p)
{
    place(p);
    struct vly_step before = *kernel_fixture_step();
    run(p);
    assert_memory_equal(&before, fixture.step.mapped, sizeof before);
    check(p);
}

/* ---- Tests ---- */

/* A row of one of several characters. */
static void random_row(uint64_t *random, float *row, uint32_t n)
{
    uint64_t kind = reference_random(random) % 6;
    for (uint32_t i = 0; i < n; i++) {
        float v = reference_normal(random);
        if (kind == 0) v *= 3.0f;
        if (kind == 1) v = floorf(v * 4.0f); /* with many ties */
        if (kind == 2) v = v * 0.01f - 50.0f;
        if (kind == 3) v = i % 3 ? -INFINITY : v * 5.0f;
        if (kind == 4) v = i % 97 == 31 % (n < 97 ? n : 97) ? 12.0f + v : v;
        if (kind == 5) v = 2.5f;
        row[i] = v;
    }
}

static void random_rows(problem *p, uint64_t *random)
{
    const float temperatures[] = {0.7f, 1.0f, 0.2f, 1.6f, 0.0f, 20.0f};
    const uint32_t ks[] = {0, 0, 1, 2, 40, p->n_vocab, p->n_vocab + 5, 300};
    const float ps[] = {1.0f, 0.95f, 0.5f, 0.05f, 1e-6f, 0.999f};
    const float min_ps[] = {0.0f, 0.0f, 0.05f, 0.5f, 1.0f};
    for (uint32_t r = 0; r < p->n_rows; r++) {
        random_row(random, p->logits + (size_t)r * p->n_vocab, p->n_vocab);
        p->how[r].temperature = temperatures[reference_random(random) % 6];
        p->how[r].top_k = ks[reference_random(random) % 8];
        p->how[r].top_p = ps[reference_random(random) % 6];
        p->how[r].min_p = min_ps[reference_random(random) % 5];
        p->how[r].seed = reference_random(random);
    }
}

static void check_random(uint64_t seed, bool texel)
{
    const struct {
        uint32_t n_vocab, block_rows, n_runs;
    } shapes[] = {{1, 4, 2},     {5, 4, 4},      {100, 16, 40},
                  {1003, 8, 40}, {4096, 64, 10}, {32000, 16, 4}};
    n_compared = n_border = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (uint32_t n = 0; n < shapes[i].n_runs; n++) {
            problem p = problem_make(shapes[i].n_vocab, shapes[i].block_rows,
                                     n % 4 == 3 ? 1 + n % N_ROWS : N_ROWS, texel);
            random_rows(&p, &seed);
            compute_and_check(&p);
            problem_free(&p);
        }
    assert_true(n_compared > 1200);
    if (n_border * 500 > n_compared)
        fail_msg("%u of %u picks differ at a border of rounding", n_border, n_compared);
}

static void test_random(void **state)
{
    (void)state;
    check_random(1, false);
}

static void test_random_texel(void **state)
{
    (void)state;
    check_random(2, true);
}

/* The lowest of the best rows, wherever they are. */
static void test_greedy_ties(void **state)
{
    (void)state;
    for (int texel = 0; texel < 2; texel++) {
        problem p = problem_make(5000, 16, N_ROWS, texel);
        const struct vly_results *results = fixture.results.mapped;
        for (uint32_t r = 0; r < p.n_rows; r++) {
            float *row = p.logits + (size_t)r * p.n_vocab;
            uint32_t first = r * 311 + r % 16;
            for (uint32_t i = 0; i < p.n_vocab; i++) row[i] = -1.0f - (float)(i % 5);
            row[first] = 3.0f;
            for (uint32_t i = first + 1 + r; i < p.n_vocab; i += 1 + r * 53) row[i] = 3.0f;
            p.how[r].temperature = 0.0f;
            p.how[r].top_p = 0.5f;
        }
        place(&p);
        run(&p);
        for (uint32_t r = 0; r < p.n_rows; r++) assert_int_equal(results->id[r], r * 311 + r % 16);
        problem_free(&p);
    }
}

/* Whatever the logits are, the pick is a row of the head or none; none where none is a number. */
static void test_rows_that_are_no_numbers(void **state)
{
    (void)state;
    const float values[] = {NAN, -INFINITY, INFINITY, -NAN};
    for (int texel = 0; texel < 2; texel++) {
        problem p = problem_make(203, 8, N_ROWS, texel);
        const struct vly_results *results = fixture.results.mapped;
        for (uint32_t r = 0; r < p.n_rows; r++) {
            for (uint32_t i = 0; i < p.n_vocab; i++)
                p.logits[(size_t)r * p.n_vocab + i] = r < 12 || i % 2 ? values[r % 4] : 1.0f;
            p.how[r].temperature = r / 4 % 2 ? 0.8f : 0.0f;
            p.how[r].top_p = r / 4 ? 0.9f : 1.0f;
            p.how[r].top_k = r / 8 ? 7 : 0;
        }
        place(&p);
        run(&p);
        for (uint32_t r = 0; r < p.n_rows; r++) {
            uint32_t id = results->id[r];
            assert_true(id < p.n_vocab || id == VLY_NO_ID);
            if (r < 12 && isnan(values[r % 4])) assert_int_equal(id, VLY_NO_ID);
            if (r == 13) assert_true(id % 2 == 0); /* the others are minus infinity */
        }
        problem_free(&p);
    }
}

/* Rows of one sequence, each token but the first drafted after the one before: where the pick is
 * another, the rank of what was drafted. Row 6 is followed by no proposal. */
static void check_ranks(bool texel, float temperature)
{
    enum { N = 3001, SLOT = 5 };
    uint64_t random = 11;
    problem p = problem_make(N, 16, N_ROWS, texel);
    for (size_t i = 0; i < (size_t)N_ROWS * N; i++)
        p.logits[i] = floorf(reference_normal(&random) * 50.0f) / 8.0f; /* with ties */
    for (uint32_t r = 0; r < N_ROWS; r++) p.how[r].temperature = temperature;
    place(&p);
    struct vly_step *step = kernel_fixture_step();
    step->sampling[SLOT] = step->sampling[1];
    for (uint32_t r = 0; r < N_ROWS; r++) {
        step->row[r] = r;
        step->token[r] = (struct vly_step_token){.pos = 20 + r + (r > 6), .slot = SLOT};
    }
    run(&p); /* for the picks: half of the proposals are to be right */
    const struct vly_results *results = fixture.results.mapped;
    uint32_t pick[N_ROWS], n_wrong = 0;
    for (uint32_t r = 0; r < N_ROWS; r++) pick[r] = results->id[r];
    for (uint32_t r = 0; r + 1 < N_ROWS; r++)
        step->token[r + 1].id = r % 2 ? pick[r] : (uint32_t)(random = random * 33 + 7) % N;
    step->token[1].id = N + 4; /* is no token */
    run(&p);
    for (uint32_t r = 0; r < N_ROWS; r++) {
        const float *row = p.logits + (size_t)r * N;
        uint32_t expected = 0, drafted = r + 1 < N_ROWS ? step->token[r + 1].id : N;
        if (drafted < N && drafted != pick[r] && r != 6) {
            expected = 1;
            for (uint32_t i = 0; i < N; i++) expected += row[i] > row[drafted];
            n_wrong++;
        }
        assert_int_equal(results->id[r], pick[r]);
        assert_int_equal(results->rank[r], expected);
    }
    assert_true(n_wrong >= 5);
    problem_free(&p);
}

static void test_ranks(void **state)
{
    (void)state;
    check_ranks(false, 0.0f);
    check_ranks(true, 0.0f);
    check_ranks(false, 0.8f);
    check_ranks(true, 0.8f);
}

/* Draft steps one after the other: each pick is the next step's token and a token of the verify
 * pass, and its noise is that of the target token which the row stands for. */
static void check_draft(bool texel, float temperature)
{
    enum { N = 700, N_DRAFTED = 15, SLOT = 9, VERIFY = 7 };
    uint64_t random = 4;
    problem p = problem_make(N, 16, 1, texel);
    uint32_t own[N], to[N];
    for (uint32_t i = 0; i < N; i++) {
        own[i] = 3 * i + 1;
        to[i] = (i * 11 + 6) % N * 2;
        p.logits[i] = reference_normal(&random);
    }
    p.how[0].temperature = temperature;
    p.how[0].top_p = 0.9f;
    p.how[0].seed = UINT64_C(0x123456789abcdef);
    place(&p);
    memcpy(fixture.table.mapped, own, sizeof own);
    memcpy((char *)fixture.table.mapped + sizeof own, to, sizeof to);
    p.push.draft = 1;
    p.push.target = fixture.target.address;
    p.push.row_id = fixture.table.address;
    p.push.row_target = fixture.table.address + sizeof own;
    struct vly_step *step = kernel_fixture_step();
    step->sampling[SLOT] = step->sampling[1];
    /* The first draft step may have taken two tokens: the last pick and the one before it. What
     * comes next is written to another step buffer, and then to itself. */
    p.push.next = p.push.step + sizeof *step;
    struct vly_step *next = step + 1;
    memset(next, 0xcd, sizeof *next);
    step->n_tok = 2;
    step->row[0] = 1;
    step->token[1] = (struct vly_step_token){.id = 5, .pos = 31, .slot = SLOT, .first = 0};
    step->draft[0] = (struct vly_step_draft){.verify = VERIFY, .n_left = N_DRAFTED};
    next->n_tok = next->n_rows = 1;
    next->row[0] = 0;
    next->sampling[SLOT] = step->sampling[SLOT];
    memset(fixture.target.mapped, 0xab, fixture.target.n_bytes);
    struct vly_step first = *step, expected = *next, target = *kernel_fixture_target();
    const struct vly_results *results = fixture.results.mapped;
    uint32_t n_other = 0;
    for (uint32_t j = 0; j < N_DRAFTED; j++) {
        run(&p);
        uint32_t row = 0, at = VERIFY + j;
        while (row < N && own[row] != results->draft_id[at]) row++;
        expect_pick(&p.how[0], p.logits, N, 31 + j + 1 + NOISE_SHIFT, to, row);
        assert_int_equal(results->id[at], to[row]);
        if (j + 1 < N_DRAFTED)
            expected.token[0] = (struct vly_step_token){own[row], 32 + j, SLOT, 0};
        expected.draft[0] = (struct vly_step_draft){at + 1, N_DRAFTED - j - 1};
        assert_memory_equal(&first, step, sizeof first);
        assert_memory_equal(&expected, next, sizeof expected);
        target.token[at].id = to[row];
        assert_memory_equal(&target, fixture.target.mapped, sizeof target);
        n_other += j > 0 && results->id[at] != results->id[at - 1];
        p.push.step = p.push.next;
    }
    /* One more changes nothing. */
    struct vly_results before = *results;
    run(&p);
    assert_memory_equal(&expected, next, sizeof expected);
    assert_memory_equal(&target, fixture.target.mapped, sizeof target);
    assert_memory_equal(&before, results, sizeof before);
    if (temperature > 0.0f)
        assert_true(n_other > 5); /* other positions, other noise */
    else
        assert_int_equal(n_other, 0);
    problem_free(&p);
}

static void test_draft_steps(void **state)
{
    (void)state;
    check_draft(false, 0.9f);
    check_draft(true, 0.9f);
    check_draft(false, 0.0f);
    check_draft(true, 0.0f);
}

/* ---- The distribution of picks ---- */

enum { N_CHI = 40, N_DRAWS = 512 * N_ROWS };

/* The softmax over what the filters leave, decided token by token from what they mean. */
static void restate(const vly_sampling *how, const float *row, double *probability)
{
    double weight[N_CHI], high = 0.0, kept = 0.0, total = 0.0;
    bool stays[N_CHI];
    for (int i = 0; i < N_CHI; i++) {
        uint32_t n_above = 0;
        for (int j = 0; j < N_CHI; j++) n_above += row[j] > row[i];
        weight[i] = exp((double)row[i] / (double)how->temperature);
        stays[i] = how->top_k == 0 || n_above < how->top_k;
        high = fmax(high, weight[i]);
        if (stays[i]) kept += weight[i];
    }
    for (int i = 0; i < N_CHI; i++) {
        double above = 0.0;
        for (int j = 0; j < N_CHI; j++)
            if (stays[j] && row[j] > row[i]) above += weight[j];
        bool in = stays[i] && (how->top_p >= 1.0f || above < (double)how->top_p * kept) &&
                  weight[i] >= (double)how->min_p * high;
        probability[i] = in ? weight[i] : 0.0;
        total += probability[i];
    }
    for (int i = 0; i < N_CHI; i++) probability[i] /= total;
}

/* Draws at N_DRAWS positions of a text, or at one position under as many seeds. */
static void draw(const vly_sampling *how, bool by_seed, bool texel, float *row, uint32_t *counts)
{
    problem p = problem_make(N_CHI, 16, N_ROWS, texel);
    const struct vly_results *results = fixture.results.mapped;
    memset(counts, 0, N_CHI * sizeof *counts);
    for (int i = 0; i < N_CHI; i++) row[i] = 0.087f * (float)(7 * i % N_CHI);
    for (uint32_t r = 0; r < N_ROWS; r++) {
        memcpy(p.logits + (size_t)r * N_CHI, row, N_CHI * sizeof *row);
        p.how[r] = *how;
    }
    place(&p);
    struct vly_step *step = kernel_fixture_step();
    for (uint32_t i = 0; i < N_DRAWS; i += N_ROWS) {
        for (uint32_t r = 0; r < N_ROWS; r++) {
            step->token[token_of(r)].pos = by_seed ? 12 : i + r;
            if (by_seed) step->sampling[r * 3 + 1].seed_lo = (uint32_t)how->seed + i + r;
        }
        run(&p);
        for (uint32_t r = 0; r < N_ROWS; r++) {
            assert_true(results->id[r] < N_CHI);
            counts[results->id[r]]++;
        }
    }
    problem_free(&p);
}

/* Seen of lavapipe: 0.1 to 0.4 of what chi-square may be. That draws of another distribution are
 * found out is tried with the same draws: against twice the temperature and without the filter. */
static void check_distribution(bool texel)
{
    const struct {
        float temperature, top_p, min_p;
        uint32_t top_k;
    } cases[] = {{0.7f, 1.0f, 0.0f, 0},  {1.0f, 1.0f, 0.0f, 0}, {2.0f, 1.0f, 0.0f, 0},
                 {1.0f, 1.0f, 0.0f, 12}, {0.7f, 0.8f, 0.0f, 0}, {1.0f, 1.0f, 0.25f, 0},
                 {2.0f, 0.9f, 0.0f, 20}, {1.0f, 0.9f, 0.1f, 30}};
    for (uint32_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        vly_sampling how = vly_sampling_default();
        how.temperature = cases[c].temperature;
        how.top_k = cases[c].top_k;
        how.top_p = cases[c].top_p;
        how.min_p = cases[c].min_p;
        how.seed = 1000 * c;
        float row[N_CHI];
        uint32_t counts[N_CHI];
        double probability[N_CHI];
        draw(&how, c % 2, texel, row, counts);
        restate(&how, row, probability);
        double excess = chi_square_excess(counts, probability, N_CHI, N_DRAWS);
        print_message("T %g, top-k %u, top-p %g, min-p %g: chi-square is %.2f of its limit\n",
                      (double)how.temperature, how.top_k, (double)how.top_p, (double)how.min_p,
                      excess);
        assert_true(excess < 1.0);
        vly_sampling warmer = how, unfiltered = vly_sampling_default();
        warmer.temperature *= 2.0f;
        restate(&warmer, row, probability);
        assert_true(chi_square_excess(counts, probability, N_CHI, N_DRAWS) > 1.0);
        unfiltered.temperature = how.temperature;
        unfiltered.top_p = 1.0f;
        restate(&unfiltered, row, probability);
        if (c > 2) assert_true(chi_square_excess(counts, probability, N_CHI, N_DRAWS) > 1.0);
    }
}

static void test_distribution(void **state)
{
    (void)state;
    check_distribution(false);
}

static void test_distribution_texel(void **state)
{
    (void)state;
    check_distribution(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),       cmocka_unit_test(test_random_texel),
        cmocka_unit_test(test_greedy_ties),  cmocka_unit_test(test_rows_that_are_no_numbers),
        cmocka_unit_test(test_ranks),        cmocka_unit_test(test_draft_steps),
        cmocka_unit_test(test_distribution), cmocka_unit_test(test_distribution_texel),
    };
    return cmocka_run_group_tests(tests, kernel_fixture_open, kernel_fixture_close);
}
