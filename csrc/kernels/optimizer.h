/* optimizer.h: one row per optimizer: a pass over a block of weights whose gradient is in cache.
 *
 * A rule sees one register of weights, of their gradient and of each slot; the loop over the block is the same for all.
 * Square root and division are those of IEEE 754, every sum of a product is an FMA: the same bits on every ISA that has one. */
#ifndef FBP_OPTIMIZER_H
#define FBP_OPTIMIZER_H

#include "kernels.h"
#include "reduce.h"
#include "vec.h"

/* struct fbp_rule in registers. */
struct numbers {
    vec minus_rate, eps, beta1, new1, beta2, new2;      /* new = 1 - beta */
    vec scale, limit, minus_limit, l2, l1, minus_l1, decay;
};

/* Weights, their gradient, their state. */
struct lanes {
    vec w, g, s[FBP_MAX_SLOTS];
};

typedef void lanes_fn(struct lanes *x, const struct numbers *n);

/* W = W - rate g */
INLINE void sgd(struct lanes *x, const struct numbers *n) { x->w = vfma(n->minus_rate, x->g, x->w); }

/* v = momentum v + g;  W = W - rate v */
INLINE void momentum(struct lanes *x, const struct numbers *n)
{
    x->s[0] = vfma(n->beta1, x->s[0], x->g);
    x->w = vfma(n->minus_rate, x->s[0], x->w);
}

/* v = momentum v + g;  W = W - rate (g + momentum v) */
INLINE void nesterov(struct lanes *x, const struct numbers *n)
{
    x->s[0] = vfma(n->beta1, x->s[0], x->g);
    x->w = vfma(n->minus_rate, vfma(n->beta1, x->s[0], x->g), x->w);
}

/* m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  W = W - rate m / (sqrt(v) + eps) */
INLINE void adam(struct lanes *x, const struct numbers *n)
{
    x->s[0] = vfma(n->new1, x->g, n->beta1 * x->s[0]);
    x->s[1] = vfma(n->new2 * x->g, x->g, n->beta2 * x->s[1]);
    x->w = vfma(n->minus_rate, x->s[0] / (vsqrt(x->s[1]) + n->eps), x->w);
}

/* s = beta2 s + (1 - beta2) g^2;  W = W - rate g / (sqrt(s) + eps) */
INLINE void rmsprop(struct lanes *x, const struct numbers *n)
{
    x->s[0] = vfma(n->new2 * x->g, x->g, n->beta2 * x->s[0]);
    x->w = vfma(n->minus_rate, x->g / (vsqrt(x->s[0]) + n->eps), x->w);
}

/* s = s + g^2;  W = W - rate g / (sqrt(s) + eps) */
INLINE void adagrad(struct lanes *x, const struct numbers *n)
{
    x->s[0] = vfma(x->g, x->g, x->s[0]);
    x->w = vfma(n->minus_rate, x->g / (vsqrt(x->s[0]) + n->eps), x->w);
}

/* What comes before the rule where it is not plain. A NaN stays one: see vmin. sign(0) is 0. */
INLINE void shape(struct lanes *x, const struct numbers *n)
{
    x->g = vmin(n->limit, vmax(n->minus_limit, n->scale * x->g));
    x->g += vselect(vless(vzero(), x->w), n->l1, vselect(vless(x->w, vzero()), n->minus_l1, x->w));
    x->g = vfma(n->l2, x->w, x->g);
    x->w = vfnma(n->decay, x->w, x->w);
}

/* The rule on every element. A block without gaps is one long row. */
INLINE void update_as(const struct fbp_update *u, lanes_fn *rule, const int slots, const int plain)
{
    const struct fbp_rule *r = u->rule;
    const struct numbers n = {
        .minus_rate = vset1((real)-r->rate), .eps = vset1((real)r->eps),
        .beta1 = vset1((real)r->beta1), .new1 = vset1((real)(1 - r->beta1)),
        .beta2 = vset1((real)r->beta2), .new2 = vset1((real)(1 - r->beta2)),
        .scale = vset1((real)r->scale), .limit = vset1((real)r->limit), .minus_limit = vset1((real)-r->limit),
        .l2 = vset1((real)r->l2), .l1 = vset1((real)r->l1), .minus_l1 = vset1((real)-r->l1), .decay = vset1((real)r->decay)};
    const ptrdiff_t width = (ptrdiff_t)u->cols;
    const int gapless = u->ld == width && u->ldg == width && (slots == 0 || u->ld_slot == width);
    const size_t rows = gapless ? 1 : u->rows, cols = gapless ? u->rows * u->cols : u->cols, whole = cols - cols % VL;
    const vtail tail = vtail_of(cols % VL ? cols % VL : VL);
    for (size_t i = 0; i < rows; i++) {
        real *w = (real *)u->w + (ptrdiff_t)i * u->ld, *s[FBP_MAX_SLOTS];
        const real *g = (const real *)u->g + (ptrdiff_t)i * u->ldg;
        struct lanes x;
        for (int k = 0; k < slots; k++) s[k] = (real *)u->slot[k] + (ptrdiff_t)i * u->ld_slot;
        for (size_t j = 0; j < whole; j += VL) {
            x.w = vload(w + j), x.g = vload(g + j);
            for (int k = 0; k < slots; k++) x.s[k] = vload(s[k] + j);
            if (!plain) shape(&x, &n);
            rule(&x, &n);
            for (int k = 0; k < slots; k++) vstore(s[k] + j, x.s[k]);
            vstore(w + j, x.w);
        }
        if (whole == cols) continue;
        x.w = vload_tail(w + whole, tail), x.g = vload_tail(g + whole, tail);
        for (int k = 0; k < slots; k++) x.s[k] = vload_tail(s[k] + whole, tail);
        if (!plain) shape(&x, &n);
        rule(&x, &n);
        for (int k = 0; k < slots; k++) vstore_tail(s[k] + whole, x.s[k], tail);
        vstore_tail(w + whole, x.w, tail);
    }
}

INLINE void update(const struct fbp_update *u, lanes_fn *rule, const int slots)
{
    if (u->rule->plain) update_as(u, rule, slots, 1);
    else update_as(u, rule, slots, 0);
}

static void sgd_update(const struct fbp_update *u) { update(u, sgd, 0); }
static void momentum_update(const struct fbp_update *u) { update(u, momentum, 1); }
static void nesterov_update(const struct fbp_update *u) { update(u, nesterov, 1); }
static void adam_update(const struct fbp_update *u) { update(u, adam, 2); }
static void rmsprop_update(const struct fbp_update *u) { update(u, rmsprop, 1); }
static void adagrad_update(const struct fbp_update *u) { update(u, adagrad, 1); }

#define CHAINS 4            /* sums side by side, so that an addition need not wait for the one before it */

/* Element j in lane j % LANES of sum (j / LANES) % CHAINS; the sums folded by halves, then the lanes. */
static double sum_squares(const void *xp, size_t n)
{
    const real *x = xp;
    vec s[CHAINS][NB];
    for (int c = 0; c < CHAINS; c++)
        for (int b = 0; b < NB; b++) s[c][b] = vzero();
    size_t j = 0;
    for (; j + CHAINS * LANES <= n; j += CHAINS * LANES)
        for (int c = 0; c < CHAINS; c++)
            for (int b = 0; b < NB; b++) {
                const vec v = vload(x + j + (size_t)(c * LANES + b * VL));
                s[c][b] = vfma(v, v, s[c][b]);
            }
    for (int c = 0; j < n; c++, j += LANES)
        for (int b = 0; b < NB; b++) {
            const vec v = load_block(x + j, b, n - j, vzero());
            s[c][b] = vfma(v, v, s[c][b]);
        }
    for (int b = 0; b < NB; b++) s[0][b] = (s[0][b] + s[2][b]) + (s[1][b] + s[3][b]);
    return vsum_lanes(s[0]);
}

/* w = w most / norm for the first `lanes` columns at w, where their norm is larger. Row i adds to sum i % CHAINS. */
INLINE void limit_register(real *w, ptrdiff_t ldw, size_t rows, size_t lanes, real most)
{
    const vtail tail = vtail_of(lanes);
    vec s[CHAINS];
    real factor[VL];
    int larger = 0;
    for (int c = 0; c < CHAINS; c++) s[c] = vzero();
    const real *row = w;
    size_t i = 0;
    for (; i + CHAINS <= rows; i += CHAINS)
        for (int c = 0; c < CHAINS; c++, row += ldw) {
            const vec v = vload_tail(row, tail);
            s[c] = vfma(v, v, s[c]);
        }
    for (int c = 0; i < rows; i++, c++, row += ldw) {
        const vec v = vload_tail(row, tail);
        s[c] = vfma(v, v, s[c]);
    }
    const vec norm = vsqrt((s[0] + s[2]) + (s[1] + s[3]));
    const vec shrink = vselect(vless(vset1(most), norm), vset1(most) / norm, vset1(1));
    vstore(factor, shrink);
    for (int l = 0; l < VL; l++) larger |= factor[l] < 1;
    if (!larger) return;
    for (i = 0; i < rows; i++, w += ldw) vstore_tail(w, vload_tail(w, tail) * shrink, tail);
}

static void limit_norms(void *w, ptrdiff_t ldw, size_t rows, size_t cols, double most)
{
    for (size_t j = 0; j < cols; j += VL)
        limit_register((real *)w + j, ldw, rows, left_of(cols, j), (real)most);
}

#define OPTIMIZERS                                                       \
    {                                                                    \
        [FBP_SGD] = {"sgd", 0, 0, FBP_AXPY, sgd_update},                 \
        [FBP_MOMENTUM] = {"momentum", 1, 0, FBP_STORE, momentum_update}, \
        [FBP_NESTEROV] = {"nesterov", 1, 0, FBP_STORE, nesterov_update}, \
        [FBP_ADAM] = {"adam", 2, 1, FBP_STORE, adam_update},             \
        [FBP_RMSPROP] = {"rmsprop", 1, 0, FBP_STORE, rmsprop_update},    \
        [FBP_ADAGRAD] = {"adagrad", 1, 0, FBP_STORE, adagrad_update},    \
    }

#endif
