#include "spec/profile.h"

#include <math.h>

#define FAST 0.1  /* weight of a new time in a mean */
#define SLOW 0.03 /* the same in a ratio */

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

void vly_profile_add_time(double *mean, double ns)
{
    if (!(ns > 0) || !isfinite(ns)) return;
    *mean = *mean > 0 ? *mean * pow(clamp(ns / *mean, 0.5, 2), FAST) : ns;
}

void vly_profile_set_ratio(vly_profile *p, uint32_t n, double ratio)
{
    if (ratio > 0 && isfinite(ratio)) p->verify_ratio[n] = (float)clamp(ratio, 0.5, 64);
}

/* A time of several tokens does not tell whether the level or the ratio was wrong: most of the
 * difference is given to the level, and what is wrong of that is put right by the next pass over
 * one token. */
void vly_profile_add_verify(vly_profile *p, uint32_t n, double ns)
{
    if (!(ns > 0) || !isfinite(ns)) return;
    if (n == 1) {
        vly_profile_add_time(&p->verify_ns, ns);
        p->verify_ratio[1] = 1;
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

double vly_profile_verify_ns(const vly_profile *p, uint32_t n)
{
    double least = 0;
    for (; n <= VLY_MAX_BATCH; n++) {
        double ratio = (double)p->verify_ratio[n];
        if (ratio > 0 && (least == 0 || ratio < least)) least = ratio;
    }
    return p->verify_ns * least;
}
