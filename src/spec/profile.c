#include "spec/profile.h"

#include <math.h>
#include <string.h>

#define FAST 0.1  /* weight of a new time in a mean */
#define SLOW 0.03 /* the same in a ratio */

#define MIN_RATIO 0.5
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
    p->ready[n] = true;
    find_least_ratios(p);
}

/* A time of several tokens does not tell whether the level or the ratio was wrong: most of the
 * difference is given to the level, and what is wrong of that is put right by the next pass over
 * one token. */
void vly_profile_add_verify(vly_profile *p, uint32_t n, double ns)
{
    if (!(ns > 0) || !isfinite(ns)) return;
    if (n == 1) {
        vly_profile_add_time(&p->verify_ns, ns);
        vly_profile_set_ratio(p, 1, 1);
        return;
    }
    if (!(p->verify_ns > 0)) return;
    if (!(p->verify_ratio[n] > 0)) {
        vly_profile_set_ratio(p, n, ns / p->verify_ns);
        return;
    }
    double off = clamp(ns / (p->verify_ns * (double)p->verify_ratio[n]), 0.5, 2);
    p->verify_ns *= pow(off, FAST);
    vly_profile_set_ratio(p, n, (double)p->verify_ratio[n] * pow(off, SLOW));
}

/* N-grams take the same time, however long they match. */
static vly_arm timed_as(vly_arm arm)
{
    return arm == VLY_ARM_COPY ? VLY_ARM_NGRAM : arm;
}

double vly_profile_overhead_ns(const vly_profile *p, vly_arm arm)
{
    double ns = p->overhead_ns[timed_as(arm)];
    return ns > 0 ? ns : p->overhead_ns[VLY_ARM_NONE];
}

void vly_profile_learn(vly_profile *p, vly_arm arm, const vly_outcome *o)
{
    double device_ns = o->draft_ns + o->verify_ns;
    /* Without time stamps all of a block without draft steps is taken for the target's pass. */
    bool by_model = vly_arm_by_model(arm);
    double verify = o->verify_ns > 0 ? o->verify_ns : by_model ? 0 : o->wall_ns;
    if (o->n_tok > 0 && o->n_tok <= VLY_MAX_BATCH) vly_profile_add_verify(p, o->n_tok, verify);
    if (by_model && o->n_drafted > 0) {
        double draft = o->draft_ns;
        if (!(draft > 0)) draft = o->wall_ns - vly_profile_verify_ns(p, o->n_tok);
        vly_profile_add_time(&p->step_ns[arm], draft / o->n_drafted);
    }
    /* The first of a row tells no more of the others than blocks without a proposal do. */
    double overhead = o->first ? p->overhead_ns[VLY_ARM_NONE] : o->wall_ns - device_ns;
    if (o->n_tok > 0 && o->verify_ns > 0 && overhead > 0)
        vly_profile_add_time(&p->overhead_ns[timed_as(arm)], overhead);
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
              p->elapsed_ns < 1e18 && p->probe_ns >= 0 && p->probe_ns < 1e18;
    for (uint32_t n = 0; n <= VLY_MAX_BATCH; n++)
        ok = ok && p->verify_ratio[n] >= 0 && p->verify_ratio[n] <= (float)MAX_RATIO;
    for (int arm = 0; arm < VLY_N_ARMS; arm++) {
        ok = ok && is_time(p->step_ns[arm]) && is_time(p->overhead_ns[arm]);
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
