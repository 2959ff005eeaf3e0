"""Local gradients of gates that work element by element: the library's own, from plans of one gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastbp.checks import Array
from fastbp.graph import Node, compile_graph
from fastbp.inspect.copies import as_plan_takes
from fastbp.inspect.words import ROWWISE

ELEMENTWISE = ("add", "subtract", "multiply", "divide", "maximum", "minimum")


def local_gradients(node: Node, inputs: list[Array]) -> list[Array] | None:
    """Return the local gradients of a gate that works element by element: what it sends back when it receives ones."""
    if node.gate == "activation":
        return None if node.activation in ROWWISE else [slope(node, inputs[0])]
    return alone(Node(node.gate, (0, 1)), inputs) if node.gate in ELEMENTWISE else None


def slope(node: Node, Z: Array) -> Array:
    """f'(Z)."""
    f = Node("activation", (0,), 0, (), None, node.activation, node.parameter, node.function)
    return alone(f, [Z])[0]


def alone(gate: Node, inputs: list[Array]) -> list[Array]:
    """Return what a gate sends back to each of its inputs when it receives ones."""
    below = [Node("input", (), part.shape[1]) for part in inputs]
    at = tuple(range(len(inputs)))
    made = compile_graph([*below, replace(gate, inputs=at)], dtype=inputs[0].dtype.name)
    out = made.forward(as_plan_takes(inputs), True)
    found: list[Array] | None = made.backward(np.ones_like(out), True)
    return found or []
