"""Before and after: two commits of fastbp, built apart, measured in the same rounds.

    python -m benchmarks.compare A B

Each commit is exported and built into a folder of its own below a temporary one, with the compiler flags of the environment,
and run by the same driver as the peers: one process each, blocks of steps in turn.
"""

from __future__ import annotations

import argparse
import io
import math
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.__main__ import chosen
from benchmarks.cases import Choice
from benchmarks.driver import ROOT, Crew, Effort, measure
from benchmarks.peers import PEERS, Peer
from benchmarks.report import plural, times, us
from benchmarks.results import Measured
from fastbp.__main__ import workload_list
from fastbp.workloads import WORKLOADS

BEFORE, AFTER = "before", "after"
TITLE = f"{'':<28}{'before us':>11}{'median':>9}{'after us':>11}{'median':>9}{'after/before':>14}{'median':>8}{'of peak':>15}"


def git(*words: str) -> bytes:
    """What a git command in this checkout prints."""
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=True).stdout


def build(commit: str, folder: Path) -> Path:
    """Export and build a commit; return the folder to import fastbp from."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as tree:
        tree.extractall(folder / "tree", filter="data")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder / "tree", capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"building {commit} failed:\n{done.stderr[-2000:]}")
    return folder / "tree" / "src"


def peer(name: str, source: Path) -> Peer:
    """fastbp as it is in that folder."""
    return replace(PEERS["fastbp"], name=name, environment={"PYTHONPATH": str(source)})


def line(m: Measured) -> str:
    """The line of a workload."""
    title = f"{m.section} {m.name}, {plural(m.threads, 'thread')}"
    rows = m.done
    if set(rows) != {BEFORE, AFTER}:
        return f"{title:<28}" + "; ".join(f"{row.label}: {row.reason}" for row in m.rows if row.reason)
    figures = [us(value) for label in (BEFORE, AFTER) for value in (rows[label].best, rows[label].median)]
    shares = " -> ".join(f"{m.share(label) or 0:.3f}" for label in (BEFORE, AFTER))
    return (
        f"{title:<28}{figures[0]:>11}{figures[1]:>9}{figures[2]:>11}{figures[3]:>9}"
        f"{m.ratio(AFTER, BEFORE):>14.3f}{m.median_ratio(AFTER, BEFORE):>8.3f}{shares:>17}"
    )


def mean(found: Sequence[Measured]) -> str:
    """The geometric mean of the ratios."""
    ratios = [ratio for m in found if (ratio := m.ratio(AFTER, BEFORE)) is not None]
    if not ratios:
        return "nothing to compare"
    worst = max(found, key=lambda m: m.ratio(AFTER, BEFORE) or 0.0)
    value = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return f"geometric mean {value:.3f}; worst {times(worst.ratio(AFTER, BEFORE))}: {worst.section} {worst.name}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.compare", description="before and after: two commits of fastbp")
    add = parser.add_argument
    names = ",".join(work.name for work in WORKLOADS)
    tasks = ("sgd", "adam", "predict")
    add("before", help="a commit")
    add("after", help="another one")
    add("--workloads", type=workload_list, default=names, metavar="A,B", help=f"of {names}; others as 64-100-10:32")
    add("--tasks", type=lambda text: chosen(text, tasks), default=",".join(tasks), metavar="A,B", help=f"of {', '.join(tasks)}")
    add("--threads", type=lambda text: chosen(text, ("1", "2")), default="1", metavar="1,2", help="one or two, or both")
    add("--dtype", choices=("float32", "float64"), default="float32", help="of everything")
    add("--core", type=int, metavar="N", help="the core for one thread")
    add("--rounds", type=int, default=15, metavar="N", help="rounds of a workload")
    add("--block", type=float, default=0.05, metavar="S", help="seconds of steps in a round")
    asked = parser.parse_args(argv)
    effort = Effort(rounds=asked.rounds, least=min(5, asked.rounds), block=asked.block, total=15.0)
    choice = Choice(asked.workloads, asked.tasks, tuple(map(int, asked.threads)), (BEFORE, AFTER), asked.dtype)
    found = []
    with tempfile.TemporaryDirectory(prefix="fastbp-compare-") as folder:
        peers = {}
        for label, commit in ((BEFORE, asked.before), (AFTER, asked.after)):
            try:
                print(f"{label:<7} {git('log', '-1', '--format=%h %s', commit).decode().strip()}", flush=True)
                peers[label] = peer(label, build(commit, Path(folder) / label))
            except (subprocess.CalledProcessError, RuntimeError) as error:
                said = getattr(error, "stderr", None)
                print(f"python -m benchmarks.compare: error: {said.decode().strip() if said else error}", file=sys.stderr)
                return 2
        print(f"\n{TITLE}")
        with Crew(peers, core=asked.core) as crew:
            for group in choice.groups():
                crew.rest(group.threads)
                found.append(measure(group, crew, effort, peak_of=AFTER))
                print(line(found[-1]), flush=True)
    print(f"\n{mean(found)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
