"""The numbers every peer begins with: the same weights, biases, rows and labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Problem:
    """A network and a batch.

    Attributes
    ----------
    task : str
        "sgd", "adam", "predict", "steps", "fit" or "copy".
    layers : tuple of int
        Inputs, then the units of each dense layer; relu, and none on the last one, whose outputs are logits.
    batch : int
        B, rows of a batch.
    dtype : str
    threads : int
        That fastbp uses for it; 0: all of its process.
    """

    task: str
    layers: tuple[int, ...]
    batch: int
    dtype: str
    threads: int = 0

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum((i + 1) * o for i, o in pairwise(self.layers))

    @cached_property
    def weights(self) -> list[Array]:
        """W, (I, U) each: Glorot's uniform distribution."""
        random = np.random.default_rng(1)
        found = []
        for i, o in pairwise(self.layers):
            w = random.random((i, o), dtype=np.float32)
            w -= 0.5
            w *= 2 * (6 / (i + o)) ** 0.5
            found.append(w.astype(self.dtype, copy=False))
        return found

    @cached_property
    def biases(self) -> list[Array]:
        """b, (U,) each: not zero, so that a peer that forgets them is found out."""
        random = np.random.default_rng(2)
        return [random.uniform(-0.1, 0.1, o).astype(np.float32).astype(self.dtype) for o in self.layers[1:]]

    def rows(self, n: int) -> tuple[Array, npt.NDArray[np.int64]]:
        """X (n, I), standard normal, and labels (n,)."""
        random = np.random.default_rng(3)
        y = random.integers(self.layers[-1], size=n)
        return random.standard_normal((n, self.layers[0]), dtype=np.float32).astype(self.dtype, copy=False), y

    @cached_property
    def x(self) -> Array:
        """The rows of the batch."""
        return self.rows(self.batch)[0]

    @cached_property
    def y(self) -> npt.NDArray[np.int64]:
        """The labels of the batch."""
        return self.rows(self.batch)[1]


def cross_entropy(logits: Array, y: npt.NDArray[np.int64]) -> float:
    """Mean of log(sum(exp(z))) - z_y, in float64."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(axis=1, keepdims=True)
    return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]).mean())
