/* activation.h: one row per activation: O = f(Z), and dZ = dO f'(Z) with f' taken from O. */
#ifndef FBP_ACTIVATION_H
#define FBP_ACTIVATION_H

#include "kernels.h"
#include "reduce.h"
#include "vmath.h"

/* The loop over a tile, in place: expr(c, o) on whole registers, two side by side to hide latency, then on the tail. */
#define DEFINE_ELEMENTWISE(name, expr)                                                                   \
    INLINE vec name##_of(vec c, vec o) { (void)o; return expr; }                                         \
    static void name(void *cp, ptrdiff_t ldc, void *op, ptrdiff_t ldo, size_t m, size_t n, double a)     \
    {                                                                                                    \
        const vtail tail = vtail_of(n % VL ? n % VL : VL);                                               \
        (void)ldo, (void)a;                                                                              \
        for (size_t i = 0; i < m; i++) {                                                                 \
            real *crow = (real *)cp + (ptrdiff_t)i * ldc;                                                \
            const real *orow = op ? (const real *)op + (ptrdiff_t)i * ldo : crow;                        \
            size_t j = 0;                                                                                \
            for (; j + 2 * VL <= n; j += 2 * VL) {                                                       \
                const vec x = name##_of(vload(crow + j), vload(orow + j));                               \
                const vec y = name##_of(vload(crow + j + VL), vload(orow + j + VL));                     \
                vstore(crow + j, x);                                                                     \
                vstore(crow + j + VL, y);                                                                \
            }                                                                                            \
            if (j + VL <= n) {                                                                           \
                vstore(crow + j, name##_of(vload(crow + j), vload(orow + j)));                           \
                j += VL;                                                                                 \
            }                                                                                            \
            if (j < n) vstore_tail(crow + j, name##_of(vload_tail(crow + j, tail), vload_tail(orow + j, tail)), tail); \
        }                                                                                                \
    }

DEFINE_ELEMENTWISE(sigmoid_forward, vsigmoid(c))                     /* 1 / (1 + e^-z)  */
DEFINE_ELEMENTWISE(sigmoid_backward, c * (o * (vset1(1) - o)))       /* O (1 - O)       */
DEFINE_ELEMENTWISE(relu_forward, vmax(vzero(), c))                   /* max(0, z)       */
DEFINE_ELEMENTWISE(relu_backward, vrelu_grad(c, o))                  /* [O > 0]         */
DEFINE_ELEMENTWISE(tanh_forward, vtanh(c))                           /* tanh z          */
DEFINE_ELEMENTWISE(tanh_backward, c * vfnma(o, o, vset1(1)))         /* 1 - O^2         */
DEFINE_ELEMENTWISE(softplus_forward, vsoftplus(c))                   /* log(1 + e^z)    */
DEFINE_ELEMENTWISE(softplus_backward, c * vsoftplus_slope(o))        /* 1 - e^-O        */
DEFINE_ELEMENTWISE(exp_tile, vexp(c))
DEFINE_ELEMENTWISE(log_tile, vlog(c))

/* The largest of a row of n reals. */
INLINE real row_max(const real *z, size_t n)
{
    const vec fill = vset1(-(real)INFINITY);
    vec m[NB];
    for (int b = 0; b < NB; b++) m[b] = fill;
    for (size_t j = 0; j < n; j += LANES)
        for (int b = 0; b < NB; b++) m[b] = vmax(load_block(z + j, b, n - j, fill), m[b]);
    return vmax_lanes(m);
}

/* e = exp(z - max), stored unless e is NULL; returns the sum. e may be z. */
INLINE real row_exp_sum(const real *z, real max, real *e, size_t n)
{
    const vec shift = vset1(max);
    vec s[NB];
    for (int b = 0; b < NB; b++) s[b] = vzero();
    for (size_t j = 0; j < n; j += LANES)
        for (int b = 0; b < NB && j + (size_t)b * VL < n; b++) {
            const size_t at = j + (size_t)b * VL, left = n - at;
            vec x = vexp(load_block(z + at, 0, left, vset1(-(real)INFINITY)) - shift);
            s[b] = s[b] + x;
            if (e == NULL) continue;
            if (left >= (size_t)VL) vstore(e + at, x);
            else vstore_tail(e + at, x, vtail_of(left));
        }
    return vsum_lanes(s);
}

/* Softmax of a row: O_j = exp(z_j - max) / sum. */
static void softmax_forward(void *c, ptrdiff_t ldc, void *o, ptrdiff_t ldo, size_t m, size_t n, double a)
{
    (void)o, (void)ldo, (void)a;
    for (size_t i = 0; i < m; i++) {
        real *z = (real *)c + (ptrdiff_t)i * ldc;
        const real sum = row_exp_sum(z, row_max(z, n), z, n);
        for (size_t j = 0; j < n; j++) z[j] = z[j] / sum;
    }
}

/* dZ_j = O_j (dO_j - sum_k dO_k O_k) */
static void softmax_backward(void *c, ptrdiff_t ldc, void *op, ptrdiff_t ldo, size_t m, size_t n, double a)
{
    (void)a;
    for (size_t i = 0; i < m; i++) {
        real *d = (real *)c + (ptrdiff_t)i * ldc;
        const real *o = (const real *)op + (ptrdiff_t)i * ldo;
        vec s[NB];
        for (int b = 0; b < NB; b++) s[b] = vzero();
        for (size_t j = 0; j < n; j += LANES)
            for (int b = 0; b < NB; b++)
                s[b] = vfma(load_block(d + j, b, n - j, vzero()), load_block(o + j, b, n - j, vzero()), s[b]);
        const real dot = vsum_lanes(s);
        for (size_t j = 0; j < n; j++) d[j] = o[j] * (d[j] - dot);
    }
}

#define ACTIVATIONS                                                                                              \
    {                                                                                                            \
        [FBP_IDENTITY] = {"identity", 1, FBP_STORE, FBP_STORE, 0, NAN, NULL, NULL},                              \
        [FBP_SIGMOID] = {"sigmoid", 1, FBP_STORE, FBP_STORE, 0, NAN, sigmoid_forward, sigmoid_backward},         \
        [FBP_RELU_ACT] = {"relu", 1, FBP_RELU, FBP_RELU_GRAD, 0, NAN, relu_forward, relu_backward},              \
        [FBP_TANH] = {"tanh", 1, FBP_STORE, FBP_STORE, 0, NAN, tanh_forward, tanh_backward},                     \
        [FBP_SOFTMAX] = {"softmax", 0, FBP_STORE, FBP_STORE, 0, NAN, softmax_forward, softmax_backward},         \
        [FBP_SOFTPLUS] = {"softplus", 1, FBP_STORE, FBP_STORE, 0, NAN, softplus_forward, softplus_backward},     \
    }

#endif
