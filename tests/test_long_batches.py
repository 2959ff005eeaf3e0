"""Long batches go through both phases part by part: the bits are those of steps by hand, which take them whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, assert_same_bits, integers, numbers

import fastbp as fb

CUT = 4096  # rows of a chain, most
ROWS = (1023, 1024, 1500, 2048, 2049, 3000, CUT, CUT + 1, 2 * CUT, 2 * CUT + 600)
OPTIMIZERS: dict[str, Callable[[], fb.Optimizer]] = {
    "sgd": lambda: fb.SGD(0.1),
    "adam": lambda: fb.Adam(0.01, l2=0.1),
    "clipped": lambda: fb.SGD(0.1, momentum=0.9, clip_norm=0.05),
    "accumulated": lambda: fb.SGD(0.1, accumulate=2),
}

pytestmark = pytest.mark.usefixtures("keep_threads")


def plain(dtype: str, optimizer: fb.Optimizer) -> Any:
    """Weights as they lie, in panels, the last columns of panels, and a head of few columns."""
    layers = [fb.Input(37), fb.Dense(150, "relu"), fb.Dropout(0.3), fb.Dense(53, "gelu"), fb.Dense(7)]
    return fb.Sequential(layers, "cross_entropy", optimizer, dtype=dtype, seed=0)


def normed(dtype: str, optimizer: fb.Optimizer) -> Any:
    """Norms of rows, whose gains and shifts are sums over the batch as well; the second has no shift."""
    layers = [fb.Input(37), fb.Dense(150, "relu"), fb.LayerNorm(), fb.Dense(53, "tanh"), fb.RMSNorm(), fb.Dense(7)]
    return fb.Sequential(layers, "cross_entropy", optimizer, dtype=dtype, seed=0)


def mixed(dtype: str, optimizer: fb.Optimizer) -> Any:
    """A batch norm, which takes the batch as a whole; so much work that it may be given up half-way."""
    layers = [fb.Input(37), fb.Dense(256, "relu"), fb.BatchNorm(), fb.Dense(200, "tanh"), fb.Dense(7)]
    return fb.Sequential(layers, "cross_entropy", optimizer, dtype=dtype, seed=0)


def tabled(dtype: str, optimizer: fb.Optimizer) -> Any:
    """Two columns of categories, most of which come up in every part of a batch, and some of which never do."""
    x = fb.Input(37)
    city = fb.Embedding(100, 5)(x[:, :2])
    h = fb.Dense(60, "relu")(fb.concatenate([x[:, 2:], city]))
    return fb.Model(x, fb.Dense(7)(h), "cross_entropy", optimizer, dtype=dtype, seed=0)


def frozen(dtype: str, optimizer: fb.Optimizer) -> Any:
    """A skip connection, two outputs, and a layer that is not trained."""
    x = fb.Input(37)
    h = fb.Dense(40, "tanh")(x)
    still = fb.Dense(40, "relu", bias=False)
    h = h + still(h)
    still.trainable = False
    outputs, losses = [fb.Dense(7)(h), fb.Dense(1)(h)], ["cross_entropy", "squared_error"]
    return fb.Model(x, outputs, losses, optimizer, dtype=dtype, seed=0, loss_weights=[1.0, 0.5])


def data(rows: int, dtype: str) -> tuple[Any, Any, Any]:
    x, labels = numbers(rows, 37, dtype=dtype), np.abs(integers(rows, most=6))
    x[:, :2] = np.abs(integers(rows, 2, seed=2, most=95))
    return x, labels, numbers(rows, 1, seed=1, dtype=dtype)


def by_hand(net: Any, x: Any, y: Any, weights: Any) -> float:
    out = net.forward(x)
    loss, dout = fb.losses.CrossEntropy()(out, y, sample_weight=weights)
    net.backward(dout)
    net.update()
    return float(loss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [plain, normed, mixed, tabled])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "accumulated"])
def test_a_step_is_a_step_by_hand(name: str, make: Callable[..., Any], dtype: str) -> None:
    for threads in (1, 2):
        fb.set_num_threads(threads)
        net, twin = make(dtype, OPTIMIZERS[name]()), make(dtype, OPTIMIZERS[name]())
        for step, rows in enumerate(ROWS):
            x, y, _ = data(rows, dtype)
            weights = np.random.default_rng(0).random(rows) if step % 2 else None
            assert net.train_step(x, y, weights) == by_hand(twin, x, y, weights), rows
            assert_same_bits(net.params, twin.params, rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [plain, normed, tabled, frozen])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_number_of_threads(name: str, make: Callable[..., Any], dtype: str) -> None:
    found = []
    for threads in (1, 2, 3):
        fb.set_num_threads(threads)
        net = make(dtype, OPTIMIZERS[name]())
        before = net.params.copy()
        losses = []
        for rows in (2 * CUT + 1500, CUT):
            x, labels, values = data(rows, dtype)
            y = [labels, values] if make is frozen else labels
            losses += [net.train_step(x, y) for _ in range(4)]
        losses += net.fit(x, y, epochs=1, batch_size=1500).loss
        assert (net.params != before).any() and np.isfinite(net.params).all()
        found.append((losses, net.params.tobytes()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("make", [plain, normed, tabled])
def test_more_rows_at_a_time_than_a_chain_has(make: Callable[..., Any]) -> None:
    """With 16 threads and more, whole cuts go through both phases together."""
    x, y, _ = data(4 * CUT + 1700, "float32")
    nets = []
    for threads in (1, 16, 17):
        fb.set_num_threads(threads)
        net = make("float32", fb.SGD(0.1, momentum=0.9))
        nets.append(([net.train_step(x, y) for _ in range(2)], net.params.tobytes()))
    assert nets[0] == nets[1] == nets[2]


@pytest.mark.parametrize("make", [plain, normed, tabled])
@pytest.mark.parametrize("name", ["clipped", "accumulated"])
def test_what_was_gathered_stays_when_a_late_row_is_bad(name: str, make: Callable[..., Any]) -> None:
    rows = 2 * CUT + 600
    x, y, _ = data(rows, "float32")
    bad = y.copy()
    bad[-1] = 7
    net, twin = make("float32", OPTIMIZERS[name]()), make("float32", OPTIMIZERS[name]())
    net.train_step(x, y)
    twin.train_step(x, y)
    before = net.grads.copy()
    assert (before != 0).any()
    with pytest.raises(ValueError, match=f"got 7 in row {rows - 1}"):
        net.train_step(x, bad)
    assert_same_bits(net.grads, before)
    assert net.train_step(x, y) == twin.train_step(x, y)
    assert_same_bits(net.params, twin.params)


@pytest.mark.parametrize("row", [0, 1499, 2999])
def test_a_bad_row_anywhere_changes_nothing(row: int) -> None:
    net = plain("float32", fb.Adam(0.01))
    x, y, _ = data(3000, "float32")
    net.train_step(x, y)
    before, updates = net.params.copy(), net.plan.updates
    bad = y.copy()
    bad[row] = 7
    with pytest.raises(ValueError, match=f"got 7 in row {row}"):
        net.train_step(x, bad)
    assert_same_bits(net.params, before)
    assert net.plan.updates == updates
    twin = plain("float32", fb.Adam(0.01))
    twin.train_step(x, y)
    assert net.train_step(x, y) == twin.train_step(x, y)
    assert_same_bits(net.params, twin.params)


def test_short_batches_after_long_ones() -> None:
    net, twin = plain("float32", fb.SGD(0.1)), plain("float32", fb.SGD(0.1))
    x, y, _ = data(2048, "float32")
    for rows in (2048, 10, 1100, 2048):
        assert net.train_step(x[:rows], y[:rows]) == by_hand(twin, x[:rows], y[:rows], None)
    assert_same_bits(net.params, twin.params)
