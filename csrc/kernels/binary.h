/* binary.h: gates of two inputs, element by element: Z = X op Y, and what each of the two receives of dZ. */
#ifndef FBP_BINARY_H
#define FBP_BINARY_H

#include "kernels.h"
#include "reduce.h"

/* The loop over rows: expr(d, x, y) on whole registers, then on the tail; added to what is there where `add` is set. */
#define DEFINE_BINARY(name, expr)                                                                                          \
    INLINE vec name##_of(vec d, vec x, vec y) { (void)d, (void)x, (void)y; return expr; }                                  \
    static void name(const struct fbp_binary *b)                                                                           \
    {                                                                                                                      \
        const vtail tail = vtail_of(b->n % VL ? b->n % VL : VL);                                                           \
        for (size_t i = 0; i < b->m; i++) {                                                                                \
            real *c = (real *)b->c + (ptrdiff_t)i * b->ldc;                                                                \
            const real *x = b->x[i * b->step_x], *y = b->y[i * b->step_y];                                                 \
            const real *d = b->d ? (const real *)b->d + (ptrdiff_t)i * b->ldd : x;                                         \
            size_t j = 0;                                                                                                  \
            for (; j + VL <= b->n; j += VL)                                                                                \
                put(c + j, name##_of(vload(d + j), vload(x + j), vload(y + j)), b->add);                                   \
            if (j == b->n) continue;                                                                                       \
            const vec t = name##_of(vload_tail(d + j, tail), vload_tail(x + j, tail), vload_tail(y + j, tail));            \
            put_tail(c + j, t, tail, b->add);                                                                              \
        }                                                                                                                  \
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
