/* vslope.h: functions of a register that give their slope with them, because it cannot be had from their value: gelu, silu, mish,
 * sin, powers. As in vmath.h: one order of operations on every ISA, minimax coefficients, no table, no libm.
 *
 * z S(z) with a sigmoid S, S(-z) = 1 - S(z), is made of its lower half alone, m = |z| S(-|z|), which loses nothing to a difference:
 *
 *     f(z) = max(0, z) - m          f'(-|z|) = d,  f'(|z|) = 1 - d
 *
 * and |z| is cut off where m underflows, so that no infinity meets a 0. `up` stands for 2^SHIFT times a number: neither the S that
 * waits for its |z| nor m may be flushed to 0 before the last step.
 */
#ifndef FBP_VSLOPE_H
#define FBP_VSLOPE_H

#include "vmath.h"

#if FBP_REAL == 32
/* P: Phi(-x) = e^(-x^2/2) P(t) / (x + 5/4), t = (x - K) / (x + K), for 0 <= x <= GELU_MAX: a P that is nearly flat, and so exact. */
static const real phi_p[] = {0x1.022e4p-1f, -0x1.271bdcp-3f, 0x1.12bad4p-5f, 0x1.621baep-6f, -0x1.a33168p-6f,
                             0x1.5b6f68p-7f, -0x1.bfd0ap-12f, -0x1.53f158p-10f, 0x1.93af2ap-13f, 0x1.3f77e4p-13f};
#define PHI_K 3.54296875f
#define GELU_MAX 14.5f         /* from which Phi(-x) underflows */
#define GELU_TANH_MAX 10.4f    /* from which the logistic function of 2 sqrt(2/pi) (x + 0.044715 x^3) does */
#define SILU_MAX 98.0f         /* from which x / (1 + e^x) does; 2^SHIFT e^-x does not */
#define MISH_TOP 20.0f         /* from which tanh(log(1 + e^x)) rounds to 1 */
/* S and C: sin r = r (1 + r^2 S(r^2)), cos r = 1 - r^2/2 + r^4 C(r^2) for |r| <= R_MAX: pi/4, and some more
 * because n is made with a rounded 2/pi. */
static const real sin_s[] = {-0x1.555536p-3f, 0x1.1101bap-7f, -0x1.978f7p-13f};
static const real cos_c[] = {0x1.55553ep-5f, -0x1.6c05a4p-10f, 0x1.983d26p-16f};
#define HALF_PI 0x1.921fb6p0f  /* pi/2 = HALF_PI + HALF_PI_2 + HALF_PI_3 */
#define HALF_PI_2 (-0x1.777a5cp-25f)
#define HALF_PI_3 (-0x1.ee59dap-50f)
#else
static const real phi_p[] = {0x1.e3cebd067c0a1p-2, -0x1.e75744ba409b4p-4, 0x1.0ab6fff16c5f7p-4, -0x1.5db178e59fc2dp-6,
                             -0x1.601bf3033ef13p-8, 0x1.005500c5a39f9p-6, -0x1.ebf0ba5f76f1fp-7, 0x1.4593dc41a97d8p-7,
                             -0x1.4236cf0f9c153p-8, 0x1.cb73d484d4c1ep-10, -0x1.76a83e93a4f4bp-12, -0x1.e222a8ac5b67ap-16,
                             0x1.98a71b4998823p-15, -0x1.a30ed0781a2edp-17, -0x1.2c9cfd58134f3p-19, 0x1.1b867c8239dc8p-19,
                             -0x1.570b34eb7c16cp-23, -0x1.1616f3cfb90bap-22, 0x1.ea8a3c5b6bcbbp-25, 0x1.0eb7d18711ce1p-25,
                             -0x1.fce252e2755ep-28, -0x1.f736ab038bf13p-29, -0x1.b28a8a5b043cp-34};
#define PHI_K 5.71875
#define GELU_MAX 38.7
#define GELU_TANH_MAX 21.25
#define SILU_MAX 719.0
#define MISH_TOP 40.0
static const real sin_s[] = {-0x1.5555555555548p-3, 0x1.111111110f72dp-7, -0x1.a01a019be88d3p-13, 0x1.71de35548cd6p-19,
                             -0x1.ae5e4af79fd75p-26, 0x1.5d8b298cb0db9p-33};
static const real cos_c[] = {0x1.555555555554bp-5, -0x1.6c16c16c15014p-10, 0x1.a01a019c8ee3ep-16, -0x1.27e4f7f14252dp-22,
                             0x1.1ee9db8468af6p-29, -0x1.8fa653e1a8622p-37};
#define HALF_PI 0x1.921fb54442d18p0
#define HALF_PI_2 0x1.1a62633145c07p-54
#define HALF_PI_3 (-0x1.f1976b7ed8fbcp-110)
#endif
#define SHIFT 16
#define WHOLE_MAX 0x1p31             /* of powers that are multiplied out */
#define UP ((real)(1 << SHIFT))
#define DOWN ((real)1 / (1 << SHIFT))
#define ONE_OVER_ROOT_2_PI 0.3989422804014327
#define GELU_TANH_1 1.5957691216057308      /* 2 sqrt(2/pi) */
#define GELU_TANH_3 0.07135481627260025     /* 0.044715 of it */
#define R_MAX 0.9
#define TWO_OVER_PI 0.6366197723675814

/* f(z) and its slope from 2^SHIFT m and d, see above. */
INLINE vec vhalves(vec z, vec m_up, vec d, vec *slope)
{
    *slope = vselect(vless(z, vzero()), d, vset1(1) - d);
    return vfnma(m_up, vset1(DOWN), vmax(vzero(), z));
}

/* gelu: z Phi(z), slope Phi(z) + z e^(-z^2/2) / sqrt(2 pi). x^2 = square - less, exactly. */
INLINE vec vgelu(vec z, vec *slope)
{
    const vec x = vmin(vset1(GELU_MAX), vabs(z)), half = vset1((real)0.5), square = x * x, less = vfnma_near(x, x, square);
    const vec t = vfma(square, vset1((real)(-LOG2_E / 2)), vset1(TO_INTEGER)), n = t - vset1(TO_INTEGER);
    const vec r = vfnma(n, vset1(LN2_LO), vfma(less, half, vfnma(n, vset1(LN2_HI), -half * square)));
    const vec e = vfma(r, HORNER(r, exp_p), vset1(1));                      /* 2^-n e^(-x^2/2) */
    const vec p = HORNER(vset1(1) - vset1(2 * PHI_K) / (x + vset1(PHI_K)), phi_p);
    const vec s = e * p / (x + vset1((real)1.25));                          /* 2^-n Phi(-x) */
    const vec d = vscale(vfnma(vset1((real)ONE_OVER_ROOT_2_PI) * x, e, s), n);
    return vhalves(z, x * vscale(s, n + vset1(SHIFT)), d, slope);
}

/* 2^SHIFT / (1 + e^x) for 0 <= x <= SILU_MAX */
INLINE vec vsigmoid_up(vec x)
{
    vec t, n, r = vreduce(x, EXPONENT_BIAS - SHIFT, &t, &n), power = vpow2(t);
    return vset1(1) / (vfma(power, r * HORNER(r, exp_p), vset1(DOWN)) + power);
}

/* silu: z / (1 + e^-z); with s = 1 / (1 + e^|z|), d = s - |z| s (1 - s) */
INLINE vec vsilu(vec z, vec *slope)
{
    const vec x = vmin(vset1(SILU_MAX), vabs(z)), up = vsigmoid_up(x), m_up = x * up, s = up * vset1(DOWN), m = m_up * vset1(DOWN);
    return vhalves(z, m_up, vfma(m, s, s - m), slope);
}

/* gelu_tanh: z / (1 + e^-y), y = 2 sqrt(2/pi) (z + 0.044715 z^3); d = s - |z| y' s (1 - s) */
INLINE vec vgelu_tanh(vec z, vec *slope)
{
    const vec x = vmin(vset1(GELU_TANH_MAX), vabs(z)), square = x * x;
    const vec y = x * vfma(square, vset1((real)GELU_TANH_3), vset1((real)GELU_TANH_1));
    const vec dy = vfma(square, vset1((real)(3 * GELU_TANH_3)), vset1((real)GELU_TANH_1));
    const vec up = vsigmoid_up(y), m_up = x * up, s = up * vset1(DOWN);
    return vhalves(z, m_up, vfnma(m_up * dy, (vset1(1) - s) * vset1(DOWN), s), slope);
}

/* mish: z tanh(log(1 + e^z)) = z N / (N + 2), N = e (e + 2), e = e^z; for z > 0, z - 2 z / (N + 2).
 * Slope N / (N + 2) + 4 z e (1 + e) / (N + 2)^2 */
INLINE vec vmish(vec z, vec *slope)
{
    const vec v = vmax(vset1(-SILU_MAX), vmin(vset1(MISH_TOP), z)), x = vmin(vset1(SILU_MAX), vabs(z));
    vec t, n, r = vreduce(v, EXPONENT_BIAS + SHIFT, &t, &n), power = vpow2(t);
    const vec up = power * vfma(r, HORNER(r, exp_p), vset1(1)), e = up * vset1(DOWN), n_up = up * (e + vset1(2));
    const vec q = vset1(1) / vfma(n_up, vset1(DOWN), vset1(2));
    const vec m_up = x * (vselect(vless(z, vzero()), n_up, vset1(2 * UP)) * q);
    *slope = vfma(vset1(4) * v * e, (vset1(1) + e) * q * q, n_up * q * vset1(DOWN));
    return vfnma(m_up, vset1(DOWN), vmax(vzero(), z));
}

/* sin z, slope cos z. |z| = n pi/2 + r; n counts quarters of the circle, whose signs and exchange of sin and cos are in its two
 * lowest bits. See MAX_SINE of tests/bounds.py for how far r is right; beyond, results still lie within [-1, 1]. */
INLINE vec vsin(vec z, vec *slope)
{
    const vec x = vabs(z), most = vset1((real)R_MAX);
    const vec t = vfma(x, vset1((real)TWO_OVER_PI), vset1(TO_INTEGER)), n = t - vset1(TO_INTEGER);
    vec r = vfnma(n, vset1(HALF_PI_3), vfnma_near(n, vset1(HALF_PI_2), vfnma_near(n, vset1(HALF_PI), x)));
    r = vmin(most, vmax(-most, r));
    const vec square = r * r, sine = vfma(r * square, HORNER(square, sin_s), r);
    const vec cosine = vfma(square * square, HORNER(square, cos_c), vfnma(vset1((real)0.5), square, vset1(1)));
    const vuint one = vbits1(1), two = vbits1(2), turns = vbits(t), odd = vbits1(0) - (turns & one);
    const vuint swap = (vbits(sine) ^ vbits(cosine)) & odd;
    const int to_sign = 8 * (int)sizeof(real) - 2;
    *slope = vreal(vbits(cosine) ^ swap ^ (((turns + one) & two) << to_sign));
    return vreal(vbits(sine) ^ swap ^ ((turns & two) << to_sign) ^ (vbits(z) & vbits1(SIGN_BIT)));
}

/* z^a: a root, repeated squaring for a whole a, else e^(a log z), which is NaN for z < 0. */
INLINE vec vpower(vec z, double a)
{
    if (a == 0.5) return vsqrt(z);
    if (a == -0.5) return vset1(1) / vsqrt(z + vzero());
    if (!(a > -WHOLE_MAX && a < WHOLE_MAX && a == (int)a)) return vexp(vset1((real)a) * vlog(z));
    vec power = z, y = vmin(vset1(1), vmax(vset1(1), z));       /* 1, or NaN */
    if (a < 0) power = vset1(1) / z;
    for (unsigned n = (unsigned)(a < 0 ? -a : a); n > 0; n >>= 1, power = power * power)
        if (n & 1) y = y * power;
    return y;
}

#endif
