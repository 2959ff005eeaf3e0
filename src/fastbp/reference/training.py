# ruff: noqa: E741 - O is the field's letter for an output
"""The training loop.

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

from fastbp.checks import boolean, callback_or_none, positive, required, truth
from fastbp.fixed import Fixed
from fastbp.history import History
from fastbp.loss_settings import Weights
from fastbp.reference.data import AnyArray, Arrays, Data
from fastbp.reference.losses import Target
from fastbp.reference.network import Network, Pass
from fastbp.reference.optimizers import Optimizer
from fastbp.reference.updates import Updates, checked_optimizer
from fastbp.rng import STREAM_SHUFFLE, permutation


class Training(Fixed):
    """What a `Model` does beyond forward and backward; not made by itself."""

    seed: int
    _data: Data
    _network: Network
    _updates: Updates | None  # None without an optimizer
    _epoch: int  # epochs trained so far: each has a random order of its own
    _pass: Pass | None  # the last forward pass, if `backward` may use it
    _last: Pass  # of the last step: its memory is given back when the next one has its own, else the system takes and clears it
    predict: Callable[..., Any]

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer. Another one of the same kind, with the same state, may be assigned, to change its numbers."""
        return None if self._updates is None else self._updates.optimizer

    @optimizer.setter
    def optimizer(self, value: Optimizer) -> None:
        updates = self._needed_updates()
        now = updates.optimizer
        if value is None or checked_optimizer(value).slots != now.slots or not (
            isinstance(now, type(value)) or isinstance(value, type(now))
        ):
            raise ValueError(f"optimizer must be of the same kind as {now!r}, got {value!r}")
        updates.optimizer = value

    def update(self) -> None:
        """Let the optimizer change all weights by `grads`: with SGD, W = W - learning_rate * dW.

        Clipping, penalties, weight decay and max_norm are the same as in training; `accumulate` is not: `grads` are taken as
        they are.
        """
        self._needed_updates().now()

    def train_step(self, x: Arrays, y: Arrays, sample_weight: npt.ArrayLike | None = None) -> float:
        """Do forward, backward and update on one batch; return its loss before the update.

        x and y are lists for several inputs and outputs; `sample_weight`, shape (m,), is as for `fit`.
        """
        self._trainable()
        X = self._data.x("x", x)
        m = len(X[0])
        return self._step(X, self._data.y("y", y, m), self._data.weights("y", y, sample_weight))

    def _step(self, x: list[AnyArray], targets: list[Target], weights: Weights | None) -> float:
        self._pass = None  # what `forward` kept
        self._last = done = self._network.forward(x, training=True)
        updates = self._needed_updates()
        E, douts = 0.0, []
        for head, O, T in zip(self._data.heads, done.outputs, targets, strict=True):
            E_k, dO = head.value(O, T, weights)
            E += E_k
            douts.append(dO)
        updates.before_backward()
        done.backward(douts, inputs=False)
        self._network.finish(done)
        updates.after_backward()
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
            callback(epoch, history) after each epoch, counted as above, from 0; returning anything true ends the call.
        """
        self._trainable()
        x = self._data.x("X", X)
        n = len(x[0])
        targets, weights = self._data.y("y", y, n), self._data.weights("y", y, sample_weight)
        positive("epochs", epochs)
        positive("batch_size", batch_size)
        boolean("shuffle", shuffle)
        callback_or_none(callback)
        validation = None if validation_data is None else self._data.validation(validation_data)
        history = History()
        for _ in range(epochs):
            began = time.perf_counter()
            order = permutation(self.seed, STREAM_SHUFFLE, self._epoch, n) if shuffle else np.arange(n)
            total = counted = 0.0
            for start in range(0, n, batch_size):
                batch = order[start : start + batch_size]
                w = None if weights is None else weights[batch]
                weight = len(batch) if w is None else float(w.sum())
                total += weight * self._step([each[batch] for each in x], [T[batch] for T in targets], w)
                counted += weight
            history.loss.append(total / counted if counted > 0 else 0.0)
            history.seconds.append(time.perf_counter() - began)
            self._epoch += 1
            if validation is not None:
                scores = self._scores(*validation)
                history.val_loss.append(scores["loss"])
                if "accuracy" in scores:
                    history.val_accuracy.append(scores["accuracy"])
            if callback is not None and truth("callback", callback(self._epoch - 1, history)):
                break
        return history

    def evaluate(self, X: Arrays, y: Arrays, sample_weight: npt.ArrayLike | None = None) -> dict[str, float]:
        """Return {"loss": E}, and with cross-entropy "accuracy": how often the largest logit is the label's.

        With soft labels, the label is the class of the largest weight. With several outputs, "loss" is the sum of all
        losses times their weights, and "loss_0", "accuracy_0", "loss_1" ... are those of the single outputs.
        """
        self._needed_loss()
        x = self._data.x("X", X)
        m = len(x[0])
        return self._scores(x, self._data.y("y", y, m), self._data.weights("y", y, sample_weight))

    def _scores(self, x: list[AnyArray], targets: list[Target], weights: Weights | None) -> dict[str, float]:
        out = self.predict(x if len(x) > 1 else x[0])
        outputs = out if self._data.listed else [out]
        heads = self._data.heads
        each = [head.scores(O, T, weights) for head, O, T in zip(heads, outputs, targets, strict=True)]
        if len(heads) == 1:
            return each[0] | {"loss": heads[0].weight * each[0]["loss"]}
        total = {"loss": sum(head.weight * scores["loss"] for head, scores in zip(heads, each, strict=True))}
        return total | {f"{name}_{i}": score for i, scores in enumerate(each) for name, score in scores.items()}

    def penalty(self) -> float:
        """Return l2 / 2 sum W^2 + l1 sum |W| of the weights on which the optimizer lets them act.

        Those of layers that are not frozen; not biases, gains and shifts, unless the optimizer decays them. The loss that
        training lowers is that of the data, which `train_step` and `evaluate` return, plus this.
        """
        return self._needed_updates().penalty()

    def _needed_loss(self) -> None:
        required(self._data.heads or None, f"the network has no loss: pass loss= to {type(self).__name__}")

    def _needed_updates(self) -> Updates:
        return required(self._updates, f"the network has no optimizer: pass optimizer= to {type(self).__name__}")

    def _trainable(self) -> None:
        self._needed_loss()
        self._needed_updates()
