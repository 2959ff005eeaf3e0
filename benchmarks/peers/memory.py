"""No network: copying as many numbers as it has parameters, which shows the bandwidth of that level of memory."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.peers import Job
from benchmarks.problem import Problem


def open_peer(threads: int) -> dict[str, str]:
    return {"numpy": np.__version__}


def prepare(problem: Problem) -> Job:
    source, target = (np.ones(problem.parameters, problem.dtype) for _ in range(2))
    return Job(partial(np.copyto, target, source))
