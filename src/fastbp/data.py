"""Arrays for a plan: one or several inputs, one or several outputs, and the weights of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from fastbp._fastbp_core import Plan
from fastbp.categories import check_categories
from fastbp.checks import reals
from fastbp.heads import Head, Weights

Arrays = npt.ArrayLike | Sequence[npt.ArrayLike]  # a list where a network has several inputs or outputs


@dataclass(frozen=True)
class Data:
    """What a network takes and gives. Shapes are the plan's to check.

    Attributes
    ----------
    inputs, outputs : int
        How many there are.
    listed : bool
        Whether outputs, targets and the like come in lists, even if there is one only.
    heads : tuple of Head
        Each output's loss; empty without losses.
    categories : tuple of (int, slice, int)
        For each embedding of an input: which input, the columns of it, and how many categories there are.
    """

    inputs: int
    outputs: int
    listed: bool
    heads: tuple[Head, ...]
    categories: tuple[tuple[int, slice, int], ...]

    def arguments(self, x: tuple[npt.ArrayLike, ...]) -> Any:
        """Return the arguments of `forward` as a plan takes them."""
        if len(x) != self.inputs:
            raise ValueError(f"x must be as many arrays as there are inputs, {self.inputs}, got {len(x)}")
        return x if self.inputs > 1 else x[0]

    def x(self, name: str, x: Any) -> Any:
        """Return inputs as a plan takes them: an array, or a list of arrays for several inputs."""
        return reals(name, x) if self.inputs == 1 else _each(name, x, self.inputs, "input")

    def check(self, plan: Plan, x: Any, y: Any, x_name: str, y_name: str) -> int:
        """Raise what training on (x, y) would raise, before anything has changed; return the number of rows."""
        n = plan.check(x, y, x_name, y_name)
        for i, columns, count in self.categories:
            name = x_name if self.inputs == 1 else f"{x_name}[{i}]"
            part = x if self.inputs == 1 else x[i]
            check_categories(name, part.reshape(n, -1)[:, columns], count)
        return n

    def y(self, name: str, y: Any) -> Any:
        """Return targets, or gradients of outputs, as a plan takes them: an array, or a list of arrays for several outputs."""
        if not self.listed:
            return reals(name, y)
        parts = _each(name, y, self.outputs, "output")
        return parts if self.outputs > 1 else parts[0]

    def out(self, out: Any) -> Any:
        """Return what a plan gave as the user wants it: an array, or a list of them."""
        return [out] if self.listed and self.outputs == 1 else out

    def weights(self, y: Any, sample_weight: npt.ArrayLike | None, name: str = "y") -> Weights | None:
        """Return the weight of every row from those of its sample and its class, float64 (n,); None if all are 1."""
        found = [
            head.row_weights(target, sample_weight, name)
            for head, target in zip(self.heads, [y] if self.outputs == 1 else y, strict=True)
        ]
        return found[0]


def _each(name: str, value: Any, count: int, what: str) -> list[npt.NDArray[Any]]:
    """Return a list of arrays, one for each input or output, or raise."""
    if not isinstance(value, (list, tuple)) or len(value) != count:
        came = f"{len(value)} of them" if isinstance(value, (list, tuple)) else type(value).__name__
        raise ValueError(f"{name} must be a list of arrays, one for each {what}, {count}, got {came}")
    return [reals(f"{name}[{i}]", part) for i, part in enumerate(value)]
