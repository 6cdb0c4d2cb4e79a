/* Do draws follow a distribution? Pearson's chi-square test. */
#ifndef TESTS_CHI_SQUARE_H
#define TESTS_CHI_SQUARE_H

#include <stdint.h>

/* The statistic of `counts` [n], of `n_draws` draws, against `probability` [n], over what it may
 * come to: above 1 where draws from that distribution would be so far off in less than one of
 * 10,000 cases. INFINITY where something impossible was drawn. Fails the test where the draws are
 * too few to tell: less than 5 expected of anything possible. */
double chi_square_excess(const uint32_t *counts, const double *probability, uint32_t n,
                         uint32_t n_draws);

#endif
