/* narrow.h: tiles of at most 4 or 8 columns where a register holds VL / q rows of q = 4 or 8 columns: the last columns of a
 * layer, and heads of a few outputs, which would leave most of a register empty. The chains are those of gemm.h. */
#ifndef FBP_NARROW_H
#define FBP_NARROW_H

#include "tile.h"
#include "vrows.h"

#define NARROW_GROUPS 6                 /* registers of rows in a tile of narrow_rows */

INLINE void row_store(const int q, real *c, vec v, const int row, size_t n)
{
    if (n == (size_t)q) vrow_store(q, c, v, row);
    else vrow_store_tail(q, c, v, row, n);
}

INLINE vec rows_load(const int q, const real *const *at, size_t n)
{
    return n == (size_t)q ? vrows_load(q, at, 0) : vrows_load_tail(q, at, 0, n);
}

/* Epilogue and stores of a register of rows i .. i + rows of the tile. */
static __attribute__((noinline)) void narrow_finish(const int q, const struct tile *t, size_t i, size_t rows, vec v)
{
    const size_t n = t->last;
    real *c = t->c + (ptrdiff_t)i * t->ldc;
    const real *at[4];
    for (size_t r = 0; r < (size_t)(VL / q); r++) at[r] = c + (ptrdiff_t)(r < rows ? r : 0) * t->ldc;
    switch (t->epilogue) {
    case FBP_RELU: v = vmax(vzero(), v); break;
    case FBP_RELU_GRAD:
        for (size_t r = 0; r < (size_t)(VL / q); r++) at[r] = t->o + (ptrdiff_t)(i + (r < rows ? r : 0)) * t->ldo;
        v = vrelu_grad(v, rows_load(q, at, n));
        break;
    case FBP_ADD: v = rows_load(q, at, n) + v; break;
    case FBP_AXPY: v = vfma(vset1(t->alpha), v, rows_load(q, at, n)); break;
    default: break;
    }
    UNROLL for (int r = 0; r < VL / q; r++)
        if ((size_t)r < rows) row_store(q, c + r * t->ldc, v, r, n);
}

static __attribute__((noinline)) vec narrow_start(const int q, const struct tile *t, size_t i, size_t rows)
{
    const real *at[4];
    if (t->start == NULL) return vzero();
    for (size_t r = 0; r < (size_t)(VL / q); r++) at[r] = t->start + (ptrdiff_t)(i + (r < rows ? r : 0)) * t->ldstart;
    return rows_load(q, at, t->last);
}

/* a_k = a[i][a0 + k] for m rows of 4 columns: 4 reals of a row are loaded at once, then spread one after another. */
INLINE void narrow_rows(const int groups, const struct tile *t, size_t m)
{
    enum { Q = 4, PER = VL / Q > 0 ? VL / Q : 1 };
    vec acc[NARROW_GROUPS], x[2][NARROW_GROUPS];
    vindex element[Q];
    const real *a[NARROW_GROUPS * PER];
    const real *b = t->b;
    const ptrdiff_t ldb = t->ldb;
    for (size_t i = 0; i < (size_t)groups * PER; i++) a[i] = t->a[i < m ? i : m - 1] + t->a0;
    IN_MEMORY(a);
    UNROLL for (int e = 0; e < Q; e++) element[e] = vindex_element(Q, e);
    UNROLL for (int g = 0; g < groups; g++) acc[g] = narrow_start(Q, t, (size_t)g * PER, m - (size_t)g * PER);
    size_t p = 0;
    for (; p + 2 * Q <= t->k; p += 2 * Q) {                         /* two loads from each pointer */
        UNROLL for (int g = 0; g < groups; g++) {
            x[0][g] = vrows_load(Q, a + g * PER, (ptrdiff_t)p);
            x[1][g] = vrows_load(Q, a + g * PER, (ptrdiff_t)p + Q);
        }
        UNROLL for (int e = 0; e < 2 * Q; e++, b += ldb) {
            const vec w = vrow_dup(Q, b);
            UNROLL for (int g = 0; g < groups; g++) acc[g] = vfma(vpick(x[e / Q][g], element[e % Q]), w, acc[g]);
        }
    }
    for (; p < t->k; p += Q) {
        const size_t n = t->k - p < Q ? t->k - p : Q;
        UNROLL for (int g = 0; g < groups; g++)
            x[0][g] = n == Q ? vrows_load(Q, a + g * PER, (ptrdiff_t)p) : vrows_load_tail(Q, a + g * PER, (ptrdiff_t)p, n);
        for (int e = 0; e < (int)n; e++, b += ldb) {
            const vec w = vrow_dup(Q, b);
            UNROLL for (int g = 0; g < groups; g++) acc[g] = vfma(vpick(x[0][g], element[e]), w, acc[g]);
        }
    }
    UNROLL for (int g = 0; g < groups; g++) narrow_finish(Q, t, (size_t)g * PER, m - (size_t)g * PER, acc[g]);
}

/* a_k = a[k][a0 + i] for m <= VL parts rows: VL of them are loaded at once and spread over q registers. */
INLINE void narrow_cols(const int q, const int parts, const struct tile *t, size_t m)
{
    const size_t per = (size_t)(VL / q);
    const vtail tail = vtail_of(m - (size_t)(parts - 1) * VL);
    vec acc[2][8], sums = vzero();
    const real *const sums_at[4] = {t->sums, t->sums, t->sums, t->sums};
    vindex row[8];
    const real *b = t->b;
    UNROLL for (int g = 0; g < q; g++) row[g] = vindex_row(q, g * (int)per);
    UNROLL for (int v = 0; v < parts; v++)
        UNROLL for (int g = 0; g < q; g++) {
            const size_t i = (size_t)v * VL + (size_t)g * per;
            acc[v][g] = i < m ? narrow_start(q, t, i, m - i) : vzero();
        }
    if (t->sums && t->more) sums = rows_load(q, sums_at, t->last);
    for (size_t p = 0; p < t->k; p++, b += t->ldb) {
        const real *x = t->a[p] + t->a0;
        const vec w = vrow_dup(q, b);
        sums = sums + w;
        UNROLL for (int v = 0; v < parts; v++) {
            const vec xv = v == parts - 1 ? vload_tail(x + v * VL, tail) : vload(x + v * VL);
            UNROLL for (int g = 0; g < q; g++) acc[v][g] = vfma(vpick(xv, row[g]), w, acc[v][g]);
        }
    }
    UNROLL for (int v = 0; v < parts; v++)
        UNROLL for (int g = 0; g < q; g++) {
            const size_t i = (size_t)v * VL + (size_t)g * per;
            if (i < m) narrow_finish(q, t, i, m - i, acc[v][g]);
        }
    if (t->sums) row_store(q, t->sums, sums, 0, t->last);
}

typedef void narrow_fn(const struct tile *, size_t m);
#define DEFINE_NARROW(g) static void narrow_rows_##g(const struct tile *t, size_t m) { narrow_rows(g, t, m); }
DEFINE_NARROW(1) DEFINE_NARROW(2) DEFINE_NARROW(3) DEFINE_NARROW(4) DEFINE_NARROW(5) DEFINE_NARROW(6)
static void narrow_cols_4_1(const struct tile *t, size_t m) { narrow_cols(4, 1, t, m); }
static void narrow_cols_4_2(const struct tile *t, size_t m) { narrow_cols(4, 2, t, m); }
static void narrow_cols_8_1(const struct tile *t, size_t m) { narrow_cols(8, 1, t, m); }
static void narrow_cols_8_2(const struct tile *t, size_t m) { narrow_cols(8, 2, t, m); }
static narrow_fn *const narrow_rows_tiles[NARROW_GROUPS] = {narrow_rows_1, narrow_rows_2, narrow_rows_3,
                                                            narrow_rows_4, narrow_rows_5, narrow_rows_6};
static narrow_fn *const narrow_cols_tiles[2][2] = {{narrow_cols_4_1, narrow_cols_4_2}, {narrow_cols_8_1, narrow_cols_8_2}};

#endif
