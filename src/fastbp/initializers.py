"""Initial weights: a table of named rules, and `initialize`, which also accepts given values.

Every rule draws in float64 from the counter-based generator of `fastbp.rng` (stream `STREAM_INIT`), so the
initial weights of a layer depend on (seed, step, shape) alone; the caller rounds them to its own dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastbp.rng import STREAM_INIT, FloatArray, normal, uniform

Shape = tuple[int, ...]


def glorot_uniform(shape: Shape, seed: int, step: int) -> FloatArray:
    """W ~ U[-a, a), a = sqrt(6 / (inputs + units)), so that Var W = 2 / (inputs + units) [1]_.

    Keeps the variance of signals and gradients level through layers that are linear around 0 (tanh, sigmoid).

    References
    ----------
    .. [1] X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
       AISTATS 2010.
    """
    inputs, units = shape
    return _uniform(math.sqrt(6.0 / (inputs + units)), shape, seed, step)


def glorot_normal(shape: Shape, seed: int, step: int) -> FloatArray:
    """W ~ N(0, 2 / (inputs + units)); see `glorot_uniform`."""
    inputs, units = shape
    return _normal(math.sqrt(2.0 / (inputs + units)), shape, seed, step)


def he_uniform(shape: Shape, seed: int, step: int) -> FloatArray:
    """W ~ U[-a, a), a = sqrt(6 / inputs), so that Var W = 2 / inputs [1]_.

    The 2 makes up for relu, which silences half of its inputs.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015.
    """
    inputs, _ = shape
    return _uniform(math.sqrt(6.0 / inputs), shape, seed, step)


def he_normal(shape: Shape, seed: int, step: int) -> FloatArray:
    """W ~ N(0, 2 / inputs); see `he_uniform`."""
    inputs, _ = shape
    return _normal(math.sqrt(2.0 / inputs), shape, seed, step)


def zeros(shape: Shape, seed: int, step: int) -> FloatArray:
    """W = 0. Right for biases; as weights it would make all units of a layer learn the same thing."""
    return np.zeros(shape)


INITIALIZERS: dict[str, Callable[[Shape, int, int], FloatArray]] = {
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "zeros": zeros,
}


def initialize(
    init: str | npt.ArrayLike, shape: Shape, *, seed: int, step: int, name: str = "weight_init"
) -> FloatArray:
    """Return the initial values of a weight matrix or a bias vector.

    Parameters
    ----------
    init : str or array-like of shape `shape`
        A name from `INITIALIZERS`, or the values themselves (real and finite).
    shape : tuple of int
        (inputs, units) for weights, (units,) for a bias. The random rules need (inputs, units).
    seed, step : int
        Key of the random numbers; element ``W[i, j]`` uses number ``i * units + j``.
    name : str
        How error messages call `init`.

    Returns
    -------
    ndarray of float64, shape `shape`
        A new array, never a view of `init`.

    Raises
    ------
    ValueError
        Unknown name, random rule for a bias, wrong shape, or values that are not finite.
    TypeError
        Neither a name nor real numbers.

    Examples
    --------
    >>> from fastbp.initializers import initialize
    >>> initialize("glorot_uniform", (2, 3), seed=0, step=0).round(4).tolist()
    [[-0.7034, 1.0695, 0.9014], [-0.2455, -0.8872, -0.7057]]
    >>> initialize([0.5, -0.5], (2,), seed=0, step=0, name="bias_init").tolist()
    [0.5, -0.5]
    """
    if isinstance(init, str):
        if init not in INITIALIZERS:
            raise ValueError(f"{name} must be one of {', '.join(INITIALIZERS)} or an array, got {init!r}")
        if len(shape) != 2 and init != "zeros":
            raise ValueError(f"{name} must be 'zeros' or an array of shape {shape}, got {init!r}")
        return INITIALIZERS[init](shape, seed, step)
    values = _real_array(init, name)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {values.shape}")
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} NaN or infinite values")
    return values


def _real_array(init: npt.ArrayLike, name: str) -> FloatArray:
    try:
        values = np.asarray(init)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{name} must be a rectangular array, got rows of different lengths") from None
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be a name or an array of real numbers, got {type(init).__name__}")
    return values.astype(np.float64)


def _uniform(limit: float, shape: Shape, seed: int, step: int) -> FloatArray:
    u = uniform(seed, STREAM_INIT, step, math.prod(shape))
    return (limit * (2.0 * u - 1.0)).reshape(shape)


def _normal(deviation: float, shape: Shape, seed: int, step: int) -> FloatArray:
    return (deviation * normal(seed, STREAM_INIT, step, math.prod(shape))).reshape(shape)
