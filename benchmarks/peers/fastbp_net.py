"""The library itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

import fastbp
from benchmarks.peers import Job, MissingError
from benchmarks.problem import Problem
from fastbp import runtime

EPOCH_OPERATIONS = 2e10  # an epoch of `fit` has 4 to 64 batches, so that it ends


def open_peer(threads: int) -> dict[str, str]:
    runtime.set_num_threads(threads)
    return {"fastbp": fastbp.__version__, "isa": runtime.isa()}


def network(library: ModuleType, problem: Problem) -> tuple[Any, Any]:
    """The network, in fastbp or its reference, and its kind of optimizer."""
    kind = getattr(library, {"adam": "Adam"}.get(problem.task, "SGD"), None)
    if kind is None:
        raise MissingError(f"{library.__name__} has no Adam yet")
    last = len(problem.weights) - 1
    layers = [
        library.Dense(w.shape[1], "identity" if i == last else "relu", weight_init=w, bias_init=b)
        for i, (w, b) in enumerate(zip(problem.weights, problem.biases, strict=True))
    ]
    layers.insert(0, library.Input(problem.layers[0]))
    return library.Sequential(layers, loss="cross_entropy", optimizer=kind(1e-3), dtype=problem.dtype, seed=0), kind


def prepare_in(library: ModuleType, problem: Problem) -> Job:
    """A training step or a prediction, in fastbp or its reference."""
    net, kind = network(library, problem)
    if problem.task == "predict":
        out = np.empty((problem.batch, problem.layers[-1]), problem.dtype)
        return Job(partial(net.predict, problem.x, out=out), read=lambda logits: logits)

    def rate(value: float) -> None:
        net.optimizer = kind(value)

    if problem.task in ("steps", "fit"):
        return epoch(net, rate, problem)
    return Job(partial(net.train_step, problem.x, problem.y), rate=rate)


def epoch(net: Any, rate: Any, problem: Problem) -> Job:
    """All batches of a data set: by `fit`, shuffled, or by `train_step`, in order."""
    batch = problem.batch
    n = int(min(64, max(4, EPOCH_OPERATIONS // net.plan.operations(batch))))
    x, y = problem.rows(n * batch)
    if problem.task == "fit":
        fit = partial(net.fit, x, y, batch_size=batch)
        return Job(fit, read=lambda history: history.loss[0], rate=rate, steps=n)
    batches = [(x[i : i + batch], y[i : i + batch]) for i in range(0, n * batch, batch)]

    def steps() -> float:
        return sum([net.train_step(rows, labels) for rows, labels in batches]) / n

    return Job(steps, rate=rate, steps=n)


@contextmanager
def on_threads(n: int) -> Iterator[None]:
    """Within, calls use so many threads."""
    before = runtime.get_num_threads()
    runtime.set_num_threads(n)
    try:
        yield
    finally:
        runtime.set_num_threads(before)


def prepare(problem: Problem) -> Job:
    job = prepare_in(fastbp, problem)
    return replace(job, context=partial(on_threads, problem.threads)) if problem.threads else job


def peak(dtype: str, seconds: float) -> float:
    """FMA operations in a second, of as many cores as threads, at once."""
    return runtime.fma_peak(runtime.isa(), dtype, seconds, runtime.get_num_threads())
