"""Layers: descriptions of gates, and live views of their parameters once they are part of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastbp._fastbp_core import Plan
from fastbp.checks import NO_FORWARD, Array, float_dtype, positive, reals, required, write_into
from fastbp.graph import Node, activation_named, compile_graph
from fastbp.initializers import Init, initialize
from fastbp.rng import checked_seed, fresh_seed

NOT_BUILT = "the layer has no weights yet: pass inputs=, or make it part of a network"
IN_NETWORK = "the layer is part of a network: call the network's method"
Made = tuple[Plan, int, str]  # with the columns and the dtype it was made for


@dataclass(frozen=True)
class Input:
    """The input of a network: rows of `features` numbers.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.Input(784)
    Input(features=784)
    """

    features: int

    def __post_init__(self) -> None:
        """Check the size."""
        positive("features", self.features)


class Dense:
    """O = f(X W + b): every unit sees every input.

    The layer owns one matrix of shape (I + 1, U): the weights and, as last row, the bias, which is the weight of a column
    of ones appended to X (the ones are never stored). With delta the error signal:

        Z     (m, U)   = [X 1] (m, I+1) W (I+1, U)
        O     (m, U)   = f(Z)
        delta (m, U)   = dZ = dO * f'(Z)
        dW    (I+1, U) = [X 1]^T delta
        dX    (m, I)   = delta weight^T

    Parameters
    ----------
    units : int
        U, the number of outputs.
    activation : str or None
        f: "identity" (None), "sigmoid", "relu", "tanh", "softmax" or "softplus".
    inputs : int, optional
        I. With it the layer can be used alone; in a network it follows from the layer below.
    weight_init, bias_init : str, float, array-like or callable
        A name from `fastbp.initializers.INITIALIZERS` (of a bias: "zeros", "ones", "torch_linear"), one number for all, the
        values, or a function of (shape, seed, step) that returns them; shapes (I, U) and (U,).
    seed : int, optional
        Of the initial weights, 0 <= seed < 2**64. By default that of the network, or for a layer alone a fresh one.
    dtype : "float32" or "float64"
        Of a layer alone; in a network the network's dtype holds.

    Attributes
    ----------
    weight, dweight : ndarray, shape (I, U)
    bias, dbias : ndarray, shape (U,)
        Live views: the next call sees what is written to them. `backward` fills the two gradients.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above.

    Examples
    --------
    One neuron, and a step downhill:

    >>> import fastbp as fb
    >>> layer = fb.Dense(1, "sigmoid", inputs=2, weight_init=[[2], [-3]], bias_init=[-3], dtype="float64")
    >>> layer.forward([[-1, -2]]).round(4).tolist()
    [[0.7311]]
    >>> layer.backward([[1]]).round(4).tolist()
    [[0.3932, -0.5898]]
    >>> layer.dweight.round(4).tolist(), layer.dbias.round(4).tolist()
    ([[-0.1966], [-0.3932]], [0.1966])
    >>> layer.weight -= 0.1 * layer.dweight
    """

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
        self.activation = activation_named(activation)
        self.inputs = inputs if inputs is None else positive("inputs", inputs)
        self.seed = seed if seed is None else checked_seed(seed)
        self.own_seed = self.seed  # as given; `seed` becomes the one the weights were drawn with
        self.in_network = False
        self.dtype = float_dtype(dtype)
        self._weight_init = weight_init
        self._bias_init = bias_init
        self._plan: Plan | None = None
        self._start = 0  # of W in the plan's parameters
        if self.inputs is not None:
            plan = compile_graph(
                [Node("input", (), self.inputs), Node("dense", (0,), self.units, (1,), activation=self.activation)],
                dtype=self.dtype.name,
            )
            values = self.initial(self.inputs, fresh_seed() if self.seed is None else self.seed, 0)
            self.join(plan, 0, self.inputs, values, self.dtype)

    def initial(self, inputs: int, seed: int, step: int) -> tuple[Array, Array]:
        """Draw the initial weight (I, U) and bias (U,), in float64."""
        self.seed = seed
        weight = initialize(self._weight_init, (inputs, self.units), seed=seed, step=step, name="weight_init")
        bias = initialize(self._bias_init, (self.units,), seed=seed, step=step, inputs=inputs, name="bias_init")
        return weight, bias

    def join(self, plan: Plan, start: int, inputs: int, values: tuple[Array, Array], dtype: np.dtype[np.floating]) -> None:
        """Live in `plan`, where W (I+1, U) begins at `start` of the parameters, with these initial values."""
        self._plan, self._start, self.inputs, self.dtype = plan, start, inputs, dtype
        self.weight, self.bias = values

    def _matrix(self, vector: Array) -> Array:
        rows = required(self.inputs, NOT_BUILT) + 1
        return vector[self._start : self._start + rows * self.units].reshape(rows, self.units)

    def _params(self) -> Array:
        return self._matrix(self._built().params())

    def _grads(self) -> Array:
        return self._matrix(self._built().grads())

    def _built(self) -> Plan:
        if self._plan is None:
            raise AttributeError(NOT_BUILT)
        return self._plan

    @property
    def weight(self) -> Array:
        """Weights (I, U), a live view."""
        view: Array = self._params()[:-1]
        return view

    @weight.setter
    def weight(self, value: npt.ArrayLike) -> None:
        write_into(self.weight, value, "weight")

    @property
    def bias(self) -> Array:
        """Bias (U,), a live view: the weight of the column of ones."""
        view: Array = self._params()[-1]
        return view

    @bias.setter
    def bias(self, value: npt.ArrayLike) -> None:
        write_into(self.bias, value, "bias")

    @property
    def dweight(self) -> Array:
        """dE/dweight (I, U), a live view, filled by `backward`."""
        view: Array = self._grads()[:-1]
        return view

    @dweight.setter
    def dweight(self, value: npt.ArrayLike) -> None:
        write_into(self.dweight, value, "dweight")

    @property
    def dbias(self) -> Array:
        """dE/dbias (U,), a live view, filled by `backward`."""
        view: Array = self._grads()[-1]
        return view

    @dbias.setter
    def dbias(self, value: npt.ArrayLike) -> None:
        write_into(self.dbias, value, "dbias")

    def _alone(self) -> Plan:
        if self.in_network:
            raise RuntimeError(IN_NETWORK)
        return required(self._plan, NOT_BUILT)

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return O = f([X 1] W), shape (m, U), for x of shape (m, I); keep what `backward` needs."""
        out: Array = self._alone().forward(x)
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """From dO, shape (m, U), fill dweight and dbias; return dX, shape (m, I). The weights stay as they are."""
        return required(self._alone().backward(dout, True), IN_NETWORK)[0]

    def __repr__(self) -> str:
        """Show the call that makes this layer, without initialisation."""
        activation = "" if self.activation == "identity" else f", {self.activation!r}"
        inputs = "" if self.inputs is None else f", inputs={self.inputs}"
        return f"Dense({self.units}{activation}{inputs})"


class Activation:
    """O = f(X): a layer that is only an activation, without weights.

    Parameters
    ----------
    name : str
        "identity", "sigmoid", "relu", "tanh", "softmax" or "softplus".

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> import fastbp as fb
    >>> layer = fb.Activation("relu")
    >>> layer.forward([[-1.0, 2.0]]).tolist(), layer.backward([[5.0, 5.0]]).tolist()
    ([[0.0, 2.0]], [[0.0, 5.0]])
    """

    def __init__(self, name: str) -> None:
        self.name = activation_named(name)
        self.in_network = False
        self._kept: Made | None = None  # by `forward`
        self._inferring: Made | None = None

    def _plan_for(self, x: npt.NDArray[np.generic], last: Made | None) -> Made:
        """Return `last`, if it suits x, or a new plan."""
        if self.in_network:
            raise RuntimeError(IN_NETWORK)
        if x.ndim != 2 or x.shape[1] == 0:
            raise ValueError(f"x must have shape (batch, units), got {x.shape}")
        width, dtype = x.shape[1], "float32" if x.dtype == np.float32 else "float64"
        if last is not None and last[1:] == (width, dtype):
            return last
        nodes = [Node("input", (), width), Node("activation", (0,), activation=self.name)]
        return compile_graph(nodes, dtype=dtype), width, dtype

    def infer(self, x: npt.ArrayLike) -> Array:
        """Return O = f(X), keeping nothing."""
        values = reals("x", x)
        self._inferring = made = self._plan_for(values, self._inferring)
        out: Array = made[0].predict(values)
        return out

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return O = f(X), shape (m, U), and keep it for `backward`."""
        values = reals("x", x)
        made = self._plan_for(values, self._kept)
        out: Array = made[0].forward(values)
        self._kept = made
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Return dX from dO, both of shape (m, U)."""
        if self.in_network:
            raise RuntimeError(IN_NETWORK)
        plan, *_ = required(self._kept, NO_FORWARD)
        return required(plan.backward(dout, True), IN_NETWORK)[0]

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        return f"Activation({self.name!r})"


def chain(layers: Sequence[Input | Dense | Activation]) -> list[Node]:
    """Return the nodes of a network whose layers stand in a row; raise if they do not fit."""
    if not any(isinstance(layer, Dense) for layer in layers):
        raise ValueError(f"layers must hold at least one Dense, got {list(layers)!r}")
    first = layers[0]
    features = first.features if isinstance(first, Input) else getattr(first, "inputs", None)
    if features is None:
        raise ValueError(f"layers must begin with Input(features) or Dense(..., inputs=...), got {first!r}")
    nodes, width = [Node("input", (), features)], features
    following = layers[1:] if isinstance(first, Input) else layers
    for k, layer in enumerate(following):
        if not isinstance(layer, (Dense, Activation)):
            raise TypeError(f"layers must be Dense or Activation after the Input, got {layer!r}")
        if layer.in_network or any(layer is other for other in following[:k]):
            raise ValueError(f"a layer belongs to one network, once, got {layer!r} again")
        if isinstance(layer, Activation):
            nodes.append(Node("activation", (k,), activation=layer.name))
            continue
        if layer.inputs not in (None, width):
            raise ValueError(f"inputs must be {width}, what the layer below gives, got {layer!r}")
        nodes.append(Node("dense", (k,), layer.units, (1,), activation=layer.activation))
        width = layer.units
    return nodes
