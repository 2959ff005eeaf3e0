"""The layers most networks are made of: dense ones and activations; both can be used alone, too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, boolean, float_dtype, float_like, positive, required, rows
from fastbp.initializers import Init, initialize
from fastbp.reference.activations import activation_named
from fastbp.reference.gate import Place
from fastbp.reference.layer import NOT_BUILT, Alone, LiveView
from fastbp.reference.network import NOTHING, Network, Pass
from fastbp.rng import fresh_seed
from fastbp.values import Function, Value


class Activation(Alone):
    """O = f(X): a layer that is only an activation, without weights.

    Parameters
    ----------
    name : str or pair of callables
        A name in the table `activations.ACTIVATIONS`, or a pair (f, df) of your own functions, both from an array of Z,
        shape (m, U), to one of that shape: O = f(Z) and the derivative f'(Z), element by element.
    parameter : float, optional
        Of activations that have one; by default its usual value.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> layer = fb.Activation("relu")
    >>> layer.forward([[-1.0, 2.0]]).tolist(), layer.backward([[5.0, 5.0]]).tolist()
    ([[0.0, 2.0]], [[0.0, 5.0]])
    >>> cube = fb.Activation((lambda z: z**3, lambda z: 3 * z**2))
    >>> cube.forward([[2.0]]).tolist(), cube.backward([[1.0]]).tolist()
    ([[8.0]], [[12.0]])
    """

    def __init__(self, name: str | Function | None, parameter: float | None = None) -> None:
        super().__init__()
        self.name, self.parameter, self.function = activation_of(name, parameter)

    def _gate(self, x: Value) -> Value:
        return Value("activation", [x], activation=self.name, parameter=self.parameter, function=self.function, layer=self)

    def _run(self, x: npt.ArrayLike) -> Pass:
        X = rows("x", x)
        below = Value("input", (), X.shape[1])
        above = Value("activation", [below], activation=self.name, parameter=self.parameter, function=self.function)
        return Network([below], [above], float_like(X), 0).forward([X], training=True)

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
        return activation_named("custom", parameter, activation).name, None, activation
    row = activation_named(activation, parameter)  # type: ignore[arg-type]
    return row.name, None if parameter is None else row.parameter, None


class Dense(Alone):
    """O = f(X W + b): every unit sees every input.

    The bias is the weight of one more input that is always 1. With a column of ones appended to X, and the bias appended to
    the weights as their last row, one product does both, forward and backward:

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
    activation : str, None, Activation or pair of callables
        f: a name in the table `activations.ACTIVATIONS`; None for the identity; an `Activation`, for one with a parameter;
        or a pair (f, df) of your own functions, see `Activation`.
    bias : bool
        Whether there is a bias; without it A = X, and W is (I, U).
    inputs : int, optional
        I. With it the layer can be used alone; in a network it follows from the layer below.
    weight_init, bias_init : str, float, array-like or callable
        See `fastbp.initializers.initialize`; shapes (I, U) and (U,).
    seed : int, optional
        Of the initial weights, 0 <= seed < 2**64. By default that of the network, or for a layer alone a fresh one.
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
        self._network: Network | None = None  # of this layer alone
        if self.inputs is not None:
            x = Value("input", (), self.inputs)
            self._network = Network([x], [self._gate(x)], self.dtype, fresh_seed() if self.seed is None else self.seed)
            self._fixed = True

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

    def initial(self, inputs: int, seed: int, step: int) -> tuple[Array, Array]:
        """Draw the initial W (I+1, U), or (I, U), in float64."""
        self.seed = seed
        weight = initialize(self._weight_init, (inputs, self.units), seed=seed, step=step, name="weight_init")
        bias = initialize(self._bias_init, (self.units,), seed=seed, step=step, inputs=inputs, name="bias_init")
        return (np.vstack([weight, bias]) if self.has_bias else weight), NOTHING[1]

    def join(self, place: Place) -> None:
        """Live in this W (I+1, U) and dW, or (I, U)."""
        super().join(place)
        self.dtype = place.W.dtype
        self._weight, self._dweight = place.W[: self.inputs], place.dW[: self.inputs]
        self._bias = place.W[-1] if self.has_bias else None
        self._dbias = place.dW[-1] if self.has_bias else None

    def _run(self, x: npt.ArrayLike) -> Pass:
        return required(self._network, NOT_BUILT).forward([rows("x", x, self.inputs)], training=True)

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
