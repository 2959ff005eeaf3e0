# ruff: noqa: E741 - O is the field's letter for an output
"""Activation functions O = f(Z), and the way back: delta = dE/dZ from dO = dE/dO.

For a function that acts on each element the chain rule is one product, delta = dO * f'(Z). All derivatives
here are written with the output O instead of Z, so the forward pass need not keep Z:

    name       f(z)               f'(z)
    identity   z                  1
    sigmoid    1 / (1 + exp(-z))  o (1 - o)
    relu       max(z, 0)          1 if o > 0 else 0
    tanh       tanh(z)            1 - o**2
    softplus   log(1 + exp(z))    1 - exp(-o), the sigmoid of z
    softmax    exp(z_j) / sum_k exp(z_k) over a row; its Jacobian do_j/dz_k = o_j ([j = k] - o_k) gives
               delta = O * (dO - sum(dO * O))

A new activation is two functions and a row in `ACTIVATIONS`. `Activation` makes a layer of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastbp.checks import Array


@dataclass(frozen=True)
class ActivationFunction:
    """A row of the table.

    Attributes
    ----------
    name : str
    forward : callable
        forward(Z, out) computes O in the memory `out`, which may be Z itself.
    delta : callable
        delta(O, dO) -> dZ, all of shape (m, U). Changes neither argument.
    """

    name: str
    forward: Callable[[Array, Array], object]
    delta: Callable[[Array, Array], Array]


def identity(Z: Array, out: Array) -> None:
    """O = Z."""
    if out is not Z:
        out[...] = Z


def identity_delta(O: Array, dO: Array) -> Array:
    """Delta = dO."""
    return dO


def sigmoid(Z: Array, out: Array) -> None:
    """O = 1 / (1 + exp(-Z)). Where exp(-Z) overflows to infinity the quotient is 0, as it should be."""
    with np.errstate(over="ignore"):
        np.negative(Z, out=out)
        np.exp(out, out=out)
    out += 1.0
    np.divide(1.0, out, out=out)


def sigmoid_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * O * (1 - O)."""
    return dO * O * (1.0 - O)


def relu(Z: Array, out: Array) -> None:
    """O = max(Z, 0); NaN stays NaN."""
    np.maximum(Z, 0.0, out=out)


def relu_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * (O > 0). At the kink, Z = 0, the derivative is taken as 0."""
    return dO * (O > 0.0)


def tanh(Z: Array, out: Array) -> None:
    """O = tanh(Z)."""
    np.tanh(Z, out=out)


def tanh_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * (1 - O**2)."""
    return dO * (1.0 - O * O)


def softplus(Z: Array, out: Array) -> None:
    """O = log(1 + exp(Z)) = max(Z, 0) + log1p(exp(-abs(Z))), where exp cannot overflow."""
    largest = np.maximum(Z, 0.0)
    np.abs(Z, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    out += largest


def softplus_delta(O: Array, dO: Array) -> Array:
    """Delta = dO * (1 - exp(-O)), where exp(Z) = exp(O) - 1."""
    delta: Array = dO * -np.expm1(-O)
    return delta


def softmax(Z: Array, out: Array) -> None:
    """O_j = exp(Z_j) / sum_k exp(Z_k) in each row.

    Taking the row's maximum from every Z changes nothing in the quotient, and keeps exp from overflowing.
    """
    np.subtract(Z, Z.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)


def softmax_delta(O: Array, dO: Array) -> Array:
    """Delta = O * (dO - sum(dO * O)), the sum over the row."""
    delta: Array = O * (dO - (dO * O).sum(axis=1, keepdims=True))
    return delta


ACTIVATIONS: dict[str, ActivationFunction] = {
    row.name: row
    for row in (
        ActivationFunction("identity", identity, identity_delta),
        ActivationFunction("sigmoid", sigmoid, sigmoid_delta),
        ActivationFunction("relu", relu, relu_delta),
        ActivationFunction("tanh", tanh, tanh_delta),
        ActivationFunction("softmax", softmax, softmax_delta),
        ActivationFunction("softplus", softplus, softplus_delta),
    )
}


def activation_named(name: str | None) -> ActivationFunction:
    """Return the row of that name; None is the identity; ValueError lists the names."""
    if name is None:
        name = "identity"
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]
