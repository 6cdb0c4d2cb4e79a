/* What repeated measurements come to: medians, quantiles, and how sure a mean is. */
#ifndef VLY_BASE_STATS_H
#define VLY_BASE_STATS_H

#include <stddef.h>

typedef struct {
    size_t n;
    double min, p10, median, p90, max, mean;
} vly_spread;

/* Into ascending order; where one is NAN, into any. */
void vly_sort(double *values, size_t n);

/* Of `n` values, which are sorted in place. Quantiles between two values are in proportion; with n
 * = 0 all figures are NAN. */
vly_spread vly_spread_of(double *values, size_t n);

/* The quantile `q`, 0..1, of `n` values in ascending order; NAN with n = 0. */
double vly_quantile(const double *sorted, size_t n, double q);

/* The median alone. */
double vly_median(double *values, size_t n);

/* The 95% confidence interval of the mean of `n` independent values: mean +- t s / sqrt(n), with
 * Student's t. NAN where n < 2. */
void vly_mean_interval(const double *values, size_t n, double *low, double *high);

/* The 95% confidence interval of sum(y) / sum(x), over `n` independent pairs: the ratio +- t times
 * its standard error by linearisation (Cochran, Sampling Techniques, 6.4). NAN where n < 2. */
void vly_ratio_interval(const double *y, const double *x, size_t n, double *low, double *high);

#endif
