/* vec.h: the thin vector layer. Everything that differs between instruction sets is in this file and the stubs.
 *
 * A stub defines FBP_AVX512, FBP_AVX2, FBP_NEON or FBP_BASE and FBP_REAL (32 or 64), then includes body.h. This file
 * then provides one register type `vec` of VL reals and the few operations the kernels are written in. Rules:
 *   - vfma is a fused multiply-add wherever the ISA has one, so that every FMA ISA gives the same bits;
 *   - vmax and vmin return their second argument when either is NaN, so vmax(zero, x) keeps a NaN in x;
 *   - sums across lanes use one layout on every ISA: 64 bytes (NB vectors) folded by halves.
 */
#ifndef FBP_VEC_H
#define FBP_VEC_H

/* GCC leaves the polynomials of several registers one behind the other, longer than the queue of the processor, unless it is asked
 * to take turns: 5 to 25 % of the smooth activations. For that, with 16 registers, it would spill the accumulators of tiles. The base
 * kernels, for what has none of the others, are an eighth smaller and 3 % slower with O2. */
#if defined(__GNUC__) && !defined(__clang__)
#if defined(FBP_BASE)
#pragma GCC optimize("O2")
#endif
#pragma GCC optimize("schedule-insns", "sched-pressure")
#endif
#if defined(__GNUC__) && !defined(__clang__) && !defined(FBP_AVX512)
#define AS_WRITTEN __attribute__((optimize("no-schedule-insns")))
#else
#define AS_WRITTEN
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CAT2_(a, b) a##b
#define CAT2(a, b) CAT2_(a, b)
#define CAT3_(a, b, c) a##b##c
#define CAT3(a, b, c) CAT3_(a, b, c)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")          /* arrays of vectors become registers only when every loop is unrolled */
#define OPAQUE(p) __asm__("" : "+r"(p))         /* one pointer with small displacements, not one register per row */

#if FBP_REAL == 32
typedef float real;
typedef int32_t lane_int;
typedef uint32_t lane_uint;
#define MANTISSA 23           /* bits of the mantissa */
#define TO_INTEGER 0x1.8p23f   /* added to a real, it leaves the nearest integer in the low bits */
#define EXPONENT_BIAS 127
#define SUFFIX _ps
#else
typedef double real;
typedef int64_t lane_int;
typedef uint64_t lane_uint;
#define MANTISSA 52
#define TO_INTEGER 0x1.8p52
#define EXPONENT_BIAS 1023
#define SUFFIX _pd
#endif

/* ---- register types ---------------------------------------------------------------------------------------------- */

#if defined(FBP_AVX512)
#include <immintrin.h>
#define VBYTES 64
#define PREFIX _mm512_
#if FBP_REAL == 32
typedef __m512 vec;
typedef __mmask16 vtail;
#else
typedef __m512d vec;
typedef __mmask8 vtail;
#endif
#elif defined(FBP_AVX2)
#include <immintrin.h>
#define VBYTES 32
#define PREFIX _mm256_
typedef __m256i vtail;
#if FBP_REAL == 32
typedef __m256 vec;
#else
typedef __m256d vec;
#endif
#elif defined(FBP_NEON)
#include <arm_neon.h>
#define VBYTES 16
typedef size_t vtail;
#if FBP_REAL == 32
typedef float32x4_t vec;
#else
typedef float64x2_t vec;
#endif
#elif defined(FBP_BASE)
#define VBYTES 16
typedef size_t vtail;
typedef real vec __attribute__((vector_size(16)));
#else
#error "a stub must define FBP_AVX512, FBP_AVX2, FBP_NEON or FBP_BASE"
#endif

#define VL ((int)(VBYTES / sizeof(real)))  /* reals in a register */
#define NB (64 / VBYTES)                   /* registers in the 64 bytes of the fixed lane layout */
#define LANES ((int)(64 / sizeof(real)))   /* lanes of that layout: 16 float32, 8 float64 */
#define OP(name) CAT3(PREFIX, name, SUFFIX)

typedef lane_int vint __attribute__((vector_size(VBYTES)));
typedef lane_uint vuint __attribute__((vector_size(VBYTES)));

/* ---- what is written alike for all: GCC and Clang vector extensions ------------------------------------------------ */

INLINE vec vset1(real x) { return x - (vec){0}; }   /* scalar op vector: the scalar in every lane */
INLINE vec vzero(void) { return (vec){0}; }
INLINE vuint vbits(vec v) { return (vuint)v; }
INLINE vec vreal(vuint b) { return (vec)b; }
INLINE vuint vbits1(lane_uint x) { return x | (vuint){0}; }

/* ---- memory, fused multiply-add, maximum, square root ---------------------------------------------------------------- */

#if defined(FBP_AVX512) || defined(FBP_AVX2)
INLINE vec vload(const real *p) { return OP(loadu)(p); }
INLINE void vstore(real *p, vec v) { OP(storeu)(p, v); }
INLINE vec vfma(vec a, vec b, vec c) { return OP(fmadd)(a, b, c); }    /* a b + c */
INLINE vec vfnma(vec a, vec b, vec c) { return OP(fnmadd)(a, b, c); }  /* c - a b */
INLINE vec vmax(vec a, vec b) { return OP(max)(a, b); }
INLINE vec vmin(vec a, vec b) { return OP(min)(a, b); }
INLINE vec vsqrt(vec a) { return OP(sqrt)(a); }
#else
INLINE vec vload(const real *p) { vec v; memcpy(&v, p, sizeof v); return v; }
INLINE void vstore(real *p, vec v) { memcpy(p, &v, sizeof v); }
#if defined(FBP_NEON)
#if FBP_REAL == 32
INLINE vec vfma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
INLINE vec vfnma(vec a, vec b, vec c) { return vfmsq_f32(c, a, b); }
INLINE vec vsqrt(vec a) { return vsqrtq_f32(a); }
#else
INLINE vec vfma(vec a, vec b, vec c) { return vfmaq_f64(c, a, b); }
INLINE vec vfnma(vec a, vec b, vec c) { return vfmsq_f64(c, a, b); }
INLINE vec vsqrt(vec a) { return vsqrtq_f64(a); }
#endif
#else
INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }   /* two roundings: base is outside the same-bits promise */
INLINE vec vfnma(vec a, vec b, vec c) { return c - a * b; }
INLINE vec vsqrt(vec a)
{
    for (int i = 0; i < VL; i++) a[i] = FBP_REAL == 32 ? (real)__builtin_sqrtf((float)a[i]) : (real)__builtin_sqrt(a[i]);
    return a;
}
#endif
INLINE vec vmax(vec a, vec b)
{
    vuint a_wins = (vuint)(a > b);
    return vreal((vbits(a) & a_wins) | (vbits(b) & ~a_wins));
}
INLINE vec vmin(vec a, vec b)
{
    vuint a_wins = (vuint)(a < b);
    return vreal((vbits(a) & a_wins) | (vbits(b) & ~a_wins));
}
#endif

/* c - a b for a c near a b, where a product that was rounded first would leave nothing right. */
#if defined(FBP_BASE)
INLINE vec vfnma_near(vec a, vec b, vec c)  /* the product in halves of the mantissa, whose products are exact */
{
    const vuint upper = vbits1(~(((lane_uint)1 << (MANTISSA / 2 + 1)) - 1));
    const vec a0 = vreal(vbits(a) & upper), a1 = a - a0, b0 = vreal(vbits(b) & upper), b1 = b - b0, p = a * b;
    return (c - p) - (((a0 * b0 - p) + a0 * b1 + a1 * b0) + a1 * b1);
}
#else
INLINE vec vfnma_near(vec a, vec b, vec c) { return vfnma(a, b, c); }
#endif

/* Comparisons (false where either is NaN) and choices: vselect takes a where the mask is set. */
#if defined(FBP_AVX512)
typedef vtail vmask;
INLINE vmask vless(vec a, vec b) { return CAT3(PREFIX, cmp, CAT2(SUFFIX, _mask))(a, b, _CMP_LT_OQ); }
INLINE vec vselect(vmask m, vec a, vec b) { return OP(mask_blend)(m, b, a); }
#elif defined(FBP_AVX2)
typedef vec vmask;
INLINE vmask vless(vec a, vec b) { return OP(cmp)(a, b, _CMP_LT_OQ); }
INLINE vec vselect(vmask m, vec a, vec b) { return OP(blendv)(b, a, m); }
#else
typedef vuint vmask;
INLINE vmask vless(vec a, vec b) { return (vuint)(a < b); }
INLINE vec vselect(vmask m, vec a, vec b) { return vreal((vbits(a) & m) | (vbits(b) & ~m)); }
#endif

/* d where o > 0, else d 0 (also where o is NaN): times the derivative of ReLU, from its output. */
#if defined(FBP_AVX512)
INLINE vec vrelu_grad(vec d, vec o)
{
    return OP(mask_mul)(d, CAT3(PREFIX, cmp, CAT2(SUFFIX, _mask))(o, vzero(), _CMP_NGT_UQ), d, vzero());
}
#else
INLINE vec vrelu_grad(vec d, vec o) { return d * vselect(vless(vzero(), o), vset1(1), vzero()); }
#endif

/* v 2^n, rounded once, for 1/2 < v < 2 and an integral n within twice the normal exponents; vscale_normal: where that is normal or is
 * flushed to 0, and t holds n in its low bits. */
#if defined(FBP_AVX512)
INLINE vec vscale(vec v, vec n) { return OP(scalef)(v, n); }
INLINE vec vscale_normal(vec v, vec t, vec n) { return OP(scalef)(v, n); }
#else
#define POWER_(n) vreal(vbits(n + vset1((real)(TO_INTEGER + EXPONENT_BIAS))) << MANTISSA)
INLINE vec vscale(vec v, vec n)
{
    const vec half = (n * vset1((real)0.5) + vset1(TO_INTEGER)) - vset1(TO_INTEGER);
    return v * POWER_(half) * POWER_(n - half);
}
INLINE vec vscale_normal(vec v, vec t, vec n) { return vreal(vbits(v) + (vbits(t) << MANTISSA)); }
#endif

/* Lanes of 64 bits: the products of their lower halves; the even lanes of both a0 b0 a2 b2 ..., and the odd ones a1 b1 a3 b3 ... */
typedef uint64_t vwide __attribute__((vector_size(VBYTES)));
#if defined(FBP_AVX512)
INLINE vwide vmul_lower(vwide a, vwide b) { return (vwide)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
INLINE vwide veven(vwide a, vwide b) { return (vwide)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b); }
INLINE vwide vodd(vwide a, vwide b) { return (vwide)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b); }
#elif defined(FBP_AVX2)
INLINE vwide vmul_lower(vwide a, vwide b) { return (vwide)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
INLINE vwide veven(vwide a, vwide b) { return (vwide)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b); }
INLINE vwide vodd(vwide a, vwide b) { return (vwide)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b); }
#else
#if defined(FBP_NEON)
INLINE vwide vmul_lower(vwide a, vwide b) { return (vwide)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b)); }
#else
INLINE vwide vmul_lower(vwide a, vwide b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
#endif
INLINE vwide veven(vwide a, vwide b)
{
    for (int l = 1; l < VBYTES / 8; l += 2) a[l] = b[l - 1];
    return a;
}
INLINE vwide vodd(vwide a, vwide b)
{
    for (int l = 1; l < VBYTES / 8; l += 2) b[l - 1] = a[l];
    return b;
}
#endif

/* Lane by lane table[i], i the low three bits of the lane of `index`. TABLE has its eight twice, as many as the longest register. */
#if FBP_REAL == 32
#define TABLE(...) {__VA_ARGS__, __VA_ARGS__}
#if defined(FBP_AVX512)
INLINE vec vlookup(const real *table, vec index) { return _mm512_permutexvar_ps((__m512i)index, vload(table)); }
#elif defined(FBP_AVX2)
INLINE vec vlookup(const real *table, vec index) { return _mm256_permutevar8x32_ps(vload(table), (__m256i)index); }
#else
INLINE vec vlookup(const real *table, vec index)
{
    const vuint i = vbits(index) & vbits1(7);
    vec v = vzero();
    for (int j = 0; j < VL; j++) v[j] = table[i[j]];
    return v;
}
#endif
#endif

/* ---- tails: the first n lanes of a register, 1 <= n <= VL; in memory the others are neither read nor written. They load
 * as zero, or with vload_fill as those of `fill`; vfill puts those of `fill` into a register ------------------------------- */

/* How many of n reals from j on a register has. */
INLINE size_t left_of(size_t n, size_t j) { return n < j ? 0 : n - j < (size_t)VL ? n - j : (size_t)VL; }

#if defined(FBP_AVX512)
INLINE vtail vtail_of(size_t n) { return (vtail)((1u << n) - 1u); }
INLINE vec vload_tail(const real *p, vtail t) { return OP(maskz_loadu)(t, p); }
INLINE vec vload_fill(const real *p, vtail t, vec fill) { return OP(mask_loadu)(fill, t, p); }
INLINE void vstore_tail(real *p, vec v, vtail t) { OP(mask_storeu)(p, t, v); }
INLINE vec vfill(vec v, vtail t, vec fill) { return OP(mask_mov)(fill, t, v); }
#elif defined(FBP_AVX2)
INLINE vtail vtail_of(size_t n)
{
    vint lane;
    for (int i = 0; i < VL; i++) lane[i] = i;
    return (vtail)(lane < (vint)vbits1((lane_uint)n));
}
INLINE vec vload_tail(const real *p, vtail t) { return OP(maskload)(p, t); }
INLINE vec vload_fill(const real *p, vtail t, vec fill) { return OP(blendv)(fill, OP(maskload)(p, t), (vec)t); }
INLINE void vstore_tail(real *p, vec v, vtail t) { OP(maskstore)(p, t, v); }
INLINE vec vfill(vec v, vtail t, vec fill) { return OP(blendv)(fill, v, (vec)t); }
#else
INLINE vtail vtail_of(size_t n) { return n; }
INLINE vec vload_tail(const real *p, vtail t)
{
    vec v = vzero();
    for (size_t i = 0; i < t; i++) v[i] = p[i];
    return v;
}
INLINE vec vload_fill(const real *p, vtail t, vec fill)
{
    for (size_t i = 0; i < t; i++) fill[i] = p[i];
    return fill;
}
INLINE void vstore_tail(real *p, vec v, vtail t)
{
    for (size_t i = 0; i < t; i++) p[i] = v[i];
}
INLINE vec vfill(vec v, vtail t, vec fill)
{
    for (size_t i = 0; i < t; i++) fill[i] = v[i];
    return fill;
}
#endif

/* ---- across lanes: NB registers hold LANES lanes; lane i meets lane i + w for w = LANES/2, ..., 2, 1 ------------------- */

#if defined(FBP_AVX512) || defined(FBP_AVX2)
#if FBP_REAL == 32
typedef __m128 vquarter;
INLINE real vlast_sum(vquarter q)
{
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
INLINE real vlast_max(vquarter q)
{
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
#else
typedef __m128d vquarter;
INLINE real vlast_sum(vquarter q) { return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q))); }
INLINE real vlast_max(vquarter q) { return _mm_cvtsd_f64(_mm_max_sd(q, _mm_unpackhi_pd(q, q))); }
#endif
#define OP128(name) CAT3(_mm_, name, SUFFIX)
#define OP256(name) CAT3(_mm256_, name, SUFFIX)
#if defined(FBP_AVX512)
#if FBP_REAL == 32
#define HALF_(v, i) _mm512_extractf32x8_ps(v, i)
#else
#define HALF_(v, i) _mm512_extractf64x4_pd(v, i)
#endif
#define FOLD256_(op, s) OP256(op)(HALF_((s)[0], 0), HALF_((s)[0], 1))
#else
#define FOLD256_(op, s) OP256(op)((s)[0], (s)[1])
#endif
#define QUARTER_(v, i) CAT3(_mm256_extractf128, SUFFIX, )(v, i)
INLINE real vsum_lanes(const vec *s)
{
    __typeof__(FOLD256_(add, s)) h = FOLD256_(add, s);
    return vlast_sum(OP128(add)(QUARTER_(h, 0), QUARTER_(h, 1)));
}
INLINE real vmax_lanes(const vec *s)
{
    __typeof__(FOLD256_(max, s)) h = FOLD256_(max, s);
    return vlast_max(OP128(max)(QUARTER_(h, 0), QUARTER_(h, 1)));
}
#else
INLINE real vsum_lanes(const vec *s)
{
    real lane[LANES];
    memcpy(lane, s, sizeof lane);
    for (int w = LANES / 2; w >= 1; w /= 2)
        for (int i = 0; i < w; i++) lane[i] += lane[i + w];
    return lane[0];
}
INLINE real vmax_lanes(const vec *s)
{
    real lane[LANES];
    memcpy(lane, s, sizeof lane);
    for (int w = LANES / 2; w >= 1; w /= 2)
        for (int i = 0; i < w; i++) lane[i] = lane[i] > lane[i + w] ? lane[i] : lane[i + w];
    return lane[0];
}
#endif

#endif
