/* vmath.h: exp, expm1, log, sigmoid and tanh of a register, each one polynomial with one order of operations on every ISA.
 *
 * exp: x = n ln 2 + r with |r| <= ln 2 / 2; expm1(r) = r + r^2 q(r), q fitted at Chebyshev nodes (relative error below
 * 0.02 ULP); then 2^n in two factors, so that overflow gives inf and underflow gives 0. n is found by adding 1.5 2^MANTISSA,
 * which rounds to an integer in the low bits. No table, no libm, no reciprocal estimate.
 */
#ifndef FBP_VMATH_H
#define FBP_VMATH_H

#include "vec.h"

#define LOG2_E ((real)1.4426950408889634)
#if FBP_REAL == 32
static const real exp_q[] = {0x1p-1f, 0x1.555556p-3f, 0x1.5554eap-5f, 0x1.1110e0p-7f, 0x1.6d4324p-10f, 0x1.a124f2p-13f};
static const real log_r[] = {0x1.555556p-1f, 0x1.9999ecp-2f, 0x1.245c36p-2f, 0x1.ddd1d8p-3f};
#define LN2_HI 0x1.62e4p-1f
#define LN2_LO 0x1.7f7d1cp-20f
#define SQRT_HALF_BITS 0x3f3504f3u
#define ONE_BITS 0x3f800000u
#define TO_INTEGER 0x1.8p23f
#define EXP_MIN (-104.0f)      /* exp underflows below, overflows above */
#define EXP_MAX 89.0f
#define TANH_MAX 20.0f         /* 2|x| from which tanh rounds to 1 */
#else
static const real exp_q[] = {0x1p-1, 0x1.5555555555557p-3, 0x1.5555555555556p-5, 0x1.11111111100dcp-7, 0x1.6c16c16c162d4p-10,
                             0x1.a01a01abe7fe1p-13, 0x1.a01a01a6d889cp-16, 0x1.71de0231960ebp-19, 0x1.27e4db646b17ep-22,
                             0x1.af4de97ca4194p-26, 0x1.1f730349868cep-29};
static const real log_r[] = {0x1.5555555555558p-1, 0x1.99999999952abp-2, 0x1.2492492df7663p-2, 0x1.c71c62ddb431bp-3,
                             0x1.7462b6e311a89p-3, 0x1.39fe16ad885a7p-3, 0x1.2b5bd9a316a24p-3};
#define LN2_HI 0x1.62e42fefa3p-1
#define LN2_LO 0x1.3de6af278ece6p-42
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcdu
#define ONE_BITS 0x3ff0000000000000u
#define TO_INTEGER 0x1.8p52
#define EXP_MIN (-746.0)
#define EXP_MAX 710.0
#define TANH_MAX 40.0
#endif
#define SIGN_BIT ((lane_uint)1 << (8 * sizeof(real) - 1))

/* c[0] + c[1] x + ... + c[n-1] x^(n-1) by Horner's rule. */
INLINE vec vhorner(vec x, const real *c, int n)
{
    vec y = vset1(c[n - 1]);
    for (int i = n - 2; i >= 0; i--) y = vfma(y, x, vset1(c[i]));
    return y;
}
#define HORNER(x, c) vhorner(x, c, (int)(sizeof(c) / sizeof(c[0])))

/* The integer nearest to x, |x| < 2^22. */
INLINE vec vround(vec x) { return (x + vset1(TO_INTEGER)) - vset1(TO_INTEGER); }

/* 2^n for an integral n within the normal exponents. */
INLINE vec vpow2(vec n) { return vreal(vbits(n + vset1((real)(TO_INTEGER + EXPONENT_BIAS))) << MANTISSA); }

/* x = n ln 2 + r; returns expm1(r). */
INLINE vec vexpm1_reduced(vec x, vec *n)
{
    *n = vround(x * vset1(LOG2_E));
    vec r = vfnma(*n, vset1(LN2_LO), vfnma(*n, vset1(LN2_HI), x));
    return vfma(r * r, HORNER(r, exp_q), r);
}

INLINE vec vexp(vec x)
{
    vec n, p = vexpm1_reduced(vmin(vset1(EXP_MAX), vmax(vset1(EXP_MIN), x)), &n);
    vec half = vround(n * vset1((real)0.5));
    return (vset1(1) + p) * vpow2(half) * vpow2(n - half);
}

/* sigmoid(x) = 1 / (1 + exp(-x)) */
INLINE vec vsigmoid(vec x) { return vset1(1) / (vset1(1) + vexp(vzero() - x)); }

/* tanh|x| = e / (e + 2) with e = expm1(2|x|); the sign is put back. */
INLINE vec vtanh(vec x)
{
    vuint sign = vbits(x) & vbits1(SIGN_BIT);
    vec ax = vreal(vbits(x) ^ sign);
    vec n, p = vexpm1_reduced(vmin(vset1(TANH_MAX), ax + ax), &n);
    vec scale = vpow2(n);
    vec e = vfma(scale, p, scale - vset1(1));
    return vreal(vbits(e / (e + vset1(2))) | sign);
}

/* log(x) for x in [1, largest]; NaN and inf give NaN. x = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), s = f / (2 + f):
 * log(1 + f) = 2 s + s R(s^2) = f - (f^2/2 - s (f^2/2 + R s^2)). */
INLINE vec vlog(vec x)
{
    vuint shifted = vbits(x) + vbits1(ONE_BITS - SQRT_HALF_BITS);
    vuint mantissa = (shifted & vbits1(((lane_uint)1 << MANTISSA) - 1)) + vbits1(SQRT_HALF_BITS);
    vuint power = vbits1((lane_uint)(EXPONENT_BIAS + MANTISSA) << MANTISSA);    /* 2^MANTISSA: holds an integer exactly */
    vec e = vreal((shifted >> MANTISSA) | power) - vreal(power) - vset1(EXPONENT_BIAS);
    vec f = vreal(mantissa) - vset1(1);
    vec s = f / (vset1(2) + f), z = s * s, half = vset1((real)0.5) * f * f;
    vec r = z * HORNER(z, log_r);
    vec low = vfma(s, half + r, e * vset1(LN2_LO));
    return vfma(e, vset1(LN2_HI), f - (half - low)) + (x - x);
}

#endif
