"""What optimizers of the library and of the reference share: the ranges of their numbers, and how they are shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Rational
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import above_zero, boolean, fraction, positive, real_number, reals
from fastbp.sums import folded_sum


def _not_negative(name: str, value: float) -> None:
    """0 <= value < infinity; `not` makes NaN fail too."""
    if not 0.0 <= real_number(name, value) < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value}")


def _above_zero_or_none(name: str, value: float | None) -> None:
    if value is not None and not 0.0 < real_number(name, value) < math.inf:
        raise ValueError(f"{name} must be None, or above 0 and finite, got {value}")


CHECKS: dict[str, Callable[[str, Any], object]] = {
    "learning_rate": _not_negative,
    "momentum": fraction,
    "nesterov": boolean,
    "beta1": fraction,
    "beta2": fraction,
    "alpha": fraction,
    "eps": above_zero,
    "l2": _not_negative,
    "l1": _not_negative,
    "weight_decay": _not_negative,
    "decay_biases": boolean,
    "clip_norm": _above_zero_or_none,
    "clip_value": _above_zero_or_none,
    "accumulate": positive,
    "max_norm": _above_zero_or_none,
}


@dataclass(frozen=True, repr=False, kw_only=True)
class Settings:
    """The numbers of an optimizer, each with its row in `CHECKS`; here those that all optimizers have.

    What they mean is said where users meet them, by `Optimizer` of the library and of the reference.
    """

    l2: float = 0.0
    l1: float = 0.0
    decay_biases: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulate: int = 1
    max_norm: float | None = None

    def __post_init__(self) -> None:
        """Check every number, then what must not or must come together."""
        for field in fields(self):
            value = getattr(self, field.name)
            CHECKS[field.name](field.name, value)
            if isinstance(value, Rational) and not isinstance(value, Integral):
                object.__setattr__(self, field.name, float(value))  # NumPy knows no fractions
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError(
                f"clip_norm and clip_value exclude each other, got clip_norm={self.clip_norm}, clip_value={self.clip_value}"
            )
        if getattr(self, "nesterov", False) and not (momentum := getattr(self, "momentum", 0.0)):
            raise ValueError(f"nesterov must come with momentum above 0, got momentum={momentum}")

    def penalty(self, *matrices: npt.ArrayLike) -> float:
        """l2 / 2 sum W^2 + l1 sum |W|: what is added to a loss whose gradient gets l2 W + l1 sign(W).

        Parameters
        ----------
        *matrices : array-like
            All W that decay: the weights, and the biases with decay_biases. Of any shape; summed in float64, in an order
            that depends on the shapes alone.

        Returns
        -------
        float
            Weight decay has no part in it: it acts apart from the gradient.

        Examples
        --------
        >>> import fastbp as fb
        >>> fb.SGD(l2=0.5, l1=0.25).penalty([[1.0, -2.0]], [3.0])
        5.0
        """
        total = 0.0
        for matrix in matrices:
            W = reals("matrices", matrix).astype(np.float64).reshape(-1)
            if W.size and self.l2:
                total += 0.5 * self.l2 * float(folded_sum(W * W))
            if W.size and self.l1:
                total += self.l1 * float(folded_sum(np.abs(W)))
        return total

    def __repr__(self) -> str:
        """Show the call that makes it: the first number, and those that are not the default ones."""
        first, *others = sorted(fields(self), key=lambda field: bool(field.kw_only))
        shown = [first, *(field for field in others if getattr(self, field.name) != field.default)]
        return f"{type(self).__name__}({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in shown)})"
