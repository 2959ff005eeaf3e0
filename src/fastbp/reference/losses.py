# ruff: noqa: E741 - O is the field's letter for an output
"""Loss functions: E, and dO = dE/dO, with which the way back begins.

Both are means over the m rows of a batch, so gradients do not grow with the batch. Each loss comes in two
parts: bring the target into one known form (which may fail), then the formula (which may not).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, float_like, reals, rows

Target = npt.NDArray[Any]  # float (m, U), or for cross-entropy also integer labels (m,)


def squared_error(out: npt.ArrayLike, target: npt.ArrayLike) -> tuple[float, Array]:
    """E = 1/(2m) sum (O - T)^2, dO = (O - T) / m.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Outputs O of the network.
    target : array-like, shape (m, U), or (m,) if U = 1
        What they should be; finite.

    Returns
    -------
    loss : float
    dout : ndarray, shape (m, U), dtype of `out`

    Raises
    ------
    ValueError
        If the shapes do not fit, there are no rows, or a target is not finite.
    TypeError
        If an argument does not hold real numbers.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.squared_error([[1.0], [3.0]], [2.0, 1.0])
    >>> loss, dout.tolist()
    (1.25, [[-0.5], [1.0]])
    """
    O = _outputs(out)
    return _squared_error(O, _values(target, O.shape, O.dtype, "target"))


def cross_entropy(out: npt.ArrayLike, target: npt.ArrayLike) -> tuple[float, Array]:
    """E = 1/m sum_ij -t_ij log p_ij, p = softmax(Z), dZ = (p * sum_j t_j - t) / m.

    Computed as -log p_j = lse - z_j with lse = log sum_k exp z_k, after taking each row's maximum from it, so
    that nothing overflows and log(0) is never asked for.

    Parameters
    ----------
    out : array-like, shape (m, classes)
        Logits Z: the outputs of a last layer *without* softmax.
    target : array-like
        Integer labels 0 .. classes - 1 of shape (m,), or weights t of shape (m, classes): one-hot, or any
        soft labels.

    Returns
    -------
    loss : float
    dout : ndarray, shape (m, classes), dtype of `out`

    Raises
    ------
    ValueError
        If the shapes do not fit, there are no rows, a label is out of range, or a target is not finite.
    TypeError
        If labels of shape (m,) are not integers.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.cross_entropy([[0.0, 0.0], [0.0, 0.0]], [0, 1])
    >>> round(loss, 4), dout.tolist()
    (0.6931, [[-0.25, 0.25], [0.25, -0.25]])
    """
    Z = _outputs(out)
    return _cross_entropy(Z, _labels(target, Z.shape, Z.dtype, "target"))


@dataclass(frozen=True)
class Loss:
    """A row of the table.

    Attributes
    ----------
    name : str
    target : callable
        target(y, shape, dtype, name) -> T checks y against outputs of that shape; `name` is y's name in
        messages.
    value : callable
        value(O, T) -> (E, dO) for an O of that shape and any rows of such a T. Changes neither.
    """

    name: str
    target: Callable[[npt.ArrayLike, tuple[int, ...], np.dtype[Any], str], Target]
    value: Callable[[Array, Target], tuple[float, Array]]


def _squared_error(O: Array, T: Target) -> tuple[float, Array]:
    D = O - T.reshape(O.shape)  # (m, U)
    m = len(O)
    loss = float(np.vdot(D, D)) / (2 * m)
    D /= m
    return loss, D


def _cross_entropy(Z: Array, T: Target) -> tuple[float, Array]:
    m = len(Z)
    Z = Z - Z.max(axis=1, keepdims=True)  # (m, classes), shifted: the largest is 0
    P = np.exp(Z)
    total = P.sum(axis=1, keepdims=True)  # (m, 1)
    P /= total  # softmax(Z)
    log_total = np.log(total)  # lse of the shifted logits
    if T.ndim == 1:  # t is 1 at the label and 0 elsewhere
        row = np.arange(m)
        loss = float((log_total[:, 0] - Z[row, T]).sum()) / m
        P[row, T] -= 1.0
    else:
        loss = float((T * (log_total - Z)).sum()) / m
        P *= T.sum(axis=1, keepdims=True)
        P -= T
    P /= m
    return loss, P


def _outputs(out: npt.ArrayLike) -> Array:
    array = rows("out", out)
    return array.astype(float_like(array), copy=False)


def _values(target: npt.ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Target:
    T = reals(name, target)
    if T.shape != shape and not (shape[1] == 1 and T.shape == shape[:1]):
        expected = f"{shape} or {shape[:1]}" if shape[1] == 1 else f"{shape}"
        raise ValueError(f"{name} must have shape {expected}, got {T.shape}")
    if len(T) == 0:
        raise ValueError(f"{name} must have at least one row, got shape {T.shape}")
    if not np.isfinite(T).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return T.astype(dtype, copy=False)


def _labels(target: npt.ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Target:
    T = reals(name, target)
    if T.shape == shape:
        return _values(T, shape, dtype, name)
    if T.shape != shape[:1]:
        raise ValueError(f"{name} must have shape {shape[:1]} or {shape}, got {T.shape}")
    if T.dtype.kind == "f":
        raise TypeError(f"{name} of shape (batch,) must hold integer labels, got {T.dtype}")
    if len(T) == 0:
        raise ValueError(f"{name} must have at least one row, got shape {T.shape}")
    if T.min() < 0 or T.max() >= shape[1]:
        raise ValueError(f"{name} must hold labels 0 .. {shape[1] - 1}, got {T.min()} .. {T.max()}")
    return T.astype(np.intp, copy=False)


LOSSES: dict[str, Loss] = {
    row.name: row
    for row in (
        Loss("squared_error", _values, _squared_error),
        Loss("cross_entropy", _labels, _cross_entropy),
    )
}


def loss_named(name: str) -> Loss:
    """Return the row of that name; ValueError lists the names."""
    if not isinstance(name, str) or name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {name!r}")
    return LOSSES[name]
