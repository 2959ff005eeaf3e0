"""Arrays for a network: one or several inputs, one or several outputs, and the weights of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.categories import check_categories
from fastbp.checks import Array, reals, rows
from fastbp.loss_settings import Weights
from fastbp.reference.heads import Head
from fastbp.reference.losses import Target
from fastbp.values import Value

Arrays = npt.ArrayLike | Sequence[npt.ArrayLike]  # a list where a network has several inputs or outputs
AnyArray = npt.NDArray[Any]


@dataclass(frozen=True)
class Data:
    """What a network takes and gives.

    Attributes
    ----------
    inputs, outputs : tuple of Value
    heads : tuple of Head
        Each output's loss; empty without losses.
    listed : bool
        Whether outputs, targets and the like come in lists, even if there is one only.
    dtype : dtype
    categories : tuple of (int, slice, int)
        For each embedding that stands on an input: which, the columns of it, and how many categories V there are.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    heads: tuple[Head, ...]
    listed: bool
    dtype: np.dtype[Any]
    categories: tuple[tuple[int, slice, int], ...]

    def x(self, name: str, x: Any) -> list[AnyArray]:
        """Return an array (m, I) for each input, of any real dtype, or raise; an array, or a list if there are several."""
        return self.arguments(name, [x] if len(self.inputs) == 1 else _several(name, x, len(self.inputs), "input"))

    def arguments(self, name: str, x: Sequence[Any]) -> list[AnyArray]:
        """Return the same, for a list in any case; numbers and vectors become columns where an input has one column."""
        if len(x) != len(self.inputs):
            raise ValueError(f"{name} must be {len(self.inputs)} arrays, one for each input, got {len(x)}")
        names = [name] if len(x) == 1 else [f"{name}[{i}]" for i in range(len(x))]
        found = [_column(each, part, value.width) for each, part, value in zip(names, x, self.inputs, strict=True)]
        for each, part in zip(names, found, strict=True):
            if len(part) != len(found[0]):
                raise ValueError(f"{each} must have as many rows as {names[0]}, {len(found[0])}, got {len(part)}")
        for i, columns, count in self.categories:
            check_categories(names[i], found[i][:, columns], count)
        return found

    def y(self, name: str, y: Any, m: int) -> list[Target]:
        """Return the targets of each output, m rows, in the form its loss knows, or raise."""
        if not self.listed:
            return [self.heads[0].target(y, (m, self.outputs[0].width), self.dtype, name)]
        parts = _several(name, y, len(self.outputs), "output")
        heads = zip(self.heads, parts, self.outputs, strict=True)
        return [head.target(part, (m, value.width), self.dtype, f"{name}[{i}]") for i, (head, part, value) in enumerate(heads)]

    def dout(self, dout: Any, outputs: Sequence[Array]) -> list[Array]:
        """Return dE/dO of each output; ones if `dout` is None."""
        if dout is None:
            return [np.ones_like(output) for output in outputs]
        parts = _several("dout", dout, len(outputs), "output") if self.listed else [dout]
        names = [f"dout[{i}]" for i in range(len(parts))] if self.listed else ["dout"]
        return [_gradient(*each) for each in zip(names, parts, outputs, strict=True)]

    def out(self, outputs: list[Array]) -> Any:
        """Return outputs as the user wants them: one, or a list."""
        return outputs if self.listed else outputs[0]

    def weights(self, name: str, y: Any, sample_weight: npt.ArrayLike | None) -> Weights | None:
        """Return the weight of every row, (n,), from those of its sample and its class; None if all are 1."""
        parts = y if self.listed else [y]
        names = [f"{name}[{i}]" for i in range(len(parts))] if self.listed else [name]
        found = [head.row_weights(y_k, sample_weight, each) for head, y_k, each in zip(self.heads, parts, names, strict=True)]
        return found[0]  # those of all outputs: only a single one may weigh classes

    def validation(self, data: Any) -> tuple[list[AnyArray], list[Target], Weights | None]:
        """Return inputs, targets and weights of (X, y) or (X, y, sample_weight), or raise."""
        name = "validation_data"
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            came = f"{len(data)} things" if isinstance(data, (tuple, list)) else type(data).__name__
            raise ValueError(f"{name} must be (X, y) or (X, y, sample_weight), got {came}")
        x = self.x(f"{name}[0]", data[0])
        m = len(x[0])
        y = self.y(f"{name}[1]", data[1], m)
        return x, y, self.weights(f"{name}[1]", data[1], data[2] if len(data) == 3 else None)

    def memory(self, out: Array, shapes: list[tuple[int, int]], listed: bool) -> Array:
        """Return `out` if it can hold the one output there is, or raise."""
        if listed:
            raise ValueError(f"out must be None where outputs come in a list, got {type(out).__name__}")
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype:
            raise TypeError(f"out must be a {self.dtype} array, got {getattr(out, 'dtype', type(out))}")
        if out.shape != shapes[0]:
            raise ValueError(f"out must have shape {shapes[0]}, got {out.shape}")
        return out


def listed_or_single(given: Any) -> tuple[Any, ...]:
    """Return a tuple of what is given, one thing or a list."""
    return tuple(given) if isinstance(given, (list, tuple)) else (given,)


def _several(name: str, value: Any, count: int, what: str) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)) or len(value) != count:
        came = f"{len(value)} things" if isinstance(value, (list, tuple)) else type(value).__name__
        raise ValueError(f"{name} must be a list of {count} arrays, one for each {what}, got {came}")
    return value


def _column(name: str, x: npt.ArrayLike, width: int) -> AnyArray:
    """Return rows of an input; where it has one column, a number or a vector will do."""
    array = reals(name, x)
    return rows(name, array.reshape(-1, 1) if width == 1 and array.ndim < 2 else array, width)


def _gradient(name: str, dout: npt.ArrayLike, output: Array) -> Array:
    dO = reals(name, dout)
    if dO.shape != output.shape:
        raise ValueError(f"{name} must have shape {output.shape}, got {dO.shape}")
    return dO.astype(output.dtype, copy=False)
