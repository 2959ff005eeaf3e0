"""Optimizers: descriptions; the arithmetic is a row of the table in csrc/kernels/optimizer.h."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastbp.checks import real_number


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: v = momentum * v + g, W = W - learning_rate * v.

    g is the gradient of one batch, and v begins at 0. The form is PyTorch's: the learning rate is outside of v, so changing
    it acts at once. With momentum 0, v is g and takes no memory.

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
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR Computational Mathematics and
    Mathematical Physics 4 (5), 1-17, 1964.

    Examples
    --------
    >>> import fastbp as fb
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

    @property
    def row(self) -> str:
        """Name of its row in the table of optimizers."""
        return "momentum" if self.momentum else "sgd"

    @property
    def hyper(self) -> tuple[float, ...]:
        """Numbers the row takes."""
        return (-self.learning_rate, self.momentum)
