# ruff: noqa: D102 - what forward and backward do is said by the class
"""Gates: Z from the outputs of other gates, and the way back; one class for each row of the table in `fastbp.values`.

A gate lives for one pass through the network. Going forward it keeps what its way back will need. Going back it receives
dZ, the derivative of the loss with respect to Z, and hands one gradient to each of its inputs:

    dX = dZ * (what Z changes by when X does)

what arrives times the local derivative: the chain rule, one gate at a time. A gate with parameters W fills their gradient
in `learn`. All arrays are (m, U), a row for each row of the batch, unless a shape is given. Activations f, which some gates
have on top, O = f(Z), are in `activations`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array
from fastbp.reference.gate import Gate
from fastbp.reference.norm_gates import BatchNorm, LayerNorm, RMSNorm, Standardize
from fastbp.rng import STREAM_DROPOUT, philox


class Input(Gate):
    """Z = X, in the dtype of the network; not copied, so X must stay as it is until the way back is done."""

    def forward(self, X: npt.NDArray[Any]) -> Array:
        return X.astype(self.run.dtype, copy=False)


class Constant(Gate):
    """Z: one row, of shape (U,), for all rows of the batch. Nothing goes back."""

    def forward(self) -> Array:
        return np.tile(self.place.values, (self.run.rows, 1))

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return ()


class Dense(Gate):
    """Z = A W, with A (m, I+1) = [X, 1] and W (I+1, U), whose last row is the bias; without a bias A = X, W (I, U).

    dW (I+1, U) = A^T (I+1, m) dZ (m, U), summed over the rows; dX (m, I) = dZ (m, U) weight^T (U, I).
    """

    spare = True

    def forward(self, X: Array) -> Array:
        m, inputs = X.shape
        self.A = X
        if len(self.W) > inputs:
            self.A = np.empty((m, inputs + 1), X.dtype)
            self.A[:, :-1] = X
            self.A[:, -1] = 1.0
        Z: Array = self.A @ self.W
        return Z

    def learn(self, dZ: Array) -> None:
        np.matmul(self.A.T, dZ, out=self.dW)

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        weight = self.W[: self.value.inputs[0].width]  # the bias row stays out: the column of ones is no input
        return (dZ @ weight.T,)


class Matmul(Gate):
    """Z (m, U) = X (m, I) C (I, U) with a constant C; dX = dZ C^T."""

    def forward(self, X: Array) -> Array:
        Z: Array = X @ self.place.values
        return Z

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return (dZ @ self.place.values.T,)


class Activation(Gate):
    """Z = X; all that happens is O = f(Z). dX = dZ."""

    def forward(self, X: Array) -> Array:
        return X

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return (dZ,)


class Add(Gate):
    """Z = A + B hands the gradient on: dA = dB = dZ."""

    def forward(self, A: Array, B: Array) -> Array:
        return A + B

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return dZ, dZ


class Subtract(Gate):
    """Z = A - B: dA = dZ, dB = -dZ."""

    def forward(self, A: Array, B: Array) -> Array:
        return A - B

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return dZ, -dZ


class Multiply(Gate):
    """Z = A * B swaps its inputs: dA = dZ * B, dB = dZ * A."""

    def forward(self, A: Array, B: Array) -> Array:
        self.A, self.B = A, B
        return A * B

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return dZ * self.B, dZ * self.A


class Divide(Gate):
    """Z = A / B: dA = dZ / B, dB = -dZ * A / B^2 = -dA * Z."""

    def forward(self, A: Array, B: Array) -> Array:
        self.B, self.Z = B, A / B
        return self.Z

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        dA = dZ / self.B
        return dA, -dA * self.Z


class Maximum(Gate):
    """Z = max(A, B) routes the gradient: all to the larger, half to each where they are equal. NaN in, NaN out."""

    def forward(self, A: Array, B: Array) -> Array:
        self.to_a, self.to_b = share(A > B, A == B, A.dtype), share(B > A, A == B, A.dtype)
        Z: Array = np.maximum(A, B)
        return Z

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return dZ * self.to_a, dZ * self.to_b


class Minimum(Maximum):
    """Z = min(A, B): as maximum, with the smaller one."""

    def forward(self, A: Array, B: Array) -> Array:
        self.to_a, self.to_b = share(A < B, A == B, A.dtype), share(B < A, A == B, A.dtype)
        Z: Array = np.minimum(A, B)
        return Z


def share(wins: npt.NDArray[np.bool_], ties: npt.NDArray[np.bool_], dtype: np.dtype[Any]) -> Array:
    """1 where it wins, 1/2 where it ties, else 0."""
    return np.where(wins, 1.0, np.where(ties, 0.5, 0.0)).astype(dtype)


class Concatenate(Gate):
    """Z (m, U0 + U1 + ...) = [X0 X1 ...]; each input gets its columns of dZ."""

    def forward(self, *inputs: Array) -> Array:
        return np.concatenate(inputs, axis=1)

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        ends = np.cumsum([value.width for value in self.value.inputs])
        return tuple(np.split(dZ, ends[:-1], axis=1))


class Slice(Gate):
    """Z (m, U) = X[:, start : start + U]; the columns of X (m, I) that are not taken get 0."""

    def forward(self, X: Array) -> Array:
        self.shape = X.shape
        return X[:, self.columns].copy()

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        dX = np.zeros(self.shape, dZ.dtype)
        dX[:, self.columns] = dZ
        return (dX,)

    @property
    def columns(self) -> slice:
        start = int(self.value.settings[0])
        return slice(start, start + self.value.width)


class Dropout(Gate):
    """Z = X * mask in training, mask = 0 with probability `rate`, else 1 / (1 - rate); Z = X in prediction. dX = dZ * mask.

    The factor makes up for what is missing, so that prediction needs none ("inverted" dropout). Element (r, j) is kept
    where word r U + j of the random stream (seed, STREAM_DROPOUT + k, draws) is at least floor(rate 2^32): k counts the
    dropout gates of the network, in topological order, and draws its forward passes in training before this one. So the
    mask depends on nothing else, as the number of threads. The factor is rounded to the dtype of the network.
    """

    def forward(self, X: Array) -> Array:
        rate, run = self.value.settings[0], self.run
        self.mask: Array | None = None
        if not run.training:
            return X
        words = philox(run.seed, STREAM_DROPOUT + self.place.number, run.draws, X.size).reshape(X.shape)
        kept = words >= int(rate * 2**32)
        self.mask = kept * X.dtype.type(1 / (1 - rate))
        return X * self.mask

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return (dZ if self.mask is None else dZ * self.mask,)


class Embedding(Gate):
    """Z (m, K D) = [W[X0] W[X1] ...]: X (m, K) holds numbers of rows of W (V, D), and each is replaced by its row.

    The same as one-hot rows times W, so dW[v] is the sum of dZ wherever v stood; X is no quantity, dX = 0.
    """

    def forward(self, X: Array) -> Array:
        bad = ~((X >= 0) & (len(self.W) > X) & (np.trunc(X) == X))
        if bad.any():  # of the inputs of a network this is known before
            raise ValueError(f"an Embedding must get whole numbers 0 .. {len(self.W) - 1}, got {X[bad][0]}")
        self.index = X.astype(np.intp)
        return self.W[self.index].reshape(len(X), self.value.width)

    def learn(self, dZ: Array) -> None:
        self.dW[...] = 0.0
        np.add.at(self.dW, self.index, dZ.reshape(*self.index.shape, -1))

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        return (np.zeros(self.index.shape, dZ.dtype),)


GATES: dict[str, type[Gate]] = {
    "input": Input,
    "constant": Constant,
    "dense": Dense,
    "matmul": Matmul,
    "activation": Activation,
    "add": Add,
    "subtract": Subtract,
    "multiply": Multiply,
    "divide": Divide,
    "maximum": Maximum,
    "minimum": Minimum,
    "concatenate": Concatenate,
    "slice": Slice,
    "dropout": Dropout,
    "layer_norm": LayerNorm,
    "rms_norm": RMSNorm,
    "batch_norm": BatchNorm,
    "embedding": Embedding,
    "standardize": Standardize,
}
