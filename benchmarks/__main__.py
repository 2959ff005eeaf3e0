"""The command line: ``python -m benchmarks`` measures, ``python -m benchmarks --from results.json`` only draws and writes."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.cases import TASKS, Choice
from benchmarks.driver import ROOT, Crew, Effort, cores_for, measure
from benchmarks.peers import PEERS
from benchmarks.results import Results
from fastbp.__main__ import workload_list
from fastbp.bench import cpu_name
from fastbp.workloads import WORKLOADS


def chosen(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Read some of the known words with commas between."""
    words = tuple(text.split(","))
    for word in words:
        if word not in known:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(known)}, got {word!r}")
    return words


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    about = "fastbp beside every peer that is installed: training steps, predictions, growth, threads"
    parser = argparse.ArgumentParser("python -m benchmarks", description=about)
    add = parser.add_argument
    names = ",".join(work.name for work in WORKLOADS)
    add("--workloads", type=workload_list, default=names, metavar="A,B", help=f"of {names}; others as 64-100-10:32")
    tasks = ",".join(TASKS)
    add("--tasks", type=lambda text: chosen(text, tuple(TASKS)), default=tasks, metavar="A,B", help=f"of {tasks}")
    add("--threads", type=lambda text: chosen(text, ("1", "2")), default="1,2", metavar="1,2", help="one or two, or both")
    peers = ",".join(PEERS)
    add("--peers", type=lambda text: chosen(text, tuple(PEERS)), metavar="A,B", help=f"of {peers}")
    add("--dtype", choices=("float32", "float64"), default="float32", help="of everything")
    add("--core", type=int, metavar="N", help="the core for one thread, and the first of two; default: the last one")
    add("--quick", action="store_true", help="short rounds, fewer points, no peer that compiles for long")
    add("--rounds", type=int, metavar="N", help="exactly so many rounds")
    add("--out", type=Path, metavar="FOLDER", help="write benchmarks.md there, and charts and JSON to FOLDER/benchmarks")
    add("--json", type=Path, metavar="FILE", help="write the JSON to this file, too")
    add("--charts", choices=(".svg", ".png"), default=".png", help="format of the charts; default: .png")
    add("--from", dest="saved", type=Path, metavar="FILE", help="measure nothing: page and charts from a JSON file")
    return parser


def commit() -> str:
    """The commit of this checkout, with a mark if files differ from it; empty where git does not know."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def about(asked: argparse.Namespace, effort: Effort, peers: Sequence[str]) -> dict[str, Any]:
    """Machine and settings."""
    kind = "quick" if asked.quick else "full"
    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count() or 1,
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "commit": commit(),
        "dtype": asked.dtype,
        "cores": ", ".join(map(str, cores_for(max(map(int, asked.threads)), asked.core))) or "not pinned",
        "load_average": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "effort": f"{kind}: {effort.least} to {effort.rounds} rounds of {effort.block * 1e3:.0f} ms a peer",
        "order": list(peers),
    }


def run(asked: argparse.Namespace) -> Results:
    """Measure everything that was asked for; what is there is kept on Ctrl-C."""
    effort = Effort().quick() if asked.quick else Effort()
    if asked.rounds:
        effort = Effort(asked.rounds, asked.rounds, effort.block, effort.total, effort.setup)
    peers = asked.peers or tuple(name for name, peer in PEERS.items() if not (asked.quick and peer.slow_setup))
    results = Results(about(asked, effort, peers))
    results.missing = {name: "left out: --quick" for name in PEERS if not asked.peers and name not in peers}
    choice = Choice(asked.workloads, asked.tasks, tuple(map(int, asked.threads)), peers, asked.dtype, asked.quick)
    groups, began = choice.groups(), time.monotonic()
    with Crew(core=asked.core) as crew:
        try:
            for i, group in enumerate(groups):
                crew.rest(group.threads)
                main = group.section in ("sgd", "adam", "predict", "update")
                results.measured.append(measure(group, crew, effort if main else effort.sweep()))
                left = (time.monotonic() - began) / (i + 1) * (len(groups) - i - 1)
                print(report.block(results.measured[-1]), flush=True)
                print(f"  {i + 1} of {len(groups)}; about {left / 60:.0f} minutes to go", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("stopped: what was measured is kept", file=sys.stderr)
        results.peers = crew.versions
        results.missing |= crew.missing
    results.about["minutes"] = round((time.monotonic() - began) / 60, 1)
    return results


def write(results: Results, folder: Path, suffix: str) -> None:
    """Write the JSON, the charts and the page."""
    inside = folder / "benchmarks"
    inside.mkdir(parents=True, exist_ok=True)
    results.save(inside / "results.json")
    try:
        from benchmarks import charts
    except ModuleNotFoundError as error:
        print(f"no charts: {error.name} is not installed", file=sys.stderr)
        drawn = []
    else:
        drawn = charts.draw(results, inside, suffix)
    page = folder / "benchmarks.md"
    page.write_text(report.page(results, drawn, folder=folder))
    print(f"wrote {page} and {inside}/", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    asked = arguments().parse_args(argv)
    try:
        results = Results.load(asked.saved) if asked.saved else run(asked)
    except ValueError as error:
        print(f"python -m benchmarks: error: {error}", file=sys.stderr)
        return 2
    print(report.summary(results))
    if asked.json:
        results.save(asked.json)
    if asked.out:
        write(results, asked.out, asked.charts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
