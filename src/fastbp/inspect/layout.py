"""Where the gates of a graph go in a picture: columns from left to right, few crossings, straight lines where it can be.

An edge over several columns goes through a bend in each column between. Columns are ordered by the mean places of neighbours,
there and back, and then pulled straight.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12
PORT = 0.1  # how much lower than its first input a gate would like its second

Point = tuple[int, float]  # column, row

Key = Hashable  # a gate's number, or (from, to, k, column) for a bend


@dataclass(frozen=True)
class Layout:
    """Places, in columns and rows, of gates, and of the points each edge goes through.

    Attributes
    ----------
    at : list of (int, float)
        Column and row of each gate.
    paths : dict
        (to, k): the points of the edge to input k of gate `to`, both ends included.
    rows : float
        Height of it all.
    columns : int
    """

    at: list[Point]
    paths: dict[tuple[int, int], list[Point]]
    rows: float
    columns: int


def layout(inputs: Sequence[Sequence[int]]) -> Layout:
    """Lay out gates, of which gate i has the inputs ``inputs[i]``, all smaller than i."""
    column = _columns(inputs)
    columns: list[list[Key]] = [[] for _ in range(max(column) + 1)]
    for i, c in enumerate(column):
        columns[c].append(i)
    chains: dict[tuple[int, int], list[Key]] = {}
    near: dict[Key, list[tuple[Key, float]]] = {i: [] for i in range(len(inputs))}
    for i, sources in enumerate(inputs):
        for k, source in enumerate(sources):
            bends: list[Key] = [(source, i, k, c) for c in range(column[source] + 1, column[i])]
            for bend, c in zip(bends, range(column[source] + 1, column[i]), strict=True):
                columns[c].append(bend)
                near[bend] = []
            chain = [source, *bends, i]
            chains[i, k] = chain
            for a, b in pairwise(chain):
                near[a].append((b, PORT * k))
                near[b].append((a, 0.0))
    places = _rows(columns, near)
    x = {key: c for c, keys in enumerate(columns) for key in keys}
    low = min(places.values())
    points = {key: (x[key], places[key] - low) for key in places}
    return Layout(
        [points[i] for i in range(len(inputs))],
        {edge: [points[key] for key in chain] for edge, chain in chains.items()},
        max(places.values()) - low,
        len(columns),
    )


def _columns(inputs: Sequence[Sequence[int]]) -> list[int]:
    """One to the right of the last input; what has no input, one to the left of the first gate that uses it."""
    column = [0] * len(inputs)
    for i, sources in enumerate(inputs):
        column[i] = 1 + max((column[k] for k in sources), default=-1)
    for i, sources in enumerate(inputs):
        if not sources:
            column[i] = max(min((column[j] for j, others in enumerate(inputs) if i in others), default=1) - 1, 0)
    return column


def _rows(columns: list[list[Key]], near: dict[Key, list[tuple[Key, float]]]) -> dict[Key, float]:
    """Order each column, then let every place follow its neighbours as far as the order and a distance of 1 allow."""
    row = {key: float(i) - (len(keys) - 1) / 2 for keys in columns for i, key in enumerate(keys)}
    column = {key: c for c, keys in enumerate(columns) for key in keys}

    def wish(key: Key, side: int) -> float:
        found = [row[other] + port for other, port in near[key] if side == 0 or (column[other] - column[key]) * side > 0]
        return sum(found) / len(found) if found else row[key]

    for sweep in range(SWEEPS):
        side = -1 if sweep % 2 == 0 else 1
        for keys in columns[:: -side]:
            keys.sort(key=lambda key: wish(key, side))
            for i, key in enumerate(keys):
                row[key] = i - (len(keys) - 1) / 2
    for _ in range(SWEEPS):
        for keys in columns:
            wishes = [wish(key, 0) for key in keys]
            for key, place in zip(keys, _apart(wishes), strict=True):
                row[key] = place
    return row


def _apart(wishes: list[float]) -> list[float]:
    """Return places near the wishes, in their order, at least 1 apart: runs that are too close share their mean."""
    runs: list[list[float]] = []
    for i, wish in enumerate(wishes):
        runs.append([wish - i])
        while len(runs) > 1 and sum(runs[-2]) / len(runs[-2]) > sum(runs[-1]) / len(runs[-1]):
            runs[-2:] = [runs[-2] + runs[-1]]
    flat = [sum(run) / len(run) for run in runs for _ in run]
    return [place + i for i, place in enumerate(flat)]
