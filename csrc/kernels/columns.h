/* columns.h: VL rows of a few reals at once, transposed: register j holds element j of all of them. Where a row is one register or
 * less, its maximum and its sum would take most of the time. The operations and their order are those of a row by itself.
 */
#ifndef FBP_COLUMNS_H
#define FBP_COLUMNS_H

#include "vmath.h"
#include "vtrans.h"

#define FEW 16          /* reals of a row that are taken so: a register for each */

/* VL rows from x on, of which the first `rows` are there; the others are the last of them once more. One pointer walks: GCC would work out
 * registers of them, and take each out again. */
INLINE void rows_from(const real *x, ptrdiff_t ld, size_t rows, const real *row[])
{
    UNROLL for (size_t r = 0; r < (size_t)VL; r++) {
        row[r] = x;
        if (r + 1 < rows) x += ld;
        OPAQUE(x);
    }
}

/* column[j] = element j of VL rows of n <= most reals, for j < most; of those from n on, `fill`. */
INLINE void load_columns(const real *const *row, size_t n, vec *column, const size_t most, vec fill)
{
    UNROLL for (size_t j = 0; j < most; j += VL) {
        const vtail tail = vtail_of(left_of(n, j));
        vec r[VL];
        UNROLL for (int i = 0; i < VL; i++) r[i] = vload_fill(row[i] + j, tail, fill);
        transpose(r);
        UNROLL for (size_t i = 0; i < (size_t)VL; i++) if (j + i < most) column[j + i] = r[i];
    }
}

/* The first `rows` of VL rows of n <= most reals are set to the columns. */
INLINE void store_columns(const vec *column, size_t n, real *x, ptrdiff_t ld, size_t rows, const size_t most)
{
    UNROLL for (size_t j = 0; j < most; j += VL) {
        const vtail tail = vtail_of(left_of(n, j));
        vec r[VL] = {vzero()};
        UNROLL for (size_t i = 0; i < (size_t)VL; i++) if (j + i < most) r[i] = column[j + i];
        transpose_first(r, most < (size_t)VL ? ((int)most + QUARTER - 1) / QUARTER : VL / QUARTER);
        UNROLL for (size_t i = 0; i < (size_t)VL; i++) if (i < rows) vstore_tail(x + (ptrdiff_t)i * ld + j, r[i], tail);
    }
}

/* The largest of each row. */
INLINE vec max_columns(const vec *z, const size_t n)
{
    vec max = vset1(-(real)INFINITY);
    UNROLL for (size_t j = 0; j < n; j++) max = vmax(z[j], max);
    return max;
}

/* The sum of each row, which folds lanes j and j + w of the fixed layout, w = LANES/2 .. 1: registers here. */
INLINE vec sum_columns(const vec *x, const size_t n)
{
    vec lane[LANES];
    UNROLL for (size_t j = 0; j < n; j++) lane[j % LANES] = (j < (size_t)LANES ? vzero() : lane[j % LANES]) + x[j];
    UNROLL for (size_t w = LANES / 2; w >= 1; w /= 2)
        UNROLL for (size_t j = 0; j < w; j++) if (j + w < n) lane[j] = lane[j] + lane[j + w];
    return lane[0];
}

/* z = exp(z - max); returns the sum of each row. */
INLINE vec exp_sum_columns(vec *z, vec max, const size_t n)
{
    UNROLL for (size_t j = 0; j < n; j++) z[j] = vexp(z[j] - max);
    return sum_columns(z, n);
}

#endif
