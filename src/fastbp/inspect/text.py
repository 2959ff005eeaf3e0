"""Tables and numbers as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from fastbp.checks import Array

LEFT, RIGHT = "<", ">"


class Text(str):
    """A string that shows itself as it is, not quoted, where an interactive session shows a result."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], sides: str, gap: str = "  ") -> str:
    """Return rows under heads in columns; `sides` has a "<" or a ">" for each column."""
    lines = [list(heads), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    return "\n".join(
        gap.join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)).rstrip()
        for line in lines
    )


def number(value: float) -> str:
    """Return a number with four digits that say something."""
    return f"{value:.4g}"


def numbers(values: Array, indent: str = "") -> str:
    """Return a single number, one line for a short row, or lines of numbers, the middle of large arrays left out."""
    if values.size == 1:
        return number(values.item())
    values = values + 0.0  # no -0
    shown = values[0] if len(values) == 1 else values
    text = np.array2string(shown, precision=4, suppress_small=True, threshold=60, edgeitems=3, max_line_width=110)
    return text if "\n" not in text else "\n" + "\n".join(indent + line for line in text.splitlines())


def count(n: int, what: str) -> str:
    """Return "1 row", "2 rows"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def short(layer: object) -> str:
    """Return the call that makes a layer, without what follows from its place."""
    return re.sub(r", inputs=\d+", "", repr(layer))


def size(octets: float) -> str:
    """Return a size in bytes, kB or MB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if octets >= unit:
            return f"{octets / unit:.3g} {name}"
    return f"{octets:.0f} B"
