"""Loss functions by name: E, and dO = dE/dO, with which the way back begins. How each is computed is in `criteria`.

In all of them, `out` (m, U) are outputs, `target` is what they should be: (m, U) finite numbers, or (m,) if U = 1, unless a
function says otherwise; and `sample_weight` (m,) are weights of the rows, finite and at least 0. They return E, a float, and dO,
(m, U), in the dtype of `out`; ValueError and TypeError say which argument is not as it should be. `fastbp.losses` says all of it
at length.
"""

from __future__ import annotations

import numpy.typing as npt

from fastbp.checks import Array
from fastbp.loss_settings import ClassWeight
from fastbp.reference.criteria import (
    LOSSES,
    AbsoluteError,
    BinaryCrossEntropy,
    BinaryHinge,
    CrossEntropy,
    GaussianNLL,
    Hinge,
    Huber,
    LogCosh,
    Loss,
    Poisson,
    Quantile,
    SquaredError,
    Target,
    loss_named,
)

__all__ = [
    "LOSSES", "AbsoluteError", "BinaryCrossEntropy", "BinaryHinge", "CrossEntropy", "GaussianNLL", "Hinge", "Huber", "LogCosh",
    "Loss", "Poisson", "Quantile", "SquaredError", "Target", "absolute_error", "binary_cross_entropy", "binary_hinge",
    "cross_entropy", "gaussian_nll", "hinge", "huber", "log_cosh", "loss_named", "poisson", "quantile", "squared_error",
]  # fmt: skip


def squared_error(
    out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/(2m) sum (O - T)^2, dO = (O - T) / m; with weights, E = sum_i w_i/2 sum_j (o_ij - t_ij)^2 / sum_i w_i.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.squared_error([[1.0], [3.0]], [2.0, 1.0])
    >>> loss, dout.tolist()
    (1.25, [[-0.5], [1.0]])
    """
    return SquaredError()(out, target, sample_weight=sample_weight)


def absolute_error(
    out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/m sum |O - T|, dO = sign(O - T) / m; the slope at O = T is 0.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.absolute_error([[1.0], [3.0]], [2.0, 1.0])
    >>> loss, dout.tolist()
    (1.5, [[-0.5], [0.5]])
    """
    return AbsoluteError()(out, target, sample_weight=sample_weight)


def huber(
    out: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = 1.0, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/m sum of 1/2 d^2 where |d| <= delta, else delta (|d| - delta/2), d = o - t.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.huber([[1.0], [3.0]], [1.5, 0.0])
    >>> loss, dout.tolist()
    (1.3125, [[-0.25], [0.5]])
    """
    return Huber(delta=delta)(out, target, sample_weight=sample_weight)


def log_cosh(
    out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/m sum log cosh(O - T), dO = tanh(O - T) / m: near 0 a parabola, far from it |O - T| - log 2.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.log_cosh([[0.0], [3.0]], [0.0, 1.0])
    >>> round(loss, 4), dout.round(4).tolist()
    (0.6625, [[0.0], [0.482]])
    """
    return LogCosh()(out, target, sample_weight=sample_weight)


def quantile(
    out: npt.ArrayLike, target: npt.ArrayLike, *, level: float = 0.5, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/m sum max(level d, (level - 1) d), d = t - o: the pinball loss, least at a quantile.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.quantile([[1.0], [3.0]], [2.0, 1.0], level=0.75)
    >>> loss, dout.tolist()
    (0.625, [[-0.375], [0.125]])
    """
    return Quantile(level=level)(out, target, sample_weight=sample_weight)


def cross_entropy(
    out: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weight: ClassWeight = None,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[float, Array]:
    """E = 1/m sum_ij -t_ij log p_ij, p = softmax(Z), dZ = (p * sum_j t_j - t) / m.

    Integer labels (m,), or one-hot or soft ones (m, U).

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.cross_entropy([[0.0, 0.0]], [1])
    >>> round(loss, 4), dout.tolist()
    (0.6931, [[0.5, -0.5]])
    """
    return CrossEntropy(label_smoothing=label_smoothing, class_weight=class_weight)(out, target, sample_weight=sample_weight)


def binary_cross_entropy(
    out: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    class_weight: ClassWeight = None,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[float, Array]:
    """E = -1/m sum_ij t log p + (1 - t) log(1 - p), p = sigmoid(Z), dZ = (p - t) / m.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.binary_cross_entropy([[0.0], [0.0]], [1, 0])
    >>> round(loss, 4), dout.tolist()
    (0.6931, [[-0.25], [0.25]])
    """
    return BinaryCrossEntropy(class_weight=class_weight)(out, target, sample_weight=sample_weight)


def hinge(
    out: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 1.0,
    class_weight: ClassWeight = None,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[float, Array]:
    """E = 1/m sum_i sum_(j != y_i) max(0, margin + s_ij - s_iy): the multi-class support vector machine's.

    Integer labels (m,), or rows (m, U) whose largest entry is the label's.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.hinge([[1.0, 1.5, -1.0]], [0])
    >>> loss, dout.tolist()
    (1.5, [[-1.0, 1.0, 0.0]])
    """
    return Hinge(margin=margin, class_weight=class_weight)(out, target, sample_weight=sample_weight)


def binary_hinge(
    out: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    margin: float = 1.0,
    class_weight: ClassWeight = None,
    sample_weight: npt.ArrayLike | None = None,
) -> tuple[float, Array]:
    """E = 1/m sum max(0, margin - y o), y = 1 where t > 0, else -1: the support vector machine's.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.binary_hinge([[0.5], [2.0]], [1, -1])
    >>> loss, dout.tolist()
    (1.75, [[-0.5], [0.5]])
    """
    return BinaryHinge(margin=margin, class_weight=class_weight)(out, target, sample_weight=sample_weight)


def poisson(
    out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/m sum exp(Z) - T Z, dZ = (exp(Z) - T) / m: counts T, less what does not depend on Z (log T!).

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.poisson([[0.0], [0.0]], [1, 3])
    >>> loss, dout.tolist()
    (1.0, [[0.0], [-1.0]])
    """
    return Poisson()(out, target, sample_weight=sample_weight)


def gaussian_nll(
    out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/(2m) sum S + (T - M)^2 exp(-S): means M and log variances S, less the constant U/2 log(2 pi).

    out is [M S], (m, 2U), and the target (m, U).

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> loss, dout = fb.losses.gaussian_nll([[1.0, 0.0]], [3.0])
    >>> loss, dout.tolist()
    (2.0, [[-2.0, -1.5]])
    """
    return GaussianNLL()(out, target, sample_weight=sample_weight)
