#include "spec/profile.h"

#include <math.h>
#include <string.h>

#define QUICK 0.3  /* weight of a new time in that of one token */
#define FAST  0.1  /* in other means */
#define SLOW  0.03 /* in a ratio that comes from many times */

#define CLOCKS     1.25 /* what is off by less is no change of clocks */
#define MOST       4    /* no block changes the time of one token by more than this factor */
#define CALIBRATED 3    /* so many times a measured ratio counts for */

#define MIN_RATIO 1.0
#define MAX_RATIO 128.0

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

void vly_profile_add_time(double *mean, double ns)
{
    if (!(ns > 0) || !isfinite(ns)) return;
    *mean = *mean > 0 ? *mean * pow(clamp(ns / *mean, 0.5, 2), FAST) : ns;
}

static void find_least_ratios(vly_profile *p)
{
    float least = 0;
    for (uint32_t n = VLY_MAX_BATCH; n > 0; n--) {
        if (p->ready[n] && (least == 0 || p->verify_ratio[n] < least)) least = p->verify_ratio[n];
        p->least_ratio[n] = least;
    }
}

void vly_profile_set_ratio(vly_profile *p, uint32_t n, double ratio)
{
    if (!(ratio > 0) || !isfinite(ratio)) return;
    p->verify_ratio[n] = (float)clamp(ratio, MIN_RATIO, MAX_RATIO);
    p->ratio_tries[n] = CALIBRATED;
    vly_profile_set_ready(p, n);
}

static void change_ratio(vly_profile *p, uint32_t n, double factor)
{
    double ratio = (double)p->verify_ratio[n] * factor;
    p->verify_ratio[n] = (float)clamp(ratio, MIN_RATIO, MAX_RATIO);
}

void vly_profile_set_ready(vly_profile *p, uint32_t n)
{
    p->ready[n] = true;
    find_least_ratios(p);
}

/* What slows one pass down, another program or low clocks, slows all of both models. */
static void change_level(vly_profile *p, double factor)
{
    p->verify_ns *= factor;
    p->feed_ns *= factor;
    for (int arm = 0; arm < VLY_N_ARMS; arm++) {
        p->step_ns[arm] *= factor;
        p->begin_ns[arm] *= factor;
    }
}

void vly_profile_set_level(vly_profile *p, double ns)
{
    if (!(ns > 0) || !isfinite(ns)) return;
    if (p->verify_ns > 0) change_level(p, ns / p->verify_ns);
    p->verify_ns = ns;
    vly_profile_set_ratio(p, 1, 1);
}

/* A time of several tokens does not tell whether the level or the ratio was wrong: of a ratio that
 * comes from many times most of the difference is given to the level, and what is wrong of that is
 * put right by the next pass over one token. */
void vly_profile_add_verify(vly_profile *p, uint32_t n, double ns)
{
    if (!(ns > 0) || !isfinite(ns)) return;
    if (n == 1) {
        double off = p->verify_ns > 0 ? ns / p->verify_ns : 1;
        if (!(p->verify_ns > 0)) vly_profile_set_level(p, ns);
        vly_profile_set_level(p, p->verify_ns * pow(clamp(off, 1.0 / MOST, MOST), QUICK));
        return;
    }
    if (!(p->verify_ns > 0)) return;
    if (!(p->verify_ratio[n] > 0)) {
        vly_profile_set_ratio(p, n, ns / p->verify_ns);
        return;
    }
    double off = clamp(ns / (p->verify_ns * (double)p->verify_ratio[n]), 0.5, 2);
    double tries = (double)p->ratio_tries[n] + 1, weight = fmax(SLOW, 1 / tries);
    change_level(p, pow(off, FAST * (1 - weight)));
    /* If calibration had the time of one token wrong, it has all ratios wrong alike. */
    for (uint32_t i = 2; i <= VLY_MAX_BATCH; i++)
        if (i == n || p->ratio_tries[i] == CALIBRATED) change_ratio(p, i, pow(off, weight));
    p->ratio_tries[n] = (float)fmin(tries, 1 / SLOW);
    find_least_ratios(p);
}

/* N-grams take the same time, however long they match. */
static vly_arm timed_as(vly_arm arm)
{
    return arm == VLY_ARM_COPY ? VLY_ARM_NGRAM : arm;
}

double vly_profile_overhead_ns(const vly_profile *p, vly_arm arm)
{
    double ns = p->overhead_ns[timed_as(arm)];
    if (ns > 0) return ns;
    bool waits = arm != VLY_ARM_NONE && arm != VLY_ARM_MODEL && p->wait_ns > 0;
    return waits ? p->wait_ns : p->overhead_ns[VLY_ARM_NONE];
}

double vly_profile_leave_ns(const vly_profile *p)
{
    return fmax(p->wait_ns - p->overhead_ns[VLY_ARM_NONE], 0);
}

/* Of the time of draft steps, that without reading on before the first one. A step takes no less
 * than a token that is read. */
static double drafted_ns(const vly_profile *p, const vly_outcome *o, double draft_ns)
{
    double read = o->n_fed > VLY_USUALLY_FED ? o->n_fed - VLY_USUALLY_FED : 0;
    double least = draft_ns * o->n_drafted / (o->n_drafted + read);
    return fmax(draft_ns - read * p->feed_ns, least);
}

double vly_profile_draft_ns(const vly_profile *p, vly_arm arm, uint32_t k)
{
    return vly_arm_by_model(arm) ? p->begin_ns[arm] + k * p->step_ns[arm] : 0;
}

/* A block of one token tells what the first step takes, others what further ones do. */
static void add_draft(vly_profile *p, vly_arm arm, uint32_t k, double ns)
{
    double *begin = &p->begin_ns[arm], *step = &p->step_ns[arm];
    if (!(*step > 0)) *step = ns / k;
    double expected = vly_profile_draft_ns(p, arm, k);
    double more = FAST * (clamp(ns, expected / 2, expected * 2) - expected);
    if (k > 1) {
        *step = fmax(*step + more / k, *step / 2);
        return;
    }
    *begin += more;
    if (*begin > 0) return;
    *step += *begin;
    *begin = 0;
}

/* By what factor the times of both models were off, in so far as they agree: that is the machine's,
 * clocks or load, and says nothing of ratios. */
static double shared_change(double verify, double expected_verify, double draft,
                            double expected_draft)
{
    if (!(verify > 0) || !(draft > 0) || !(expected_verify > 0) || !(expected_draft > 0)) return 1;
    double a = verify / expected_verify, b = draft / expected_draft;
    double both = a > 1 ? fmax(fmin(a, b), 1) : fmin(fmax(a, b), 1);
    return both > CLOCKS || both < 1 / CLOCKS ? clamp(both, 1.0 / MOST, MOST) : 1;
}

void vly_profile_learn(vly_profile *p, vly_arm arm, const vly_outcome *o)
{
    double device_ns = o->draft_ns + o->verify_ns;
    /* Without time stamps all of a block without draft steps is taken for the target's pass. */
    bool by_model = vly_arm_by_model(arm);
    double verify = o->verify_ns > 0 ? o->verify_ns : by_model ? 0 : o->wall_ns;
    double draft = 0, expected_verify = vly_profile_verify_ns(p, o->n_tok);
    if (by_model && o->n_drafted > 0) {
        draft = o->draft_ns > 0 ? o->draft_ns : o->wall_ns - expected_verify;
        draft = drafted_ns(p, o, draft);
    }
    change_level(p, shared_change(verify, expected_verify, draft,
                                  vly_profile_draft_ns(p, arm, o->n_drafted)));
    if (o->n_tok > 0 && o->n_tok <= VLY_MAX_BATCH) vly_profile_add_verify(p, o->n_tok, verify);
    if (draft > 0) add_draft(p, arm, o->n_drafted, draft);
    double overhead = o->wall_ns - device_ns;
    if (!(o->n_tok > 0 && o->verify_ns > 0 && overhead > 0)) return;
    if (o->first) {
        if (!(p->wait_ns > 0)) p->wait_ns = fmin(overhead, o->verify_ns);
        vly_profile_add_time(&p->wait_ns, overhead);
        /* It tells no more of the others in its row than blocks without a proposal do. */
        overhead = p->overhead_ns[VLY_ARM_NONE];
    }
    double *mean = &p->overhead_ns[timed_as(arm)];
    /* A single block may have waited for another program. */
    if (!(*mean > 0)) *mean = vly_profile_overhead_ns(p, arm);
    vly_profile_add_time(mean, overhead);
}

/* A time of less than an hour. */
static bool is_time(double ns)
{
    return ns >= 0 && ns < 3.6e12;
}

static bool is_tally(vly_tally t)
{
    return t.hits >= 0 && t.hits <= t.tries && t.tries < 1e6f;
}

static bool is_sane(const vly_profile *p)
{
    bool ok = is_time(p->verify_ns) && is_time(p->feed_ns) && p->elapsed_ns >= 0 &&
              is_time(p->wait_ns) && p->elapsed_ns < 1e18 && p->probe_ns >= 0 && p->probe_ns < 1e18;
    for (uint32_t n = 0; n <= VLY_MAX_BATCH; n++)
        ok = ok && p->verify_ratio[n] >= 0 && p->verify_ratio[n] <= (float)MAX_RATIO &&
             p->ratio_tries[n] >= 0 && p->ratio_tries[n] < 1e6f;
    for (int arm = 0; arm < VLY_N_ARMS; arm++) {
        ok = ok && is_time(p->step_ns[arm]) && is_time(p->begin_ns[arm]) &&
             is_time(p->overhead_ns[arm]);
        for (int i = 0; i < VLY_N_ACCEPTANCES * VLY_MAX_DRAFT; i++)
            ok = ok && is_tally(p->accepted[i / VLY_MAX_DRAFT][arm][i % VLY_MAX_DRAFT]);
    }
    return ok;
}

bool vly_profile_load(vly_profile *p, const void *data, size_t n_bytes)
{
    vly_profile loaded;
    if (n_bytes != sizeof loaded) return false;
    memcpy(&loaded, data, sizeof loaded);
    if (!is_sane(&loaded)) return false;
    *p = loaded;
    memset(p->ready, 0, sizeof p->ready);
    find_least_ratios(p);
    p->n_loaded++;
    return true;
}

double vly_profile_verify_ns(const vly_profile *p, uint32_t n)
{
    return n <= VLY_MAX_BATCH ? p->verify_ns * (double)p->least_ratio[n] : 0;
}
