"""One forward and one backward pass, gate by gate: values, local gradients, gradients received and sent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastbp.checks import Array
from fastbp.data import Arrays
from fastbp.inspect import graphviz, pictures
from fastbp.inspect.copies import Copy, Place, arrays_of, as_plan_takes, copy_of
from fastbp.inspect.ends import ending_of
from fastbp.inspect.local import local_gradients, slope
from fastbp.inspect.report import report
from fastbp.inspect.words import ROWWISE, applied, back_of, formula_of
from fastbp.layer_base import Layer
from fastbp.network import Network
from fastbp.values import Value


@dataclass(frozen=True)
class Back:
    """What goes back from a gate to one of its inputs.

    Attributes
    ----------
    to : int
        Number of the gate it goes to.
    words : str
        The local gradient; or, of gates that do not work element by element, all that goes back.
    local : ndarray or None
        The local gradient, of gates that work element by element.
    sent : ndarray or None
        What goes back, shape of the input; None where nothing asks for it.
    """

    to: int
    words: str
    elementwise: bool
    local: Array | None
    sent: Array | None


@dataclass(frozen=True)
class Step:
    """One gate in one pass forward and one pass back.

    Attributes
    ----------
    number : int
        Its place in the order of the pass, from 0.
    name, formula : str
        As "#3" and "x + y".
    node : Value
    value : ndarray, shape (m, U)
        O.
    z : ndarray or None
        Z, of a gate whose layer has an activation: O = f(Z).
    slope : ndarray or None
        f'(Z) there, if f works element by element.
    received : ndarray or None
        dE/dO, the sum over all gates that use O; None if nothing asks for it.
    delta : ndarray or None
        dE/dZ.
    back : tuple of Back
        One for each input.
    node_inputs : tuple of int
        Numbers of the gates it gets its inputs from.
    parameters, gradients : dict of str to ndarray
        Of its layer, and dE/d of each.
    """

    number: int
    name: str
    formula: str
    node: Value
    value: Array
    z: Array | None
    slope: Array | None
    received: Array | None
    delta: Array | None
    back: tuple[Back, ...]
    node_inputs: tuple[int, ...]
    parameters: dict[str, Array] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Trace:
    """A pass forward and back; printed, it is written out. `plot` draws it, `dot` describes it to Graphviz.

    Attributes
    ----------
    steps : tuple of Step
        In the order of the forward pass.
    outputs : tuple of int
        Numbers of the outputs.
    douts : tuple of ndarray
        dE/dO that each output gets from the loss, or as given.
    E : float
        The loss, or the sum of dout * O.
    ending : str
        Which of the two.
    """

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    douts: tuple[Array, ...]
    E: float
    ending: str

    def __getitem__(self, what: int | str | Value | Layer) -> Step:
        """Return a step by its number, its name, or the value or layer it belongs to."""
        for step in self.steps:
            if any(what is one for one in (step.node, step.node.layer)):
                return step
            if isinstance(what, (int, str)) and what in (step.number, step.name):
                return step
        raise KeyError(f"the trace has steps 0 to {len(self.steps) - 1}, got {what!r}")

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __str__(self) -> str:
        return report(self)

    __repr__ = __str__

    def dot(self) -> str:
        """Return the graph as text for Graphviz: ``dot -Tsvg``."""
        return graphviz.dot(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the graph: on each edge the value above the line, in green, and the gradient below it, in red.

        Parameters
        ----------
        path : str or path, optional
            A file to write; its suffix, as .svg or .png, names the format.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        MissingExtraError
            Without matplotlib: pip install "fastbp[plot]".
        """
        return pictures.plot(self, path)


def trace_of(net: Network, x: Arrays, y: Arrays | None, dout: Arrays | None, names: Sequence[str] | None) -> Trace:
    """Do both passes on a copy and take down what happens, see `Model.trace`."""
    X = arrays_of(net, x)
    copy = copy_of(net, apart=True, edges=True)
    outs = copy.forward(as_plan_takes(X))
    E, douts = ending_of(net, X, y, dout)(outs)
    douts = [np.asarray(d, net.dtype) for d in douts]
    copy.backward(douts)
    called = _names(net, names)
    steps = tuple(
        _step(i, value, place, copy, called)
        for i, (value, place) in enumerate(zip(net._values, copy.places, strict=True))
    )
    ending = "sum of dout * output" if y is None else f"loss {net.loss!r}"
    return Trace(steps, tuple(net._at), tuple(douts), E, ending)


def _names(net: Network, names: Sequence[str] | None) -> list[str]:
    """Return what values are called: inputs as given, or x, or x0, x1 ...; the others by number; constants as they are."""
    count = len(net.inputs)
    if names is None:
        names = ["x"] if count == 1 else [f"x{i}" for i in range(count)]
    if not isinstance(names, Sequence) or len(names) != count:
        raise ValueError(f"names must be {count}, one for each input, got {names!r}")
    known = {id(value): str(name) for value, name in zip(net.inputs, names, strict=True)}
    known |= {id(value): formula_of(value, ()) for value in net._values if value.gate == "constant"}
    return [known.get(id(value), f"#{i}") for i, value in enumerate(net._values)]


def _step(i: int, value: Value, place: Place, copy: Copy, names: list[str]) -> Step:
    node, plan = copy.nodes[i], copy.plan
    operands = [names[k] for k in node.inputs]
    fused = value.gate != "activation" and value.activation != "identity"
    Z = plan.value(place.z) if fused else None
    slopes = local_gradients(node, [plan.value(edge) for edge in place.edges])
    back = [
        Back(to, words, elementwise, slopes[k] if slopes else None, copy.gradient(edge))
        for k, ((words, elementwise), to, edge) in enumerate(
            zip(back_of(value, operands, names[i]), node.inputs, place.edges, strict=True)
        )
    ]
    parameters, gradients = {}, {}
    if value.layer is not None:
        for name in value.layer._places:
            vector = getattr(type(value.layer), name).vector
            if vector == "params":
                parameters[name] = value.layer.part(name, "params").copy()
                start, shape = value.layer._places[name]
                gradients[name] = plan.grads()[start : start + parameters[name].size].reshape(shape).copy()
    return Step(
        i,
        names[i],
        applied(value, formula_of(value, operands)) if fused else formula_of(value, operands),
        value,
        plan.value(place.end),
        Z,
        None if Z is None or value.activation in ROWWISE else slope(node, Z),
        copy.gradient(place.end),
        copy.gradient(place.z),
        tuple(back),
        node.inputs,
        parameters,
        gradients,
    )
