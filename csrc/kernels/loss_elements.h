/* loss_elements.h: the losses that are a sum over elements, e(o, t), each with its derivative by o; and what all losses share.
 *
 * A row is summed in reals, in the fixed lane layout. If the sum is not finite, though its inputs may be, the row is done once
 * more in doubles, of which each loss has a plain form: residuals of 1e30 have squares that only a double holds. The scale of a
 * row's gradient is its weight over the sum of all weights; a weight of 1 changes no bit.
 */
#ifndef FBP_LOSS_ELEMENTS_H
#define FBP_LOSS_ELEMENTS_H

#include <math.h>

#include "kernels.h"
#include "reduce.h"
#include "vmath.h"

typedef vec element_fn(vec o, vec t, vec a, vec s, vec *g);             /* s + e(o, t; a); *g = de/do */
typedef double wide_fn(double o, double t, double a, double *g);        /* e(o, t; a); *g = de/do */

INLINE double weight_of(const struct fbp_loss_rows *l, size_t i) { return l->weight ? l->weight[i] : 1; }

/* e^x as a double, which has room for it up to x = 709: 2^n (1 + p) as in vmath.h, 2^n in two halves. */
static double wide_exp(double x)
{
    const double most = 1400, magic = 0x1.8p52;         /* 2^n of neither half overflows; rounds to an integer */
    if (x != x) return x;
    x = x > most ? most : x < -most ? -most : x;
    const double n = (x * LOG2_E + magic) - magic;
    const vec r = vset1((real)(x - n * LN2));
    const int64_t power = (int64_t)n, half = power / 2;
    const uint64_t bits[2] = {(uint64_t)(half + 1023) << 52, (uint64_t)(power - half + 1023) << 52};
    double factor[2];
    memcpy(factor, bits, sizeof factor);
    return (double)vfma(r, HORNER(r, exp_p), vset1(1))[0] * factor[0] * factor[1];
}

/* Row i in doubles, each element that a real cannot hold by its wide form. NaN goes on as NaN. */
INLINE double wide_row(const struct fbp_loss_rows *l, size_t i, element_fn *element, wide_fn *wide)
{
    const real *o = (const real *)l->out + (ptrdiff_t)i * l->ldo, *t = (const real *)l->target[i];
    const double scale = l->scale * weight_of(l, i);
    double sum = 0;
    for (size_t j = 0; j < l->n; j++) {
        vec slope;
        double e = (double)element(vset1(o[j]), vset1(t[j]), vset1((real)l->a), vzero(), &slope)[0], g = (double)slope[0];
        if (!isfinite(e) || !isfinite(g)) {
            e = wide((double)o[j], (double)t[j], l->a, &g);
            if (e != e) g = e;
        }
        sum += e;
        if (l->grad) ((real *)l->grad)[(ptrdiff_t)i * l->ldg + (ptrdiff_t)j] = (real)(g * scale);
    }
    return sum;
}

INLINE void elementwise_rows(const struct fbp_loss_rows *l, element_fn *element, wide_fn *wide)
{
    const vec a = vset1((real)l->a);
    for (size_t i = 0; i < l->m; i++) {
        const real *o = (const real *)l->out + (ptrdiff_t)i * l->ldo, *t = (const real *)l->target[i];
        const vec scale = vset1((real)(l->scale * weight_of(l, i)));
        vec s[NB];
        for (int b = 0; b < NB; b++) s[b] = vzero();
        for (size_t j = 0; j < l->n; j += LANES)
            for (int b = 0; b < NB && j + (size_t)b * VL < l->n; b++) {
                const size_t at = j + (size_t)b * VL, left = l->n - at;
                vec g, sum = element(load_block(o + at, 0, left, vzero()), load_block(t + at, 0, left, vzero()), a, s[b], &g);
                s[b] = left >= (size_t)VL ? sum : vfill(sum, vtail_of(left), s[b]);
                if (l->grad) store_block((real *)l->grad + (ptrdiff_t)i * l->ldg + at, g * scale, left);
            }
        double loss = (double)vsum_lanes(s);
        if (!isfinite(loss)) loss = wide_row(l, i, element, wide);
        l->loss[i] = weight_of(l, i) * loss;
    }
}

/* `above` where d > 0, `below` where d < 0; else d itself, which is 0 (the slope at a kink, as PyTorch has it) or NaN. */
INLINE vec vsigned(vec d, vec above, vec below) { return vselect(vless(vzero(), d), above, vselect(vless(d, vzero()), below, d)); }
INLINE double wide_signed(double d, double above, double below) { return d > 0 ? above : d < 0 ? below : d; }

/* e = 1/2 (o - t)^2 */
INLINE vec squared_error(vec o, vec t, vec a, vec s, vec *g)
{
    (void)a;
    *g = o - t;
    return vfma(vset1((real)0.5) * *g, *g, s);
}
INLINE double squared_error_wide(double o, double t, double a, double *g)
{
    (void)a;
    *g = o - t;
    return 0.5 * *g * *g;
}

/* e = |o - t| */
INLINE vec absolute_error(vec o, vec t, vec a, vec s, vec *g)
{
    (void)a;
    *g = vsigned(o - t, vset1(1), vset1(-1));
    return s + vabs(o - t);
}
INLINE double absolute_error_wide(double o, double t, double a, double *g)
{
    (void)a;
    *g = wide_signed(o - t, 1, -1);
    return *g * (o - t);
}

/* e = c (|d| - c/2), d = o - t, c = min(|d|, a): 1/2 d^2 up to a, a line of slope a from there on. */
INLINE vec huber(vec o, vec t, vec a, vec s, vec *g)
{
    const vec d = o - t, c = vmin(a, vabs(d));
    *g = vmax(-a, vmin(a, d));
    return vfma(c, vabs(d) - vset1((real)0.5) * c, s);
}
INLINE double huber_wide(double o, double t, double a, double *g)
{
    const double d = o - t, c = d > a ? a : d < -a ? -a : d;
    *g = c;
    return c * (d - 0.5 * c);
}

/* e = log cosh x, x = o - t; de/do = tanh x. With y = tanh^2 x, cosh^-2 x = 1 - y: near 0, where a difference of large numbers
 * would leave nothing, e = -1/2 log1p(-y) by the polynomial of vlog; else |x| - log 2 + log(1 + e^(-2|x|)). */
#define LOG_COSH_SMALL ((real)0.875)        /* y < 1/2, where the polynomial holds */
INLINE vec log_cosh(vec o, vec t, vec a, vec s, vec *g)
{
    const vec x = o - t, ax = vabs(x), th = vtanh(x), y = th * th;
    const vec q = y / (vset1(2) - y), z = q * q;
    const vec small = vset1((real)0.5) * vfma(q, vfma(z, HORNER(z, log_r), y), y);
    const vec large = (ax - vset1((real)LN2)) + vsoftplus(vset1(-2) * ax);
    (void)a;
    *g = th;
    return s + vselect(vless(ax, vset1(LOG_COSH_SMALL)), small, large);
}
INLINE double log_cosh_wide(double o, double t, double a, double *g)
{
    return absolute_error_wide(o, t, a, g) - LN2;
}

/* e = max(a d, (a - 1) d), d = t - o: a for each unit the output is too low, 1 - a for each it is too high. */
INLINE vec quantile(vec o, vec t, vec a, vec s, vec *g)
{
    const vec d = t - o, b = a - vset1(1);
    *g = vsigned(d, -a, -b);
    return s + vmax(b * d, a * d);
}
INLINE double quantile_wide(double o, double t, double a, double *g)
{
    *g = wide_signed(t - o, -a, 1 - a);
    return *g * (o - t);
}

/* e = softplus(z) - t z = (max(0, z) - t z) + log(1 + e^-|z|); de/dz = sigmoid(z) - t, from sigmoid(-|z|), so that what is left
 * of a certain, right answer is not rounded away. */
INLINE vec binary_cross_entropy(vec z, vec t, vec a, vec s, vec *g)
{
    const vec below = vreal(vbits(z) | vbits1(SIGN_BIT)), low = vsigmoid(below);
    (void)a;
    *g = vselect(vless(z, vzero()), low - t, (vset1(1) - t) - low);
    return s + (vfnma(t, z, vmax(vzero(), z)) + vsoftplus(below));
}
INLINE double binary_cross_entropy_wide(double z, double t, double a, double *g)
{
    (void)a;
    *g = z < 0 ? -t : 1 - t;                            /* z or t is huge: the sigmoid is not seen beside it */
    return (z < 0 ? 0 : z) - t * z;
}

/* e = max(0, x), x = a - o where t > 0, a + o elsewhere; the slope at x = 0 is 0. 0 t lets a t that is not finite show. */
INLINE vec binary_hinge(vec o, vec t, vec a, vec s, vec *g)
{
    const vmask positive = vless(vzero(), t);
    const vec x = vselect(positive, a - o, a + o);
    *g = vsigned(x, vselect(positive, vset1(-1), vset1(1)), vzero());
    return s + (vmax(vzero(), x) + vzero() * t);
}
INLINE double binary_hinge_wide(double o, double t, double a, double *g)
{
    const double y = t > 0 ? 1 : -1, x = a - y * o;
    *g = x > 0 ? -y : 0;
    return (x < 0 ? 0 : x) + 0 * t;
}

/* e = exp(z) - t z: z is the logarithm of the expected count. */
INLINE vec poisson(vec z, vec t, vec a, vec s, vec *g)
{
    const vec rate = vexp(z);
    (void)a;
    *g = rate - t;
    return s + vfnma(t, z, rate);
}
INLINE double poisson_wide(double z, double t, double a, double *g)
{
    const double rate = wide_exp(z);
    (void)a;
    *g = rate - t;
    return rate - t * z;
}

#define DEFINE_ELEMENTWISE_LOSS(name) \
    static void name##_rows(const struct fbp_loss_rows *l) { elementwise_rows(l, name, name##_wide); }
DEFINE_ELEMENTWISE_LOSS(squared_error)
DEFINE_ELEMENTWISE_LOSS(absolute_error)
DEFINE_ELEMENTWISE_LOSS(huber)
DEFINE_ELEMENTWISE_LOSS(log_cosh)
DEFINE_ELEMENTWISE_LOSS(quantile)
DEFINE_ELEMENTWISE_LOSS(binary_cross_entropy)
DEFINE_ELEMENTWISE_LOSS(binary_hinge)
DEFINE_ELEMENTWISE_LOSS(poisson)

#endif
