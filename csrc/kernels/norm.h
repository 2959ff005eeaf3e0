/* norm.h: X^ = (X - mean) / sqrt(var + eps) by rows (layer_norm; rms_norm without the mean) or by columns (batch_norm), and
 * Z = gain X^ + shift. */
#ifndef FBP_NORM_H
#define FBP_NORM_H

#include <math.h>

#include "kernels.h"
#include "reduce.h"
#include "vec.h"

INLINE real row_sum(const real *x, size_t n)
{
    vec s[NB];
    for (int b = 0; b < NB; b++) s[b] = vzero();
    for (size_t j = 0; j < n; j += LANES)
        for (int b = 0; b < NB; b++)
            s[b] = s[b] + load_block(x + j, b, n - j, vzero());
    return vsum_lanes(s);
}

/* The sum of the squares of x - mean. */
INLINE real row_squares(const real *x, real mean, size_t n)
{
    vec s[NB];
    for (int b = 0; b < NB; b++) s[b] = vzero();
    for (size_t j = 0; j < n; j += LANES)
        for (int b = 0; b < NB; b++) {
            const vec d = load_block(x + j, b, n - j, vset1(mean)) - vset1(mean);
            s[b] = vfma(d, d, s[b]);
        }
    return vsum_lanes(s);
}

INLINE real one_over_root(real v) { return (vset1(1) / vsqrt(vset1(v)))[0]; }

/* c = (x - p) s gain + shift, and (x - p) s to kept; p and s are one number for the row, or where `by_column`, rows of them. */
INLINE void normalize_row(const struct fbp_norm *f, size_t i, const real *mean, const real *scale, const int by_column)
{
    const real *x = f->x[i], *gain = f->gain, *shift = f->shift;
    real *c = (real *)f->c + (ptrdiff_t)i * f->ldc, *kept = f->kept ? (real *)f->kept + (ptrdiff_t)i * f->ldk : NULL;
    for (size_t j = 0; j < f->n; j += VL) {
        const vtail tail = vtail_of(left_of(f->n, j));
        const vec p = by_column ? vload_tail(mean + j, tail) : vset1(*mean), s = by_column ? vload_tail(scale + j, tail) : vset1(*scale);
        const vec h = (vload_tail(x + j, tail) - p) * s;
        if (kept) vstore_tail(kept + j, h, tail);
        vstore_tail(c + j, vfma(h, vload_tail(gain + j, tail), shift ? vload_tail(shift + j, tail) : vzero()), tail);
    }
}

static void normalize_rows(const struct fbp_norm *f)
{
    for (size_t i = 0; i < f->m; i++) {
        const real n = (real)f->n, mean = f->centered ? row_sum(f->x[i], f->n) / n : 0;
        const real scale = one_over_root(row_squares(f->x[i], mean, f->n) / n + (real)f->eps);
        if (f->scale) ((real *)f->scale)[i] = scale;
        normalize_row(f, i, &mean, &scale, 0);
    }
}

static void normalize_columns(const struct fbp_norm *f)
{
    for (size_t i = 0; i < f->m; i++) normalize_row(f, i, f->mean, f->scale, 1);
}

/* dX = s (G - mean(G) - X^ mean(G X^)), G = dZ gain, means over the row; without the first mean where it is not centered. */
static void normalize_rows_grad(const struct fbp_norm_grad *g)
{
    const real n = (real)g->n;
    for (size_t i = 0; i < g->m; i++) {
        const real *d = (const real *)g->d + (ptrdiff_t)i * g->ldd, *h = (const real *)g->kept + (ptrdiff_t)i * g->ldk;
        const real *gain = g->gain;
        real *c = (real *)g->c + (ptrdiff_t)i * g->ldc;
        vec sum[NB], product[NB];
        for (int b = 0; b < NB; b++) sum[b] = product[b] = vzero();
        for (size_t j = 0; j < g->n; j += LANES)
            for (int b = 0; b < NB; b++) {
                const vec v = load_block(d + j, b, g->n - j, vzero()) * load_block(gain + j, b, g->n - j, vzero());
                sum[b] = sum[b] + v;
                product[b] = vfma(v, load_block(h + j, b, g->n - j, vzero()), product[b]);
            }
        const vec p = vset1(g->centered ? vsum_lanes(sum) / n : 0), q = vset1(vsum_lanes(product) / n);
        const vec s = vset1(((const real *)g->scale)[i]);
        for (size_t j = 0; j < g->n; j += VL) {
            const vtail tail = vtail_of(left_of(g->n, j));
            const vec t = s * vfnma(vload_tail(h + j, tail), q, vload_tail(d + j, tail) * vload_tail(gain + j, tail) - p);
            put_tail(c + j, t, tail, g->add);
        }
    }
}

/* dX = s gain (dZ - p - X^ q), p and q the means of dZ and dZ X^ over the columns; zeros where the statistics are given. */
static void normalize_columns_grad(const struct fbp_norm_grad *g)
{
    const real *p = g->mean, *q = g->mean_product, *s = g->scale, *gain = g->gain;
    for (size_t i = 0; i < g->m; i++) {
        const real *d = (const real *)g->d + (ptrdiff_t)i * g->ldd, *h = (const real *)g->kept + (ptrdiff_t)i * g->ldk;
        real *c = (real *)g->c + (ptrdiff_t)i * g->ldc;
        for (size_t j = 0; j < g->n; j += VL) {
            const vtail tail = vtail_of(left_of(g->n, j));
            const vec v = vfnma(vload_tail(h + j, tail), vload_tail(q + j, tail), vload_tail(d + j, tail) - vload_tail(p + j, tail));
            const vec t = v * (vload_tail(s + j, tail) * vload_tail(gain + j, tail));
            put_tail(c + j, t, tail, g->add);
        }
    }
}

/* Over k rows, one chain for each column in the order of the rows: sum = S(a), and product = S(a b); or with a center,
 * sum = S((a - center)^2). Added to what is there where `more`. */
static void column_sums(const struct fbp_columns *f)
{
    for (size_t j = 0; j < f->n; j += VL) {
        const vtail tail = vtail_of(left_of(f->n, j));
        const vec center = f->center ? vload_tail((const real *)f->center + j, tail) : vzero();
        vec sum = vzero(), product = vzero();
        for (size_t r = 0; r < f->k; r++) {
            const vec a = vload_tail((const real *)f->a[r] + f->a0 + j, tail) - center;
            if (f->center) sum = vfma(a, a, sum);
            else sum = sum + a;
            if (f->b) product = vfma(a, vload_tail((const real *)f->b + (ptrdiff_t)r * f->ldb + j, tail), product);
        }
        real *s = f->sum ? (real *)f->sum + j : NULL, *q = f->product ? (real *)f->product + j : NULL;
        if (s) put_tail(s, sum, tail, f->more);
        if (q) put_tail(q, product, tail, f->more);
    }
}

/* From sums over m rows to the mean, or from sums of squares to the scale 1 / sqrt(var + eps) and the variance. */
static void column_means(size_t n, const void *sum, double m, void *mean)
{
    for (size_t j = 0; j < n; j++) ((real *)mean)[j] = ((const real *)sum)[j] / (real)m;
}

static void column_scales(size_t n, const void *variance, double eps, void *scale)
{
    for (size_t j = 0; j < n; j++) ((real *)scale)[j] = one_over_root(((const real *)variance)[j] + (real)eps);
}

/* running = (1 - momentum) running + momentum factor x, of n. */
static void move_average(size_t n, void *running, const void *x, double momentum, double factor)
{
    real *r = running;
    const real keep = (real)(1 - momentum), take = (real)(momentum * factor);
    for (size_t j = 0; j < n; j++) r[j] = keep * r[j] + take * ((const real *)x)[j];
}

#endif
