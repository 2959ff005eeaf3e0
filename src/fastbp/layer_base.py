"""What all layers share: called on a value they make a gate; in a network they hold live views of its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from fastbp._fastbp_core import Plan
from fastbp.checks import Array, boolean, positive, required, write_into
from fastbp.fixed import Fixed
from fastbp.graph import Node
from fastbp.rng import checked_seed
from fastbp.values import Value, checked

NOT_BUILT = "the layer has no weights yet: make it part of a network, or pass inputs= to a Dense that stands alone"
IN_NETWORK = "the layer is part of a network: call the network's method"


class View:
    """A layer's part of a vector of the plan: reading gives a live view, assigning writes into it.

    So both ``layer.weight[...] = values`` and ``layer.weight -= step`` change the one vector of parameters.
    """

    def __init__(self, vector: str, doc: str, part: str | None = None) -> None:
        self.vector = vector  # "params", "grads" or "state"
        self.part = part  # of the layer, by default what the attribute is called
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the attribute's name."""
        self.name = name
        self.part = self.part or name

    @overload
    def __get__(self, layer: None, owner: type) -> View: ...

    @overload
    def __get__(self, layer: Layer, owner: type) -> Array: ...

    def __get__(self, layer: Layer | None, owner: type) -> View | Array:
        """Return the view."""
        return self if layer is None else layer.part(self.part or self.name, self.vector)

    def __set__(self, layer: Layer, value: npt.ArrayLike) -> None:
        """Write `value`, of the view's shape, into the view."""
        write_into(self.__get__(layer, type(layer)), value, self.name)


class Layer(Fixed):
    """What all layers share: calling one on a value puts it into a graph; a network then gives its parameters a place.

    Attributes
    ----------
    trainable : bool
        Whether training changes its parameters; True at first, may be set at any time. The gradients of a frozen layer are 0.
    in_network : bool
        Whether a network has it. A layer belongs to one network, and there to one place.
    inputs : int or None
        I, the columns of what it is called on, once it is known.
    """

    draws = False  # whether initial parameters are random: such layers are counted, to give each numbers of its own

    def __init__(self, inputs: int | None = None, seed: int | None = None) -> None:
        self.inputs = inputs if inputs is None else positive("inputs", inputs)
        self.seed = seed if seed is None else checked_seed(seed)
        self.own_seed = self.seed  # as given; `seed` becomes the one the weights were drawn with
        self._in_network = False
        self._trainable = True
        self._plan: Plan | None = None
        self._node = 0  # its position in the plan
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}  # start and shape of parameters and state

    def __call__(self, x: Value) -> Value:
        """Return the value of the layer for the value x, as a new gate of x's graph."""
        checked("x", x)
        if self.in_network:
            raise ValueError(used_again(self))
        if self.inputs not in (None, x.width):
            raise ValueError(f"inputs must be {x.width}, what the layer below gives, got {self.inputs} of {self!r}")
        return self._gate(x)

    def _gate(self, x: Value) -> Value:
        raise NotImplementedError

    def initial(self, inputs: int, seed: int, step: int) -> dict[str, Array]:
        """Return initial parameters and state by name, as they follow each other in memory, in float64."""
        return {}

    def join(self, plan: Plan, node: int, inputs: int, seed: int, dtype: np.dtype[Any], values: Mapping[str, Array]) -> None:
        """Live in `plan`, as node number `node` with so many input columns, and begin with these `values`."""
        self._fixed = False  # a layer that was alone may become part of a network
        self._plan, self._node, self.inputs, self.dtype = plan, node, inputs, dtype
        self.seed = seed if self.draws else None
        starts: dict[str, int] = {}
        for name, value in values.items():
            vector = getattr(type(self), name).vector
            if vector not in starts:
                starts[vector] = plan.offset(node) if vector == "params" else plan.state_offset(node)
            self._places[name] = starts[vector], value.shape
            starts[vector] += value.size
            setattr(self, name, value)
        self._fixed = True

    def part(self, name: str, vector: str) -> Array:
        """Return a live view of one part of a vector of the plan; AttributeError if there is none."""
        if self._plan is None:
            raise AttributeError(NOT_BUILT)
        if name not in self._places:
            raise AttributeError(f"the layer has no {name}, got {self!r}")
        start, shape = self._places[name]
        view: Array = getattr(self._plan, vector)()[start : start + math.prod(shape)].reshape(shape)
        return view

    def decaying(self, biases: bool) -> list[Array]:
        """Return the parameters on which l1, l2 and weight decay act: weights, and if asked for biases, gains and shifts."""
        if not self.trainable:
            return []
        names = [name for name in self._places if getattr(type(self), name).vector == "params"]
        return [getattr(self, name) for name in names if biases or name == "weight"]

    @property
    def in_network(self) -> bool:
        """Whether a network has it."""
        return self._in_network

    @property
    def trainable(self) -> bool:
        """Whether training changes the parameters; the gradients of a frozen layer are 0."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        trainable = boolean("trainable", value)
        if self._plan is not None and self._places:
            self._plan.set_trainable(self._node, trainable)
        self._trainable = trainable

    def _alone(self) -> Plan:
        if self.in_network:
            raise RuntimeError(IN_NETWORK)
        return required(self._plan, NOT_BUILT)


def used_again(layer: object) -> str:
    """Say that it cannot be."""
    return f"a layer belongs to one network, once, got {layer!r} again"


def nodes_of(values: Sequence[Value]) -> list[Node]:
    """Return the nodes of values in topological order: positions in the list take the place of inputs."""
    position = {value.number: i for i, value in enumerate(values)}
    return [
        Node(
            value.gate,
            tuple(position[below.number] for below in value.inputs),
            value.width,
            value.settings,
            value.values,
            value.activation,
            value.parameter,
            value.function,
            value.layer is None or value.layer.trainable,
        )
        for value in values
    ]
