"""Copies of networks to look into: plans of their own, so that the network they come from is left as it is.

A plan keeps O and dE/dZ of every gate. To see more, gates are drawn apart: those that end in an activation f become two, and
identity gates are put where a gradient is to be seen. All arithmetic is the library's own: values are the same bits, and so are
gradients, but where branches meet and are added up in another order.

    X -> gate -> f -> O            X -> edge -> gate -> f -> end -> ...

    gate: value Z, gradient dE/dZ      end: value O, gradient dE/dO, the sum of what all branches send back
    edge: value X, gradient: what this gate sends back to X
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastbp.checks import Array
from fastbp.graph import Node, compile_graph
from fastbp.layer_base import nodes_of
from fastbp.network import Network


@dataclass(frozen=True)
class Place:
    """Where the parts of one gate are in the plan of a copy.

    Attributes
    ----------
    edges : tuple of int
        Gates that hold each input; with edges drawn apart, their gradient is what is sent there.
    z, end : int
        Gates that hold Z and O; without edges, the gradient of `end` is dE/dZ.
    """

    edges: tuple[int, ...]
    z: int
    end: int


@dataclass(frozen=True)
class Copy:
    """A network's plan made again: same parameters, state, seed and number of draws.

    Attributes
    ----------
    plan : Plan
    nodes : list of Node
        Gates of the network, not of the copy, in its order.
    places : list of Place
        One for each of them.
    draws : int
        Forward passes in training of the network so far, on which dropout depends.
    """

    plan: Any
    nodes: list[Node]
    places: list[Place]
    draws: int

    def forward(self, x: Any, training: bool = True) -> list[Array]:
        """Return all outputs for inputs as `Data.x` gives them; the masks of dropout are those of the network's next pass."""
        self.plan.draws = self.draws
        out = self.plan.forward(x, training)
        return out if self.plan.outputs > 1 else [out]

    def backward(self, douts: list[Array]) -> list[Array]:
        """Return the gradients of all inputs."""
        found: list[Array] = self.plan.backward(douts if self.plan.outputs > 1 else douts[0], True)
        return found

    def gradient(self, position: int) -> Array | None:
        """Return the gradient that a gate of the copy has got; None if nothing asks for it."""
        try:
            found: Array = self.plan.delta(position)
        except RuntimeError:
            return None
        return found


def copy_of(
    net: Network, *, dtype: str | None = None, apart: bool = False, edges: bool = False, trainable: bool | None = None
) -> Copy:
    """Make a plan of what `net` computes.

    Parameters
    ----------
    net : Network
    dtype : "float32" or "float64", optional
        By default that of the network.
    apart, edges : bool
        Whether activations, and edges too, are gates of their own.
    trainable : bool, optional
        What holds for all layers; by default what holds for each.
    """
    nodes = nodes_of(net._values)
    gates, places = _drawn_apart(nodes, edges) if apart or edges else (list(nodes), [])
    places = places or [Place(node.inputs, i, i) for i, node in enumerate(nodes)]
    if trainable is not None:
        gates = [replace(gate, trainable=trainable) for gate in gates]
    plan = compile_graph(gates, [places[i].end for i in net._at], dtype=dtype or net.dtype.name, seed=net.seed)
    plan.params()[:] = net.params
    plan.state()[:] = net.state
    return Copy(plan, nodes, places, net.draws)


def _drawn_apart(nodes: Sequence[Node], edges: bool) -> tuple[list[Node], list[Place]]:
    """Return the gates of a copy and where those of `nodes` went."""
    gates: list[Node] = []
    places: list[Place] = []

    def put(gate: Node) -> int:
        gates.append(gate)
        return len(gates) - 1

    def seen(position: int) -> int:
        return put(Node("activation", (position,))) if edges else position

    for node in nodes:
        inputs = tuple(seen(places[i].end) for i in node.inputs)
        bent = node.activation != "identity"
        if node.gate == "activation":
            z = inputs[0]
        else:
            z = put(replace(node, inputs=inputs, activation="identity", parameter=None, function=None))
        end = z
        if bent or node.gate == "activation":
            f = Node("activation", (z,), 0, (), None, node.activation, node.parameter, node.function)
            end = seen(put(f))
        places.append(Place(inputs, z, end))
    return gates, places


def arrays_of(net: Network, x: Any, dtype: str | None = None) -> list[Array]:
    """Return copies of the inputs x, in any form `fit` takes, as arrays (m, I), of the network's dtype if none is given.

    Raises
    ------
    TypeError
        If `net` is no network.
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Model or Sequential of fastbp, got {type(net).__module__}.{type(net).__name__}")
    given, dtype = net._data.x("x", x), dtype or net.dtype.name
    each = given if len(net.inputs) > 1 else [given]
    return [
        np.array(part, dtype).reshape(-1, value.width) if part.ndim < 2 and value.width == 1 else np.array(part, dtype)
        for part, value in zip(each, net.inputs, strict=True)
    ]


def as_plan_takes(arrays: list[Array]) -> Any:
    """Return one array alone, or a list of several."""
    return arrays if len(arrays) > 1 else arrays[0]
