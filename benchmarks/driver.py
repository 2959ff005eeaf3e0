"""The driver: starts a process for each peer and lets them take turns.

In each round each lane times one block of steps while the other processes wait for a command, and the FMA peak is measured
once; the order turns from round to round. So whatever drifts, drifts for all.
"""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cases import Group
from benchmarks.peers import MEMORY, NARROWING, PEERS, Peer
from benchmarks.results import Measured, Row

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}  # relative, of losses
OPEN_LIMIT, TIME_LIMIT = 180.0, 600.0  # seconds


class WorkerError(Exception):
    """A worker is missing, failed, or gave no answer in time; the message says which."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes
    ----------
    rounds, least : int
        At most and at least so many rounds of a group.
    block : float
        Seconds of steps of a lane in a round; at least one step.
    total : float
        Seconds of a group after which no further round begins, once `least` are done.
    setup : float
        Seconds a peer may take to get ready: to compile, for one.
    """

    rounds: int = 9
    least: int = 7
    block: float = 0.1
    total: float = 20.0
    setup: float = 240.0

    def quick(self) -> Effort:
        """For a first look."""
        return replace(self, rounds=7, least=3, block=0.01, total=1.5)

    def sweep(self) -> Effort:
        """For one of the many points of a sweep."""
        return replace(self, block=self.block * 0.3, total=self.total * 0.3, least=min(self.least, 3))


def cores_for(threads: int, first: int | None = None) -> list[int]:
    """As many cores as threads, `first` or the last one first; [] where the system cannot pin.

    Raises
    ------
    ValueError
        If this process has not that many cores, or not that one.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0), reverse=True)  # the first ones tend to serve interrupts
    if first is not None and first not in cores:
        raise ValueError(f"core must be one of {cores[::-1]}, got {first}")
    if len(cores) < threads:
        raise ValueError(f"{threads} threads need as many cores, and this process may use {len(cores)}")
    return sorted(cores, key=lambda core: core != first)[:threads]


def environment_for(peer: Peer, threads: int) -> dict[str, str]:
    """The variables of a worker's process."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "FASTBP_NUM_THREADS", "PJRT_NPROC")
    paths = [peer.environment.get("PYTHONPATH", ""), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **{name: value for name, value in os.environ.items() if name not in NARROWING},
        **dict.fromkeys(names, str(threads)),
        **peer.environment,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONWARNINGS": "ignore",
    }


class Worker:
    """One peer's process."""

    def __init__(self, peer: Peer, threads: int, cores: Sequence[int]) -> None:
        self.peer = peer
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        words = [peer.name, peer.module, str(threads), ",".join(map(str, cores))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment_for(peer, threads),
        )
        self.buffer = b""
        try:
            self.about: dict[str, str] = self.read(OPEN_LIMIT)["about"]
        except BaseException:
            self.close()
            raise

    def ask(self, limit: float, **command: Any) -> dict[str, Any]:
        """Send a command and return the answer.

        Raises
        ------
        WorkerError
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()
        except (OSError, ValueError):  # ended, or closed after it gave no answer
            raise WorkerError(self.last_words()) from None
        return self.read(limit)

    def read(self, limit: float) -> dict[str, Any]:
        """Return the next answer; a worker that fails to give one is ended."""
        assert self.process.stdout is not None
        end = time.monotonic() + limit
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.close(kill=True)
                raise WorkerError(f"no answer within {limit:.0f} s")
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                raise WorkerError(self.last_words())
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        for key in ("missing", "error"):
            if key in answer:
                raise WorkerError(answer[key])
        return answer

    def last_words(self) -> str:
        """What a process that ended said last."""
        code = self.process.wait(10)
        lines = []
        if not self.errors.closed:
            self.errors.seek(0)
            lines = [line.strip() for line in self.errors.read().splitlines() if line.strip()]
        self.close()
        return f"its process ended with {code}" + (f": {lines[-1][:200]}" if lines else "")

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None

    def close(self, kill: bool = False) -> None:
        """End the process."""
        if kill:
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                with suppress(OSError):
                    pipe.close()  # the worker's loop ends with its stdin
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


class Crew:
    """The workers of one run, started when first asked for."""

    def __init__(self, peers: Mapping[str, Peer] = PEERS, core: int | None = None) -> None:
        self.peers = {**peers, MEMORY.name: MEMORY}
        self.core = core
        self.workers: dict[tuple[str, int], Worker] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.missing: dict[str, str] = {}

    def get(self, name: str, threads: int) -> Worker:
        """The worker of a peer; a dead one is replaced.

        Raises
        ------
        WorkerError
            If the peer is missing.
        """
        if name in self.missing:
            raise WorkerError(self.missing[name])
        worker = self.workers.get((name, threads))
        if worker is None or not worker.alive:
            try:
                worker = Worker(self.peers[name], threads, cores_for(threads, self.core))
            except (WorkerError, ValueError) as error:
                self.missing[name] = str(error)
                raise WorkerError(str(error)) from None
            self.workers[name, threads] = worker
            self.versions[f"{name}, {threads} thread{'s' * (threads > 1)}"] = worker.about
        return worker

    def rest(self, threads: int) -> None:
        """End the workers that have another number of threads: nothing of them shall run."""
        for key in [key for key in self.workers if key[1] != threads]:
            self.workers.pop(key).close()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()


def difference(losses: Sequence[float], expected: Sequence[float]) -> float:
    """The largest relative difference; infinity for NaN."""
    found = [abs(a - b) / max(abs(b), 1e-30) for a, b in zip(losses, expected, strict=False)]
    return max((d if math.isfinite(d) else math.inf for d in found), default=0.0)


def set_up(group: Group, crew: Crew, effort: Effort) -> list[tuple[Row, Worker | None]]:
    """Prepare all lanes and check that their losses agree; a row with a reason has no worker."""
    rows: list[tuple[Row, Worker | None]] = []
    expected: dict[str, list[float]] = {}
    for slot, lane in enumerate(group.lanes):
        row, worker = Row(lane.label), None
        try:
            if lane.task not in crew.peers[lane.peer].tasks:
                raise WorkerError("predicts only")
            worker = crew.get(lane.peer, lane.process or lane.threads)
            settings = {"task": lane.task, "layers": group.layers, "batch": group.batch, "dtype": group.dtype}
            if lane.process:
                settings["threads"] = lane.threads
            ready = worker.ask(effort.setup, do="setup", slot=slot, **settings)
            row.losses, row.note = ready["losses"], ready["note"]
            row.difference = difference(row.losses, expected.setdefault(lane.task, row.losses)) if row.losses else None
            if row.difference is not None and row.difference > TOLERANCE[group.dtype]:
                raise WorkerError(f"its losses differ by {row.difference:.1e}")
        except WorkerError as error:
            row.reason, worker = str(error), None
        rows.append((row, worker))
    return rows


def measure(group: Group, crew: Crew, effort: Effort, *, peak_of: str = "fastbp") -> Measured:
    """Measure the lanes of a group in rounds."""
    rows = set_up(group, crew, effort)
    result = Measured(group.section, group.name, group.layers, group.batch, group.dtype, group.threads, group.operations)
    result.rows = [row for row, _ in rows]
    slots = [slot for slot, (_, worker) in enumerate(rows) if worker is not None]
    began = time.monotonic()
    for done in range(effort.rounds if slots else 0):
        if done >= effort.least and time.monotonic() - began > effort.total:
            break
        turn = done % len(slots)
        for slot in slots[turn:] + slots[:turn]:
            row, worker = rows[slot]
            if row.reason or worker is None:
                continue
            try:
                row.seconds.append(worker.ask(TIME_LIMIT, do="time", slot=slot, seconds=effort.block)["seconds"])
            except WorkerError as error:
                row.reason = str(error)
                row.seconds.clear()
            if group.lanes[slot].threads > 1:
                time.sleep(worker.peer.spin)
        answer = crew.get(peak_of, group.threads).ask(TIME_LIMIT, do="peak", dtype=group.dtype, seconds=effort.block / 4)
        result.peak.append(answer["flops"])
    for _, worker in rows:
        if worker is not None and worker.alive:
            worker.ask(TIME_LIMIT, do="drop")
    return result
