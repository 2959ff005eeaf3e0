/* cross_entropy.h: the softmax cross-entropy, row by row, or VL rows at once where there are few classes. */
#ifndef FBP_CROSS_ENTROPY_H
#define FBP_CROSS_ENTROPY_H

#include "activation.h"
#include "loss_elements.h"
#include "pack.h"

/* What smoothing by a makes of a target t of n classes: t (1 - a) + a / n. */
struct smoothing {
    real keep, rest;
    int soft;                   /* targets are rows of numbers, not labels */
};
INLINE struct smoothing smoothing_of(const struct fbp_loss_rows *l)
{
    return (struct smoothing){(real)(1 - l->a), (real)(l->a / (double)l->n), l->label == NULL || l->a != 0};
}
INLINE real target_at(const struct fbp_loss_rows *l, const struct smoothing *by, size_t i, size_t j)
{
    const real t = l->label ? (real)(l->label[i] == (int64_t)j) : ((const real *)l->target[i])[j];
    return l->a == 0 ? t : t * by->keep + by->rest;
}

/* t x; 0 for a class of probability 0, which may have Z = -inf. */
INLINE vec where_used(vec t, vec x) { return vreal(vbits(t * x) & (vuint)(t != vzero())); }

/* The target of row i for a register of classes from j on; 0 where there are none. */
INLINE vec target_block(const struct fbp_loss_rows *l, const struct smoothing *by, size_t i, size_t j)
{
    vec t = vset1(l->a == 0 ? 0 : by->rest);
    if (l->label == NULL) {
        t = load_block((const real *)l->target[i] + j, 0, l->n - j, vzero());
        if (l->a != 0) t = t * vset1(by->keep) + vset1(by->rest);
    } else if ((uint64_t)l->label[i] - j < (uint64_t)VL) {
        t[(size_t)l->label[i] - j] = target_at(l, by, i, (size_t)l->label[i]);
    }
    return l->n - j < (size_t)VL ? vfill(t, vtail_of(l->n - j), vzero()) : t;
}

/* One row of the softmax cross-entropy: the gradient, and the three numbers its loss is made of. */
INLINE void cross_entropy_row(const struct fbp_loss_rows *l, size_t i, real *sum, real *weight, real *linear)
{
    const struct smoothing by = smoothing_of(l);
    const real scale = (real)(l->scale * weight_of(l, i));
    const real *z = (const real *)l->out + (ptrdiff_t)i * l->ldo;
    const size_t y = by.soft ? 0 : (size_t)l->label[i];
    const real max = row_max(z, l->n);
    real *g = l->grad ? (real *)l->grad + (ptrdiff_t)i * l->ldg : NULL;
    *weight = 1, *linear = z[y] - max;
    if (by.soft) {
        vec of_t[NB], of_tz[NB];
        for (int b = 0; b < NB; b++) of_t[b] = of_tz[b] = vzero();
        for (size_t j = 0; j < l->n; j += LANES)
            for (int b = 0; b < NB && j + (size_t)b * VL < l->n; b++) {
                const size_t at = j + (size_t)b * VL;
                const vec t = target_block(l, &by, i, at);
                of_t[b] = of_t[b] + t;
                of_tz[b] = of_tz[b] + where_used(t, load_block(z + at, 0, l->n - at, vzero()) - vset1(max));
            }
        *weight = vsum_lanes(of_t), *linear = vsum_lanes(of_tz);
    }
    *sum = row_exp_sum(z, max, g, l->n);
    if (g == NULL) return;
    const real factor = *weight / *sum, ey = g[y];
    const vec f = vset1(factor), s = vset1(scale);
    if (by.soft) {
        for (size_t j = 0; j < l->n; j += VL)
            store_block(g + j, (load_block(g + j, 0, l->n - j, vzero()) * f - target_block(l, &by, i, j)) * s, l->n - j);
        return;
    }
    for (size_t j = 0; j < l->n; j += VL) store_block(g + j, load_block(g + j, 0, l->n - j, vzero()) * f * s, l->n - j);
    g[y] = (ey * factor - 1) * scale;
}

/* Row i in doubles, but for the exponentials: logits may be 1e38 apart, and weights of classes as large. */
static double cross_entropy_wide(const struct fbp_loss_rows *l, size_t i)
{
    const struct smoothing by = smoothing_of(l);
    const real *z = (const real *)l->out + (ptrdiff_t)i * l->ldo;
    const real max = row_max(z, l->n), sum = row_exp_sum(z, max, NULL, l->n);
    double weight = 0, linear = 0;
    for (size_t j = 0; j < l->n; j++) {
        const double t = (double)target_at(l, &by, i, j);
        weight += t;
        if (t != 0) linear += t * ((double)z[j] - (double)max);
    }
    for (size_t j = 0; l->grad && j < l->n; j++) {
        const double p = (double)(vexp(vset1(z[j] - max))[0] / sum);
        ((real *)l->grad)[(ptrdiff_t)i * l->ldg + (ptrdiff_t)j] =
            (real)((p * weight - (double)target_at(l, &by, i, j)) * (l->scale * weight_of(l, i)));
    }
    return weight * (double)vlog(vset1(sum))[0] - linear;
}

/* The losses of up to VL rows from i on, in reals if they hold them. */
static void cross_entropy_put(const struct fbp_loss_rows *l, size_t i, size_t rows, vec loss)
{
    const double *weight = l->weight ? l->weight + i : NULL;
    double *to = l->loss + i;
    real of_row[VL];
    int wide = 0;
    vstore(of_row, loss);
    for (size_t r = 0; r < rows; r++) {
        to[r] = weight ? weight[r] * (double)of_row[r] : (double)of_row[r];
        wide |= !isfinite(of_row[r]);
    }
    for (size_t r = 0; wide && r < rows; r++)
        if (!isfinite(of_row[r])) to[r] = weight_of(l, i + r) * cross_entropy_wide(l, i + r);
}

/* VL labels, of which the first n are there. */
INLINE vint vlabels(const int64_t *label, size_t n)
{
    typedef int64_t wide __attribute__((vector_size(VL * sizeof(int64_t))));
    int64_t some[VL] = {0};
    wide v;
    if (n < (size_t)VL) label = memcpy(some, label, n * sizeof *label);
    memcpy(&v, label, sizeof v);
    return __builtin_convertvector(v, vint);
}

/* scale times the weight of each of up to VL rows from i on. */
static vec scale_of_rows(const struct fbp_loss_rows *l, size_t i, size_t rows)
{
    real scale[VL] = {0};
    for (size_t r = 0; r < rows; r++) scale[r] = (real)(l->scale * weight_of(l, i + r));
    return vload(scale);
}

/* VL rows of l->n <= n logits, transposed: register j holds class j of all rows, of which the first `rows` are there; classes that are
 * not have logits of -inf and targets of 0. The same operations in the same order as in cross_entropy_row. */
INLINE void cross_entropy_few(const struct fbp_loss_rows *l, size_t i, size_t rows, const size_t n)
{
    const struct smoothing by = smoothing_of(l);
    const vec below = vset1(-(real)INFINITY);
    vec z[FEW], t[FEW], weight = vset1(1), linear = vzero();
    const real *row[VL];
    rows_from((const real *)l->out + (ptrdiff_t)i * l->ldo, l->ldo, rows, row);
    load_columns(row, l->n, z, n, below);
    const vec max = max_columns(z, n);
    if (l->label) {
        const vint label = vlabels(l->label + i, rows);
        vuint own = vbits1(0);
        UNROLL for (size_t j = 0; j < n; j++) {
            const vuint is = (vuint)(label == (vint)vbits1((lane_uint)j));
            t[j] = vreal(vbits(vset1(1)) & is);
            own |= vbits(z[j]) & is;
        }
        linear = vreal(own) - max;
    } else {
        for (size_t r = 0; r < (size_t)VL; r++) row[r] = (const real *)l->target[r < rows ? i + r : i];
        load_columns(row, l->n, t, n, vzero());
    }
    if (by.soft) {
        vec tz[FEW];
        UNROLL for (size_t j = 0; j < n; j++) {
            if (l->a != 0 && j < l->n) t[j] = t[j] * vset1(by.keep) + vset1(by.rest);
            tz[j] = where_used(t[j], z[j] - max);
        }
        weight = sum_columns(t, n), linear = sum_columns(tz, n);
    }
    const vec sum = exp_sum_columns(z, max, n);
    if (l->grad) {
        const vec scale = l->weight ? scale_of_rows(l, i, rows) : vset1((real)l->scale);
        const vec factor = weight / sum;
        UNROLL for (size_t j = 0; j < n; j++) z[j] = (z[j] * factor - t[j]) * scale;
        store_columns(z, l->n, (real *)l->grad + (ptrdiff_t)i * l->ldg, l->ldg, rows, n);
    }
    cross_entropy_put(l, i, rows, weight * vlog(sum) - linear);
}
static void cross_entropy_4(const struct fbp_loss_rows *l, size_t i, size_t rows) { cross_entropy_few(l, i, rows, 4); }
static void cross_entropy_8(const struct fbp_loss_rows *l, size_t i, size_t rows) { cross_entropy_few(l, i, rows, 8); }
static void cross_entropy_12(const struct fbp_loss_rows *l, size_t i, size_t rows) { cross_entropy_few(l, i, rows, 12); }
static void cross_entropy_16(const struct fbp_loss_rows *l, size_t i, size_t rows) { cross_entropy_few(l, i, rows, 16); }

/* Softmax cross-entropy of logits: E = 1/m sum_i sum_j T_ij (lse_i - Z_ij), lse = max + log sum exp(Z - max);
 * dE/dZ = (p sum_j T_ij - T) / m. An integer label stands for a one-hot row; a is the smoothing of T. Logarithms are taken VL
 * rows at a time. */
static void cross_entropy_rows(const struct fbp_loss_rows *l)
{
    static void (*const few[])(const struct fbp_loss_rows *, size_t, size_t) = {
        cross_entropy_4, cross_entropy_8, cross_entropy_12, cross_entropy_16};
    for (size_t i = 0; i < l->m; i += VL) {
        const size_t rows = left_of(l->m, i);
        if (rows > 1 && l->n <= FEW) few[(l->n - 1) / 4](l, i, rows);
        else {
            real sum[VL], weight[VL], linear[VL];
            vstore(sum, vset1(1)), vstore(weight, vzero()), vstore(linear, vzero());
            for (size_t r = 0; r < rows; r++) cross_entropy_row(l, i + r, &sum[r], &weight[r], &linear[r]);
            cross_entropy_put(l, i, rows, vload(weight) * vlog(vload(sum)) - vload(linear));
        }
    }
}

#endif
