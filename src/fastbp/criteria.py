"""Descriptions of losses: which row of the table in csrc/kernels/loss.h, and its settings. `losses` has them, and functions.

E = sum_i w_i e_i / sum_i w_i over the m rows of a batch, where e_i is a sum over the columns and w_i, 1 by default, is the row's
weight: sample_weight times the weight of its class. Rows whose weights are all 0 have E = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy.typing as npt

from fastbp.checks import Array
from fastbp.graph import loss_gradient
from fastbp.loss_settings import ClassLossSettings, LossSettings


@dataclass(frozen=True, repr=False, kw_only=True)
class Loss(LossSettings):
    """A loss: a callable (out, target) -> (E, dE/dout).

    Attributes
    ----------
    row : str
        Its name in the table of losses.
    parameter : float or None
        The number it takes, if it takes one.
    class_weight
        Weights of its classes, if its targets are classes: None, "balanced", a tuple with one for each class, or a tuple of pairs
        (label, weight), which a mapping becomes.
    """

    def __call__(
        self, out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
    ) -> tuple[float, Array]:
        """Return E and dE/dout, shape (m, U), in the dtype of `out` (float64 unless that is float32).

        Parameters
        ----------
        out : array-like, shape (m, U)
            Outputs of a network.
        target : array-like
            What they should be; finite. See each loss.
        sample_weight : array-like, shape (m,), optional
            Weights of the rows; finite, at least 0.

        Raises
        ------
        ValueError
            If the shapes do not fit, there are no rows, a target is not finite, or a weight or label is out of range.
        TypeError
            If an argument does not hold real numbers, or labels are not integers.
        """
        return loss_gradient(self.row, out, target, self.row_weights(target, sample_weight), self.parameter)


@dataclass(frozen=True, repr=False, kw_only=True)
class ClassLoss(ClassLossSettings, Loss):
    """A loss whose targets are classes."""


@dataclass(frozen=True, repr=False, kw_only=True)
class SquaredError(Loss):
    """e = 1/2 sum_j (o_j - t_j)^2, so that E = 1/(2m) sum (O - T)^2. See `losses.squared_error`."""

    row: ClassVar[str] = "squared_error"


@dataclass(frozen=True, repr=False, kw_only=True)
class AbsoluteError(Loss):
    """e = sum_j |o_j - t_j|. See `losses.absolute_error`."""

    row: ClassVar[str] = "absolute_error"


@dataclass(frozen=True, repr=False, kw_only=True)
class Huber(Loss):
    """e = sum_j 1/2 d_j^2 where |d_j| <= delta, else delta (|d_j| - delta/2), d = o - t. See `losses.huber`.

    Parameters
    ----------
    delta : float
        0 < delta < infinity.

    Raises
    ------
    ValueError, TypeError
        If delta is out of range, or no real number.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.losses.Huber(delta=0.5)([[0.0], [4.0]], [0.25, 0.0], sample_weight=[1, 0])[0]
    0.03125
    """

    row: ClassVar[str] = "huber"

    delta: float = 1.0


@dataclass(frozen=True, repr=False, kw_only=True)
class LogCosh(Loss):
    """e = sum_j log cosh(o_j - t_j). See `losses.log_cosh`."""

    row: ClassVar[str] = "log_cosh"


@dataclass(frozen=True, repr=False, kw_only=True)
class Quantile(Loss):
    """e = sum_j max(level d_j, (level - 1) d_j), d = t - o: the pinball loss. See `losses.quantile`.

    Parameters
    ----------
    level : float
        0 < level < 1: the share of targets that is to lie below the output.

    Raises
    ------
    ValueError, TypeError
        If level is out of range, or no real number.
    """

    row: ClassVar[str] = "quantile"

    level: float = 0.5


@dataclass(frozen=True, repr=False, kw_only=True)
class CrossEntropy(ClassLoss):
    """e = -sum_j t_j log p_j, p = softmax(z), of logits z. See `losses.cross_entropy`.

    Parameters
    ----------
    label_smoothing : float
        0 <= label_smoothing < 1: this share of every target is spread evenly over all classes.
    class_weight : mapping, array-like, "balanced" or None
        Weights of classes: {label: weight}, 1 for those left out; or one for each class; or m / (classes * count). Targets must
        be integers or one-hot then.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range, or of the wrong type.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss = fb.losses.CrossEntropy(class_weight={1: 3.0})
    >>> loss.row_weights([0, 1, 1]).tolist()
    [1.0, 3.0, 3.0]
    >>> loss([[0.0, 0.0], [0.0, 0.0]], [0, 1])[1].tolist()
    [[-0.125, 0.125], [0.375, -0.375]]
    """

    row: ClassVar[str] = "cross_entropy"

    label_smoothing: float = 0.0


@dataclass(frozen=True, repr=False, kw_only=True)
class BinaryCrossEntropy(ClassLoss):
    """e = -sum_j t_j log p_j + (1 - t_j) log(1 - p_j), p = sigmoid(z), of logits z. See `losses.binary_cross_entropy`.

    Parameters
    ----------
    class_weight : mapping, array-like, "balanced" or None
        As for `CrossEntropy`; one output has the classes 0 and 1, several need one-hot targets.

    Raises
    ------
    ValueError, TypeError
        If class_weight is out of range, or of the wrong type.
    """

    row: ClassVar[str] = "binary_cross_entropy"
    one_column: ClassVar[bool] = True


@dataclass(frozen=True, repr=False, kw_only=True)
class Hinge(ClassLoss):
    """e = sum_(j != y) max(0, margin + s_j - s_y), of scores s and the right class y. See `losses.hinge`.

    Parameters
    ----------
    margin : float
        0 <= margin < infinity.
    class_weight : mapping, array-like, "balanced" or None
        As for `CrossEntropy`.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range, or of the wrong type.
    """

    row: ClassVar[str] = "hinge"

    margin: float = 1.0


@dataclass(frozen=True, repr=False, kw_only=True)
class BinaryHinge(ClassLoss):
    """e = sum_j max(0, margin - y_j o_j), y_j = 1 where t_j > 0, else -1. See `losses.binary_hinge`.

    Parameters
    ----------
    margin : float
        0 <= margin < infinity.
    class_weight : mapping, array-like, "balanced" or None
        As for `BinaryCrossEntropy`; class 0, the negative one, may also be called -1.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range, or of the wrong type.
    """

    row: ClassVar[str] = "binary_hinge"
    one_column: ClassVar[bool] = True
    signs: ClassVar[bool] = True

    margin: float = 1.0


@dataclass(frozen=True, repr=False, kw_only=True)
class Poisson(Loss):
    """e = sum_j exp(z_j) - t_j z_j, z the logarithm of the expected count. See `losses.poisson`."""

    row: ClassVar[str] = "poisson"


@dataclass(frozen=True, repr=False, kw_only=True)
class GaussianNLL(Loss):
    """e = 1/2 sum_j s_j + (t_j - mu_j)^2 exp(-s_j), outputs [mu s]: means, log variances. See `losses.gaussian_nll`."""

    row: ClassVar[str] = "gaussian_nll"


LOSSES: dict[str, type[Loss]] = {
    cls.row: cls
    for cls in (
        SquaredError, CrossEntropy, AbsoluteError, Huber, LogCosh, Quantile, BinaryCrossEntropy, Hinge, BinaryHinge, Poisson,
        GaussianNLL,
    )
}  # fmt: skip


def loss_named(loss: str | Loss) -> Loss:
    """Return the loss of that name with its usual settings, or a description as it is.

    Raises
    ------
    ValueError
        If there is none of that name; it lists the names.
    TypeError
        If it is neither a name nor a description.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss must be a name or a description, as losses.Huber(delta=2.0), got {loss!r}")
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    return LOSSES[loss]()
