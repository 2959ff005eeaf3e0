# ruff: noqa: E741 - O is the field's letter for an output
"""Layers: each knows its own way forward and its own way back, and nothing of the others.

Going forward a layer keeps what its way back will need. Going back it receives dO, the derivative of the loss
with respect to its output; from that come the derivative for its weights, which it keeps, and the derivative
for its input, which it hands on: to the layer below that input is an output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastbp.checks import NO_FORWARD, Array, float_dtype, gradient, positive, required, rows, write_into
from fastbp.initializers import Init, initialize
from fastbp.reference.activations import Activation, activation_named
from fastbp.rng import checked_seed, fresh_seed

NOT_BUILT = "the layer has no weights yet: pass inputs=, or make it part of a network"


class LiveView:
    """Attribute that is a view of memory owned elsewhere: reading gives the view, assigning writes into it.

    So both ``layer.weight[...] = values`` and ``layer.weight -= step`` change the one vector of parameters.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the attribute's name: the view itself is stored beside it."""
        self.name = name
        self.slot = "_" + name

    def __get__(self, instance: object, owner: type | None = None) -> Array:
        """Return the view."""
        view: Array | None = getattr(instance, self.slot, None)
        if view is None:
            raise AttributeError(f"{self.name}: {NOT_BUILT}")
        return view

    def __set__(self, instance: object, value: npt.ArrayLike) -> None:
        """Write `value`, of the view's shape, into the view."""
        write_into(self.__get__(instance), value, self.name)


@dataclass(frozen=True)
class Input:
    """The input of a network: rows of `features` numbers.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> fb.Input(784)
    Input(features=784)
    """

    features: int

    def __post_init__(self) -> None:
        """Check the size."""
        positive("features", self.features)


class Dense:
    """O = f(X W + b): every unit sees every input.

    The bias is the weight of one more input that is always 1. With a column of ones appended to X, and the
    bias appended to the weights as their last row, one product does both, forward and backward:

        A     (m, I+1) = [X, 1]
        Z     (m, U)   = A (m, I+1) @ W (I+1, U)
        O     (m, U)   = f(Z)
        delta (m, U)   = dZ = dO * f'(Z)
        dW    (I+1, U) = A^T (I+1, m) @ delta (m, U)
        dX    (m, I)   = delta (m, U) @ weight^T (U, I)

    Parameters
    ----------
    units : int
        U, the number of outputs.
    activation : str or None
        f: "identity" (None), "sigmoid", "relu", "tanh", "softmax" or "softplus".
    inputs : int, optional
        I. With it the layer can be used alone; in a network it follows from the layer below.
    weight_init, bias_init : str, float, array-like or callable
        See `fastbp.initializers.initialize`; shapes (I, U) and (U,).
    seed : int, optional
        Of the initial weights, 0 <= seed < 2**64. By default that of the network, or for a layer alone a
        fresh one.
    dtype : "float32" or "float64"
        Of a layer alone; in a network the network's dtype holds.

    Attributes
    ----------
    weight, dweight : ndarray, shape (I, U)
    bias, dbias : ndarray, shape (U,)
        Live views: writing to them changes the layer. `backward` writes the two gradients.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above.

    Examples
    --------
    One neuron, and a step downhill:

    >>> import fastbp.reference as fb
    >>> layer = fb.Dense(1, "sigmoid", inputs=2, weight_init=[[2], [-3]], bias_init=[-3], dtype="float64")
    >>> layer.forward([[-1, -2]]).round(4).tolist()
    [[0.7311]]
    >>> layer.backward([[1]]).round(4).tolist()
    [[0.3932, -0.5898]]
    >>> layer.dweight.round(4).tolist(), layer.dbias.round(4).tolist()
    ([[-0.1966], [-0.3932]], [0.1966])
    >>> layer.weight -= 0.1 * layer.dweight
    """

    weight = LiveView()
    bias = LiveView()
    dweight = LiveView()
    dbias = LiveView()

    def __init__(
        self,
        units: int,
        activation: str | None = "identity",
        *,
        inputs: int | None = None,
        weight_init: Init = "glorot_uniform",
        bias_init: Init = "zeros",
        seed: int | None = None,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        self.units = positive("units", units)
        self.inputs = inputs if inputs is None else positive("inputs", inputs)
        self.seed = seed if seed is None else checked_seed(seed)
        self.own_seed = self.seed  # as given; `seed` becomes the one the weights were drawn with
        self.in_network = False
        self.dtype = float_dtype(dtype)
        self._f = activation_named(activation)
        self._weight_init = weight_init
        self._bias_init = bias_init
        self._W: Array | None = None
        self._kept: tuple[Array, Array] | None = None  # A and O, or Z, of the last forward pass
        if self.inputs is not None:
            shape = (self.inputs + 1, self.units)
            seed = fresh_seed() if self.seed is None else self.seed
            self.build(np.empty(shape, self.dtype), np.zeros(shape, self.dtype), seed, 0)

    @property
    def activation(self) -> str:
        """Name of f."""
        return self._f.name

    def build(self, W: Array, dW: Array, seed: int, step: int) -> None:
        """Live in this memory, both (I+1, U) and contiguous, and draw the initial weights into it."""
        weight_shape, bias_shape = (len(W) - 1, self.units), (self.units,)
        W[:-1] = initialize(self._weight_init, weight_shape, seed=seed, step=step, name="weight_init")
        W[-1] = initialize(self._bias_init, bias_shape, seed=seed, step=step, inputs=len(W) - 1, name="bias_init")
        self.inputs, self.dtype = len(W) - 1, W.dtype
        self.seed = seed
        self._W, self._dW = W, dW
        self._weight, self._bias = W[:-1], W[-1]
        self._dweight, self._dbias = dW[:-1], dW[-1]

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return O = f(A W), shape (m, U), for X of shape (m, I); keep A and O, or Z, for `backward`.

        O is not copied: what you write to it, the way back will see.
        """
        A = self._with_ones(x)
        O, kept = self._outputs(A)
        self._kept = A, kept
        return O

    def infer(self, x: npt.ArrayLike) -> Array:
        """Return the same O as `forward`, keeping nothing."""
        return self._outputs(self._with_ones(x))[0]

    def weight_gradient(self, dout: npt.ArrayLike) -> Array:
        """From dO, shape (m, U), compute dW; return delta, shape (m, U)."""
        A, kept = required(self._kept, NO_FORWARD)
        dO = gradient(dout, kept)
        delta = self._f.delta(kept, dO)  # (m, U) = dO (m, U) * f'(Z) (m, U)
        np.matmul(A.T, delta, out=self._dW)  # (I+1, U) = A^T (I+1, m) @ delta (m, U), summed over the m rows
        return delta

    def backward(self, dout: npt.ArrayLike) -> Array:
        """From dO, shape (m, U), compute dW; return dX, shape (m, I). W stays as it is."""
        delta = self.weight_gradient(dout)
        # (m, I) = delta (m, U) @ weight^T (U, I). The bias row stays out: the column of ones is no input.
        return delta @ self._weight.T

    def _with_ones(self, x: npt.ArrayLike) -> Array:
        W = required(self._W, NOT_BUILT)
        X = rows("x", x, self.inputs)
        A = np.empty((len(X), len(W)), W.dtype)  # (m, I+1)
        A[:, :-1] = X  # also converts to the dtype
        A[:, -1] = 1.0
        return A

    def _outputs(self, A: Array) -> tuple[Array, Array]:
        Z: Array = A @ required(self._W, NOT_BUILT)  # (m, U) = A (m, I+1) @ W (I+1, U)
        return self._f.apply(Z)  # O = f(Z), (m, U), in the memory of Z, unless the way back needs that

    def __repr__(self) -> str:
        """Show the call that makes this layer, without initialisation."""
        activation = "" if self.activation == "identity" else f", {self.activation!r}"
        inputs = "" if self.inputs is None else f", inputs={self.inputs}"
        return f"Dense({self.units}{activation}{inputs})"


def shapes_of(layers: Sequence[Input | Dense | Activation]) -> tuple[int, int, list[tuple[int, int]]]:
    """Return inputs and outputs of a network and (I+1, U) of each dense layer; raise if layers do not fit."""
    if not any(isinstance(layer, Dense) for layer in layers):
        raise ValueError(f"layers must hold at least one Dense, got {list(layers)!r}")
    first = layers[0]
    inputs = first.features if isinstance(first, Input) else getattr(first, "inputs", None)
    if inputs is None:
        raise ValueError(f"layers must begin with Input(features) or Dense(..., inputs=...), got {first!r}")
    shapes: list[tuple[int, int]] = []
    width: int = inputs
    chain = layers[1:] if isinstance(first, Input) else layers
    for k, layer in enumerate(chain):
        if not isinstance(layer, (Dense, Activation)):
            raise TypeError(f"layers must be Dense or Activation after the Input, got {layer!r}")
        if layer.in_network or layer in chain[:k]:
            raise ValueError(f"a layer belongs to one network, once, got {layer!r} again")
        if isinstance(layer, Dense):
            if layer.inputs not in (None, width):
                raise ValueError(f"inputs must be {width}, what the layer below gives, got {layer!r}")
            shapes.append((width + 1, layer.units))
            width = layer.units
    return shapes[0][0] - 1, width, shapes
