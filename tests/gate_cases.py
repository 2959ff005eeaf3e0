"""Graphs of every gate with numbers for everything, which the tests of gates share."""

from __future__ import annotations

from typing import Any

import numpy as np
from bounds import Bounded, Rounding
from cases import Array, integers, numbers
from graphs import Graph, dense, flat, masks, node, shapes, widths
from skips import FORMS, skipping

from fastbp.graph import Node, Objective, compile_graph
from fastbp.values import GATES

ROWS, SEED = 6, 3
STATE = ("batch_norm", "standardize")
X, Y = Node("input", (), 5), Node("input", (), 5)
NORM: dict[str, Any] = {"settings": (1e-5, 0.1)}

# Every gate between two dense ones, its output also an output of the network, so that its gradient adds up from both.
BETWEEN: dict[str, list[Node]] = {
    gate: [X, dense(0, 5, "tanh"), dense(0, 5, "sigmoid"), node(gate, 1, 2), dense(3, 3)]
    for gate in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "concatenate")
}
BETWEEN |= {
    gate: [X, dense(0, 5, "tanh"), node(gate, 1, **NORM), dense(2, 3)] for gate in ("layer_norm", "rms_norm", "batch_norm")
}
BETWEEN |= {
    "dense": [X, dense(0, 4, "tanh"), dense(1, 3, "sigmoid"), dense(2, 2)],
    "matmul": [X, dense(0, 4), node("matmul", 1, width=3, values=numbers(4, 3, seed=5)), dense(2, 2)],
    "activation": [X, dense(0, 4), node("activation", 1, activation="tanh"), dense(2, 2)],
    "constant": [
        X,
        node("constant", width=5, values=numbers(5, seed=6)),
        dense(0, 5, "tanh"),
        node("multiply", 2, 1),
        dense(3, 2),
    ],
    "slice": [X, dense(0, 5, "tanh"), node("slice", 1, width=3, settings=(1,)), dense(2, 2)],
    "dropout": [X, dense(0, 5, "tanh"), node("dropout", 1, settings=(0.4,)), dense(2, 2)],
    "embedding": [Node("input", (), 2), node("embedding", 0, width=6, settings=(4,), activation="tanh"), dense(1, 2)],
    "standardize": [X, node("standardize", 0), dense(1, 4, "tanh"), dense(2, 2)],
    "input": [X, Y, node("multiply", 0, 1), dense(2, 2)],
}
# Edges that are the first, later, last; gates on either side of a batch norm; the same value as both operands.
AMONG: dict[str, list[Node]] = {
    "x + f(x)": [X, dense(0, 4, "tanh"), dense(1, 4, "tanh"), node("add", 1, 2, activation="tanh"), dense(3, 2)],
    "x + f(x) without f'": [X, dense(0, 4), dense(1, 4), node("add", 1, 2), dense(3, 2)],
    "f(x) + x": [X, dense(0, 4, "tanh"), dense(1, 4), node("add", 2, 1), dense(3, 4), node("add", 4, 3), dense(5, 2)],
    "sums of sums": [
        X,
        dense(0, 4),
        dense(0, 4),
        node("add", 1, 2),
        dense(0, 4),
        node("add", 3, 4),
        node("add", 5, 3),
        dense(6, 2),
    ],
    "x + c": [X, node("constant", width=5, values=numbers(5, seed=6)), node("add", 0, 1), dense(2, 2)],
    "c + f(x)": [X, node("constant", width=5, values=numbers(5, seed=6)), dense(0, 5), node("add", 1, 2), dense(3, 2)],
    "both operands": [X, dense(0, 4, "tanh"), node("multiply", 1, 1), node("add", 2, 2), node("subtract", 3, 1), dense(4, 2)],
    "x / x": [X, dense(0, 4, "sigmoid"), node("divide", 1, 1), node("multiply", 2, 1), dense(3, 2)],
    "parts": [
        X,
        dense(0, 5, "tanh"),
        node("slice", 1, width=2, settings=(3,)),
        node("slice", 1, width=2, settings=(0,)),
        node("concatenate", 2, 1, 3, 2),
        dense(4, 2),
    ],
    "norm in a sum": [
        X,
        dense(0, 4, "tanh"),
        node("layer_norm", 1, **NORM),
        node("add", 2, 1),
        node("rms_norm", 3, **NORM),
        dense(4, 2),
    ],
    "batch norms": [
        X,
        dense(0, 4),
        node("batch_norm", 1, **NORM, activation="tanh"),
        dense(2, 4, "tanh"),
        node("batch_norm", 3, **NORM),
        node("add", 4, 2),
        node("multiply", 5, 1),
        dense(6, 2),
    ],
    "batch norm of an input": [X, node("batch_norm", 0, **NORM), dense(1, 2, bias=0), node("batch_norm", 2, **NORM)],
    "dropouts": [
        X,
        dense(0, 5, "tanh"),
        node("dropout", 1, settings=(0.3,), activation="tanh"),
        node("dropout", 1, settings=(0.6,)),
        node("add", 2, 3),
        node("dropout", 4, settings=(0.2,)),
        dense(5, 2),
    ],
    "embedding of a part": [
        X,
        node("slice", 0, width=2, settings=(1,)),
        node("embedding", 1, width=4, settings=(3,)),
        node("slice", 0, width=2, settings=(3,)),
        node("concatenate", 2, 3),
        dense(4, 2),
    ],
    "matmul and x": [
        X,
        dense(0, 4, "tanh"),
        node("matmul", 1, width=4, values=numbers(4, 4)),
        node("add", 1, 2),
        node("add", 3, 1),
    ],
}
SKIPS = {f"{form}, f = {f}": skipping(FORMS[form], 2, 5, f) for form in FORMS for f in ("relu", "tanh", "gelu")}
CASES = BETWEEN | AMONG | SKIPS


class Problem:
    """A graph with numbers for everything, all of them float32."""

    def __init__(self, name: str) -> None:
        self.nodes, self.name = CASES[name], name
        last = len(self.nodes) - 1
        among = [i for i, n in enumerate(self.nodes) if n.gate == name and n.gate not in ("input", "constant")]
        self.outputs = sorted({*among, last})
        at = [i for i, n in enumerate(self.nodes) if n.gate == "input"]
        self.x = [numbers(ROWS, self.nodes[i].width, seed=i, dtype="float32").astype(float) for i in at]
        for n in self.nodes:
            if n.gate == "embedding":  # an input of its own, or columns 1 and 2
                columns = slice(1, 3) if self.nodes[n.inputs[0]].gate == "slice" else slice(None)
                self.x[0][:, columns] = np.floor((self.x[0][:, columns] + 1) / 2 * n.settings[0])
        size = sum(r * c for r, c in shapes(self.nodes))
        self.params = numbers(size, seed=8, dtype="float32").astype(float)
        states = sum(2 * U for n, U in zip(self.nodes, widths(self.nodes), strict=True) if n.gate in STATE)
        self.state = (1 + numbers(states, seed=9) / 2).astype(np.float32).astype(float)
        self.kept = masks(self.nodes, ROWS, SEED, 0)
        self.douts = {i: numbers(ROWS, widths(self.nodes)[i], seed=20 + i, dtype="float32").astype(float) for i in self.outputs}

    def graph(self, dtype: str, training: bool) -> tuple[Graph, list[Bounded], Bounded]:
        graph = Graph(self.nodes, self.params, self.state, self.x, self.kept, Rounding(dtype), training)
        dx, dW = graph.backward(self.douts)
        return graph, dx, flat(dW)

    def plan(self, dtype: str, isa: str) -> Any:
        plan = compile_graph(self.nodes, self.outputs, dtype=dtype, isa=isa, seed=SEED)
        plan.params()[:] = self.params
        plan.state()[:] = self.state
        return plan


def everything(dtype: str = "float64", isa: str | None = None, optimizer: str = "adam", units: int = 20) -> Any:
    """A network with every gate: two inputs, the second of categories, and two outputs, the second of classes."""
    nodes = [
        Node("input", (), 6),
        Node("input", (), 2),
        node("standardize", 0),
        node("embedding", 1, width=8, settings=(5,)),
        node("concatenate", 2, 3),
        dense(4, units),
        node("batch_norm", 5, **NORM, activation="relu"),
        dense(6, units, "tanh"),
        node("add", 7, 6),
        node("dropout", 8, settings=(0.25,)),
        node("layer_norm", 9, **NORM),
        dense(10, units),
        node("batch_norm", 11, **NORM),
        node("rms_norm", 12, **NORM, activation="sigmoid"),
        node("constant", width=units, values=1.5 + numbers(units, seed=3)),
        node("divide", 13, 14),
        node("subtract", 15, 8),
        node("maximum", 16, 13),
        node("minimum", 17, 6),
        node("multiply", 18, 14),
        node("slice", 19, width=9, settings=(3,)),
        node("activation", 20, activation="tanh"),
        node("matmul", 21, width=7, values=numbers(9, 7, seed=4)),
        dense(22, 2),
        dense(20, 4, bias=0),
    ]
    losses = [Objective("squared_error", weight=0.5), Objective("cross_entropy", weight=2.0)]
    plan = compile_graph(nodes, [23, 24], dtype=dtype, isa=isa, losses=losses, optimizer=optimizer, seed=SEED)
    assert {n.gate for n in nodes} == set(GATES)
    plan.set_hyper(0.01, 0.9, 0.999, 1e-8)
    plan.params()[:] = numbers(plan.parameters, seed=8, dtype=dtype)
    plan.state()[:] = 1 + numbers(len(plan.state()), seed=9, dtype=dtype) / 2
    return plan


def data(rows: int, dtype: str = "float64") -> tuple[list[Array], list[Array]]:
    """Inputs and targets of `everything`."""
    x = [numbers(rows, 6, seed=rows, dtype=dtype), np.abs(integers(rows, 2, most=4, seed=rows)).astype(dtype)]
    return x, [numbers(rows, 2, seed=rows + 1, dtype=dtype), np.abs(integers(rows, most=3, seed=rows + 2))]
