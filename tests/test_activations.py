"""Activations, element by element: how exact, at which extremes, and that the place in a row does not matter."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from cases import DTYPES, ISAS, Array, assert_same_bits, numbers

from fastbp import _fastbp_core as core
from fastbp._fastbp_core import ACTIVATIONS

# Error bounds in units of the last place (ULP) of the exact value. The largest errors found, by all float32 of the
# sweep below and 16 million random float64: sigmoid 2.48 (float32, at -16.64) and 2.40 (float64, at -36.7),
# tanh 2.42 (float32, at 0.0078) and 2.59 (float64, at -0.217); relu does not round.
# A ceiling without measuring, to first order, in u = eps / 2: exp(x) = (1 + p) 2^n errs by 2 u, of p and of 1 + p;
# 1 + exp(-x) by at most 2 u + u, the quotient by one more: 4 u, at most 4 ULP. The same for tanh.
MAX_ULP = {"sigmoid": 3.0, "tanh": 3.0, "relu": 0.0, "identity": 0.0}
ELEMENTWISE = [name for name in ACTIVATIONS if name != "softmax"]
DIGITS = 50

kernels = pytest.mark.parametrize(
    "isa, dtype", [pytest.param(isa, dtype, id=f"{isa}-{dtype}") for isa in ISAS for dtype in DTYPES]
)
elementwise = pytest.mark.parametrize("activation", ELEMENTWISE)


def apply(isa: str, activation: str, z: Array, o: Array | None = None) -> Array:
    """f(z), or with o = f(Z): z f'(Z)."""
    result = np.array(z, ndmin=2, order="C")
    core.window_activation(isa, ACTIVATIONS.index(activation), result, None if o is None else np.array(o, ndmin=2))
    return result.reshape(z.shape)


# Accuracy ----------------------------------------------------------------------------------------------


def exact_sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def exact_tanh(x: Decimal) -> Decimal:
    if abs(x) < Decimal("1e-9"):  # the next term is 2e-55 of the first
        return x - x**3 / 3 + 2 * x**5 / 15
    e = (2 * x).exp()
    return (e - 1) / (e + 1)


DECIMAL = {"sigmoid": exact_sigmoid, "tanh": exact_tanh}
FLOAT64 = {"sigmoid": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh}


def ulp_errors(x: Array, y: Array, activation: str) -> Array:
    """|y - f(x)| in ULP of f(x); below the smallest normal number, where results are flushed to 0, in that number.

    The oracle is float64 for float32, as its own 4 ULP are 2**-27 of a float32's, and 50 decimal digits for float64.
    """
    info = np.finfo(x.dtype)
    if x.dtype == np.float32:
        with np.errstate(over="ignore"):
            exact = FLOAT64[activation](x.astype(np.float64))
        error, size = np.abs(y.astype(np.float64) - exact), np.abs(exact)
    else:
        with localcontext() as context:
            context.prec = DIGITS
            context.Emin, context.Emax = -999999, 999999
            exacts = [DECIMAL[activation](Decimal(max(-800.0, min(800.0, v)))) for v in x.tolist()]
            error = np.array([float(abs(Decimal(v) - e)) for v, e in zip(y.tolist(), exacts, strict=True)])
            size = np.array([abs(float(e)) for e in exacts])
    exponent = np.frexp(size)[1] - 1  # 2**exponent <= size
    ulp = np.ldexp(1.0, np.maximum(exponent, info.minexp) - info.nmant)
    flushed = size < float(info.tiny) * (1 + 4 * float(info.eps))
    return np.where(flushed, error / float(info.tiny), error / ulp)


def every_exponent(dtype: str) -> Array:
    """Four mantissas, the smallest, two in between and the largest, with every exponent, denormals too, and sign."""
    info = np.finfo(dtype)
    word = np.dtype(f"u{info.dtype.itemsize}").type
    mantissas = [word(0), word(0x3243F6A8885A3 >> (52 - info.nmant)), word(2**info.nmant // 3), word(2**info.nmant - 1)]
    exponents = np.arange(2 ** (info.bits - 1 - info.nmant) - 1, dtype=word) << word(info.nmant)
    x = np.concatenate([exponents | mantissa for mantissa in mantissas]).view(dtype)
    return np.concatenate([x, -x])


def spread(dtype: str, count: int) -> Array:
    """Random numbers where the functions bend, where they are nearly linear, and where sigmoid underflows."""
    u = numbers(count)
    small = 2.0 ** (30 * numbers(count, seed=1) - 30)
    return np.concatenate([u, 20 * u, small, -375 + 375 * u, -60 + 60 * u]).astype(dtype)


@pytest.mark.parametrize("activation", FLOAT64)
@kernels
def test_error_in_ulp(isa: str, dtype: str, activation: str) -> None:
    x = np.concatenate([every_exponent(dtype), spread(dtype, 100_000 if dtype == "float32" else 2000)])
    errors = ulp_errors(x, apply(isa, activation, x), activation)
    worst = errors.argmax()
    assert errors[worst] <= MAX_ULP[activation], f"{errors[worst]} ULP at {x[worst]!r}"
    assert errors[worst] > 1, "a bound that is never approached, or an oracle that is wrong"


@pytest.mark.full
@pytest.mark.parametrize("activation", FLOAT64)
@pytest.mark.parametrize("isa", ISAS)
def test_error_of_all_float32(isa: str, activation: str) -> None:
    """From 2**-32, below which tanh x = x and sigmoid x = 1/2 exactly, to 2**8: from there both are constant."""
    worst = 0.0
    for exponent, sign in itertools.product(range(127 - 32, 127 + 8), (0, 1)):
        first = np.uint32(sign << 31 | exponent << 23)
        x = (first + np.arange(2**23, dtype=np.uint32)).view(np.float32)
        worst = max(worst, ulp_errors(x, apply(isa, activation, x), activation).max())
    assert 2 < worst <= MAX_ULP[activation]


def test_ulp_errors_measure() -> None:
    """The instrument itself: neighbours of a correctly rounded value are between 1/2 and 3/2 ULP off."""
    for dtype in DTYPES:
        x = numbers(1000, dtype=dtype)
        right = np.tanh(x.astype(np.float64)).astype(dtype)
        assert ulp_errors(x, right, "tanh").max() <= (0.5 if dtype == "float32" else 4) * (1 + np.finfo(dtype).eps)
        off = ulp_errors(x, np.nextafter(right, np.array(2, dtype)), "tanh") + ulp_errors(x, right, "tanh")
        assert off.min() > 0.5 - np.finfo(np.float32).eps


# Range and special values ------------------------------------------------------------------------------


@kernels
def test_range_and_symmetry(isa: str, dtype: str) -> None:
    x = np.concatenate([every_exponent(dtype), spread(dtype, 10_000)])
    s, t, t_minus = (apply(isa, name, v) for name, v in (("sigmoid", x), ("tanh", x), ("tanh", -x)))
    assert s.min() == 0 and s.max() == 1
    assert t.min() == -1 and t.max() == 1
    assert_same_bits(t_minus, -t)
    assert (np.sign(t) == np.where(np.abs(x) < np.finfo(dtype).tiny, np.sign(t), np.sign(x))).all()


@kernels
def test_special_values(isa: str, dtype: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.finfo(dtype).max, -np.finfo(dtype).max], dtype)
    assert apply(isa, "sigmoid", x).tolist() == [0.5, 0.5, 1, 0, 1, 0]
    assert_same_bits(apply(isa, "tanh", x), np.array([0.0, -0.0, 1, -1, 1, -1], dtype))
    assert_same_bits(np.abs(apply(isa, "relu", x)), np.array([0, 0, np.inf, 0, x[4], 0], dtype))
    assert_same_bits(apply(isa, "identity", x), x)
    tiny = np.array([1, -1], dtype) * np.finfo(dtype).smallest_subnormal
    assert apply(isa, "sigmoid", tiny).tolist() == [0.5, 0.5]
    assert apply(isa, "tanh", tiny).tolist() == [0, 0], "denormals are flushed"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@kernels
def test_nan_in_nan_out(isa: str, dtype: str, activation: str) -> None:
    nans = np.array([np.nan, -np.nan], dtype)
    for n in range(1, 40):
        for place in (0, n // 2, n - 1):
            for nan in nans:
                z = numbers(1, n, dtype=dtype)
                z[0, place] = nan
                o = apply(isa, activation, z)
                assert np.isnan(o[0, place])
                assert np.isnan(o).sum() == (n if activation == "softmax" else 1)
                d = apply(isa, activation, z, numbers(1, n, seed=1, dtype=dtype))
                assert np.isnan(d[0, place]), "backward"


@elementwise
@kernels
def test_place_in_the_row_does_not_matter(isa: str, dtype: str, activation: str) -> None:
    """Whole registers and tails give the same bits: a row from each start, of each length, like the whole row."""
    whole = numbers(70, dtype=dtype) * np.array(8, dtype)
    whole[::9] = np.array([0, np.inf, np.nan, -np.inf, 1e-30, -0.0, 1e30, 2], dtype)
    dout = numbers(70, seed=1, dtype=dtype)
    o = apply(isa, activation, whole)
    d = apply(isa, activation, dout, o)
    for n in range(1, 71):
        for part in (slice(0, n), slice(70 - n, 70), slice((70 - n) // 2, (70 - n) // 2 + n)):
            assert_same_bits(apply(isa, activation, whole[part]), o[part], part)
            assert_same_bits(apply(isa, activation, dout[part], o[part]), d[part], part)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@kernels
def test_rows_do_not_matter_to_each_other(isa: str, dtype: str, activation: str) -> None:
    z, dout = 8 * numbers(5, 37, dtype=dtype), numbers(5, 37, seed=1, dtype=dtype)
    o = apply(isa, activation, z)
    d = apply(isa, activation, dout, o)
    for i in range(5):
        assert_same_bits(apply(isa, activation, z[i]), o[i])
        assert_same_bits(apply(isa, activation, dout[i], o[i]), d[i])


# Softmax -----------------------------------------------------------------------------------------------


@kernels
def test_softmax_rows_add_up_to_one(isa: str, dtype: str) -> None:
    """O_j = fl(e_j / S): S, a sum of n terms, errs by (n - 1) u of itself, u = eps / 2, each quotient by u: n u."""
    u = float(np.finfo(dtype).eps) / 2
    for n in [*range(1, 70), 1000]:
        o = apply(isa, "softmax", 10 * numbers(7, n, seed=n, dtype=dtype))
        off = [abs(math.fsum(row) - 1) for row in o.tolist()]
        assert o.min() >= 0
        assert max(off) <= n * u


@kernels
def test_softmax_of_large_logits_is_shift_invariant(isa: str, dtype: str) -> None:
    """Whole numbers plus 2**20 are exact, and so is taking the maximum away: the same bits."""
    z = np.floor(8 * numbers(9, 37)).astype(dtype)
    o = apply(isa, "softmax", z)
    for shift in (2.0**20, -(2.0**20)):
        assert_same_bits(apply(isa, "softmax", z + np.array(shift, dtype)), o)


@kernels
def test_softmax_at_its_extremes(isa: str, dtype: str) -> None:
    def softmax(*z: float) -> list[float]:
        return apply(isa, "softmax", np.array([z], dtype))[0].tolist()

    largest = float(np.finfo(dtype).max)
    assert softmax(largest) == [1]
    assert softmax(1e4, -1e4) == [1, 0]
    assert softmax(largest, -largest, largest) == [0.5, 0, 0.5]
    assert softmax(0, -math.inf, 0) == [0.5, 0, 0.5]
    assert softmax(*[-1e4] * 4) == [0.25] * 4
    assert np.isnan(softmax(math.inf, 0)).all()
