# ruff: noqa: E741 - O is the field's letter for an output
"""What each loss computes: e, one number for each row of a batch, and its derivative by the row.

E = sum_i w_i e_i / sum_i w_i, a mean over the m rows, so gradients do not grow with the batch. The weights w_i are 1 unless there
are sample or class weights; if all are 0, so are E and dO. Everything here is computed in float64, whatever the network's dtype:
what a float32 can be far from its target, squared, is more than a float32 holds. dO is rounded to the network's dtype in the end.

Each loss comes in two parts: bring the target into one known form (which may fail), then the formula (which may not).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, float_like, reals, rows
from fastbp.loss_settings import ClassLossSettings, LossSettings, Weights

Target = npt.NDArray[Any]  # float (m, U), or for cross-entropy and hinge also integer labels (m,)
Wide = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False, kw_only=True)
class Loss(LossSettings):
    """A loss: a callable (out, target) -> (E, dO), with the parts a network uses.

    Attributes
    ----------
    row : str
        Its name in the table.
    parameter : float or None
        The number it takes, if it takes one.
    class_weight
        Weights of its classes, if its targets are classes.
    between : tuple of float
        The least and the largest target there may be.
    """

    between: ClassVar[tuple[float, float]] = (-np.inf, np.inf)

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """Return e (m,) and de/dO (m, U): the formula. Changes neither O nor T."""
        raise NotImplementedError

    def target(self, y: npt.ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Target:
        """Return `y`, called `name` in messages, as a target of outputs of that shape, rounded to `dtype`; or raise."""
        return _values(y, shape, dtype, name, self.between)

    def value(self, O: Array, T: Target, weights: Weights | None = None) -> tuple[float, Array]:
        """Return (E, dO) for outputs O, any rows of such a target, and the weights of these rows, 1 if left out."""
        with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are answers, too
            e, dO = self.rows(O.astype(np.float64), T.astype(np.float64) if T.dtype.kind == "f" else T)
            w = np.ones(len(O)) if weights is None else weights
            total = w.sum()
            if total == 0:
                return 0.0, np.zeros_like(O)
            return float((w * e).sum() / total), (dO * (w / total)[:, None]).astype(O.dtype)

    def __call__(
        self, out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
    ) -> tuple[float, Array]:
        """Return (E, dO); see `losses` for what the arguments are."""
        array = rows("out", out)
        O = array.astype(float_like(array), copy=False)
        T = self.target(target, O.shape, O.dtype, "target")
        return self.value(O, T, self.row_weights(target, sample_weight))


@dataclass(frozen=True, repr=False, kw_only=True)
class ClassLoss(ClassLossSettings, Loss):
    """A loss whose targets are classes, which may have weights."""


@dataclass(frozen=True, repr=False, kw_only=True)
class SquaredError(Loss):
    """e = 1/2 sum_j (o_j - t_j)^2."""

    row: ClassVar[str] = "squared_error"

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """de/do = o - t."""
        D = O - T.reshape(O.shape)
        return (D * D).sum(axis=1) / 2, D


@dataclass(frozen=True, repr=False, kw_only=True)
class CrossEntropy(ClassLoss):
    """e = -sum_j t_j log p_j, p = softmax(z), of logits z.

    The target t has first lost label_smoothing of itself, which is spread over all classes.
    """

    row: ClassVar[str] = "cross_entropy"

    label_smoothing: float = 0.0

    def target(self, y: npt.ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Target:
        """Labels (m,), or weights of the classes (m, classes)."""
        return _labels(y, shape, dtype, name)

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """-log p_j = lse - z_j, lse = log sum_k exp z_k; de/dz = p sum_j t_j - t."""
        classes = O.shape[1]
        Z = O - O.max(axis=1, keepdims=True)  # (m, classes), shifted: the largest is 0, so that nothing overflows
        P = np.exp(Z)
        total = P.sum(axis=1, keepdims=True)  # (m, 1)
        P /= total  # softmax(z)
        if T.ndim == 1:  # a label stands for a one-hot row
            T = np.eye(classes)[T]
        T = T * (1 - self.label_smoothing) + self.label_smoothing / classes
        terms = np.where(T == 0, 0, T * (np.log(total) - Z))  # a class of probability 0 may have z = -inf
        return terms.sum(axis=1), P * T.sum(axis=1, keepdims=True) - T


@dataclass(frozen=True, repr=False, kw_only=True)
class AbsoluteError(Loss):
    """e = sum_j |o_j - t_j|."""

    row: ClassVar[str] = "absolute_error"

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """de/do = the sign of o - t, 0 at the kink."""
        D = O - T.reshape(O.shape)
        return np.abs(D).sum(axis=1), np.sign(D)


@dataclass(frozen=True, repr=False, kw_only=True)
class Huber(Loss):
    """e = sum_j 1/2 d_j^2 where |d_j| <= delta, and the tangent from there on, delta (|d_j| - delta/2); d = o - t."""

    row: ClassVar[str] = "huber"

    delta: float = 1.0

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """With c = d limited to -delta .. delta, e = sum c (d - c/2), and de/do = c."""
        D = O - T.reshape(O.shape)
        C = np.clip(D, -self.delta, self.delta)
        return (C * (D - C / 2)).sum(axis=1), C


@dataclass(frozen=True, repr=False, kw_only=True)
class LogCosh(Loss):
    """e = sum_j log cosh(o_j - t_j)."""

    row: ClassVar[str] = "log_cosh"

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """de/do = tanh(o - t).

        Far from 0, log cosh d = |d| - log 2 + log(1 + exp(-2|d|)), which does not overflow; near 0, where little is left of
        that difference, cosh d = 1 + 2 sinh^2(d/2).
        """
        D = O - T.reshape(O.shape)
        A = np.abs(D)
        near = np.log1p(2 * np.sinh(np.minimum(A, 1) / 2) ** 2)
        far = A - np.log(2) + np.log1p(np.exp(-2 * A))
        return np.where(A < 1, near, far).sum(axis=1), np.tanh(D)


@dataclass(frozen=True, repr=False, kw_only=True)
class Quantile(Loss):
    """e = sum_j max(level d_j, (level - 1) d_j), d = t - o: the pinball loss."""

    row: ClassVar[str] = "quantile"

    level: float = 0.5

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """de/do = -level where o is too low, 1 - level where it is too high, 0 at the kink."""
        D = T.reshape(O.shape) - O
        slope = np.where(D > 0, -self.level, np.where(D < 0, 1 - self.level, D))
        return np.maximum(self.level * D, (self.level - 1) * D).sum(axis=1), slope


@dataclass(frozen=True, repr=False, kw_only=True)
class BinaryCrossEntropy(ClassLoss):
    """e = -sum_j t_j log p_j + (1 - t_j) log(1 - p_j), p = sigmoid(z): each column is a yes or no of its own."""

    row: ClassVar[str] = "binary_cross_entropy"
    between: ClassVar[tuple[float, float]] = (0.0, 1.0)
    one_column: ClassVar[bool] = True

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """-log p = log(1 + exp(-z)), -log(1 - p) = z - log p; with |z| for z nothing overflows. de/dz = p - t."""
        T = T.reshape(O.shape)
        small = np.exp(-np.abs(O))
        P = np.where(O < 0, small, 1) / (1 + small)  # sigmoid(z)
        return (np.maximum(O, 0) - T * O + np.log1p(small)).sum(axis=1), P - T


@dataclass(frozen=True, repr=False, kw_only=True)
class Hinge(ClassLoss):
    """e = sum_(j != y) max(0, margin + s_j - s_y), of scores s and the right class y."""

    row: ClassVar[str] = "hinge"

    margin: float = 1.0

    def target(self, y: npt.ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Target:
        """Labels (m,); rows (m, classes) have theirs at the largest entry."""
        T = _labels(y, shape, dtype, name)
        return T if T.ndim == 1 else T.argmax(axis=1)

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """de/ds_j = 1 where the margin is missed, 0 where it is met, even exactly; de/ds_y = minus the number of misses."""
        row = np.arange(len(O))
        X = O - O[row, T][:, None] + self.margin
        X[row, T] = 0
        missed = np.where(X > 0, 1, np.where(X <= 0, 0, X))  # else NaN, which stays
        missed[row, T] = -missed.sum(axis=1)
        return np.maximum(X, 0).sum(axis=1), missed


@dataclass(frozen=True, repr=False, kw_only=True)
class BinaryHinge(ClassLoss):
    """e = sum_j max(0, margin - y_j o_j), y_j = 1 where t_j > 0, else -1."""

    row: ClassVar[str] = "binary_hinge"
    one_column: ClassVar[bool] = True
    signs: ClassVar[bool] = True

    margin: float = 1.0

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """de/do = -y where the margin is missed, 0 where it is met, even exactly."""
        Y = np.where(T.reshape(O.shape) > 0, 1.0, -1.0)
        X = self.margin - Y * O
        return np.maximum(X, 0).sum(axis=1), np.where(X > 0, -Y, np.where(X <= 0, 0, X))


@dataclass(frozen=True, repr=False, kw_only=True)
class Poisson(Loss):
    """e = sum_j exp(z_j) - t_j z_j, z the logarithm of the expected count; log(t!), which does not depend on z, is left out."""

    row: ClassVar[str] = "poisson"
    between: ClassVar[tuple[float, float]] = (0.0, np.inf)

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """de/dz = exp(z) - t."""
        T = T.reshape(O.shape)
        rate = np.exp(O)
        return (rate - T * O).sum(axis=1), rate - T


@dataclass(frozen=True, repr=False, kw_only=True)
class GaussianNLL(Loss):
    """e = 1/2 sum_j s_j + (mu_j - t_j)^2 exp(-s_j), outputs [mu s]: U means, then U logarithms of variances."""

    row: ClassVar[str] = "gaussian_nll"

    def target(self, y: npt.ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Target:
        """Return (m, U) for outputs (m, 2U)."""
        if shape[1] % 2:
            raise ValueError(f"gaussian_nll needs an even number of outputs, means and then log variances, got {shape[1]}")
        return _values(y, (shape[0], shape[1] // 2), dtype, name)

    def rows(self, O: Wide, T: Target) -> tuple[Wide, Wide]:
        """With the residual r = (mu - t) exp(-s/2): de/dmu = r exp(-s/2), de/ds = 1/2 (1 - r^2)."""
        mean, S = np.split(O, 2, axis=1)
        D = mean - T.reshape(mean.shape)
        inverse = np.exp(-S / 2)  # 1 / deviation
        R = np.where(D == 0, 0 * S, D * inverse)  # a residual of 0 is none, however small the deviation
        dmean = np.where(D == 0, 0 * S, R * inverse)
        return ((S + R * R) / 2).sum(axis=1), np.hstack([dmean, (1 - R * R) / 2])


LOSSES: dict[str, type[Loss]] = {
    cls.row: cls
    for cls in (
        SquaredError, CrossEntropy, AbsoluteError, Huber, LogCosh, Quantile, BinaryCrossEntropy, Hinge, BinaryHinge, Poisson,
        GaussianNLL,
    )
}  # fmt: skip


def loss_named(loss: str | Loss) -> Loss:
    """Return the loss of that name with its usual settings, or a description as it is; ValueError lists the names."""
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss must be a name or a description, as losses.Huber(delta=2.0), got {loss!r}")
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    return LOSSES[loss]()


def _values(
    target: npt.ArrayLike,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    name: str,
    between: tuple[float, float] = Loss.between,
) -> Target:
    T = reals(name, target)
    if T.shape != shape and not (shape[1] == 1 and T.shape == shape[:1]):
        expected = f"{shape} or {shape[:1]}" if shape[1] == 1 else f"{shape}"
        raise ValueError(f"{name} must have shape {expected}, got {T.shape}")
    if len(T) == 0:
        raise ValueError(f"{name} must have at least one row, got shape {T.shape}")
    if not np.isfinite(T).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    least, most = between
    if T.min() < least or T.max() > most:
        allowed = f"at least {least:g}" if most == np.inf else f"from {least:g} to {most:g}"
        raise ValueError(f"{name} must be {allowed}, got {T.min():g} to {T.max():g}")
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
