"""fastbp: the fastest way to train and run a multi-layer perceptron on a CPU.

>>> import numpy as np
>>> import fastbp as fb
>>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
>>> y = np.array([0, 1, 1, 0])
>>> net = fb.Sequential([fb.Input(2), fb.Dense(8, "tanh"), fb.Dense(2)],
...                     loss="cross_entropy", optimizer=fb.SGD(0.5), seed=0)
>>> history = net.fit(X, y, epochs=200, batch_size=4)
>>> net.predict(X).argmax(axis=1).tolist()
[0, 1, 1, 0]

`fastbp.reference` is the same in pure NumPy, written to be read.
"""

from __future__ import annotations

from fastbp import initializers, losses, reference, runtime
from fastbp.blocks import Dropout, Embedding, Residual
from fastbp.history import History
from fastbp.inspect.flow import gradient_flow
from fastbp.inspect.gradcheck import gradcheck
from fastbp.inspect.jacobian import jacobian
from fastbp.layers import Activation, Dense, Input
from fastbp.model import Model
from fastbp.norms import BatchNorm, LayerNorm, RMSNorm, Standardize
from fastbp.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from fastbp.runtime import get_num_threads, isa, set_num_threads, show_config
from fastbp.sequential import Sequential
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

__version__ = "0.1.0"
numerics_version = 1  # changes whenever the bits of a result do

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
    "__version__",
    "concatenate",
    "constant",
    "exp",
    "get_num_threads",
    "gradcheck",
    "gradient_flow",
    "initializers",
    "isa",
    "jacobian",
    "log",
    "losses",
    "matmul",
    "maximum",
    "minimum",
    "negative",
    "numerics_version",
    "power",
    "reciprocal",
    "reference",
    "runtime",
    "set_num_threads",
    "show_config",
    "square",
]

runtime.set_num_threads(runtime.default_threads())
