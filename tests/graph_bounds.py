"""Running error bounds for graphs: the forward pass of a reference network, gate by gate, with bounds; see `bounds`.

And with them, central differences of any graph: by every parameter and every input, of

    E = sum_k sum D_k * O_k,  O_k the outputs, D_k random numbers

whose gradients `net.backward(D)` returns. E errs by sum |D| err(O), and by the rounding of its own terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from bounds import Bounded, Rounding, activate
from cases import Array, numbers
from numeric import differences

import fastbp.reference as ref
from fastbp.reference.gate import Gate, Place
from fastbp.values import Value

# f where f' or f'' jumps: where O changes side of these, a central difference crosses a kink.
KINKS = {
    "relu": (0,), "leaky_relu": (0,), "elu": (0,), "selu": (0,), "softsign": (0,), "relu6": (0, 6), "hard_sigmoid": (0, 1),
    "hard_swish": (0, 3),
}  # fmt: skip


def model(inputs: Any, outputs: Any, **settings: Any) -> ref.Model:
    return ref.Model(inputs, outputs, dtype="float64", **({"seed": 3} | settings))


def sequential(*layers: Any, **settings: Any) -> ref.Sequential:
    return ref.Sequential(list(layers), **({"seed": 3, "dtype": "float64"} | settings))


def matrix(value: Any) -> Array:
    return np.asarray(value, np.float64)


def gate_bounds(place: Place, gate: Gate, X: list[Bounded], training: bool, in_: Rounding) -> Bounded:
    """Z of one gate, from its inputs; `gate` is that of a pass, of which nothing is used but the mask of dropout."""
    value, settings = place.value, place.value.settings
    match value.gate:
        case "constant":
            return in_.exact(np.tile(place.values, (gate.run.rows, 1)))
        case "dense":
            A = X[0]
            if settings[0]:
                ones = np.ones((len(A.value), 1))
                A = Bounded(np.hstack([A.value, ones]), np.hstack([A.error, 0 * ones]), in_)
            return A @ in_.exact(place.W)
        case "matmul":
            return X[0] @ in_.exact(place.values)
        case "activation":
            return X[0]
        case "add":
            return X[0] + X[1]
        case "subtract":
            return X[0] - X[1]
        case "multiply":
            return X[0] * X[1]
        case "divide":
            return X[0] / X[1]
        case "maximum" | "minimum":
            f = np.maximum if value.gate == "maximum" else np.minimum
            return Bounded(f(X[0].value, X[1].value), np.maximum(X[0].error, X[1].error), in_)
        case "concatenate":
            return Bounded(np.hstack([x.value for x in X]), np.hstack([x.error for x in X]), in_)
        case "slice":
            return X[0][:, int(settings[0]) : int(settings[0]) + value.width]
        case "dropout":
            mask: Array | None = gate.mask  # type: ignore[attr-defined]
            return X[0] if mask is None else X[0] * in_.exact(mask.astype(np.float64))
        case "layer_norm" | "rms_norm":
            return normalised(X[0], place, centered=value.gate == "layer_norm")
        case "batch_norm" if training:
            return normalised(X[0].T, place, centered=True, by_column=True)
        case "batch_norm":
            mean, var = in_.exact(place.state[:1]), in_.exact(place.state[1:])
            return scaled((X[0] - mean) / (var + in_.constant(settings[0])).sqrt(), place)
        case "embedding":
            return in_.exact(place.W[X[0].value.astype(int)].reshape(-1, value.width))
        case "standardize":
            return (X[0] - in_.exact(place.state[:1])) / in_.exact(place.state[1:])
    raise KeyError(f"no error bound for the gate {value.gate!r}")


def normalised(X: Bounded, place: Place, *, centered: bool, by_column: bool = False) -> Bounded:
    """(X - mean) / sqrt(var + eps) by row, then gain and shift; columns come transposed."""
    in_ = X.in_
    n = in_.exact(float(X.value.shape[1]))
    if centered:
        X = X - X.sum_rows() / n
    H = X / ((X * X).sum_rows() / n + in_.constant(place.value.settings[0])).sqrt()
    return scaled(H.T if by_column else H, place)


def scaled(H: Bounded, place: Place) -> Bounded:
    """gain * H + shift."""
    parts = [H.in_.exact(row[None]) for row in place.W]
    return H * parts[0] + parts[1] if len(parts) == 2 else H * parts[0]


def forward_bounds(net: ref.Model, xs: list[Array], training: bool, dtype: str = "float64") -> list[Bounded]:
    """Every value of a network, in topological order, with the error a forward pass in `dtype` makes."""
    in_ = Rounding(dtype)
    gates = one_pass(net, xs, training)
    given = dict(zip(net._network.inputs, xs, strict=True))
    values: list[Bounded] = []
    for i, place in enumerate(net._network.places):
        if i in given:
            values.append(in_.exact(given[i]))
            continue
        Z = gate_bounds(place, gates[i], [values[j] for j in place.inputs], training, in_)
        values.append(function_bounds(place.value, Z))
    return values


def function_bounds(value: Value, Z: Bounded) -> Bounded:
    """f(Z); a function of the user's own is taken to be within the ulps of NumPy's, and its slope at most 1."""
    if value.function is not None:
        return Z.function(np.asarray(value.function[0](Z.value)), np.ones_like(Z.value))
    return activate(value.activation, Z)


def one_pass(net: ref.Model, xs: list[Array], training: bool) -> dict[int, Gate]:
    """The gates of a forward pass, which changes nothing in the network."""
    draws, state = net.draws, net.state.copy()
    net.forward(*xs, training=training)
    net.draws, net.state = draws, state
    assert net._pass is not None
    return net._pass.gates


@dataclass
class Gradients:
    """A network in float64, rows for each of its inputs, and random gradients of its outputs."""

    net: ref.Model
    xs: list[Array]
    training: bool = True

    def __post_init__(self) -> None:
        outs = [gate.O for gate in self.outputs()]
        self.douts = [numbers(*out.shape, seed=50 + k) for k, out in enumerate(outs)]

    def outputs(self) -> list[Gate]:
        gates = one_pass(self.net, self.xs, self.training)
        return [gates[i] for i in self.net._network.outputs]

    def evaluate(self) -> tuple[float, bytes]:
        """E, and on which side every unit is of the kinks of its gate."""
        gates, places = one_pass(self.net, self.xs, self.training), self.net._network.places
        sides = b""
        for i, place in enumerate(places):
            if place.value.gate in ("maximum", "minimum"):
                first, second = (gates[j].O for j in place.inputs)
                sides += (first > second).tobytes()
            if place.value.activation in KINKS:
                sides += b"".join(np.sign(gates[i].O - level).tobytes() for level in KINKS[place.value.activation])
        outputs = [gates[i].O for i in self.net._network.outputs]
        return sum(float((D * O).sum()) for D, O in zip(self.douts, outputs, strict=True)), sides

    @property
    def noise(self) -> float:
        """|computed E - E| at most."""
        bounded = forward_bounds(self.net, self.xs, self.training)
        wide, noise, total, terms = Rounding("float64"), 0.0, 0.0, 0
        for D, i in zip(self.douts, self.net._network.outputs, strict=True):
            noise += float((np.abs(D) * bounded[i].error).sum())
            total += float((np.abs(D) * bounded[i].most).sum())
            terms += D.size
        return noise + wide.gamma(terms + 1) * total

    def check(self, *, by_inputs: bool = True) -> None:
        """Compare every gradient with its central difference."""
        one_pass(self.net, self.xs, self.training)
        listed = self.net._data.listed
        dX = ref.Model.backward(self.net, self.douts if listed else self.douts[0])  # of a Sequential, too
        grads, noise = self.net.grads.copy(), self.noise
        if grads.size:
            differences(self.evaluate, self.net.params, noise).check(grads)
        if by_inputs:
            for x, dx in zip(self.xs, dX, strict=True):
                differences(self.evaluate, x, noise).check(dx)
