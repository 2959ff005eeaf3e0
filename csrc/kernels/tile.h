/* tile.h: tiles of MR x (NV * VL) accumulators that stay in registers.
 *
 * Every element of C is one chain of FMAs over k in increasing order; vectors run across columns, never along k. So the
 * bits depend on neither the tile, nor the ISA, nor the way rows are split among threads.
 */
#ifndef FBP_TILE_H
#define FBP_TILE_H

#include <math.h>

#include "kernels.h"
#include "pack.h"
#include "vec.h"

#define TWICE _Pragma("GCC unroll 2")            /* two steps of k: a hundredth faster, more are not */

#define LINE 64                                 /* bytes of a cache line */
#define B_AHEAD (4096 / sizeof(real))           /* B is asked for so far ahead: the hardware's prefetcher stops at every page of 4 KiB */
#define PREFETCH_FROM 96                        /* products shorter than this gain nothing from asking early for what they read at the end */

struct tile {
    const real *const *a;       /* row pointers: rows of the tile (gemm_rows) or of the reduction (gemm_cols) */
    ptrdiff_t a0;
    const real *b;
    ptrdiff_t ldb, panel;
    size_t k;
    const real *start;
    ptrdiff_t ldstart;
    real *c;
    ptrdiff_t ldc;
    const real *o;
    ptrdiff_t ldo;
    int second;                 /* gemm_rows: what c2 is made of, with rows x, from x0 on */
    const real *const *x;
    ptrdiff_t x0;
    real *c2;
    ptrdiff_t ldc2;
    real *sums;                 /* gemm_cols: NULL, or where the row of C for a column of ones in A goes */
    int more;                   /* sums go on from what is there */
    int far;                    /* gemm_rows: B or C are not in L2 and are asked for early, */
    const char *ahead;          /* in place of B, unless this is NULL, what comes after it, `stride` bytes further with every step of k */
    ptrdiff_t stride;
    real alpha;
    int epilogue;
    size_t last;                /* columns in the last register, 1..VL */
};

/* Register j of a row of nv at p; where the tile is not full, the last one is partial. No mask is made for full tiles: it would
 * have to wait behind the FMAs of the tile before. */
INLINE vec load_part(const real *p, const int j, const int nv, const int full, vtail last)
{
    return full || j < nv - 1 ? vload(p + j * VL) : vload_tail(p + j * VL, last);
}

/* The next row: one pointer that walks, not one for each row. */
INLINE real *below(const real *row, ptrdiff_t ld)
{
    row += ld;
    OPAQUE(row);
    return (real *)row;
}

INLINE void tile_load(const int mr, const int nv, const struct tile *t, vec acc[][NV], const int full)
{
    const vtail last = vtail_of(full ? VL : t->last);
    if (t->ldstart == 0) {                                      /* the bias row: loaded once */
        UNROLL for (int j = 0; j < nv; j++) acc[0][j] = load_part(t->start, j, nv, full, last);
        UNROLL for (int i = 1; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) acc[i][j] = acc[0][j];
        return;
    }
    const real *start = t->start;
    UNROLL for (int i = 0; i < mr; i++) {
        if (i > 0) start = below(start, t->ldstart);
        UNROLL for (int j = 0; j < nv; j++) acc[i][j] = load_part(start, j, nv, full, last);
    }
}

INLINE void tile_start(const int mr, const int nv, const struct tile *t, vec acc[][NV])
{
    if (t->start == NULL) {
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) acc[i][j] = vzero();
    } else if (t->last == (size_t)VL) {
        tile_load(mr, nv, t, acc, 1);
    } else {
        tile_load(mr, nv, t, acc, 0);
    }
}

INLINE void tile_write(const int mr, const int nv, real *c, ptrdiff_t ldc, vec acc[][NV], const int full, vtail last)
{
    UNROLL for (int i = 0; i < mr; i++) {
        if (i > 0) c = below(c, ldc);
        UNROLL for (int j = 0; j < nv; j++) {
            if (full || j < nv - 1) vstore(c + j * VL, acc[i][j]);
            else vstore_tail(c + j * VL, acc[i][j], last);
        }
    }
}

/* The tile of C2, made of that of C. */
INLINE void tile_second(const int mr, const int nv, const struct tile *t, vec acc[][NV], const int full, vtail last, const int delta)
{
    UNROLL for (int i = 0; i < mr; i++) {
        const real *x = t->x[i] + t->x0;
        OPAQUE(x);
        UNROLL for (int j = 0; j < nv; j++) {
            const vec v = load_part(x, j, nv, full, last);
            if (delta) acc[i][j] = vrelu_grad(acc[i][j], v);
            else acc[i][j] = acc[i][j] + v;
        }
    }
    if (!delta && t->second == FBP_SUM_RELU)
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) acc[i][j] = vmax(vzero(), acc[i][j]);
    tile_write(mr, nv, t->c2, t->ldc2, acc, full, last);
}

/* What an epilogue makes of a register v of S: it needs numbers, and but for CLIP the same register of O or of C. */
enum ending { CLIP, STEP, SMOOTH, UPDATE };
INLINE int reads_o(const enum ending how) { return how == STEP || how == SMOOTH; }
INLINE int is_gradient(const struct tile *t) { return t->epilogue >= FBP_RELU_GRAD && t->epilogue < FBP_ADD; }
INLINE vec number_of(const struct tile *t)
{
    switch (t->epilogue) {
    case FBP_RELU: case FBP_SIGMOID_GRAD: case FBP_SLOPE_GRAD: return vzero();
    case FBP_ADD: case FBP_TANH_GRAD: return vset1(1);
    case FBP_AXPY: return vset1(t->alpha);
    default: return vset1(-(real)INFINITY);
    }
}
INLINE vec share_of_o(const struct tile *t) { return t->epilogue == FBP_SLOPE_GRAD ? vzero() : vset1(1); }
INLINE vec ended(const enum ending how, vec v, vec number, vec share, vec old)
{
    switch (how) {
    case CLIP: return vmax(number, v);
    case STEP: return vrelu_grad(v, old);
    case SMOOTH: return v * ((number + old) * vfnma(share, old, vset1(1)));       /* the last is 1 - O, or 1 */
    default: return vfma(number, v, old);
    }
}

INLINE void tile_ended(const int mr, const int nv, const struct tile *t, vec acc[][NV], const int full, vtail last, const enum ending how)
{
    const real *old = reads_o(how) ? t->o : t->c;
    const ptrdiff_t ld = reads_o(how) ? t->ldo : t->ldc;
    const vec number = number_of(t), share = share_of_o(t);
    UNROLL for (int i = 0; i < mr; i++) {
        if (i > 0 && how != CLIP) old = below(old, ld);
        UNROLL for (int j = 0; j < nv; j++)
            acc[i][j] = ended(how, acc[i][j], number, share, how == CLIP ? number : load_part(old, j, nv, full, last));
    }
}

/* The epilogue, on the registers, then the stores. */
INLINE void tile_store(const int mr, const int nv, const struct tile *t, vec acc[][NV], const int full, const int rows_form)
{
    const vtail last = vtail_of(full ? VL : t->last);
    if (t->epilogue >= FBP_ADD) tile_ended(mr, nv, t, acc, full, last, UPDATE);
    else if (rows_form && t->epilogue == FBP_RELU) tile_ended(mr, nv, t, acc, full, last, CLIP);
    else if (rows_form && t->epilogue == FBP_RELU_GRAD) tile_ended(mr, nv, t, acc, full, last, STEP);
    else if (rows_form && is_gradient(t)) tile_ended(mr, nv, t, acc, full, last, SMOOTH);
    const int second = rows_form ? t->second : FBP_NO_SECOND;
    if (!second || t->c2 != t->c) tile_write(mr, nv, t->c, t->ldc, acc, full, last);
    if (!second) return;
    if (second == FBP_DELTA_RELU) tile_second(mr, nv, t, acc, full, last, 1);
    else tile_second(mr, nv, t, acc, full, last, 0);
}

/* often: full tiles end here often enough for code of their own, without masks. */
INLINE void tile_finish(const int mr, const int nv, const struct tile *t, vec acc[][NV], const int rows_form, const int often)
{
    if (often && t->last == (size_t)VL) tile_store(mr, nv, t, acc, 1, rows_form);
    else tile_store(mr, nv, t, acc, 0, rows_form);
}

/* The last ROW_STEPS steps of k row by row, each row stored as soon as it is done: as many FMAs as stores keep busy. All stores at once, when
 * the last step is done, would hold up the tile that comes after. (16 registers have no room for B of two steps, and of one do not gain.)
 * A full tile; x: pointers to its rows, or to those of the steps; second: whether and how C2 is made, FBP_SUM with and without ReLU. */
#define ROW_STEPS (VBYTES < 64 ? 0 : 2)
INLINE void tile_end(const int mr, const int nv, const struct tile *t, vec acc[][NV], const real *b, const real *const x[],
                     const int rows_form, const int ones, const enum ending how, const enum fbp_second second)
{
    const int rows = mr - ones, both = second == FBP_NO_SECOND || t->c2 != t->c;
    const vec number = number_of(t), share = share_of_o(t), least = vset1(t->second == FBP_SUM_RELU ? 0 : -(real)INFINITY);
    const ptrdiff_t ldb = t->ldb, ldc = t->ldc, ldo = t->ldo, ldc2 = t->ldc2;
    const real *o = t->o;
    real *c = t->c, *c2 = t->c2;
    vec bv[ROW_STEPS + 1][NV];
    UNROLL for (int q = 0; q < ROW_STEPS; q++)
        UNROLL for (int j = 0; j < nv; j++) bv[q][j] = vload(b + q * ldb + j * VL);
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int q = 0; q < ROW_STEPS; q++) {
            const vec v = vset1(rows_form ? x[i][q] : x[q][i]);
            UNROLL for (int j = 0; j < nv; j++) acc[i][j] = vfma(v, bv[q][j], acc[i][j]);
        }
        if (i > 0) c = below(c, ldc);
        if (i > 0 && reads_o(how)) o = below(o, ldo);
        if (i > 0 && second) c2 = below(c2, ldc2);
        UNROLL for (int j = 0; j < nv; j++) {
            acc[i][j] = ended(how, acc[i][j], number, share, how == CLIP ? number : vload((reads_o(how) ? o : c) + j * VL));
            if (both) vstore(c + j * VL, acc[i][j]);
            if (!second) continue;
            const vec other = vload(t->x[i] + t->x0 + j * VL);
            vstore(c2 + j * VL, second == FBP_DELTA_RELU ? vrelu_grad(acc[i][j], other) : vmax(least, acc[i][j] + other));
        }
    }
    if (ones)
        UNROLL for (int q = 0; q < ROW_STEPS; q++)
            UNROLL for (int j = 0; j < nv; j++) acc[rows][j] = acc[rows][j] + bv[q][j];
}

INLINE void tile_fma(const int mr, const int nv, vec acc[][NV], const vec bv[], const real *a[])
{
    UNROLL for (int i = 0; i < mr; i++) {
        const vec x = vset1(*a[i]);
        UNROLL for (int j = 0; j < nv; j++) acc[i][j] = vfma(x, bv[j], acc[i][j]);
    }
}

INLINE int ends_by_rows(const struct tile *t) { return ROW_STEPS > 0 && t->k > ROW_STEPS && t->last == (size_t)VL; }

/* Steps from .. to of rows a, with B from b on; returns where b is then. far: with every step lines at `ahead` are asked for. */
INLINE const real *rows_steps(const int mr, const int nv, const int far, vec acc[][NV], const real *const a[], const real *b, ptrdiff_t ldb,
                              ptrdiff_t from, ptrdiff_t to, const char *ahead, ptrdiff_t stride)
{
    TWICE for (ptrdiff_t p = from; p < to; p++, b += ldb) {
        const real *at[MR];
        vec bv[NV];
        UNROLL for (int j = 0; j < nv; j++) bv[j] = vload(b + j * VL);
        if (far) {
            UNROLL for (int j = 0; j < nv; j += LINE / VBYTES) __builtin_prefetch(ahead + j * VBYTES, 0, 2);
            ahead += stride;
        }
        UNROLL for (int i = 0; i < mr; i++) at[i] = a[i] + p;
        tile_fma(mr, nv, acc, bv, at);
    }
    return b;
}

/* a_k = a[i][a0 + k] */
INLINE void tile_rows(const int mr, const int nv, const struct tile *t)
{
    vec acc[MR][NV];
    const real *a[MR];
    const real *b = t->b;
    const size_t k = t->k;
    tile_start(mr, nv, t, acc);
    UNROLL for (int i = 0; i < mr; i++) a[i] = t->a[i];
    if (is_gradient(t) && k >= PREFETCH_FROM)
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) __builtin_prefetch(t->o + i * t->ldo + j * VL, 0);
    const int large = mr > MR / 2 && nv == NV;                      /* in smaller tiles C2 by rows is not worth its code */
    const int by_rows = ends_by_rows(t) && (t->second ? large && t->epilogue <= FBP_RELU : t->epilogue < FBP_ADD);
    const ptrdiff_t end = t->a0 + (ptrdiff_t)(by_rows ? k - ROW_STEPS : k);
    if (t->far) {
        UNROLL for (int i = 0; i < mr; i++)
            UNROLL for (int j = 0; j < nv; j++) __builtin_prefetch(t->c + i * t->ldc + j * VL, 1);
        const char *ahead = t->ahead ? t->ahead : (const char *)(b + B_AHEAD);
        b = rows_steps(mr, nv, 1, acc, a, b, t->ldb, t->a0, end, ahead, t->ahead ? t->stride : t->ldb * (ptrdiff_t)sizeof(real));
    } else {
        b = rows_steps(mr, nv, 0, acc, a, b, t->ldb, t->a0, end, NULL, 0);
    }
    if (by_rows) {
        const real *x[MR];
        UNROLL for (int i = 0; i < mr; i++) x[i] = a[i] + end;
        if (large && t->second == FBP_DELTA_RELU) tile_end(mr, nv, t, acc, b, x, 1, 0, CLIP, FBP_DELTA_RELU);
        else if (large && t->second) tile_end(mr, nv, t, acc, b, x, 1, 0, CLIP, FBP_SUM);
        else if (t->epilogue == FBP_RELU_GRAD) tile_end(mr, nv, t, acc, b, x, 1, 0, STEP, FBP_NO_SECOND);
        else if (is_gradient(t)) tile_end(mr, nv, t, acc, b, x, 1, 0, SMOOTH, FBP_NO_SECOND);
        else tile_end(mr, nv, t, acc, b, x, 1, 0, CLIP, FBP_NO_SECOND);
    } else {
        tile_finish(mr, nv, t, acc, 1, ROW_STEPS == 0);
    }
}

/* a_k = a[k][a0 + i]; with `ones`, the last of the mr rows is that of a column of ones. */
INLINE void tile_cols(const int mr, const int nv, const int ones, const struct tile *t)
{
    vec acc[MR][NV];
    const int rows = mr - ones;
    const real *const *a = t->a;
    const real *b = t->b;
    const ptrdiff_t ldb = t->ldb, a0 = t->a0;
    const size_t k = t->k;
    tile_start(rows, nv, t, acc);
    if (ones)
        UNROLL for (int j = 0; j < nv; j++) {
            acc[rows][j] = vzero();
            if (t->more) acc[rows][j] = load_part(t->sums, j, nv, 0, vtail_of(t->last));
        }
    const int reads_c = t->epilogue >= FBP_ADD, one_piece = t->ldc == NR;   /* at the end; C may lie in memory */
    if (reads_c && !one_piece && k >= PREFETCH_FROM)
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < nv; j++) __builtin_prefetch(t->c + i * t->ldc + j * VL, 1);
    const char *ahead = (const char *)t->c;                         /* of C in a panel a few bytes are asked for with every step of k, */
    const unsigned stride = reads_c && one_piece ? (unsigned)(2 * rows * NR * sizeof(real)) / (unsigned)(k + 1) : 0;    /* twice as fast as they must */
    const int by_rows = ends_by_rows(t);
    const size_t steps = by_rows ? k - ROW_STEPS : k;
    TWICE for (size_t p = 0; p < steps; p++, b += ldb) {
        const real *row = a[p] + a0, *at[MR];
        vec bv[NV];
        OPAQUE(row);
        UNROLL for (int j = 0; j < nv; j++) bv[j] = vload(b + j * VL);
        __builtin_prefetch(ahead, 1);
        ahead += stride;
        UNROLL for (int i = 0; i < rows; i++) at[i] = row + i;
        tile_fma(rows, nv, acc, bv, at);
        if (ones) UNROLL for (int j = 0; j < nv; j++) acc[rows][j] = acc[rows][j] + bv[j];
    }
    if (by_rows) {
        const real *x[ROW_STEPS + 1];
        UNROLL for (int q = 0; q < ROW_STEPS; q++) x[q] = a[steps + (size_t)q] + a0;
        if (t->epilogue >= FBP_ADD) tile_end(mr, nv, t, acc, b, x, 0, ones, UPDATE, FBP_NO_SECOND);
        else tile_end(mr, nv, t, acc, b, x, 0, ones, CLIP, FBP_NO_SECOND);
    } else {
        tile_finish(rows, nv, t, acc, 0, ROW_STEPS == 0);
    }
    if (ones)
        UNROLL for (int j = 0; j < nv; j++) {
            if (j == nv - 1) vstore_tail(t->sums + j * VL, acc[rows][j], vtail_of(t->last));
            else vstore(t->sums + j * VL, acc[rows][j]);
        }
}

/* A few rows by several whole panels, so that there are accumulators enough to hide the latency of an FMA. */
#define WIDE_PANELS 4
INLINE void tile_wide(const int mr, const int panels, const struct tile *t)
{
    vec acc[WIDE_PANELS][MR][NV];
    struct tile one = *t;
    const real *a[MR], *b[WIDE_PANELS];
    UNROLL for (int q = 0; q < panels; q++) {
        one.start = t->start ? t->start + q * NR : NULL;
        tile_start(mr, NV, &one, acc[q]);
        b[q] = t->b + q * t->panel;
    }
    UNROLL for (int i = 0; i < mr; i++) a[i] = t->a[i] + t->a0;
    for (size_t p = 0; p < t->k; p++) {
        const ptrdiff_t at = (ptrdiff_t)p * t->ldb;
        vec x[MR];
        UNROLL for (int i = 0; i < mr; i++) x[i] = vset1(a[i][p]);
        UNROLL for (int q = 0; q < panels; q++)
            UNROLL for (int j = 0; j < NV; j++) {
                const vec w = vload(b[q] + at + j * VL);
                UNROLL for (int i = 0; i < mr; i++) acc[q][i][j] = vfma(x[i], w, acc[q][i][j]);
            }
    }
    UNROLL for (int q = 0; q < panels; q++) {
        one.c = t->c + q * NR;
        one.o = t->o ? t->o + q * NR : NULL;
        one.x0 = t->x0 + q * NR;
        one.c2 = t->second ? t->c2 + q * NR : NULL;
        tile_finish(mr, NV, &one, acc[q], 1, 1);
    }
}

/* One function per shape of tile; TILE_ROWS (of the stub) lists the row counts 1..MR, WIDE_ROWS_p those for p panels: up to
 * MR / p. */
typedef void tile_fn(const struct tile *);
#define DEFINE_TILES(mr)                                                                        \
    static AS_WRITTEN void tile_rows_##mr##_1(const struct tile *t) { tile_rows(mr, 1, t); }    \
    static AS_WRITTEN void tile_rows_##mr##_2(const struct tile *t) { tile_rows(mr, 2, t); }    \
    static AS_WRITTEN void tile_cols_##mr##_1(const struct tile *t) { tile_cols(mr, 1, 0, t); } \
    static AS_WRITTEN void tile_cols_##mr##_2(const struct tile *t) { tile_cols(mr, 2, 0, t); } \
    static AS_WRITTEN void tile_ones_##mr##_1(const struct tile *t) { tile_cols(mr, 1, 1, t); } \
    static AS_WRITTEN void tile_ones_##mr##_2(const struct tile *t) { tile_cols(mr, 2, 1, t); }
#define ROWS_ENTRY(mr) [mr] = {tile_rows_##mr##_1, tile_rows_##mr##_2},
#define COLS_ENTRY(mr) [mr] = {tile_cols_##mr##_1, tile_cols_##mr##_2},
#define ONES_ENTRY(mr) [mr] = {tile_ones_##mr##_1, tile_ones_##mr##_2},
TILE_ROWS(DEFINE_TILES)
static tile_fn *const rows_tiles[MR + 1][NV] = {TILE_ROWS(ROWS_ENTRY)};
static tile_fn *const cols_tiles[MR + 1][NV] = {TILE_ROWS(COLS_ENTRY)};
static tile_fn *const ones_tiles[MR + 1][NV] = {TILE_ROWS(ONES_ENTRY)};

#define DEFINE_WIDE_2(mr) static AS_WRITTEN void tile_wide_2_##mr(const struct tile *t) { tile_wide(mr, 2, t); }
#define DEFINE_WIDE_3(mr) static AS_WRITTEN void tile_wide_3_##mr(const struct tile *t) { tile_wide(mr, 3, t); }
#define DEFINE_WIDE_4(mr) static AS_WRITTEN void tile_wide_4_##mr(const struct tile *t) { tile_wide(mr, 4, t); }
#define WIDE_ENTRY_2(mr) [1][mr] = tile_wide_2_##mr,
#define WIDE_ENTRY_3(mr) [2][mr] = tile_wide_3_##mr,
#define WIDE_ENTRY_4(mr) [3][mr] = tile_wide_4_##mr,
WIDE_ROWS_2(DEFINE_WIDE_2) WIDE_ROWS_3(DEFINE_WIDE_3) WIDE_ROWS_4(DEFINE_WIDE_4)
static tile_fn *const wide_tiles[WIDE_PANELS][MR / 2 + 1] = {WIDE_ROWS_2(WIDE_ENTRY_2) WIDE_ROWS_3(WIDE_ENTRY_3)
                                                             WIDE_ROWS_4(WIDE_ENTRY_4)};

#endif
