"""A first layer of many inputs and few rows, whose columns the threads share in place of rows: the same bits as with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, ISAS, Array, assert_same_bits, integers, numbers

import fastbp as fb

THREADS = (2, 3, 4)
STEPS = 12  # the first few are timed with one thread and with all
CLASSES = 5
INPUTS, UNITS = 600, 128  # 76800 weights; columns that 2 and 4 threads share evenly, and 3 with AVX2
WORTH_WAKING = 1e7  # operations of a call for which sleeping threads are woken

pytestmark = pytest.mark.usefixtures("keep_threads")


def sequential(*layers: Any, inputs: int = INPUTS, dtype: str = "float32", optimizer: Any = None) -> fb.Sequential:
    layers = (fb.Input(inputs), *layers, fb.Dense(CLASSES))
    return fb.Sequential(layers, loss="cross_entropy", optimizer=optimizer or fb.SGD(0.05), dtype=dtype, seed=3)


def frozen(dtype: str) -> fb.Sequential:
    net = sequential(fb.Dense(4 * UNITS, "relu"), dtype=dtype)
    net.layers[1].trainable = False
    return net


def graph(dtype: str) -> fb.Model:
    """The product is a term of a sum, which it computes at once; another input is taken by a second gate."""
    x, z = fb.Input(INPUTS), fb.Input(4)
    h = fb.Activation("relu")(fb.Dense(UNITS)(x) + fb.Dense(UNITS, "tanh")(z))
    settings: dict[str, Any] = {"loss": "cross_entropy", "optimizer": fb.SGD(0.05), "dtype": dtype, "seed": 3}
    return fb.Model([x, z], fb.Dense(CLASSES)(h), **settings)


NETS: dict[str, Callable[[str], Any]] = {
    "relu": lambda dtype: sequential(fb.Dense(UNITS, "relu"), dtype=dtype),
    "no_bias": lambda dtype: sequential(fb.Dense(UNITS, "tanh", bias=False), fb.Dense(40, "relu"), dtype=dtype),
    "slopes_kept": lambda dtype: sequential(fb.Dense(UNITS, "gelu"), fb.Dense(17, "gelu"), dtype=dtype),
    "activation_apart": lambda dtype: sequential(fb.Dense(UNITS), fb.Activation("silu"), fb.Dropout(0.3), dtype=dtype),
    "rows_mixed": lambda dtype: sequential(fb.Dense(2 * UNITS, "softmax"), dtype=dtype),
    "batch_norm": lambda dtype: sequential(fb.Dense(UNITS), fb.BatchNorm(), fb.Activation("relu"), dtype=dtype),
    "adam": lambda dtype: sequential(fb.Dense(UNITS, "relu"), dtype=dtype, optimizer=fb.Adam(0.01, clip_norm=0.5)),
    "gathered": lambda dtype: sequential(fb.Dense(2 * UNITS, "relu"), dtype=dtype, optimizer=fb.AdamW(0.01, accumulate=2)),
    "uneven": lambda dtype: sequential(fb.Dense(200, "relu"), fb.Dense(150, "relu"), dtype=dtype),
    "rows_of_4096_bytes": lambda dtype: sequential(fb.Dense(UNITS, "relu"), inputs=1024, dtype=dtype),
    "frozen": frozen,
    "graph": graph,
}


def trained(net: Any, X: Any, y: Array, rows: int, how: str, threads: int) -> tuple[list[float], Array]:
    """Losses and parameters after STEPS steps with `rows` rows each."""
    fb.set_num_threads(threads)
    assert net.plan.operations(rows if how == "train_step" else len(y)) > WORTH_WAKING
    if how == "fit":
        losses = net.fit(X, y, epochs=1, batch_size=rows).loss
    else:
        losses = [net.train_step(X[r : r + rows], y[r : r + rows]) for r in range(0, len(y), rows)]
    return losses, net.params.copy()


def compare(make: Callable[[], Any], X: Any, y: Array, rows: int, how: str = "fit") -> None:
    losses, params = trained(make(), X, y, rows, how, 1)
    assert np.isfinite(losses).all() and params.any()
    for threads in THREADS:
        again, same = trained(make(), X, y, rows, how, threads)
        assert again == losses, threads
        assert_same_bits(same, params, threads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NETS)
def test_nets(name: str, isa: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_ISA", isa)
    inputs = 1024 if name == "rows_of_4096_bytes" else INPUTS
    for rows in (3, 13, 40):
        X, y = numbers(STEPS * rows, inputs, dtype=dtype), np.abs(integers(STEPS * rows, most=CLASSES - 1))
        both = [X, numbers(STEPS * rows, 4, dtype=dtype)] if name == "graph" else X
        compare(lambda: NETS[name](dtype), both, y, rows)


@pytest.mark.parametrize("how", ["fit", "train_step"])
def test_inputs_that_are_copied_or_in_any_order(how: str) -> None:
    rows = 40
    X, y = numbers(STEPS * rows, 2 * INPUTS, dtype="float32"), np.abs(integers(STEPS * rows, most=CLASSES - 1))
    left = X[:, :INPUTS]
    for view in (left, X[:, ::2], X[::-1, INPUTS:], left.astype(np.float64), np.asfortranarray(left)):
        compare(lambda: sequential(fb.Dense(UNITS, "relu")), view, y, rows, how)


def test_a_bad_label_leaves_everything_as_it_was() -> None:
    fb.set_num_threads(2)
    net = sequential(fb.Dense(UNITS, "relu"))
    X, y = numbers(40, INPUTS, dtype="float32"), np.zeros(40, int)
    assert net.plan.operations(40) > WORTH_WAKING
    net.train_step(X, y)
    before = net.params.copy()
    with pytest.raises(ValueError, match="y"):
        net.train_step(X, np.full(40, CLASSES))
    assert_same_bits(net.params, before)
    assert np.isfinite(net.train_step(X, y))
