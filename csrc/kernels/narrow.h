/* narrow.h: tiles of a few columns, the last ones of a layer and heads of a few outputs, which would leave most of a register
 * empty. They are computed transposed: a register holds VL rows of one column. The chains are those of tile.h.
 */
#ifndef FBP_NARROW_H
#define FBP_NARROW_H

#include "tile.h"
#include "vtrans.h"

/* Columns up to which it pays: gemm_cols, whose A has VL rows in a register anyway; gemm_rows, where A is transposed block by block. */
#define NARROW_COLS (VL * 3 / 4)
#define NARROW_ROWS (VL * 3 / 4 - 2)
#define NARROW_REST (VL / 4)            /* gemm_rows, where a full register could share its tiles with them */
#define NARROW_MOST 12                  /* columns: 3/4 of the longest register */
#define NARROW_PARTS 4                  /* registers of rows in a tile */
#define NARROW_K (4 * VL)               /* steps of k that are transposed at once */

/* sum (n columns x parts) += b_k a_k^T for `parts` registers of rows, which start at a[k] + a0. */
typedef void narrow_fn(vec *sum, const real *const *a, ptrdiff_t a0, const real *b, ptrdiff_t ldb, size_t k);
INLINE void narrow_fma(const int n, const int parts, vec *sum, const real *const *a, ptrdiff_t a0, const real *b, ptrdiff_t ldb, size_t k)
{
    vec acc[NARROW_MOST][NARROW_PARTS];
    if (n > NARROW_COLS || n * parts > MR * NV) return;             /* never called */
    UNROLL for (int j = 0; j < n; j++)
        UNROLL for (int q = 0; q < parts; q++) acc[j][q] = sum[j * parts + q];
    for (size_t p = 0; p < k; p++, b += ldb) {
        const real *x = a[p] + a0;
        vec xv[NARROW_PARTS];
        UNROLL for (int q = 0; q < parts; q++) xv[q] = vload(x + q * VL);
        UNROLL for (int j = 0; j < n; j++) {
            const vec w = vset1(b[j]);
            UNROLL for (int q = 0; q < parts; q++) acc[j][q] = vfma(xv[q], w, acc[j][q]);
        }
    }
    UNROLL for (int j = 0; j < n; j++)
        UNROLL for (int q = 0; q < parts; q++) sum[j * parts + q] = acc[j][q];
}

/* Where the chains start, for VL rows: sum[j * parts] is column j. */
static void narrow_start(const struct tile *t, size_t n, size_t parts, vec *sum)
{
    vec r[VL];
    const vtail tail = vtail_of(n);
    if (t->start == NULL || t->ldstart == 0) {
        for (size_t j = 0; j < n; j++) sum[j * parts] = t->start ? vset1(t->start[j]) : vzero();
        return;
    }
    UNROLL for (int i = 0; i < VL; i++) r[i] = vload_tail(t->start + i * t->ldstart, tail);
    transpose(r);
    for (size_t j = 0; j < n; j++) sum[j * parts] = r[j];
}

/* Epilogue and stores of VL rows, of up to quarters * QUARTER columns. */
INLINE void narrow_rows(const struct tile *t, size_t n, size_t parts, const vec *sum, const int quarters)
{
    vec r[VL], rows[VL][NV];
    UNROLL for (int j = 0; j < VL; j++) r[j] = (size_t)j < n ? sum[(size_t)j * parts] : vzero();
    transpose_first(r, quarters);
    UNROLL for (int i = 0; i < VL; i++) rows[i][0] = r[i];
    tile_store(VL, 1, t, rows, 0, 1);
}
static void narrow_finish(const struct tile *t, size_t n, size_t parts, const vec *sum)
{
    const size_t quarters = (n + QUARTER - 1) / QUARTER;
    if (quarters == 1) narrow_rows(t, n, parts, sum, 1);
    else if (quarters == 2 && VL / QUARTER > 2) narrow_rows(t, n, parts, sum, 2);
    else if (quarters == 3 && VL / QUARTER > 3) narrow_rows(t, n, parts, sum, 3);
    else narrow_rows(t, n, parts, sum, VL / QUARTER);
}

/* block (k x VL, stride `ld`) = the transpose of VL rows of k reals. */
static void narrow_transpose(const real *const *a, ptrdiff_t a0, size_t k, real *block, size_t ld)
{
    for (size_t p = 0; p < k; p += VL) {
        vec r[VL];
        if (k - p >= (size_t)VL) {
            UNROLL for (int i = 0; i < VL; i++) r[i] = vload(a[i] + a0 + p);
        } else {
            const vtail tail = vtail_of(k - p);
            UNROLL for (int i = 0; i < VL; i++) r[i] = vload_tail(a[i] + a0 + p, tail);
        }
        transpose(r);
        UNROLL for (int i = 0; i < VL; i++) vstore(block + (p + (size_t)i) * ld, r[i]);
    }
}

/* Tiles of gemm_cols take MR reals of a line of A at a time, and come back to it for the next. That costs nothing while a step of k takes as
 * long as several lines need from L2; with less than 64 bytes in a register it does not, and A is better transposed once for all panels. */
#define TURNS (VBYTES < 64)
static __attribute__((noinline)) void turn(const void *const *a, ptrdiff_t a0, size_t rows, size_t cols, void *to, ptrdiff_t ld)
{
    for (size_t r = 0; r < rows; r += VL) {
        const real *row[VL];
        for (size_t i = 0; i < (size_t)VL; i++) row[i] = a[r + i < rows ? r + i : rows - 1];
        narrow_transpose(row, a0, cols, (real *)to + r, (size_t)ld);
    }
}

#define NARROW_1_(n, q) static AS_WRITTEN void narrow_##n##_##q(vec *s, const real *const *a, ptrdiff_t a0, const real *b, ptrdiff_t ldb, size_t k) \
    { narrow_fma(n, q, s, a, a0, b, ldb, k); }
#define DEFINE_NARROW(n) NARROW_1_(n, 1) NARROW_1_(n, 2) NARROW_1_(n, 3) NARROW_1_(n, 4)
#define NARROW_ENTRY(n) [n] = {narrow_##n##_1, narrow_##n##_2, narrow_##n##_3, narrow_##n##_4},
#define NARROW_LIST(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
NARROW_LIST(DEFINE_NARROW)
static narrow_fn *const narrow_tiles[NARROW_MOST + 1][NARROW_PARTS] = {NARROW_LIST(NARROW_ENTRY)};

#endif
