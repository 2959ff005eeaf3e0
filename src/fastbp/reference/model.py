# ruff: noqa: E741 - O is the field's letter for an output
"""A network of layers in a row, and the training loop.

One step of training, in four lines:

    O = net.forward(x)           # layer by layer: the output of one is the input of the next
    E, dO = loss(O, y)
    net.backward(dO)             # layer by layer, from the last to the first: the chain rule
    net.update()                 # only now, when every gradient is known, do the weights change

The order of the last two matters: dX = delta W^T needs the weights that the forward pass used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, callback_or_none, float_dtype, layer_tuple, pair, positive, reals, required, rows
from fastbp.history import History
from fastbp.reference.activations import ACTIVATIONS, Activation
from fastbp.reference.criteria import Loss, Target, loss_named
from fastbp.reference.layers import Dense, Input, LiveView, shapes_of
from fastbp.reference.optimizers import Optimizer
from fastbp.rng import STREAM_SHUFFLE, checked_seed, fresh_seed, permutation

PREDICT_ROWS = 4096  # rows predicted at a time: the memory needed does not grow with the data


class Sequential:
    """O = f_L(... f_2(f_1(X W_1) W_2) ... W_L): layers in a row, each with its column of ones.

    All weights lie in one flat vector `params`, layer by layer, and all gradients in the vector `grads`.

    Parameters
    ----------
    layers : sequence of Input, Dense and Activation
        Input comes first; a first Dense with ``inputs=`` can stand without it. At least one Dense. A layer
        belongs to one network only, which draws its weights.
    loss : "squared_error" or "cross_entropy", optional
        Needed to train and to evaluate. See `losses`.
    optimizer : SGD, Adam, AdamW, RMSprop or Adagrad, optional
        Needed to train.
    dtype : "float32" or "float64"
        Everything is computed in it; inputs are converted.
    seed : int, optional
        0 <= seed < 2**64; by default drawn from the operating system's entropy. Initial weights of dense
        layer number d (counted from 0) are those of (seed, step d), or, if the layer has a seed of its own,
        of (layer seed, step 0).

    Attributes
    ----------
    params, grads : ndarray, shape (number of parameters,)
        Live: writing to them changes the layers.

    Raises
    ------
    ValueError, TypeError
        If an argument, here or of a method, is not as described; training on no rows is one such. The message
        says what was expected and what came, and the weights are as before.
    RuntimeError
        `backward` without `forward`, or training without loss or optimizer.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp.reference as fb
    >>> net = fb.Sequential([fb.Input(1), fb.Dense(8, "tanh"), fb.Dense(1)],
    ...                     loss="squared_error", optimizer=fb.SGD(0.1, momentum=0.9), seed=0)
    >>> X = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> history = net.fit(X, X**2, epochs=100)
    >>> history.loss[-1] < 0.01 * history.loss[0]
    True
    """

    params = LiveView()
    grads = LiveView()

    def __init__(
        self,
        layers: Sequence[Input | Dense | Activation],
        loss: str | None = None,
        optimizer: Optimizer | None = None,
        *,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one, as SGD(...), got {optimizer!r}")
        self.layers: Final = layer_tuple(layers)
        self.loss: Final = None if loss is None else loss_named(loss).row
        self.optimizer: Final = optimizer
        self.dtype: Final = float_dtype(dtype)
        self.seed: Final = fresh_seed() if seed is None else checked_seed(seed)
        self._epoch = 0  # epochs trained so far: each has a random order of its own
        self._chain = [layer for layer in self.layers if not isinstance(layer, Input)]
        self._inputs, self._units, shapes = shapes_of(self.layers)
        self._build(shapes, biases=1 if optimizer and optimizer.decay_biases else 0)
        self._state = optimizer.new_state(self.params) if optimizer else []
        self._updates = 0  # done so far
        self._gathered: list[Array] = []  # gradients that wait for an update

    def _build(self, shapes: list[tuple[int, int]], biases: int) -> None:
        """Lay out all W (I+1, U) in one vector and all dW in another, and give each dense layer its part.

        A third one says where l2, l1 and weight_decay act: it is 1 for weights and `biases` for biases.
        """
        dense = [layer for layer in self._chain if isinstance(layer, Dense)]
        size = sum(height * width for height, width in shapes)
        self._params = np.zeros(size, self.dtype)
        self._grads = np.zeros(size, self.dtype)
        self._decays = np.ones(size, self.dtype)
        start = 0
        for d, (layer, shape) in enumerate(zip(dense, shapes, strict=True)):
            part = slice(start, start + shape[0] * shape[1])
            self._decays[part.stop - shape[1] : part.stop] = biases
            seed, step = (self.seed, d) if layer.own_seed is None else (layer.own_seed, 0)
            layer.build(self._params[part].reshape(shape), self._grads[part].reshape(shape), seed, step)
            start = part.stop
        for member in self._chain:
            member.in_network, member.dtype = True, self.dtype
        self._first_dense = dense[0]  # below it there is nothing to learn
        self._above_first = self._chain[self._chain.index(dense[0]) + 1 :]

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return the output O, shape (m, U), for rows x, shape (m, I); keep what the way back needs."""
        O: Array = rows("x", x, self._inputs)
        for layer in self._chain:
            O = layer.forward(O)
        return O

    def backward(self, dout: npt.ArrayLike, inputs: bool = False) -> Array | None:
        """Fill `grads` by the chain rule, from the last layer to the first.

        Parameters
        ----------
        dout : array-like, shape (m, U)
            dE/dO for the output of the last `forward`.
        inputs : bool
            Whether to return dE/dX, shape (m, I), too: training does not need it, and it costs a product.
        """
        self._gathered.clear()
        return self._backward(dout, inputs)

    def _backward(self, dout: npt.ArrayLike, inputs: bool = False) -> Array | None:
        dO: Array = reals("dout", dout)
        for layer in reversed(self._chain if inputs else self._above_first):
            dO = layer.backward(dO)  # dX of this layer is dO of the one below
        if inputs:
            return dO
        self._first_dense.weight_gradient(dO)
        return None

    def backward_recursive(self, dout: npt.ArrayLike, inputs: bool = False) -> Array | None:
        """Do the same as `backward`, as a textbook defines it: each derivative by the one above.

        dE/dX_k = backward_k(dE/dX_(k+1)), where X_k is the input of layer k and so the output of layer k - 1;
        above the last layer it is `dout`. The loop of `backward` is this recursion unrolled: the same
        operations in the same order, so the same bits.
        """
        layers = self._chain if inputs else self._above_first

        def derivative_of_input(k: int) -> Array:
            if k == len(layers):
                return np.asarray(dout)
            return layers[k].backward(derivative_of_input(k + 1))

        dX = derivative_of_input(0)
        if inputs:
            return dX
        self._first_dense.weight_gradient(dX)
        return None

    def update(self) -> None:
        """Let the optimizer change all weights by `grads`: with SGD, W = W - learning_rate * dW.

        Clipping, penalties, weight decay and max_norm are the same as in training; `accumulate` is not: `grads` are taken as
        they are.
        """
        self._needed_optimizer()
        self._gathered.clear()
        self._update(self._grads)

    def _update(self, grads: Array) -> None:
        self._updates += 1
        optimizer = self._needed_optimizer()
        optimizer.update(self._params, grads, self._state, self._updates, self._decays)
        for layer in self._chain:
            if isinstance(layer, Dense):
                optimizer.limit(layer.weight)

    def train_step(self, x: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Do forward, backward and update on one batch; return its loss before the update."""
        loss = self._needed_loss()
        self._needed_optimizer()
        X = rows("x", x, self._inputs)
        return self._step(X, self._target(loss, y, len(X), "y"), loss)

    def _step(self, x: npt.NDArray[Any], target: Target, loss: Loss) -> float:
        O = self.forward(x)
        E, dO = loss.value(O, target)
        self._backward(dO)
        if (accumulate := self._needed_optimizer().accumulate) == 1:
            self._update(self._grads)
            return E
        self._gathered.append(self._grads.copy())
        if len(self._gathered) == accumulate:
            self._update(np.add.reduce(self._gathered) / accumulate)
            self._gathered.clear()
        return E

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        epochs: int = 1,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        validation_data: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        callback: Callable[[int, History], bool | None] | None = None,
    ) -> History:
        """Train for some epochs, each of which takes every row once; return how it went.

        Parameters
        ----------
        X : array-like, shape (n, I)
        y : array-like
            Targets or labels, n of them, as the loss wants them.
        epochs, batch_size : int
            At least 1. The last batch of an epoch has the rows that are left.
        shuffle : bool
            Whether epoch e takes the rows in the order ``permutation(seed, STREAM_SHUFFLE, e, n)``. Epochs
            are counted over the life of the network: a second `fit` goes on where the first one ended.
        validation_data : (X, y), optional
            Evaluated after each epoch.
        callback : callable, optional
            callback(epoch, history) after each epoch, counted as above, from 0; returning True ends the call.
        """
        loss = self._needed_loss()
        self._needed_optimizer()
        X = rows("X", X, self._inputs)
        n = len(X)
        T = self._target(loss, y, n, "y")
        positive("epochs", epochs)
        positive("batch_size", batch_size)
        callback_or_none(callback)
        if validation_data is not None:
            first, second = pair("validation_data", validation_data)
            Xv = rows("validation_data[0]", first, self._inputs)
            Tv = self._target(loss, second, len(Xv), "validation_data[1]")
        history = History()
        for _ in range(epochs):
            began = time.perf_counter()
            order = permutation(self.seed, STREAM_SHUFFLE, self._epoch, n) if shuffle else np.arange(n)
            total = 0.0
            for start in range(0, n, batch_size):
                batch = order[start : start + batch_size]
                total += len(batch) * self._step(X[batch], T[batch], loss)
            history.loss.append(total / n)
            history.seconds.append(time.perf_counter() - began)
            if validation_data is not None:
                scores = self._scores(Xv, Tv, loss)
                history.val_loss.append(scores["loss"])
                if "accuracy" in scores:
                    history.val_accuracy.append(scores["accuracy"])
            self._epoch += 1
            if callback is not None and callback(self._epoch - 1, history):
                break
        return history

    def predict(self, X: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """Return the outputs, shape (n, U), of any number of rows; with cross-entropy they are logits.

        `out`, of that shape and the network's dtype, is memory for them. `forward`'s results are left alone.
        """
        X = rows("X", X, self._inputs)
        shape = (len(X), self._units)
        if out is None:
            out = np.empty(shape, self.dtype)
        elif not isinstance(out, np.ndarray) or out.dtype != self.dtype:
            raise TypeError(f"out must be a {self.dtype} array, got {getattr(out, 'dtype', type(out))}")
        elif out.shape != shape:
            raise ValueError(f"out must have shape {shape}, got {out.shape}")
        for start in range(0, len(X), PREDICT_ROWS):
            part = slice(start, start + PREDICT_ROWS)
            O: Array = X[part]
            for layer in self._chain:
                O = layer.infer(O)
            out[part] = O
        return out

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Return softmax(predict(X)), shape (n, classes), for cross-entropy: each row adds up to 1."""
        if self.loss != "cross_entropy":
            raise RuntimeError(f"predict_proba needs loss='cross_entropy', got {self.loss!r}")
        Z = self.predict(X)
        ACTIVATIONS["softmax"].forward(Z, Z)
        return Z

    def evaluate(self, X: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float]:
        """Return {"loss": E}, and with cross-entropy "accuracy": how often the largest logit is the label's.

        With soft labels, the label is the class of the largest weight.
        """
        loss = self._needed_loss()
        X = rows("X", X, self._inputs)
        return self._scores(X, self._target(loss, y, len(X), "y"), loss)

    def _scores(self, X: npt.NDArray[Any], T: Target, loss: Loss) -> dict[str, float]:
        O = self.predict(X)
        scores = {"loss": loss.value(O, T)[0]}
        if loss.row == "cross_entropy":
            labels = T if T.ndim == 1 else T.argmax(axis=1)
            scores["accuracy"] = float((O.argmax(axis=1) == labels).mean())
        return scores

    def _target(self, loss: Loss, y: npt.ArrayLike, n: int, name: str) -> Target:
        return loss.target(y, (n, self._units), self.dtype, name)

    def _needed_loss(self) -> Loss:
        return loss_named(required(self.loss, "the network has no loss: pass loss= to Sequential"))

    def _needed_optimizer(self) -> Optimizer:
        return required(self.optimizer, "the network has no optimizer: pass optimizer= to Sequential")

    def __repr__(self) -> str:
        """Show the call that makes this network."""
        settings = f"loss={self.loss!r}, optimizer={self.optimizer!r}, dtype='{self.dtype}', seed={self.seed}"
        return f"Sequential({list(self.layers)!r}, {settings})"
