"""Initial weights: bounds, variances, determinism, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastbp import rng
from fastbp.initializers import INITIALIZERS, initialize

INPUTS, UNITS = 300, 200
COUNT = INPUTS * UNITS
VARIANCE = {
    "glorot_uniform": 2 / (INPUTS + UNITS),
    "glorot_normal": 2 / (INPUTS + UNITS),
    "he_uniform": 2 / INPUTS,
    "he_normal": 2 / INPUTS,
    "zeros": 0.0,
}
RANDOM = [name for name in INITIALIZERS if name != "zeros"]


@pytest.mark.parametrize("name", INITIALIZERS)
def test_mean_and_variance(name: str) -> None:
    """Within 6 standard errors; that of the variance is var sqrt((kurtosis - 1) / n), kurtosis at most 3."""
    W = initialize(name, (INPUTS, UNITS), seed=1, step=0)
    variance = VARIANCE[name]
    assert W.shape == (INPUTS, UNITS)
    assert W.dtype == np.float64
    assert abs(W.mean()) <= 6 * math.sqrt(variance / COUNT)
    assert abs((W * W).mean() - variance) <= 6 * variance * math.sqrt(2 / COUNT)


@pytest.mark.parametrize("name", [name for name in RANDOM if name.endswith("uniform")])
def test_uniform_rules_fill_their_interval(name: str) -> None:
    """|W| <= a = sqrt(3 var); the largest of n misses a by more than 40 a / n with probability e**-40."""
    W = initialize(name, (INPUTS, UNITS), seed=1, step=0)
    limit = math.sqrt(3 * VARIANCE[name])
    assert np.abs(W).max() <= math.nextafter(limit, math.inf)
    assert np.abs(W).max() > limit * (1 - 40 / COUNT)


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


def test_given_values_are_copied() -> None:
    given = np.array([[1.0, 2.0]])
    W = initialize(given, (1, 2), seed=0, step=0)
    given[:] = 0.0
    assert W.tolist() == [[1.0, 2.0]]
    assert initialize([1, True], (2,), seed=0, step=0).dtype == np.float64


def test_zeros_for_a_bias() -> None:
    assert initialize("zeros", (3,), seed=0, step=0, name="bias_init").tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("init", "shape", "error", "message"),
    [
        (
            "glorot",
            (2, 3),
            ValueError,
            "weight_init must be one of glorot_uniform, .*zeros or an array, got 'glorot'",
        ),
        (
            "he_normal",
            (3,),
            ValueError,
            r"weight_init must be 'zeros' or an array of shape \(3,\), got 'he_normal'",
        ),
        ([[1.0]], (2, 3), ValueError, r"weight_init must have shape \(2, 3\), got \(1, 1\)"),
        ([[1.0], [2.0, 3.0]], (2, 3), ValueError, "weight_init must be a rectangular array"),
        ([1.0, math.nan], (2,), ValueError, "weight_init must be finite, got 1 NaN or infinite values"),
        ([1.0, math.inf], (2,), ValueError, "weight_init must be finite, got 1 NaN or infinite values"),
        (None, (2,), TypeError, "weight_init must be a name or an array of real numbers, got NoneType"),
        ([1j, 2.0], (2,), TypeError, "weight_init must be a name or an array of real numbers, got list"),
    ],
)
def test_refused(init: object, shape: tuple[int, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        initialize(init, shape, seed=0, step=0)  # type: ignore[arg-type]


def test_messages_use_the_argument_name() -> None:
    with pytest.raises(ValueError, match="bias_init must have shape"):
        initialize([1.0], (2,), seed=0, step=0, name="bias_init")
