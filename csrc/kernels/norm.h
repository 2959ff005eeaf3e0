/* norm.h: X^ = (X - mean) / sqrt(var + eps) by rows (layer_norm; rms_norm without the mean) or by columns (batch_norm), and
 * Z = gain X^ + shift. */
#ifndef FBP_NORM_H
#define FBP_NORM_H

#include <math.h>

#include "kernels.h"
#include "reduce.h"
#include "vec.h"

/* So many rows at a time: by itself, each would wait for its sums. */
#define NORM_ROWS (VBYTES == 32 ? 2 : 4)

/* The rows i .. of m; in place of those beyond the last, the last once more. */
INLINE size_t norm_row(size_t i, int k, size_t m) { return i + (size_t)k < m ? i + (size_t)k : m - 1; }

INLINE void sums_of_rows(const real *const x[], size_t n, real sum[])
{
    vec s[NORM_ROWS][NB];
    UNROLL for (int k = 0; k < NORM_ROWS; k++)
        UNROLL for (int b = 0; b < NB; b++) s[k][b] = vzero();
    for (size_t j = 0; j < n; j += LANES)
        UNROLL for (int k = 0; k < NORM_ROWS; k++)
            UNROLL for (int b = 0; b < NB; b++) s[k][b] = s[k][b] + load_block(x[k] + j, b, n - j, vzero());
    UNROLL for (int k = 0; k < NORM_ROWS; k++) sum[k] = vsum_lanes(s[k]);
}

/* The sums of the squares of x - mean. */
INLINE void squares_of_rows(const real *const x[], const real mean[], size_t n, real sum[])
{
    vec s[NORM_ROWS][NB];
    UNROLL for (int k = 0; k < NORM_ROWS; k++)
        UNROLL for (int b = 0; b < NB; b++) s[k][b] = vzero();
    for (size_t j = 0; j < n; j += LANES)
        UNROLL for (int k = 0; k < NORM_ROWS; k++)
            UNROLL for (int b = 0; b < NB; b++) {
                const vec d = load_block(x[k] + j, b, n - j, vset1(mean[k])) - vset1(mean[k]);
                s[k][b] = vfma(d, d, s[k][b]);
            }
    UNROLL for (int k = 0; k < NORM_ROWS; k++) sum[k] = vsum_lanes(s[k]);
}

INLINE real one_over_root(real v) { return (vset1(1) / vsqrt(vset1(v)))[0]; }

/* c = (x - p) s gain + shift, and (x - p) s to kept; p and s are one number for the row, or where `by_column`, rows of them. */
INLINE void normalize_register(const struct fbp_norm *f, size_t i, size_t j, const real *mean, const real *scale, const int by_column,
                               vtail tail, const int whole)
{
    const real *x = (const real *)f->x[i] + j, *gain = (const real *)f->gain + j, *shift = f->shift;
    const vec p = by_column ? get_whole(mean + j, tail, whole) : vset1(*mean), s = by_column ? get_whole(scale + j, tail, whole) : vset1(*scale);
    const vec h = (get_whole(x, tail, whole) - p) * s;
    if (f->kept) put_whole((real *)f->kept + (ptrdiff_t)i * f->ldk + j, h, tail, whole, 0);
    const vec z = vfma(h, get_whole(gain, tail, whole), shift ? get_whole(shift + j, tail, whole) : vzero());
    put_whole((real *)f->c + (ptrdiff_t)i * f->ldc + j, z, tail, whole, 0);
}

INLINE void normalize_row(const struct fbp_norm *f, size_t i, const real *mean, const real *scale, const int by_column)
{
    const vtail tail = vtail_of(f->n % VL);
    size_t j = 0;
    for (; j + VL <= f->n; j += VL) normalize_register(f, i, j, mean, scale, by_column, tail, 1);
    if (j < f->n) normalize_register(f, i, j, mean, scale, by_column, tail, 0);
}

/* Here and below, copies of the arguments, which no store can change, stay in registers. */
static void normalize_rows(const struct fbp_norm *given)
{
    const struct fbp_norm own = *given, *f = &own;
    const real n = (real)f->n;
    for (size_t i = 0; i < f->m; i += NORM_ROWS) {
        const real *x[NORM_ROWS];
        real mean[NORM_ROWS] = {0}, sum[NORM_ROWS], scale[NORM_ROWS];
        UNROLL for (int k = 0; k < NORM_ROWS; k++) x[k] = f->x[norm_row(i, k, f->m)];
        if (f->centered) {
            sums_of_rows(x, f->n, sum);
            UNROLL for (int k = 0; k < NORM_ROWS; k++) mean[k] = sum[k] / n;
        }
        squares_of_rows(x, mean, f->n, sum);
        UNROLL for (int k = 0; k < NORM_ROWS; k++) scale[k] = one_over_root(sum[k] / n + (real)f->eps);
        for (size_t k = 0; k < NORM_ROWS && i + k < f->m; k++) {
            if (f->scale) ((real *)f->scale)[i + k] = scale[k];
            normalize_row(f, i + k, &mean[k], &scale[k], 0);
        }
    }
}

static void normalize_columns(const struct fbp_norm *given)
{
    const struct fbp_norm own = *given, *f = &own;
    for (size_t i = 0; i < f->m; i++) normalize_row(f, i, f->mean, f->scale, 1);
}

/* The sums of G = d gain, and of G h. */
INLINE void sums_of_gradients(const real *const d[], const real *const h[], const real *gain, size_t n, real sum[], real product[])
{
    vec s[NORM_ROWS][NB], q[NORM_ROWS][NB];
    UNROLL for (int k = 0; k < NORM_ROWS; k++)
        UNROLL for (int b = 0; b < NB; b++) s[k][b] = q[k][b] = vzero();
    for (size_t j = 0; j < n; j += LANES)
        UNROLL for (int b = 0; b < NB; b++) {
            const vec g = load_block(gain + j, b, n - j, vzero());
            UNROLL for (int k = 0; k < NORM_ROWS; k++) {
                const vec v = load_block(d[k] + j, b, n - j, vzero()) * g;
                s[k][b] = s[k][b] + v;
                q[k][b] = vfma(v, load_block(h[k] + j, b, n - j, vzero()), q[k][b]);
            }
        }
    UNROLL for (int k = 0; k < NORM_ROWS; k++) sum[k] = vsum_lanes(s[k]), product[k] = vsum_lanes(q[k]);
}

INLINE void norm_grad_register(const real *d, const real *h, const real *gain, vec s, vec p, vec q, real *c, vtail tail, const int whole,
                               const int add)
{
    const vec g = get_whole(d, tail, whole) * get_whole(gain, tail, whole);
    put_whole(c, s * vfnma(get_whole(h, tail, whole), q, g - p), tail, whole, add);
}

/* dX = s (G - mean(G) - X^ mean(G X^)), G = dZ gain, means over the row; without the first mean where it is not centered. */
static void normalize_rows_grad(const struct fbp_norm_grad *given)
{
    const struct fbp_norm_grad own = *given, *f = &own;
    const size_t n = f->n;
    const real *gain = f->gain;
    const vtail tail = vtail_of(n % VL);
    for (size_t i = 0; i < f->m; i += NORM_ROWS) {
        const real *d[NORM_ROWS], *h[NORM_ROWS];
        real sum[NORM_ROWS], product[NORM_ROWS];
        UNROLL for (int k = 0; k < NORM_ROWS; k++) {
            const ptrdiff_t r = (ptrdiff_t)norm_row(i, k, f->m);
            d[k] = (const real *)f->d + r * f->ldd, h[k] = (const real *)f->kept + r * f->ldk;
        }
        sums_of_gradients(d, h, gain, n, sum, product);
        for (size_t k = 0; k < NORM_ROWS && i + k < f->m; k++) {
            real *c = (real *)f->c + (ptrdiff_t)(i + k) * f->ldc;
            const vec p = vset1(f->centered ? sum[k] / (real)n : 0), q = vset1(product[k] / (real)n);
            const vec s = vset1(((const real *)f->scale)[i + k]);
            size_t j = 0;
            for (; j + VL <= n; j += VL) norm_grad_register(d[k] + j, h[k] + j, gain + j, s, p, q, c + j, tail, 1, f->add);
            if (j < n) norm_grad_register(d[k] + j, h[k] + j, gain + j, s, p, q, c + j, tail, 0, f->add);
        }
    }
}

INLINE void column_grad_register(const struct fbp_norm_grad *f, size_t i, size_t j, vtail tail, const int whole)
{
    const real *d = (const real *)f->d + (ptrdiff_t)i * f->ldd + j, *h = (const real *)f->kept + (ptrdiff_t)i * f->ldk + j;
    const real *p = f->mean, *q = f->mean_product, *s = f->scale, *gain = f->gain;
    const vec v = vfnma(get_whole(h, tail, whole), get_whole(q + j, tail, whole), get_whole(d, tail, whole) - get_whole(p + j, tail, whole));
    const vec t = v * (get_whole(s + j, tail, whole) * get_whole(gain + j, tail, whole));
    put_whole((real *)f->c + (ptrdiff_t)i * f->ldc + j, t, tail, whole, f->add);
}

/* dX = s gain (dZ - p - X^ q), p and q the means of dZ and dZ X^ over the columns; zeros where the statistics are given. */
static void normalize_columns_grad(const struct fbp_norm_grad *given)
{
    const struct fbp_norm_grad own = *given, *f = &own;
    const vtail tail = vtail_of(f->n % VL);
    for (size_t i = 0; i < f->m; i++) {
        size_t j = 0;
        for (; j + VL <= f->n; j += VL) column_grad_register(f, i, j, tail, 1);
        if (j < f->n) column_grad_register(f, i, j, tail, 0);
    }
}

#define SUM_REGISTERS 4                 /* of columns side by side: each waits for its own sum */

/* The columns j .. of so many registers. */
INLINE void column_sums_at(const struct fbp_columns *f, size_t j, const int registers, vtail tail, const int whole)
{
    const real *middle = f->center, *b = f->b;
    vec center[SUM_REGISTERS], sum[SUM_REGISTERS], product[SUM_REGISTERS];
    UNROLL for (int q = 0; q < registers; q++) {
        center[q] = middle ? get_whole(middle + j + q * VL, tail, whole) : vzero();
        sum[q] = f->goes_on && f->sum ? get_whole((const real *)f->sum + j + q * VL, tail, whole) : vzero();
        product[q] = f->goes_on && f->product ? get_whole((const real *)f->product + j + q * VL, tail, whole) : vzero();
    }
    for (size_t r = 0; r < f->k; r++) {
        const real *x = (const real *)f->a[r] + f->a0 + j, *y = b + (ptrdiff_t)r * f->ldb + j;
        UNROLL for (int q = 0; q < registers; q++) {
            const vec a = get_whole(x + q * VL, tail, whole) - center[q];
            if (middle) sum[q] = vfma(a, a, sum[q]);
            else sum[q] = sum[q] + a;
            if (b) product[q] = vfma(a, get_whole(y + q * VL, tail, whole), product[q]);
        }
    }
    UNROLL for (int q = 0; q < registers; q++) {
        if (f->sum) put_whole((real *)f->sum + j + q * VL, sum[q], tail, whole, f->more);
        if (f->product) put_whole((real *)f->product + j + q * VL, product[q], tail, whole, f->more);
    }
}

/* Over k rows, one chain for each column in the order of the rows: sum = S(a), and product = S(a b); or with a center,
 * sum = S((a - center)^2). */
static void column_sums(const struct fbp_columns *f)
{
    const vtail tail = vtail_of(f->n % VL);
    size_t j = 0;
    for (; j + SUM_REGISTERS * VL <= f->n; j += SUM_REGISTERS * VL) column_sums_at(f, j, SUM_REGISTERS, tail, 1);
    for (; j + VL <= f->n; j += VL) column_sums_at(f, j, 1, tail, 1);
    if (j < f->n) column_sums_at(f, j, 1, tail, 0);
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
