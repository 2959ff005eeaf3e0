"""From gradients to updates: what the optimizer remembers, and gradients that wait until there are enough of them."""

from __future__ import annotations

import numpy as np

from fastbp.checks import Array
from fastbp.reference.network import Network, parameters_of
from fastbp.reference.optimizers import Optimizer


class Updates:
    """The optimizer of a network, and its state.

    Attributes
    ----------
    optimizer : Optimizer
        May be assigned, see `Model.optimizer`.
    decays : ndarray, shape (number of parameters,)
        1 where l2, l1 and weight decay act: on weights, and with `decay_biases` on biases, gains and shifts; else 0.
    count : int
        Updates done so far.
    gathered : int
        Steps whose gradients, summed up in `grads`, wait for an update, which takes their mean.
    """

    def __init__(self, network: Network, optimizer: Optimizer) -> None:
        self.network = network
        self.optimizer = optimizer
        self.slots = optimizer.new_state(network.params)
        self.count = 0
        self.gathered = 0
        self._waiting: Array | None = None

    @property
    def optimizer(self) -> Optimizer:
        """Its numbers."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        parts = [np.zeros(0)]
        for place in self.network.places:
            rows, columns, biases = parameters_of(place.value)
            parts += [np.ones((rows - biases) * columns), np.full(biases * columns, float(optimizer.decay_biases))]
        self.decays = np.concatenate(parts).astype(self.network.dtype)

    def before_backward(self) -> None:
        """Put aside the gradients that wait: a step of training is to write its own."""
        self._waiting = self.network.grads.copy() if self.gathered else None

    def after_backward(self) -> None:
        """Add the gradients that wait to those of the step, and update by their mean, if enough are gathered."""
        grads = self.network.grads
        if self._waiting is not None:
            grads += self._waiting
        self.gathered += 1
        if self.gathered >= self.optimizer.accumulate:
            self._update(grads if self.gathered == 1 else grads / self.gathered)
            self.gathered = 0

    def now(self) -> None:
        """Update by the gradients as they are."""
        self.gathered = 0
        self._update(self.network.grads)

    def _update(self, grads: Array) -> None:
        """Update all parameters that are not frozen; of those that are, the optimizer's state stays as well."""
        self.count += 1
        network, frozen = self.network, self.network.frozen()
        if frozen is None:
            self.optimizer.update(network.params, grads, self.slots, self.count, self.decays)
        else:
            vectors, learns = [network.params, *self.slots], ~frozen
            W, *slots = parts = [vector[learns] for vector in vectors]
            self.optimizer.update(W, grads[learns], slots, self.count, self.decays[learns])
            for vector, part in zip(vectors, parts, strict=True):
                vector[learns] = part
        for place in network.places if self.optimizer.max_norm else ():
            if place.value.gate == "dense" and place.learns:
                self.optimizer.limit(place.W[: place.value.inputs[0].width])

    def penalty(self) -> float:
        """Return l2 / 2 sum W^2 + l1 sum |W| of the parameters that decay and are not frozen."""
        matrices = []
        for place in self.network.places:
            rows, _, biases = parameters_of(place.value)
            if place.learns:
                matrices += [place.W[: rows - biases], place.W[rows - biases if self.optimizer.decay_biases else rows :]]
        return self.optimizer.penalty(*matrices)


def checked_optimizer(value: Optimizer) -> Optimizer:
    """Return `value`, or raise TypeError if it is no optimizer of this package."""
    if not isinstance(value, Optimizer):
        raise TypeError(f"optimizer must be one of fastbp.reference, as SGD(...), got {value!r} of {type(value).__module__}")
    return value
