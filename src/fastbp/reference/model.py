# ruff: noqa: E741 - O is the field's letter for an output
"""A network, and the training loop.

One step of training, in four lines:

    O = net.forward(x)           # gate by gate: the output of one is the input of the next
    E, dO = loss(O, y)
    net.backward(dO)             # gate by gate, from the last to the first: the chain rule
    net.update()                 # only now, when every gradient is known, do the weights change

The order of the last two matters: dX = delta W^T needs the weights that the forward pass used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import NO_FORWARD, Array, callback_or_none, float_dtype, positive, required
from fastbp.history import History
from fastbp.reference.activations import ACTIVATIONS
from fastbp.reference.data import AnyArray, Arrays, Data, Weights, categories_of, listed_or_single
from fastbp.reference.heads import LossLike, heads_of
from fastbp.reference.layer import Input, Layer, LiveView
from fastbp.reference.losses import Target
from fastbp.reference.network import Network, Pass, graph
from fastbp.reference.optimizers import Optimizer
from fastbp.reference.updates import Updates
from fastbp.rng import STREAM_SHUFFLE, checked_seed, fresh_seed, permutation
from fastbp.values import Value

PREDICT_ROWS = 4096  # rows predicted at a time: the memory needed does not grow with the data
Nodes = Value | Layer


class Model:
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
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one, as SGD(...), got {optimizer!r}")
        listed = isinstance(outputs, (list, tuple))
        self.inputs: tuple[Value, ...] = listed_or_single(inputs)
        self.outputs: tuple[Value, ...] = listed_or_single(outputs)
        values = graph(self.inputs, self.outputs)
        heads = heads_of(loss, loss_weights, len(self.outputs), listed)
        self.loss, self.optimizer = loss, optimizer
        self.dtype = float_dtype(dtype)
        self.seed = fresh_seed() if seed is None else checked_seed(seed)
        categories = categories_of(values, self.inputs, self.dtype)
        self._data = Data(self.inputs, self.outputs, heads, listed, self.dtype, categories)
        biases = optimizer is not None and optimizer.decay_biases
        self._network = Network(self.inputs, self.outputs, self.dtype, self.seed, biases)
        self._params, self._grads, self._state = self._network.params, self._network.grads, self._network.state
        self.layers: tuple[Any, ...] = tuple(value.layer for value in values if value.layer is not None)
        for layer in self.layers:
            layer.in_network = True
        self._updates = Updates(self._network, optimizer) if optimizer else None
        self._epoch = 0  # epochs trained so far: each has a random order of its own
        self._pass: Pass | None = None  # the last forward pass

    @property
    def draws(self) -> int:
        """Forward passes in training so far, on which the masks of dropout depend; may be set."""
        return self._network.draws

    @draws.setter
    def draws(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"draws must be an integer, got {type(value).__name__}")
        if not 0 <= value < 1 << 32:
            raise ValueError(f"draws must be in 0 .. 2**32 - 1, got {value}")
        self._network.draws = int(value)

    def forward(self, *x: npt.ArrayLike, training: bool = True) -> Any:
        """Return the output O, shape (m, U), or the list of outputs; keep what the way back needs.

        Parameters
        ----------
        *x : array-like, shape (m, I)
            Rows for each input, in order. For an input of one column, (m,) or a single number will do.
        training : bool
            Whether dropout is on, and batch norm uses and learns the statistics of the batch.
        """
        self._pass = self._network.forward(self._data.arguments("x", x), training)
        return self._data.out(self._pass.outputs)

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
            self._updates.gathered.clear()
        return way(done, douts, inputs)

    def update(self) -> None:
        """Let the optimizer change all weights by `grads`: with SGD, W = W - learning_rate * dW.

        Clipping, l2 and weight decay are the same as in training; `accumulate` is not: `grads` are taken as they are.
        """
        self._needed_updates().now()

    def train_step(self, x: Arrays, y: Arrays, sample_weight: npt.ArrayLike | None = None) -> float:
        """Do forward, backward and update on one batch; return its loss before the update.

        x and y are lists for several inputs and outputs; `sample_weight`, shape (m,), is as for `fit`.
        """
        self._trainable()
        X = self._data.x("x", x)
        m = len(X[0])
        return self._step(X, self._data.y("y", y, m), self._data.weights(y, sample_weight, m))

    def _step(self, x: list[AnyArray], targets: list[Target], weights: list[Weights]) -> float:
        self._pass = None  # what `forward` kept
        done = self._network.forward(x, training=True)
        E, douts = 0.0, []
        for head, O, T, w in zip(self._data.heads, done.outputs, targets, weights, strict=True):
            E_k, dO = head.value(O, T, w)
            E += E_k
            douts.append(dO)
        done.backward(douts, inputs=False)
        self._needed_updates().after_step()
        return E

    def fit(
        self,
        X: Arrays,
        y: Arrays,
        epochs: int = 1,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        sample_weight: npt.ArrayLike | None = None,
        validation_data: Sequence[Any] | None = None,
        callback: Callable[[int, History], bool | None] | None = None,
    ) -> History:
        """Train for some epochs, each of which takes every row once; return how it went.

        Parameters
        ----------
        X : array-like, shape (n, I)
            A list of arrays for several inputs.
        y : array-like
            Targets or labels, n of them, as the loss wants them. A list for several outputs.
        epochs, batch_size : int
            At least 1. The last batch of an epoch has the rows that are left.
        shuffle : bool
            Whether epoch e takes the rows in the order ``permutation(seed, STREAM_SHUFFLE, e, n)``. Epochs are counted over
            the life of the network: a second `fit` goes on where the first one ended.
        sample_weight : array-like, shape (n,), optional
            What each row counts in the mean over its batch, sum w e / sum w; at least 0.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch.
        callback : callable, optional
            callback(epoch, history) after each epoch, counted as above, from 0; returning True ends the call.
        """
        self._trainable()
        x = self._data.x("X", X)
        n = len(x[0])
        targets, weights = self._data.y("y", y, n), self._data.weights(y, sample_weight, n)
        positive("epochs", epochs)
        positive("batch_size", batch_size)
        callback_or_none(callback)
        validation = None if validation_data is None else self._data.validation(validation_data)
        history = History()
        for _ in range(epochs):
            began = time.perf_counter()
            order = permutation(self.seed, STREAM_SHUFFLE, self._epoch, n) if shuffle else np.arange(n)
            total = 0.0
            for start in range(0, n, batch_size):
                batch = order[start : start + batch_size]
                parts = [w if w is None else w[batch] for w in weights]
                total += len(batch) * self._step([each[batch] for each in x], [T[batch] for T in targets], parts)
            history.loss.append(total / n)
            history.seconds.append(time.perf_counter() - began)
            if validation is not None:
                scores = self._scores(*validation)
                history.val_loss.append(scores["loss"])
                if "accuracy" in scores:
                    history.val_accuracy.append(scores["accuracy"])
            self._epoch += 1
            if callback is not None and callback(self._epoch - 1, history):
                break
        return history

    def predict(self, X: Arrays, *, nodes: Nodes | Sequence[Nodes] | None = None, out: Array | None = None) -> Any:
        """Return the outputs, shape (n, U), of any number of rows; with cross-entropy they are logits.

        Parameters
        ----------
        X : array-like, shape (n, I)
            A list of arrays for several inputs.
        nodes : Value, Layer, or sequence of them, optional
            Of this network: what they give is returned instead of the outputs.
        out : ndarray, optional
            Memory for a single result, of its shape and the network's dtype.
        """
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
        raise ValueError(f"nodes must be values or layers of this network, got {node!r}")

    def predict_proba(self, X: Arrays) -> Array:
        """Return softmax(predict(X)), shape (n, classes), for cross-entropy: each row adds up to 1."""
        if [head.name for head in self._data.heads] != ["cross_entropy"]:
            raise RuntimeError(f"predict_proba needs loss='cross_entropy', got {self.loss!r}")
        Z: Array = self.predict(X)
        ACTIVATIONS["softmax"].forward(Z, Z)
        return Z

    def evaluate(self, X: Arrays, y: Arrays, sample_weight: npt.ArrayLike | None = None) -> dict[str, float]:
        """Return {"loss": E}, and with cross-entropy "accuracy": how often the largest logit is the label's.

        With soft labels, the label is the class of the largest weight. With several outputs, "loss" is the sum of all
        losses times their weights, and "loss_0", "accuracy_0", "loss_1" ... are those of the single outputs.
        """
        self._needed_loss()
        x = self._data.x("X", X)
        m = len(x[0])
        return self._scores(x, self._data.y("y", y, m), self._data.weights(y, sample_weight, m))

    def _scores(self, x: list[AnyArray], targets: list[Target], weights: list[Weights]) -> dict[str, float]:
        out = self.predict(x if len(x) > 1 else x[0])
        outputs = out if self._data.listed else [out]
        heads = self._data.heads
        each = [head.scores(*parts) for head, *parts in zip(heads, outputs, targets, weights, strict=True)]
        if len(heads) == 1:
            return each[0]
        total = {"loss": sum(head.weight * scores["loss"] for head, scores in zip(heads, each, strict=True))}
        return total | {f"{name}_{i}": score for i, scores in enumerate(each) for name, score in scores.items()}

    def _needed_loss(self) -> None:
        required(self._data.heads or None, f"the network has no loss: pass loss= to {type(self).__name__}")

    def _needed_updates(self) -> Updates:
        return required(self._updates, f"the network has no optimizer: pass optimizer= to {type(self).__name__}")

    def _trainable(self) -> None:
        self._needed_loss()
        self._needed_updates()

    def __repr__(self) -> str:
        """Show the call that makes this network."""
        return f"Model({list(self.inputs)!r}, {list(self.outputs)!r}, {self._shown()})"

    def _shown(self) -> str:
        return f"loss={self.loss!r}, optimizer={self.optimizer!r}, dtype='{self.dtype}', seed={self.seed}"
