"""One peer in a process of its own, answering commands on stdin with lines of JSON on stdout.

    python -m benchmarks.worker NAME MODULE THREADS CORES

    {"do": "setup", "slot": 0, "task": "sgd", "layers": [8, 64, 4], "batch": 64, "dtype": "float32", "threads": 0}
    {"do": "time", "slot": 0, "seconds": 0.1}
    {"do": "peak", "dtype": "float32", "seconds": 0.02}
    {"do": "drop"}
    {"do": "quit"}

The process is pinned to its cores before the peer is imported. Whatever else the peer prints goes to stderr.
"""

import os
import sys

if __name__ == "__main__" and hasattr(os, "sched_setaffinity") and sys.argv[4:] and sys.argv[4]:
    os.sched_setaffinity(0, {int(core) for core in sys.argv[4].split(",")})  # before anything can count the cores

import gc
import importlib
import itertools
import json
import time
from typing import Any, TextIO

from benchmarks.cases import TRAINING
from benchmarks.peers import Job, MissingError
from benchmarks.problem import Problem, cross_entropy

CHECKED_STEPS = 3
CALM = {"adam": 1e-9}  # so small that thousands of steps on one batch leave the network, and the exponents, as they were
CALM_OTHERS = 1e-6
LONG = 0.02  # seconds; before blocks of shorter steps comes one that is not timed


class Worker:
    """The jobs that are set up, by slot."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.jobs: dict[int, Job] = {}
        self.counts: dict[tuple[int, float], int] = {}

    def setup(self, slot: int, task: str, layers: list[int], batch: int, dtype: str, threads: int = 0) -> dict[str, Any]:
        """Prepare a job; return the losses of its first steps, or of its prediction."""
        problem = Problem(task, tuple(layers), batch, dtype, threads)
        job = self.module.prepare(problem)
        self.jobs[slot] = job
        self.counts = {key: count for key, count in self.counts.items() if key[0] != slot}
        with job.context():
            losses = first_losses(job, problem)
            job.rate(CALM.get(task, CALM_OTHERS))
        return {"losses": losses, "note": job.note}

    def time(self, slot: int, seconds: float) -> dict[str, Any]:
        """Seconds per step of a block of steps that takes about `seconds`."""
        job = self.jobs[slot]
        with job.context():
            if (slot, seconds) not in self.counts:
                self.counts[slot, seconds] = calls_within(job, seconds)
            count = self.counts[slot, seconds]
            return {"seconds": block_of(job, count, warm=count * LONG > seconds), "steps": count * job.steps}

    def peak(self, dtype: str, seconds: float) -> dict[str, Any]:
        """FMA operations in a second, of all threads together."""
        return {"flops": self.module.peak(dtype, seconds)}

    def drop(self) -> dict[str, Any]:
        """Forget all jobs."""
        self.jobs.clear()
        self.counts.clear()
        gc.collect()
        return {}


def first_losses(job: Job, problem: Problem) -> list[float]:
    """Losses of the first training steps, with a learning rate that shows a wrong gradient, or the loss of the prediction."""
    if problem.task == "predict":
        return [cross_entropy(job.read(job.step()), problem.y)]
    if problem.task not in TRAINING:
        job.step()
        return []
    job.rate(0.1 / max(problem.layers) if problem.task == "adam" else 0.01)
    losses = [float(job.read(job.step())) for _ in range(CHECKED_STEPS)]
    return losses[:1] if job.note.startswith("two classes") else losses  # one logistic output learns at another pace


def block_of(job: Job, calls: int, *, warm: bool = True) -> float:
    """Seconds per step of a block of calls."""
    step = job.step
    if warm:
        step()
        job.wait()
    began = time.perf_counter()
    for _ in itertools.repeat(None, calls):
        step()
    job.wait()
    return (time.perf_counter() - began) / (calls * job.steps)


def calls_within(job: Job, seconds: float) -> int:
    """The number of calls, at least one, that take about that long."""
    calls = 1
    while (each := block_of(job, calls, warm=False) * job.steps) * calls < seconds / 4:
        calls *= 2
    return max(1, round(seconds / each))


def answer(worker: Worker, command: dict[str, Any]) -> dict[str, Any]:
    """Do one command; whatever fails becomes an answer."""
    try:
        do = command.pop("do")
        if do not in ("setup", "time", "peak", "drop"):
            raise ValueError(f"no such command: {do!r}")
        result: dict[str, Any] = getattr(worker, do)(**command)
        return result
    except MissingError as error:
        return {"missing": str(error)}
    except Exception as error:  # the driver reports it and goes on with the other peers
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}


def main(name: str, module_name: str, threads: int, commands: TextIO, answers: TextIO) -> None:
    """Open the peer, say what it is, and answer until stdin ends."""

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        module = importlib.import_module(f"benchmarks.peers.{module_name}")
        say({"about": module.open_peer(threads)})
    except ModuleNotFoundError as error:
        say({"missing": f"{error.name} is not installed"})
        return
    except MissingError as error:
        say({"missing": str(error)})
        return
    except Exception as error:
        say({"missing": " ".join(f"{type(error).__name__}: {error}".split())[:300]})
        return
    worker = Worker(module)
    gc.disable()  # as `timeit` does, for every peer
    for line in commands:
        command = json.loads(line)
        if command["do"] == "quit":
            return
        say(answer(worker, command))


if __name__ == "__main__":
    private = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.stdin, private)
