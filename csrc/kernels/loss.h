/* loss.h: one row per loss: the loss of each batch row and the gradient of their weighted mean. Here the losses whose columns are
 * not all alike; those by elements and the cross-entropy have files of their own. */
#ifndef FBP_LOSS_H
#define FBP_LOSS_H

#include "cross_entropy.h"
#include "loss_elements.h"

/* The class of row i: its label, or the first column of the row's largest target. *sum, which is 0, becomes NaN if a target is
 * not finite. */
INLINE size_t class_of(const struct fbp_loss_rows *l, size_t i, real *sum)
{
    *sum = 0;
    if (l->label) return (size_t)l->label[i];
    const real *t = (const real *)l->target[i];
    size_t y = 0;
    for (size_t j = 0; j < l->n; j++) {
        *sum += 0 * t[j];
        if (t[j] > t[y]) y = j;
    }
    return y;
}

static double hinge_wide(const struct fbp_loss_rows *l, size_t i, size_t y)
{
    const real *z = (const real *)l->out + (ptrdiff_t)i * l->ldo;
    real *g = l->grad ? (real *)l->grad + (ptrdiff_t)i * l->ldg : NULL;
    const double scale = l->scale * weight_of(l, i);
    double sum = 0, count = 0;
    for (size_t j = 0; j < l->n; j++) {
        const double x = j == y ? 0 * (double)z[y] : ((double)z[j] - (double)z[y]) + l->a, slope = wide_signed(x, 1, 0);
        sum += x < 0 ? 0 : x;
        count += slope;
        if (g) g[j] = (real)(slope * scale);
    }
    if (g) g[y] = (real)(-count * scale);
    return sum;
}

/* Multi-class hinge of scores z (Weston and Watkins): e = sum over j != y of max(0, x_j), x_j = a + z_j - z_y; de/dz_j = [x_j > 0],
 * de/dz_y = -sum of them. Class y itself takes part as z = -inf: x is -inf, and counts nothing. */
static void hinge_rows(const struct fbp_loss_rows *l)
{
    const vec a = vset1((real)l->a), nothing = vset1(-(real)INFINITY);
    for (size_t i = 0; i < l->m; i++) {
        const real *z = (const real *)l->out + (ptrdiff_t)i * l->ldo;
        const vec scale = vset1((real)(l->scale * weight_of(l, i)));
        real *g = l->grad ? (real *)l->grad + (ptrdiff_t)i * l->ldg : NULL, bad;
        const size_t y = class_of(l, i, &bad);
        const vec right = vset1(z[y]);
        vec s[NB], count[NB];
        for (int b = 0; b < NB; b++) s[b] = count[b] = vzero();
        for (size_t j = 0; j < l->n; j += LANES)
            for (int b = 0; b < NB && j + (size_t)b * VL < l->n; b++) {
                const size_t at = j + (size_t)b * VL, left = l->n - at;
                vec v = load_block(z + at, 0, left, nothing);
                if (y - at < (size_t)VL) v[y - at] = -(real)INFINITY;
                const vec x = (v - right) + a, slope = vsigned(x, vset1(1), vzero());
                s[b] = s[b] + vmax(vzero(), x);
                count[b] = count[b] + slope;
                if (g) store_block(g + at, slope * scale, left);
            }
        if (g) g[y] = -(vsum_lanes(count) * scale[0]);
        double loss = (double)vsum_lanes(s) + (double)bad;
        if (!isfinite(loss)) loss = hinge_wide(l, i, y) + (double)bad;
        l->loss[i] = weight_of(l, i) * loss;
    }
}

/* x q, where an infinite q leaves 0 alone: a residual of 0 is none, however small the variance. */
INLINE double stretched(double x, double q) { return x == 0 && q > 0 ? 0 : x * q; }

static double gaussian_nll_wide(const struct fbp_loss_rows *l, size_t i)
{
    const size_t units = l->n / 2;
    const real *mean = (const real *)l->out + (ptrdiff_t)i * l->ldo, *t = (const real *)l->target[i];
    const double scale = l->scale * weight_of(l, i);
    double sum = 0;
    for (size_t j = 0; j < units; j++) {
        const double s = (double)mean[units + j], q = wide_exp(-0.5 * s), r = stretched((double)mean[j] - (double)t[j], q);
        sum += 0.5 * (s + r * r);
        if (l->grad == NULL) continue;
        real *g = (real *)l->grad + (ptrdiff_t)i * l->ldg + j;
        g[0] = (real)(stretched(r, q) * scale);
        g[units] = (real)(0.5 * (1 - r * r) * scale);
    }
    return sum;
}

/* Gaussian negative log-likelihood. The columns of out are U means mu, then U logarithms s of variances: e = 1/2 sum (s + r^2),
 * r = (mu - t) e^(-s/2); de/dmu = r e^(-s/2), de/ds = 1/2 (1 - r^2). q = e^(-s/4) is applied in turn: r overflows no sooner
 * than it has to, and a large residual with a large variance is not lost. */
static void gaussian_nll_rows(const struct fbp_loss_rows *l)
{
    const size_t units = l->n / 2;
    const vec half = vset1((real)0.5);
    for (size_t i = 0; i < l->m; i++) {
        const real *mean = (const real *)l->out + (ptrdiff_t)i * l->ldo, *t = (const real *)l->target[i];
        const vec scale = vset1((real)(l->scale * weight_of(l, i)));
        vec sum[NB];
        for (int b = 0; b < NB; b++) sum[b] = vzero();
        for (size_t j = 0; j < units; j += LANES)
            for (int b = 0; b < NB && j + (size_t)b * VL < units; b++) {
                const size_t at = j + (size_t)b * VL, left = units - at;
                const vec s = load_block(mean + units + at, 0, left, vzero()), q = vexp(vset1((real)-0.25) * s);
                const vec d = load_block(mean + at, 0, left, vzero()) - load_block(t + at, 0, left, vzero());
                const vec r = d * q * q;
                sum[b] = vfma(half, vfma(r, r, s), sum[b]);
                if (l->grad == NULL) continue;
                real *g = (real *)l->grad + (ptrdiff_t)i * l->ldg + at;
                store_block(g, r * q * q * scale, left);
                store_block(g + units, vfnma(half * r, r, half) * scale, left);
            }
        double loss = (double)vsum_lanes(sum);
        if (!isfinite(loss)) loss = gaussian_nll_wide(l, i);
        l->loss[i] = weight_of(l, i) * loss;
    }
}

#define ANY -INFINITY, INFINITY
#define LOSSES                                                                                          \
    {                                                                                                   \
        [FBP_SQUARED_ERROR] = {"squared_error", 0, 1, NAN, ANY, squared_error_rows},                    \
        [FBP_CROSS_ENTROPY] = {"cross_entropy", 1, 1, 0.0, ANY, cross_entropy_rows},                    \
        [FBP_ABSOLUTE_ERROR] = {"absolute_error", 0, 1, NAN, ANY, absolute_error_rows},                 \
        [FBP_HUBER] = {"huber", 0, 1, 1.0, ANY, huber_rows},                                            \
        [FBP_LOG_COSH] = {"log_cosh", 0, 1, NAN, ANY, log_cosh_rows},                                   \
        [FBP_QUANTILE] = {"quantile", 0, 1, 0.5, ANY, quantile_rows},                                   \
        [FBP_BINARY_CROSS_ENTROPY] = {"binary_cross_entropy", 0, 1, NAN, 0, 1, binary_cross_entropy_rows},\
        [FBP_HINGE] = {"hinge", 1, 1, 1.0, ANY, hinge_rows},                                            \
        [FBP_BINARY_HINGE] = {"binary_hinge", 0, 1, 1.0, ANY, binary_hinge_rows},                       \
        [FBP_POISSON] = {"poisson", 0, 1, NAN, 0, INFINITY, poisson_rows},                              \
        [FBP_GAUSSIAN_NLL] = {"gaussian_nll", 0, 2, NAN, ANY, gaussian_nll_rows},                       \
    }

#endif
