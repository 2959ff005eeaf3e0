"""On which side of its breaks every unit is: where a function is not smooth, differences say nothing about derivatives.

A break is a point where a function, its slope or its curvature jumps, or is infinite. Whether a difference crosses one is seen
from the units concerned, at both of its ends, not from its result. Functions of the user's own are taken to be smooth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastbp.checks import Array
from fastbp.graph import Node
from fastbp.heads import Head
from fastbp.inspect.copies import Copy
from fastbp.losses import Loss

ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "elu": (0.0,),
    "selu": (0.0,),
    "softsign": (0.0,),  # 1 / (1 + |z|): the second derivative jumps
    "hard_sigmoid": (-3.0, 3.0),
    "hard_swish": (-3.0, 3.0),
    "relu6": (0.0, 6.0),
    "reciprocal": (0.0,),
    "log": (0.0,),
    "power": (0.0,),  # unless the exponent is a whole number of at least 0
}

# What changes its sign at a break, from the inputs of a gate ...
GATES: dict[str, Callable[[Array, Array], Array]] = {
    "maximum": np.subtract,
    "minimum": np.subtract,
    "divide": lambda a, b: b,
}


def _against_right(out: Array, target: Array) -> Array:
    """s_j - s_y; infinity, which changes no side, at j = y."""
    right = target if target.ndim == 1 else target.argmax(axis=1)
    rows = np.arange(len(out))
    apart: Array = out - out[rows, right][:, None]
    apart[rows, right] = np.inf
    return apart


# ... and from the output, the target and the parameter of a loss.
LOSSES: dict[str, Callable[[Array, Array, float], list[Array]]] = {
    "absolute_error": lambda o, t, a: [o - t.reshape(o.shape)],
    "quantile": lambda o, t, a: [o - t.reshape(o.shape)],
    "huber": lambda o, t, a: [o - t.reshape(o.shape) - a, o - t.reshape(o.shape) + a],
    "hinge": lambda o, t, a: [a + _against_right(o, t)],
    "binary_hinge": lambda o, t, a: [a - np.where(t.reshape(o.shape) > 0, o, -o)],
}


class Sides:
    """For every unit of a copy, drawn apart, that has breaks: on which side of each it is, or whether on it.

    Parameters
    ----------
    copy : Copy
    heads : sequence of Head
        The losses, if E is made of losses.
    targets : sequence of ndarray
        Their targets.
    """

    def __init__(self, copy: Copy, heads: Sequence[Head] = (), targets: Sequence[Any] = ()) -> None:
        self.plan = copy.plan
        self.units = [
            (place.z, breaks) for node, place in zip(copy.nodes, copy.places, strict=True) if (breaks := _breaks(node))
        ]
        self.gates = [
            (place.edges, GATES[node.gate])
            for node, place in zip(copy.nodes, copy.places, strict=True)
            if node.gate in GATES
        ]
        self.losses = [
            (k, LOSSES[head.loss.row], np.asarray(target), head.loss.parameter or 0.0)
            for k, (head, target) in enumerate(zip(heads, targets, strict=True))
            if isinstance(head.loss, Loss) and head.loss.row in LOSSES
        ]

    def __call__(self, outs: list[Array]) -> bytes:
        """Return them for the last forward pass of the copy, whose outputs are `outs`."""
        found = []
        for z, breaks in self.units:
            Z = self.plan.value(z)
            found += [Z - at for at in breaks]
        for edges, difference in self.gates:
            found.append(difference(*(self.plan.value(edge) for edge in edges)))
        for k, differences, target, parameter in self.losses:
            found += differences(outs[k], target, parameter)
        return b"".join((values > 0).tobytes() + (values < 0).tobytes() for values in found)


def _breaks(node: Node) -> tuple[float, ...]:
    exponent = 2.0 if node.parameter is None else node.parameter
    if node.activation == "power" and exponent >= 0 and exponent == int(exponent):
        return ()
    return ACTIVATIONS.get(node.activation, ())
