"""Running error bounds of the losses: E and dO of a batch. See bounds.py."""

from __future__ import annotations

import numpy as np
from bounds import FUNCTION_ULP, Bounded, Rounding, activate, shifted
from cases import Array

import fastbp.reference as ref


def ramp(X: Bounded) -> Bounded:
    """max(0, X), which is not rounded; no error at all where X + e <= 0."""
    low, value, high = (np.maximum(v, 0) for v in (X.value - X.error, X.value, X.value + X.error))
    return Bounded(value, np.maximum(high - value, value - low), X.in_)


def chosen(X: Bounded, above: Bounded, below: Bounded) -> Bounded:
    """`above` where X > 0, `below` where X < 0, 0 in between; near 0 the programs may find different ones of these."""
    value = np.where(X.value > 0, above.value, np.where(X.value < 0, below.value, 0))
    largest = np.maximum(above.most, below.most)
    either = np.maximum(np.abs(above.value - below.value), largest) + largest
    error = np.where(X.value > 0, above.error, below.error)
    return Bounded(value, np.where(np.abs(X.value) <= X.error, either, error) + 0 * value, X.in_)


def one_hot(y: Array, classes: int) -> Array:
    return np.eye(classes)[y] if y.ndim == 1 else y


def squared_error(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    D = O - T
    rows = (D * D).sum_rows()
    return Bounded(rows.value / 2, rows.error / 2, O.in_), D


def absolute_error(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    D, one = O - T, O.in_.exact(1.0)
    return Bounded(np.abs(D.value), D.error, O.in_).sum_rows(), chosen(D, one, O.in_.exact(-1.0))


def huber(O: Bounded, T: Bounded, delta: Bounded) -> tuple[Bounded, Bounded]:
    """c (|d| - c/2) has slope c by d and |d| - c by delta; it is at least c |d| / 2, of which its 3 roundings are parts."""
    D = O - T
    c = np.clip(D.value, -delta.value, delta.value)
    C = Bounded(c, np.where(np.abs(D.value) + D.error < delta.value, D.error, np.maximum(D.error, delta.error)), O.in_)
    e = c * (D.value - c / 2)
    rows = D.result(e, C.most * D.error + np.maximum(D.most - C.most, 0) * delta.error, 2 * 3)
    return rows.sum_rows(), C


def log_cosh(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    """In units of a rounding, with f = 2 FUNCTION_ULP those of a function:

    near 0, log1p(-y) with y = tanh^2 <= 1/2, or log1p(2 sinh^2): y has 2 f + 1, of which log1p makes at most 3/2 as many, and
    f + 6 its own; far from 0, the three terms are at most 5 times their sum, and have f + 3.
    """
    D, f = O - T, 2 * FUNCTION_ULP
    A = np.abs(D.value)
    e = np.where(A < 1, np.log1p(2 * np.sinh(np.minimum(A, 1) / 2) ** 2), A - np.log(2) + np.log1p(np.exp(-2 * A)))
    rows = D.result(e, np.tanh(D.most) * D.error, max(3 * f + 2 + f + 6, 5 * (f + 3)))
    return rows.sum_rows(), activate("tanh", D)


def quantile(O: Bounded, T: Bounded, level: Bounded) -> tuple[Bounded, Bounded]:
    D, below = T - O, O.in_.exact(1.0) - level
    one, other = level * D, below * D
    e = Bounded(np.maximum(one.value, -other.value), np.maximum(one.error, other.error), O.in_)
    return e.sum_rows(), chosen(D, Bounded(-level.value, level.error, O.in_), below)


def cross_entropy(O: Bounded, T: Bounded, smoothing: Bounded) -> tuple[Bounded, Bounded]:
    units = O.value.shape[1]
    if smoothing.value:
        T = T * (O.in_.exact(1.0) - smoothing) + O.in_.constant(float(smoothing.value) / units)
    S, weight = shifted(O), T.sum_rows()
    e = S.exp()
    total = e.sum_rows()
    rows = weight * total.log() - (T * S).sum_rows()
    slack = 2 * O.in_.gamma(units + 2) * (T.most * (total.log().most + S.most)).sum(axis=1, keepdims=True)
    rows = Bounded(rows.value, rows.error + slack, O.in_)  # the reference adds up T (lse - Z) instead
    return rows, e / total * weight - T


def binary_cross_entropy(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    z = O.value
    rest = O.function(np.log1p(np.exp(-np.abs(z))), np.ones_like(z) / 2)
    rest = rest.result(rest.value, rest.error, 2 * FUNCTION_ULP)  # a second function, log1p
    P = O.function(1 / (1 + np.exp(-z)), np.full_like(z, 1 / 4))
    g = P - T
    return (ramp(O) - T * O + rest).sum_rows(), g.result(g.value, g.error + 2 * O.in_.u * T.most)  # (1 - t) - p


def hinge(O: Bounded, T: Bounded, margin: Bounded) -> tuple[Bounded, Bounded]:
    row, y = np.arange(len(O.value)), T.value.argmax(axis=1)
    right = Bounded(O.value[row, y][:, None], O.error[row, y][:, None], O.in_)
    X = O - right + margin
    X.value[row, y], X.error[row, y] = -1, 0  # takes no part
    g = chosen(X, O.in_.exact(1.0), O.in_.exact(0.0))
    g.value[row, y], g.error[row, y] = -g.value.sum(axis=1), g.error.sum(axis=1)
    return ramp(X).sum_rows(), g


def binary_hinge(O: Bounded, T: Bounded, margin: Bounded) -> tuple[Bounded, Bounded]:
    Y = np.where(T.value > 0, 1.0, -1.0)
    X = margin - Bounded(Y * O.value, O.error, O.in_)
    step = chosen(X, O.in_.exact(1.0), O.in_.exact(0.0))
    return ramp(X).sum_rows(), Bounded(-Y * step.value, step.error, O.in_)


def poisson(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    rate = O.exp()
    return (rate - T * O).sum_rows(), rate - T


def gaussian_nll(O: Bounded, T: Bounded, _: Bounded) -> tuple[Bounded, Bounded]:
    units, half = T.value.shape[1], O.in_.exact(0.5)
    mean, S = (Bounded(O.value[:, part], O.error[:, part], O.in_) for part in (slice(0, units), slice(units, None)))
    q = Bounded(-S.value / 4, S.error / 4, O.in_).exp()
    D = mean - T
    none = (D.value == 0) & (mean.error == 0)  # a residual of exactly 0 is none, however small the variance
    R, dmean = (Bounded(np.where(none, 0, X.value), np.where(none, 0, X.error), O.in_) for X in (D * q * q, D * q * q * q * q))
    dS = half * (O.in_.exact(1.0) - R * R)
    g = Bounded(np.hstack([dmean.value, dS.value]), np.hstack([dmean.error, dS.error]), O.in_)
    return (half * (S + R * R)).sum_rows(), g


# Of one row: e, as a column, and de/do.
LOSSES = {
    f.__name__: f
    for f in (
        squared_error, cross_entropy, absolute_error, huber, log_cosh, quantile, binary_cross_entropy, hinge, binary_hinge,
        poisson, gaussian_nll,
    )
}  # fmt: skip


def bounded_loss(
    name: str, O: Bounded, y: Array, parameter: float | None = None, weights: Array | None = None
) -> tuple[Bounded, Bounded]:
    """E and dO. Sums over the batch are made in float64 by both programs."""
    m, units = O.value.shape
    usual = ref.losses.loss_named(name).parameter
    a = O.in_.constant((usual or 0.0) if parameter is None else parameter)
    labels = name in ("cross_entropy", "hinge")
    rows, slope = LOSSES[name](O, O.in_.exact(one_hot(y, units) if labels else y.reshape(m, -1)), a)
    wide = Rounding("float64")
    w = np.ones(m) if weights is None else weights
    scale = w / w.sum()
    error = (O.in_.u + (0 if weights is None else wide.gamma(m + 3))) * scale
    own = wide.gamma(m * units + m + 4) * float((scale * rows.most[:, 0]).sum())
    E = Bounded((scale * rows.value[:, 0]).sum(), (scale * rows.error[:, 0]).sum() + own, O.in_)
    return E, slope * Bounded(scale[:, None], error[:, None], O.in_)
