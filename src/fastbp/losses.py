"""Loss functions: E and dO = dE/dO, with which the way back begins. Both are means over the m rows of a batch."""

from __future__ import annotations

import numpy.typing as npt

from fastbp.checks import Array
from fastbp.graph import loss_gradient


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
    dout : ndarray, shape (m, U), dtype of `out` (float64 unless that is float32)

    Raises
    ------
    ValueError
        If the shapes do not fit, there are no rows, or a target is not finite.
    TypeError
        If an argument does not hold real numbers.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss, dout = fb.losses.squared_error([[1.0], [3.0]], [2.0, 1.0])
    >>> loss, dout.tolist()
    (1.25, [[-0.5], [1.0]])
    """
    return loss_gradient("squared_error", out, target)


def cross_entropy(out: npt.ArrayLike, target: npt.ArrayLike) -> tuple[float, Array]:
    """E = 1/m sum_ij -t_ij log p_ij, p = softmax(Z), dZ = (p * sum_j t_j - t) / m.

    Computed as -log p_j = lse - z_j with lse = log sum_k exp z_k, after taking each row's maximum from it, so that nothing
    overflows and log(0) is never asked for.

    Parameters
    ----------
    out : array-like, shape (m, U)
        Logits Z: the output of a last layer without activation.
    target : array-like
        Integer labels 0 .. U-1, shape (m,), or one-hot or soft labels t, shape (m, U).

    Returns
    -------
    loss : float
    dout : ndarray, shape (m, U), dtype of `out` (float64 unless that is float32)

    Raises
    ------
    ValueError
        If the shapes do not fit, there are no rows, a label is out of range, or a target is not finite.
    TypeError
        If `out` does not hold real numbers, or labels are not integers.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss, dout = fb.losses.cross_entropy([[0.0, 0.0]], [1])
    >>> round(loss, 4), dout.tolist()
    (0.6931, [[0.5, -0.5]])
    """
    return loss_gradient("cross_entropy", out, target)
