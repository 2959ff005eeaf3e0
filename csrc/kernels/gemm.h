/* gemm.h: the products of a dense gate, written as tiles of MR x (NV * VL) accumulators that stay in registers.
 *
 * Every element of C is one chain of FMAs over k in increasing order; vectors run across columns, never along k. So the
 * bits depend on neither the tile, nor the ISA, nor the way rows are split among threads.
 */
#ifndef FBP_GEMM_H
#define FBP_GEMM_H

#include "kernels.h"
#include "vec.h"

#define NR (NV * VL)

#define UNROLL _Pragma("GCC unroll 16")          /* arrays of vectors become registers only when every loop is unrolled */
#define OPAQUE(p) __asm__("" : "+r"(p))         /* one pointer with small displacements, not one register per row */

#define PREFETCH_FROM 96                        /* products shorter than this gain nothing from asking for C early */

struct tile {
    const real *const *a;       /* row pointers: rows of the tile (gemm_rows) or of the reduction (gemm_cols) */
    ptrdiff_t a0;
    const real *b;
    ptrdiff_t ldb;
    size_t k;
    const real *start;
    ptrdiff_t ldstart;
    real *c;
    ptrdiff_t ldc;
    const real *o;
    ptrdiff_t ldo;
    real alpha;
    int epilogue;
    size_t last;                /* columns in the last register, 1..VL */
};

INLINE void tile_start(const int mr, const int nv, const struct tile *t, vec acc[][NV])
{
    if (t->start == NULL) {
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) acc[i][j] = vzero();
        return;
    }
    const vtail last = vtail_of(t->last);
    UNROLL for (int i = 0; i < mr; i++)
        UNROLL for (int j = 0; j < nv; j++) {
            const real *s = t->start + i * t->ldstart + j * VL;
            acc[i][j] = j == nv - 1 ? vload_tail(s, last) : vload(s);
        }
}

/* The epilogue, on the registers, then the stores; only the last register of a row can be partial. */
INLINE void tile_finish(const int mr, const int nv, const struct tile *t, vec acc[][NV])
{
    const vtail last = vtail_of(t->last);
    const vec alpha = vset1(t->alpha);
    switch (t->epilogue) {
    case FBP_RELU:
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) acc[i][j] = vmax(vzero(), acc[i][j]);
        break;
    case FBP_RELU_GRAD:
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) {
                const real *o = t->o + i * t->ldo + j * VL;
                acc[i][j] = acc[i][j] * vstep(j == nv - 1 ? vload_tail(o, last) : vload(o));
            }
        break;
    case FBP_ADD:
    case FBP_AXPY:
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) {
                const real *c = t->c + i * t->ldc + j * VL;
                vec old = j == nv - 1 ? vload_tail(c, last) : vload(c);
                if (t->epilogue == FBP_ADD) acc[i][j] = old + acc[i][j];
                else acc[i][j] = vfma(alpha, acc[i][j], old);
            }
        break;
    default: break;
    }
    if (t->last == (size_t)VL) {
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) vstore(t->c + i * t->ldc + j * VL, acc[i][j]);
    } else {
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) {
                real *c = t->c + i * t->ldc + j * VL;
                if (j == nv - 1) vstore_tail(c, acc[i][j], last);
                else vstore(c, acc[i][j]);
            }
    }
}

INLINE void tile_fma(const int mr, const int nv, vec acc[][NV], const real *b, const real *a[])
{
    vec bv[NV];
    UNROLL for (int j = 0; j < nv; j++) bv[j] = vload(b + j * VL);
    UNROLL for (int i = 0; i < mr; i++) {
        const vec x = vset1(*a[i]);
        UNROLL for (int j = 0; j < nv; j++) acc[i][j] = vfma(x, bv[j], acc[i][j]);
    }
}

/* a_k = a[i][a0 + k] */
INLINE void tile_rows(const int mr, const int nv, const struct tile *t)
{
    vec acc[MR][NV];
    const real *a[MR];
    const real *b = t->b;
    const ptrdiff_t ldb = t->ldb;
    const size_t k = t->k;
    tile_start(mr, nv, t, acc);
    UNROLL for (int i = 0; i < mr; i++) a[i] = t->a[i] + t->a0;
    for (size_t p = 0; p < k; p++, b += ldb) {
        const real *at[MR];
        UNROLL for (int i = 0; i < mr; i++) at[i] = a[i] + p;
        tile_fma(mr, nv, acc, b, at);
    }
    tile_finish(mr, nv, t, acc);
}

/* a_k = a[k][a0 + i] */
INLINE void tile_cols(const int mr, const int nv, const struct tile *t)
{
    vec acc[MR][NV];
    const real *const *a = t->a;
    const real *b = t->b;
    const ptrdiff_t ldb = t->ldb, a0 = t->a0;
    const size_t k = t->k;
    tile_start(mr, nv, t, acc);
    if (t->epilogue >= FBP_ADD && k >= PREFETCH_FROM)               /* C is read at the end, and may lie in memory */
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) __builtin_prefetch(t->c + i * t->ldc + j * VL, 1);
    for (size_t p = 0; p < k; p++, b += ldb) {
        const real *row = a[p] + a0, *at[MR];
        OPAQUE(row);
        UNROLL for (int i = 0; i < mr; i++) at[i] = row + i;
        tile_fma(mr, nv, acc, b, at);
    }
    tile_finish(mr, nv, t, acc);
}

/* One function per tile shape; TILE_ROWS (of the stub) lists the row counts 1..MR. */
typedef void tile_fn(const struct tile *);
#define DEFINE_TILES(mr)                                                       \
    static void tile_rows_##mr##_1(const struct tile *t) { tile_rows(mr, 1, t); } \
    static void tile_rows_##mr##_2(const struct tile *t) { tile_rows(mr, 2, t); } \
    static void tile_cols_##mr##_1(const struct tile *t) { tile_cols(mr, 1, t); } \
    static void tile_cols_##mr##_2(const struct tile *t) { tile_cols(mr, 2, t); }
#define ROWS_ENTRY(mr) {tile_rows_##mr##_1, tile_rows_##mr##_2},
#define COLS_ENTRY(mr) {tile_cols_##mr##_1, tile_cols_##mr##_2},
TILE_ROWS(DEFINE_TILES)
static tile_fn *const rows_tiles[MR][NV] = {TILE_ROWS(ROWS_ENTRY)};
static tile_fn *const cols_tiles[MR][NV] = {TILE_ROWS(COLS_ENTRY)};

/* Panels of NR columns outside (a panel of B stays in cache), balanced row tiles inside: 13 rows are 5 + 4 + 4. */
INLINE void gemm_panels(const struct fbp_gemm *g, tile_fn *const tiles[MR][NV], const int rows_form)
{
    if (g->m == 0 || g->n == 0) return;
    const size_t count = (g->m + MR - 1) / MR, low = g->m / count, larger = g->m % count;
    const real *const *rows = (const real *const *)g->a;
    struct tile t = {.a0 = g->a0, .ldb = g->ldb, .k = g->k, .ldstart = g->ldstart, .ldc = g->ldc, .ldo = g->ldo,
                     .alpha = (real)g->alpha, .epilogue = g->epilogue};
    for (size_t j = 0; j < g->n; j += NR) {
        const size_t cols = g->n - j < NR ? g->n - j : NR;
        const size_t nv = (cols + VL - 1) / VL;
        t.last = cols - (nv - 1) * VL;
        t.b = (const real *)g->b + (ptrdiff_t)(j / NR) * g->panel;
        size_t i = 0;
        for (size_t tile = 0; tile < count; tile++) {
            const size_t mr = low + (tile < larger);
            t.a = rows_form ? rows + i : rows;
            t.a0 = rows_form ? g->a0 : g->a0 + (ptrdiff_t)i;
            t.start = g->start ? (const real *)g->start + (ptrdiff_t)i * g->ldstart + j : NULL;
            t.c = (real *)g->c + (ptrdiff_t)i * g->ldc + j;
            t.o = g->o ? (const real *)g->o + (ptrdiff_t)i * g->ldo + j : NULL;
            tiles[mr - 1][nv - 1](&t);
            if (g->after) g->after(t.c, g->ldc, t.o, g->ldo, mr, cols);
            i += mr;
        }
    }
}

static void gemm_rows(const struct fbp_gemm *g) { gemm_panels(g, rows_tiles, 1); }
static void gemm_cols(const struct fbp_gemm *g) { gemm_panels(g, cols_tiles, 0); }

#endif
