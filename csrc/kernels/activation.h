/* activation.h: one row per activation: O = f(Z), and dZ = dO f'(Z), with f' taken from O, or, where O does not tell, from the
 * slopes that forward leaves behind. */
#ifndef FBP_ACTIVATION_H
#define FBP_ACTIVATION_H

#include "columns.h"
#include "kernels.h"
#include "reduce.h"
#include "vmath.h"
#include "vslope.h"

/* Rows i of a tile. */
INLINE const real *x_row(const struct fbp_tile *t, size_t i) { return (const real *)t->x + (ptrdiff_t)i * t->ldx; }
INLINE real *c_row(const struct fbp_tile *t, size_t i) { return (real *)t->c + (ptrdiff_t)i * t->ldc; }
INLINE real *o_row(const struct fbp_tile *t, size_t i) { return (real *)t->o + (ptrdiff_t)i * t->ldo; }

/* What a function makes of a register c of a tile, and of the same register of o. */
typedef vec register_fn(vec c, vec *o, double a);
enum o_use { NOTHING, READS, WRITES };

#define SIDE_BY_SIDE 4          /* registers of a row, to hide latency */

/* f on the first `count` registers of x. */
INLINE void registers(register_fn *f, enum o_use use, const real *x, real *c, real *o, double a, const int count)
{
    vec y[SIDE_BY_SIDE], p[SIDE_BY_SIDE];
    UNROLL for (int r = 0; r < count; r++) p[r] = use == READS ? vload(o + r * VL) : vzero();
    UNROLL for (int r = 0; r < count; r++) y[r] = f(vload(x + r * VL), &p[r], a);
    UNROLL for (int r = 0; r < count; r++) vstore(c + r * VL, y[r]);
    if (use == WRITES)
        UNROLL for (int r = 0; r < count; r++) vstore(o + r * VL, p[r]);
}

/* The loop over a tile: f on whole registers, then on the tail. f and `use` are constants where this is inlined. */
INLINE void each(register_fn *f, enum o_use use, const struct fbp_tile *t)
{
    const size_t n = t->n;
    const double a = t->a;
    const vtail tail = vtail_of(n % VL ? n % VL : VL);
    for (size_t i = 0; i < t->m; i++) {
        const real *x = x_row(t, i);
        real *c = c_row(t, i), *o = use == NOTHING ? c : o_row(t, i);
        size_t j = 0;
        for (; j + SIDE_BY_SIDE * VL <= n; j += SIDE_BY_SIDE * VL) registers(f, use, x + j, c + j, o + j, a, SIDE_BY_SIDE);
        for (; j + VL <= n; j += VL) registers(f, use, x + j, c + j, o + j, a, 1);
        if (j < n) {
            vec p = use == READS ? vload_tail(o + j, tail) : vzero();
            vstore_tail(c + j, f(vload_tail(x + j, tail), &p, a), tail);
            if (use == WRITES) vstore_tail(o + j, p, tail);
        }
    }
}

/* Three kinds of tile functions, each of an expression in c, o and a: forward, f(c); the same, but it also leaves f'(c) in *o
 * where slopes are wanted; backward, c f', with f' taken from o = f(z). */
#define REGISTER_FN(name, expr)                                                                     \
    INLINE vec name##_of(vec c, vec *o, double a) { (void)o, (void)a; return expr; }
#define TILE_FN(name, use)                                                                          \
    static void name(const struct fbp_tile *t) { each(name##_of, use, t); }
#define FORWARD(name, expr) REGISTER_FN(name, expr) TILE_FN(name, NOTHING)
#define BACKWARD(name, expr) REGISTER_FN(name, expr) TILE_FN(name, READS)
#define FORWARD_KEEPING(name, expr)                                                                 \
    REGISTER_FN(name, expr)                                                                         \
    static void name(const struct fbp_tile *t)                                                      \
    {                                                                                               \
        if (t->o) each(name##_of, WRITES, t);                                                       \
        else each(name##_of, NOTHING, t);                                                           \
    }

#define A vset1((real)a)
#define SELU_SCALE 1.0507009873554805
#define SELU_SCALE_ALPHA 1.7580993408473768      /* alpha is 1.6732632423543772 */

INLINE vec keep(vec f, vec slope, vec *o) { *o = slope; return f; }
INLINE vec where_positive(vec o, vec yes, vec no) { return vselect(vless(vzero(), o), yes, no); }
INLINE vec between(vec o, real low, real high, vec yes)     /* `yes` for low < o < high, else 0 */
{
    return vselect(vless(vset1(low), o), vselect(vless(o, vset1(high)), yes, vzero()), vzero());
}
INLINE vec relu6(vec c) { return vmin(vset1(6), vmax(vzero(), c)); }
INLINE vec hard_sigmoid(vec c) { return relu6(c + vset1(3)) / vset1(6); }
/* z / (1 + |z|), where |z| may be infinite: from 10^30 on the quotient is 1 */
INLINE vec softsign(vec c)
{
    const vec x = vmin(vset1((real)1e30), vabs(c));
    return vreal(vbits(x / (vset1(1) + x)) | (vbits(c) & vbits1(SIGN_BIT)));
}
/* (1 - |O|)^2 */
INLINE vec softsign_slope(vec o)
{
    const vec q = vset1(1) - vabs(o);
    return q * q;
}
/* z relu6(z + 3) / 6; slope (2 z + 3) / 6 between the kinks, 0 below, 1 above */
INLINE vec hard_swish(vec c, vec *slope)
{
    const vec bent = between(c, -3, 3, (c + c + vset1(3)) / vset1(6));
    *slope = vselect(vless(c, vset1(3)), bent, vmin(vset1(1), c));          /* 1, or NaN */
    return vmax(vset1(-3), c) * hard_sigmoid(c);
}
/* z^a; slope a z^(a - 1) */
INLINE vec power(vec c, vec *slope, double a)
{
    *slope = vzero();
    if (a != 0) *slope = A * vpower(c, a - 1);
    return vpower(c, a);
}

/* name                 f(z)                                                f'(z) */
FORWARD(sigmoid_forward, vsigmoid(c))                                    /* 1 / (1 + e^-z)           O (1 - O)            */
BACKWARD(sigmoid_backward, c * (*o * (vset1(1) - *o)))
FORWARD(relu_forward, vmax(vzero(), c))                                  /* max(0, z)                [O > 0]              */
BACKWARD(relu_backward, vrelu_grad(c, *o))
FORWARD(tanh_forward, vtanh(c))                                          /* tanh z                   (1 + O) (1 - O)      */
BACKWARD(tanh_backward, c * ((vset1(1) + *o) * (vset1(1) - *o)))
FORWARD(softplus_forward, vsoftplus(c))                                  /* log(1 + e^z)             1 - e^-O             */
BACKWARD(softplus_backward, c * vsoftplus_slope(*o))
FORWARD(leaky_relu_forward, where_positive(c, c, A * c))                 /* z, or a z for z <= 0     1, or a for O <= 0   */
BACKWARD(leaky_relu_backward, where_positive(*o, c, A * c))
FORWARD(elu_forward, where_positive(c, c, A * vexpm1_below(c)))          /* z, or a (e^z - 1)        1, or O + a          */
BACKWARD(elu_backward, c * where_positive(*o, vset1(1), *o + A))
FORWARD(selu_forward, where_positive(c, vset1((real)SELU_SCALE) * c, vset1((real)SELU_SCALE_ALPHA) * vexpm1_below(c)))
BACKWARD(selu_backward, c * where_positive(*o, vset1((real)SELU_SCALE), *o + vset1((real)SELU_SCALE_ALPHA)))
FORWARD(softsign_forward, softsign(c))                                   /* z / (1 + |z|)            (1 - |O|)^2          */
BACKWARD(softsign_backward, c * softsign_slope(*o))
FORWARD(hard_sigmoid_forward, hard_sigmoid(c))                           /* relu6(z + 3) / 6         [0 < O < 1] / 6      */
BACKWARD(hard_sigmoid_backward, c * between(*o, 0, 1, vset1((real)1 / 6)))
FORWARD(relu6_forward, relu6(c))                                         /* min(6, max(0, z))        [0 < O < 6]          */
BACKWARD(relu6_backward, c * between(*o, 0, 6, vset1(1)))
FORWARD(exp_forward, vexp(c))                                            /* e^z                      O                    */
BACKWARD(times_o, c * *o)                                                /* also where slopes are kept                    */
FORWARD(reciprocal_forward, vset1(1) / c)                                /* 1 / z                    -O^2                 */
BACKWARD(reciprocal_backward, -c * (*o * *o))
FORWARD(negative_forward, -c)                                            /* -z                       -1                   */
FORWARD_KEEPING(gelu_forward, vgelu(c, o))                               /* see vslope.h */
FORWARD_KEEPING(gelu_tanh_forward, vgelu_tanh(c, o))
FORWARD_KEEPING(silu_forward, vsilu(c, o))
FORWARD_KEEPING(mish_forward, vmish(c, o))
FORWARD_KEEPING(sin_forward, vsin(c, o))
FORWARD_KEEPING(hard_swish_forward, hard_swish(c, o))
FORWARD_KEEPING(square_forward, keep(c * c, c + c, o))                   /* z^2                      2 z                  */
FORWARD_KEEPING(log_forward, keep(vlog(c), vset1(1) / c, o))             /* log z                    1 / z                */
FORWARD_KEEPING(power_forward, power(c, o, a))

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
            if (e) store_block(e + at, x, left);
        }
    return vsum_lanes(s);
}

/* Softmax of a row, O_j = exp(z_j - max) / sum, or its logarithm, O_j = (z_j - max) - log sum. */
INLINE void softmax_row(const real *z, real *c, size_t n, const int logarithm)
{
    const real max = row_max(z, n);
    const vec sum = vset1(row_exp_sum(z, max, logarithm ? NULL : c, n)), log_sum = logarithm ? vlog(sum) : vzero();
    for (size_t j = 0; j < n; j += VL) {
        const vec x = load_block((logarithm ? z : c) + j, 0, n - j, vzero());
        store_block(c + j, logarithm ? (x - vset1(max)) - log_sum : x / sum, n - j);
    }
}

/* Of up to VL rows of t->n <= FEW reals, from i on. */
static void softmax_few(const struct fbp_tile *t, size_t i, size_t rows, int logarithm)
{
    const real *row[VL];
    vec z[FEW], e[FEW];
    rows_from(x_row(t, i), t->ldx, rows, row);
    load_columns(row, t->n, z, FEW, vset1(-(real)INFINITY));
    const vec max = max_columns(z, FEW);
    UNROLL for (size_t j = 0; j < FEW; j++) e[j] = z[j];
    const vec sum = exp_sum_columns(e, max, FEW);
    if (logarithm) {
        const vec log_sum = vlog(sum);
        UNROLL for (size_t j = 0; j < FEW; j++) z[j] = (z[j] - max) - log_sum;
    } else {
        UNROLL for (size_t j = 0; j < FEW; j++) z[j] = e[j] / sum;
    }
    store_columns(z, t->n, c_row(t, i), t->ldc, rows, FEW);
}

INLINE void softmax_rows(const struct fbp_tile *t, const int logarithm)
{
    for (size_t i = 0; i < t->m; i += VL) {
        const size_t rows = left_of(t->m, i);
        if (rows > 1 && t->n <= FEW) softmax_few(t, i, rows, logarithm);
        else for (size_t r = i; r < i + rows; r++) softmax_row(x_row(t, r), c_row(t, r), t->n, logarithm);
    }
}
static void softmax_forward(const struct fbp_tile *t) { softmax_rows(t, 0); }
static void log_softmax_forward(const struct fbp_tile *t) { softmax_rows(t, 1); }

/* dZ_j = O_j (dO_j - sum_k dO_k O_k) */
static void softmax_backward(const struct fbp_tile *t)
{
    const size_t n = t->n;
    for (size_t i = 0; i < t->m; i++) {
        const real *d = x_row(t, i), *o = o_row(t, i);
        real *c = c_row(t, i);
        vec s[NB];
        for (int b = 0; b < NB; b++) s[b] = vzero();
        for (size_t j = 0; j < n; j += LANES)
            for (int b = 0; b < NB; b++)
                s[b] = vfma(load_block(d + j, b, n - j, vzero()), load_block(o + j, b, n - j, vzero()), s[b]);
        const vec dot = vset1(vsum_lanes(s));
        for (size_t j = 0; j < n; j += VL)
            store_block(c + j, load_block(o + j, 0, n - j, vzero()) * (load_block(d + j, 0, n - j, vzero()) - dot), n - j);
    }
}

/* dZ_j = dO_j - e^O_j sum_k dO_k */
static void log_softmax_backward(const struct fbp_tile *t)
{
    const size_t n = t->n;
    for (size_t i = 0; i < t->m; i++) {
        const real *d = x_row(t, i), *o = o_row(t, i);
        real *c = c_row(t, i);
        vec s[NB];
        for (int b = 0; b < NB; b++) s[b] = vzero();
        for (size_t j = 0; j < n; j += LANES)
            for (int b = 0; b < NB; b++) s[b] = s[b] + load_block(d + j, b, n - j, vzero());
        const vec sum = vset1(vsum_lanes(s));
        for (size_t j = 0; j < n; j += VL) {
            const size_t left = n - j;
            store_block(c + j, vfnma(vexp(load_block(o + j, 0, left, vzero())), sum, load_block(d + j, 0, left, vzero())), left);
        }
    }
}

#define ACTIVATIONS                                                                                                          \
    {                                                                                                                        \
        [FBP_IDENTITY] = {"identity", 1, FBP_STORE, FBP_STORE, 0, NAN, NULL, NULL},                                          \
        [FBP_SIGMOID] = {"sigmoid", 1, FBP_STORE, FBP_SIGMOID_GRAD, 0, NAN, sigmoid_forward, sigmoid_backward},              \
        [FBP_RELU_ACT] = {"relu", 1, FBP_RELU, FBP_RELU_GRAD, 0, NAN, relu_forward, relu_backward},                          \
        [FBP_TANH] = {"tanh", 1, FBP_STORE, FBP_TANH_GRAD, 0, NAN, tanh_forward, tanh_backward},                             \
        [FBP_SOFTMAX] = {"softmax", 0, FBP_STORE, FBP_STORE, 0, NAN, softmax_forward, softmax_backward},                     \
        [FBP_SOFTPLUS] = {"softplus", 1, FBP_STORE, FBP_STORE, 0, NAN, softplus_forward, softplus_backward},                 \
        [FBP_LEAKY_RELU] = {"leaky_relu", 1, FBP_STORE, FBP_STORE, 0, 0.01, leaky_relu_forward, leaky_relu_backward},        \
        [FBP_ELU] = {"elu", 1, FBP_STORE, FBP_STORE, 0, 1, elu_forward, elu_backward},                                       \
        [FBP_SELU] = {"selu", 1, FBP_STORE, FBP_STORE, 0, NAN, selu_forward, selu_backward},                                 \
        [FBP_SOFTSIGN] = {"softsign", 1, FBP_STORE, FBP_STORE, 0, NAN, softsign_forward, softsign_backward},                 \
        [FBP_GELU] = {"gelu", 1, FBP_STORE, FBP_SLOPE_GRAD, 1, NAN, gelu_forward, times_o},                                  \
        [FBP_GELU_TANH] = {"gelu_tanh", 1, FBP_STORE, FBP_SLOPE_GRAD, 1, NAN, gelu_tanh_forward, times_o},                   \
        [FBP_SILU] = {"silu", 1, FBP_STORE, FBP_SLOPE_GRAD, 1, NAN, silu_forward, times_o},                                  \
        [FBP_MISH] = {"mish", 1, FBP_STORE, FBP_SLOPE_GRAD, 1, NAN, mish_forward, times_o},                                  \
        [FBP_HARD_SIGMOID] = {"hard_sigmoid", 1, FBP_STORE, FBP_STORE, 0, NAN, hard_sigmoid_forward, hard_sigmoid_backward}, \
        [FBP_HARD_SWISH] = {"hard_swish", 1, FBP_STORE, FBP_SLOPE_GRAD, 1, NAN, hard_swish_forward, times_o},                \
        [FBP_RELU6] = {"relu6", 1, FBP_STORE, FBP_STORE, 0, NAN, relu6_forward, relu6_backward},                             \
        [FBP_EXP] = {"exp", 1, FBP_STORE, FBP_STORE, 0, NAN, exp_forward, times_o},                                          \
        [FBP_SIN] = {"sin", 1, FBP_STORE, FBP_SLOPE_GRAD, 1, NAN, sin_forward, times_o},                                     \
        [FBP_LOG_SOFTMAX] = {"log_softmax", 0, FBP_STORE, FBP_STORE, 0, NAN, log_softmax_forward, log_softmax_backward},     \
        [FBP_SQUARE] = {"square", 1, FBP_STORE, FBP_STORE, 1, NAN, square_forward, times_o},                                 \
        [FBP_RECIPROCAL] = {"reciprocal", 1, FBP_STORE, FBP_STORE, 0, NAN, reciprocal_forward, reciprocal_backward},         \
        [FBP_LOG] = {"log", 1, FBP_STORE, FBP_STORE, 1, NAN, log_forward, times_o},                                          \
        [FBP_NEGATIVE] = {"negative", 1, FBP_STORE, FBP_STORE, 0, NAN, negative_forward, negative_forward},                  \
        [FBP_POWER] = {"power", 1, FBP_STORE, FBP_STORE, 1, 2, power_forward, times_o},                                      \
        [FBP_CUSTOM] = {"custom", 1, FBP_STORE, FBP_STORE, 1, NAN, NULL, times_o},                                           \
    }

#endif
