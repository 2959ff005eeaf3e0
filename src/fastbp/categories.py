"""Categories: what embeddings read of the inputs of a network; for the library and the reference alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.values import Value

BLOCK = 4096  # rows looked at at a time


def categories_of(values: Sequence[Value], inputs: Sequence[Value], dtype: np.dtype[Any]) -> tuple[tuple[int, slice, int], ...]:
    """Return what embeddings read of inputs: which input, the columns of it, how many categories there are.

    Raise if the dtype cannot tell their categories apart.
    """
    exact = 2 ** (np.finfo(dtype).nmant + 1)  # all whole numbers up to this are of the dtype
    found = []
    for value in values:
        if value.gate == "embedding":
            source, start, count = value.inputs[0], 0, int(value.settings[0])
            while source.gate == "slice":
                source, start = source.inputs[0], start + int(source.settings[0])
            if count > exact:
                raise ValueError(f"categories must be at most {exact}, to be told apart in {dtype}, got {count}")
            if source in inputs:
                found.append((inputs.index(source), slice(start, start + value.inputs[0].width), count))
    return tuple(found)


def check_categories(name: str, part: npt.NDArray[Any], count: int) -> None:
    """Raise unless all are whole numbers 0 .. count - 1; some rows at a time, so that there is no copy of a data set."""
    for start in range(0, len(part), BLOCK):
        rows = part[start : start + BLOCK]
        bad = np.argwhere(~((rows >= 0) & (rows < count) & (rows == np.trunc(rows))))
        if len(bad):
            row, column = bad[0]
            came = f"{rows[row, column]} in row {start + row}"
            raise ValueError(f"{name} must hold whole numbers 0 .. {count - 1} for an Embedding, got {came}")
