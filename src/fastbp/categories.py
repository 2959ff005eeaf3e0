"""Categories: what embeddings read of the inputs of a network; for the library and the reference alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
            count = int(value.settings[0])
            if count > exact:
                raise ValueError(f"categories must be at most {exact}, to be told apart in {dtype}, got {count}")
            for source, columns in _sources(value.inputs[0], 0, value.inputs[0].width):
                if source in inputs:
                    found.append((inputs.index(source), columns, count))
    return tuple(found)


def _sources(value: Value, start: int, stop: int) -> Iterator[tuple[Value, slice]]:
    """Yield the values, and their columns, that columns start .. stop of `value` are, through gates that hand columns on."""
    if value.activation != "identity":
        yield value, slice(start, stop)
    elif value.gate == "slice":
        first = int(value.settings[0])
        yield from _sources(value.inputs[0], first + start, first + stop)
    elif value.gate == "concatenate":
        for part in value.inputs:
            if start < part.width and stop > 0:
                yield from _sources(part, max(start, 0), min(stop, part.width))
            start, stop = start - part.width, stop - part.width
    elif value.gate == "activation":
        yield from _sources(value.inputs[0], start, stop)
    else:
        yield value, slice(start, stop)


def check_categories(name: str, part: npt.NDArray[Any], count: int) -> None:
    """Raise unless all are whole numbers 0 .. count - 1; some rows at a time, so that there is no copy of a data set."""
    for start in range(0, len(part), BLOCK):
        rows = part[start : start + BLOCK]
        bad = np.argwhere(~((rows >= 0) & (rows < count) & (rows == np.trunc(rows))))
        if len(bad):
            row, column = bad[0]
            came = f"{rows[row, column]} in row {start + row}"
            raise ValueError(f"{name} must hold whole numbers 0 .. {count - 1} for an Embedding, got {came}")
