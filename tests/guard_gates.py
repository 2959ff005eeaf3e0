"""Every gate on arrays at pages that cannot be touched, see guard.py; test_guard_pages.py runs this file in processes of its own:

guard_gates.py DTYPE COLUMNS       inputs, results, targets, gradients and weights of 1 .. COLUMNS columns; FASTBP_ISA chooses
"""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator

import numpy as np
from cases import Array, integers, numbers
from graphs import dense, node
from guard import PLACES, Place, agree

from fastbp.graph import Node, Objective, compile_graph

NORM = (1e-5, 0.1)


def gates(cols: int) -> dict[str, list[Node]]:
    """Each gate right after its inputs and right before the output."""
    X = Node("input", (), cols)
    found = {
        gate: [X, X, node(gate, 0, 1)] for gate in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "concatenate")
    }
    found |= {
        gate: [X, X, node("add", 0, 1), node(gate, 0, settings=NORM), node("add", 2, 3)] for gate in ("layer_norm", "rms_norm")
    }
    found |= {
        "batch_norm": [
            X,
            X,
            node("batch_norm", 1, settings=NORM),
            dense(0, cols),
            node("add", 2, 3),
            node("batch_norm", 4, settings=NORM),
        ],
        "folded": [X, X, node("add", 0, 1), dense(2, cols), node("batch_norm", 3, settings=NORM)],
        "constant": [X, X, node("constant", width=cols, values=numbers(cols)), node("multiply", 1, 2), node("add", 0, 3)],
        "slice": [X, X, node("slice", 0, width=(cols + 1) // 2, settings=(cols // 2,)), node("concatenate", 2, 1)],
        "matmul": [X, X, node("matmul", 0, width=cols, values=numbers(cols, cols)), node("add", 2, 1)],
        "dropout": [X, X, node("dropout", 0, settings=(0.5,)), node("add", 1, 2), node("dropout", 3, settings=(0.5,))],
        "embedding": [X, X, node("embedding", 0, width=3 * cols, settings=(4,)), node("concatenate", 1, 2)],
        "standardize": [X, X, node("standardize", 0), node("subtract", 1, 2), node("standardize", 3)],
        "activation": [X, X, node("activation", 0, activation="tanh"), node("multiply", 1, 2, activation="softmax")],
        "skip": [X, X, dense(0, cols, "relu"), node("add", 1, 2)],
        "skips": [
            X,
            X,
            dense(1, cols),
            node("add", 2, 0),
            node("activation", 3, activation="relu"),
            dense(4, cols, "relu"),
            node("add", 5, 4),
            dense(6, cols, "tanh"),
            node("add", 6, 7),
        ],
    }
    return found


def everything(nodes: list[Node], rows: int, cols: int, dtype: str, place: Place) -> Iterator[Array]:
    """All calls, every array of theirs where `place` puts it."""
    plan = compile_graph(nodes, dtype=dtype, losses=[Objective("squared_error")], optimizer="momentum", seed=1)
    plan.set_hyper(0.1, 0.9)
    plan.params()[:] = numbers(plan.parameters)
    plan.state()[:] = 1.0
    whole = any(n.gate == "embedding" for n in nodes)
    first = np.abs(integers(rows, cols, most=3)).astype(dtype) if whole else numbers(rows, cols, dtype=dtype)
    x = [place(first), place(1 + numbers(rows, cols, seed=1, dtype=dtype) / 2)]
    y = place(numbers(rows, plan.width, seed=2, dtype=dtype))
    weights = place(np.abs(numbers(rows, seed=3)))
    yield np.float64(plan.train_step(x, y, weights))
    yield np.float64(plan.train_epoch(x, y, None, 2, weights))
    yield plan.predict(x, out=place(np.zeros((rows, plan.width), dtype)))
    yield from plan.predict(x, nodes=list(range(len(nodes))))
    for training in (True, False):
        yield plan.forward(x, training)
        yield from plan.backward(y, True)
        yield plan.grads().copy()
    plan.update()
    yield plan.params().copy()


def sweep(dtype: str, columns: int) -> None:
    for cols in range(1, columns + 1):
        for name, nodes in gates(cols).items():
            for place in PLACES:
                rows = 1 + cols % 5
                print(f"{name}: {rows} rows, {cols} columns, {place.__name__}", flush=True)
                agree(everything(nodes, rows, cols, dtype, place), everything(nodes, rows, cols, dtype, np.copy))


if __name__ == "__main__":
    faulthandler.enable()
    sweep(sys.argv[1], int(sys.argv[2]))
