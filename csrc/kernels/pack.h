/* pack.h: weights in panels of NR columns: panel p of W (rows x cols) holds columns p NR .. p NR + NR - 1, row by row,
 * zeros past the last column; and the same for W transposed, whose columns are the rows of W. */
#ifndef FBP_PACK_H
#define FBP_PACK_H

#include "gemm.h"

INLINE void pack_columns(real *w, ptrdiff_t ldw, size_t rows, size_t cols, real *wp, const int back)
{
    for (size_t j = 0; j < cols; j += VL) {
        const vtail tail = vtail_of(cols - j < (size_t)VL ? cols - j : (size_t)VL);
        real *row = w + j, *packed = wp + (j / NR) * rows * NR + j % NR;
        for (size_t i = 0; i < rows; i++, row += ldw, packed += NR) {
            if (back) vstore_tail(row, vload(packed), tail);
            else vstore(packed, vload_tail(row, tail));
        }
    }
}

static void pack(void *w, ptrdiff_t ldw, size_t rows, size_t cols, void *wp) { pack_columns(w, ldw, rows, cols, wp, 0); }
static void unpack(void *w, ptrdiff_t ldw, size_t rows, size_t cols, void *wp) { pack_columns(w, ldw, rows, cols, wp, 1); }

/* r (VL x VL) becomes its transpose: log2(VL) rounds of interleaving register i with register i + VL/2. */
INLINE void transpose(vec r[])
{
    for (int width = 1; width < VL; width *= 2) {
        vec s[VL];
        for (int i = 0; i < VL / 2; i++) {
            s[2 * i] = vzip_lo(r[i], r[i + VL / 2]);
            s[2 * i + 1] = vzip_hi(r[i], r[i + VL / 2]);
        }
        for (int i = 0; i < VL; i++) r[i] = s[i];
    }
}

static void pack_transposed(const void *w, ptrdiff_t ldw, size_t rows, size_t i0, size_t i1, size_t j0, size_t j1, size_t cols,
                            void *wt)
{
    (void)rows;
    for (size_t i = i0; i < i1; i += VL) {
        const size_t m = i1 - i < (size_t)VL ? i1 - i : (size_t)VL;
        real *panel = (real *)wt + (i / NR) * cols * NR + i % NR;
        for (size_t j = j0; j < j1; j += VL) {
            const size_t n = j1 - j < (size_t)VL ? j1 - j : (size_t)VL;
            const vtail tail = vtail_of(n);
            const real *from = (const real *)w + (ptrdiff_t)i * ldw + j;
            vec r[VL];
            if (m == (size_t)VL && n == (size_t)VL)
                for (int x = 0; x < VL; x++) r[x] = vload(from + x * ldw);
            else
                for (int x = 0; x < VL; x++) r[x] = (size_t)x < m ? vload_tail(from + x * ldw, tail) : vzero();
            transpose(r);
            for (size_t x = 0; x < n; x++) vstore(panel + (j + x) * NR, r[x]);
        }
    }
}

#endif
