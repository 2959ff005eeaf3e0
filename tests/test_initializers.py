"""Initial weights: known bits, bounds, moments, orthogonality, and what is refused."""

from __future__ import annotations

import hashlib
import math
from functools import partial
from statistics import NormalDist
from types import ModuleType

import numpy as np
import pytest
from bounds import Rounding
from cases import Array, assert_same_bits

from fastbp import initializers, rng
from fastbp.initializers import INITIALIZERS, OF_BIASES, initialize
from fastbp.sums import folded_sum

INPUTS, UNITS = 300, 200
COUNT = INPUTS * UNITS
CUT = NormalDist()
KEPT = CUT.cdf(2) - CUT.cdf(-2)
VARIANCE = {
    "glorot_uniform": 2 / (INPUTS + UNITS),
    "glorot_normal": 2 / (INPUTS + UNITS),
    "he_uniform": 2 / INPUTS,
    "he_normal": 2 / INPUTS,
    "lecun_uniform": 1 / INPUTS,
    "lecun_normal": 1 / INPUTS,
    "truncated_normal": 0.02**2 * (1 - 4 * CUT.pdf(2) / KEPT),
    "torch_linear": 1 / (3 * INPUTS),
    "zeros": 0.0,
}
RANDOM = [name for name in INITIALIZERS if name not in ("zeros", "ones")]
# SHA-256 of weights (7, 5), seed 3, step 2, as little-endian float64: the same on every machine.
KNOWN = {
    "glorot_uniform": "8d047b3c42bce1a9",
    "glorot_normal": "fcb07d0476684b9f",
    "he_uniform": "41e2078fe778b77b",
    "he_normal": "46b5520450456868",
    "lecun_uniform": "d9acec08773ba2a7",
    "lecun_normal": "5e1df5d85fedaae0",
    "truncated_normal": "3aeaee6d39dca9c8",
    "orthogonal": "211f91b0dbecd04c",
    "torch_linear": "c891136f387e1a58",
    "zeros": "1f6c9de2e555d5d5",
    "ones": "9dad752d1646c16c",
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_known_bits(name: str) -> None:
    W = initialize(name, (7, 5), seed=3, step=2)
    assert hashlib.sha256(W.astype("<f8").tobytes()).hexdigest()[:16] == KNOWN[name]


def test_every_rule_is_covered() -> None:
    assert set(VARIANCE) | {"orthogonal", "ones"} == set(INITIALIZERS)
    assert all(getattr(initializers, name) is rule for name, rule in INITIALIZERS.items())


@pytest.mark.parametrize("name", VARIANCE)
def test_mean_and_variance(name: str) -> None:
    """Within 6 standard errors; that of the variance is var sqrt((kurtosis - 1) / n), kurtosis at most 3."""
    W = initialize(name, (INPUTS, UNITS), seed=1, step=0)
    variance = VARIANCE[name]
    assert W.shape == (INPUTS, UNITS)
    assert W.dtype == np.float64
    assert abs(W.mean()) <= 6 * math.sqrt(variance / COUNT)
    assert abs((W * W).mean() - variance) <= 6 * variance * math.sqrt(2 / COUNT)


@pytest.mark.parametrize("name", [name for name in VARIANCE if name.endswith(("uniform", "linear"))])
def test_uniform_rules_fill_their_interval(name: str) -> None:
    """|W| <= a = sqrt(3 var); the largest of n misses a by more than 40 a / n with probability e**-40."""
    W = initialize(name, (INPUTS, UNITS), seed=1, step=0)
    limit = math.sqrt(3 * VARIANCE[name])
    assert np.abs(W).max() <= math.nextafter(limit, math.inf)
    assert np.abs(W).max() > limit * (1 - 40 / COUNT)


def test_truncated_normal_ends_at_two_deviations() -> None:
    """The share of numbers beyond 2 (1 - d) is 4 d phi(2) / KEPT or more; 40 / n of them are missed with probability e**-40."""
    W = initialize("truncated_normal", (INPUTS, UNITS), seed=1, step=0)
    missed = 40 / COUNT * KEPT / (4 * CUT.pdf(2))
    assert 0.04 * (1 - missed) < np.abs(W).max() <= 0.04
    wider = initialize(partial(initializers.truncated_normal, deviation=0.05), (INPUTS, UNITS), seed=1, step=0)
    np.testing.assert_array_equal(wider, 0.05 * rng.truncated_normal(1, rng.STREAM_INIT, 0, COUNT).reshape(INPUTS, UNITS))


def test_elements_are_numbers_of_the_init_stream_in_row_order() -> None:
    W = initialize("he_normal", (3, 5), seed=9, step=4)
    x = rng.normal(9, rng.STREAM_INIT, 4, 15)
    np.testing.assert_array_equal(W.reshape(-1), math.sqrt(2 / 3) * x)


@pytest.mark.parametrize("name", RANDOM)
def test_seed_and_step_decide(name: str) -> None:
    first = initialize(name, (4, 3), seed=1, step=0)
    np.testing.assert_array_equal(first, initialize(name, (4, 3), seed=1, step=0))
    assert not np.array_equal(first, initialize(name, (4, 3), seed=2, step=0))
    assert not np.array_equal(first, initialize(name, (4, 3), seed=1, step=1))


def test_torch_linear_draws_a_bias_as_the_row_after_the_weights() -> None:
    W, b = (initialize("torch_linear", shape, seed=5, step=1, inputs=7) for shape in ((7, 3), (3,)))
    u = rng.uniform(5, rng.STREAM_INIT, 1, 8 * 3)
    np.testing.assert_array_equal(np.vstack([W, b]), math.sqrt(1 / 7) * (2 * u - 1).reshape(8, 3))


# Orthogonal -----------------------------------------------------------------------------------------------------------

SHAPES = [(1, 1), (1, 5), (5, 1), (2, 2), (7, 5), (5, 7), (64, 64), (65, 66), (130, 129), (40, 300), (300, 200)]


def columns(shape: tuple[int, int], seed: int = 0) -> Array:
    """The orthogonal matrix, standing: its columns are what is orthonormal."""
    W = initialize("orthogonal", shape, seed=seed, step=0)
    assert W.shape == shape and W.flags.c_contiguous
    return W if shape[0] >= shape[1] else W.T


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonal(shape: tuple[int, int]) -> None:
    """Q^T Q = 1, but for rounding.

    With L = ceil(log2 m) additions in a row, H b is computed as b - f v s: s errs by gamma(L + 1) |v| |b|, which f v, of
    length 2 / |v|, makes 2 gamma(L + 1) |b|. f has L + 2 roundings, the two products two: together gamma(L + 4) of a vector
    of length 2 |b| at most; the difference has one. Of n reflections e = (1 + gamma(4 L + 11))^n - 1 is left, whatever the
    rounding of the v, as an error of the length of each column; of Q^T Q, 2 e + e^2, and the gamma(m) of this product.
    """
    Q = columns(shape)
    m, n = Q.shape
    gamma = Rounding("float64").gamma
    e = (1 + gamma(4 * math.ceil(math.log2(m)) + 11)) ** n - 1
    bound = 2 * e + e * e
    assert np.abs(Q.T @ Q - np.eye(n)).max() <= bound + gamma(m) * (1 + bound)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (9, 9)])
def test_orthogonal_is_a_product_of_reflections(shape: tuple[int, int]) -> None:
    """The same bits from the formula, one number at a time."""
    m, n = max(shape), min(shape)
    G = rng.normal(7, rng.STREAM_INIT, 1, m * n).reshape(m, n).tolist()

    def total(terms: list[float]) -> float:
        return float(folded_sum(np.array(terms)))

    Q = np.eye(m, n).tolist()
    for k in reversed(range(n)):
        x = [G[i][k] for i in range(k, m)]
        sign = math.copysign(1.0, x[0])
        v = [x[0] + sign * math.sqrt(total([xi * xi for xi in x])), *x[1:]]
        factor = 2 / total([vi * vi for vi in v])
        for j in range(n):
            s = factor * total([v[i] * Q[k + i][j] for i in range(m - k)])
            for i in range(m - k):
                Q[k + i][j] -= v[i] * s
        for i in range(m):
            Q[i][k] *= -sign  # columns before k are still those of 1 below the diagonal, and get theirs later
    W = initialize("orthogonal", shape, seed=7, step=1)
    assert_same_bits(W, np.array(Q) if shape == (m, n) else np.array(Q).T.copy())


def test_orthogonal_matrices_are_all_alike() -> None:
    """w^2 of an element is distributed as Beta(1/2, (m - 1)/2): means of w, w^2 and w^4 within 6 standard errors.

    E w = 0, E w^2 = 1 / m, E w^4 = 3 / (m (m + 2)), E w^8 = 105 / (m (m + 2) (m + 4) (m + 6)). The corners are the first and
    the last to be made.
    """
    n, m = 3000, 3
    Q = np.array([columns((m, m), seed) for seed in range(n)])
    moments = {0: 1.0, 1: 0.0, 2: 1 / m, 4: 3 / (m * (m + 2)), 8: 105 / (m * (m + 2) * (m + 4) * (m + 6))}
    for power in (1, 2, 4):
        error = math.sqrt((moments[2 * power] - moments[power] ** 2) / n)
        assert np.all(np.abs((Q**power).mean(axis=0) - moments[power]) <= 6 * error)
    assert abs(np.sign(np.linalg.det(Q)).mean()) <= 6 / math.sqrt(n)  # rotations and reflections alike


# Values and functions -------------------------------------------------------------------------------------------------


def test_given_values_are_copied() -> None:
    given = np.array([[1.0, 2.0]])
    W = initialize(given, (1, 2), seed=0, step=0)
    given[:] = 0.0
    assert W.tolist() == [[1.0, 2.0]]
    assert initialize([1, True], (2,), seed=0, step=0).dtype == np.float64


def test_what_a_bias_takes() -> None:
    assert {name for name in INITIALIZERS if name not in OF_BIASES} == set(RANDOM) - {"torch_linear"}
    for init, wanted in (("zeros", 0.0), ("ones", 1.0), (0.25, 0.25), (3, 3.0), (np.float32(0.5), 0.5), (np.array(2), 2.0)):
        assert initialize(init, (3,), seed=0, step=0, name="bias_init").tolist() == [wanted] * 3
        assert initialize(init, (2, 2), seed=0, step=0).tolist() == [[wanted] * 2] * 2


def test_a_function_of_ones_own() -> None:
    calls = []

    def init(shape: tuple[int, ...], seed: int, step: int) -> list[float] | Array:
        calls.append((shape, seed, step))
        return kept

    kept = np.arange(6, dtype=np.int8).reshape(2, 3)
    W = initialize(init, (2, 3), seed=4, step=5)
    assert W.tolist() == kept.tolist() and W.dtype == np.float64 and not np.shares_memory(W, kept)
    assert calls == [((2, 3), 4, 5)]


@pytest.mark.parametrize("name", INITIALIZERS)
def test_rules_are_functions_of_ones_own(name: str) -> None:
    for shape in ((4, 3), (3,)) if name in OF_BIASES else ((4, 3),):
        got, wanted = (initialize(init, shape, seed=1, step=2, inputs=4) for init in (INITIALIZERS[name], name))
        assert_same_bits(got, wanted)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_both_libraries_draw_the_same(name: str, library: ModuleType) -> None:
    """For a layer alone and in a network, weights and biases: rounded to the dtype."""
    bias = name if name in OF_BIASES else "torch_linear"
    for dtype in ("float32", "float64"):
        alone = library.Dense(3, inputs=5, weight_init=name, bias_init=bias, seed=8, dtype=dtype)
        layers = [library.Input(2), library.Dense(5), library.Dense(3, weight_init=name, bias_init=bias)]
        last = library.Sequential(layers, seed=8, dtype=dtype).layers[2]
        for layer, step in ((alone, 0), (last, 1)):
            assert_same_bits(layer.weight, initialize(name, (5, 3), seed=8, step=step).astype(dtype))
            assert_same_bits(layer.bias, initialize(bias, (3,), seed=8, step=step, inputs=5).astype(dtype))


# Refused --------------------------------------------------------------------------------------------------------------

ANYTHING = "a name, a number, an array of real numbers or a function"
OF_A_BIAS = r"zeros, ones, torch_linear, a number, an array of shape \(3,\) or a function"


@pytest.mark.parametrize(
    ("init", "shape", "error", "message"),
    [
        ("glorot", (2, 3), ValueError, "weight_init must be one of glorot_uniform, .*ones, a number, an array or a .*'glorot'"),
        *(
            (init, (3,), ValueError, f"weight_init must be one of {OF_A_BIAS}, got '{name}'")
            for name in ("he_normal", "orthogonal")
            for init in (name, INITIALIZERS[name])
        ),
        ("torch_linear", (3,), ValueError, r"weight_init='torch_linear' for a bias needs inputs"),
        ([[1.0]], (2, 3), ValueError, r"weight_init must have shape \(2, 3\), got \(1, 1\)"),
        ([[1.0], [2.0, 3.0]], (2, 3), ValueError, "weight_init must be a rectangular array"),
        ([1.0, math.nan], (2,), ValueError, "weight_init must be finite, got 1 NaN or infinite values"),
        ([1.0, math.inf], (2,), ValueError, "weight_init must be finite, got 1 NaN or infinite values"),
        (-math.inf, (2,), ValueError, "weight_init must be finite, got -inf"),
        (None, (2,), TypeError, f"weight_init must be {ANYTHING}, got NoneType"),
        ([1j, 2.0], (2,), TypeError, f"weight_init must be {ANYTHING}, got list"),
        (lambda *_: [1.0], (2,), ValueError, r"what weight_init returns must have shape \(2,\), got \(1,\)"),
        (lambda *_: 1.0, (2,), ValueError, r"what weight_init returns must have shape \(2,\), got \(\)"),
        (lambda *_: [1.0, math.nan], (2,), ValueError, "what weight_init returns must be finite, got 1 NaN or infinite"),
        (lambda *_: None, (2,), TypeError, "what weight_init returns must be an array of real numbers, got NoneType"),
        (lambda shape, *_: initializers.he_normal(shape, 0, 0), (2,), ValueError, r"shape must be \(inputs, units\), got \(2,\)"),
    ],
)
def test_refused(init: object, shape: tuple[int, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        initialize(init, shape, seed=0, step=0)  # type: ignore[arg-type]


def test_messages_use_the_argument_name() -> None:
    with pytest.raises(ValueError, match="bias_init must have shape"):
        initialize([1.0], (2,), seed=0, step=0, name="bias_init")


def test_a_function_that_raises_leaves_no_trace(library: ModuleType) -> None:
    def broken(shape: tuple[int, ...], seed: int, step: int) -> Array:
        raise KeyError("of my own")

    with pytest.raises(KeyError, match="of my own"):
        library.Dense(3, inputs=2, weight_init=broken)
