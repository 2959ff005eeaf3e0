"""Kernels of different instruction sets agree on every bit, and with a scalar oracle: one chain of FMAs per element.

The oracle computes a b + c as a fraction, exactly, and rounds it once.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from cases import DTYPES, FMA_ISAS, WITH_KERNELS, Array, around, assert_same_bits, needs_fma, numbers, two_fma_isas
from test_gemm_exact import EPILOGUES, EPILOGUES_OF, FORMS, READS_C, STRIP

from fastbp import _fastbp_core as core
from fastbp._fastbp_core import ACTIVATIONS

ALPHA = -0.1  # not a float32: the kernel rounds it once
dtypes = pytest.mark.parametrize("dtype", DTYPES)
forms = pytest.mark.parametrize("form", FORMS)
each_fma_isa = pytest.mark.parametrize("isa", FMA_ISAS)


def rounded(exact: Fraction, dtype: str) -> np.floating:
    """The nearest number of the dtype.

    float(Fraction) is rounded correctly; float32 goes through a float64 rounded to odd, whose last bit remembers that
    something was cut off, so that the second rounding is the only one.
    """
    wide = float(exact)
    if dtype == "float64":
        return np.float64(wide)
    if Fraction(wide) != exact and np.float64(wide).view(np.uint64) % 2 == 0:
        wide = math.nextafter(wide, math.inf if exact > Fraction(wide) else -math.inf)
    return np.float32(wide)


def fma(a: float, b: float, c: float, dtype: str) -> np.floating:
    return rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)), dtype)


def operands(form: str, m: int, n: int, k: int, dtype: str) -> tuple[Array, ...]:
    """A, B, start, C and O; magnitudes of A differ widely, so that the order of a sum matters."""
    scale = 10.0 ** (3 * numbers(k, seed=6))
    a = (numbers(m, k) * scale).astype(dtype)
    b = numbers(k, n, seed=1).astype(dtype)
    start, c, o = (numbers(m, n, seed=seed, dtype=dtype) for seed in (2, 3, 4))
    a = a.T if form == "weight_gradient" else a
    b = b.T if form == "input_gradient" else b
    return np.ascontiguousarray(a), np.ascontiguousarray(b), start, c, o


def product(isa: str, form: str, packed: int, epilogue: str, data: tuple[Array, ...], start_given: bool) -> Array:
    a, b, start, c, o = data
    result = c.copy()
    number = EPILOGUES.index(epilogue)
    core.window_gemm(isa, FORMS[form], packed, a, b, start if start_given else None, result, number, ALPHA, o)
    return result


def chain(form: str, epilogue: str, data: tuple[Array, ...], start_given: bool) -> Array:
    """The same, one scalar FMA after the other in increasing k."""
    a, b, start, c, o = data
    dtype, one = c.dtype.name, c.dtype.type(1)
    a = a.T if form == "weight_gradient" else a
    b = b.T if form == "input_gradient" else b
    result = np.empty_like(c)
    for i, j in np.ndindex(*c.shape):
        s = start[i, j] if start_given else c.dtype.type(0)
        for x, y in zip(a[i], b[:, j], strict=True):
            s = fma(x, y, s, dtype)
        match epilogue:
            case "relu":
                s = max(s, c.dtype.type(0))
            case "relu_grad":
                s = s * c.dtype.type(o[i, j] > 0)
            case "tanh_grad":
                s = s * ((one + o[i, j]) * (one - o[i, j]))
            case "sigmoid_grad":
                s = s * (o[i, j] * (one - o[i, j]))
            case "slope_grad":
                s = s * o[i, j]
            case "add":
                s = c[i, j] + s
            case "axpy":
                s = fma(c.dtype.type(ALPHA), s, c[i, j], dtype)
        result[i, j] = s
    return result


@needs_fma
@pytest.mark.parametrize("form, epilogue", [(form, epilogue) for form in FORMS for epilogue in EPILOGUES_OF[form]])
@dtypes
def test_product_is_one_chain_of_fmas(dtype: str, form: str, epilogue: str) -> None:
    for m, n, k in ((5, 19, 23), (1, 3, 40), (13, 1, 2)):
        data = operands(form, m, n, k, dtype)
        for start_given in (False, True):
            wanted = chain(form, epilogue, data, start_given)
            for isa in FMA_ISAS:
                for packed in (0, 1):
                    assert_same_bits(product(isa, form, packed, epilogue, data, start_given), wanted, (isa, m, n, k))


def test_rounding_to_float32_is_not_done_twice() -> None:
    """1 + 2**-24 lies midway and goes to even, 1; any more goes up, also if float64 cannot hold how much more."""
    midway = 1 + Fraction(1, 2**24)
    assert rounded(midway, "float32") == 1
    assert rounded(midway + Fraction(1, 2**70), "float32") == 1 + 2**-23
    assert rounded(-midway - Fraction(1, 2**70), "float32") == -1 - 2**-23
    assert np.float32(float(midway + Fraction(1, 2**70))) == 1, "rounding twice would be right here"


@two_fma_isas
@forms
@dtypes
def test_products_agree(dtype: str, form: str) -> None:
    mr, nr, lanes = core.window_tile(FMA_ISAS[0], dtype)
    sizes = [(m, n, 31) for m in around(mr, most=40) for n in around(nr, lanes, most=70)]
    sizes += [(13, 37, k) for k in (1, 2, 64, 65, 1000, 5000)]
    sizes += [(16, 130, 200), (31, 300, 141), (48, 203, STRIP + 5)]  # few rows: the input gradient by its transpose
    for i, (m, n, k) in enumerate(sizes):
        data = operands(form, m, n, k, dtype)
        some = [epilogue for epilogue in EPILOGUES_OF[form] if form == "weight_gradient" or k <= STRIP or epilogue not in READS_C]
        case = (i % 2, some[i % len(some)], data, i % 3 == 0)
        wanted = product(FMA_ISAS[0], form, *case)
        for isa in FMA_ISAS[1:]:
            assert_same_bits(product(isa, form, *case), wanted, (isa, m, n, k))


@two_fma_isas
@dtypes
def test_column_sums_agree(dtype: str) -> None:
    for k, n in ((1, 1), (1000, 7), (33, 64), (5000, 129)):
        b, sums = numbers(k, n, dtype=dtype), []
        for isa in FMA_ISAS:
            out = np.empty((1, n), dtype)
            core.window_col_sums(isa, b, out)
            sums.append(out)
        for other in sums[1:]:
            assert_same_bits(other, sums[0], (k, n))


def values(dtype: str, *shape: int) -> Array:
    """Numbers of all magnitudes, and among them zeros, denormals, infinities and NaN."""
    info = np.finfo(dtype)
    z = numbers(*shape).astype(dtype) * 2.0 ** np.floor(12 * numbers(*shape, seed=1))
    z = z.astype(dtype).reshape(-1)
    extreme = [info.smallest_subnormal, info.tiny, info.max, -info.max]
    special = np.array([0.0, -0.0, *extreme, np.inf, -np.inf, np.nan], dtype)
    if z.size > 10 * special.size:
        z[7 :: z.size // special.size][: special.size] = special
    return z.reshape(shape)


@two_fma_isas
@pytest.mark.parametrize("activation", WITH_KERNELS)
@dtypes
def test_activations_agree(dtype: str, activation: str) -> None:
    act = ACTIVATIONS.index(activation)
    keeps, _ = core.window_row(act)
    for rows, n in [(3, n) for n in range(1, 70)] + [(200, 67), (2, 5000)]:
        z, dout = values(dtype, rows, n), numbers(rows, n, seed=2, dtype=dtype)
        forward, backward = [], []
        for isa in FMA_ISAS:
            o, d, slopes = z.copy(), dout.copy(), np.empty_like(z)
            core.window_activation(isa, act, o, slopes=slopes)
            core.window_activation(isa, act, d, slopes if keeps else o)
            forward.append(o)
            backward.append(d)
        for o, d in zip(forward[1:], backward[1:], strict=True):
            assert_same_bits(o, forward[0], n)
            assert_same_bits(d, backward[0], n)


@two_fma_isas
@pytest.mark.parametrize("exponent", [0, 1, 3, -2, 0.5, -0.5, 1.7, -1.3])
@dtypes
def test_powers_agree(dtype: str, exponent: float) -> None:
    z, act, results = values(dtype, 200, 67), ACTIVATIONS.index("power"), []
    for isa in FMA_ISAS:
        o, slopes = z.copy(), np.empty_like(z)
        core.window_activation(isa, act, o, slopes=slopes, parameter=exponent)
        results.append((o, slopes))
    for o, slopes in results[1:]:
        assert_same_bits(o, results[0][0])
        assert_same_bits(slopes, results[0][1])


@each_fma_isa
@dtypes
def test_derivatives_are_their_formulas(dtype: str, isa: str) -> None:
    """dZ = dO (O (1 - O)), dO [O > 0] and dO ((1 + O) (1 - O)): the same bits as scalars."""
    dout, o = numbers(2, 37, dtype=dtype), np.abs(numbers(2, 37, seed=1, dtype=dtype))
    one = np.ones((), dtype)
    o[0, :5] = 0
    wanted = {"sigmoid": dout * (o * (one - o)), "relu": dout * (o > 0), "tanh": dout * ((one + o) * (one - o))}
    for name, derivative in wanted.items():
        d = dout.copy()
        core.window_activation(isa, ACTIVATIONS.index(name), d, o)
        assert_same_bits(d, derivative, name)
