# ruff: noqa: E741 - O is the field's letter for an output
"""A network: gates in topological order, and their parameters in one vector. Forward in that order, backward in reverse.

Going back, dE/dO of a value is complete when all gates that use the value have been visited, and they all come after it.
Where several use it their gradients add up: that is the chain rule for a function of several variables,

    dE/dO = sum over users Z_i of O:  dE/dZ_i * (what Z_i changes by when O does)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array
from fastbp.reference.activations import ActivationFunction, activation_named
from fastbp.reference.gate import Gate, Place, Run, own
from fastbp.reference.gates import GATES
from fastbp.values import Value, in_order

NOTHING = np.empty((0, 0)), np.empty((0, 0))  # W and state of most gates


def graph(inputs: Sequence[Value], outputs: Sequence[Value]) -> list[Value]:
    """Return all values that outputs depend on, in topological order; raise if this is no network."""
    for name, values, gates in (("inputs", inputs, ("input",)), ("outputs", outputs, GATES)):
        for i, value in enumerate(values):
            if not isinstance(value, Value) or value.gate not in gates:
                what = "Input(features), or a list of them" if name == "inputs" else "a value, or a list of them"
                raise TypeError(f"{name} must be {what}, got {value!r}")
            if any(value is other for other in values[:i]):
                raise ValueError(f"{name} must be different, got {value!r} again")
        if not values:
            raise ValueError(f"{name} must hold at least one value, got none")
    order = in_order(outputs)
    for value in order:
        if value.gate == "input" and not any(value is known for known in inputs):
            user = next((other for other in order if value in other.inputs), value)
            raise ValueError(f"inputs must hold every input that outputs depend on, got none for {value!r} of {user!r}")
    for value in inputs:
        if not any(value is used for used in order):
            raise ValueError(f"inputs must be used: no output depends on it, got {value!r}")
    layers = [value.layer for value in order if value.layer is not None]
    for i, layer in enumerate(layers):
        if layer.in_network or any(layer is other for other in layers[:i]):
            raise ValueError(f"a layer belongs to one network, once, got {layer!r} again")
    return order


def parameters_of(value: Value) -> tuple[int, int, int]:
    """Return the shape of W of a value's gate, and how many of its last rows are biases, or of a norm."""
    inputs, units = (value.inputs[0].width if value.inputs else 0), value.width
    match value.gate:
        case "dense":
            bias = int(value.settings[0])
            return inputs + bias, units, bias
        case "embedding":
            return int(value.settings[0]), units // inputs, 0
        case "layer_norm" | "batch_norm":
            return 2, units, 2
        case "rms_norm":
            return 1, units, 1
    return 0, 0, 0


def activation_of(value: Value) -> ActivationFunction:
    """Return f of a value; functions of the user's own are checked whenever they are called."""
    pair = None if value.function is None else (own("f", value.function[0]), own("df", value.function[1]))
    return activation_named(value.activation, value.parameter, pair)


class Network:
    """The gates that some values depend on, their parameters, and the way through them.

    Parameters
    ----------
    inputs, outputs : sequence of Value
    dtype : dtype
    seed : int
        Initial weights of Dense or Embedding layer number d, counted from 0 in topological order, are those of (seed, step
        d), or, if the layer has a seed of its own, of (layer seed, step 0).

    Attributes
    ----------
    places, with_parameters : list of Place
        In topological order.
    params, grads : ndarray, shape (number of parameters,)
        W and dW of all gates in topological order, row by row.
    state : ndarray
        Likewise, of batch norms and standardizations.
    draws : int
        Forward passes in training so far.
    """

    def __init__(self, inputs: Sequence[Value], outputs: Sequence[Value], dtype: np.dtype[Any], seed: int) -> None:
        values = in_order(outputs)
        self.position = {value.number: i for i, value in enumerate(values)}
        self.inputs = [self.position[value.number] for value in inputs]
        self.outputs = [self.position[value.number] for value in outputs]
        self.dtype, self.seed, self.draws = dtype, seed, 0
        initial = self._initial(values)  # all that can fail, before the first layer changes
        shapes = [parameters_of(value) for value in values]
        size = sum(rows * columns for rows, columns, _ in shapes)
        self.params, self.grads = np.zeros(size, dtype), np.zeros(size, dtype)
        self.state = np.zeros(sum(state.size for _, state in initial), dtype)
        self.places: list[Place] = []
        start = start_of_state = dropouts = 0
        for value, (rows, columns, _), (W, state) in zip(values, shapes, initial, strict=True):
            part, shape = slice(start, start + rows * columns), (rows, columns)
            part_of_state = slice(start_of_state, start_of_state + state.size)
            place = Place(
                value,
                activation_of(value),
                tuple(self.position[below.number] for below in value.inputs),
                self.params[part].reshape(shape),
                self.grads[part].reshape(shape),
                self.state[part_of_state].reshape(state.shape),
                np.asarray([] if value.values is None else value.values, dtype),
                dropouts,
            )
            place.W[...], place.state[...] = W.reshape(shape), state
            self.places.append(place)
            start, start_of_state = part.stop, part_of_state.stop
            dropouts += value.gate == "dropout"
            if value.layer is not None:
                value.layer.join(place)
        self.with_parameters = [place for place in self.places if place.W.size]

    def _initial(self, values: Sequence[Value]) -> list[tuple[Array, Array]]:
        """Return the initial W and state of every gate, in float64."""
        result: list[tuple[Array, Array]] = []
        drawn = 0
        for value in values:
            W, state = NOTHING
            if (layer := value.layer) is not None:
                layer._fixed = False  # a layer that was alone may become part of a network
                seed, step = (self.seed, drawn) if layer.own_seed is None else (layer.own_seed, 0)
                W, state = layer.initial(value.inputs[0].width, seed, step)
                drawn += value.gate in ("dense", "embedding")
            result.append((W, state))
        return result

    def frozen(self) -> npt.NDArray[np.bool_] | None:
        """Return which of the parameters are those of frozen layers; None if there are none."""
        learns = [place.learns for place in self.with_parameters]
        if all(learns):
            return None
        return np.concatenate([np.full(place.W.size, not yes) for place, yes in zip(self.with_parameters, learns, strict=True)])

    def forward(self, xs: Sequence[npt.NDArray[Any]], training: bool) -> Pass:
        """Go forward through all gates, for rows xs, (m, I) for each input; nothing of the network changes yet."""
        return Pass(self, xs, training, range(len(self.places)))

    def finish(self, done: Pass) -> None:
        """End a forward pass in training: running statistics move, the next pass has other masks."""
        self.draws += 1
        for gate in done.gates.values():
            gate.finish()

    def values(self, xs: Sequence[npt.NDArray[Any]], positions: Sequence[int]) -> list[Array]:
        """Return the values at these positions, as they are in prediction."""
        needed = in_order([self.places[i].value for i in positions])
        done = Pass(self, xs, False, [self.position[value.number] for value in needed])
        return [done.gates[i].O for i in positions]


class Pass:
    """One way forward through gates, which keep what they need for the way back."""

    def __init__(self, network: Network, xs: Sequence[npt.NDArray[Any]], training: bool, positions: Sequence[int]) -> None:
        self.network, self.xs = network, xs
        rows = dict(zip(network.inputs, xs, strict=True))
        run = Run(training, len(xs[0]), network.dtype, network.seed, network.draws)
        self.gates: dict[int, Gate] = {}
        for i in positions:
            place = network.places[i]
            gate = self.gates[i] = GATES[place.value.gate](place, run)
            gate.output(*([rows[i]] if i in rows else [self.gates[j].O for j in place.inputs]))

    @property
    def outputs(self) -> list[Array]:
        """The outputs of the network, (m, U) each; never the memory of an input, which is the caller's."""
        found = [self.gates[i].O for i in self.network.outputs]
        return [O.copy() if any(np.may_share_memory(O, x) for x in self.xs) else O for O in found]

    def backward(self, douts: Sequence[Array], inputs: bool) -> list[Array]:
        """Fill all dW from dE/dO, (m, U), of every output; return dE/dX of every input, if asked to.

        Gradients that nobody asks for are not computed: those of values on which no parameter that learns and, unless
        `inputs`, nothing else depends.
        """
        places, (learns, needed) = self.network.places, self._needed(inputs)
        d: dict[int, Array] = {}  # dE/dO, as far as it is known
        for i, dO in zip(self.network.outputs, douts, strict=True):
            d[i] = d[i] + dO if i in d else dO
        for i in reversed(range(len(places))):
            inputs_of, gate = places[i].inputs, self.gates[i]
            if not needed[i] or not inputs_of:
                continue
            dZ = gate.delta(d[i])
            if learns[i]:
                gate.learn(dZ)
            if any(needed[j] for j in inputs_of):
                for j, dX in zip(inputs_of, gate.backward(dZ), strict=True):
                    d[j] = d[j] + dX if j in d else dX
        return [np.array(d[i]) for i in self.network.inputs] if inputs else []

    def backward_recursive(self, douts: Sequence[Array], inputs: bool) -> list[Array]:
        """Do the same as `backward`, as a textbook defines it: the derivative of each value by those of its users.

        The loop of `backward` is this recursion unrolled: the same operations in the same order, so the same bits.
        """
        places, (learns, needed) = self.network.places, self._needed(inputs)
        users: list[list[tuple[int, int]]] = [[] for _ in places]  # and of which of its inputs
        for i in reversed(range(len(places))):
            for which, j in enumerate(places[i].inputs):
                users[j].append((i, which))

        @cache
        def of_output(i: int) -> Array:
            parts = [dO for j, dO in zip(self.network.outputs, douts, strict=True) if i == j]
            parts += [of_inputs(user)[which] for user, which in users[i]]
            return sum(parts[1:], start=parts[0])

        @cache
        def of_inputs(i: int) -> tuple[Array, ...]:
            dZ = self.gates[i].delta(of_output(i))
            if learns[i]:
                self.gates[i].learn(dZ)
            return self.gates[i].backward(dZ) if any(needed[j] for j in places[i].inputs) else ()

        for i in range(len(places)):
            if learns[i]:
                of_inputs(i)
        return [np.array(of_output(i)) for i in self.network.inputs] if inputs else []

    def _needed(self, inputs: bool) -> tuple[list[bool], list[bool]]:
        """Return for every gate whether it learns, and whether the gradient of its output is needed; frozen layers get dW = 0."""
        learns: list[bool] = []
        needed: list[bool] = []
        for place in self.network.places:
            learns.append(place.learns)
            if not learns[-1]:
                place.dW[...] = 0.0
            asked = inputs and place.value.gate == "input"
            needed.append(learns[-1] or asked or any(needed[j] for j in place.inputs))
        return learns, needed
