"""The figures in words: tables for the terminal and the page docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.cases import TASKS, TRAINING
from benchmarks.peers import PEERS
from benchmarks.results import OWN, Measured, Results

SLOWER = 1.03  # two threads against one: what is reported as slower
MAIN = (*TRAINING, "predict")
UPDATE_BYTES = 16  # Adam reads and writes two more numbers of 4 bytes than SGD


def us(seconds: float) -> str:
    """Microseconds with three digits or more.

    >>> us(1.2345e-6), us(12.345e-6), us(1.2345e-1)
    ('1.23', '12.3', '123450')
    """
    value = seconds * 1e6
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def times(ratio: float | None) -> str:
    """A ratio, or a dash."""
    return "-" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


def plural(n: int, noun: str) -> str:
    """1 thread, 2 threads."""
    return f"{n} {noun}{'s' * (n != 1)}"


# The terminal ---------------------------------------------------------------------------------------------------------


def block(m: Measured) -> str:
    """One group: a line for each lane."""
    title = f"{TASKS.get(m.section, m.section)}: {m.name}: {m.shape}, {m.batch}; {plural(m.threads, 'thread')}, {m.dtype}"
    first = m.rows[0].label
    to = OWN if OWN in m.done else first
    lines = [
        title + (f"; FMA limit {us(m.limit)} us" if m.peak else ""),
        f"  {'':<16}{'min us':>10}{'median':>10}{'ratio':>8}{'median':>8}{'of peak':>9}{'loss differs':>14}",
    ]
    for row in m.rows:
        if not row.seconds:
            lines.append(f"  {row.label:<16}{'-':>10}  {row.reason}")
            continue
        share = m.share(row.label)
        lines.append(
            f"  {row.label:<16}{us(row.best):>10}{us(row.median):>10}{times(m.ratio(row.label, to)):>8}"
            f"{times(m.median_ratio(row.label, to)):>8}{'-' if share is None or share > 1.5 else f'{share:.2f}':>9}"
            f"{'-' if row.difference is None else f'{row.difference:.0e}':>14}"
        )
    return "\n".join(lines)


def summary(results: Results) -> str:
    """The last lines in the terminal: where fastbp is not the fastest, and what is missing."""
    lines = [f"fastest peer against fastbp: {line}" for line in standing(results)]
    lines += [f"missing: {name}: {reason}" for name, reason in results.missing.items()]
    return "\n".join(lines)


def standing(results: Results) -> list[str]:
    """A sentence for each main task and number of threads."""
    lines = []
    for section in MAIN:
        for threads in sorted({m.threads for m in results.of(section)}):
            found = {m.name: m.runner_up() for m in results.of(section, threads=threads)}
            ratios = {name: up for name, up in found.items() if up is not None}
            if not ratios:
                continue
            low, high = (f(ratios, key=lambda name: ratios[name][1]) for f in (min, max))
            lines.append(
                f"{TASKS[section]}, {plural(threads, 'thread')}: {times(ratios[low][1])} ({ratios[low][0]} on {low})"
                f" to {times(ratios[high][1])} ({ratios[high][0]} on {high}) times fastbp's time"
            )
    return lines


# The page -------------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; the first `left` columns are words."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * left + "---:|" * (len(head) - left)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def page(results: Results, charts: Sequence[Path] = (), *, folder: Path = Path("docs")) -> str:
    """The whole page."""
    about = results.about
    parts = [
        "# Benchmarks",
        INTRODUCTION,
        "\n".join(f"- {line}." for line in standing(results)),
    ]
    parts += [f"![{chart.stem}]({chart.relative_to(folder).as_posix()})" for chart in charts]
    parts += ["## What was measured", about_lines(about), peers_table(results), HOW]
    parts += [main_table(results, section, n) for section in MAIN for n in sorted({m.threads for m in results.of(section)})]
    for make in (batches_table, threads_table, update_table, fit_table, growth_table, all_figures):
        parts.append(make(results))
    return "\n\n".join(part for part in parts if part) + "\n"


INTRODUCTION = """\
`make bench` writes this page, its charts and [the figures as JSON](benchmarks/results.json). Times are microseconds per step. A
ratio is a peer's time over fastbp's, both of their fastest rounds: above 1, fastbp is faster; **bold**, the peer is."""

HOW = """\
How: each peer runs in a process of its own, pinned to one core for one thread and to two for two, and all begin with the same
weights and the same batch, converted to the peer's own kind of array beforehand. The losses of the first three steps, or of the
prediction, must agree; a peer whose losses differ is an error and has no time. Then come rounds: in each, every peer does one
block of steps while the others wait, in an order that turns, and a loop of nothing but fused multiply-adds shows the peak of
the core, or of both at once, in that round; the share of the peak is the median over the rounds. A training step is forward,
backward and update of softmax cross-entropy on logits; the FMA limit is the time of its products alone at the median peak.
Variables of the environment that narrow a library's kernels are removed."""


def about_lines(about: dict[str, object]) -> str:
    """Machine and settings."""
    names = {
        "cpu": "CPU",
        "cpus": "CPUs",
        "platform": "system",
        "python": "Python",
        "commit": "commit",
        "dtype": "dtype",
        "cores": "cores used",
        "load_average": "load average before",
        "effort": "effort",
        "minutes": "minutes it took",
    }
    return "\n".join(f"- {title}: {about[name]}" for name, title in names.items() if name in about)


def peers_table(results: Results) -> str:
    """Who took part, with versions, and who is missing."""
    rows = []
    for name, peer in PEERS.items():
        versions = [found for key, found in results.peers.items() if key.partition(",")[0] == name]
        if not versions and name not in results.missing and name not in results.about.get("order", ()):
            continue
        words = [f"{key} {value}" for key, value in (versions[0] if versions else {}).items()]
        words = [word.replace(", 1 thread", "").replace(", 2 threads", "") for word in words]
        if name in results.missing:
            words.append(f"**missing**: {results.missing[name]}")
        rows.append((name, ", ".join(words) or "-", peer.about))
    return table(("peer", "versions", "how it is used"), rows, left=3)


def cell(m: Measured, label: str) -> str:
    """A peer's time and ratio."""
    row = next((row for row in m.rows if row.label == label), None)
    if row is None or not row.seconds:
        return "-"
    ratio = m.ratio(label)
    if ratio is None:
        return us(row.best)
    return f"**{us(row.best)} ({times(ratio)})**" if ratio < 1 else f"{us(row.best)} ({times(ratio)})"


def main_table(results: Results, section: str, threads: int) -> str:
    """One task: a row for each workload, a column for each peer."""
    found = results.of(section, threads=threads)
    labels = [label for label in results.labels if label != OWN and any(label in m.done for m in found)]
    rows = []
    for m in found:
        own = m.done.get(OWN)
        share = m.share(OWN)
        mine = (us(own.best), us(own.median), f"{share:.2f}" if share is not None else "-") if own else ("-", "-", "-")
        network = f"{m.name}: {m.shape}, {m.batch}"
        rows.append((network, us(m.limit) if m.peak else "-", *mine, *(cell(m, label) for label in labels)))
    head = ("network, batch", "FMA limit", "fastbp", "median", "of peak", *(f"{label} (ratio)" for label in labels))
    title = TASKS[section][0].upper() + TASKS[section][1:]
    reasons = {row.label: row.reason for m in found for row in m.rows if row.reason and row.reason != "predicts only"}
    notes = [f"No figures of {label}: {reason}." for label, reason in reasons.items()]
    return "\n\n".join([f"## {title}, {plural(threads, 'thread')}", table(head, rows), *notes])


def batches_table(results: Results) -> str:
    """Predictions of few and many rows."""
    found = results.of("batches")
    if not found:
        return ""
    labels = [label for label in results.labels if label != OWN and any(label in m.done for m in found)]
    head = ("network", "rows", "fastbp", "of peak", *labels)
    rows = []
    for m in found:
        own, share = m.done.get(OWN), m.share(OWN)
        ratios = [(m.ratio(label), times(m.ratio(label))) for label in labels]
        cells = [f"**{text}**" if ratio is not None and ratio < 1 else text for ratio, text in ratios]
        mine = us(own.best) if own else "-"
        rows.append((f"{m.name}: {m.shape}", str(m.batch), mine, f"{share:.2f}" if share is not None else "-", *cells))
    slower = [
        f"{m.name} with {plural(m.batch, 'row')}: {up[0]} ({times(up[1])})" for m in found if (up := m.runner_up()) and up[1] < 1
    ]
    verdict = "fastbp is slower than a peer in " + ("; ".join(slower) or "none of them")
    return f"## Predictions of few and many rows, 1 thread\n\nRatios; {verdict}.\n\n{table(head, rows)}"


def threads_table(results: Results) -> str:
    """Two threads against one: the worst and the best ratio over the batches, each the median of those within a round."""
    found: dict[str, list[tuple[float, int]]] = {}
    for m in results.of("threads"):
        ratio = m.median_ratio("2 threads", "1 thread")
        if ratio is not None:
            found.setdefault(m.name, []).append((ratio, m.batch))
    if not found:
        return ""
    rows = []
    for name, ratios in found.items():
        (worst, rows_worst), (best, rows_best) = max(ratios), min(ratios)
        text = f"**{worst:.3f}**" if worst > SLOWER else f"{worst:.3f}"
        rows.append((name, text, str(rows_worst), f"{best:.3f}", str(rows_best)))
    head = ("network and task", "worst", "at rows", "best", "at rows")
    worst, where = max((max(ratios)[0], name) for name, ratios in found.items())
    words = (
        "Time with two threads over time with one, in one process, the median over the rounds; batches of 1 to 4096 rows. "
        f"The worst of all is {worst:.3f} ({where})."
    )
    return f"## Two threads against one\n\n{words}\n\n{table(head, rows)}"


def update_rows(results: Results) -> list[tuple[Measured, float, float, float]]:
    """Group, seconds Adam takes beyond SGD a parameter, bytes a second of copying, and the bytes that makes a parameter."""
    found = []
    for m in results.of("update"):
        if {"sgd", "adam", "copy"} <= set(m.done):
            parameters = sum((i + 1) * o for i, o in pairwise(m.layers))
            size = 4 if m.dtype == "float32" else 8
            bandwidth = 2 * size * parameters / m.done["copy"].best
            extra = (m.done["adam"].best - m.done["sgd"].best) / parameters
            found.append((m, extra, bandwidth, extra * bandwidth))
    return found


def update_table(results: Results) -> str:
    """What Adam costs a parameter beyond SGD."""
    measured = results.of("update")
    if not measured:
        return ""
    rows = []
    for m, extra, rate, n in update_rows(results):
        steps = [us(m.done[name].best) for name in ("sgd", "adam")]
        rows.append((f"{m.name}: {m.shape}", *steps, f"{extra * 1e9:.2f}", f"{rate / 1e9:.0f}", f"{n:.1f}"))
    reasons = {f"{row.label}: {row.reason}" for m in measured for row in m.rows if row.reason}
    words = (
        "Adam's step minus SGD's, per parameter, and the bytes that copying as many numbers moves in that time. "
        f"Adam must read and write two more numbers than SGD: {UPDATE_BYTES} bytes in float32."
    )
    head = ("network", "SGD", "Adam", "ns a parameter", "copy GB/s", "bytes a parameter")
    notes = [f"Not measured: {reason}." for reason in sorted(reasons)]
    return "\n\n".join(["## What Adam costs", words, *([table(head, rows)] if rows else []), *notes])


def fit_table(results: Results) -> str:
    """An epoch of fit against its steps."""
    found = [m for m in results.of("fit") if {"fit", "steps"} <= set(m.done)]
    rows = [
        (f"{m.name}: {m.shape}, {m.batch}", us(m.done["steps"].best), us(m.done["fit"].best), f"{m.ratio('fit', 'steps'):.3f}")
        for m in found
    ]
    words = "An epoch of `fit`, shuffled, over the same batches one by one with `train_step`; per step."
    return f"## fit\n\n{words}\n\n{table(('network, batch', 'train_step', 'fit', 'ratio'), rows)}" if rows else ""


def growth_table(results: Results) -> str:
    """The figures of the growth chart."""
    found = results.of("growth")
    if not found:
        return ""
    labels = [label for label in results.labels if any(label in m.done for m in found)]
    rows = [(f"{m.shape}, {m.batch}", us(m.limit) if m.peak else "-", *(cell(m, label) for label in labels)) for m in found]
    return f"## Growth with width and batch, SGD, 1 thread\n\n{table(('network, batch', 'FMA limit', *labels), rows)}"


def all_figures(results: Results) -> str:
    """Everything of the main tasks, folded."""
    head = ("task", "network, batch", "threads", "peer", "min", "median", "ratio", "median ratio", "of peak", "loss differs")
    rows = []
    for m in results.of(*MAIN):
        for row in m.rows:
            share = m.share(row.label)
            if row.seconds:
                figures = [us(row.best), us(row.median), times(m.ratio(row.label)), times(m.median_ratio(row.label))]
                figures += ["-" if share is None else f"{share:.3f}", "-" if row.difference is None else f"{row.difference:.0e}"]
                rows.append((m.section, f"{m.name}, {m.batch}", str(m.threads), row.label, *figures))
    if not rows:
        return ""
    title = "<summary>All figures of training steps and predictions</summary>"
    return f"<details>{title}\n\n{table(head, rows, left=4)}\n\n</details>"
