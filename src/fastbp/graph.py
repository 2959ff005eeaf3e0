"""The graph of gates: what a network computes, before it is compiled into a plan.

Nodes stand in topological order and name their inputs by position; the last one is the output. A chain of layers is the
common case, a single layer a graph with one gate; all go the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy.typing as npt

from fastbp import _fastbp_core
from fastbp._fastbp_core import ACTIVATIONS, LOSSES, OPTIMIZERS, Plan
from fastbp.checks import Array

GATES = ("input", "dense", "activation", "add")  # numbers of enum fbp_gate


@dataclass(frozen=True)
class Node:
    """One gate: O = f(Z), Z from the outputs of the nodes `inputs`.

    Attributes
    ----------
    gate : str
        "input", "dense" (Z = [X 1] W), "activation" (Z = X) or "add" (Z = X0 + X1).
    inputs : tuple of int
        Positions of earlier nodes.
    width : int
        Columns of the output of an input or dense node; 0 for the others, which take it from their input.
    activation : str
        f.
    """

    gate: str
    inputs: tuple[int, ...] = ()
    width: int = 0
    activation: str = "identity"


def compile_graph(
    nodes: Sequence[Node], *, dtype: str, loss: str | None = None, optimizer: str | None = None, isa: str | None = None
) -> Plan:
    """Compile nodes into a plan: everything that can fail fails here.

    Parameters
    ----------
    nodes : sequence of Node
    dtype : "float32" or "float64"
    loss, optimizer : str, optional
        Names in the tables `LOSSES` and `OPTIMIZERS`.
    isa : str, optional
        Kernels to use; by default the best ones of this CPU, or those the environment variable FASTBP_ISA names.

    Raises
    ------
    ValueError
        A size that does not fit the address space, or no such instruction set.
    MemoryError
        Not enough memory.

    Examples
    --------
    >>> from fastbp.graph import Node, compile_graph
    >>> plan = compile_graph([Node("input", (), 3), Node("dense", (0,), 2)], dtype="float64")
    >>> plan.parameters
    8
    """
    rows = []
    for node in nodes:
        in0, in1 = (*node.inputs, -1, -1)[:2]
        rows.append((GATES.index(node.gate), in0, in1, node.width, ACTIVATIONS.index(node.activation)))
    loss_row = -1 if loss is None else LOSSES.index(loss)
    optimizer_row = -1 if optimizer is None else OPTIMIZERS.index(optimizer)
    return Plan(rows, dtype, loss_row, optimizer_row, isa)


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
    return _named("activation", "identity" if name is None else name, ACTIVATIONS)


def loss_named(name: str) -> str:
    """Name in the table of losses."""
    if not isinstance(name, str):
        raise TypeError(f"loss must be a name, got {name!r}")
    return _named("loss", name, LOSSES)


def _named(what: str, name: str, names: tuple[str, ...]) -> str:
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}, got {name!r}")
    return name
