"""The networks the benchmarks train: nine sizes from tiny to wide, their data, and the operations of a step."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array

LEARNING_RATE = 1e-6  # so small that thousands of steps on one batch leave the network as it was


class Network(Protocol):
    """What is asked of a network here; `fastbp` and `fastbp.reference` both have it."""

    def train_step(self, x: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Do forward, backward and update on one batch."""
        ...


@dataclass(frozen=True)
class Workload:
    """One row of the table: a network and the rows of a batch.

    Attributes
    ----------
    name : str
    layers : tuple of int
        Inputs, then the units of each dense layer: relu, and none on the last one, whose outputs are logits.
    batch : int
        B, rows of a batch.

    Examples
    --------
    >>> from fastbp.workloads import Workload
    >>> work = Workload("digits", (64, 100, 10), 32)
    >>> print(work)
    digits: 64-100-10, 32
    >>> work.operations
    1011200
    """

    name: str
    layers: tuple[int, ...]
    batch: int

    @property
    def operations(self) -> int:
        """6 B sum(I O) - 2 B I0 O0: floating-point operations of the products of a training step.

        A product of (m, k) and (k, n) takes 2 m k n of them, and a dense layer has three: forward, weight gradient and
        input gradient. The first layer needs no input gradient. Bias, activation, loss and update are not counted.
        """
        products = sum(inputs * units for inputs, units in pairwise(self.layers))
        return self.batch * (6 * products - 2 * self.layers[0] * self.layers[1])

    @property
    def shape(self) -> str:
        """The layers in one word: "64-100-10"."""
        return "-".join(map(str, self.layers))

    def __str__(self) -> str:
        """Name, layers and batch."""
        return f"{self.name}: {self.shape}, {self.batch}"


WORKLOADS = (
    Workload("rl64", (8, 64, 64, 4), 64),
    Workload("digits", (64, 100, 10), 32),
    Workload("odd", (37, 101, 53, 7), 50),
    Workload("rl256", (17, 256, 256, 6), 256),
    Workload("mnist128", (784, 128, 10), 32),
    Workload("tab256", (100, 256, 256, 256, 2), 256),
    Workload("mnist512", (784, 512, 512, 10), 128),
    Workload("wide1k", (1024, 1024, 1024, 1024, 10), 512),
    Workload("wide4k", (4096, 4096, 4096, 10), 256),
)


@dataclass(frozen=True)
class Problem:
    """A network and one batch for it.

    Attributes
    ----------
    net : Network
    x : ndarray, shape (B, inputs)
        Standard normal numbers, of the network's dtype.
    y : ndarray of int64, shape (B,)
        Labels.
    """

    net: Network
    x: Array
    y: npt.NDArray[np.int64]

    def step(self) -> float:
        """Train on the batch once; return the loss."""
        return self.net.train_step(self.x, self.y)


def problem(workload: Workload, library: ModuleType, *, dtype: str = "float32", seed: int = 0) -> Problem:
    """Make the network of a workload and its data: relu, cross-entropy, plain SGD.

    Parameters
    ----------
    workload : Workload
    library : module
        `fastbp` or `fastbp.reference`. With the same seed both begin with the same weights and data.
    dtype : "float32" or "float64"
    seed : int
        Of weights and data.

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.workloads import WORKLOADS, problem
    >>> work = WORKLOADS[0]
    >>> losses = [problem(work, library, dtype="float64").step() for library in (fastbp, fastbp.reference)]
    >>> round(losses[0], 12) == round(losses[1], 12)
    True
    """
    inputs, *hidden, classes = workload.layers
    layers = [library.Input(inputs), *(library.Dense(units, "relu") for units in hidden), library.Dense(classes)]
    net = library.Sequential(layers, loss="cross_entropy", optimizer=library.SGD(LEARNING_RATE), dtype=dtype, seed=seed)
    random = np.random.default_rng(seed)
    x = random.standard_normal((workload.batch, inputs)).astype(dtype)
    return Problem(net, x, random.integers(classes, size=workload.batch))


def written(text: str) -> Workload | None:
    """Read "64-100-10:32", the layers and the rows of a batch; None if that is not what it says."""
    if not re.fullmatch(r"[0-9]+(-[0-9]+)+:[0-9]+", text):
        return None
    *layers, batch = map(int, re.split("[-:]", text))
    return Workload(text, tuple(layers), batch) if min(*layers, batch) > 0 and layers[-1] > 1 else None


def named(names: Iterable[str]) -> tuple[Workload, ...]:
    """Return the workloads of these names, in that order; one that is not in the table is written "64-100-10:32".

    Raises
    ------
    ValueError
        If there is no workload of a name, and it does not give layers, two classes or more at the end, and a batch.

    Examples
    --------
    >>> from fastbp.workloads import named
    >>> [work.batch for work in named(["odd", "rl64", "30-50-2:200"])]
    [50, 64, 200]
    """
    table = {workload.name: workload for workload in WORKLOADS}
    found = []
    for name in names:
        workload = table.get(name) or written(name)
        if workload is None:
            allowed = f"one of {', '.join(table)}, or layers and batch as in 64-100-10:32, 2 units or more at the end"
            raise ValueError(f"workload must be {allowed}, got {name!r}")
        found.append(workload)
    return tuple(found)
