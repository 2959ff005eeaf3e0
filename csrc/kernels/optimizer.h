/* optimizer.h: one row per optimizer: a pass over a block of weights whose gradient is in cache.
 *
 * hyper[0] = -learning rate, hyper[1] = momentum. */
#ifndef FBP_OPTIMIZER_H
#define FBP_OPTIMIZER_H

#include "kernels.h"
#include "vec.h"

/* W = W - lr dW */
static void sgd_update(const struct fbp_update *u)
{
    const vec minus_lr = vset1((real)u->hyper[0]);
    for (size_t i = 0; i < u->rows; i++) {
        real *w = (real *)u->w + (ptrdiff_t)i * u->ld;
        const real *g = (const real *)u->g + (ptrdiff_t)i * u->ldg;
        for (size_t j = 0; j < u->cols; j += VL) {
            const vtail t = vtail_of(u->cols - j < (size_t)VL ? u->cols - j : (size_t)VL);
            vstore_tail(w + j, vfma(minus_lr, vload_tail(g + j, t), vload_tail(w + j, t)), t);
        }
    }
}

/* v = momentum v + dW;  W = W - lr v */
static void momentum_update(const struct fbp_update *u)
{
    const vec minus_lr = vset1((real)u->hyper[0]), momentum = vset1((real)u->hyper[1]);
    for (size_t i = 0; i < u->rows; i++) {
        real *w = (real *)u->w + (ptrdiff_t)i * u->ld;
        real *v = (real *)u->slot[0] + (ptrdiff_t)i * u->ld_slot;
        const real *g = (const real *)u->g + (ptrdiff_t)i * u->ldg;
        for (size_t j = 0; j < u->cols; j += VL) {
            const vtail t = vtail_of(u->cols - j < (size_t)VL ? u->cols - j : (size_t)VL);
            const vec velocity = vfma(momentum, vload_tail(v + j, t), vload_tail(g + j, t));
            vstore_tail(v + j, velocity, t);
            vstore_tail(w + j, vfma(minus_lr, velocity, vload_tail(w + j, t)), t);
        }
    }
}

#define OPTIMIZERS                                                   \
    {                                                                \
        [FBP_SGD] = {"sgd", 0, FBP_AXPY, sgd_update},                \
        [FBP_MOMENTUM] = {"momentum", 1, FBP_STORE, momentum_update}, \
    }

#endif
