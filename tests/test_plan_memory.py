"""Memory of a network with every gate: none in the steady state, no Python object left, callers' arrays given back."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Array
from gate_cases import data, everything
from graphs import dense
from test_memory import SLACK, growth, linux

from fastbp.graph import Node, Objective, compile_graph

PLAN = everything("float32", units=140)
x, y = data(50, "float32")
WRONG = [x[0], x[1] + 5]
DOUT = [y[0], np.ones((50, 4), np.float32)]


def squared_error(out: Array, target: Array) -> tuple[float, Array]:
    return 0.0, (out - target) / len(out)


def raising(out: Array, target: Array) -> tuple[float, Array]:
    raise ArithmeticError("no")


def own(loss: Any) -> Any:
    tanh = (np.tanh, lambda z: 1 - np.tanh(z) ** 2)
    nodes = [Node("input", (), 6), Node("dense", (0,), 5, (1,), activation="custom", function=tanh), dense(1, 2)]
    plan = compile_graph(nodes, dtype="float32", losses=[Objective(loss)], optimizer="sgd")
    plan.set_hyper(0.1)
    return plan


OWN, RAISING = own(squared_error), own(raising)


def by_hand() -> None:
    PLAN.forward(x)
    PLAN.backward(DOUT, True)
    PLAN.update()
    PLAN.value(3), PLAN.delta(5)


def refused() -> None:
    with pytest.raises(ValueError, match="categories of an embedding"):
        PLAN.train_step(WRONG, y)
    with pytest.raises(ArithmeticError, match="no"):
        RAISING.train_step(x[0], y[0])


def freeze() -> None:
    PLAN.set_trainable(5, False)
    PLAN.train_step(x, y)
    PLAN.set_trainable(5, True)


STEADY: dict[str, Callable[[], object]] = {
    "train_step": lambda: PLAN.train_step(x, y),
    "weights": lambda: PLAN.train_step(x, y, np.ones(50)),
    "train_epoch": lambda: PLAN.train_epoch(x, y, np.arange(50), 20),
    "predict": lambda: PLAN.predict(x),
    "nodes": lambda: PLAN.predict(x, nodes=[1, 6, 14, 23]),
    "by_hand": by_hand,
    "refused": refused,
    "freeze": freeze,
    "views": lambda: (PLAN.params(), PLAN.grads(), PLAN.state()),
    "functions of one's own": lambda: (OWN.train_step(x[0], y[0]), OWN.predict(x[0]), OWN.forward(x[0])),
}


@linux
@pytest.mark.parametrize("name", STEADY)
def test_the_steady_state_allocates_nothing(name: str) -> None:
    """A leak of 300 bytes a call would show."""
    STEADY[name]()
    held = PLAN.nbytes, OWN.nbytes
    assert growth(STEADY[name], SLACK // 300) < SLACK
    assert (PLAN.nbytes, OWN.nbytes) == held


@pytest.mark.parametrize("name", STEADY)
def test_no_python_object_is_left(name: str) -> None:
    tracemalloc.start()
    try:
        for _ in range(10):
            STEADY[name]()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            STEADY[name]()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 200 * 8, "8 bytes a call are less than any object"
    finally:
        tracemalloc.stop()


def test_references_are_given_back() -> None:
    arrays = [v.copy() for v in (*x, *y, *DOUT)]
    counts = [sys.getrefcount(a) for a in arrays]
    inputs, targets, dout = arrays[:2], arrays[2:4], arrays[4:]
    PLAN.train_step(inputs, targets)
    PLAN.train_epoch(inputs, targets, None, 20)
    PLAN.forward(inputs)
    PLAN.backward(dout, True)
    PLAN.predict(inputs, nodes=[3])
    OWN.train_step(inputs[0], targets[0])
    with pytest.raises(ValueError, match="categories of an embedding"):
        PLAN.train_step([inputs[0], inputs[1] + 5], targets)
    with pytest.raises(ArithmeticError, match="no"):
        RAISING.train_step(inputs[0], targets[0])
    del inputs, targets, dout
    gc.collect()
    assert [sys.getrefcount(a) for a in arrays] == counts


def test_functions_go_with_their_network() -> None:
    """Also where they hold it: a circle that the collector finds."""

    class Loss:
        plan: Any = None

        def __call__(self, out: Array, target: Array) -> tuple[float, Array]:
            return 0.0, np.zeros_like(out)

    loss = Loss()
    loss.plan = own(loss)
    loss.plan.train_step(x[0], y[0])
    gone = weakref.ref(loss)
    del loss
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("rows", [1, 50, 1000])
def test_a_training_workspace_takes_what_it_needs(rows: int) -> None:
    """O and dE/dO of every gate, what norms, dropouts and embeddings keep, targets: rows of whole cache lines."""
    plan = everything("float32")
    before = plan.nbytes
    plan.train_step(*data(rows, "float32"))
    widths = [6, 2, 6, 8, 14, 20, 20, 20, 20, 20, 20, 20, 20, 20, 0, 20, 20, 20, 20, 20, 9, 9, 7, 2, 4]
    lines = sum(-(-w // 16) * 16 for w in widths)
    kept = 4 * 32 + 32 + 2  # norms, a dropout, scales of rows
    pointers = 2 * 8 * len(widths) + 8 + 2 * 24 + 2 * 2 * 8  # and elements of the embedding
    assert plan.nbytes - before <= rows * (4 * (2 * lines + kept + 2 * 16) + pointers) + 64 * 200
