"""Losses whose targets have a range say so, and leave the network as it was."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fastbp as fb

X = np.random.default_rng(0).normal(size=(60, 4))
# loss, good targets, what one of them becomes, what the message says
CASES: dict[str, tuple[str, list[float], float, str]] = {
    "signs": ("binary_cross_entropy", [0.0, 1.0], -1.0, "from 0 to 1"),
    "percent": ("binary_cross_entropy", [0.0, 0.25, 1.0], 1.0000001, "from 0 to 1"),
    "infinite": ("binary_cross_entropy", [0.0, 1.0], np.inf, "must be f"),
    "nan": ("binary_cross_entropy", [0.0, 1.0], np.nan, "must be f"),
    "negative count": ("poisson", [0.0, 3.0, 1e6], -1e-3, "at least 0"),
    "infinite count": ("poisson", [0.0, 3.0], np.inf, "must be finite"),
}


def network(library: ModuleType, loss: str, dtype: str, outputs: int = 1) -> Any:
    layers = [library.Input(4), library.Dense(5, "tanh"), library.Dense(outputs)]
    return library.Sequential(layers, loss, library.SGD(0.1), dtype=dtype, seed=0)


def with_bad(good: list[float], bad: float, outputs: int = 1) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    y = np.resize(np.array(good), (len(X), outputs))
    worse = y.copy()
    worse[37, -1] = bad
    return y, worse


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_target_out_of_range(case: str, library: ModuleType, dtype: str, outputs: int) -> None:
    loss, good, bad, message = CASES[case]
    y, worse = with_bad(good, bad, outputs)
    net = network(library, loss, dtype, outputs)
    before = net.params.copy()
    calls = [
        lambda: net.train_step(X, worse),
        lambda: net.fit(X, worse, batch_size=7),
        lambda: net.evaluate(X, worse),
        lambda: getattr(library.losses, loss)(net.predict(X), worse),
        lambda: net.fit(X, y, validation_data=(X, worse)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
        np.testing.assert_array_equal(net.params, before)
    net.forward(X)
    with pytest.raises(ValueError, match=message):
        net.train_step(X, worse)
    net.backward(np.ones((len(X), outputs)))  # what forward kept is still there
    np.testing.assert_array_equal(net.params, before)
    assert np.isfinite(net.train_step(X, y))


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16, np.bool_, np.float16, ">f8"])
def test_targets_of_any_type(dtype: Any) -> None:
    labels = (np.arange(len(X)) % 2).astype(dtype)
    for y in (labels, np.repeat(labels, 3)[::3], labels[:, None]):
        assert network(fb, "binary_cross_entropy", "float32").train_step(X, y) > 0.0
    if np.dtype(dtype).kind != "b":
        labels[59] = 2
        net = network(fb, "binary_cross_entropy", "float32")
        with pytest.raises(ValueError, match=r"y must be finite in float32 and from 0 to 1, got 2(\.0)? in row 59"):
            net.train_step(X, labels)


def test_in_any_part_of_a_batch_by_any_thread() -> None:
    rows = 9000
    x = np.resize(X, (rows, 4)).astype(np.float32)
    for threads in (1, 2):
        fb.set_num_threads(threads)
        for bad in (0, 600, 4096, rows - 1):
            y = np.zeros(rows, np.float32)
            net = network(fb, "binary_cross_entropy", "float32")
            before = net.params.copy()
            y[bad] = -1
            with pytest.raises(ValueError, match=rf"got -1.0 in row {bad}$"):
                net.train_step(x, y)
            np.testing.assert_array_equal(net.params, before)


def test_losses_without_a_range_take_any_number() -> None:
    y = np.linspace(-5.0, 5.0, len(X))
    for loss in ("squared_error", "huber", "log_cosh", "absolute_error", "quantile", "binary_hinge"):
        assert np.isfinite(network(fb, loss, "float32").train_step(X, y))
    soft = np.array([[-1.0, 2.0]])  # as the gradient of a policy takes it: classes with weights of either sign
    assert np.isfinite(fb.losses.cross_entropy([[0.0, 1.0]], soft)[0])
