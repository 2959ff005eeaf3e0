"""The figures as pictures. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from benchmarks.cases import TASKS, TRAINING
from benchmarks.results import OWN, Measured, Results

INK, GREY, PALE = "#222222", "#777777", "#e6e6e6"
LOOKS = {  # colour, marker
    OWN: ("#1f5fa8", "o"),
    "numpy": ("#e69f00", "s"),
    "torch": ("#d55e00", "^"),
    "torch-compiled": ("#b5518f", "v"),
    "jax": ("#009e73", "D"),
    "scikit-learn": ("#8c8c8c", "X"),
    "onnxruntime": ("#3fa7d6", "P"),
}
STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "fastbp",
    "savefig.dpi": 150,
}


def draw(results: Results, folder: Path, suffix: str = ".svg") -> list[Path]:
    """Draw all charts that there are figures for; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with mpl.rc_context(STYLE):
        for threads in sorted({m.threads for m in results.of(*TRAINING, "predict")}):
            drawn.append((f"overview-{threads}", overview(results, threads)))
        for name, make in (("growth", growth), ("batches", batches), ("threads", sharing)):
            if results.of(name):
                drawn.append((name, make(results)))
        paths = []
        for name, figure in drawn:
            path = folder / f"{name}{suffix}"
            metadata = {"Date": None} if suffix == ".svg" else {}
            figure.savefig(path, metadata=metadata, facecolor="white")
            paths.append(path)
    return paths


def looks(label: str, *, size: float = 5.0) -> dict[str, Any]:
    """Colour, marker and place in the pile; fastbp stands out."""
    color, marker = LOOKS.get(label, (INK, "*"))
    own = label == OWN
    return {
        "color": color,
        "marker": marker,
        "ms": size * (1.6 if own else 1.0),
        "mec": "white",
        "mew": 0.6,
        "zorder": 5 if own else 3,
    }


def legend(figure: Any, labels: list[str], *, lines: bool, limit: str) -> None:
    """One legend below all panels."""
    axes = figure.axes[0]
    handles = []
    for label in labels:
        (handle,) = axes.plot([], [], ls="-" if lines else "none", lw=2.0 if label == OWN else 1.2, label=label, **looks(label))
        handles.append(handle)
    (handle,) = axes.plot([], [], color=INK, lw=1.2, ls=(0, (4, 2)), label=limit)
    handles.append(handle)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.4, handletextpad=0.5)


def overview(results: Results, threads: int) -> Any:
    """Share of the FMA limit of every peer, a row for each workload, a panel for each task."""
    sections = [section for section in (*TRAINING, "predict") if results.of(section, threads=threads)]
    names = list(dict.fromkeys(m.name for section in sections for m in results.of(section, threads=threads)))
    labels = [label for label in results.labels if any(label in m.done for s in sections for m in results.of(s, threads=threads))]
    figure = Figure(figsize=(3.3 * len(sections) + 1.2, 0.42 * len(names) + 1.6), layout="constrained")
    panels = figure.subplots(1, len(sections), sharey=True, squeeze=False)[0]
    shares = [m.share(label) for s in sections for m in results.of(s, threads=threads) for label in m.done]
    low = min((share for share in shares if share is not None), default=0.01) * 0.75
    for axes, section in zip(panels, sections, strict=True):
        axes.axvline(1.0, color=INK, lw=1.2, ls=(0, (4, 2)), zorder=2)
        for m in results.of(section, threads=threads):
            y = names.index(m.name)
            points = {label: share for label in labels if (share := m.share(label)) is not None}
            if points:
                axes.plot([min(points.values()), max(points.values())], [y, y], color="#cfcfcf", lw=1.0, zorder=1)
            for label, share in points.items():  # a little above or below, so that none hides another
                dodge = 0.0 if label == OWN else (-0.16, 0.16)[labels.index(label) % 2]
                axes.plot(share, y + dodge, ls="none", **looks(label, size=5.5))
            up = m.runner_up()
            if up is not None:
                color = LOOKS[OWN][0] if up[1] >= 1 else LOOKS["torch"][0]
                axes.text(1.15, y, f"{up[1]:.2f}\u00d7", va="center", ha="left", color=color, fontweight="bold", fontsize=8.5)
        title = TASKS[section][0].upper() + TASKS[section][1:]
        axes.set(xscale="log", xlim=(low, 2.6), ylim=(len(names) - 0.4, -0.6), title=title)
        axes.set_xticks([x for x in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0) if x >= low])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=8)
    panels[0].set_yticks(range(len(names)), names, fontweight="bold")
    word = "thread" if threads == 1 else "threads"
    title = f"Share of the FMA limit, {threads} {word}; numbers: the fastest peer's time over fastbp's"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    legend(figure, labels, lines=False, limit="FMA limit")
    return figure


def duration(seconds: float, _: object = None) -> str:
    """A tick on an axis of time.

    >>> duration(1e-6), duration(1e-2), duration(10)
    ('1 µs', '10 ms', '10 s')
    """
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit * 0.999:
            return f"{seconds / unit:g} {name}"
    return f"{seconds * 1e9:.0f} ns"


def lines_of(axes: Any, found: list[Measured], labels: list[str], xs: list[int]) -> None:
    """A line of time over `xs` for each peer, and the floor."""
    floor = [(x, m.limit) for x, m in zip(xs, found, strict=True) if m.limit]
    axes.plot(*zip(*floor, strict=True), color=INK, lw=1.2, ls=(0, (4, 2)), zorder=2)
    for label in labels:
        points = [(x, m.done[label].best) for x, m in zip(xs, found, strict=True) if label in m.done]
        if points:
            axes.plot(*zip(*points, strict=True), lw=2.0 if label == OWN else 1.2, **looks(label, size=4))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    powers = xs[:: 1 if len(xs) <= 9 else 2]
    axes.set_xticks(powers, [str(x) for x in powers])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(duration))


def growth(results: Results) -> Any:
    """Time of a step over width and over batch."""
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    labels = [label for label in results.labels if any(label in m.done for m in results.of("growth"))]
    for axes, name in zip(panels, ("width", "batch"), strict=True):
        found = [m for m in results.of("growth") if m.name == name]
        if not found:
            continue
        xs = [m.layers[0] if name == "width" else m.batch for m in found]
        lines_of(axes, found, labels, xs)
        fixed = f"layers w-w-w-10, batch {found[0].batch}" if name == "width" else f"layers {found[0].shape}"
        axes.set(xlabel="width w" if name == "width" else "rows of a batch", title=f"Over {name}: {fixed}")
    panels[0].set_ylabel("time of a training step (SGD, 1 thread)")
    legend(figure, labels, lines=True, limit="FMA limit")
    return figure


def batches(results: Results) -> Any:
    """Time of a prediction over fastbp's, over the rows: a panel for each network."""
    found = results.of("batches")
    names = list(dict.fromkeys(m.name for m in found))
    labels = [label for label in results.labels if any(label in m.done for m in found)]
    wide = min(3, len(names))
    tall = -(-len(names) // wide)
    figure = Figure(figsize=(3.1 * wide + 0.6, 2.3 * tall + 0.8), layout="constrained")
    panels = figure.subplots(tall, wide, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        group = [m for m in found if m.name == name]
        rows = [m.batch for m in group]
        floor = [(m.batch, share) for m in group if (share := m.share(OWN)) is not None]
        if floor:
            axes.plot(*zip(*floor, strict=True), color=INK, lw=1.2, ls=(0, (4, 2)), zorder=2)
        for label in labels:
            points = [(m.batch, ratio) for m in group if (ratio := m.ratio(label)) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), lw=2.0 if label == OWN else 1.2, **looks(label, size=4))
        axes.set(xscale="log", yscale="log", title=f"{name}: {group[0].shape}")
        axes.title.set_fontsize(8.5)
        axes.set_xticks(rows, [str(m) for m in rows])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    for axes in panels[-1]:
        axes.set_xlabel("rows of a prediction")
    figure.supylabel("time over fastbp's (1 thread)", fontsize=9)
    legend(figure, labels, lines=True, limit="FMA limit")
    return figure


def sharing(results: Results) -> Any:
    """Speed of two threads over that of one, over the rows of a batch: a line for each workload."""
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys(m.name.rpartition(" ")[0] for m in results.of("threads")))
    colors = [mpl.colormaps["viridis"](i / max(1, len(names) - 1) * 0.88) for i in range(len(names))]
    for axes, task in zip(panels, ("sgd", "predict"), strict=True):
        axes.axhline(1.0, color=INK, lw=1.2, ls=(0, (4, 2)))
        rows: set[int] = set()
        for name, color in zip(names, colors, strict=True):
            found = [m for m in results.of("threads") if m.name == f"{name} {task}"]
            points = [(m.batch, 1 / ratio) for m in found if (ratio := m.median_ratio("2 threads", "1 thread")) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=color, lw=1.4, marker="o", ms=3.2, label=name)
                rows |= {m for m, _ in points}
        axes.set_xscale("log", base=2)
        ticks = sorted(rows)[::2] if len(rows) > 9 else sorted(rows)
        axes.set_xticks(ticks, [str(m) for m in ticks])
        title = TASKS[task][0].upper() + TASKS[task][1:]
        axes.set(xlabel="rows of a batch", title=title, ylim=(0.8, None))
    panels[0].set_ylabel("two threads: times as fast as one")
    handles, words = panels[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=len(names), columnspacing=1.4)
    return figure
