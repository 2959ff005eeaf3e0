"""Activations, element by element: how exact, at which extremes, and that the place in a row does not matter."""

from __future__ import annotations

import functools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from bounds import FUNCTION_ULP, MAX_SINE, Bounded, Rounding, activate, deactivate, max_ulp
from cases import DTYPES, ISAS, WITH_KERNELS, Array, assert_same_bits, numbers
from exact import DECIMAL, DIGITS, FLOAT64
from numeric import KINKS

import fastbp.reference as ref
from fastbp import _fastbp_core as core
from fastbp._fastbp_core import ACTIVATIONS
from fastbp.reference.activations import activation_named

WHOLE_ROWS = ("softmax", "log_softmax")
ELEMENTWISE = [name for name in WITH_KERNELS if name not in WHOLE_ROWS]
IN_PARTS = ("gelu", "gelu_tanh", "silu", "mish")  # max(0, z) - m, of which m may be flushed for the smallest z

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
    ("elu", "float32"): ["-0x1.99d688p-2", "-0x1.25a876p-2"],
    ("elu", "float64"): ["-0x1.6c94444156e19p-2", "-0x1.af77bd30c17e1p-2"],
    ("selu", "float32"): ["-0x1.347cdp-3", "-0x1.3885ccp-3"],
    ("selu", "float64"): ["-0x1.3d2094a4bd34fp-2", "-0x1.36f48c65f442dp-2"],
    ("softsign", "float32"): ["0x1.ffd7fep+10"],
    ("softsign", "float64"): ["0x1.ffaf4aa7a60a1p+9"],
    ("gelu", "float32"): ["-0x1.b985cep+1", "-0x1.d3a86ep+1"],
    ("gelu", "float64"): ["-0x1.655cdb597318dp+1", "-0x1.6299233f4b171p+1"],
    ("gelu_tanh", "float32"): ["-0x1.3349dcp+3", "-0x1.014cecp+3"],
    ("gelu_tanh", "float64"): ["0x1.f4587d659a653p-9", "-0x1.4be0bb9e023b6p+4"],
    ("silu", "float32"): ["-0x1.74416ep+4", "-0x1.69efa4p+6"],
    ("silu", "float64"): ["-0x1.fc08d36496fdfp-16"],
    ("mish", "float32"): ["-0x1.a4f81p+1", "-0x1.b6fef2p+2", "-0x1.6dfa52p+6"],
    ("mish", "float64"): ["-0x1.b36d5c415bcc9p+2"],
    ("sin", "float32"): ["0x1.b75dap+19", "-0x1.62a092p+19"],
    ("sin", "float64"): ["-0x1.9e1db377b531p-1"],
}

kernels = pytest.mark.parametrize(
    "isa, dtype", [pytest.param(isa, dtype, id=f"{isa}-{dtype}") for isa in ISAS for dtype in DTYPES]
)
elementwise = pytest.mark.parametrize("activation", ELEMENTWISE)


def apply(isa: str, activation: str, z: Array, o: Array | None = None, a: float | None = None) -> Array:
    """f(z); or with o, f(Z) or the slopes, whichever the row works with: z f'(Z)."""
    result = np.array(z, ndmin=2, order="C")
    o = None if o is None else np.array(o, ndmin=2)
    core.window_activation(isa, ACTIVATIONS.index(activation), result, o, parameter=a)
    return result.reshape(z.shape)


def forward(isa: str, activation: str, z: Array, a: float | None = None) -> tuple[Array, Array]:
    """f(z), and what its way back takes: the same, or the slopes."""
    o, number = np.array(z, ndmin=2, order="C"), ACTIVATIONS.index(activation)
    kept = np.empty_like(o) if core.window_row(number)[0] else o
    core.window_activation(isa, number, o, slopes=kept if kept is not o else None, parameter=a)
    return o.reshape(z.shape), kept.reshape(z.shape)


# Accuracy ----------------------------------------------------------------------------------------------


def ulp_errors(y: Array, exact: list[float] | list[Decimal]) -> Array:
    """|y - exact| in ULP of the correctly rounded `exact`. 0 is right for what rounds to the smallest normal number or less.

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
    error[(y == 0) & (np.abs(wide) <= info.tiny)] = 0
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
    if function == "sin":
        x = x[np.abs(x) <= MAX_SINE[dtype]]
    if function == "selu":
        x = x[np.abs(x) <= np.finfo(dtype).max / 2]  # beyond, it overflows
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
    if function == "gelu_tanh":
        errors /= 1 + 1.6 * np.clip(-x, 0, 30) + 0.0714 * np.clip(-x, 0, 30).astype(np.float64) ** 3
    if function in IN_PARTS and isa == "base":
        errors[np.abs(x) < 4 * np.finfo(dtype).tiny] = 0
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


@pytest.mark.parametrize("activation", WITH_KERNELS)
@kernels
def test_nan_in_nan_out(isa: str, dtype: str, activation: str) -> None:
    nans = np.array([np.nan, -np.nan], dtype)
    for n in range(1, 40):
        for place in (0, n // 2, n - 1):
            for nan in nans:
                z = 1 + np.abs(numbers(1, n, dtype=dtype))
                z[0, place] = nan
                o = apply(isa, activation, z)
                assert np.isnan(o[0, place])
                assert np.isnan(o).sum() == (n if activation in WHOLE_ROWS else 1)
                d = apply(isa, activation, z, numbers(1, n, seed=1, dtype=dtype))
                assert np.isnan(d[0, place]), "backward"


@elementwise
@kernels
def test_place_in_the_row_does_not_matter(isa: str, dtype: str, activation: str) -> None:
    """Whole registers and tails give the same bits: a row from each start, of each length, like the whole row."""
    whole = numbers(70, dtype=dtype) * np.array(8, dtype)
    whole[::9] = np.array([0, np.inf, np.nan, -np.inf, 1e-30, -0.0, 1e30, 2], dtype)
    dout = numbers(70, seed=1, dtype=dtype)
    o, kept = forward(isa, activation, whole)
    assert_same_bits(apply(isa, activation, whole), o, "without slopes")
    d = apply(isa, activation, dout, kept)
    for n in range(1, 71):
        for part in (slice(0, n), slice(70 - n, 70), slice((70 - n) // 2, (70 - n) // 2 + n)):
            o_part, kept_part = forward(isa, activation, whole[part])
            assert_same_bits(o_part, o[part], part)
            assert_same_bits(kept_part, kept[part], part)
            assert_same_bits(apply(isa, activation, dout[part], kept[part]), d[part], part)


@pytest.mark.parametrize("activation", WITH_KERNELS)
@kernels
def test_rows_do_not_matter_to_each_other(isa: str, dtype: str, activation: str) -> None:
    z, dout = 8 * numbers(5, 37, dtype=dtype), numbers(5, 37, seed=1, dtype=dtype)
    o, kept = forward(isa, activation, z)
    d = apply(isa, activation, dout, kept)
    for i in range(5):
        assert_same_bits(forward(isa, activation, z[i])[0], o[i])
        assert_same_bits(forward(isa, activation, z[i])[1], kept[i])
        assert_same_bits(apply(isa, activation, dout[i], kept[i]), d[i])


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
@pytest.mark.parametrize("activation", WHOLE_ROWS)
def test_a_row_is_what_it_is_alone(isa: str, dtype: str, activation: str) -> None:
    """For every number of columns that rows may be taken at once for, and of rows; the row alone is taken by itself."""
    for n in range(1, 36):
        z = 10 * numbers(37, n, seed=n, dtype=dtype)
        largest = float(np.finfo(dtype).max)
        for row, value in enumerate([-math.inf, math.inf, math.nan, largest, -largest, 1e4, -1e4]):
            z[3 * row, row % n] = value
        z[30], z[33] = -math.inf, -largest
        alone = np.concatenate([apply(isa, activation, row[np.newaxis]) for row in z])
        for m in (2, 3, 7, 15, 16, 17, 37):
            assert_same_bits(apply(isa, activation, z[:m]), alone[:m], (m, n))


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


# Beside the reference ----------------------------------------------------------------------------------

DOMAIN = {"log": (0.05, 8), "reciprocal": (0.05, 8), "power": (0.05, 8), "exp": (-8, 8)}
PARAMETERS = {"leaky_relu": (0.01, 0.0, 2.0), "elu": (1.0, 0.3), "power": (2.0, 3.0, -2.0, 0.0, 1.0, 0.5, -0.5, 1.7, -1.3)}
CASES = [
    pytest.param(name, a, id=name if a is None else f"{name}-{a}")
    for name in WITH_KERNELS
    for a in PARAMETERS.get(name, (None,))
]


def inputs(activation: str, *shape: int, dtype: str = "float64") -> Array:
    """Numbers where the activation is defined."""
    low, high = DOMAIN.get(activation, (-9, 9))
    return (low + (high - low) * (numbers(*shape, seed=4) + 1) / 2).astype(dtype)


def differ(got: Array, wanted: Array, bounds: list[Bounded]) -> Array:
    """How often the bounds of both programs together they are apart."""
    return np.abs(got.astype(np.float64) - wanted) / (bounds[0].error + bounds[1].error + (bounds[0].error == 0))


@pytest.mark.parametrize("activation, a", CASES)
@kernels
def test_kernels_beside_the_reference(isa: str, dtype: str, activation: str, a: float | None) -> None:
    """Tails of every length, forward and back."""
    row = activation_named(activation, a)
    for n in [*range(1, 36), 67, 129]:
        z, dout = inputs(activation, 3, n, dtype=dtype), numbers(3, n, seed=5, dtype=dtype)
        o, kept = forward(isa, activation, z, a)
        d = apply(isa, activation, dout, kept, a)
        wide, wide_dout = z.astype(np.float64), dout.astype(np.float64)
        wanted, wanted_kept = row.apply(wide.copy())
        bounds = [running_bounds(Rounding(kind), activation, a, wide, wide_dout) for kind in (dtype, "float64")]
        assert differ(o, wanted, [b[0] for b in bounds]).max() <= 1, "forward"
        assert differ(d, row.delta(wanted_kept, wide_dout), [b[1] for b in bounds]).max() <= 1, "backward"


def running_bounds(in_: Rounding, activation: str, a: float | None, z: Array, dout: Array) -> tuple[Bounded, Bounded]:
    Z = in_.exact(z)
    O = activate(activation, Z, a)
    return O, deactivate(activation, O, in_.exact(dout), Z, a)


@pytest.mark.parametrize("activation, a", [case for case in CASES if case.values[0] not in WHOLE_ROWS])
def test_derivative_of_the_reference(activation: str, a: float | None) -> None:
    """D(h) = (f(z + h) - f(z - h)) / 2h errs by at most |D(2h) - D(h)|, see numeric.py, and by the errors of f over h."""
    row, z = activation_named(activation, a), inputs(activation, 1, 400)
    h = np.cbrt(np.finfo(np.float64).eps)
    kinks = np.array(KINKS.get(activation, ()))
    z = z[:, (np.abs(z[0][:, None] - kinks) > 3 * h).all(axis=1)]
    O, kept = row.apply(z.copy())
    slope = row.delta(kept, np.ones_like(z))
    at = {k: row.apply(z + k * h)[0] for k in (-2, -1, 1, 2)}
    near, far = ((at[k] - at[-k]) / ((z + k * h) - (z - k * h)) for k in (1, 2))
    noise = sum(activate(activation, Rounding("float64").exact(at), a).error for at in (z - h, z + h))
    bound = np.abs(far - near) + noise / h
    assert (np.abs(near - slope) <= bound).all()
    assert (bound < np.sqrt(np.finfo(np.float64).eps) * np.maximum(1, np.abs(slope) + np.abs(O)) * 40).all(), "no bound at all"


# Values that are known ---------------------------------------------------------------------------------


def known(isa: str, dtype: str, activation: str, z: list[float], a: float | None = None) -> tuple[list[float], list[float]]:
    """f(z) and f'(z), as lists."""
    x = np.array(z, dtype)
    o, kept = forward(isa, activation, x, a)
    return o.tolist(), apply(isa, activation, np.ones_like(x), kept, a).tolist()


@kernels
def test_values_at_kinks(isa: str, dtype: str) -> None:
    """As PyTorch's: a kink belongs to the lower side, but z = 3 of hard_swish to the upper one."""
    third, sixth = (float(np.dtype(dtype).type(1) / np.dtype(dtype).type(n)) for n in (3, 6))
    slope = float(np.dtype(dtype).type(0.25))
    assert known(isa, dtype, "leaky_relu", [-4, 0, 4], 0.25) == ([-1, 0, 4], [slope, slope, 1])
    assert known(isa, dtype, "elu", [-math.inf, 0, 4], 2.0) == ([-2, 0, 4], [0, 2, 1])
    assert known(isa, dtype, "relu6", [-1, 0, 2, 6, 7]) == ([0, 0, 2, 6, 6], [0, 0, 1, 0, 0])
    assert known(isa, dtype, "hard_sigmoid", [-4, -3, -1, 0, 3, 4]) == ([0, 0, third, 0.5, 1, 1], [0, 0, sixth, sixth, 0, 0])
    assert known(isa, dtype, "hard_swish", [-4, -3, 0, 3, 4]) == ([0, 0, 0, 3, 4], [0, 0, 0.5, 1, 1])
    assert known(isa, dtype, "softsign", [-1, 0, 3]) == ([-0.5, 0, 0.75], [0.25, 1, 0.0625])


@kernels
def test_values_at_zero(isa: str, dtype: str) -> None:
    for name in ("gelu", "gelu_tanh", "silu"):
        assert known(isa, dtype, name, [0.0, -0.0]) == ([0, 0], [0.5, 0.5])
    (zero,), (slope,) = known(isa, dtype, "mish", [0])
    assert zero == 0 and abs(slope - 0.6) <= np.finfo(dtype).eps
    assert known(isa, dtype, "sin", [0.0, -0.0]) == ([0, 0], [1, 1])
    assert np.signbit(apply(isa, "sin", np.array([-0.0], dtype)))
    assert known(isa, dtype, "selu", [0])[0] == [0]


@kernels
def test_values_at_infinity_are_the_limits(isa: str, dtype: str) -> None:
    largest = float(np.finfo(dtype).max)
    ends = [-math.inf, -largest, -1e30, 1e30, largest, math.inf]
    for name in (*IN_PARTS, "hard_swish"):
        o, slope = known(isa, dtype, name, ends)
        assert o == [0, 0, 0, float(np.dtype(dtype).type(1e30)), largest, math.inf], name
        assert slope == [0, 0, 0, 1, 1, 1], name
    assert known(isa, dtype, "softsign", ends) == ([-1, -1, -1, 1, 1, 1], [0] * 6)
    assert known(isa, dtype, "elu", ends[:3]) == ([-1] * 3, [0] * 3)
    assert np.isnan(apply(isa, "sin", np.array([-math.inf, math.inf], dtype))).all()
    assert known(isa, dtype, "reciprocal", [math.inf, 0.0, -0.0])[0] == [0, math.inf, -math.inf]
    assert known(isa, dtype, "log", [0, 1, math.inf]) == ([-math.inf, 0, math.inf], [math.inf, 1, 0])


@kernels
def test_values_of_powers(isa: str, dtype: str) -> None:
    """Whole powers of small whole numbers are exact, with their signs; the root is IEEE 754's."""
    z = np.array([-3, -2, -1, 1, 2, 3], dtype)
    for a in (0, 1, 2, 3, 4, 7):
        assert known(isa, dtype, "power", z.tolist(), a) == ((z**a).tolist(), (a * z ** max(a - 1, 0)).tolist())
    assert known(isa, dtype, "power", [-2, 4], -2) == ([0.25, 0.0625], [0.25, -0.03125])
    x = np.abs(spread(dtype, 1000))
    x = x[x >= np.finfo(dtype).tiny]
    assert_same_bits(apply(isa, "power", x, a=0.5), np.sqrt(x))
    assert np.isnan(apply(isa, "power", np.array([-2, -math.inf], dtype), a=1.5)).all()
    assert known(isa, dtype, "power", [0, math.inf], 1.5)[0] == [0, math.inf]
    assert known(isa, dtype, "power", [0, math.inf], -1.5)[0] == [math.inf, 0]
    assert np.isnan(apply(isa, "power", np.array([math.nan], dtype), a=0)).all()


@kernels
def test_sine_stays_within_one(isa: str, dtype: str) -> None:
    z = np.concatenate([every_exponent(dtype), 10.0 ** (30 * numbers(1000)).astype(dtype)])
    o, slope = forward(isa, "sin", z)
    eps = np.finfo(dtype).eps
    assert np.nanmax(np.abs(o)) <= 1 + eps and np.nanmax(np.abs(slope)) <= 1 + eps


@kernels
def test_log_softmax_is_the_logarithm_of_softmax(isa: str, dtype: str) -> None:
    def log_softmax(*z: float) -> list[float]:
        return apply(isa, "log_softmax", np.array([z], dtype))[0].tolist()

    assert log_softmax(5) == [0]
    assert log_softmax(1e4, -1e4) == [0, -2e4]
    assert log_softmax(0, -math.inf)[1] == -math.inf
    assert np.isnan(log_softmax(math.inf, 0)).all()
    assert log_softmax(3, 3) == apply(isa, "log", np.array([0.5, 0.5], dtype)).tolist()


# Parameters --------------------------------------------------------------------------------------------


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"activation 'tanh' takes no parameter, got 0\.3"):
        ref.Activation("tanh", 0.3)
    with pytest.raises(TypeError, match="parameter must be a real number, got str"):
        ref.Activation("elu", "0.3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parameter of 'power' must be finite, got inf"):
        ref.Activation("power", math.inf)
    with pytest.raises(ValueError, match=r"parameter of 'leaky_relu' must be finite and at least 0, got -0\.5"):
        ref.Activation("leaky_relu", -0.5)
    with pytest.raises(ValueError, match=r"must be one of identity, .*, or a pair of functions \(f, df\), got 'custom'"):
        ref.Activation("custom")
    assert repr(ref.Activation("elu")) == "Activation('elu')"
    assert repr(ref.Activation("elu", 0.5)) == "Activation('elu', 0.5)"


def test_usual_parameters_are_those_of_the_reference() -> None:
    for number, name in enumerate(ACTIVATIONS):
        keeps, parameter = core.window_row(number)
        row = ref.activations.ACTIVATIONS[name]
        assert row.wants_z == keeps
        assert row.parameter == (None if math.isnan(parameter) else parameter)
