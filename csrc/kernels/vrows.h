/* vrows.h: several short rows in one register: VL / q rows of q reals, q = 4 or 8, where NARROW_MAX allows. For registers so long
 * that the last few columns of a layer would leave most of one empty; 0 where they are not. With vec.h the place where instruction
 * sets differ.
 */
#ifndef FBP_VROWS_H
#define FBP_VROWS_H

#include "vec.h"

#if defined(FBP_AVX512)
typedef __m512i vindex;
INLINE vec vpick(vec v, vindex index) { return CAT3(_mm512_permutexvar, SUFFIX, )(index, v); }   /* lane i = lane index[i] of v */
/* A masked store must not be merged with the extraction before it: the merged instruction faults on lanes masked out. */
#define APART(v) __asm__("" : "+v"(v))
#if FBP_REAL == 32
#define NARROW_MAX_ROWS 4       /* columns of narrow tiles: forms gemm_rows and gemm_cols */
#define NARROW_MAX_COLS 8
INLINE vec vrow_dup(const int q, const real *p)                 /* one row for all */
{
    return q == 4 ? _mm512_broadcast_f32x4(_mm_loadu_ps(p)) : _mm512_broadcast_f32x8(_mm256_loadu_ps(p));
}
#define JOIN4_(a, b, c, d) \
    _mm512_insertf32x4(_mm512_insertf32x4(_mm512_insertf32x4(_mm512_castps128_ps512(a), b, 1), c, 2), d, 3)
#define JOIN2_(a, b) _mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1)
INLINE vec vrows_load(const int q, const real *const *p, ptrdiff_t at)  /* q reals at each of the VL / q pointers */
{
    if (q == 4) return JOIN4_(_mm_loadu_ps(p[0] + at), _mm_loadu_ps(p[1] + at), _mm_loadu_ps(p[2] + at), _mm_loadu_ps(p[3] + at));
    return JOIN2_(_mm256_loadu_ps(p[0] + at), _mm256_loadu_ps(p[1] + at));
}
INLINE vec vrows_load_tail(const int q, const real *const *p, ptrdiff_t at, size_t n)   /* n < q, zeros after them */
{
    const __mmask8 t = (__mmask8)((1u << n) - 1u);
    if (q == 4)
        return JOIN4_(_mm_maskz_loadu_ps(t, p[0] + at), _mm_maskz_loadu_ps(t, p[1] + at), _mm_maskz_loadu_ps(t, p[2] + at),
                      _mm_maskz_loadu_ps(t, p[3] + at));
    return JOIN2_(_mm256_maskz_loadu_ps(t, p[0] + at), _mm256_maskz_loadu_ps(t, p[1] + at));
}
INLINE __m128 row4(vec v, const int row)
{
    return row == 0   ? _mm512_castps512_ps128(v)
           : row == 1 ? _mm512_extractf32x4_ps(v, 1)
           : row == 2 ? _mm512_extractf32x4_ps(v, 2)
                      : _mm512_extractf32x4_ps(v, 3);
}
INLINE __m256 row8(vec v, const int row) { return row == 0 ? _mm512_castps512_ps256(v) : _mm512_extractf32x8_ps(v, 1); }
INLINE void vrow_store(const int q, real *c, vec v, const int row)              /* one row */
{
    if (q == 4) _mm_storeu_ps(c, row4(v, row));
    else _mm256_storeu_ps(c, row8(v, row));
}
INLINE void vrow_store_tail(const int q, real *c, vec v, const int row, size_t n)   /* n reals of it */
{
    const __mmask8 t = (__mmask8)((1u << n) - 1u);
    if (q == 4) {
        __m128 r = row4(v, row);
        APART(r);
        _mm_mask_storeu_ps(c, t, r);
    } else {
        __m256 r = row8(v, row);
        APART(r);
        _mm256_mask_storeu_ps(c, t, r);
    }
}
#else
#define NARROW_MAX_ROWS 4
#define NARROW_MAX_COLS 4
INLINE vec vrow_dup(const int q, const real *p) { return q == 4 ? _mm512_broadcast_f64x4(_mm256_loadu_pd(p)) : vload(p); }
#define JOIN2_(a, b) _mm512_insertf64x4(_mm512_castpd256_pd512(a), b, 1)
INLINE vec vrows_load(const int q, const real *const *p, ptrdiff_t at)
{
    return q == 4 ? JOIN2_(_mm256_loadu_pd(p[0] + at), _mm256_loadu_pd(p[1] + at)) : vload(p[0] + at);
}
INLINE vec vrows_load_tail(const int q, const real *const *p, ptrdiff_t at, size_t n)
{
    const __mmask8 t = (__mmask8)((1u << n) - 1u);
    return q == 4 ? JOIN2_(_mm256_maskz_loadu_pd(t, p[0] + at), _mm256_maskz_loadu_pd(t, p[1] + at)) : vload_tail(p[0] + at, t);
}
INLINE void vrow_store(const int q, real *c, vec v, const int row)
{
    if (q == 4) _mm256_storeu_pd(c, row == 0 ? _mm512_castpd512_pd256(v) : _mm512_extractf64x4_pd(v, 1));
    else vstore(c, v);
}
INLINE void vrow_store_tail(const int q, real *c, vec v, int row, size_t n)
{
    const __mmask8 t = (__mmask8)((1u << n) - 1u);
    if (q == 4) {
        __m256d r = row == 0 ? _mm512_castpd512_pd256(v) : _mm512_extractf64x4_pd(v, 1);
        APART(r);
        _mm256_mask_storeu_pd(c, t, r);
    } else {
        vstore_tail(c, v, t);
    }
}
#endif
#elif defined(FBP_AVX2) && FBP_REAL == 32
#define NARROW_MAX_ROWS 4
#define NARROW_MAX_COLS 4
typedef __m256i vindex;
INLINE vec vpick(vec v, vindex index) { return _mm256_permutevar8x32_ps(v, index); }
INLINE vec vrow_dup(const int q, const real *p) { return q == 4 ? _mm256_broadcast_ps((const __m128 *)p) : vload(p); }
INLINE vec vrows_load(const int q, const real *const *p, ptrdiff_t at)
{
    return q == 4 ? _mm256_set_m128(_mm_loadu_ps(p[1] + at), _mm_loadu_ps(p[0] + at)) : vload(p[0] + at);
}
INLINE __m128i quarter_of(size_t n) { return _mm_cmplt_epi32(_mm_setr_epi32(0, 1, 2, 3), _mm_set1_epi32((int)n)); }
INLINE vec vrows_load_tail(const int q, const real *const *p, ptrdiff_t at, size_t n)
{
    if (q != 4) return vload_tail(p[0] + at, vtail_of(n));
    return _mm256_set_m128(_mm_maskload_ps(p[1] + at, quarter_of(n)), _mm_maskload_ps(p[0] + at, quarter_of(n)));
}
INLINE void vrow_store(const int q, real *c, vec v, const int row)
{
    if (q == 4) _mm_storeu_ps(c, row == 0 ? _mm256_castps256_ps128(v) : _mm256_extractf128_ps(v, 1));
    else vstore(c, v);
}
INLINE void vrow_store_tail(const int q, real *c, vec v, int row, size_t n)
{
    if (q == 4) _mm_maskstore_ps(c, quarter_of(n), row == 0 ? _mm256_castps256_ps128(v) : _mm256_extractf128_ps(v, 1));
    else vstore_tail(c, v, vtail_of(n));
}
#else
#define NARROW_MAX_ROWS 0
#define NARROW_MAX_COLS 0
typedef vint vindex;
INLINE vec vpick(vec v, vindex index) { return (void)index, v; }
INLINE vec vrow_dup(const int q, const real *p) { return (void)q, vload(p); }
INLINE vec vrows_load(const int q, const real *const *p, ptrdiff_t at) { return (void)q, vload(p[0] + at); }
INLINE vec vrows_load_tail(const int q, const real *const *p, ptrdiff_t at, size_t n) { return (void)q, (void)n, vload(p[0] + at); }
INLINE void vrow_store(const int q, real *c, vec v, const int row) { (void)q, (void)row, vstore(c, v); }
INLINE void vrow_store_tail(const int q, real *c, vec v, int row, size_t n) { (void)q, (void)row, (void)n, vstore(c, v); }
#endif
/* For vpick: element e of the row that a lane belongs to; the element whose number is first + (row of the lane). */
INLINE vindex vindex_element(const int q, int e)
{
    vint index;
    for (int i = 0; i < VL; i++) index[i] = i / q * q + e;
    return (vindex)index;
}
INLINE vindex vindex_row(const int q, int first)
{
    vint index;
    for (int i = 0; i < VL; i++) index[i] = first + i / q;
    return (vindex)index;
}

#endif
