"""Networks: "is this a sensible question?" Shapes, dtypes and names are checked here; the plan does the rest."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fastbp import losses
from fastbp._fastbp_core import Plan, permutation
from fastbp.checks import Array, callback_or_none, float_dtype, layer_tuple, pair, positive, reals, required, write_into
from fastbp.graph import Objective, compile_graph, loss_named
from fastbp.history import History
from fastbp.layers import Activation, Dense, Input, chain
from fastbp.optimizers import Optimizer
from fastbp.rng import STREAM_SHUFFLE, checked_seed, fresh_seed

NO_LOSS = "the network has no loss: pass loss= to Sequential"
TWICE = "loss 'cross_entropy' takes logits, and the last layer is a softmax: it is applied twice; leave it out"
NO_OPTIMIZER = "the network has no optimizer: pass optimizer= to Sequential"


class Sequential:
    """O = f_L(... f_2(f_1(X W_1) W_2) ... W_L): layers in a row, each with its column of ones, compiled into one plan.

    All weights lie in one flat vector `params`, layer by layer, and all gradients in the vector `grads`.

    Parameters
    ----------
    layers : sequence of Input, Dense and Activation
        Input comes first; a first Dense with ``inputs=`` can stand without it. At least one Dense. A layer belongs to one
        network only, which draws its weights.
    loss : "squared_error" or "cross_entropy", optional
        Needed to train and to evaluate. See `losses`. "cross_entropy" takes logits: the last layer needs no softmax.
    optimizer : SGD, Adam, AdamW, RMSprop or Adagrad, optional
        Needed to train.
    dtype : "float32" or "float64"
        Everything is computed in it; inputs are converted, block by block.
    seed : int, optional
        0 <= seed < 2**64; by default drawn from the operating system's entropy. Initial weights of dense layer number d
        (counted from 0) are those of (seed, step d), or, if the layer has a seed of its own, of (layer seed, step 0).

    Attributes
    ----------
    params, grads : ndarray, shape (number of parameters,)
        Live views. The next call sees what is written to `params`. `backward` fills `grads`; `train_step` and `fit` use
        each block of the gradient while it is in cache and do not, unless the optimizer clips by the norm or accumulates:
        then `grads` holds the sum of the gradients since the last update.

    Raises
    ------
    ValueError, TypeError
        If an argument, here or of a method, is not as described; training on no rows is one such. The message says what was
        expected and what came, and the weights are as before.
    RuntimeError
        `backward` without `forward`, or training without loss or optimizer.

    Notes
    -----
    For a given dtype, seed and data, all results are the same bits for any number of threads and on any CPU with fused
    multiply-add; predictions are the same bits for any split, order or memory layout of the rows.

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
        layers: Sequence[Input | Dense | Activation],
        loss: str | None = None,
        optimizer: Optimizer | None = None,
        *,
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
    ) -> None:
        self.layers = layer_tuple(layers)
        nodes = chain(self.layers)
        self.loss = None if loss is None else loss_named(loss)
        self.dtype = float_dtype(dtype)
        self.seed = fresh_seed() if seed is None else checked_seed(seed)
        self._optimizer = _checked_optimizer(optimizer)
        self._softmax = Activation("softmax")
        self._epoch = 0  # epochs trained so far: each has a random order of its own
        if self.loss == "cross_entropy" and nodes[-1].activation == "softmax":
            warnings.warn(TWICE, stacklevel=2)
        dense = [layer for layer in self.layers if isinstance(layer, Dense)]
        positions = [i for i, node in enumerate(nodes) if node.gate == "dense"]
        self._plan = compile_graph(
            nodes,
            dtype=self.dtype.name,
            losses=None if self.loss is None else [Objective(self.loss)],
            optimizer=None if optimizer is None else optimizer.row,
        )
        widths = [node.width for node in nodes if node.width]
        values = []
        for d, layer in enumerate(dense):  # all that can fail, before the first layer changes
            seed, step = (self.seed, d) if layer.own_seed is None else (layer.own_seed, 0)
            values.append(layer.initial(widths[d], seed, step))
        for d, layer in enumerate(dense):
            layer.join(self._plan, self._plan.offset(positions[d]), widths[d], values[d], self.dtype)
        for member in self.layers:
            if not isinstance(member, Input):
                member.in_network = True
        if optimizer is not None:
            self._plan.set_hyper(*optimizer.hyper)

    @property
    def params(self) -> Array:
        """All parameters, a live view."""
        return self._plan.params()

    @params.setter
    def params(self, value: npt.ArrayLike) -> None:
        write_into(self.params, value, "params")

    @property
    def grads(self) -> Array:
        """Gradients of all parameters, a live view, filled by `backward`."""
        return self._plan.grads()

    @grads.setter
    def grads(self, value: npt.ArrayLike) -> None:
        write_into(self.grads, value, "grads")

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer. Another one of the same kind, with the same state, may be assigned, to change its numbers."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, value: Optimizer) -> None:
        now = required(self._optimizer, NO_OPTIMIZER)
        new = _checked_optimizer(value)
        if new is None or new.row != now.row:
            raise ValueError(f"optimizer must keep the same state as {now!r}, got {value!r}")
        self._optimizer = new
        self._plan.set_hyper(*new.hyper)

    @property
    def plan(self) -> Plan:
        """The compiled graph: `isa`, `parameters`, `nbytes`, `operations(rows)` of a training step."""
        return self._plan

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return the output O, shape (m, U), for rows x, shape (m, I); keep what the way back needs."""
        out: Array = self._plan.forward(x)
        return out

    def backward(self, dout: npt.ArrayLike, inputs: bool = False) -> Array | None:
        """Fill `grads` by the chain rule, from the last layer to the first.

        Parameters
        ----------
        dout : array-like, shape (m, U)
            dE/dO for the output of the last `forward`.
        inputs : bool
            Whether to return dE/dX, shape (m, I), too: training does not need it, and it costs a product.
        """
        gradients = self._plan.backward(dout, inputs)
        return gradients[0] if gradients else None

    def update(self) -> None:
        """Let the optimizer change all weights by `grads`: with SGD, W = W - learning_rate * dW.

        Clipping, penalties, weight decay and max_norm are the same as in training; `accumulate` is not: `grads` are taken as
        they are.
        """
        required(self._optimizer, NO_OPTIMIZER)
        self._plan.update()

    def train_step(self, x: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Do forward, backward and update on one batch, in one C call; return its loss before the update."""
        if self.loss is None or self._optimizer is None:  # before the call that says so: this is the hot path
            self._trainable()
        return self._plan.train_step(x, y)

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
        """Train for some epochs, each of which takes every row once, in one C call; return how it went.

        Parameters
        ----------
        X : array-like, shape (n, I)
            Used in place where its rows are contiguous and of the network's dtype; no copy is made of it otherwise.
        y : array-like
            Targets or labels, n of them, as the loss wants them.
        epochs, batch_size : int
            At least 1. The last batch of an epoch has the rows that are left.
        shuffle : bool
            Whether epoch e takes the rows in the order ``permutation(seed, STREAM_SHUFFLE, e, n)``. Epochs are counted over
            the life of the network: a second `fit` goes on where the first one ended.
        validation_data : (X, y), optional
            Evaluated after each epoch.
        callback : callable, optional
            callback(epoch, history) after each epoch, counted as above, from 0; returning True ends the call.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C, soon; the network is then as after a whole step.
        """
        self._trainable()
        positive("epochs", epochs)
        positive("batch_size", batch_size)
        callback_or_none(callback)
        X, y = reals("X", X), reals("y", y)
        n = self._plan.check(X, y, "X", "y")
        if validation_data is not None:
            Xv, yv = (reals(f"validation_data[{i}]", part) for i, part in enumerate(pair("validation_data", validation_data)))
            self._plan.check(Xv, yv, "validation_data[0]", "validation_data[1]")
        order = np.empty(n, np.int64) if shuffle else None
        history = History()
        for _ in range(epochs):
            began = time.perf_counter()
            if order is not None:
                permutation(self.seed, STREAM_SHUFFLE, self._epoch, order)
            history.loss.append(self._plan.train_epoch(X, y, order, batch_size))
            history.seconds.append(time.perf_counter() - began)
            if validation_data is not None:
                scores = self.evaluate(Xv, yv)
                history.val_loss.append(scores["loss"])
                if "accuracy" in scores:
                    history.val_accuracy.append(scores["accuracy"])
            self._epoch += 1
            if callback is not None and callback(self._epoch - 1, history):
                break
        return history

    def predict(self, X: npt.ArrayLike, *, out: Array | None = None) -> Array:
        """Return the outputs, shape (n, U), of any number of rows; with cross-entropy they are logits.

        `out`, C-contiguous, of that shape and the network's dtype, is memory for them; it must not overlap X. What `forward`
        keeps is left alone.
        """
        result: Array = self._plan.predict(X, out)
        return result

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Return softmax(predict(X)), shape (n, classes), for cross-entropy: each row adds up to 1."""
        if self.loss != "cross_entropy":
            raise RuntimeError(f"predict_proba needs loss='cross_entropy', got {self.loss!r}")
        return self._softmax.infer(self.predict(X))

    def evaluate(self, X: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, float]:
        """Return {"loss": E}, and with cross-entropy "accuracy": how often the largest logit is the label's.

        With soft labels, the label is the class of the largest weight.
        """
        name = required(self.loss, NO_LOSS)
        X, y = reals("X", X), reals("y", y)
        self._plan.check(X, y, "X", "y")
        out = self.predict(X)
        scores = {"loss": getattr(losses, name)(out, y)[0]}
        if name == "cross_entropy":
            labels = y if y.ndim == 1 else y.argmax(axis=1)
            scores["accuracy"] = float((out.argmax(axis=1) == labels).mean())
        return scores

    def _trainable(self) -> None:
        if self.loss is None:
            raise RuntimeError(NO_LOSS)
        if self._optimizer is None:
            raise RuntimeError(NO_OPTIMIZER)

    def __repr__(self) -> str:
        """Show the call that makes this network."""
        settings = f"loss={self.loss!r}, optimizer={self.optimizer!r}, dtype='{self.dtype}', seed={self.seed}"
        return f"Sequential({list(self.layers)!r}, {settings})"


def _checked_optimizer(value: Optimizer | None) -> Optimizer | None:
    if value is not None and not isinstance(value, Optimizer):
        raise TypeError(f"optimizer must be one, as SGD(...), got {value!r}")
    return value
