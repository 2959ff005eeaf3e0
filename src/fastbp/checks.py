# ruff: noqa: E741 - O is the field's letter for an output
"""Checks of arguments, for the library and the reference alike: each names the argument, what was expected and what came."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]  # float32 or float64: the dtype of the network
T = TypeVar("T")
NO_FORWARD = "backward needs a forward pass before it"


def rows(name: str, x: npt.ArrayLike, width: int | None = None) -> npt.NDArray[Any]:
    """Return `x` as an array (batch, width) of real numbers, any real dtype, or raise."""
    X = np.asarray(x)
    if X.ndim != 2 or (width is not None and X.shape[1] != width):
        raise ValueError(f"{name} must have shape (batch, {width or 'units'}), got {X.shape}")
    if X.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got {X.dtype}")
    return X


def gradient(dout: npt.ArrayLike, O: Array) -> Array:
    """Return `dout` in the dtype of O, or raise if it does not have O's shape."""
    dO = np.asarray(dout)
    if dO.shape != O.shape:
        raise ValueError(f"dout must have shape {O.shape}, got {dO.shape}")
    return rows("dout", dO).astype(O.dtype, copy=False)


def required(value: T | None, missing: str) -> T:
    """Return `value`; RuntimeError with the sentence `missing` if it is None."""
    if value is None:
        raise RuntimeError(missing)
    return value


def positive(name: str, value: int) -> int:
    """Return `value` as an int of at least 1, or raise."""
    if not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


def float_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the NumPy dtype of "float32" or "float64", or raise ValueError."""
    if dtype not in ("float32", "float64", np.float32, np.float64):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return np.dtype(dtype)


def float_like(x: npt.NDArray[Any]) -> np.dtype[Any]:
    """Return the dtype to compute in when only `x` can tell: float32 stays, everything else is float64."""
    return x.dtype if x.dtype == np.float32 else np.dtype(np.float64)
