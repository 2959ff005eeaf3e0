"""Where phase B reads copies, dZ in panels and X transposed: gradients of whole numbers, without tolerance, and the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import DTYPES, FMA_ISAS, ISAS, Array, assert_same_bits, integers, needs_fma, numbers

import fastbp as fb
from fastbp.graph import Node, compile_graph

INPUTS = 205  # rows of W: two units, of 192 and of 13
MEGABYTE = 1 << 20  # from which dZ is packed
MOST_PACKED = 1024  # rows
BLOCK = 512  # rows of a chain of dW between two stops

pytestmark = pytest.mark.usefixtures("keep_threads")
kernels = pytest.mark.parametrize(
    "isa, dtype", [pytest.param(isa, dtype, id=f"{isa}-{dtype}") for isa in ISAS for dtype in DTYPES]
)


def padded(units: int, dtype: str) -> int:
    """Bytes from one row of dZ to the next."""
    line = -(-units * np.dtype(dtype).itemsize // 64) * 64
    return line + 64 if line % 1024 == 0 else line


def plan_of(units: int, dtype: str, isa: str | None = None, bias: int = 1) -> Any:
    nodes = [Node("input", (), INPUTS), Node("dense", (0,), units, (bias,)), Node("dense", (1,), 3, (bias,))]
    return compile_graph(nodes, dtype=dtype, isa=isa)


def check(plan: Any, units: int, rows: int, dtype: str, bias: int = 1) -> None:
    """dW of both layers, of whole numbers that either dtype holds, as do their sums."""
    shapes = ((rows, INPUTS), (rows, 3), (INPUTS + bias, units), (units + bias, 3))
    x, d, w, v = (integers(*shape, most=2, seed=seed).astype(float) for seed, shape in enumerate(shapes))
    ones = np.ones((rows, bias))
    h = np.hstack([x, ones]) @ w
    assert np.abs(h).max() * 2 * rows < 2 ** (np.finfo(dtype).nmant + 1)
    plan.params()[:] = np.concatenate([w.ravel(), v.ravel()])
    plan.forward(x.astype(dtype))
    plan.backward(d.astype(dtype), False)
    dw = np.hstack([x, ones]).T @ (d @ v[:units].T)
    dv = np.hstack([h, ones]).T @ d
    np.testing.assert_array_equal(plan.grads(), np.concatenate([dw.ravel(), dv.ravel()]))


@kernels
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("units", [130, 259, 517])
def test_gradients_are_exact(units: int, threads: int, isa: str, dtype: str) -> None:
    """Few rows and many, on both sides of every limit, in a workspace that has grown to the largest."""
    fb.set_num_threads(threads)
    plan = plan_of(units, dtype, isa)
    limit = -(-MEGABYTE // padded(units, dtype))
    for rows in sorted({5, 33, BLOCK, BLOCK + 1, limit - 1, limit, MOST_PACKED, MOST_PACKED + 1}):
        check(plan, units, rows, dtype)
    for rows in (limit + 7, 33, MOST_PACKED):
        check(plan, units, rows, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_bias(dtype: str) -> None:
    check(plan_of(517, dtype, bias=0), 517, 601, dtype, bias=0)


@pytest.mark.parametrize("isa", ISAS)
def test_threads_that_came_later(isa: str) -> None:
    """There is room to transpose for as many threads as there were when the batch grew; others do without."""
    fb.set_num_threads(1)
    plan = plan_of(517, "float32", isa)
    check(plan, 517, 700, "float32")
    fb.set_num_threads(3)
    check(plan, 517, 700, "float32")


def trained(net: Any, x: Array, y: Array, rows: tuple[int, ...]) -> tuple[list[float], Array]:
    losses = [float(net.train_step(x[:n], y[:n])) for n in rows]
    return losses, net.params.copy()


def residual(dtype: str) -> Any:
    """Gradients that lie where others do, a layer that is not trained, two products of the same X."""
    x = fb.Input(40)
    h = fb.Dense(300, "relu")(x)
    still = fb.Dense(300, "tanh")
    h = h + still(h)
    still.trainable = False
    h = h + fb.Dense(300)(fb.LayerNorm()(h))
    return fb.Model(x, fb.Dense(5)(h) + fb.Dense(5)(h), "cross_entropy", fb.Adam(0.01), dtype=dtype, seed=1)


def plain(dtype: str) -> Any:
    layers = [fb.Input(40), fb.Dense(530, "relu"), fb.Dense(300, "gelu"), fb.Dense(5)]
    return fb.Sequential(layers, "cross_entropy", fb.SGD(0.05), dtype=dtype, seed=1)


@needs_fma
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [plain, residual])
def test_the_same_bits(make: Any, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On every ISA, with any threads, with a view of the parameters held or not."""
    x, y = numbers(1100, 40, dtype=dtype), np.abs(integers(1100, most=4))
    rows, found = (1024, 100, 1000, 1100, 513), []
    for isa in FMA_ISAS:
        monkeypatch.setenv("FASTBP_ISA", isa)
        for threads in (1, 2, 3):
            fb.set_num_threads(threads)
            net = make(dtype)
            view = net.params if threads == 2 else None
            found.append((isa, threads, *trained(net, x, y, rows)))
            del view
    for isa, threads, losses, params in found[1:]:
        assert losses == found[0][2], (isa, threads)
        assert_same_bits(params, found[0][3], (isa, threads))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_frozen_and_thawed(dtype: str) -> None:
    """dZ of a frozen layer is not packed; that of the step after it is that step's."""
    x, y = numbers(900, 40, dtype=dtype), np.abs(integers(900, most=4))
    net, twin = plain(dtype), plain(dtype)
    twin.forward(x)
    for frozen in (False, True, False):
        net.layers[1].trainable = twin.layers[1].trainable = not frozen
        net.train_step(x, y)
        out = twin.forward(x)
        twin.backward(fb.losses.CrossEntropy()(out, y)[1])
        twin.update()
        assert_same_bits(net.params, twin.params, frozen)
