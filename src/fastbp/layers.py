"""Layers that can also be used alone: Dense and Activation; and the input, with which a graph begins."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fastbp._fastbp_core import ACTIVATIONS, PARAMETERS, Plan
from fastbp.checks import NO_FORWARD, Array, activation_parameter, boolean, float_dtype, positive, reals, required
from fastbp.graph import activation_named, compile_graph
from fastbp.initializers import Init, initialize
from fastbp.layer_base import IN_NETWORK, Layer, View, nodes_of
from fastbp.rng import fresh_seed
from fastbp.values import Function, Value

Made = tuple[Plan, int, str]  # with the columns and the dtype it was made for


class Input(Value):
    """The input of a network: rows of `features` numbers; a value, so operators and layers make a graph of it.

    Parameters
    ----------
    features : int
        At least 1.

    Raises
    ------
    ValueError, TypeError
        If `features` is not as above.

    Examples
    --------
    >>> import fastbp as fb
    >>> x = fb.Input(784)
    >>> x
    Input(features=784)
    >>> fb.Dense(10)(x).width
    10
    """

    def __init__(self, features: int) -> None:
        super().__init__("input", (), positive("features", features))

    @property
    def features(self) -> int:
        """Columns of the input."""
        return self.width

    def __repr__(self) -> str:
        """Show the call that makes this input."""
        return f"Input(features={self.width})"


class Activation(Layer):
    """O = f(X): a layer that is only an activation, without weights.

    Parameters
    ----------
    name : str or pair of callables
        A name in the table of activations, as "relu"; or a pair (f, df) of functions of your own, both from an array of
        Z, shape (m, U), to one of that shape: O = f(Z) and the derivative f'(Z), element by element.
    parameter : float, optional
        Of activations that have one, as the slope of "leaky_relu"; by default its usual value.

    Raises
    ------
    ValueError
        If the name is unknown, or takes no parameter.
    TypeError
        If the parameter is not a number.

    Examples
    --------
    >>> import fastbp as fb
    >>> layer = fb.Activation("relu")
    >>> layer.forward([[-1.0, 2.0]]).tolist(), layer.backward([[5.0, 5.0]]).tolist()
    ([[0.0, 2.0]], [[0.0, 5.0]])
    >>> cube = fb.Activation((lambda z: z**3, lambda z: 3 * z**2))
    >>> cube.forward([[2.0]]).tolist(), cube.backward([[1.0]]).tolist()
    ([[8.0]], [[12.0]])
    """

    def __init__(self, name: str | Function, parameter: float | None = None) -> None:
        super().__init__()
        self.name, self.parameter, self.function = activation_of(name, parameter)
        self._kept: Made | None = None  # by `forward`
        self._inferring: Made | None = None

    def _gate(self, x: Value) -> Value:
        return Value("activation", [x], activation=self.name, parameter=self.parameter, function=self.function, layer=self)

    def _plan_for(self, x: npt.NDArray[np.generic], last: Made | None) -> Made:
        """Return `last`, if it suits x, or a new plan."""
        if self.in_network:
            raise RuntimeError(IN_NETWORK)
        if x.ndim != 2 or x.shape[1] == 0:
            raise ValueError(f"x must have shape (batch, units), got {x.shape}")
        width, dtype = x.shape[1], "float32" if x.dtype == np.float32 else "float64"
        if last is not None and last[1:] == (width, dtype):
            return last
        below = Value("input", (), width)
        return compile_graph(nodes_of([below, self._gate(below)]), dtype=dtype), width, dtype

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
        return required(plan.backward(dout, True), NO_FORWARD)[0]

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        parameter = "" if self.parameter is None else f", {self.parameter!r}"
        return f"Activation({self.function or self.name!r}{parameter})"


def activation_of(
    activation: str | Activation | Function | None, parameter: float | None = None
) -> tuple[str, float | None, Function | None]:
    """Return the name in the table, the parameter and the pair of functions that an argument `activation` means."""
    if isinstance(activation, Activation):
        return activation.name, activation.parameter, activation.function
    if isinstance(activation, tuple) and len(activation) == 2 and all(callable(f) for f in activation):
        if parameter is not None:
            raise ValueError(f"parameter must be None for functions of your own, got {parameter!r}")
        return "custom", None, activation
    name = activation_named(activation)  # type: ignore[arg-type]
    if parameter is not None:
        usual = PARAMETERS[ACTIVATIONS.index(name)]
        parameter = activation_parameter(name, None if math.isnan(usual) else usual, parameter)
    return name, parameter, None


class Dense(Layer):
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
    activation : str, None, Activation or pair of callables
        f: a name in the table of activations; None for the identity; an `Activation`, for one with a parameter; or a pair
        (f, df) of functions of your own, see `Activation`.
    bias : bool
        Whether there is a bias; without it W is (I, U).
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

    draws = True
    weight = View("params", "Weights (I, U), a live view.")
    bias = View("params", "Bias (U,), a live view: the weight of the column of ones.")
    dweight = View("grads", "dE/dweight (I, U), a live view, filled by `backward`.", "weight")
    dbias = View("grads", "dE/dbias (U,), a live view, filled by `backward`.", "bias")

    def __init__(
        self,
        units: int,
        activation: str | Activation | Function | None = "identity",
        *,
        bias: bool = True,
        inputs: int | None = None,
        weight_init: Init = "glorot_uniform",
        bias_init: Init = "zeros",
        seed: int | None = None,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        self.units = positive("units", units)
        self.activation, self.parameter, self.function = activation_of(activation)
        self.has_bias = boolean("bias", bias)
        super().__init__(inputs, seed)
        self.dtype = float_dtype(dtype)
        self._weight_init = weight_init
        self._bias_init = bias_init
        if self.inputs is not None:
            x = Value("input", (), self.inputs)
            plan = compile_graph(nodes_of([x, self._gate(x)]), dtype=self.dtype.name)
            seed = fresh_seed() if self.seed is None else self.seed
            self.join(plan, 1, self.inputs, seed, self.dtype, self.initial(self.inputs, seed, 0))

    def _gate(self, x: Value) -> Value:
        return Value(
            "dense",
            [x],
            self.units,
            settings=[float(self.has_bias)],
            activation=self.activation,
            parameter=self.parameter,
            function=self.function,
            layer=self,
        )

    def initial(self, inputs: int, seed: int, step: int) -> dict[str, Array]:
        """Draw the initial weight (I, U) and bias (U,), in float64."""
        weight = initialize(self._weight_init, (inputs, self.units), seed=seed, step=step, name="weight_init")
        bias = initialize(self._bias_init, (self.units,), seed=seed, step=step, inputs=inputs, name="bias_init")
        return {"weight": weight, "bias": bias} if self.has_bias else {"weight": weight}

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return O = f([X 1] W), shape (m, U), for x of shape (m, I); keep what `backward` needs."""
        out: Array = self._alone().forward(x)
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """From dO, shape (m, U), fill dweight and dbias; return dX, shape (m, I). The weights stay as they are."""
        return required(self._alone().backward(dout, True), NO_FORWARD)[0]

    def __repr__(self) -> str:
        """Show the call that makes this layer, without initialisation."""
        shown = [str(self.units)]
        if self.parameter is not None:
            shown.append(f"Activation({self.activation!r}, {self.parameter!r})")
        elif self.activation != "identity":
            shown.append(repr(self.function or self.activation))
        shown += [] if self.has_bias else ["bias=False"]
        shown += [] if self.inputs is None else [f"inputs={self.inputs}"]
        return f"Dense({', '.join(shown)})"
