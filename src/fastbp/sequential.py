"""Layers in a row: the common case of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from fastbp.checks import boolean, layer_tuple
from fastbp.data import Arrays
from fastbp.heads import LossLike
from fastbp.layer_base import Layer
from fastbp.layers import Input
from fastbp.model import Model
from fastbp.optimizers import Optimizer
from fastbp.values import Value


class Sequential(Model):
    """O = f_L(... f_2(f_1(X W_1) W_2) ... W_L): a `Model` whose layers stand in a row, one input, one output.

    Parameters
    ----------
    layers : sequence of Input and layers
        Input comes first; a first Dense with ``inputs=`` can stand without it. At least one layer. A layer belongs to one
        network only, which draws its weights.
    loss, optimizer, dtype, seed
        See `Model`.

    Attributes
    ----------
    layers : tuple
        As given.
    params, grads, state : ndarray
        Live views, see `Model`.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        See `Model`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Input(1), fb.Dense(8, "tanh"), fb.Dense(1)],
    ...                     loss="squared_error", optimizer=fb.SGD(0.1, momentum=0.9), seed=0)
    >>> X = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> history = net.fit(X, X**2, epochs=100)
    >>> history.loss[-1] < 0.01 * history.loss[0]
    True
    """

    def __init__(
        self,
        layers: Sequence[Input | Layer],
        loss: LossLike | None = None,
        optimizer: Optimizer | None = None,
        *,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.layers = layer_tuple(layers)
        self._build(*_chain(self.layers), loss, optimizer, dtype, seed)

    def backward(self, dout: Arrays | None = None, inputs: bool = False) -> Any:
        """Fill `grads` by the chain rule, from the last layer to the first.

        Parameters
        ----------
        dout : array-like, shape (m, U), optional
            dE/dO for the output of the last `forward`; by default ones.
        inputs : bool
            Whether to return dE/dX, shape (m, I), too: training does not need it, and it costs a product.
        """
        found = self._backward(dout, boolean("inputs", inputs))
        return None if found is None else found[0]

    def __repr__(self) -> str:
        """Show the call that makes this network."""
        return f"Sequential({list(self.layers)!r}, {self._shown()})"


def _chain(layers: Sequence[Input | Layer]) -> tuple[Input, Value]:
    """Return the input and the output of layers in a row; raise if they do not fit."""
    first = layers[0] if layers else None
    features = first.features if isinstance(first, Input) else first.inputs if isinstance(first, Layer) else None
    following = layers[1:] if isinstance(first, Input) else layers
    if not following:
        raise ValueError(f"layers must hold at least one layer, got {list(layers)!r}")
    if features is None:
        raise ValueError(f"layers must begin with Input(features) or Dense(..., inputs=...), got {first!r}")
    below = first if isinstance(first, Input) else Input(features)
    value: Value = below
    for layer in following:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers must be layers after the Input, as Dense(8), got {layer!r}")
        value = layer(value)
    return below, value
