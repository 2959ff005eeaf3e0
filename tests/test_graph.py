"""Graphs that are no chain: branches, whose gradients add up, and gates without weights, on every ISA."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastbp.graph import Node, compile_graph
from fastbp.runtime import isa_names

Array = npt.NDArray[Any]
U = float(np.finfo(np.float64).eps) / 2

INPUT = Node("input", (), 3)


def dense(inputs: tuple[int, ...], units: int, activation: str = "identity") -> Node:
    return Node("dense", inputs, units, (1,), activation=activation)


GRAPHS = {
    "skip": [
        INPUT,
        dense((0,), 5, "tanh"),
        dense((1,), 5, "sigmoid"),
        Node("add", (1, 2)),
        dense((3,), 2),
    ],
    "twice": [INPUT, dense((0,), 4, "sigmoid"), Node("add", (1, 1), activation="tanh"), dense((2,), 2)],
    "three branches": [
        INPUT,
        dense((0,), 4, "tanh"),
        dense((1,), 4, "tanh"),
        Node("activation", (1,), activation="sigmoid"),
        Node("add", (2, 3)),
        Node("add", (4, 1), activation="softmax"),
        dense((5,), 2, "tanh"),
    ],
    "input branches": [INPUT, dense((0,), 3, "tanh"), Node("add", (0, 1), activation="sigmoid"), dense((2,), 2)],
    "softmax below": [INPUT, dense((0,), 6, "softmax"), dense((1,), 2), Node("activation", (2,), activation="softmax")],
    "wide": [
        INPUT,
        dense((0,), 70, "tanh"),
        dense((1,), 70),
        Node("add", (2, 1), activation="tanh"),
        dense((3,), 2),
    ],
}
FUNCTIONS = {
    "identity": lambda z: z,
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
}


def forward(nodes: list[Node], params: Array, x: Array) -> Array:
    """Evaluate the graph in NumPy, in the dtype of its arguments."""
    values: list[Array] = []
    start = 0
    for node in nodes:
        z = x if node.gate == "input" else values[node.inputs[0]]
        if node.gate == "dense":
            size = (z.shape[1] + 1) * node.width
            matrix = params[start : start + size].reshape(-1, node.width)
            start += size
            z = z @ matrix[:-1] + matrix[-1]
        elif node.gate == "add":
            z = z + values[node.inputs[1]]
        values.append(FUNCTIONS[node.activation](z))
    return values[-1]


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_of(name: str, isa: str) -> None:
    """Complex steps: Im f(x + i h) / h is the derivative to the last bits, without a difference that cancels."""
    nodes = GRAPHS[name]
    plan = compile_graph(nodes, dtype="float64", isa=isa)
    rng = np.random.default_rng(1)
    params, x = rng.normal(size=plan.parameters) / 3, rng.normal(size=(4, 3))
    plan.params()[:] = params
    out = plan.forward(x)
    weights = rng.normal(size=out.shape)
    dx = plan.backward(weights, True)[0]  # type: ignore[index]
    h = 1e-30  # h**2 vanishes beside 1: no truncation error

    def derivative(at: int, of_input: bool) -> float:
        p, v = params.astype(complex), x.astype(complex)
        (v.reshape(-1) if of_input else p)[at] += 1j * h
        return float((weights * forward(nodes, p, v)).sum().imag / h)

    # Sums of at most 71 terms of size about 1 in five layers, twice (forward and back), on each of two sides.
    bound = 2 * 2 * 5 * (71 + 1) * 2 * U * np.abs(weights).sum()
    chosen = rng.choice(plan.parameters, min(plan.parameters, 60), replace=False)
    np.testing.assert_array_less(np.abs(out - forward(nodes, params, x)), bound)
    for at in chosen:
        assert abs(plan.grads()[at] - derivative(int(at), False)) <= bound
    for at in range(x.size):
        assert abs(dx.reshape(-1)[at] - derivative(at, True)) <= bound
    assert bound < np.sqrt(U)  # far below the gradients: the comparison means something


def test_a_gate_without_weights_below_receives_no_gradient_but_passes_it_on() -> None:
    plan = compile_graph([INPUT, Node("activation", (0,), activation="sigmoid"), dense((1,), 1)], dtype="float64")
    plan.params()[:] = [1.0, 2.0, 3.0, 0.0]
    plan.forward(np.zeros((1, 3)))
    assert plan.backward(np.ones((1, 1)), False) is None
    np.testing.assert_array_equal(plan.grads(), [0.5, 0.5, 0.5, 1.0])
    dx = plan.backward(np.ones((1, 1)), True)
    np.testing.assert_array_equal(dx, [[[0.25, 0.5, 0.75]]])


@pytest.mark.parametrize(
    "nodes",
    [
        [INPUT],
        [INPUT, dense((1,), 2)],
        [INPUT, dense((0,), 2), Node("add", (0, 1))],
        [INPUT, dense((0,), 2), Node("add", (1,))],
    ],
    ids=["nothing but an input", "own output as input", "widths differ", "add of one"],
)
def test_graphs_that_make_no_sense(nodes: list[Node]) -> None:
    with pytest.raises(ValueError, match="graph"):
        compile_graph(nodes, dtype="float32")
