"""The benchmark: time of a training step, fastbp beside the NumPy reference and the peak of the CPU, in one run.

The clock of a CPU drifts, so figures of different runs do not compare. Here every round measures the reference, a loop
of nothing but fused multiply-adds, and fastbp, one right after the other.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fastbp
from fastbp import reference, runtime
from fastbp.workloads import Problem, Workload, problem

PAUSE = 0.15  # seconds; idle threads of OpenBLAS spin for about 0.1 s after a call before they sleep
LEAST_ROUNDS = 5
TITLE = f"{'workload':<16}{'reference us':>18}{'fastbp us':>20}{'ratio':>9}{'GFLOP/s':>9}{'of peak':>9}"
UNITS = f"{'':<16}{'min':>9}{'median':>9}{'min':>11}{'median':>9}"


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes
    ----------
    rounds : int
        At most so many per workload, and at least `LEAST_ROUNDS` or that.
    block : float
        Seconds of steps per round, for each of the two libraries; at least one step.
    total : float
        Seconds per workload after which no further round begins.
    """

    rounds: int = 30
    block: float = 0.03
    total: float = 3.0

    def quick(self) -> Effort:
        """Return an effort for a first look."""
        return Effort(min(self.rounds, LEAST_ROUNDS), self.block / 6, self.total / 10)


@dataclass(frozen=True)
class Result:
    """Measurements of one workload: an entry per round in each list.

    Attributes
    ----------
    workload : Workload
    threads : int
    loss : tuple of float
        Of the first step: the reference's and fastbp's.
    reference, fastbp : list of float
        Seconds per training step, mean over the block of steps of that round.
    peak : list of float
        Fused multiply-adds of `threads` cores at once, in floating-point operations per second.

    Examples
    --------
    >>> from fastbp.bench import Result
    >>> from fastbp.workloads import Workload
    >>> work = Workload("small", (1000, 1000), 1)
    >>> result = Result(work, 1, (0.0, 0.0), reference=[5e-4, 4e-4], fastbp=[1e-4, 2e-4], peak=[50e9, 50e9])
    >>> print(f"{result.ratio:.1f} {result.gflops:.1f} {result.share:.2f}")
    4.0 40.0 0.60
    """

    workload: Workload
    threads: int
    loss: tuple[float, float]
    reference: list[float] = field(default_factory=list)
    fastbp: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as long the reference takes, minimum to minimum."""
        return min(self.reference) / min(self.fastbp)

    @property
    def gflops(self) -> float:
        """10^9 floating-point operations per second in fastbp's fastest round."""
        return self.workload.operations / min(self.fastbp) * 1e-9

    @property
    def share(self) -> float:
        """The share of the FMA peak of `threads` cores: the median over the rounds, each with its own peak."""
        operations = self.workload.operations
        return median(operations / (s * peak) for s, peak in zip(self.fastbp, self.peak, strict=True))

    def row(self) -> str:
        """Return the line of the table."""
        times = [f(seconds) * 1e6 for seconds in (self.reference, self.fastbp) for f in (min, median)]
        us = [f"{t:.2f}" if t < 100 else f"{t:.0f}" for t in times]
        return (
            f"{self.workload.name:<16}{us[0]:>9}{us[1]:>9}{us[2]:>11}{us[3]:>9}"
            f"{self.ratio:>9.2f}{self.gflops:>9.1f}{self.share:>9.2f}"
        )

    def record(self) -> dict[str, Any]:
        """Return everything, with units in the names, as the JSON file has it."""
        us = {name: [s * 1e6 for s in getattr(self, name)] for name in ("reference", "fastbp")}
        return {
            **asdict(self.workload),
            "operations": self.workload.operations,
            "first_loss": dict(zip(("reference", "fastbp"), self.loss, strict=True)),
            **{f"{name}_us_{f.__name__}": f(values) for name, values in us.items() for f in (min, median)},
            "ratio": self.ratio,
            "ratio_median_of_rounds": median(r / f for r, f in zip(self.reference, self.fastbp, strict=True)),
            "gflops": self.gflops,
            "share_of_peak": self.share,
            "peak_gflops": median(self.peak) * 1e-9,
            "rounds": {**{f"{name}_us": values for name, values in us.items()}, "peak_flops": self.peak},
        }


def block_of(task: Problem, steps: int) -> float:
    """Return the seconds per step of a block of steps, after one step that is not timed."""
    step, x, y = task.net.train_step, task.x, task.y
    step(x, y)
    began = time.perf_counter()
    for _ in range(steps):
        step(x, y)
    return (time.perf_counter() - began) / steps


def steps_within(task: Problem, seconds: float) -> int:
    """Return the number of steps, at least one, that take about that long."""
    steps = 1
    while (each := block_of(task, steps)) * steps < seconds / 4:
        steps *= 2
    return max(1, round(seconds / each))


def measure(workload: Workload, effort: Effort, *, dtype: str, threads: int, pause: float = 0.0) -> Result:
    """Measure one workload, with the instructions and threads that are set.

    The peak is that of `threads` cores. After each block of the reference come `pause` seconds, for its BLAS threads to
    fall asleep.

    Raises
    ------
    RuntimeError
        If the plan counts other operations than the workload.
    """
    own, other = (problem(workload, library, dtype=dtype) for library in (fastbp, reference))
    counted = own.net.plan.operations(workload.batch) if isinstance(own.net, fastbp.Sequential) else None
    if counted != workload.operations:
        raise RuntimeError(f"{workload}: the plan counts {counted} operations, expected {workload.operations}")
    result = Result(workload, threads, (other.step(), own.step()))
    steps_other = steps_within(other, effort.block)
    time.sleep(pause)
    steps_own = steps_within(own, effort.block)
    began = time.perf_counter()
    for done in range(effort.rounds):
        if done >= min(LEAST_ROUNDS, effort.rounds) and time.perf_counter() - began > effort.total:
            break
        result.reference.append(block_of(other, steps_other))
        time.sleep(pause)
        result.peak.append(runtime.fma_peak(runtime.isa(), dtype, effort.block / 4, threads))
        result.fastbp.append(block_of(own, steps_own))
    return result


@contextmanager
def pinned(wanted: bool = True) -> Iterator[int | None]:
    """Keep the calling thread on one core, where the system can; yields its number, or None."""
    if not (wanted and hasattr(os, "sched_setaffinity")):
        yield None
        return
    before = os.sched_getaffinity(0)
    core = max(before)  # the first ones tend to serve interrupts
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def settings(isa: str | None, threads: int) -> Iterator[None]:
    """Make networks with the instruction set `isa`, or the usual one, and let calls use `threads`."""
    variable, count = os.environ.get("FASTBP_ISA"), runtime.get_num_threads()
    try:
        if isa is not None:
            os.environ["FASTBP_ISA"] = isa
        runtime.isa()  # raises if the CPU lacks it
        runtime.set_num_threads(threads)
        yield
    finally:
        runtime.set_num_threads(count)
        if variable is not None:
            os.environ["FASTBP_ISA"] = variable
        else:
            os.environ.pop("FASTBP_ISA", None)


@contextmanager
def limited_blas(threads: int) -> Iterator[dict[str, Any] | None]:
    """Let NumPy's BLAS use `threads`; yields what it is, or None (and no limit) if threadpoolctl is missing."""
    try:
        control = importlib.import_module("threadpoolctl")
    except ImportError:
        yield None
        return
    with control.threadpool_limits(threads, user_api="blas"):
        found = [library for library in control.threadpool_info() if library["user_api"] == "blas"]
        found.sort(key=lambda library: "numpy" not in str(library["filepath"]))  # SciPy may have brought another one
        keys = ("internal_api", "version", "architecture", "threading_layer", "num_threads")
        yield {key: found[0].get(key) for key in keys} if found else {}


def blas_line(blas: dict[str, Any] | None) -> str:
    """Describe the BLAS in a few words.

    Examples
    --------
    >>> from fastbp.bench import blas_line
    >>> blas_line({"internal_api": "openblas", "version": "0.3.31", "architecture": "Haswell", "num_threads": 1})
    'openblas 0.3.31, Haswell kernels, 1 thread'
    """
    if blas is None:
        return 'its BLAS unnamed and not limited in threads (threadpoolctl is missing: pip install "fastbp[demo]")'
    if not blas:
        return "a BLAS that threadpoolctl does not know"
    kernels = f", {blas['architecture']} kernels" if blas.get("architecture") else ""
    return f"{blas['internal_api']} {blas['version']}{kernels}, {plural(blas['num_threads'], 'thread')}"


def plural(n: int, noun: str) -> str:
    """Return "1 thread" or "2 threads"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def cpu_name() -> str:
    """Return the model of the CPU as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def run(
    workloads: Sequence[Workload],
    *,
    threads: int = 1,
    isa: str | None = None,
    dtype: str = "float32",
    effort: Effort | None = None,
    json_file: Path | None = None,
    out: Callable[[str], object] = print,
) -> list[Result]:
    """Measure the workloads, print the table line by line, and write the JSON file if one is named."""
    effort, results = effort or Effort(), []
    with settings(isa, threads), pinned(threads == 1) as core, limited_blas(threads) as blas:
        pause = PAUSE if blas is None or (blas.get("num_threads") or threads) > 1 else 0.0
        about = {
            "fastbp": fastbp.__version__,
            "numpy": np.__version__,
            "python": sys.version.split()[0],
            "platform": platform.platform(),
            "cpu": cpu_name(),
            "cpus": os.cpu_count() or 1,
            "load_average": os.getloadavg()[0],
            "pinned_to": core,
            "isa": runtime.isa(),
            "threads": threads,
            "dtype": dtype,
            "blas": blas,
        }
        out(f"one training step: forward, backward, update; cross-entropy, plain SGD, {dtype}; microseconds")
        place = platform.system() + ("" if core is None else f", pinned to CPU {core}")
        load = f"load average {about['load_average']:.1f} before"  # of other work, which disturbs the figures
        out(f"machine    {about['cpu']}, {plural(os.cpu_count() or 1, 'CPU')}, {place}, {load}")
        out(f"fastbp     {fastbp.__version__}, {about['isa']}, {plural(threads, 'thread')}")
        out(f"reference  fastbp.reference on NumPy {np.__version__}, {blas_line(blas)}")
        out(f"peak       fused multiply-adds of {plural(threads, 'core')}, measured between the rounds")
        out(f"{effort.rounds} rounds or fewer of many steps each; ratio, GFLOP/s: of the minima; share: median of the rounds")
        out(f"\n{TITLE}\n{UNITS}")
        for workload in workloads:
            results.append(measure(workload, effort, dtype=dtype, threads=threads, pause=pause))
            out(results[-1].row())
    if json_file is not None:
        record = {**about, "workloads": [result.record() for result in results]}
        json_file.write_text(json.dumps(record, indent=1) + "\n")
    return results
