/* loss.h: one row per loss: the loss of each batch row and the gradient of the mean. */
#ifndef FBP_LOSS_H
#define FBP_LOSS_H

#include "activation.h"
#include "pack.h"

/* E = 1/(2m) sum (O - T)^2;  dE/dO = (O - T) / m. loss[i] = 1/2 sum_j (O_ij - T_ij)^2. */
static void squared_error_rows(const struct fbp_loss_rows *l)
{
    const vec scale = vset1((real)l->scale);
    for (size_t i = 0; i < l->m; i++) {
        const real *o = (const real *)l->out + (ptrdiff_t)i * l->ldo;
        const real *t = (const real *)l->target[i];
        vec s[NB];
        for (int b = 0; b < NB; b++) s[b] = vzero();
        for (size_t j = 0; j < l->n; j += LANES)
            for (int b = 0; b < NB && j + (size_t)b * VL < l->n; b++) {
                const size_t at = j + (size_t)b * VL, left = l->n - at;
                const vec d = load_block(o + at, 0, left, vzero()) - load_block(t + at, 0, left, vzero());
                s[b] = vfma(d, d, s[b]);
                if (l->grad) {
                    real *g = (real *)l->grad + (ptrdiff_t)i * l->ldg + at;
                    if (left >= (size_t)VL) vstore(g, d * scale);
                    else vstore_tail(g, d * scale, vtail_of(left));
                }
            }
        l->loss[i] = 0.5 * (double)vsum_lanes(s);
    }
}

/* One row of the softmax cross-entropy: the gradient, and the three numbers its loss is made of. */
INLINE void cross_entropy_row(const struct fbp_loss_rows *l, size_t i, real *sum, real *weight, real *linear)
{
    const real scale = (real)l->scale;
    const real *z = (const real *)l->out + (ptrdiff_t)i * l->ldo;
    const real *t = l->label ? NULL : (const real *)l->target[i];
    const size_t y = l->label ? (size_t)l->label[i] : 0;
    const real max = row_max(z, l->n);
    real *g = l->grad ? (real *)l->grad + (ptrdiff_t)i * l->ldg : NULL;
    *weight = 1, *linear = z[y] - max;                              /* before g, which may be z, is written */
    if (t) {
        *weight = *linear = 0;
        for (size_t j = 0; j < l->n; j++) {
            *weight += t[j];
            if (t[j] != 0) *linear += t[j] * (z[j] - max);          /* a class of probability 0 may have Z = -inf */
        }
    }
    *sum = row_exp_sum(z, max, g, l->n);
    if (g == NULL) return;
    const real factor = *weight / *sum, ey = g[y];
    if (t) {
        for (size_t j = 0; j < l->n; j++) g[j] = (g[j] * factor - t[j]) * scale;
        return;
    }
    const vec f = vset1(factor), s = vset1(scale);
    size_t j = 0;
    for (; j + VL <= l->n; j += VL) vstore(g + j, vload(g + j) * f * s);
    if (j < l->n) vstore_tail(g + j, vload_tail(g + j, vtail_of(l->n - j)) * f * s, vtail_of(l->n - j));
    g[y] = (ey * factor - 1) * scale;
}

#define FEW 32          /* classes that VL rows are taken at once for, a register for each class */

/* VL rows of n <= FEW logits, transposed: register j holds class j of all rows. The same operations in the same order as in
 * cross_entropy_row: the sum folds lanes j and j + w of the fixed layout, w = LANES/2 .. 1, which are registers here. */
INLINE void cross_entropy_few(const struct fbp_loss_rows *l, size_t i, size_t rows)
{
    const vec scale = vset1((real)l->scale);
    const size_t n = l->n, blocks = (n + VL - 1) / VL;
    vec z[FEW], t[FEW], lane[LANES];
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
        real linear_row[VL], label_row[VL];
        vstore(label_row, vzero()), vstore(linear_row, vzero());
        for (size_t r = 0; r < rows; r++) {
            const size_t y = (size_t)l->label[i + r];
            label_row[r] = (real)y;
            linear_row[r] = ((const real *)l->out)[(ptrdiff_t)(i + r) * l->ldo + (ptrdiff_t)y];
        }
        const vec label = vload(label_row);
        linear = vload(linear_row) - max;
        for (size_t j = 0; j < n; j++) t[j] = vreal((vuint)(label == vset1((real)j)) & vbits(vset1(1)));
    } else {
        weight = vzero();
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
    real loss[VL];
    vstore(loss, weight * vlog(lane[0]) - linear);
    for (size_t r = 0; r < rows; r++) l->loss[i + r] = (double)loss[r];
    if (!l->grad) return;
    const vec factor = weight / lane[0];
    for (size_t j = 0; j < n; j++) z[j] = (z[j] * factor - t[j]) * scale;
    for (size_t b = 0; b < blocks; b++) {
        const size_t left = n - b * VL < (size_t)VL ? n - b * VL : (size_t)VL;
        transpose(z + b * VL);
        for (size_t r = 0; r < rows; r++)
            vstore_tail((real *)l->grad + (ptrdiff_t)(i + r) * l->ldg + b * VL, z[b * VL + r], vtail_of(left));
    }
}

/* Softmax cross-entropy of logits: E = 1/m sum_i sum_j T_ij (lse_i - Z_ij), lse = max + log sum exp(Z - max);
 * dE/dZ = (p sum_j T_ij - T) / m. An integer label stands for a one-hot row. Logarithms are taken VL rows at a time. */
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
        for (size_t r = 0; r < rows; r++) l->loss[i + r] = (double)(weight[r] * log_sum[r] - linear[r]);
    }
}

#define LOSSES                                                                  \
    {                                                                           \
        [FBP_SQUARED_ERROR] = {"squared_error", 0, 0, NAN, squared_error_rows},      \
        [FBP_CROSS_ENTROPY] = {"cross_entropy", 1, 1, NAN, cross_entropy_rows},      \
    }

#endif
