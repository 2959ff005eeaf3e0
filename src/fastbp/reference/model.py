# ruff: noqa: E741 - O is the field's letter for an output
"""A network: from its inputs to its outputs and back. How it is trained is in `training`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.categories import categories_of
from fastbp.checks import NO_FORWARD, Array, boolean, count, float_dtype, required
from fastbp.reference.data import Arrays, Data, listed_or_single
from fastbp.reference.heads import NO_PROBABILITIES, LossLike, heads_of
from fastbp.reference.layer import Input, Layer, LiveView
from fastbp.reference.network import Network, Pass, graph
from fastbp.reference.optimizers import Optimizer
from fastbp.reference.training import Training
from fastbp.reference.updates import Updates, checked_optimizer
from fastbp.rng import checked_seed, fresh_seed
from fastbp.values import Value

PREDICT_ROWS = 4096  # rows predicted at a time: the memory needed does not grow with the data
Nodes = Value | Layer
TWICE = "loss 'cross_entropy' takes logits, and the last layer is a softmax: it is applied twice; leave it out"


class Model(Training):
    """A graph of gates, from its inputs to its outputs.

    Forward visits the gates in topological order, backward in reverse; where a value is used more than once, its gradients
    add up. All parameters lie in one flat vector `params`, gate by gate, and all gradients in the vector `grads`.

    Parameters
    ----------
    inputs : Input or sequence of Input
        Every input that the outputs depend on, and no other.
    outputs : Value or sequence of Value
        What the network computes. With a sequence (heads), outputs, targets and losses are lists.
    loss : str, callable, or sequence of them, optional
        Needed to train and to evaluate; see `losses`. One for all outputs, or one for each. A function of your own takes
        (out, target) of a batch and returns (loss, dout).
    optimizer : SGD, Adam, AdamW, RMSprop or Adagrad, optional
        Needed to train.
    dtype : "float32" or "float64"
        Everything is computed in it; inputs are converted.
    seed : int, optional
        0 <= seed < 2**64; by default drawn from the operating system's entropy. Initial weights of layer number d (counted
        from 0, among those with random weights: Dense, Embedding) are those of (seed, step d), or, if the layer has a seed
        of its own, of (layer seed, step 0).
    loss_weights : sequence of float, optional
        What the losses of several outputs count in their sum; by default 1 each.

    Attributes
    ----------
    params, grads : ndarray, shape (number of parameters,)
        Live: writing to them changes the layers.
    state : ndarray
        Live: what is stored but not trained by gradients, running statistics, means and deviations.
    layers : tuple of Layer
        In topological order.

    Raises
    ------
    ValueError, TypeError
        If an argument, here or of a method, is not as described; training on no rows is one such. The message says what was
        expected and what came, and the weights are as before.
    RuntimeError
        `backward` without `forward`, or training without loss or optimizer.

    Examples
    --------
    >>> import fastbp.reference as fb
    >>> x, y, z = fb.Input(1), fb.Input(1), fb.Input(1)
    >>> m = fb.Model([x, y, z], (x + y) * z)
    >>> m.forward(-2, 5, -4).tolist()
    [[-12.0]]
    >>> [gradient.item() for gradient in m.backward()]
    [-4.0, -4.0, 3.0]
    """

    params = LiveView()
    grads = LiveView()
    state = LiveView()

    def __init__(
        self,
        inputs: Input | Sequence[Input],
        outputs: Value | Sequence[Value],
        loss: LossLike | Sequence[LossLike] | None = None,
        optimizer: Optimizer | None = None,
        *,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        if optimizer is not None:
            checked_optimizer(optimizer)
        listed = isinstance(outputs, (list, tuple))
        self.inputs: tuple[Value, ...] = listed_or_single(inputs)
        self.outputs: tuple[Value, ...] = listed_or_single(outputs)
        values = graph(self.inputs, self.outputs)
        for value in values:
            if not isinstance(value.layer, Layer | None):
                found = f"{value.layer!r} of {type(value.layer).__module__}"
                raise TypeError(f"outputs must be made of layers of fastbp.reference, got {found}")
        heads = heads_of(loss, loss_weights, len(self.outputs), listed)
        for head, value in zip(heads, self.outputs, strict=False):
            if head.name == "cross_entropy" and value.activation == "softmax":
                warnings.warn(TWICE, stacklevel=3 if type(self) is not Model else 2)
        self.loss = loss
        self.dtype = float_dtype(dtype)
        self.seed = fresh_seed() if seed is None else checked_seed(seed)
        categories = categories_of(values, self.inputs, self.dtype)
        self._data = Data(self.inputs, self.outputs, heads, listed, self.dtype, categories)
        self._network = Network(self.inputs, self.outputs, self.dtype, self.seed)
        self._params, self._grads, self._state = self._network.params, self._network.grads, self._network.state
        self.layers: tuple[Any, ...] = tuple(value.layer for value in values if value.layer is not None)
        for layer in self.layers:
            layer._in_network = layer._fixed = True
        self._updates = Updates(self._network, optimizer) if optimizer else None
        self._epoch = 0
        self._pass = None
        self._fixed = True

    @property
    def draws(self) -> int:
        """Forward passes in training so far, on which the masks of dropout depend; may be set."""
        return self._network.draws

    @draws.setter
    def draws(self, value: int) -> None:
        self._network.draws = count("draws", value)

    def forward(self, *x: npt.ArrayLike, training: bool = True) -> Any:
        """Return the output O, shape (m, U), or the list of outputs; keep what the way back needs.

        Parameters
        ----------
        *x : array-like, shape (m, I)
            Rows for each input, in order. For an input of one column, (m,) or a single number will do. They are not copied:
            what is written to them before `backward`, the way back may see.
        training : bool
            Whether dropout is on, and batch norm uses and learns the statistics of the batch.
        """
        self._pass = self._network.forward(self._data.arguments("x", x), boolean("training", training))
        if training:
            self._network.finish(self._pass)
        return self._data.out([O.copy() for O in self._pass.outputs])

    def backward(self, dout: Arrays | None = None) -> Any:
        """Fill `grads` by the chain rule, from the outputs to the inputs; return the gradient of every input.

        Parameters
        ----------
        dout : array-like, shape (m, U), or list of them, optional
            dE/dO for each output of the last `forward`; by default ones.

        Returns
        -------
        tuple of ndarray
            dE/dX, shape (m, I), of the inputs, in order.
        """
        return tuple(self._back(Pass.backward, dout, True))

    def backward_recursive(self, dout: Arrays | None = None) -> Any:
        """Do the same as `backward`, by recursion."""
        return tuple(self._back(Pass.backward_recursive, dout, True))

    def _back(
        self, way: Callable[[Pass, Sequence[Array], bool], list[Array]], dout: Arrays | None, inputs: bool
    ) -> list[Array]:
        done = required(self._pass, NO_FORWARD)
        douts = self._data.dout(dout, done.outputs)
        if self._updates:
            self._updates.gathered = 0
        return way(done, douts, inputs)

    def predict(self, X: Arrays, out: Array | None = None, nodes: Nodes | Sequence[Nodes] | None = None) -> Any:
        """Return the outputs, shape (n, U), of any number of rows; with cross-entropy they are logits.

        Parameters
        ----------
        X : array-like, shape (n, I)
            A list of arrays for several inputs.
        out : ndarray, optional
            Memory for a single output, of its shape and the network's dtype.
        nodes : Value, Layer, or sequence of them, optional
            Of this network: what they give is returned instead of the outputs.
        """
        if nodes is not None and out is not None:
            raise ValueError(f"out must be None where nodes are asked for, got {type(out).__name__}")
        x = self._data.x("X", X)
        listed = self._data.listed if nodes is None else isinstance(nodes, (list, tuple))
        positions = [self._position(node) for node in (self.outputs if nodes is None else listed_or_single(nodes))]
        shapes = [(len(x[0]), self._network.places[i].value.width) for i in positions]
        results = [np.empty(s, self.dtype) for s in shapes] if out is None else [self._data.memory(out, shapes, listed)]
        for start in range(0, len(x[0]), PREDICT_ROWS):
            part = slice(start, start + PREDICT_ROWS)
            for result, O in zip(results, self._network.values([each[part] for each in x], positions), strict=True):
                result[part] = O
        return results if listed else results[0]

    def _position(self, node: Nodes) -> int:
        for i, place in enumerate(self._network.places):
            if node is place.value or (isinstance(node, Layer) and node is place.value.layer):
                return i
        if not isinstance(node, (Value, Layer)):
            raise TypeError(f"nodes must be values or layers of the network, got {node!r}")
        raise ValueError(f"nodes must be values or layers of this network, got {node!r}")

    def predict_proba(self, X: Arrays) -> Any:
        """Return the probabilities, shape (n, U), that outputs trained by cross-entropy are logits of.

        softmax(predict(X)) for "cross_entropy", where each row adds up to 1; sigmoid(predict(X)) for "binary_cross_entropy".
        """
        heads = self._data.heads
        if not heads:
            raise RuntimeError(f"{NO_PROBABILITIES}, got no loss")
        out = self.predict(X)
        outputs = out if self._data.listed else [out]
        return self._data.out([head.probabilities(Z) for head, Z in zip(heads, outputs, strict=True)])

    def __repr__(self) -> str:
        """Show the call that makes this network."""
        return f"Model({list(self.inputs)!r}, {list(self.outputs)!r}, {self._shown()})"

    def _shown(self) -> str:
        return f"loss={self.loss!r}, optimizer={self.optimizer!r}, dtype='{self.dtype}', seed={self.seed}"
