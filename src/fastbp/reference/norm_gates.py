# ruff: noqa: D102 - what forward and backward do is said by the class
"""Gates that normalise: by row, by column of the batch, or by what was learned of the data before."""

from __future__ import annotations

import numpy as np

from fastbp.checks import Array
from fastbp.reference.gate import Gate


class LayerNorm(Gate):
    """Z = gain * H + shift, H = (X - mean) / sqrt(var + eps): every row gets mean 0 and variance 1, then gain and shift.

    W (2, U) is gain, shift; mean and var (m, 1) are those of the row, var = mean (X - mean)^2. They depend on X too:

        dH = gain * dZ,  dX = (dH - mean(dH) - H * mean(dH * H)) / sqrt(var + eps),  means over the row
        dgain = sum dZ * H,  dshift = sum dZ,  sums over the batch
    """

    axis = 1  # over which means are taken

    def mean(self, X: Array) -> Array:
        mean: Array = X.mean(axis=self.axis, keepdims=True)
        return mean

    def forward(self, X: Array) -> Array:
        return self.normalised(X, self.mean(X), X.var(axis=self.axis, keepdims=True))

    def normalised(self, X: Array, mean: Array, var: Array) -> Array:
        self.root = np.sqrt(var + self.value.settings[0])
        self.H = (X - mean) / self.root
        Z: Array = self.W[0] * self.H + self.W[1]
        return Z

    def learn(self, dZ: Array) -> None:
        self.dW[0], self.dW[1] = (dZ * self.H).sum(axis=0), dZ.sum(axis=0)

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        dH = self.W[0] * dZ
        return ((dH - self.mean(dH) - self.H * self.mean(dH * self.H)) / self.root,)


class BatchNorm(LayerNorm):
    """As `LayerNorm`, by column: in training mean and var (1, U) are those of the batch, else the running ones.

    When a forward pass in training is over, running = (1 - momentum) running + momentum batch; into the running variance
    goes the unbiased one, sum (X - mean)^2 / (m - 1); of a single row it is 0. A batch of no rows changes nothing. The
    running ones do not depend on X, so dX = gain * dZ / sqrt(var + eps) then. All this is the same for a frozen layer, which
    keeps its gain and shift only, as in PyTorch.
    """

    axis = 0

    def forward(self, X: Array) -> Array:
        self.by_batch = self.run.training and len(X) > 0
        if not self.by_batch:
            return self.normalised(X, self.state[0], self.state[1])
        mean, var = self.mean(X), X.var(axis=0, keepdims=True)
        self.batch = np.vstack([mean, var * (len(X) / max(len(X) - 1, 1))])
        return self.normalised(X, mean, var)

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return super().backward(dZ) if self.by_batch else (self.W[0] * dZ / self.root,)

    def finish(self) -> None:
        if self.by_batch:
            momentum = self.value.settings[1]
            self.state[...] = (1 - momentum) * self.state + momentum * self.batch


class RMSNorm(LayerNorm):
    """Z = gain * H, H = X / sqrt(mean X^2 + eps), the mean over the row; W (1, U) is gain.

    dH = gain * dZ,  dX = (dH - H * mean(dH * H)) / sqrt(mean X^2 + eps),  dgain = sum dZ * H over the batch.
    """

    def forward(self, X: Array) -> Array:
        self.root = np.sqrt(self.mean(X * X) + self.value.settings[0])
        self.H = X / self.root
        Z: Array = self.W[0] * self.H
        return Z

    def learn(self, dZ: Array) -> None:
        self.dW[0] = (dZ * self.H).sum(axis=0)

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        dH = self.W[0] * dZ
        return ((dH - self.H * self.mean(dH * self.H)) / self.root,)


class Standardize(Gate):
    """Z = (X - mean) / deviation, by column, both (U,) and fixed; dX = dZ / deviation."""

    def forward(self, X: Array) -> Array:
        Z: Array = (X - self.state[0]) / self.state[1]
        return Z

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return (dZ / self.state[1],)
