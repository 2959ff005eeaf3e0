"""Jacobians: the derivative of every output by every input, sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.data import Arrays
from fastbp.inspect.copies import arrays_of, as_plan_takes, copy_of
from fastbp.network import Network


def jacobian(net: Network, x: Arrays) -> Any:
    """J[i, j, k] = dO[i, j] / dX[i, k]: how output j of sample i follows its input k.

    Of the function that `predict` computes: no dropout, and batch norm by running statistics, so that each sample has a Jacobian
    of its own. It takes one backward pass for each output column. The network stays as it is.

    Parameters
    ----------
    net : Model or Sequential
    x : array-like, shape (m, I), or a list of arrays for several inputs

    Returns
    -------
    ndarray, shape (m, U, I), of the network's dtype
        With several inputs a list of them, one for each input; with outputs in a list, a list of these.

    Raises
    ------
    ValueError, TypeError
        If x is not as above.

    Examples
    --------
    Of a linear layer it is the transposed weight, for every sample:

    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Input(2), fb.Dense(3, weight_init=[[1, 2, 3], [4, 5, 6]])])
    >>> fb.jacobian(net, [[0.5, -1.0]]).tolist()
    [[[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]]
    """
    X = arrays_of(net, x)
    copy = copy_of(net, trainable=False)
    outs = copy.forward(as_plan_takes(X), training=False)
    found = []
    for k, out in enumerate(outs):
        parts = [np.empty((*out.shape, part.shape[1]), out.dtype) for part in X]
        douts = [np.zeros_like(other) for other in outs]
        for j in range(out.shape[1]):
            douts[k][...] = 0
            douts[k][:, j] = 1
            for part, gradient in zip(parts, copy.backward(douts), strict=True):
                part[:, j, :] = gradient
        found.append(as_plan_takes(parts))
    return found if net._data.listed else found[0]
