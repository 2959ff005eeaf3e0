# ruff: noqa: E741 - O is the field's letter for an output
"""Activation functions O = f(Z), and the way back: delta = dE/dZ from dO = dE/dO.

For a function that acts on each element the chain rule is one product, delta = dO * f'(Z). Most derivatives
here are written with the output O instead of Z, so the forward pass need not keep Z:

    name          f(z)                              f'(z)
    identity      z                                 1
    sigmoid       1 / (1 + exp(-z))                 o (1 - o)
    relu          max(z, 0)                         1 if o > 0 else 0
    tanh          tanh(z)                           1 - o**2
    softplus      log(1 + exp(z))                   1 - exp(-o), the sigmoid of z
    leaky_relu    z if z > 0 else a z               1 if o > 0 else a              a = 0.01, at least 0
    elu           z if z > 0 else a (exp(z) - 1)    1 if o > 0 else o + a          a = 1, at least 0
    selu          1.0507 elu(z), a = 1.6733         1.0507 if o > 0 else o + 1.7581
    softsign      z / (1 + |z|)                     (1 - |o|)**2
    hard_sigmoid  relu6(z + 3) / 6                  1/6 if 0 < o < 1 else 0
    relu6         min(max(z, 0), 6)                 1 if 0 < o < 6 else 0
    exp           exp(z)                            o
    reciprocal    1 / z                             -o**2
    negative      -z                                -1

Where different z give the same o, or o tells little of the slope, Z is kept:

    gelu          z Phi(z), exact                   Phi(z) + z exp(-z**2 / 2) / sqrt(2 pi)
    gelu_tanh     z S(y), see `functions`           S(y) + z y' S(y) (1 - S(y))    S: the sigmoid
    silu          z S(z)                            S(z) + z S(z) (1 - S(z))
    mish          z tanh(softplus(z))               t + z (1 - t**2) S(z)          t = tanh(softplus(z))
    hard_swish    z hard_sigmoid(z)                 (2 z + 3) / 6 if -3 < z < 3, 0 below, 1 above
    sin           sin(z)                            cos(z)
    square        z**2                              2 z
    log           log(z)                            1 / z
    power         z**a                              a z**(a - 1)                   a = 2
    custom        f(z)                              df(z), a pair of functions of the user's own

And two of a whole row, whose Jacobians have more than a diagonal:

    softmax       exp(z_j) / sum_k exp(z_k); do_j/dz_k = o_j ([j = k] - o_k) gives
                  delta = O * (dO - sum(dO * O))
    log_softmax   log softmax(z)_j; do_j/dz_k = [j = k] - exp(o_k) gives delta = dO - exp(O) * sum(dO)

All formulas are PyTorch's. A new activation is two functions in `functions` and a row in `ACTIVATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fastbp.checks import Array, activation_parameter
from fastbp.reference import functions as f
from fastbp.values import Function


@dataclass(frozen=True)
class ActivationFunction:
    """A row of the table.

    Attributes
    ----------
    name : str
    forward : callable
        forward(Z, out) computes O in the memory `out`, which may be Z itself.
    delta : callable
        delta(O, dO) -> dZ, all of shape (m, U), or delta(Z, dO) where `wants_z`. Changes neither argument.
    wants_z : bool
        Whether the derivative is made from Z, which then has to be kept.
    parameter : float or None
        a, for rows that have one: in the table the usual value. There, both functions take it, too; a row from
        `activation_named` has it in it.
    """

    name: str
    forward: Callable[..., object]
    delta: Callable[..., Array]
    wants_z: bool = False
    parameter: float | None = None

    def apply(self, Z: Array) -> tuple[Array, Array]:
        """Return O, and what `delta` takes: O, which then is in the memory of Z, or Z itself."""
        O = np.empty_like(Z) if self.wants_z else Z
        self.forward(Z, O)
        return O, Z if self.wants_z else O


ACTIVATIONS: dict[str, ActivationFunction] = {
    row.name: row
    for row in (
        ActivationFunction("identity", f.identity, f.identity_delta),
        ActivationFunction("sigmoid", f.sigmoid, f.sigmoid_delta),
        ActivationFunction("relu", f.relu, f.relu_delta),
        ActivationFunction("tanh", f.tanh, f.tanh_delta),
        ActivationFunction("softmax", f.softmax, f.softmax_delta),
        ActivationFunction("softplus", f.softplus, f.softplus_delta),
        ActivationFunction("leaky_relu", f.leaky_relu, f.leaky_relu_delta, parameter=0.01),
        ActivationFunction("elu", f.elu, f.elu_delta, parameter=1.0),
        ActivationFunction("selu", f.selu, f.selu_delta),
        ActivationFunction("softsign", f.softsign, f.softsign_delta),
        ActivationFunction("gelu", f.gelu, f.gelu_delta, wants_z=True),
        ActivationFunction("gelu_tanh", f.gelu_tanh, f.gelu_tanh_delta, wants_z=True),
        ActivationFunction("silu", f.silu, f.silu_delta, wants_z=True),
        ActivationFunction("mish", f.mish, f.mish_delta, wants_z=True),
        ActivationFunction("hard_sigmoid", f.hard_sigmoid, f.hard_sigmoid_delta),
        ActivationFunction("hard_swish", f.hard_swish, f.hard_swish_delta, wants_z=True),
        ActivationFunction("relu6", f.relu6, f.relu6_delta),
        ActivationFunction("exp", f.exp, f.exp_delta),
        ActivationFunction("sin", f.sin, f.sin_delta, wants_z=True),
        ActivationFunction("log_softmax", f.log_softmax, f.log_softmax_delta),
        ActivationFunction("square", f.square, f.square_delta, wants_z=True),
        ActivationFunction("reciprocal", f.reciprocal, f.reciprocal_delta),
        ActivationFunction("log", f.log, f.log_delta, wants_z=True),
        ActivationFunction("negative", f.negative, f.negative_delta),
        ActivationFunction("power", f.power, f.power_delta, wants_z=True, parameter=2.0),
        ActivationFunction("custom", f.custom, f.custom_delta, wants_z=True),
    )
}


def activation_named(
    name: str | None, parameter: float | None = None, function: Function | None = None
) -> ActivationFunction:
    """Return the row of that name, for this parameter; None is the identity; ValueError lists the names.

    A pair of functions (f, df) of the user's own makes the row "custom".
    """
    name = "identity" if name is None else name
    if not isinstance(name, str) or name not in ACTIVATIONS or (name == "custom") != (function is not None):
        names = ", ".join(name for name in ACTIVATIONS if name != "custom")
        raise ValueError(f"activation must be one of {names}, or a pair of functions (f, df), got {name!r}")
    row = ACTIVATIONS[name]
    a = activation_parameter(name, row.parameter, parameter)
    if function is not None:
        return replace(row, forward=partial(f.custom, function=function), delta=partial(f.custom_delta, function=function))
    if a is not None:
        return replace(row, forward=partial(row.forward, a=a), delta=partial(row.delta, a=a), parameter=a)
    return row
