"""Optimizers: how a gradient becomes a step. They see the flat vectors of a network, never a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastbp.checks import Array, real_number

BLOCK = 1 << 15  # elements updated at a time, so that the product learning_rate * v stays in cache


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: v = momentum * v + g, W = W - learning_rate * v.

    g is the gradient of one batch, and v begins at 0. The form is PyTorch's: the learning rate is outside of
    v, so changing it acts at once. With momentum 0, v is g and takes no memory.

    Parameters
    ----------
    learning_rate : float
        0 <= learning_rate < infinity.
    momentum : float
        0 <= momentum < 1: the share of the last step's direction that is kept.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    TypeError
        If it is not a real number.

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR Computational
    Mathematics and Mathematical Physics 4 (5), 1-17, 1964.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> fb.SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9)
    """

    learning_rate: float = 0.01
    momentum: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges; `not` makes NaN fail too."""
        if not 0.0 <= real_number("learning_rate", self.learning_rate) < math.inf:
            raise ValueError(f"learning_rate must be at least 0 and finite, got {self.learning_rate}")
        if not 0.0 <= real_number("momentum", self.momentum) < 1.0:
            raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum}")

    def new_state(self, params: Array) -> list[Array]:
        """Return the vectors to carry from step to step: [v] of zeros with momentum, else none."""
        return [np.zeros_like(params)] if self.momentum else []

    def update(self, params: Array, grads: Array, state: list[Array]) -> None:
        """Change `params` and `state` in place; all are flat vectors of one length."""
        step = grads
        if state:
            (v,) = state
            v *= self.momentum
            v += grads
            step = v
        for start in range(0, len(params), BLOCK):
            params[start : start + BLOCK] -= self.learning_rate * step[start : start + BLOCK]
