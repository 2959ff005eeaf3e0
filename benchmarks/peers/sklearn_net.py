"""scikit-learn: MLPClassifier, one `partial_fit` a step, with what it does besides (checks of its arguments)."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from benchmarks.peers import Job
from benchmarks.peers.numpy_net import blas
from benchmarks.problem import Problem


def open_peer(threads: int) -> dict[str, str]:
    sklearn.set_config(assume_finite=True)
    warnings.simplefilter("ignore")
    return {"scikit-learn": sklearn.__version__, "numpy": np.__version__, "blas": blas()}


def prepare(problem: Problem) -> Job:
    net = MLPClassifier(
        problem.layers[1:-1],
        solver="adam" if problem.task == "adam" else "sgd",
        alpha=0,
        batch_size=problem.batch,
        learning_rate_init=1e-3,
        momentum=0,
        nesterovs_momentum=False,
        epsilon=1e-8 * (1 - 0.999) ** 0.5,  # the others' at step 1: it corrects the rate for v's bias, not v
        shuffle=False,
    )
    classes = problem.layers[-1]
    net.partial_fit(problem.x, problem.y, classes=np.arange(classes))
    put(net, problem)
    note = "two classes are one logistic output" if classes == 2 else ""
    if problem.task == "predict":
        return Job(partial(net.predict_proba, problem.x), read=lambda p: np.log(np.maximum(p, 1e-300)), note=note)

    def rate(value: float) -> None:
        net.learning_rate_init = value
        if hasattr(net, "_optimizer"):
            net._optimizer.learning_rate_init = net._optimizer.learning_rate = value

    return Job(partial(net.partial_fit, problem.x, problem.y), read=lambda fitted: fitted.loss_, rate=rate, note=note)


def put(net: Any, problem: Problem) -> None:
    """Copy the initial weights into it; the next call makes a new optimizer."""
    weights, biases = list(problem.weights), list(problem.biases)
    if problem.layers[-1] == 2:  # one logistic output z_1 - z_0 instead of two logits
        weights[-1], biases[-1] = np.diff(weights[-1]), np.diff(biases[-1])
    net.coefs_ = [w.astype(problem.dtype) for w in weights]
    net.intercepts_ = [b.astype(problem.dtype) for b in biases]
    del net._optimizer
