"""The run time: how many threads, which instructions, how fast this CPU can be."""

from __future__ import annotations

import math
import os
import platform
import sys
from pathlib import Path
from threading import Thread
from typing import Literal, overload

import numpy as np

from fastbp import _fastbp_core as core
from fastbp import checks


def isa() -> str:
    """Return the name of the instruction set in use: "avx512", "avx2", "neon" or "base".

    The environment variable FASTBP_ISA chooses another one that the CPU has; networks made from then on use it.

    Raises
    ------
    ValueError
        If FASTBP_ISA names one that the CPU lacks.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.isa() in fb.runtime.isa_names()
    True
    """
    names = core.isa_names()
    asked = os.environ.get("FASTBP_ISA") or names[0]
    if asked not in names:
        raise ValueError(f"FASTBP_ISA must be one of {', '.join(names)} on this CPU, got {asked!r}")
    return asked


def isa_names() -> tuple[str, ...]:
    """Return the instruction sets that this CPU has and fastbp was built for, best first."""
    return core.isa_names()


def fma_peak(isa: str | None = None, dtype: str = "float32", seconds: float = 0.05, threads: int = 1) -> float:
    """Return the floating-point operations per second of a loop of independent fused multiply-adds, of `threads` cores at once.

    The mean over `seconds`, at whatever clock the cores have meanwhile and with whatever they share: measure it beside what
    is to be compared with it.

    Raises
    ------
    ValueError
        If this CPU lacks `isa`, dtype is not "float32" or "float64", or threads is not from 1 to 256.
    TypeError
        If threads is not an integer.
    """
    threads = checks.threads("threads", threads)
    dtype = checks.float_dtype(dtype).name
    core.fma_peak(isa, dtype, 0.0)  # raises if the CPU lacks `isa`, before any thread is started
    rates: list[float] = []
    others = [Thread(target=lambda: rates.append(core.fma_peak(isa, dtype, seconds))) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    rates.append(core.fma_peak(isa, dtype, seconds))
    for thread in others:
        thread.join()
    return sum(rates)


def set_num_threads(n: int) -> None:
    """Let a call use at most `n` threads; it uses fewer where its work is too small to share. Results do not depend on it.

    Raises
    ------
    ValueError
        If n is not from 1 to 256.
    TypeError
        If n is not an integer.
    """
    core.set_threads(checks.threads("n", n))


def get_num_threads() -> int:
    """Return the number of threads a call may use."""
    return core.get_threads()


def default_threads(environment: dict[str, str] | None = None) -> int:
    """Return FASTBP_NUM_THREADS, or OMP_NUM_THREADS, or the CPUs this process may use: min(affinity, cgroup quota)."""
    variables = os.environ if environment is None else environment
    for name in ("FASTBP_NUM_THREADS", "OMP_NUM_THREADS"):
        first = variables.get(name, "").split(",")[0].strip()  # OMP_NUM_THREADS may list one number per level
        if first.isascii() and first.isdigit() and first.strip("0"):
            return checks.MAX_THREADS if len(first) > 3 else min(int(first), checks.MAX_THREADS)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cpus, cgroup_quota(), checks.MAX_THREADS)))


def cgroup_quota(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the CPUs that the control groups of this process leave it, infinity where they set no limit.

    The smallest quota from the group of the process up to the root, in version 2 (cpu.max) or 1 (cpu.cfs_quota_us).
    """
    try:
        lines = proc.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return math.inf
    quota = math.inf
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            quota = min(quota, _quota_of(folder))
            if folder == base:
                break
    return quota


def _quota_of(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():
            most, period = (folder / "cpu.max").read_text().split()
        else:
            most = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return math.inf if most == "max" or float(most) <= 0 else float(most) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


@overload
def show_config(mode: Literal["stdout"] = ...) -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, str]: ...
def show_config(mode: str = "stdout") -> dict[str, str] | None:
    """Print version, instruction sets, threads and platform, as a bug report needs them; or return them with mode="dicts"."""
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode must be 'stdout' or 'dicts', got {mode!r}")
    from fastbp import __version__, numerics_version

    config = {
        "fastbp": f"{__version__}, numerics_version {numerics_version}",
        "isa": isa(),
        "isas of this cpu": ", ".join(isa_names()),
        "threads": str(get_num_threads()),
        "fma peak": f"{fma_peak() / 1e9:.0f} GFLOP/s float32, one core",
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
    }
    if mode == "dicts":
        return config
    for name, value in config.items():
        print(f"{name:>16}  {value}")
    return None
