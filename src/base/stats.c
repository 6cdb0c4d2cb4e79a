#include "base/stats.h"

#include <math.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void vly_sort(double *values, size_t n)
{
    if (n) qsort(values, n, sizeof *values, compare);
}

double vly_quantile(const double *sorted, size_t n, double q)
{
    if (n == 0) return NAN;
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

vly_spread vly_spread_of(double *values, size_t n)
{
    if (n == 0) return (vly_spread){0, NAN, NAN, NAN, NAN, NAN, NAN};
    vly_sort(values, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    return (vly_spread){.n = n,
                        .min = values[0],
                        .p10 = vly_quantile(values, n, 0.1),
                        .median = vly_quantile(values, n, 0.5),
                        .p90 = vly_quantile(values, n, 0.9),
                        .max = values[n - 1],
                        .mean = sum / (double)n};
}

double vly_median(double *values, size_t n)
{
    return vly_spread_of(values, n).median;
}

/* The 97.5% quantile of Student's t with `df` >= 1 degrees of freedom, to within 0.01: a table, and
 * beyond it the expansion around the normal quantile (Abramowitz and Stegun, 26.7.5). */
static double student_t(size_t df)
{
    static const double t[] = {0,     12.706, 4.303, 3.182, 2.776, 2.571,
                               2.447, 2.365,  2.306, 2.262, 2.228};
    if (df < sizeof t / sizeof *t) return t[df];
    double z = 1.959964, n = (double)df;
    return z + (z * z * z + z) / (4 * n) + (5 * pow(z, 5) + 16 * z * z * z + 3 * z) / (96 * n * n);
}

void vly_mean_interval(const double *values, size_t n, double *low, double *high)
{
    *low = *high = NAN;
    if (n < 2) return;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += (values[i] - mean) * (values[i] - mean);
    double half = student_t(n - 1) * sqrt(squares / (double)(n - 1) / (double)n);
    *low = mean - half;
    *high = mean + half;
}

void vly_ratio_interval(const double *y, const double *x, size_t n, double *low, double *high)
{
    *low = *high = NAN;
    if (n < 2) return;
    double sum_y = 0, sum_x = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum_y += y[i];
        sum_x += x[i];
    }
    double ratio = sum_y / sum_x;
    for (size_t i = 0; i < n; i++) squares += (y[i] - ratio * x[i]) * (y[i] - ratio * x[i]);
    double half = student_t(n - 1) * sqrt(squares * (double)n / (double)(n - 1)) / fabs(sum_x);
    *low = ratio - half;
    *high = ratio + half;
}
