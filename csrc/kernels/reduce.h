/* reduce.h: sums and maxima. Over a row of n reals: LANES lanes, element j in lane j % LANES, folded by one fixed tree. */
#ifndef FBP_REDUCE_H
#define FBP_REDUCE_H

#include "vec.h"

/* Register number b of the block of LANES reals at p, of which n are there; the others read as `fill`. */
INLINE vec load_block(const real *p, int b, size_t n, vec fill)
{
    const size_t at = (size_t)b * VL;
    if (n >= at + VL) return vload(p + at);
    if (n <= at) return fill;
    return vload_fill(p + at, vtail_of(n - at), fill);
}

/* The register v to p, where n reals are left. */
INLINE void store_block(real *p, vec v, size_t n)
{
    if (n >= (size_t)VL) vstore(p, v);
    else vstore_tail(p, v, vtail_of(n));
}

/* v to p, or where `add`, to what is there. */
INLINE void put(real *p, vec v, const int add)
{
    if (add) v = vload(p) + v;
    vstore(p, v);
}

INLINE void put_tail(real *p, vec v, vtail tail, const int add)
{
    if (add) v = vload_tail(p, tail) + v;
    vstore_tail(p, v, tail);
}

/* The register at p, or of one that is not whole, what is there. */
INLINE vec get_whole(const real *p, vtail tail, const int whole) { return whole ? vload(p) : vload_tail(p, tail); }

INLINE void put_whole(real *p, vec v, vtail tail, const int whole, const int add)
{
    if (whole) put(p, v, add);
    else put_tail(p, v, tail, add);
}

/* c (m x n) += x */
static void add_rows(void *c, ptrdiff_t ldc, const void *x, ptrdiff_t ldx, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++) {
        real *to = (real *)c + (ptrdiff_t)i * ldc;
        const real *from = (const real *)x + (ptrdiff_t)i * ldx;
        size_t j = 0;
        for (; j + VL <= n; j += VL) vstore(to + j, vload(to + j) + vload(from + j));
        if (j < n) {
            const vtail tail = vtail_of(n - j);
            vstore_tail(to + j, vload_tail(to + j, tail) + vload_tail(from + j, tail), tail);
        }
    }
}

#endif
