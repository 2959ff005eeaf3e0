"""Loss functions: E and dO = dE/dO, with which the way back begins; and the descriptions that networks take.

E = sum_i w_i e_i / sum_i w_i over the m rows of a batch: e_i is a sum over the columns, w_i is 1, or sample_weight. So E is a
mean over the rows. A row is summed in the dtype of `out`; where that cannot hold its loss, in float64. Slopes at kinks are those
of PyTorch. What `squared_error` returns and raises, all of them do.
"""

from __future__ import annotations

import numpy.typing as npt

from fastbp.checks import Array
from fastbp.criteria import (
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
    loss_named,
)
from fastbp.loss_settings import ClassWeight

__all__ = [
    "LOSSES", "AbsoluteError", "BinaryCrossEntropy", "BinaryHinge", "CrossEntropy", "GaussianNLL", "Hinge", "Huber", "LogCosh",
    "Loss", "Poisson", "Quantile", "SquaredError", "absolute_error", "binary_cross_entropy", "binary_hinge", "cross_entropy",
    "gaussian_nll", "hinge", "huber", "log_cosh", "loss_named", "poisson", "quantile", "squared_error",
]  # fmt: skip


def squared_error(
    out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/(2m) sum (O - T)^2, dO = (O - T) / m; with weights, E = sum_i w_i/2 sum_j (o_ij - t_ij)^2 / sum_i w_i.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Outputs O of a network.
    target : array-like, shape (m, U), or (m,) if U = 1
        What they should be; finite.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    Returns
    -------
    loss : float
    dout : ndarray, shape (m, U), dtype of `out` (float64 unless that is float32)

    Raises
    ------
    ValueError
        If the shapes do not fit, there are no rows, a target is not finite, or a label, weight or setting is out of range.
    TypeError
        If an argument does not hold real numbers, or labels are not integers.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss, dout = fb.losses.squared_error([[1.0], [3.0]], [2.0, 1.0])
    >>> loss, dout.tolist()
    (1.25, [[-0.5], [1.0]])
    """
    return SquaredError()(out, target, sample_weight=sample_weight)


def absolute_error(
    out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/m sum |O - T|, dO = sign(O - T) / m; the slope at O = T is 0.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Outputs O of a network.
    target : array-like, shape (m, U), or (m,) if U = 1
        What they should be; finite.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss, dout = fb.losses.absolute_error([[1.0], [3.0]], [2.0, 1.0])
    >>> loss, dout.tolist()
    (1.5, [[-0.5], [0.5]])
    """
    return AbsoluteError()(out, target, sample_weight=sample_weight)


def huber(
    out: npt.ArrayLike, target: npt.ArrayLike, *, delta: float = 1.0, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/m sum of 1/2 d^2 where |d| <= delta, else delta (|d| - delta/2), d = o - t.

    dO = d / m, limited to -delta/m .. delta/m: large errors pull no harder than delta [1]_.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Outputs O of a network.
    target : array-like, shape (m, U), or (m,) if U = 1
        What they should be; finite.
    delta : float
        0 < delta < infinity.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    References
    ----------
    .. [1] P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1), 73-101, 1964.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss, dout = fb.losses.huber([[1.0], [3.0]], [1.5, 0.0])
    >>> loss, dout.tolist()
    (1.3125, [[-0.25], [0.5]])
    """
    return Huber(delta=delta)(out, target, sample_weight=sample_weight)


def log_cosh(
    out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/m sum log cosh(O - T), dO = tanh(O - T) / m: near 0 a parabola, far from it |O - T| - log 2.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Outputs O of a network.
    target : array-like, shape (m, U), or (m,) if U = 1
        What they should be; finite.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss, dout = fb.losses.log_cosh([[0.0], [3.0]], [0.0, 1.0])
    >>> round(loss, 4), dout.round(4).tolist()
    (0.6625, [[0.0], [0.482]])
    """
    return LogCosh()(out, target, sample_weight=sample_weight)


def quantile(
    out: npt.ArrayLike, target: npt.ArrayLike, *, level: float = 0.5, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/m sum max(level d, (level - 1) d), d = t - o: the pinball loss, least at a quantile [1]_.

    dO = -level / m where o < t, (1 - level) / m where o > t; 0 at o = t.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Outputs O of a network.
    target : array-like, shape (m, U), or (m,) if U = 1
        What they should be; finite.
    level : float
        0 < level < 1: the share of targets that is to lie below the output. 1/2 is half the absolute error: the median.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    References
    ----------
    .. [1] R. Koenker and G. Bassett, "Regression quantiles", Econometrica 46 (1), 33-50, 1978.

    Examples
    --------
    >>> import fastbp as fb
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

    Computed as -log p_j = lse - z_j with lse = log sum_k exp z_k, after taking each row's maximum from it, so that nothing
    overflows and log(0) is never asked for.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Logits Z: the output of a last layer without activation.
    target : array-like
        Integer labels 0 .. U-1, shape (m,), or one-hot or soft labels t, shape (m, U).
    label_smoothing : float
        0 <= label_smoothing < 1: t becomes t (1 - label_smoothing) + label_smoothing / U [1]_.
    class_weight : mapping, array-like, "balanced" or None
        Weights of classes, see `CrossEntropy`; labels are integers or one-hot then.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    References
    ----------
    .. [1] C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna, "Rethinking the Inception architecture for computer
       vision", CVPR 2016, arXiv:1512.00567.

    Examples
    --------
    >>> import fastbp as fb
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

    Each column is a yes or no of its own. Computed as max(0, z) - t z + log(1 + exp(-|z|)), which never overflows.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Logits Z: the output of a last layer without activation.
    target : array-like, shape (m, U), or (m,) if U = 1
        Probabilities t, 0 to 1.
    class_weight : mapping, array-like, "balanced" or None
        Weights of the classes 0 and 1 of one column, or of one-hot rows, see `CrossEntropy`.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    Examples
    --------
    >>> import fastbp as fb
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
    """E = 1/m sum_i sum_(j != y_i) max(0, margin + s_ij - s_iy): the multi-class support vector machine's [1]_.

    dS has [margin + s_j - s_y > 0] / m in column j, and what balances them in column y. A margin met exactly has slope 0.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Scores S: the output of a last layer without activation.
    target : array-like
        Integer labels y 0 .. U-1, shape (m,), or rows whose largest entry is at y, shape (m, U).
    margin : float
        0 <= margin < infinity.
    class_weight : mapping, array-like, "balanced" or None
        Weights of classes, see `CrossEntropy`; labels are integers or one-hot then.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    References
    ----------
    .. [1] J. Weston and C. Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999.

    Examples
    --------
    >>> import fastbp as fb
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
    """E = 1/m sum max(0, margin - y o), y = 1 where t > 0, else -1: the support vector machine's [1]_.

    dO = -y / m where margin - y o > 0, else 0. Targets may be 0 and 1, or -1 and 1.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Scores O: the output of a last layer without activation.
    target : array-like, shape (m, U), or (m,) if U = 1
        Above 0 for the positive class; finite.
    margin : float
        0 <= margin < infinity.
    class_weight : mapping, array-like, "balanced" or None
        Weights of the classes 0 (or -1) and 1 of one column, see `CrossEntropy`.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    References
    ----------
    .. [1] C. Cortes and V. Vapnik, "Support-vector networks", Machine Learning 20, 273-297, 1995.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss, dout = fb.losses.binary_hinge([[0.5], [2.0]], [1, -1])
    >>> loss, dout.tolist()
    (1.75, [[-0.5], [0.5]])
    """
    return BinaryHinge(margin=margin, class_weight=class_weight)(out, target, sample_weight=sample_weight)


def poisson(
    out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/m sum exp(Z) - T Z, dZ = (exp(Z) - T) / m: counts T, less what does not depend on Z (log T!).

    Parameters
    ----------
    out : array-like, shape (m, U)
        Logarithms Z of the expected counts: the output of a last layer without activation.
    target : array-like, shape (m, U), or (m,) if U = 1
        Counts; finite, at least 0.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss, dout = fb.losses.poisson([[0.0], [0.0]], [1, 3])
    >>> loss, dout.tolist()
    (1.0, [[0.0], [-1.0]])
    """
    return Poisson()(out, target, sample_weight=sample_weight)


def gaussian_nll(
    out: npt.ArrayLike, target: npt.ArrayLike, *, sample_weight: npt.ArrayLike | None = None
) -> tuple[float, Array]:
    """E = 1/(2m) sum S + (T - M)^2 exp(-S): means M and log variances S, less the constant U/2 log(2 pi) [1]_.

    dM = (M - T) exp(-S) / m, dS = (1 - (T - M)^2 exp(-S)) / (2m).

    Parameters
    ----------
    out : array-like, shape (m, 2U)
        M, then S: the output of a last layer of 2U units without activation.
    target : array-like, shape (m, U), or (m,) if U = 1
        Observations; finite.
    sample_weight : array-like, shape (m,), optional
        Weights of the rows; finite, at least 0.

    References
    ----------
    .. [1] D. A. Nix and A. S. Weigend, "Estimating the mean and variance of the target probability distribution", ICNN 1994.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss, dout = fb.losses.gaussian_nll([[1.0, 0.0]], [3.0])
    >>> loss, dout.tolist()
    (2.0, [[-2.0, -1.5]])
    """
    return GaussianNLL()(out, target, sample_weight=sample_weight)
