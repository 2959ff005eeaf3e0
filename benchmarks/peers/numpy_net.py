"""NumPy: the reference model, on whatever BLAS NumPy has."""

from __future__ import annotations

import os

import numpy as np

from benchmarks.peers import Job
from benchmarks.peers.fastbp_net import prepare_in
from benchmarks.problem import Problem
from fastbp import bench, reference


def open_peer(threads: int) -> dict[str, str]:
    return {"numpy": np.__version__, "blas": blas()}


def blas() -> str:
    """Name, version and kernels of the BLAS; its threads were limited by the environment."""
    with bench.limited_blas(int(os.environ["OMP_NUM_THREADS"])) as found:
        return bench.blas_line(found)


def prepare(problem: Problem) -> Job:
    return prepare_in(reference, problem)
