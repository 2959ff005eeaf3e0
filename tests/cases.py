"""What the tests share: this CPU's instruction sets, the dtypes, numbers that never change, and equality of bits."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastbp as fb
from fastbp import rng, runtime
from fastbp._fastbp_core import ACTIVATIONS

Array = npt.NDArray[Any]
DTYPES = ("float32", "float64")
LIBRARIES = {"fastbp": fb, "reference": fb.reference}  # the fixture `library` goes through them
ISAS = runtime.isa_names()
FMA_ISAS = tuple(isa for isa in ISAS if isa != "base")
WITH_KERNELS = tuple(name for name in ACTIVATIONS if name != "custom")
EVERYWHERE = tuple(name for name in WITH_KERNELS if name not in ("log", "reciprocal"))  # these have a pole at 0
STREAM = 99  # of random numbers, used by nothing else

needs_fma = pytest.mark.skipif(not FMA_ISAS, reason=f"this CPU has no FMA, only {ISAS}")
two_fma_isas = pytest.mark.skipif(
    len(FMA_ISAS) < 2, reason=f"there are no two instruction sets with FMA to compare, this CPU has {ISAS}"
)


# Five rows of four numbers, their labels, and a network for them, of either library.
X = np.linspace(-1, 1, 20).reshape(5, 4)
LABELS = np.arange(5) % 3


def network(library: ModuleType = fb, **settings: Any) -> Any:
    layers = [library.Input(4), library.Dense(6, "relu"), library.Dense(3)]
    defaults = {"loss": "cross_entropy", "optimizer": library.SGD(0.1), "seed": 1}
    return library.Sequential(layers, **(defaults | settings))


def numbers(*shape: int, seed: int = 0, dtype: npt.DTypeLike = "float64") -> Array:
    """Uniform numbers in [-1, 1)."""
    return (2 * rng.uniform(seed, STREAM, 0, int(np.prod(shape))) - 1).reshape(shape).astype(dtype)


def integers(*shape: int, most: int, seed: int = 0) -> Array:
    """Whole numbers from -most to most, int64."""
    return np.floor((2 * most + 1) * (numbers(*shape, seed=seed) + 1) / 2).astype(np.int64) - most


def assert_same_bits(got: Array, wanted: Array, case: object = "") -> None:
    """Every bit, so -0.0 is not 0.0; any NaN equals any other."""
    assert got.dtype == wanted.dtype and got.shape == wanted.shape, case
    word = np.dtype(f"u{got.itemsize}")
    different = np.ascontiguousarray(got).view(word) != np.ascontiguousarray(wanted).view(word)
    different &= ~(np.isnan(got) & np.isnan(wanted))
    assert not different.any(), f"{case}: {different.sum()} of {got.size} differ, first {np.argwhere(different)[0]}"


def around(*steps: int, most: int) -> list[int]:
    """Sizes equal to, just below and just above one, two and three steps, and the smallest and largest size."""
    near = {s * i + d for s in steps for i in (1, 2, 3) for d in (-1, 0, 1)}
    return sorted(size for size in near | {1, 2, most} if 1 <= size <= most)
