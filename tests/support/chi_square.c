#include "tests/support/chi_square.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The 0.9999 quantile of chi-square with n degrees: Wilson and Hilferty, PNAS 17 (1931), 684. */
static double limit(double n)
{
    double z = 3.719, a = 2.0 / (9.0 * n);
    return n * pow(1.0 - a + z * sqrt(a), 3.0);
}

double chi_square_excess(const uint32_t *counts, const double *probability, uint32_t n,
                         uint32_t n_draws)
{
    double chi = 0.0;
    int degrees = -1;
    for (uint32_t i = 0; i < n; i++) {
        double expected = probability[i] * n_draws;
        if (expected == 0.0 && counts[i] > 0) return INFINITY;
        if (expected == 0.0) continue;
        if (expected < 5.0) fail_msg("%.1f draws of %u expected: too few", expected, i);
        chi += (counts[i] - expected) * (counts[i] - expected) / expected;
        degrees++;
    }
    return degrees > 0 ? chi / limit(degrees) : 0.0;
}
