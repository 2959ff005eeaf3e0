/* vtrans.h: VL registers of VL reals become their transpose. With vec.h the place where instruction sets differ.
 *
 * On x86 first within 128 bits, where shuffles do not compete with FMAs, then 128 bits as a whole; elsewhere by interleaving register
 * i with register i + VL/2, log2(VL) times.
 */
#ifndef FBP_VTRANS_H
#define FBP_VTRANS_H

#include "vec.h"

#if defined(FBP_AVX512) || defined(FBP_AVX2)
#define QUARTER ((int)(16 / sizeof(real)))      /* reals in 128 bits */

/* r[0], r[step], ...: QUARTER registers, each 128 bits of them transposed by themselves */
INLINE void transpose_within(vec r[])
{
#if FBP_REAL == 32
    typedef __typeof__(CAT2(PREFIX, setzero_pd)()) pairs;
    const vec a = OP(unpacklo)(r[0], r[1]), b = OP(unpackhi)(r[0], r[1]), c = OP(unpacklo)(r[2], r[3]), d = OP(unpackhi)(r[2], r[3]);
    r[0] = (vec)CAT2(PREFIX, unpacklo_pd)((pairs)a, (pairs)c), r[1] = (vec)CAT2(PREFIX, unpackhi_pd)((pairs)a, (pairs)c);
    r[2] = (vec)CAT2(PREFIX, unpacklo_pd)((pairs)b, (pairs)d), r[3] = (vec)CAT2(PREFIX, unpackhi_pd)((pairs)b, (pairs)d);
#else
    const vec a = r[0];
    r[0] = OP(unpacklo)(a, r[1]), r[1] = OP(unpackhi)(a, r[1]);
#endif
}

/* Part i of r[j] and part j of r[i] change places, for the VBYTES / 16 registers j that are QUARTER apart; the first `parts` of them
 * are there, and count in what they become. */
INLINE void transpose_across(vec r[], const int parts)
{
#if defined(FBP_AVX512)
#if FBP_REAL == 32
#define PARTS_(a, b, which) _mm512_shuffle_f32x4(a, b, which)
#else
#define PARTS_(a, b, which) _mm512_shuffle_f64x2(a, b, which)
#endif
    vec *const q = r + QUARTER, *const s = q + QUARTER, *const t = s + QUARTER;
    if (parts == 1) {
        *q = PARTS_(*r, *r, 0x55), *s = PARTS_(*r, *r, 0xaa), *t = PARTS_(*r, *r, 0xff);
        return;
    }
    const vec a = PARTS_(*r, *q, 0x88), b = PARTS_(*r, *q, 0xdd);
    if (parts < 4) {
        const vec c = parts == 3 ? *s : a;
        *r = PARTS_(a, c, 0x08), *q = PARTS_(b, c, 0x18), *s = PARTS_(a, c, 0x2d), *t = PARTS_(b, c, 0x3d);
        return;
    }
    const vec c = PARTS_(*s, *t, 0x88), d = PARTS_(*s, *t, 0xdd);
    *r = PARTS_(a, c, 0x88), *s = PARTS_(a, c, 0xdd), *q = PARTS_(b, d, 0x88), *t = PARTS_(b, d, 0xdd);
#else
    const vec a = r[0], b = parts == 1 ? a : r[QUARTER];
    r[0] = CAT2(_mm256_permute2f128, SUFFIX)(a, b, 0x20), r[QUARTER] = CAT2(_mm256_permute2f128, SUFFIX)(a, b, 0x31);
#endif
}

/* Of the first parts * QUARTER registers, which become that many columns of all. */
INLINE void transpose_first(vec r[], const int parts)
{
    for (int i = 0; i < parts; i++) transpose_within(r + i * QUARTER);
    for (int i = 0; i < QUARTER; i++) transpose_across(r + i, parts);
}
INLINE void transpose(vec r[]) { transpose_first(r, VL / QUARTER); }
#else
#define QUARTER VL
/* a0 b0 a1 b1 ... of the lower halves, or the upper ones */
INLINE vec vzip(vec a, vec b, const int upper)
{
    vec r = a;
    for (int i = 0; i < VL / 2; i++) r[2 * i] = a[upper * VL / 2 + i], r[2 * i + 1] = b[upper * VL / 2 + i];
    return r;
}
INLINE void transpose(vec r[])
{
    for (int width = 1; width < VL; width *= 2) {
        vec s[VL];
        for (int i = 0; i < VL / 2; i++) s[2 * i] = vzip(r[i], r[i + VL / 2], 0), s[2 * i + 1] = vzip(r[i], r[i + VL / 2], 1);
        for (int i = 0; i < VL; i++) r[i] = s[i];
    }
}
INLINE void transpose_first(vec r[], const int parts) { transpose(r); }
#endif

#endif
