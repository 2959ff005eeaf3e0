"""Layers that are neither products nor norms: dropout, embedding of categories, and layers with a way around them."""

from __future__ import annotations

from fastbp.checks import Array, fraction, positive
from fastbp.initializers import Init, initialize
from fastbp.reference.gate import Place
from fastbp.reference.layer import Layer, LiveView
from fastbp.reference.network import NOTHING
from fastbp.values import Value


class Dropout(Layer):
    """O = X * mask / (1 - rate): in training each number is silenced with probability `rate`, the others grow in return.

    So the mean of O is X. In prediction O = X. See `gates.Dropout` for the mask.

    Parameters
    ----------
    rate : float
        0 <= rate < 1.

    Raises
    ------
    ValueError, TypeError
        If the rate is not as above.

    References
    ----------
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever and R. Salakhutdinov, "Dropout: a simple way to prevent neural
    networks from overfitting", Journal of Machine Learning Research 15, 1929-1958, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp.reference as fb
    >>> net = fb.Sequential([fb.Input(100), fb.Dropout(0.5)], seed=0)
    >>> np.unique(net.forward(np.ones((100, 100)))).tolist()
    [0.0, 2.0]
    >>> np.unique(net.predict(np.ones((100, 100)))).tolist()
    [1.0]
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = fraction("rate", rate)

    def _gate(self, x: Value) -> Value:
        return Value("dropout", [x], settings=[self.rate], layer=self)

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        return f"Dropout({self.rate!r})"


class Embedding(Layer):
    """O = [W[x0] W[x1] ...]: for each column of whole numbers, the row of W that it names; all columns share W.

    It should stand on an `Input`, or on columns of one, ``fb.Embedding(7, 3)(x[:, :1])``: there is no gradient of X.

    Parameters
    ----------
    categories : int
        V: X holds whole numbers from 0 to V - 1.
    units : int
        D, the numbers for each category: O has I D columns for the I columns of X.
    weight_init : str, float, array-like or callable
        See `fastbp.initializers.initialize`; shape (V, D).
    seed : int, optional
        Of the initial weights, 0 <= seed < 2**64; by default that of the network.

    Attributes
    ----------
    weight, dweight : ndarray, shape (V, D)
        Live views.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above; later, if X holds anything else than numbers of categories.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> net = fb.Sequential([fb.Input(2), fb.Embedding(3, 1, weight_init=[[10], [20], [30]])])
    >>> net.predict([[0, 2], [1, 1]]).tolist()
    [[10.0, 30.0], [20.0, 20.0]]
    """

    weight = LiveView()
    dweight = LiveView()

    def __init__(
        self,
        categories: int,
        units: int,
        *,
        weight_init: Init = "glorot_uniform",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed=seed)
        self.categories = positive("categories", categories)
        self.units = positive("units", units)
        self._weight_init = weight_init

    def _gate(self, x: Value) -> Value:
        return Value("embedding", [x], x.width * self.units, settings=[self.categories], layer=self)

    def initial(self, inputs: int, seed: int, step: int) -> tuple[Array, Array]:
        """Draw the initial W (V, D), in float64."""
        self.seed = seed
        shape = self.categories, self.units
        return initialize(self._weight_init, shape, seed=seed, step=step, name="weight_init"), NOTHING[1]

    def join(self, place: Place) -> None:
        """Live in this W (V, D) and dW."""
        super().join(place)
        self._weight, self._dweight = place.W, place.dW

    def __repr__(self) -> str:
        """Show the call that makes this layer, without initialisation."""
        return f"Embedding({self.categories}, {self.units})"


class Residual(Layer):
    """O = X + chain(X): layers in a row, and a way around them, on which the gradient comes back unchanged.

    Parameters
    ----------
    *layers : Layer
        At least one; together they give back as many columns as they get.

    Attributes
    ----------
    layers : tuple of Layer
    trainable : bool
        Whether all of them are trainable; setting it sets it for each.

    Raises
    ------
    ValueError, TypeError
        If there are no layers, if one is not a layer, or if widths do not fit.

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image recognition", CVPR 2016.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> x = fb.Input(8)
    >>> fb.Residual(fb.LayerNorm(), fb.Dense(32, "relu"), fb.Dense(8))(x).width
    8
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers must be layers, as Dense(8), got {layer!r}")
        if not layers:
            raise ValueError("layers must hold at least one layer, got none")
        self.layers = layers

    @property
    def trainable(self) -> bool:
        """Whether training changes the parameters of all layers."""
        return all(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value

    def _gate(self, x: Value) -> Value:
        above = x
        for layer in self.layers:
            above = layer(above)
        if above.width != x.width:
            raise ValueError(f"layers must give back the {x.width} columns they get, got {above.width} from {self!r}")
        return Value("add", [x, above], x.width, layer=self)

    def __repr__(self) -> str:
        """Show the call that makes this layer."""
        return f"Residual({', '.join(map(repr, self.layers))})"
