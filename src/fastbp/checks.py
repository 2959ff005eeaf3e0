# ruff: noqa: E741 - O is the field's letter for an output
"""Checks of arguments, for the library and the reference alike: each names the argument, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]  # float32 or float64: the dtype of the network
T = TypeVar("T")
MAX_THREADS = 256
NO_FORWARD = "backward needs a forward pass before it"


def reals(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return `value` as an array of real numbers of at most 64 bits, itself if it is one, or raise."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be a rectangular array, got rows of different lengths") from None
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must hold real numbers, got {array.dtype}")
    if array is not value and np.any(getattr(value, "mask", False)):
        raise TypeError(f"{name} must have nothing masked: fill what is missing, as with filled(0)")
    return array


def rows(name: str, x: npt.ArrayLike, width: int | None = None) -> npt.NDArray[Any]:
    """Return `x` as an array (batch, width) of real numbers, any real dtype, or raise."""
    X = reals(name, x)
    if X.ndim != 2 or (width is not None and X.shape[1] != width):
        raise ValueError(f"{name} must have shape (batch, {width or 'units'}), got {X.shape}")
    return X


def write_into(view: npt.NDArray[Any], value: npt.ArrayLike, name: str) -> None:
    """Write `value`, real numbers of the view's shape, into the view; after ``view -= step`` it is there already."""
    values = reals(name, value)
    if values.shape != view.shape:
        raise ValueError(f"{name} must have shape {view.shape}, got {values.shape}")
    view[...] = values


def gradient(dout: npt.ArrayLike, O: Array, name: str = "dout") -> Array:
    """Return `dout` in the dtype of O, or raise if it does not have O's shape."""
    dO = reals(name, dout)
    if dO.shape != O.shape:
        raise ValueError(f"{name} must have shape {O.shape}, got {dO.shape}")
    return dO.astype(O.dtype, copy=False)


def loss_and_gradient(found: Any, O: Array) -> tuple[float, Array]:
    """Return what a loss of the user's own has returned for outputs O, (loss, dout), or raise if it is not that."""
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise TypeError(f"the loss must return (loss, dout), got {found!r}")
    E = found[0].item() if getattr(found[0], "ndim", None) == 0 else found[0]  # an array of no axes, whosever it is
    return real_number("the loss", E), gradient(found[1], O, "the gradient that the loss returns")


def required(value: T | None, missing: str) -> T:
    """Return `value`; RuntimeError with the sentence `missing` if it is None."""
    if value is None:
        raise RuntimeError(missing)
    return value


def positive(name: str, value: int) -> int:
    """Return `value` as an int of at least 1, or raise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    if value >= 1 << 63:
        raise ValueError(f"{name} must be below 2**63, got {value}")
    return int(value)


def count(name: str, value: int) -> int:
    """Return `value` as an int from 0 to 2**32 - 1, or raise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{name} must be from 0 to 2**32 - 1, got {value}")
    return int(value)


def threads(name: str, n: int) -> int:
    """Return `n` as a number of threads, 1 to 256, or raise."""
    n = positive(name, n)
    if n > MAX_THREADS:
        raise ValueError(f"{name} must be at most {MAX_THREADS}, got {n}")
    return n


def layer_tuple(layers: Iterable[T]) -> tuple[T, ...]:
    """Return `layers` as a tuple, or raise."""
    if not isinstance(layers, Iterable):
        raise TypeError(f"layers must be a sequence of layers, got {layers!r}")
    return tuple(layers)


def callback_or_none(callback: T) -> T:
    """Return `callback`, or raise TypeError if it is neither None nor callable."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    return callback


def truth(name: str, value: object) -> bool:
    """Return whether `value`, which the function `name` of the user's own has returned, is true, or raise."""
    try:
        return bool(value)
    except ValueError:  # as an array of several
        raise TypeError(f"{name} must return something that is true or false, got {value!r}") from None


def real_number(name: str, value: float) -> float:
    """Return `value` as a float, or raise TypeError if it is not one real number."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def fraction(name: str, value: float) -> float:
    """Return `value` as a float, 0 <= value < 1, or raise; `not`, here and below, makes NaN fail too."""
    if not 0.0 <= real_number(name, value) < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
    return float(value)


def above_zero(name: str, value: float) -> float:
    """Return `value` as a float, 0 < value < infinity, or raise."""
    if not 0.0 < real_number(name, value) < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
    return float(value)


def small(name: str, value: float) -> float:
    """Return `value` as a float, 0 < value < 1, or raise."""
    if not above_zero(name, value) < 1.0:
        raise ValueError(f"{name} must be above 0 and below 1, got {value}")
    return float(value)


def boolean(name: str, value: bool) -> bool:
    """Return `value`, or raise TypeError if it is neither True nor False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def activation_parameter(name: str, usual: float | None, parameter: float | None) -> float | None:
    """Return the parameter of an activation, `usual` if None was given, or raise; `usual` None: it has none."""
    if parameter is None:
        return usual
    if usual is None:
        raise ValueError(f"activation {name!r} takes no parameter, got {parameter!r}")
    a = real_number("parameter", parameter)
    if not math.isfinite(a) or (name != "power" and a < 0.0):  # f' is taken from O, whose sign would not be that of Z
        raise ValueError(f"parameter of {name!r} must be finite{'' if name == 'power' else ' and at least 0'}, got {a}")
    return a


def float_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the NumPy dtype of "float32" or "float64", or raise ValueError."""
    if not isinstance(dtype, (str, type, np.dtype)) or dtype not in ("float32", "float64", np.float32, np.float64):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return np.dtype(dtype)


def float_like(x: npt.NDArray[Any]) -> np.dtype[Any]:
    """Return the dtype to compute in when only `x` can tell: float32 stays, everything else is float64."""
    return x.dtype if x.dtype == np.float32 else np.dtype(np.float64)
