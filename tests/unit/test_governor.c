/* The governor against simulated devices and texts: never much slower than plain decoding, nearly
 * as fast as the best fixed draft length, and quick to notice a change. */
#include "spec/governor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* ---- what is simulated ---- */

/* Times in microseconds; a pass over n tokens takes plain * (1 + slope * (n - 1)), k drafted tokens
 * take begin + k * step. `overhead` is that of blocks that wait for the host, which blocks in a row
 * do not where they run ahead of it.
 */
typedef struct {
    const char *name;
    double plain, slope, begin, step, feed, overhead;
    bool ahead;
} device;

static const device devices[] = {
    {"a large target on a fast GPU", 4000, 0.03, 0, 400, 5, 60, true},
    {"the same with steep passes", 4000, 0.3, 0, 1300, 10, 60, true},
    {"a tiny pair on a fast GPU", 340, 0.05, 0, 190, 2, 60, true},
    {"a tiny pair, waiting long for the host", 250, 0.05, 0, 150, 2, 120, true},
    {"a tiny pair whose first step is slow", 121, 0.015, 14, 50, 2, 30, true},
    {"a processor", 3900, 0.4, 0, 2000, 1500, 80, false},
};
#define N_DEVICES (sizeof devices / sizeof *devices)

/* How often proposals are accepted: of n-grams, of long matches, of the model; and how often
 * n-grams find a short and a long match. */
typedef struct {
    double accept[VLY_N_ARMS];
    double found[VLY_N_ARMS];
} text;

typedef struct {
    uint64_t state;
    double ns;
    uint32_t tokens, behind, probes;
    vly_arm watched;   /* n-grams whose proposal the text has met so far */
    uint32_t n_met;    /* tokens of it */
    bool in_row;       /* the last block ran ahead of the host, or the next one may follow it so */
    uint32_t n_chosen; /* of blocks by the model, those that did not follow another */
} run;

#define ROW_OVERHEAD 2 /* microseconds of a block that did not wait for the host */

static double uniform(run *r)
{
    r->state = r->state * 6364136223846793005u + 1442695040888963407u;
    return (double)(r->state >> 11) / 9007199254740992.0;
}

#define WHOLE_HEAD 1.25 /* a step that picks among all tokens takes that much longer */

static const uint32_t buckets[] = {1, 2, 3, 4, 5, 6, 8, 12, 16, 24};

static double pass_ns(const device *d, uint32_t n)
{
    return d->plain * (1 + d->slope * (n - 1)) * 1000;
}

static uint32_t bucket_of(uint32_t n)
{
    uint32_t i = 0;
    while (buckets[i] < n) i++;
    return buckets[i];
}

static vly_profile calibrated(const device *d)
{
    vly_profile p = {.verify_ns = pass_ns(d, 1)};
    for (size_t i = 0; i < sizeof buckets / sizeof *buckets; i++)
        vly_profile_set_ratio(&p, buckets[i], pass_ns(d, buckets[i]) / p.verify_ns);
    p.step_ns[VLY_ARM_MODEL] = d->step * 1000;
    p.step_ns[VLY_ARM_TEXT] = d->step * 1000 * WHOLE_HEAD;
    p.feed_ns = d->feed * 1000;
    return p;
}

/* May a block follow its like ahead of the host? */
static bool rows(const device *d, vly_arm arm)
{
    return d->ahead && (arm == VLY_ARM_NONE || arm == VLY_ARM_MODEL);
}

/* One block by decision `c`; times differ by up to 5 percent either way. */
static vly_outcome block(run *r, const device *d, const text *t, vly_decision c)
{
    vly_outcome o = {.n_drafted = c.k, .n_tok = bucket_of(c.k + 1)};
    o.first = rows(d, c.arm) && !r->in_row;
    double noise = 0.95 + 0.1 * uniform(r);
    o.verify_ns = pass_ns(d, o.n_tok) * noise;
    bool model = vly_arm_by_model(c.arm), text_too = c.arm == VLY_ARM_TEXT;
    if (model) {
        if (r->behind > 256) {
            o.n_read = r->behind;
            o.read_ns = r->behind * d->feed * 1000;
            r->behind = 0;
        }
        double step = d->step * (text_too ? WHOLE_HEAD : 1);
        o.draft_ns = (d->begin + c.k * step + r->behind * d->feed) * 1000 * noise;
        o.n_fed = r->behind;
    }
    double waits = r->in_row ? ROW_OVERHEAD : d->overhead * (text_too ? 2 : 1);
    o.wall_ns = o.draft_ns + o.verify_ns + waits * 1000;
    r->in_row = rows(d, c.arm);
    while (o.n_accepted < c.k && uniform(r) < t->accept[c.arm]) o.n_accepted++;
    r->ns += o.wall_ns + o.read_ns;
    r->tokens += o.n_accepted + 1;
    r->behind = model ? 1 : r->behind + o.n_accepted + 1;
    r->probes += c.probe;
    return o;
}

/* Follows what n-grams would have proposed as the text grows by n tokens. */
static void watch(run *r, vly_governor *g, const text *t, uint32_t n)
{
    while (r->watched && n-- > 0) {
        bool hit = uniform(r) < t->accept[r->watched];
        vly_governor_watch(g, r->watched, r->n_met++, hit);
        if (!hit || r->n_met == VLY_MAX_DRAFT) r->watched = VLY_ARM_NONE;
    }
}

/* One block by decision `c`, which the governor is told of. */
static void decided(run *r, vly_governor *g, const device *d, const text *t, vly_decision c)
{
    if (c.arm == VLY_ARM_NGRAM || c.arm == VLY_ARM_COPY) r->watched = VLY_ARM_NONE;
    vly_outcome o = block(r, d, t, c);
    vly_profile_learn(g->profile, c.arm, &o);
    vly_governor_learn(g, &c, &o);
    watch(r, g, t, o.n_accepted + 1);
}

/* What there is to choose from: n-grams by chance. */
static vly_governor_input offer(run *r, const text *t, uint32_t left, uint32_t k)
{
    vly_governor_input in = {.behind = r->behind, .left = left};
    double x = uniform(r);
    if (x < t->found[VLY_ARM_COPY])
        in.k_max[VLY_ARM_COPY] = k;
    else if (x < t->found[VLY_ARM_COPY] + t->found[VLY_ARM_NGRAM])
        in.k_max[VLY_ARM_NGRAM] = k;
    for (vly_arm arm = VLY_ARM_NGRAM; arm <= VLY_ARM_COPY && !r->watched; arm++)
        if (in.k_max[arm] > 0) r->watched = arm, r->n_met = 0;
    if (t->found[VLY_ARM_MODEL] > 0) in.k_max[VLY_ARM_MODEL] = k;
    if (t->found[VLY_ARM_TEXT] > 0) in.k_max[VLY_ARM_TEXT] = k;
    return in;
}

/* Another block was in flight when those in a row were left for n-grams, whose proposal stands
 * only if it began with what that block decided. */
static void lose_match(run *r, const text *t, vly_governor_input *in)
{
    for (vly_arm arm = VLY_ARM_NGRAM; arm <= VLY_ARM_COPY; arm++)
        if (uniform(r) >= t->accept[arm]) in->k_max[arm] = 0;
}

/* `n` tokens after a prompt of 200, at most `k` drafted. */
static void govern(run *r, vly_governor *g, const device *d, const text *t, uint32_t n, uint32_t k)
{
    uint32_t end = r->tokens + n;
    vly_decision c = {.arm = VLY_ARM_NONE};
    r->in_row = false;
    while (r->tokens < end) {
        vly_governor_input in = offer(r, t, end - r->tokens, k);
        in.ahead = (vly_ahead){1, c.arm, c.k};
        if (r->in_row && !vly_governor_keeps(g, &in)) {
            lose_match(r, t, &in);
            decided(r, g, d, t, c);
            r->in_row = false;
        }
        bool follows = r->in_row;
        if (!follows) {
            in.ahead.n = 0;
            c = vly_governor_choose(g, &in);
            r->n_chosen += c.arm == VLY_ARM_MODEL;
            in.ahead = (vly_ahead){0, c.arm, c.k};
            follows = rows(d, c.arm) && vly_governor_keeps(g, &in);
        }
        assert_true(c.k <= in.k_max[c.arm]);
        decided(r, g, d, t, c);
        r->in_row = follows;
    }
}

#define N_ENGINES 2 /* luck has its part in what one learns */

/* Tokens per second of 20 texts of 200 tokens by each of some engines, whose calibration had the
 * times of several tokens `off` times as long as they are. */
static double governed_rate(const device *d, const text *t, double off)
{
    double tokens = 0, ns = 0;
    for (uint64_t engine = 1; engine <= N_ENGINES; engine++) {
        vly_profile p = calibrated(d);
        run r = {.state = 7 * engine};
        for (uint32_t i = 2; i <= VLY_MAX_BATCH; i++)
            if (p.ready[i]) vly_profile_set_ratio(&p, i, (double)p.verify_ratio[i] * off);
        for (uint32_t i = 0; i < 20; i++) {
            vly_governor g;
            vly_governor_init(&g, &p, false);
            r.behind = 200;
            govern(&r, &g, d, t, 200, VLY_MAX_DRAFT);
        }
        tokens += r.tokens;
        ns += r.ns;
    }
    return tokens / ns * 1e9;
}

/* The same of a fixed arm and length: n-grams fall back on plain blocks where there is no match. */
static double fixed_rate(const device *d, const text *t, vly_arm arm, uint32_t k, uint32_t n_texts,
                         uint32_t n)
{
    run r = {.state = 7};
    for (uint32_t i = 0; i < n_texts; i++) {
        r.behind = 200;
        for (uint32_t end = r.tokens + n; r.tokens < end;) {
            vly_decision c = {.arm = arm, .k = k};
            if (arm == VLY_ARM_NGRAM) {
                double x = uniform(&r);
                if (x < t->found[VLY_ARM_COPY])
                    c.arm = VLY_ARM_COPY;
                else if (x > t->found[VLY_ARM_COPY] + t->found[VLY_ARM_NGRAM])
                    c = (vly_decision){.arm = VLY_ARM_NONE};
            }
            block(&r, d, t, c);
        }
    }
    return r.tokens / r.ns * 1e9;
}

/* ---- tests ---- */

/* Texts from hopeless to copied; of some of them tokens were lost for not being mapped. */
#define N_TEXTS 54
static uint32_t make_texts(text *out)
{
    static const double model[] = {0, 0.2, 0.4, 0.6, 0.8, 0.95}, copy[] = {0, 0.1, 0.9};
    uint32_t n = 0;
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < 3; j++)
            for (int lost = -1; lost < 2; lost++)
                out[n++] = (text){{0, 0.3 * (double)j, 0.1 + 0.42 * (double)j, model[i],
                                   model[i] + 0.4 * lost * (1 - model[i])},
                                  {0, 0.2, copy[j], 1, lost >= 0}};
    return n;
}

static void test_never_much_slower_than_plain(void **state)
{
    (void)state;
    text t[N_TEXTS];
    uint32_t n = make_texts(t);
    for (size_t d = 0; d < N_DEVICES; d++)
        for (uint32_t i = 0; i < n; i++) {
            double plain = fixed_rate(&devices[d], &t[i], VLY_ARM_NONE, 0, 20, 200);
            double rate = governed_rate(&devices[d], &t[i], 1);
            if (rate < 0.98 * plain)
                fail_msg("%s, text %u: %.1f of %.1f tokens/s", devices[d].name, i, rate, plain);
        }
}

static void test_near_the_best_fixed_length(void **state)
{
    (void)state;
    text t[N_TEXTS];
    uint32_t n = make_texts(t);
    for (size_t d = 0; d < N_DEVICES; d++)
        for (uint32_t i = 0; i < n; i++) {
            double best = fixed_rate(&devices[d], &t[i], VLY_ARM_NONE, 0, 20, 200);
            for (vly_arm arm = VLY_ARM_NGRAM; arm < VLY_N_ARMS; arm++)
                for (uint32_t k = 1; k <= VLY_MAX_DRAFT && t[i].found[arm] > 0; k++) {
                    if (arm == VLY_ARM_COPY) continue; /* fixed n-grams are of either kind */
                    double rate = fixed_rate(&devices[d], &t[i], arm, k, 20, 200);
                    if (rate > best) best = rate;
                }
            double rate = governed_rate(&devices[d], &t[i], 1);
            /* With two ways by the model to tell apart, or by n-grams, for which a row of blocks
             * ahead of the host has to be left. */
            bool many =
                t[i].found[VLY_ARM_TEXT] > 0 || (devices[d].ahead && t[i].found[VLY_ARM_COPY] > 0);
            double least = many ? 0.92 : 0.95;
            if (rate < least * best)
                fail_msg("%s, text %u: %.1f of %.1f tokens/s", devices[d].name, i, rate, best);
        }
}

/* A machine that was busy while it was calibrated. */
static void test_learns_what_calibration_got_wrong(void **state)
{
    (void)state;
    text t[N_TEXTS];
    uint32_t n = make_texts(t);
    for (size_t d = 0; d < N_DEVICES; d++)
        for (uint32_t i = 0; i < n; i += 5) {
            double plain = fixed_rate(&devices[d], &t[i], VLY_ARM_NONE, 0, 20, 200);
            double right = governed_rate(&devices[d], &t[i], 1);
            double low = governed_rate(&devices[d], &t[i], 0.65);
            double high = governed_rate(&devices[d], &t[i], 1.3);
            if (low < 0.98 * plain || high < 0.98 * plain || low < 0.9 * right)
                fail_msg("%s, text %u: %.1f and %.1f of %.1f tokens/s, %.1f plain", devices[d].name,
                         i, low, high, right, plain);
        }
}

/* Turns of 500 tokens, hard and easy, in one text that was easy for long before: at least so much
 * of plain decoding's rate in hard ones, and of the best fixed length's in easy ones. */
static void follow_changes(uint64_t seed, double least_hard, double least_easy)
{
    static const text easy = {.accept = {0, 0, 0, 0.9}, .found = {0, 0, 0, 1}};
    static const text hard = {.accept = {0, 0, 0, 0.05}, .found = {0, 0, 0, 1}};
    const device *d = &devices[0];
    vly_profile p = calibrated(d);
    vly_governor g;
    run r = {.state = seed};
    vly_governor_init(&g, &p, false);
    govern(&r, &g, d, &easy, 2000, VLY_MAX_DRAFT);
    for (int turn = 0; turn < 4; turn++) {
        const text *t = turn % 2 ? &easy : &hard;
        double ns = r.ns, n = r.tokens;
        govern(&r, &g, d, t, 500, VLY_MAX_DRAFT);
        double rate = (r.tokens - n) / (r.ns - ns) * 1e9;
        double plain = fixed_rate(d, t, VLY_ARM_NONE, 0, 1, 500);
        double best = fixed_rate(d, t, VLY_ARM_MODEL, 6, 1, 500);
        if (turn % 2 ? rate < least_easy * best : rate < least_hard * plain)
            fail_msg("seed %d, turn %d: %.1f tokens/s, %.1f plain, %.1f drafted", (int)seed, turn,
                     rate, plain, best);
    }
}

/* An engine that met texts of another kind before notices within a text. */
static void test_follows_a_change(void **state)
{
    (void)state;
    follow_changes(3, 0.95, 0.65);
    /* None is left behind, whatever its luck. */
    for (uint64_t seed = 1; seed <= 12; seed++) follow_changes(seed, 0.93, 0.5);
}

/* Tokens per second of `n_texts` of `n` tokens whose drafted tokens are accepted at the rate
 * `after`, where the engine met 10 long texts with the rate `before`. */
static double rate_after(const device *d, double before, double after, uint32_t n_texts, uint32_t n)
{
    const text old = {.accept = {0, 0, 0, before}, .found = {0, 0, 0, 1}};
    const text new = {.accept = {0, 0, 0, after}, .found = {0, 0, 0, 1}};
    double tokens = 0, ns = 0;
    for (uint64_t engine = 1; engine <= 25; engine++) {
        vly_profile p = calibrated(d);
        run r = {.state = 7 * engine};
        for (uint32_t i = 0; i < 10 + n_texts; i++) {
            double tokens_before = r.tokens, ns_before = r.ns;
            vly_governor g;
            vly_governor_init(&g, &p, false);
            r.behind = 20;
            govern(&r, &g, d, i < 10 ? &old : &new, i < 10 ? 200 : n, VLY_MAX_DRAFT);
            if (i < 10) continue;
            tokens += r.tokens - tokens_before;
            ns += r.ns - ns_before;
        }
    }
    return tokens / ns * 1e9;
}

static void test_short_texts_of_another_kind(void **state)
{
    (void)state;
    for (size_t d = 0; d < N_DEVICES; d++) {
        const text t = {.accept = {0, 0, 0, 0.8}, .found = {0, 0, 0, 1}};
        double plain = fixed_rate(&devices[d], &t, VLY_ARM_NONE, 0, 1, 2000), best = plain;
        for (uint32_t k = 1; k <= VLY_MAX_DRAFT; k++)
            best = fmax(best, fixed_rate(&devices[d], &t, VLY_ARM_MODEL, k, 20, 200));
        double hard = rate_after(&devices[d], 0.7, 0, 6, 64);
        double easy = rate_after(&devices[d], 0.5, 0.8, 6, 64);
        if (hard < 0.97 * plain || easy < 0.91 * best)
            fail_msg("%s: %.1f of %.1f tokens/s where it is of no use, %.1f of %.1f where it is",
                     devices[d].name, hard, plain, easy, best);
    }
}

/* Tokens per second of the first six texts of 64 tokens that an engine ever writes, with prompts of
 * 25 tokens, whose drafted tokens are accepted at the rate `accept`. */
static double first_rate(const device *d, double accept)
{
    const text t = {.accept = {0, 0, 0, accept}, .found = {0, 0, 0, 1}};
    double tokens = 0, ns = 0;
    for (uint64_t engine = 1; engine <= 50; engine++) {
        vly_profile p = calibrated(d);
        run r = {.state = 7 * engine};
        for (uint32_t i = 0; i < 6; i++) {
            vly_governor g;
            vly_governor_init(&g, &p, false);
            r.behind = 25;
            govern(&r, &g, d, &t, 64, VLY_MAX_DRAFT);
        }
        tokens += r.tokens;
        ns += r.ns;
    }
    return tokens / ns * 1e9;
}

/* Nothing is known but times: it must cost little to find out, and be found out soon. */
static void test_first_texts(void **state)
{
    (void)state;
    for (size_t d = 0; d < N_DEVICES; d++)
        for (int tenths = 0; tenths <= 9; tenths++) {
            const text t = {.accept = {0, 0, 0, tenths / 10.0}, .found = {0, 0, 0, 1}};
            double plain = fixed_rate(&devices[d], &t, VLY_ARM_NONE, 0, 1, 2000), best = plain;
            for (uint32_t k = 1; k <= VLY_MAX_DRAFT; k++)
                best = fmax(best, fixed_rate(&devices[d], &t, VLY_ARM_MODEL, k, 20, 64));
            double rate = first_rate(&devices[d], tenths / 10.0);
            if (rate < 0.975 * plain || rate < 0.9 * best)
                fail_msg("%s, %d of 10 accepted: %.1f of %.1f tokens/s plain, %.1f the best",
                         devices[d].name, tenths, rate, plain, best);
        }
}

/* Where even a draft that is always right could not pay, the model never has to read. */
static void test_hopeless_costs_nothing(void **state)
{
    (void)state;
    static const device slow = {"a draft as slow as its target", 1000, 0.5, 0, 1000, 100, 10, true};
    static const text best = {.accept = {0, 0, 0, 1}, .found = {0, 0, 0, 1}};
    vly_profile p = calibrated(&slow);
    vly_governor g;
    run r = {.behind = 200};
    vly_governor_init(&g, &p, true);
    govern(&r, &g, &slow, &best, 3000, VLY_MAX_DRAFT);
    assert_int_equal(r.behind, 3200);
    assert_int_equal(r.probes, 0);
}

/* Nothing is drafted by an arm whose times are not known, and none of this divides by zero. */
static void test_unknown_times(void **state)
{
    (void)state;
    vly_profile p = {0};
    vly_governor g;
    vly_governor_init(&g, &p, false);
    vly_governor_input in = {.left = 100, .k_max = {0, 8, 8, 8}};
    vly_decision c = vly_governor_choose(&g, &in);
    assert_true(c.arm == VLY_ARM_NONE && c.k == 0);
    for (int i = 0; i < 50; i++) {
        vly_outcome o = {.n_tok = 1, .wall_ns = 1000};
        vly_profile_learn(&p, c.arm, &o);
        vly_governor_learn(&g, &c, &o);
        c = vly_governor_choose(&g, &in);
        assert_true(c.arm == VLY_ARM_NONE && c.k == 0);
    }
    vly_outcome nothing = {0};
    vly_profile_learn(&p, c.arm, &nothing);
    vly_governor_learn(&g, &c, &nothing);
    assert_true(p.verify_ns > 0);
}

/* A block beside others in one pass drafts less: its tokens cost what theirs cost, too. */
static void test_beside_others(void **state)
{
    (void)state;
    vly_profile p = calibrated(&devices[1]);
    vly_governor g;
    vly_governor_init(&g, &p, false);
    for (int i = 0; i < VLY_MAX_DRAFT; i++) p.accepted[0][VLY_ARM_MODEL][i] = (vly_tally){90, 81};
    vly_governor_input in = {.left = 100, .k_max = {0, 0, 0, VLY_MAX_DRAFT}};
    uint32_t alone = vly_governor_choose(&g, &in).k;
    in.beside_tok = 11;
    in.beside_decided = 11;
    uint32_t beside = vly_governor_choose(&g, &in).k;
    assert_true(alone > 0);
    assert_int_equal(beside, 0);
    in.beside_tok = VLY_MAX_BATCH - 1; /* no room */
    assert_int_equal(vly_governor_choose(&g, &in).k, 0);
}

/* Blocks in flight are left for another way at once, and for another length only where that gains
 * something. */
static void test_keeps_to_what_is_in_flight(void **state)
{
    (void)state;
    static const text even = {.accept = {0, 0.9, 0, 0.7}, .found = {0, 0, 0, 1}};
    const device *d = &devices[0];
    vly_profile p = calibrated(d);
    vly_governor g;
    run r = {.state = 5};
    vly_governor_init(&g, &p, false);
    govern(&r, &g, d, &even, 4000, VLY_MAX_DRAFT);
    if (r.n_chosen > 4000 / 3 / 8) fail_msg("%u blocks did not follow another", r.n_chosen);
    vly_governor_input in = {.left = 100, .behind = 1, .k_max = {0, 0, 0, VLY_MAX_DRAFT}};
    uint32_t best = vly_governor_choose(&g, &in).k;
    assert_in_range(best, 2, VLY_MAX_DRAFT - 1);
    in.ahead.n = 1;
    in.ahead.arm = VLY_ARM_MODEL;
    in.ahead.k = best;
    assert_true(vly_governor_keeps(&g, &in));
    in.ahead.k = 1;
    assert_false(vly_governor_keeps(&g, &in));
    in.ahead.k = best;
    in.k_max[VLY_ARM_COPY] = VLY_MAX_DRAFT;
    for (int i = 0; i < VLY_MAX_DRAFT; i++) g.accepted[VLY_ARM_COPY][i] = (vly_tally){50, 5};
    assert_true(vly_governor_keeps(&g, &in)); /* what is copied was not right often */
    for (int i = 0; i < VLY_MAX_DRAFT; i++) g.accepted[VLY_ARM_COPY][i] = (vly_tally){50, 50};
    assert_false(vly_governor_keeps(&g, &in));
    /* Half of what n-grams propose is decided ahead of them. */
    in.ahead = (vly_ahead){.n = 2, .arm = VLY_ARM_NONE};
    for (uint32_t k = 1; k <= 2; k++) {
        in.k_max[VLY_ARM_COPY] = k;
        in.k_max[VLY_ARM_MODEL] = 0;
        assert_true(vly_governor_keeps(&g, &in));
    }
    in.k_max[VLY_ARM_COPY] = VLY_MAX_DRAFT;
    assert_false(vly_governor_keeps(&g, &in));
}

/* Where to wait for the host takes long, a row of blocks is left for a sure gain alone; where it is
 * left nobody waits twice. */
static void test_leaving_costs(void **state)
{
    (void)state;
    const device *d = &devices[3];
    vly_profile p = calibrated(d);
    vly_governor g;
    vly_governor_init(&g, &p, false);
    p.overhead_ns[VLY_ARM_NONE] = 1000;
    vly_governor_input in = {.left = 100, .k_max = {0, 8}, .ahead = {1, VLY_ARM_NONE, 0}};
    /* One token in two: two drafted ones gain 0.6 of a block where nothing is left for them. */
    for (int i = 0; i < VLY_MAX_DRAFT; i++) g.accepted[VLY_ARM_NGRAM][i] = (vly_tally){500, 250};
    assert_false(vly_governor_keeps(&g, &in));
    p.wait_ns = 200000;
    assert_true(vly_governor_keeps(&g, &in));
    in.ahead.n = 0;
    assert_int_equal(vly_governor_choose(&g, &in).arm, VLY_ARM_NONE);
    p.overhead_ns[VLY_ARM_NGRAM] = 50000;
    assert_int_equal(vly_governor_choose(&g, &in).arm, VLY_ARM_NGRAM);
}

/* What n-grams would have proposed is learned without drafting by them. */
static void test_learns_by_watching(void **state)
{
    (void)state;
    vly_profile p = calibrated(&devices[1]);
    vly_governor g;
    vly_governor_init(&g, &p, false);
    double before = vly_governor_expect(&g, VLY_ARM_NGRAM, 4);
    for (int i = 0; i < 10; i++)
        for (uint32_t j = 0; j < 3; j++) vly_governor_watch(&g, VLY_ARM_NGRAM, j, j < 2);
    double after = vly_governor_expect(&g, VLY_ARM_NGRAM, 4);
    assert_true(after > before && after > 2.2 && after < 3.2);
    for (int i = 0; i < 40; i++) vly_governor_watch(&g, VLY_ARM_NGRAM, 0, false);
    assert_true(vly_governor_expect(&g, VLY_ARM_NGRAM, 4) < 1.2);
    vly_governor_input in = {.left = 1000, .k_max = {0, VLY_MAX_DRAFT}};
    vly_outcome o = {.n_tok = 1, .verify_ns = p.verify_ns, .wall_ns = p.verify_ns + 1000};
    for (int i = 0; i < 5000; i++) { /* and is never tried for the sake of it */
        vly_decision c = vly_governor_choose(&g, &in);
        assert_int_equal(c.k, 0);
        vly_governor_learn(&g, &c, &o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_much_slower_than_plain),
        cmocka_unit_test(test_near_the_best_fixed_length),
        cmocka_unit_test(test_learns_what_calibration_got_wrong),
        cmocka_unit_test(test_follows_a_change),
        cmocka_unit_test(test_first_texts),
        cmocka_unit_test(test_short_texts_of_another_kind),
        cmocka_unit_test(test_hopeless_costs_nothing),
        cmocka_unit_test(test_unknown_times),
        cmocka_unit_test(test_beside_others),
        cmocka_unit_test(test_keeps_to_what_is_in_flight),
        cmocka_unit_test(test_leaving_costs),
        cmocka_unit_test(test_learns_by_watching),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
