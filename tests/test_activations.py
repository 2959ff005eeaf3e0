"""Activations, element by element: how exact, at which extremes, and that the place in a row does not matter."""

from __future__ import annotations

import functools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from bounds import FUNCTION_ULP, max_ulp
from cases import DTYPES, ISAS, Array, assert_same_bits, numbers

from fastbp import _fastbp_core as core
from fastbp._fastbp_core import ACTIVATIONS

ELEMENTWISE = [name for name in ACTIVATIONS if name != "softmax"]
DIGITS = 50

# Where `make ulp` found the largest errors, with FMA and without.
WORST = {
    ("exp", "float32"): ["-0x1.196b42p+6", "-0x1.7764c8p+2"],
    ("exp", "float64"): ["0x1.eb2380c92c522p+1", "-0x1.d382336798fcep+8"],
    ("log", "float32"): ["0x1.674e62p+0", "0x1.6782cap-1"],
    ("log", "float64"): ["0x1.66867eca09b73p+0", "0x1.36f3e24eb1e2cp-1"],
    ("sigmoid", "float32"): ["-0x1.69c008p-12"],
    ("sigmoid", "float64"): ["-0x1.0eaae74ec0fb7p-11"],
    ("softplus", "float32"): ["0x1.f823p-9", "-0x1.cb7a2ap-2"],
    ("softplus", "float64"): ["0x1.92ed13b9b6f63p-2", "0x1.526ff0dc873ebp-12"],
    ("tanh", "float32"): ["0x1.c5f41ep-3", "-0x1.a48b9cp-3"],
    ("tanh", "float64"): ["0x1.afbbf7601f1d4p-3", "0x1.aeb33870a9f38p-3"],
}

kernels = pytest.mark.parametrize(
    "isa, dtype", [pytest.param(isa, dtype, id=f"{isa}-{dtype}") for isa in ISAS for dtype in DTYPES]
)
elementwise = pytest.mark.parametrize("activation", ELEMENTWISE)


def apply(isa: str, activation: str, z: Array, o: Array | None = None) -> Array:
    """f(z), an activation or exp or log; or with o = f(Z): z f'(Z)."""
    result = np.array(z, ndmin=2, order="C")
    if activation in ("exp", "log"):
        core.window_function(isa, activation == "log", result)
        return result.reshape(z.shape)
    core.window_activation(isa, ACTIVATIONS.index(activation), result, None if o is None else np.array(o, ndmin=2))
    return result.reshape(z.shape)


# Accuracy ----------------------------------------------------------------------------------------------


def exact_exp(x: Decimal) -> Decimal:
    return max(Decimal(-800), min(Decimal(800), x)).exp()  # beyond, float64 has 0 and infinity


def exact_log(x: Decimal) -> Decimal:
    return x.ln() if x >= 0 else Decimal("nan")


def exact_sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + exact_exp(-x))


def exact_tanh(x: Decimal) -> Decimal:
    if abs(x) < Decimal("1e-9"):  # the next term is 2e-55 of the first
        return x - x**3 / 3 + 2 * x**5 / 15
    e = exact_exp(2 * x)
    return (e - 1) / (e + 1)


def exact_softplus(x: Decimal) -> Decimal:
    e = exact_exp(-abs(x))
    return max(x, Decimal(0)) + (e - e**2 / 2 + e**3 / 3 if e < Decimal("1e-12") else (1 + e).ln())


DECIMAL = {"exp": exact_exp, "log": exact_log, "sigmoid": exact_sigmoid, "softplus": exact_softplus, "tanh": exact_tanh}
FLOAT64 = {
    "exp": np.exp,
    "log": np.log,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
    "tanh": np.tanh,
}


def ulp_errors(y: Array, exact: list[float] | list[Decimal]) -> Array:
    """|y - exact| in ULP of the correctly rounded `exact`. 0 is right for what rounds to less than the smallest normal number.

    What rounds to infinity must be infinite, and NaN NaN.
    """
    info = np.finfo(y.dtype)
    wide = np.array([float(e) for e in exact])
    with np.errstate(over="ignore"):
        rounded = wide.astype(y.dtype).astype(np.float64)
    ulp = np.ldexp(1.0, np.maximum(np.frexp(rounded)[1] - 1, info.minexp) - info.nmant)
    if y.dtype == np.float32:
        with np.errstate(invalid="ignore"):
            error = np.abs(y.astype(np.float64) - wide)
    else:
        pairs = zip(y.tolist(), exact, strict=True)
        error = np.array([float(abs(Decimal(v) - e)) if math.isfinite(v) else math.inf for v, e in pairs])
    error = error / ulp
    error[(y == 0) & (np.abs(wide) < info.tiny)] = 0
    infinite = np.isinf(rounded)
    error[infinite] = np.where(y[infinite] == rounded[infinite], 0, np.inf)
    return np.where(np.isnan(wide), np.where(np.isnan(y), 0, np.inf), np.where(np.isnan(error), np.inf, error))


@functools.cache
def oracle(function: str, dtype: str) -> tuple[Array, list[float] | list[Decimal]]:
    """Inputs, and the exact values there; a denormal counts as the zero it is flushed to.

    Float64 is the oracle of float32, as its own 4 ULP are 2**-27 of a float32's; float64 has 50 decimal digits.
    """
    x = np.concatenate([every_exponent(dtype), spread(dtype, 100_000 if dtype == "float32" else 1000)])
    x = np.concatenate([x, np.array([float.fromhex(v) for v in WORST[function, dtype]], dtype)])
    seen = np.where(np.abs(x) < np.finfo(dtype).tiny, np.copysign(0, x), x)
    if dtype == "float32":
        with np.errstate(all="ignore"):
            return x, FLOAT64[function](seen.astype(np.float64)).tolist()
    with localcontext() as context:
        context.prec = DIGITS
        context.Emin, context.Emax = -999999, 999999
        return x, [DECIMAL[function](Decimal(v)) for v in seen.tolist()]


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


@pytest.mark.parametrize("function", FLOAT64)
@kernels
def test_error_in_ulp(isa: str, dtype: str, function: str) -> None:
    """A sample of what `make ulp` goes through, with its worst points."""
    x, exact = oracle(function, dtype)
    errors = ulp_errors(apply(isa, function, x), exact)
    worst = errors.argmax()
    assert errors[worst] <= max_ulp(function, isa), f"{errors[worst]} ULP at {x[worst]!r}"
    assert errors[worst] > 1 / 2, "more exact than rounding can be: an oracle that is wrong"


@kernels
def test_derivative_of_softplus_in_ulp(isa: str, dtype: str) -> None:
    """1 - exp(-O), down to the smallest O, where it is O."""
    o = np.abs(spread(dtype, 1000))
    o = o[o > 0]
    with localcontext() as context:
        context.prec = 2 * DIGITS  # 1 - exp(-o) loses the digits of a small o
        exact = [1 - (-Decimal(v)).exp() for v in o.tolist()]
    errors = ulp_errors(apply(isa, "softplus", np.ones_like(o), o), exact)
    assert errors.max() <= FUNCTION_ULP


def test_ulp_errors_measure() -> None:
    """The instrument itself: neighbours of a correctly rounded value are between 1/2 and 3/2 ULP off."""
    exact = np.tanh(numbers(1000)).tolist()
    right = np.array(exact, np.float32)
    assert ulp_errors(right, exact).max() <= 1 / 2
    off = ulp_errors(np.nextafter(right, np.float32(2)), exact) + ulp_errors(right, exact)
    assert off.min() >= 1 / 2
    y = np.array([math.nan, 1, math.inf, 0], np.float32)
    assert ulp_errors(y, [math.nan, math.nan, 1e39, 1e-39]).tolist() == [0, math.inf, 0, 0]
    assert ulp_errors(np.array([0.0, 1e38], np.float32), [2e-38, math.inf]).min() > FUNCTION_ULP


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
    assert apply(isa, "exp", x).tolist() == [1, 1, np.inf, 0, np.inf, 0]
    assert apply(isa, "softplus", x)[2:].tolist() == [np.inf, 0, x[4], 0]
    assert apply(isa, "log", x)[:3].tolist() == [-np.inf, -np.inf, np.inf]
    assert np.isnan(apply(isa, "log", x)[[3, 5]]).all()
    nan = np.array([np.nan], dtype)
    assert np.isnan(apply(isa, "exp", nan)) and np.isnan(apply(isa, "log", nan))
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
