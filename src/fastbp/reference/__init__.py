"""The library in pure NumPy, written to be read by someone learning backpropagation.

The interface is that of `fastbp`: a script swaps ``import fastbp as fb`` for ``import fastbp.reference as
fb``. The tests take this package as their oracle, and the benchmarks as one of the opponents. Read it in this
order:

1. `activations`, `functions`: f, and what it does to the error signal on the way back
2. `criteria`: the losses: E, and the derivative with which the way back begins
3. `gates`: what each computes, and one gradient for each input; `gate` is what they share. Dense: Z = A W;
   dW = A^T dZ; dX = dZ weight^T
4. `network`: the gates in topological order, forward; in the reverse order, backward; gradients add up
5. `optimizers`: W = W - learning_rate * dW; `updates`: when
6. `training`: forward, backward, update, and again; `model`: the network it is done with; `heads`: its losses

then, if you like, `norm_gates` (more gates), `layer`, `layers`, `blocks` and `norms` (what makes gates, and has
names for their parameters), `sequential` (layers in a row) and `data` (what arrays are accepted). The graph
itself, values and operators on them, is `fastbp.values`.

The letters, in every file: m rows of a batch, I inputs and U units of a layer, X input, A the input with its
column of ones, W weights with the bias as last row, Z = A W pre-activation, O = f(Z) output, E loss; dQ
stands for the derivative of E with respect to Q and has the shape of Q; delta is dZ, the error signal of a
layer.

Examples
--------
The exclusive or, which no single layer can learn:

>>> import numpy as np
>>> import fastbp.reference as fb
>>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
>>> y = np.array([0, 1, 1, 0])
>>> net = fb.Sequential([fb.Input(2), fb.Dense(8, "tanh"), fb.Dense(2)],
...                     loss="cross_entropy", optimizer=fb.SGD(0.5), seed=0)
>>> history = net.fit(X, y, epochs=200, batch_size=4)
>>> net.predict(X).argmax(axis=1).tolist()
[0, 1, 1, 0]
"""

from __future__ import annotations

from fastbp.checks import threads
from fastbp.history import History
from fastbp.reference import losses
from fastbp.reference.blocks import Dropout, Embedding, Residual
from fastbp.reference.layer import Input
from fastbp.reference.layers import Activation, Dense
from fastbp.reference.model import Model
from fastbp.reference.norms import BatchNorm, LayerNorm, RMSNorm, Standardize
from fastbp.reference.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from fastbp.reference.sequential import Sequential
from fastbp.values import (
    Value,
    concatenate,
    constant,
    exp,
    log,
    matmul,
    maximum,
    minimum,
    negative,
    power,
    reciprocal,
    square,
)

__all__ = [
    "SGD",
    "Activation",
    "Adagrad",
    "Adam",
    "AdamW",
    "BatchNorm",
    "Dense",
    "Dropout",
    "Embedding",
    "History",
    "Input",
    "LayerNorm",
    "Model",
    "RMSNorm",
    "RMSprop",
    "Residual",
    "Sequential",
    "Standardize",
    "Value",
    "concatenate",
    "constant",
    "exp",
    "get_num_threads",
    "isa",
    "log",
    "losses",
    "matmul",
    "maximum",
    "minimum",
    "negative",
    "power",
    "reciprocal",
    "set_num_threads",
    "square",
]

_num_threads = 1


def set_num_threads(n: int) -> None:
    """Remember `n`, and do nothing else: here the threads are those of the BLAS library behind NumPy.

    Kept so that a script runs with either package. `OPENBLAS_NUM_THREADS`, or the variable of your BLAS, set
    before NumPy is imported decides.

    Raises
    ------
    ValueError
        If n is not from 1 to 256.
    TypeError
        If n is not an integer.
    """
    global _num_threads
    _num_threads = threads("n", n)


def get_num_threads() -> int:
    """Return what `set_num_threads` was last given; 1 before."""
    return _num_threads


def isa() -> str:
    """Return the name of the instruction set in use: always "numpy" here."""
    return "numpy"
