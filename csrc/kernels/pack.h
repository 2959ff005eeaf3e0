/* pack.h: weights in panels of NR columns: panel p of W (rows x cols) holds columns p NR .. p NR + NR - 1, row by row,
 * zeros past the last column; and blocks of W transposed, for the product with W^T. */
#ifndef FBP_PACK_H
#define FBP_PACK_H

#include "vec.h"
#include "vtrans.h"

#define NR (NV * VL)

INLINE void pack_columns(real *w, ptrdiff_t ldw, size_t rows, size_t cols, real *wp, ptrdiff_t panel, const int back)
{
    for (size_t j = 0; j < cols; j += VL) {
        const vtail tail = vtail_of(left_of(cols, j));
        real *row = w + j, *packed = wp + (ptrdiff_t)(j / NR) * panel + j % NR;
        for (size_t i = 0; i < rows; i++, row += ldw, packed += NR) {
            if (back) vstore_tail(row, vload(packed), tail);
            else vstore(packed, vload_tail(row, tail));
        }
    }
}

static void pack(void *w, ptrdiff_t ldw, size_t rows, size_t cols, void *wp, ptrdiff_t panel)
{
    pack_columns(w, ldw, rows, cols, wp, panel, 0);
}
static void unpack(void *w, ptrdiff_t ldw, size_t rows, size_t cols, void *wp, ptrdiff_t panel)
{
    pack_columns(w, ldw, rows, cols, wp, panel, 1);
}

/* to (VL x VL, stride NR) = the transpose of m <= VL rows of n <= VL reals at w; zeros for those that are not there. What lies `ahead`
 * reals further on is asked for, unless that is 0. */
INLINE void transpose_block(const real *w, ptrdiff_t ldw, size_t m, size_t n, real *to, const ptrdiff_t ahead)
{
    vec r[VL];
    if (m + n == (size_t)(2 * VL)) {
        UNROLL for (int x = 0; x < VL; x++) {
            if (x > 0) w += ldw;
            OPAQUE(w);
            r[x] = vload(w);
            if (ahead) __builtin_prefetch(w + ahead);
        }
    } else {
        const vtail tail = vtail_of(n);
        UNROLL for (int x = 0; x < VL; x++) r[x] = (size_t)x < m ? vload_tail(w + x * ldw, tail) : vzero();
    }
    transpose(r);
    UNROLL for (int x = 0; x < VL; x++) vstore(to + x * NR, r[x]);
}

INLINE void transpose_blocks(const real *w, ptrdiff_t ldw, ptrdiff_t panel, size_t i, size_t m, size_t k0, size_t k, real *to,
                             const ptrdiff_t ahead)
{
    for (size_t p = 0; p < k; p += VL) {
        const real *at = w + (ptrdiff_t)((k0 + p) / NR) * panel + (ptrdiff_t)i * ldw + (ptrdiff_t)((k0 + p) % NR);
        const size_t n = left_of(k, p);
        for (size_t x = 0; x < m; x += VL, at += VL * ldw) transpose_block(at, ldw, left_of(m, x), n, to + p * NR + x, ahead);
    }
}

/* to (k x NR) = the transpose of rows i .. i + m of W, m <= NR, and its columns k0 .. k0 + k; W as in struct fbp_gemm. Inlined, it would
 * leave the loop over tiles fewer registers: 1 to 2 % of dX of 64 x 64. */
static __attribute__((noinline)) void transpose_panel(const real *w, ptrdiff_t ldw, ptrdiff_t panel, size_t i, size_t m, size_t k0, size_t k,
                                                      real *to, ptrdiff_t ahead)
{
    if (ahead) transpose_blocks(w, ldw, panel, i, m, k0, k, to, ahead);
    else transpose_blocks(w, ldw, panel, i, m, k0, k, to, 0);
}

#endif
