/* binary.h: gates of two inputs, element by element: Z = X op Y, and what each of the two receives of dZ. */
#ifndef FBP_BINARY_H
#define FBP_BINARY_H

#include "kernels.h"
#include "reduce.h"

typedef vec binary_expr(vec d, vec x, vec y);

/* The loop over rows: f on whole registers, then on the tail; added to what is there where `add`. */
INLINE void binary_loop(const struct fbp_binary *b, binary_expr *f, const int add)
{
    const size_t m = b->m, n = b->n, step_x = b->step_x, step_y = b->step_y;
    const void *const *xs = b->x, *const *ys = b->y;
    const ptrdiff_t ldc = b->ldc, ldd = b->ldd;
    const vtail tail = vtail_of(n % VL ? n % VL : VL);
    const real *d = b->d;
    real *c = b->c;
    for (size_t i = 0; i < m; i++, c += ldc, d += ldd) {
        const real *x = xs[i * step_x], *y = ys[i * step_y], *dz = b->d ? d : x;
        size_t j = 0;
        for (; j + VL <= n; j += VL) put(c + j, f(vload(dz + j), vload(x + j), vload(y + j)), add);
        if (j < n) put_tail(c + j, f(vload_tail(dz + j, tail), vload_tail(x + j, tail), vload_tail(y + j, tail)), tail, add);
    }
}

#define DEFINE_BINARY(name, expr)                                                             \
    INLINE vec name##_of(vec d, vec x, vec y) { (void)d, (void)x, (void)y; return expr; }     \
    static void name(const struct fbp_binary *b)                                              \
    {                                                                                         \
        if (b->add) binary_loop(b, name##_of, 1);                                             \
        else binary_loop(b, name##_of, 0);                                                    \
    }

/* x where it is NaN, else r: a maximum that keeps a NaN of either operand. */
INLINE vec vkeep_nan(vec x, vec r)
{
    const vuint nan = (vuint)(x != x);
    return vreal((vbits(x) & nan) | (vbits(r) & ~nan));
}

/* 1 where a > b, 1/2 where they are equal, else 0: the larger one's share of the gradient. */
INLINE vec vshare(vec a, vec b)
{
    const vec half = vset1((real)0.5), one = vset1(1);
    return vreal(((vuint)(a > b) & vbits(one)) | ((vuint)(a == b) & vbits(half)));
}

DEFINE_BINARY(binary_add, x + y)
DEFINE_BINARY(binary_subtract, x - y)
DEFINE_BINARY(binary_multiply, x * y)
DEFINE_BINARY(binary_divide, x / y)
DEFINE_BINARY(binary_maximum, vkeep_nan(x, vmax(x, y)))
DEFINE_BINARY(binary_minimum, vkeep_nan(x, vmin(x, y)))
DEFINE_BINARY(binary_delta, d)                              /* of both terms of a sum */
DEFINE_BINARY(binary_minus_delta, -d)
DEFINE_BINARY(binary_delta_y, d * y)
DEFINE_BINARY(binary_delta_x, d * x)
DEFINE_BINARY(binary_delta_over_y, d / y)
DEFINE_BINARY(binary_divide_by, -(d / y) * (x / y))         /* d(x/y)/dy = -x / y^2 */
DEFINE_BINARY(binary_larger_x, d * vshare(x, y))
DEFINE_BINARY(binary_larger_y, d * vshare(y, x))

#define BINARIES                                                                           \
    {                                                                                      \
        [FBP_PLUS] = {binary_add, {binary_delta, binary_delta}},                           \
        [FBP_MINUS] = {binary_subtract, {binary_delta, binary_minus_delta}},               \
        [FBP_TIMES] = {binary_multiply, {binary_delta_y, binary_delta_x}},                 \
        [FBP_OVER] = {binary_divide, {binary_delta_over_y, binary_divide_by}},             \
        [FBP_LARGER] = {binary_maximum, {binary_larger_x, binary_larger_y}},               \
        [FBP_SMALLER] = {binary_minimum, {binary_larger_y, binary_larger_x}},              \
    }

#endif
