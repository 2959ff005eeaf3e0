"""Running error bounds of a whole chain: the steps of a reference network, number by number. See bounds.py."""

from __future__ import annotations

import numpy as np
from bounds import Bounded, Rounding, activate, deactivate
from cases import Array
from loss_bounds import bounded_loss
from optimizer_bounds import clipped, limited, updated

import fastbp.reference as ref


class Network:
    """The chain of a reference network, with bounds: forward, backward and update of the same parameters."""

    def __init__(self, net: ref.Sequential, in_: Rounding) -> None:
        self.layers = [layer for layer in net.layers if not isinstance(layer, ref.Input)]
        self.loss, self.optimizer, self.in_ = net.loss, net.optimizer, in_
        dense = [layer for layer in self.layers if isinstance(layer, ref.Dense)]
        self.order = [id(layer) for layer in dense]
        self.W = {id(layer): in_.exact(np.vstack([layer.weight, layer.bias])) for layer in dense}
        self.dW: dict[int, Bounded] = {}
        self.gathered: list[Bounded] = []
        self.state: list[Bounded] = []
        self.updates = 0

    def forward(self, x: Array) -> Bounded:
        O = self.in_.exact(x)
        self.outputs, self.Z = [O], []
        for layer in self.layers:
            dense = isinstance(layer, ref.Dense)
            self.Z.append(self.with_ones(O) @ self.W[id(layer)] if dense else O)
            O = activate(layer.activation if dense else layer.name, self.Z[-1], None if dense else layer.parameter)
            self.outputs.append(O)
        return O

    @staticmethod
    def with_ones(O: Bounded) -> Bounded:
        rows = len(O.value)
        value = np.hstack([O.value, np.ones((rows, 1))])
        return Bounded(value, np.hstack([O.error, np.zeros((rows, 1))]), O.in_)

    def backward(self, dO: Bounded) -> Bounded:
        for k in reversed(range(len(self.layers))):
            layer, X, O, Z = self.layers[k], self.outputs[k], self.outputs[k + 1], self.Z[k]
            if isinstance(layer, ref.Dense):
                delta = deactivate(layer.activation, O, dO, Z)
                self.dW[id(layer)] = self.with_ones(X).T @ delta
                dO = delta @ self.W[id(layer)][:-1].T
            else:
                dO = deactivate(layer.name, O, dO, Z, layer.parameter)
        return dO

    def update(self) -> None:
        assert self.optimizer is not None
        self.gathered.append(self.grads)
        if len(self.gathered) < self.optimizer.accumulate:
            return
        self.updates += 1
        g = self.gathered[0]
        for other in self.gathered[1:]:
            g = g + other
        if self.optimizer.accumulate > 1:
            g = g * self.in_.constant(1 / self.optimizer.accumulate)
        self.gathered.clear()
        g = clipped(self.optimizer, g)
        decays = {key: np.ones(W.value.shape) for key, W in self.W.items()}
        for mask in decays.values():
            mask[-1] = self.optimizer.decay_biases
        flat = np.concatenate([decays[key].reshape(-1) for key in self.order])
        params = updated(self.optimizer, self.params, g, self.state, self.updates, flat)
        start = 0
        for key in self.order:
            shape = self.W[key].value.shape
            part = params[start : (start := start + decays[key].size)]
            self.W[key] = limited(self.optimizer, Bounded(part.value.reshape(shape), part.error.reshape(shape), self.in_))

    def train_step(self, x: Array, y: Array) -> Bounded:
        assert self.loss is not None
        E, dO = bounded_loss(self.loss, self.forward(x), y)
        self.backward(dO)
        self.update()
        return E

    def flat(self, parts: dict[int, Bounded]) -> Bounded:
        """W or dW of all layers in one vector, as `params` and `grads` have them."""
        ordered = [parts[key] for key in self.order]
        value = np.concatenate([part.value.reshape(-1) for part in ordered])
        return Bounded(value, np.concatenate([part.error.reshape(-1) for part in ordered]), self.in_)

    @property
    def params(self) -> Bounded:
        return self.flat(self.W)

    @property
    def grads(self) -> Bounded:
        return self.flat(self.dW)
