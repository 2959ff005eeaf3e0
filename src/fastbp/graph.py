"""The graph of gates: what a network computes, before it is compiled into a plan.

Nodes stand in topological order and name their inputs by position. A chain of layers is the common case, a single layer a graph
with one gate; all go the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from fastbp import _fastbp_core
from fastbp._fastbp_core import ACTIVATIONS, LOSSES, OPTIMIZERS, Plan
from fastbp.checks import Array
from fastbp.values import GATES, Function

LossFunction = Callable[[Array, Any], tuple[float, npt.ArrayLike]]  # (out, target) -> (loss, dout), of the user's own


@dataclass(frozen=True)
class Node:
    """One gate: O = f(Z), Z from the outputs of the nodes `inputs`.

    Attributes
    ----------
    gate : str
        One of `values.GATES`, whose table says what each computes.
    inputs : tuple of int
        Positions of earlier nodes.
    width : int
        Columns of the output; 0 where they follow from the inputs.
    settings : tuple of float
        Of the gate.
    values : ndarray, optional
        Of a constant, or the matrix of a matmul.
    activation : str
        f; "custom" with `function`, a pair (f, df) of the user's own.
    parameter : float, optional
        Of f; its usual value if left out.
    trainable : bool
        Whether training changes its parameters.
    """

    gate: str
    inputs: tuple[int, ...] = ()
    width: int = 0
    settings: tuple[float, ...] = ()
    values: Array | None = None
    activation: str = "identity"
    parameter: float | None = None
    function: Function | None = None
    trainable: bool = True


@dataclass(frozen=True)
class Objective:
    """The loss of one output: a row of the table `LOSSES` with its parameter, or a function; times a weight."""

    loss: str | LossFunction
    parameter: float | None = None
    weight: float = 1.0


def compile_graph(
    nodes: Sequence[Node],
    outputs: Sequence[int] | None = None,
    *,
    dtype: str,
    losses: Sequence[Objective] | None = None,
    optimizer: str | None = None,
    isa: str | None = None,
    seed: int = 0,
) -> Plan:
    """Compile nodes into a plan: everything that can fail fails here.

    Parameters
    ----------
    nodes : sequence of Node
    outputs : sequence of int, optional
        Positions of the outputs; by default the last node. Every node but the inputs must lead to one of them.
    dtype : "float32" or "float64"
    losses : sequence of Objective, optional
        One for each output: E is their sum.
    optimizer : str, optional
        Name in the table `OPTIMIZERS`.
    isa : str, optional
        Kernels to use; by default the best ones of this CPU, or those the environment variable FASTBP_ISA names.
    seed : int
        Of dropout.

    Raises
    ------
    ValueError
        A size that does not fit the address space, or no such instruction set.
    MemoryError
        Not enough memory.

    Examples
    --------
    >>> from fastbp.graph import Node, compile_graph
    >>> plan = compile_graph([Node("input", (), 3), Node("dense", (0,), 2, (1,))], dtype="float64")
    >>> plan.parameters
    8
    """
    rows = [
        (
            GATES.index(node.gate),
            node.inputs,
            node.width,
            node.settings,
            node.values,
            ACTIVATIONS.index(node.activation),
            _or_nan(node.parameter),
            node.function,
            node.trainable,
        )
        for node in nodes
    ]
    at = [len(nodes) - 1] if outputs is None else list(outputs)
    ends = [(node, -1, math.nan, 1.0, None) for node in at] if losses is None else list(map(_output, at, losses))
    return Plan(rows, ends, dtype, -1 if optimizer is None else OPTIMIZERS.index(optimizer), isa, seed)


def _output(node: int, objective: Objective) -> tuple[int, int, float, float, LossFunction | None]:
    known = isinstance(objective.loss, str)
    row = LOSSES.index(objective.loss) if isinstance(objective.loss, str) else _fastbp_core.LOSS_CUSTOM
    return node, row, _or_nan(objective.parameter), objective.weight, None if known else objective.loss  # type: ignore[return-value]


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


def loss_gradient(
    loss: str,
    out: npt.ArrayLike,
    target: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    parameter: float | None = None,
) -> tuple[float, Array]:
    """Return E and dE/dout for one row of the table of losses, weights of the rows and the loss's parameter, if it has one."""
    return _fastbp_core.loss_gradient(LOSSES.index(loss), out, target, weights, 0.0 if parameter is None else parameter)


def activation_named(name: str | None) -> str:
    """Name in the table of activations; None is the identity."""
    names = tuple(row for row in ACTIVATIONS if row != "custom")
    return _named("activation", "identity" if name is None else name, names, ", or a pair of functions (f, df)")


def loss_named(name: str) -> str:
    """Name in the table of losses."""
    if not isinstance(name, str):
        raise TypeError(f"loss must be a name, got {name!r}")
    return _named("loss", name, LOSSES)


def _named(what: str, name: str, names: tuple[str, ...], other: str = "") -> str:
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}{other}, got {name!r}")
    return name
