/* vmath.h: exp, expm1, log, sigmoid, tanh and softplus of a register, each by polynomials with one order of operations on every ISA.
 *
 * e^x = 2^n (1 + p): n is the integer nearest to x / ln 2, r = x - n ln 2 lies within ln 2 / 2 of 0, and p = expm1(r) = r P(r).
 * n is found by adding 1.5 2^MANTISSA, which rounds to an integer in the low bits; shifted to the exponent's place they are 2^n.
 * Sums are made of 2^n p and 2^n, rather than of a rounded e^x: this, and |x| instead of x where there is a symmetry, keeps each
 * function within MAX_ULP of tests/bounds.py for every float32 (`make ulp`). The coefficients are minimax fits, rounded one
 * after the other and the rest fitted again; they err by less than 0.1 ULP, those of softplus by less than 0.5. No libm, no
 * reciprocal estimate.
 */
#ifndef FBP_VMATH_H
#define FBP_VMATH_H

#include "vec.h"

#define LOG2_E 1.4426950408889634
#define LN2 0.6931471805599453
#if FBP_REAL == 32
/* P and R: expm1(r) = r P(r) for |r| <= 0.3468; log1p(f) = 2 s + s^3 R(s^2), s = f / (2 + f), for 0 <= s <= 1/3. */
static const real exp_p[] = {1, 0x1.fffffep-2f, 0x1.5554aap-3f, 0x1.55579cp-5f, 0x1.122bd4p-7f, 0x1.6ac7c8p-10f};
static const real log_r[] = {0x1.555502p-1f, 0x1.99d1ccp-2f, 0x1.1ec030p-2f, 0x1.1ecac0p-2f};
#define LN2_HI 0x1.62e4p-1f    /* a whole number of them is exact */
#define LN2_LO 0x1.7f7d1cp-20f
#define LN2_REST 0             /* ln 2 less the nearest real to it; 2^-29 of it would not be seen */
#define SQRT_HALF_BITS 0x3f3504f3u
#define ONE_BITS 0x3f800000u
#define EXP_MIN (-104.0f)      /* exp underflows below, overflows above */
#define EXP_MAX 89.0f
#define POWER_MAX 88.0f        /* 1 / (1 + e^x) underflows, 2^n does not overflow */
#define TANH_MAX 10.0f         /* from which tanh rounds to 1 */
#else
static const real exp_p[] = {1, 0x1p-1, 0x1.5555555555559p-3, 0x1.5555555555558p-5, 0x1.111111110f731p-7, 0x1.6c16c16c178acp-10,
                             0x1.a01a01af814aep-13, 0x1.a01a0195fe47dp-16, 0x1.71ddf9a666fe6p-19, 0x1.27e513348fa2fp-22,
                             0x1.af5c055bbc3bap-26, 0x1.1f019aa60654ep-29};
static const real log_r[] = {0x1.5555555555535p-1, 0x1.99999999a074ep-2, 0x1.249249208c76ep-2, 0x1.c71c741c605aap-3,
                             0x1.745cb40340190p-3, 0x1.3b1ddb24f47dfp-3, 0x1.1067c968df904p-3, 0x1.efd80446d4469p-4,
                             0x1.55b24802e2370p-4, 0x1.5c77cc16676f3p-3};
#define LN2_HI 0x1.62e42fefa3p-1
#define LN2_LO 0x1.3de6af278ece6p-42
#define LN2_REST 0x1.abc9e3b39803fp-56
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcdu
#define ONE_BITS 0x3ff0000000000000u
#define EXP_MIN (-746.0)
#define EXP_MAX 710.0
#define POWER_MAX 709.0
#define TANH_MAX 20.0
#endif
#define TANH_SMALL ((real)0.3)
#define TERMS(c) ((int)(sizeof(c) / sizeof(c[0])))
#define SIGN_BIT ((lane_uint)1 << (8 * sizeof(real) - 1))

/* c[0] + c[1] x + ... + c[n-1] x^(n-1) by Horner's rule. */
INLINE vec vhorner(vec x, const real *c, int n)
{
    vec y = vset1(c[n - 1]);
    for (int i = n - 2; i >= 0; i--) y = vfma(y, x, vset1(c[i]));
    return y;
}
#define HORNER(x, c) vhorner(x, c, TERMS(c))

INLINE vec vabs(vec x) { return vreal(vbits(x) & vbits1(SIGN_BIT - 1)); }

/* x = n ln 2 + r; returns r. The low bits of *t are n + bias: with the exponent's bias, vpow2(*t) = 2^n. */
INLINE vec vreduce(vec x, real bias, vec *t, vec *n)
{
    *t = vfma(x, vset1((real)LOG2_E), vset1((real)TO_INTEGER + bias));
    *n = *t - vset1((real)TO_INTEGER + bias);
    return vfnma(*n, vset1(LN2_LO), vfnma(*n, vset1(LN2_HI), x));
}
INLINE vec vpow2(vec t) { return vreal(vbits(t) << MANTISSA); }

INLINE vec vexp(vec x)
{
    vec t, n, r = vreduce(vmin(vset1(EXP_MAX), vmax(vset1(EXP_MIN), x)), 0, &t, &n);
    return vscale(vfma(r, HORNER(r, exp_p), vset1(1)), n);
}

/* e^x - 1 = 2^n p + (2^n - 1) for x <= 0, p = r + r^2 (P(r) - 1) / r; anything but NaN for x > 0. */
INLINE vec vexpm1_below(vec x)
{
    vec t, n, r = vreduce(vmin(vzero(), vmax(vset1(-2 * TANH_MAX), x)), EXPONENT_BIAS, &t, &n), power = vpow2(t);
    vec p = vfma(r * r, vhorner(r, exp_p + 1, TERMS(exp_p) - 1), r);
    return vfma(power, p, power - vset1(1));
}

/* sigmoid(-|x|) = 1 / (1 + e^|x|) and sigmoid(|x|) = 1 - sigmoid(-|x|), where 1 + e^|x| = (2^n p + 1) + 2^n. */
INLINE vec vsigmoid(vec x)
{
    vec t, n, r = vreduce(vmin(vset1(POWER_MAX), vabs(x)), EXPONENT_BIAS, &t, &n), power = vpow2(t);
    vec low = vset1(1) / (vfma(power, r * HORNER(r, exp_p), vset1(1)) + power);
    return vselect(vless(x, vzero()), low, vset1(1) - low);
}

/* tanh|x| = q = h / (h + 1), where h = expm1(2|x|) / 2 = 2^(n-1) p + (2^(n-1) - 1/2), p = r + r^2 (P(r) - 1) / r. Near 0,
 * q = h - h q, where the errors of the sum and of the division count less. The sign is put back. */
INLINE vec vtanh(vec x)
{
    const vec magic = vset1((real)TO_INTEGER + EXPONENT_BIAS - 1);
    vec ax = vabs(x), y = vmin(vset1(TANH_MAX), ax);
    vec t = vfma(y, vset1((real)(2 * LOG2_E)), magic), n = t - magic, half = vpow2(t);
    vec r = vfnma(n, vset1((real)LN2), y + y);
    if (LN2_REST != 0) r = vfnma(n, vset1((real)LN2_REST), r);
    vec p = vfma(r * r, vhorner(r, exp_p + 1, TERMS(exp_p) - 1), r);
    vec h = vfma(half, p, half - vset1((real)0.5));
    vec q = h / (h + vset1(1));
    return vreal(vbits(vselect(vless(ax, vset1(TANH_SMALL)), vfnma(q, h, h), q)) | (vbits(x) & vbits1(SIGN_BIT)));
}

#if FBP_REAL == 32
/* Columns: Q of n = 0, that of n <= -7, then of n = -6, ..., -1: n in three bits. Rows: the coefficients of 1, r, ..., r^6. */
static _Alignas(64) const real softplus_q[][16] = {
    TABLE(0x1.62e430p-1f, 1, 0x1.fc0a8cp-1f, 0x1.f829b0p-1f, 0x1.f0a30cp-1f, 0x1.e27076p-1f, 0x1.c8ff7cp-1f, 0x1.9f323ep-1f),
    TABLE(0x1p-1f, 1, 0x1.f81f82p-1f, 0x1.f07c1ep-1f, 0x1.e1e1e0p-1f, 0x1.c71c70p-1f, 0x1.99999ap-1f, 0x1.555554p-1f),
    TABLE(0x1.ffffb6p-4f, 0x1.fffffcp-2f, 0x1.f05d08p-2f, 0x1.e1718ep-2f, 0x1.c5894cp-2f, 0x1.948c02p-2f, 0x1.47ae96p-2f, 0x1.c71dfcp-3f),
    TABLE(-0x1.368cd8p-24f, 0x1.555492p-3f, 0x1.40b9fap-3f, 0x1.2d837ap-3f, 0x1.0acaeep-3f, 0x1.a38ae6p-4f, 0x1.0624dcp-4f, 0x1.949262p-6f),
    TABLE(-0x1.54f1b6p-8f, 0x1.5558bep-5f, 0x1.2d7886p-5f, 0x1.07c7fep-5f, 0x1.93dc7ap-6f, 0x1.b51d4cp-7f, 0x1.0d6b5cp-10f, -0x1.981e66p-8f),
    TABLE(0x1.dff466p-21f, 0x1.1239e0p-7f, 0x1.a54e52p-8f, 0x1.35f528p-8f, 0x1.187b8cp-9f, -0x1.06d5fcp-10f, -0x1.8190bap-9f, -0x1.0d5b52p-9f),
    TABLE(0x1.47eac4p-12f, 0x1.6a3fb4p-10f, 0x1.8d2c96p-12f, 0x1.52dc62p-11f, -0x1.894174p-12f, -0x1.0600f8p-11f, -0x1.d252bcp-12f, 0x1.b9506p-12f),
};
#define MOST_NEGATIVE (-7)     /* the last n that has a column */

/* log(1 + e^x) = max(0, x) + log1p(e^-|x|), where e^-|x| = 2^n e^r and log1p(2^n e^r) = 2^n Q(r), a polynomial for each n > -7. From
 * there on e = 2^n Q(r) is e^-|x|, and log1p(e) = e + e^2 (a + b e). Q is summed by halves: it waits for one sum less after another. */
INLINE vec vsoftplus(vec x)
{
    vec t, n, r = vreduce(vmax(vset1(-POWER_MAX), vreal(vbits(x) | vbits1(SIGN_BIT))), 0, &t, &n);
    vec column = vmax(vset1((real)TO_INTEGER + MOST_NEGATIVE), t), c[7], r2 = r * r;
    for (int i = 0; i < 7; i++) c[i] = vlookup(softplus_q[i], column);
    vec q = vfma(r2, vfma(r2, vfma(r2, c[6], vfma(r, c[5], c[4])), vfma(r, c[3], c[2])), vfma(r, c[1], c[0]));
    vec e = vscale_normal(q, t, n), small = vselect(vless(n, vset1(MOST_NEGATIVE + 1)), e, vzero());
    return vmax(vzero(), x) + vfma(e, small * vfma(small, vset1(0x1.516f00p-2f), vset1(-0x1.fffc9ap-2f)), e);
}
#else
/* log(1 + e^x) = max(0, x) + log1p(e), e = e^-|x|, and log1p(e) = e - s (e - z R(z)), s = e / (2 + e), z = s^2. */
INLINE vec vsoftplus(vec x)
{
    vec t, n, r = vreduce(vmax(vset1(-POWER_MAX), vreal(vbits(x) | vbits1(SIGN_BIT))), 0, &t, &n);
    vec e = vscale_normal(vfma(r, HORNER(r, exp_p), vset1(1)), t, n);
    vec s = e / (vset1(2) + e), z = s * s;
    return vmax(vzero(), x) + vfma(s, vfma(z, HORNER(z, log_r), -e), e);
}
#endif

/* The derivative of softplus, 1 / (1 + e^-x), from o = log(1 + e^x): 1 - e^-o = (1 - 2^n) - 2^n p */
INLINE vec vsoftplus_slope(vec o)
{
    vec t, n, r = vreduce(vmax(vset1(-POWER_MAX), -o), EXPONENT_BIAS, &t, &n), power = vpow2(t);
    return vfnma(power, r * HORNER(r, exp_p), vset1(1) - power);
}

/* log(x). x = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), s = f / (2 + f), z = s^2: log(1 + f) = 2 s + s z R(z)
 * = f - (f^2/2 - s (f^2/2 + z R(z))). 0 gives -inf, less NaN. */
INLINE vec vlog(vec x)
{
    vuint shifted = vbits(x) + vbits1(ONE_BITS - SQRT_HALF_BITS);
    vuint mantissa = (shifted & vbits1(((lane_uint)1 << MANTISSA) - 1)) + vbits1(SQRT_HALF_BITS);
    vuint power = vbits1((lane_uint)(EXPONENT_BIAS + MANTISSA) << MANTISSA);    /* 2^MANTISSA: holds an integer exactly */
    vec e = vreal((shifted >> MANTISSA) | power) - vreal(power) - vset1(EXPONENT_BIAS);
    vec f = vreal(mantissa) - vset1(1);
    vec s = f / (vset1(2) + f), z = s * s, half = vset1((real)0.5) * f * f;
    vec low = vfma(s, vfma(z, HORNER(z, log_r), half), e * vset1(LN2_LO));
    vec y = vfma(e, vset1(LN2_HI), f - (half - low)), inf = vset1((real)INFINITY);
    vec outside = vselect(vless(x, vzero()), vset1((real)NAN), -inf);
    return vselect(vless(x, inf), vselect(vless(vzero(), x), y, outside), x);
}

#endif
