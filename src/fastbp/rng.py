"""Counter-based random numbers: element ``i`` is a pure function of (seed, stream, step, i).

There is no hidden state to advance, save or lock: whoever knows the four numbers gets the same bits, in any
order, on any number of threads, on any machine.

    key     = (seed low 32 bits, seed high 32 bits)
    counter = (block low 32 bits, block high 32 bits, step, stream)
    words   = philox4x32_10(counter, key), four 32-bit words per block

Word ``i`` of a (seed, stream, step) is word ``i % 4`` of block ``i // 4``. A stream is a purpose
(`STREAM_SHUFFLE`, `STREAM_INIT`); a step counts within it (the epoch, the layer).
"""

from __future__ import annotations

import operator
import secrets
from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
WordArray = npt.NDArray[np.uint64]  # 32-bit words, each in 64 bits so that a product of two fits

STREAM_SHUFFLE = 0  # order of the rows, step = epoch
STREAM_INIT = 1  # initial weights, step = number of the layer that draws them
STREAM_DROPOUT = 16  # and following, one for each dropout gate: masks, step = forward passes in training before

CHUNK = 1 << 16  # words made at a time: the temporaries stay in the L2 cache

ROUNDS = 10
LOW_32 = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
MULTIPLIER_0 = np.uint64(0xD2511F53)
MULTIPLIER_1 = np.uint64(0xCD9E8D57)
WEYL_0 = 0x9E3779B9  # golden ratio
WEYL_1 = 0xBB67AE85  # sqrt(3) - 1


def philox(seed: int, stream: int, step: int, count: int) -> npt.NDArray[np.uint32]:
    """First `count` 32-bit words of the stream (seed, stream, step), by Philox 4x32-10.

    Parameters
    ----------
    seed : int
        0 <= seed < 2**64.
    stream, step : int
        0 <= value < 2**32.
    count : int
        How many words, 0 or more.

    Returns
    -------
    ndarray of uint32, shape (count,)

    Raises
    ------
    ValueError
        If an argument is outside its range.
    TypeError
        If an argument is not an integer.

    References
    ----------
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3",
    SC'11, 2011.

    Examples
    --------
    >>> from fastbp import rng
    >>> [hex(word) for word in rng.philox(seed=0, stream=0, step=0, count=4).tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    seed, stream, step, count = _checked(seed, stream, step, count)
    words = np.empty(count, np.uint32)
    for start in range(0, count, CHUNK):
        part = words[start : start + CHUNK]
        part[:] = _words(seed, stream, step, start, len(part))
    return words


def uniform(seed: int, stream: int, step: int, count: int, first: int = 0) -> FloatArray:
    """u_i = ((a >> 5) * 2**26 + (b >> 6)) * 2**-53, with (a, b) words 2i and 2i + 1 of `philox`.

    Uniform on the 2**53 equally spaced numbers of [0, 1). Arguments as for `philox`; i runs from `first` on.

    Returns
    -------
    ndarray of float64, shape (count,)

    Examples
    --------
    >>> from fastbp import rng
    >>> rng.uniform(seed=0, stream=0, step=0, count=2).round(6).tolist()
    [0.399046, 0.735713]
    """
    seed, stream, step, count = _checked(seed, stream, step, count)
    first = _checked_bits("first", first, 62)
    numbers = np.empty(count)
    for start in range(0, count, CHUNK // 2):
        part = numbers[start : start + CHUNK // 2]
        words = _words(seed, stream, step, 2 * (first + start), 2 * len(part))
        np.multiply(words[0::2] >> np.uint32(5), 2.0**26, out=part)
        part += words[1::2] >> np.uint32(6)
        part *= 2.0**-53
    return numbers


def normal(seed: int, stream: int, step: int, count: int) -> FloatArray:
    """x_i = Phi^-1(u_i + 2**-54), with u of `uniform` and Phi the standard normal distribution function.

    One uniform number gives one normal number, with a relative error of about 1e-15. Arguments as for
    `philox`. Only ``+ - * / sqrt frexp`` are used, which IEEE 754 fixes to the last bit, so the numbers are
    the same on every machine; NumPy's log and cos, which Box-Muller needs, may not be.

    Returns
    -------
    ndarray of float64, shape (count,)
        Always finite: |x| <= 8.3.

    References
    ----------
    M. J. Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied Statistics
    37 (3), 477-484, 1988; routine PPND16.

    Examples
    --------
    >>> from fastbp import rng
    >>> rng.normal(seed=0, stream=0, step=0, count=2).round(6).tolist()
    [-0.255816, 0.630184]
    """
    numbers = uniform(seed, stream, step, count)
    for start in range(0, count, CHUNK // 2):
        part = numbers[start : start + CHUNK // 2]
        part[:] = _normal_quantile((part - 0.5) + 2.0**-54)
    return numbers


def truncated_normal(seed: int, stream: int, step: int, count: int) -> FloatArray:
    """x_i = Phi^-1(1/2 + (u_i + 2**-54 - 1/2) (Phi(2) - Phi(-2))): normal numbers given that -2 <= x <= 2.

    One uniform number gives one number here too: nothing is drawn again. Otherwise as `normal`.

    Returns
    -------
    ndarray of float64, shape (count,)

    Examples
    --------
    >>> from fastbp import rng
    >>> rng.truncated_normal(seed=0, stream=0, step=0, count=2).round(6).tolist()
    [-0.243937, 0.597724]
    """
    numbers = uniform(seed, stream, step, count)
    for start in range(0, count, CHUNK // 2):
        part = numbers[start : start + CHUNK // 2]
        part[:] = np.clip(_normal_quantile(((part - 0.5) + 2.0**-54) * WITHIN_TWO_DEVIATIONS), -2.0, 2.0)
    return numbers


def permutation(seed: int, stream: int, step: int, n: int) -> npt.NDArray[np.int64]:
    """Fisher-Yates shuffle of 0 .. n-1: for i = n-1 .. 1 swap order[i] and order[floor(u_i (i + 1))].

    u is ``uniform(seed, stream, step, n)``; u_0 is not used (Durstenfeld, CACM Algorithm 235, 1964).

    Parameters
    ----------
    seed, stream, step, n : int
        As for `philox`, with n numbers.

    Returns
    -------
    ndarray of int64, shape (n,)

    Examples
    --------
    >>> from fastbp import rng
    >>> rng.permutation(seed=0, stream=rng.STREAM_SHUFFLE, step=0, n=5).tolist()
    [4, 1, 3, 2, 0]
    """
    u = uniform(seed, stream, step, n)
    # u <= 1 - 2**-53, so the rounded product stays below i + 1 and the partner is never out of range.
    partner = (u * np.arange(1, len(u) + 1)).astype(np.int64).tolist()
    order = list(range(len(u)))  # a list: Python swaps list elements several times faster than array elements
    for i in range(len(order) - 1, 0, -1):
        j = partner[i]
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)


def fresh_seed() -> int:
    """Draw a seed from the operating system's entropy, 0 <= seed < 2**63."""
    return secrets.randbits(63)


def checked_seed(seed: SupportsIndex) -> int:
    """Return `seed` as an int; ValueError unless 0 <= seed < 2**64, TypeError unless it is an integer."""
    return _checked_bits("seed", seed, 64)


def _checked(seed: int, stream: int, step: int, count: int) -> tuple[int, int, int, int]:
    return (
        checked_seed(seed),
        _checked_bits("stream", stream, 32),
        _checked_bits("step", step, 32),
        _checked_bits("count", count, 63),
    )


def _checked_bits(name: str, value: SupportsIndex, bits: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{name} must be in 0 .. 2**{bits} - 1, got {number}")
    return number


def _words(seed: int, stream: int, step: int, first: int, count: int) -> npt.NDArray[np.uint32]:
    """Words `first` .. `first + count - 1`."""
    skip = first % 4  # of the first block
    blocks = -(-(skip + count) // 4)
    block = np.arange(first // 4, first // 4 + blocks, dtype=np.uint64)
    words = np.empty((blocks, 4), np.uint32)
    words[:, 0], words[:, 1], words[:, 2], words[:, 3] = _philox_blocks(
        block & LOW_32, block >> HALF, np.full_like(block, step), np.full_like(block, stream), seed
    )
    return words.reshape(-1)[skip : skip + count]


def _philox_blocks(
    c0: WordArray, c1: WordArray, c2: WordArray, c3: WordArray, seed: int
) -> tuple[WordArray, WordArray, WordArray, WordArray]:
    """Philox 4x32-10 of many counters (c0, c1, c2, c3) with one key."""
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c2 = (p1 >> HALF) ^ c1 ^ np.uint64(k0), (p0 >> HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & LOW_32, p0 & LOW_32
        k0, k1 = (k0 + WEYL_0) & 0xFFFFFFFF, (k1 + WEYL_1) & 0xFFFFFFFF
    return c0, c1, c2, c3


# fmt: off
# AS 241 PPND16, highest power first. Every coefficient and every argument is positive, so nothing cancels.
CENTRE_NUMERATOR = (
    2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
    13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608)
CENTRE_DENOMINATOR = (
    5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
    5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0)
NEAR_NUMERATOR = (
    7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
    3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734)
NEAR_DENOMINATOR = (
    1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
    0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0)
FAR_NUMERATOR = (
    2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
    0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772)
FAR_DENOMINATOR = (
    2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
    0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0)


WITHIN_TWO_DEVIATIONS = 0.9544997361036416  # Phi(2) - Phi(-2)


def _normal_quantile(q: FloatArray) -> FloatArray:
    """Phi^-1(1/2 + q) for |q| <= 1/2 - 2**-54.

    q is exact where p = 1/2 + q is not: above 1/2 p needs 54 bits, and would round to 1 (and x to infinity)
    for the largest uniform number.
    """
    x = np.empty_like(q)
    centre = np.abs(q) <= 0.425
    t = q[centre]
    r = 0.180625 - t * t  # 0.425**2 - q**2
    x[centre] = t * _polynomial(CENTRE_NUMERATOR, r) / _polynomial(CENTRE_DENOMINATOR, r)

    tails = ~centre
    t = q[tails]
    r = np.sqrt(-_log(0.5 - np.abs(t)))  # 1/2 - |q| = min(p, 1 - p) is exact from |q| = 1/4 on
    near = r <= 5.0
    size = np.empty_like(r)
    s_near, s_far = r[near] - 1.6, r[~near] - 5.0
    size[near] = _polynomial(NEAR_NUMERATOR, s_near) / _polynomial(NEAR_DENOMINATOR, s_near)
    size[~near] = _polynomial(FAR_NUMERATOR, s_far) / _polynomial(FAR_DENOMINATOR, s_far)
    x[tails] = np.copysign(size, t)
    return x


# log((1 + s) / (1 - s)) = 2s + s R(s**2): minimax coefficients of fdlibm's e_log.c (Sun Microsystems, 1993).
LOG_SERIES = (
    1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
    2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01)
# fmt: on
LN2_HIGH = 6.93147180369123816490e-01  # its last 21 bits are zero, so exponent * LN2_HIGH is exact
LN2_LOW = 1.90821492927058770002e-10


def _log(x: FloatArray) -> FloatArray:
    """Natural logarithm of normal positive numbers within 1 ulp, by the same operations on every machine.

    x = 2**k (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), s = f / (2 + f):
    log x = k ln 2 + f - f**2/2 + s (f**2/2 + s**2 R(s**2))
    """
    m, k = np.frexp(x)  # x = m 2**k, 1/2 <= m < 1
    small = m < 0.7071067811865476
    f = np.where(small, 2.0 * m, m) - 1.0
    e = (k - small).astype(np.float64)
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * f * f
    series = z * _polynomial(LOG_SERIES, z)
    return e * LN2_HIGH - ((half - (s * (half + series) + e * LN2_LOW)) - f)


def _polynomial(coefficients: Sequence[float], x: FloatArray) -> FloatArray:
    """Horner's rule, highest power first, each step one product and one sum."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total
