"""A trace as a picture: gates from left to right, values above the edges, gradients below."""

from __future__ import annotations

import math
import os
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fastbp.extras import extra
from fastbp.inspect.labels import GREEN, GREY, RED, brief, caption, node_label
from fastbp.inspect.layout import Layout, layout

if TYPE_CHECKING:
    from fastbp.inspect.trace import Step, Trace

WHAT, GROUP = "a picture", "plot"
ROW = 0.95  # inches, as all that follows
RADIUS = 0.22
LETTER, SMALL_LETTER = 0.068, 0.053  # widths
LEAST_GAP, GAP_PER_EDGE = 0.95, 0.16  # between columns
HEIGHT = 0.38  # of two lines
SHARES = (0.5, 0.6, 0.4, 0.7, 0.3, 0.8, 0.2)  # of the way along an edge, the best first
FONT = 9
Point = tuple[float, float]


def plot(trace: Trace, path: str | os.PathLike[str] | None) -> Any:
    """Draw the graph of a trace; write it to a file if there is a path."""
    rc_context, figure = extra("matplotlib", WHAT, GROUP).rc_context, extra("matplotlib.figure", WHAT, GROUP).Figure
    places = layout([step.node_inputs for step in trace.steps])
    x, width = _columns(trace, places)
    height = (places.rows + 1) * ROW + 0.25
    text = caption(trace)
    beside = max(0.0, SMALL_LETTER * len(text) - width) / 2  # the graph stands above the middle of its caption
    x, width = [beside + middle for middle in x], width + 2 * beside
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastbp", "font.size": FONT, "text.parse_math": False}):
        fig = figure(figsize=(width, height), dpi=200)
        axes = fig.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(-height + ROW / 2, ROW / 2))
        axes.axis("off")
        labels = _Labels(axes)
        for step in trace.steps:
            for k, back in enumerate(step.back):
                source = trace.steps[back.to]
                points = [(x[column], -row * ROW) for column, row in places.paths[step.number, k]]
                _edge(axes, points, _half(source), _half(step))
                words = brief(source.value, True), None if back.sent is None else brief(back.sent)
                labels.write(points, _half(source), _half(step), *words)
        for number, dout in zip(trace.outputs, trace.douts, strict=True):
            step, (column, row) = trace.steps[number], places.at[number]
            points = [(x[column], -row * ROW), (width - beside - 0.1, -row * ROW)]
            _edge(axes, points, _half(step), 0.0)
            labels.write(points, _half(step), 0.0, brief(step.value, True), brief(dout))
        for step in trace.steps:
            column, row = places.at[step.number]
            _node(axes, step, (x[column], -row * ROW))
        axes.text(0.12, 0.14 - height + ROW / 2, text, color=GREY, fontsize=FONT - 2, va="center")
        save(fig, path)
    return fig


def save(fig: Any, path: str | os.PathLike[str] | None) -> None:
    """Write a figure to a file, if there is a path; an SVG without its date, so that the same picture is the same file."""
    if path is not None:
        dated = os.fspath(path).endswith((".svg", ".svgz"))
        fig.savefig(path, metadata={"Date": None} if dated else None)


def _columns(trace: Trace, places: Layout) -> tuple[list[float], float]:
    """Return the middle of each column, with room for what is written between them, and the width of it all."""
    halves, gaps = [0.0] * places.columns, [LEAST_GAP] * places.columns
    for step in trace.steps:
        column = places.at[step.number][0]
        halves[column] = max(halves[column], _half(step))
        room = LETTER * len(brief(step.value, True)) + 0.3
        gaps[column] = max(gaps[column], room)
    edges = Counter(a[0] for path in places.paths.values() for a in path[:-1])
    gaps = [max(gap, GAP_PER_EDGE * edges[column]) for column, gap in enumerate(gaps)]
    x, edge = [], 0.15
    for half, gap in zip(halves, gaps, strict=True):
        x.append(edge + half)
        edge += 2 * half + gap
    return x, edge + 0.1


def _half(step: Step) -> float:
    """Half the width of a node."""
    longest = max(len(line) for line in node_label(step).split("\n"))
    return RADIUS if longest <= 4 else 0.037 * longest + 0.06


def _edge(axes: Any, points: list[Point], before: float, after: float) -> None:
    """Draw an arrow through the points, leaving room for the nodes at its ends; in bends it runs level."""
    patches, shape = extra("matplotlib.patches", WHAT, GROUP), extra("matplotlib.path", WHAT, GROUP).Path
    (xa, ya), (xb, yb) = points[0], points[-1]
    if len(points) == 2:
        long = math.hypot(xb - xa, yb - ya)
        ux, uy = (xb - xa) / long, (yb - ya) / long
        corners = [(xa + before * ux, ya + before * uy), (xb - (after + 0.02) * ux, yb - (after + 0.02) * uy)]
        codes = [shape.MOVETO, shape.LINETO]
    else:
        inner = [(xa + before, ya), *points[1:-1], (xb - after - 0.02, yb)]
        corners, codes = [inner[0]], [shape.MOVETO]
        for (x0, y0), (x1, y1) in pairwise(inner):
            middle = (x0 + x1) / 2
            corners += [(middle, y0), (middle, y1), (x1, y1)]
            codes += [shape.CURVE4] * 3
    axes.add_patch(
        patches.FancyArrowPatch(
            path=shape(corners, codes), arrowstyle="-|>", mutation_scale=8, color=GREY, lw=0.9, shrinkA=0, shrinkB=0, zorder=1
        )
    )


class _Labels:
    """Values above edges and gradients below them, where there is room along each edge, as near to its middle as can be."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self.taken: list[tuple[float, float, float]] = []  # middle, and half the width

    def write(self, points: list[Point], before: float, after: float, value: str, gradient: str | None) -> None:
        half = LETTER * max(len(value), len(gradient or "")) / 2
        (xa, ya), (xb, yb) = points[0], points[1]
        places = [(xb, yb)]  # at the first bend
        if len(points) == 2:
            long = xb - after - xa - before
            places = [(xa + before + share * long, ya + (yb - ya) * (before + share * long) / (xb - xa)) for share in SHARES]
        x, y = max(places, key=lambda place: min((self._room(place, half, other) for other in self.taken), default=0.0))
        self.taken.append((x, y, half))
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        style = {"ha": "center", "fontsize": FONT, "zorder": 3, "bbox": box}
        self.axes.text(x, y + 0.05, value, color=GREEN, va="bottom", **style)
        if gradient is not None:
            self.axes.text(x, y - 0.06, gradient, color=RED, va="top", **style)

    @staticmethod
    def _room(place: Point, half: float, other: tuple[float, float, float]) -> float:
        """Return how far apart two labels are: 0 if that is enough, less where they overlap."""
        return min(max(abs(place[0] - other[0]) - half - other[2], abs(place[1] - other[1]) - HEIGHT), 0.0)


def _node(axes: Any, step: Step, at: Point) -> None:
    patches = extra("matplotlib.patches", WHAT, GROUP)
    label = node_label(step).strip()
    if step.node.gate in ("input", "constant"):
        axes.text(*at, label, ha="center", va="center", fontsize=FONT + 2, fontweight="bold", zorder=4)
        return
    half = _half(step)
    if half == RADIUS:
        axes.add_patch(patches.Circle(at, RADIUS, facecolor="white", edgecolor=GREY, lw=1.1, zorder=2))
    else:
        box = patches.FancyBboxPatch(
            (at[0] - half, at[1] - RADIUS), 2 * half, 2 * RADIUS, boxstyle="round,pad=0,rounding_size=0.1",
            facecolor="white", edgecolor=GREY, lw=1.1, zorder=2,
        )  # fmt: skip
        axes.add_patch(box)
    axes.text(*at, label, ha="center", va="center", fontsize=FONT + (3 if len(label) == 1 else 0), zorder=4)
