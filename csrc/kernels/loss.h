/* loss.h: one row per loss: the loss of each batch row and the gradient of the mean. */
#ifndef FBP_LOSS_H
#define FBP_LOSS_H

#include "activation.h"

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

/* Softmax cross-entropy of logits: E = 1/m sum_i sum_j T_ij (lse_i - Z_ij), lse = max + log sum exp(Z - max);
 * dE/dZ = (p sum_j T_ij - T) / m. An integer label stands for a one-hot row. */
static void cross_entropy_rows(const struct fbp_loss_rows *l)
{
    const real scale = (real)l->scale;
    for (size_t i = 0; i < l->m; i++) {
        const real *z = (const real *)l->out + (ptrdiff_t)i * l->ldo;
        const real max = row_max(z, l->n);
        real *g = l->grad ? (real *)l->grad + (ptrdiff_t)i * l->ldg : NULL;
        const real *t = l->label ? NULL : (const real *)l->target[i];
        const size_t y = l->label ? (size_t)l->label[i] : 0;
        real weight = 1, linear = z[y] - max;                       /* sum of T, sum of T (Z - max); before g overwrites z */
        if (t) {
            weight = linear = 0;
            for (size_t j = 0; j < l->n; j++) {
                weight += t[j];
                if (t[j] != 0) linear += t[j] * (z[j] - max);       /* a class of probability 0 may have Z = -inf */
            }
        }
        const real sum = row_exp_sum(z, max, g, l->n);
        l->loss[i] = (double)(weight * vlog(vset1(sum))[0] - linear);
        if (g == NULL) continue;
        const real factor = weight / sum, ey = g[y];
        if (t) {
            for (size_t j = 0; j < l->n; j++) g[j] = (g[j] * factor - t[j]) * scale;
        } else {
            const vec f = vset1(factor), s = vset1(scale);
            size_t j = 0;
            for (; j + VL <= l->n; j += VL) vstore(g + j, vload(g + j) * f * s);
            if (j < l->n) vstore_tail(g + j, vload_tail(g + j, vtail_of(l->n - j)) * f * s, vtail_of(l->n - j));
            g[y] = (ey * factor - 1) * scale;
        }
    }
}

#define LOSSES                                                                  \
    {                                                                           \
        [FBP_SQUARED_ERROR] = {"squared_error", 0, 0, squared_error_rows},      \
        [FBP_CROSS_ENTROPY] = {"cross_entropy", 1, 1, cross_entropy_rows},      \
    }

#endif
