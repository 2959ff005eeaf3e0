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
        *weight = *linear = 0;
        for (size_t j = 0; j < l->n; j++) {
            const real t = target_at(l, &by, i, j);
            *weight += t;
            if (t != 0) *linear += t * (z[j] - max);                /* a class of probability 0 may have Z = -inf */
        }
    }
    *sum = row_exp_sum(z, max, g, l->n);
    if (g == NULL) return;
    const real factor = *weight / *sum, ey = g[y];
    if (by.soft) {
        for (size_t j = 0; j < l->n; j++) g[j] = (g[j] * factor - target_at(l, &by, i, j)) * scale;
        return;
    }
    const vec f = vset1(factor), s = vset1(scale);
    size_t j = 0;
    for (; j + VL <= l->n; j += VL) vstore(g + j, vload(g + j) * f * s);
    if (j < l->n) vstore_tail(g + j, vload_tail(g + j, vtail_of(l->n - j)) * f * s, vtail_of(l->n - j));
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

/* The loss of row i, in reals if they hold it. */
INLINE void cross_entropy_put(const struct fbp_loss_rows *l, size_t i, real loss)
{
    l->loss[i] = weight_of(l, i) * (isfinite(loss) ? (double)loss : cross_entropy_wide(l, i));
}

#define FEW 32          /* classes that VL rows are taken at once for, a register for each class */

/* VL rows of n <= FEW logits, transposed: register j holds class j of all rows. The same operations in the same order as in
 * cross_entropy_row: the sum folds lanes j and j + w of the fixed layout, w = LANES/2 .. 1, which are registers here. */
INLINE void cross_entropy_few(const struct fbp_loss_rows *l, size_t i, size_t rows)
{
    const struct smoothing by = smoothing_of(l);
    const size_t n = l->n, blocks = (n + VL - 1) / VL;
    vec z[FEW], t[FEW], lane[LANES];
    real row_of[VL];                            /* a number for each row */
    for (size_t b = 0; b < blocks; b++) {
        const size_t left = n - b * VL < (size_t)VL ? n - b * VL : (size_t)VL;
        for (int r = 0; r < VL; r++) {
            const size_t row = i + ((size_t)r < rows ? (size_t)r : 0);
            z[b * VL + r] = load_block((const real *)l->out + (ptrdiff_t)row * l->ldo + b * VL, 0, left, vzero());
            if (!l->label) t[b * VL + r] = load_block((const real *)l->target[row] + b * VL, 0, left, vzero());
        }
        transpose(z + b * VL);
        if (!l->label) transpose(t + b * VL);
    }
    vec max = vset1(-(real)INFINITY);
    for (size_t j = 0; j < n; j++) max = vmax(z[j], max);
    vec weight = vset1(1), linear = vzero();
    if (l->label) {
        real linear_row[VL];
        vstore(row_of, vzero()), vstore(linear_row, vzero());
        for (size_t r = 0; r < rows; r++) {
            const size_t y = (size_t)l->label[i + r];
            row_of[r] = (real)y;
            linear_row[r] = ((const real *)l->out)[(ptrdiff_t)(i + r) * l->ldo + (ptrdiff_t)y];
        }
        const vec label = vload(row_of);
        linear = vload(linear_row) - max;
        for (size_t j = 0; j < n; j++) t[j] = vreal((vuint)(label == vset1((real)j)) & vbits(vset1(1)));
    }
    if (l->a != 0)
        for (size_t j = 0; j < n; j++) t[j] = t[j] * vset1(by.keep) + vset1(by.rest);
    if (by.soft) {
        weight = linear = vzero();
        for (size_t j = 0; j < n; j++) {
            const vuint used = (vuint)(t[j] != vzero());            /* a class of probability 0 may have Z = -inf */
            weight = weight + t[j];
            linear = linear + vreal(vbits(t[j] * (z[j] - max)) & used);
        }
    }
    for (size_t j = 0; j < n; j++) z[j] = vexp(z[j] - max);
    for (size_t j = 0; j < (size_t)LANES; j++) {
        lane[j] = j < n ? z[j] : vzero();
        for (size_t q = j + LANES; q < n; q += LANES) lane[j] = lane[j] + z[q];
    }
    for (int w = LANES / 2; w >= 1; w /= 2)
        for (int j = 0; j < w && (size_t)(j + w) < n; j++) lane[j] = lane[j] + lane[j + w];      /* the others are 0 */
    if (l->grad) {
        vec scale = vset1((real)l->scale);
        if (l->weight) {
            vstore(row_of, scale);
            for (size_t r = 0; r < rows; r++) row_of[r] = (real)(l->scale * l->weight[i + r]);
            scale = vload(row_of);
        }
        const vec factor = weight / lane[0];
        for (size_t j = 0; j < n; j++) z[j] = (z[j] * factor - t[j]) * scale;
        for (size_t b = 0; b < blocks; b++) {
            const size_t left = n - b * VL < (size_t)VL ? n - b * VL : (size_t)VL;
            transpose(z + b * VL);
            for (size_t r = 0; r < rows; r++)
                vstore_tail((real *)l->grad + (ptrdiff_t)(i + r) * l->ldg + b * VL, z[b * VL + r], vtail_of(left));
        }
    }
    vstore(row_of, weight * vlog(lane[0]) - linear);
    for (size_t r = 0; r < rows; r++) cross_entropy_put(l, i + r, row_of[r]);
}

/* Softmax cross-entropy of logits: E = 1/m sum_i sum_j T_ij (lse_i - Z_ij), lse = max + log sum exp(Z - max);
 * dE/dZ = (p sum_j T_ij - T) / m. An integer label stands for a one-hot row; a is the smoothing of T. Logarithms are taken VL
 * rows at a time. */
static void cross_entropy_rows(const struct fbp_loss_rows *l)
{
    for (size_t i = 0; i < l->m; i += VL) {
        const size_t rows = l->m - i < (size_t)VL ? l->m - i : (size_t)VL;
        if (l->n <= FEW && rows > 1) {
            cross_entropy_few(l, i, rows);
            continue;
        }
        real sum[VL], weight[VL], linear[VL], log_sum[VL];
        vstore(sum, vset1(1));
        for (size_t r = 0; r < rows; r++) cross_entropy_row(l, i + r, &sum[r], &weight[r], &linear[r]);
        vstore(log_sum, vlog(vload(sum)));
        for (size_t r = 0; r < rows; r++) cross_entropy_put(l, i + r, weight[r] * log_sum[r] - linear[r]);
    }
}

#endif
