"""Models: training by batches and epochs, on whole data sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp._fastbp_core import permutation, train_step
from fastbp.checks import boolean, callback_or_none, positive, required, truth
from fastbp.data import Arrays
from fastbp.heads import LossLike
from fastbp.history import History
from fastbp.inspect.methods import Visible
from fastbp.layers import Input
from fastbp.optimizers import Optimizer
from fastbp.rng import STREAM_SHUFFLE
from fastbp.values import Value

NO_LOSS = "the network has no loss: pass loss= to "


class Model(Visible):
    """A graph of gates, from its inputs to its outputs, compiled into one plan.

    Forward visits the gates in topological order, backward in reverse; where a value is used more than once, its gradients
    add up. All parameters lie in one flat vector `params`, layer by layer, and all gradients in the vector `grads`.

    Parameters
    ----------
    inputs : Input or sequence of Input
        Every input that the outputs depend on, and no other.
    outputs : Value or sequence of Value
        What the network computes. With a sequence (heads), outputs, targets and losses are lists.
    loss : str, description, callable, or sequence of them, optional
        Needed to train and to evaluate; see `losses`. One for all outputs, or one for each. A function of your own takes
        (out, target) of a batch and returns (loss, dout). "cross_entropy" takes logits: the last layer needs no softmax.
    optimizer : SGD, Adam, AdamW, RMSprop or Adagrad, optional
        Needed to train.
    dtype : "float32" or "float64"
        Everything is computed in it; inputs are converted, block by block.
    seed : int, optional
        0 <= seed < 2**64; by default drawn from the operating system's entropy. Initial weights of layer number d (counted
        from 0, among those with random weights: Dense, Embedding) are those of (seed, step d), or, if the layer has a seed
        of its own, of (layer seed, step 0).
    loss_weights : sequence of float, optional
        What the losses of several outputs count in their sum; by default 1 each.

    Attributes
    ----------
    params, grads : ndarray, shape (number of parameters,)
        Live views. The next call sees what is written to `params`. `backward` fills `grads`; `train_step` and `fit` use
        each block of the gradient while it is in cache and do not, unless the optimizer clips by the norm or accumulates:
        then `grads` holds the sum of the gradients since the last update.
    state : ndarray
        A live view of what is stored but not trained by gradients: running statistics, means and deviations.
    layers : tuple of Layer
        In topological order.

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
    Three scalars, the value of a graph and its gradients:

    >>> import fastbp as fb
    >>> x, y, z = fb.Input(1), fb.Input(1), fb.Input(1)
    >>> m = fb.Model([x, y, z], (x + y) * z)
    >>> m.forward(-2, 5, -4).tolist()
    [[-12.0]]
    >>> [gradient.item() for gradient in m.backward()]
    [-4.0, -4.0, 3.0]

    A network with a way around its second layer:

    >>> x = fb.Input(4)
    >>> h = fb.Dense(16, "relu")(x)
    >>> net = fb.Model(x, fb.Dense(3)(h + fb.Dense(16, "relu")(h)), "cross_entropy", fb.SGD(0.1), seed=0)
    >>> net.predict([[1, 2, 3, 4]]).shape
    (1, 3)
    """

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
        self._build(inputs, outputs, loss, optimizer, dtype, seed, loss_weights)
        self.layers: tuple[Any, ...] = tuple(value.layer for value in self._values if value.layer is not None)

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
        return tuple(self._backward(dout, True) or ())

    def train_step(self, x: Arrays, y: Arrays, sample_weight: npt.ArrayLike | None = None) -> float:
        """Do forward, backward and update on one batch, in one C call; return its loss before the update.

        x and y are lists for several inputs and outputs; `sample_weight`, shape (m,), is as for `fit`.
        """
        if self._plain and (sample_weight is None or self._heads[0].name != "custom"):  # the hot path
            return train_step(self._plan, x, y, sample_weight)
        self._trainable()
        y = self._data.y("y", y)
        return self._plan.train_step(self._data.x("x", x), y, self._data.weights(y, sample_weight))

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
        """Train for some epochs, each of which takes every row once, in one C call; return how it went.

        Parameters
        ----------
        X : array-like, shape (n, I)
            Used in place where its rows are contiguous and of the network's dtype; no copy is made of it otherwise. A list
            of arrays for several inputs. It is not looked through: a NaN in it makes the loss and all parameters NaN.
        y : array-like
            Targets or labels, n of them, as the loss wants them. A list for several outputs.
        epochs, batch_size : int
            At least 1. The last batch of an epoch has the rows that are left.
        shuffle : bool
            Whether epoch e takes the rows in the order ``permutation(seed, STREAM_SHUFFLE, e, n)``. Epochs are counted over
            the life of the network: a second `fit` goes on where the first one ended.
        sample_weight : array-like, shape (n,), optional
            What each row counts in the mean over its batch, sum w e / sum w; at least 0. Class weights, which a loss may
            have, multiply them.
        validation_data : (X, y) or (X, y, sample_weight), optional
            Evaluated after each epoch.
        callback : callable, optional
            callback(epoch, history) after each epoch, counted as above, from 0; returning anything true ends the call.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C, soon; the network is then as after a whole step.
        """
        self._trainable()
        positive("epochs", epochs)
        positive("batch_size", batch_size)
        boolean("shuffle", shuffle)
        callback_or_none(callback)
        X, y = self._data.x("X", X), self._data.y("y", y)
        n = self._data.check(self._plan, X, y, "X", "y")
        weights = self._data.weights(y, sample_weight)
        if validation_data is not None:
            validation_data = self._validation(validation_data)
        order = np.empty(n, np.int64) if shuffle else None
        history = History()
        for _ in range(epochs):
            began = time.perf_counter()
            if order is not None:
                permutation(self.seed, STREAM_SHUFFLE, self._epoch, order)
            history.loss.append(self._plan.train_epoch(X, y, order, batch_size, weights))
            history.seconds.append(time.perf_counter() - began)
            self._epoch += 1
            if validation_data is not None:
                scores = self.evaluate(*validation_data)
                history.val_loss.append(scores["loss"])
                if "accuracy" in scores:
                    history.val_accuracy.append(scores["accuracy"])
            if callback is not None and truth("callback", callback(self._epoch - 1, history)):
                break
        return history

    def _validation(self, data: Sequence[Any]) -> Sequence[Any]:
        """Return (X, y) or (X, y, sample_weight), checked."""
        name = "validation_data"
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            came = f"{len(data)} things" if isinstance(data, (tuple, list)) else type(data).__name__
            raise ValueError(f"{name} must be (X, y) or (X, y, sample_weight), got {came}")
        X, y = self._data.x(f"{name}[0]", data[0]), self._data.y(f"{name}[1]", data[1])
        self._data.check(self._plan, X, y, f"{name}[0]", f"{name}[1]")
        self._data.weights(y, data[2] if len(data) == 3 else None, f"{name}[1]")
        return data

    def evaluate(self, X: Arrays, y: Arrays, sample_weight: npt.ArrayLike | None = None) -> dict[str, float]:
        """Return {"loss": E}, and with cross-entropy "accuracy": how often the largest logit is the label's.

        With soft labels, the label is the class of the largest weight. With several outputs, "loss" is the sum of all
        losses times their weights, and "loss_0", "accuracy_0", "loss_1" ... are those of the single outputs.
        """
        self._needed_loss()
        x, targets = self._data.x("X", X), self._data.y("y", y)
        self._plan.check(x, targets, "X", "y")
        out = self._plan.predict(x)
        if len(self._heads) == 1:
            scores = self._heads[0].scores(out, targets, sample_weight)
            return scores | {"loss": self._heads[0].weight * scores["loss"]}
        total, scores = 0.0, {}
        for i, head in enumerate(self._heads):
            for name, score in head.scores(out[i], targets[i], sample_weight).items():
                scores[f"{name}_{i}"] = score
            total += head.weight * scores[f"loss_{i}"]
        return {"loss": total} | scores

    def penalty(self) -> float:
        """Return l2 / 2 sum W^2 + l1 sum |W| of the weights on which the optimizer lets them act.

        Those of layers that are not frozen; not biases, gains and shifts, unless the optimizer decays them. The loss that
        training lowers is that of the data, which `train_step` and `evaluate` return, plus this.
        """
        optimizer = self._needed_optimizer()
        layers = [value.layer for value in self._values if value.layer is not None]
        return optimizer.penalty(*(W for layer in layers for W in layer.decaying(optimizer.decay_biases)))

    def _needed_loss(self) -> None:
        required(self._heads or None, NO_LOSS + type(self).__name__)

    def _trainable(self) -> None:
        self._needed_loss()
        self._needed_optimizer()

    def __repr__(self) -> str:
        """Show the call that makes this network."""
        graph = f"{list(self.inputs)!r}, {list(self.outputs)!r}"
        return f"Model({graph}, {self._shown()})"

    def _shown(self) -> str:
        return f"loss={self.loss!r}, optimizer={self.optimizer!r}, dtype='{self.dtype}', seed={self.seed}"
