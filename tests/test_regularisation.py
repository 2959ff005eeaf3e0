"""What can be asked of all optimizers: clipping, penalties, weight decay, limits to norms."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bounds import Rounding
from cases import FMA_ISAS, Array, around, assert_same_bits, integers, numbers, two_fma_isas
from cases import network as small_network
from optimizing import (
    EXACT,
    NARROW,
    PACKED,
    SIZE,
    THREADS,
    Spec,
    bias_positions,
    by_hand,
    check_by_hand,
    dtypes,
    isas,
    made,
    one_step,
    options,
    rows,
    specs,
    with_options,
)
from test_against_reference import OPTIMIZER, check, network

import fastbp as fb
from fastbp.graph import Node, compile_graph

pytestmark = pytest.mark.usefixtures("keep_threads")

# All of them ----------------------------------------------------------------------------------------------------------


@options
@rows
@isas
@dtypes
def test_options_against_the_reference(dtype: str, isa: str, row: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTBP_ISA", isa)
    for spec in (NARROW, PACKED):
        check_by_hand(spec, dtype, with_options(OPTIMIZER[row], option))


@options
@rows
@dtypes
def test_options_in_training(dtype: str, row: str, option: str) -> None:
    optimizer = with_options(OPTIMIZER[row], option)
    for spec in ((17, "33 relu", "10"), (17, "150 tanh", "3")):
        check(spec, dtype, "cross_entropy", "labels", optimizer, rows=9, steps=3)


# Clipping and decay ---------------------------------------------------------------------------------------------------


def test_penalties_and_weight_decay_leave_biases_alone(library: ModuleType) -> None:
    """With no gradient, they shrink W by rate * factor * W, or sign(W); biases only if asked to."""
    for settings in ({"l2": 0.25}, {"l1": 0.25}, {"weight_decay": 0.25}):
        for biases_too in (False, True):
            W, got, biases = one_step(library, library.SGD(0.5, decay_biases=biases_too, **settings), 0 * EXACT)
            assert biases.sum() == 9
            shrinks = ~biases | biases_too
            np.testing.assert_array_equal(got, np.where(shrinks, W - 0.5 * 0.25 * (np.sign(W) if "l1" in settings else W), W))


def test_l2_goes_through_the_optimizer_and_weight_decay_does_not(library: ModuleType) -> None:
    """Of a weight without gradient, AdamW keeps 1 - rate * weight_decay; with l2, Adam moves it by the rate."""
    eps = float(np.finfo(np.float64).eps)
    W, got, _ = one_step(library, library.AdamW(0.5, weight_decay=0.125, decay_biases=True), 0 * EXACT)
    np.testing.assert_array_equal(got, W - 0.5 * 0.125 * W)
    W, got, biases = one_step(library, library.Adam(0.5, eps=1e-30, l2=0.125), 0 * EXACT)
    np.testing.assert_allclose(got[~biases], (W - 0.5 * np.sign(W))[~biases], rtol=0, atol=1000 * eps)  # see `correction`
    np.testing.assert_array_equal(got[biases], W[biases])


@pytest.mark.parametrize("factor", [2.0, 1.0, 0.5], ids=["below", "equal", "above"])
def test_clip_norm(library: ModuleType, factor: float) -> None:
    norm = float(np.sqrt(np.sum(EXACT**2)))
    W, got, _ = one_step(library, library.SGD(1.0, clip_norm=factor * norm), EXACT)
    scale = min(1.0, factor)
    bound = Rounding("float64").gamma(SIZE + 4)
    np.testing.assert_allclose(got, W - scale * EXACT, rtol=0, atol=bound * (np.abs(W) + np.abs(EXACT)).max())
    if factor >= 1:
        np.testing.assert_array_equal(got, W - EXACT)


def test_clip_value(library: ModuleType) -> None:
    W, got, _ = one_step(library, library.SGD(1.0, clip_value=0.375), EXACT)
    np.testing.assert_array_equal(got, W - np.clip(EXACT, -0.375, 0.375))


def test_clipping_comes_before_penalties(library: ModuleType) -> None:
    W, got, _ = one_step(library, library.SGD(1.0, clip_value=0.25, l2=0.5, l1=0.125, decay_biases=True), EXACT)
    step = np.clip(EXACT, -0.25, 0.25) + 0.5 * W + 0.125 * np.sign(W)
    np.testing.assert_allclose(got, W - step, rtol=0, atol=Rounding("float64").gamma(4) * (np.abs(W) + 1).max())


@pytest.mark.parametrize("value", [np.nan, np.inf])
@dtypes
def test_clipping_hides_no_nan(dtype: str, value: float, library: ModuleType) -> None:
    """By value, NaN stays where it is, and infinity becomes the limit. By norm, infinity over itself is NaN."""
    g = EXACT.astype(dtype)
    g[5] = value
    with np.errstate(invalid="ignore"):
        W, got, _ = one_step(library, library.SGD(1.0, clip_value=1.0), g, dtype)
        assert_same_bits(got, W - np.clip(g, -1, 1))
        W, got, _ = one_step(library, library.SGD(1.0, clip_norm=1.0), g, dtype)
    assert np.isnan(got).nonzero()[0].tolist() == (list(range(SIZE)) if np.isnan(value) else [5])
    if np.isinf(value):
        np.testing.assert_array_equal(np.delete(got, 5), np.delete(W, 5))


# l1 -------------------------------------------------------------------------------------------------------------------


@isas
@dtypes
@specs
def test_l1_is_the_sign(
    spec: Spec, dtype: str, isa: str, library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole numbers, so that nothing is rounded: W - (g + 2 sign(W)), and sign(0) = sign(-0) = 0."""
    monkeypatch.setenv("FASTBP_ISA", isa)
    net = network(library, spec, dtype=dtype, optimizer=library.SGD(1.0, l1=2.0))
    biases = bias_positions(net)
    W, g = (integers(net.params.size, most=3, seed=seed).astype(dtype) for seed in (1, 2))
    W[(W == 0) & (np.arange(W.size) % 2 == 0)] = -0.0
    net.params[:] = W
    (got,) = by_hand(net, [g])
    np.testing.assert_array_equal(got, W - g - np.where(biases, 0, 2 * np.sign(W)))


def test_l1_goes_through_the_optimizer(library: ModuleType) -> None:
    """Without a gradient, momentum adds up signs: the second step is 1.5 times the first."""
    net = small_network(library, optimizer=library.SGD(0.125, momentum=0.5, l1=0.125), dtype="float64")
    biases = bias_positions(net)
    net.params[:] = W = np.round(net.params * 64) + 8.0  # no sign changes, and nothing is rounded
    first, second = by_hand(net, [0 * EXACT, 0 * EXACT])
    step = np.where(biases, 0, np.sign(W) / 64)
    np.testing.assert_array_equal(first, W - step)
    np.testing.assert_array_equal(second, W - 2.5 * step)


def test_l1_hides_no_nan(library: ModuleType) -> None:
    net = small_network(library, optimizer=library.SGD(0.5, momentum=0.5, l1=0.125))
    net.params[5] = np.nan
    (got,) = by_hand(net, [0 * EXACT])
    assert np.isnan(got).nonzero()[0].tolist() == [5]
    if library is fb:
        assert np.isnan(net.plan.slot(0)).nonzero()[0].tolist() == [5]


# max_norm -------------------------------------------------------------------------------------------------------------

TALL = 4  # sums of squares go on after so many rows


def columns(inputs: int, units: int, dtype: str) -> tuple[Array, Array]:
    """Weights (inputs, units), and what becomes of them with max_norm 2.5; nothing is rounded but where nothing changes.

    Column j: 3 and 4 in two rows, of norm 5, are halved; 1.5 and 2, of norm 2.5, stay; so do small numbers, and zeros of either
    sign.
    """
    W = 1e-3 * numbers(inputs, units, dtype=dtype)
    wanted = W.copy()
    for j in range(units):
        rows = (5 * j) % inputs, (5 * j + 1 + j % max(inputs - 1, 1)) % inputs
        pair = {0: (3.0, 4.0), 1: (-1.5, 2.0), 2: None, 3: (-0.0, 0.0), 4: (-4.0, -3.0)}[j % 5]
        if pair is None or rows[0] == rows[1]:
            continue
        W[:, j] = 0
        W[rows, j] = pair
        wanted[:, j] = W[:, j] * (0.5 if j % 5 in (0, 4) else 1)
    return W, wanted


@isas
@dtypes
def test_max_norm_is_exact(dtype: str, isa: str, library: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of rows and columns at the borders of chains, registers and panels; panels and rows as they are."""
    monkeypatch.setenv("FASTBP_ISA", isa)
    shapes = [(i, 37) for i in around(TALL, most=14)] + [(7, u) for u in (*around(16, most=50), 127, 128, 129, 300)]
    for inputs, units in shapes:
        layer = library.Dense(units, inputs=inputs, bias_init=numbers(units))
        net = library.Sequential([layer], dtype=dtype, optimizer=library.SGD(0.0, max_norm=2.5))
        net.grads[:] = 1
        layer.weight, wanted = columns(inputs, units, dtype)
        layer.bias += 100.0  # is not part of the norm
        bias = layer.bias.copy()
        for _ in range(2):
            net.update()
            assert_same_bits(layer.weight, wanted, (inputs, units))
            assert_same_bits(layer.bias, bias)


@dtypes
@specs
def test_max_norm_holds_after_every_update(spec: Spec, dtype: str, library: ModuleType) -> None:
    """No norm is above max_norm but for rounding: I squares and sums, root, quotient and product, each a relative error of u or
    less."""
    net = network(library, spec, dtype=dtype, loss="cross_entropy", optimizer=library.SGD(0.5, momentum=0.9, max_norm=0.75))
    x, y = numbers(60, spec[0], dtype=dtype), np.arange(60) % 5
    reached = 0.0
    for _ in range(5):
        net.fit(x, y, batch_size=20)
        for layer in net.layers[1:]:
            norms = np.sqrt((layer.weight.astype(np.float64) ** 2).sum(axis=0))
            reached = max(reached, norms.max())
            assert norms.max() <= 0.75 * (1 + Rounding(dtype).gamma(layer.inputs + 4))
    assert reached >= 0.75 * (1 - Rounding(dtype).gamma(304))


@dtypes
def test_max_norm_comes_after_the_update(dtype: str, library: ModuleType) -> None:
    """And is the last thing: (5, 4) less a step of (0, -8) is (5, 12), of norm 13, and becomes (2.5, 6)."""
    net = library.Sequential([library.Dense(1, inputs=2)], dtype=dtype, optimizer=library.SGD(0.5, max_norm=6.5))
    net.params[:] = 5, 4, 100
    net.grads[:] = 0, -16, 0
    net.update()
    assert net.params.tolist() == [2.5, 6.0, 100.0]


@dtypes
def test_max_norm_and_numbers_that_are_not_finite(dtype: str, library: ModuleType) -> None:
    """NaN is not larger: it stays, and so does its column. An infinite weight over the norm is NaN, the others are 0."""
    net = library.Sequential([library.Dense(3, inputs=2)], dtype=dtype, optimizer=library.SGD(0.0, max_norm=1.0))
    net.params[:] = np.nan, np.inf, 0.0, 8.0, 8.0, 8.0, 0.0, 0.0, 0.0
    net.grads[:] = 0
    with np.errstate(invalid="ignore"):
        net.update()
    np.testing.assert_array_equal(net.params, [np.nan, np.nan, 0.0, 8.0, 0.0, 1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("option", [{}, {"clip_norm": 1.0, "accumulate": 2}], ids=["two_passes", "three_passes"])
@two_fma_isas
@dtypes
def test_max_norm_has_the_same_bits_in_parts(dtype: str, option: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough weights for the threads to share, in panels and not."""
    x, y = numbers(40, 700, dtype=dtype), np.arange(40) % 60
    results = []
    for isa in FMA_ISAS:
        monkeypatch.setenv("FASTBP_ISA", isa)
        for threads in THREADS:
            fb.set_num_threads(threads)
            net = made((700, "301 relu", "60 tanh", "60"), fb.SGD(0.5, momentum=0.9, max_norm=0.5, **option), dtype)
            net.fit(x, y, 2, batch_size=10)
            results.append(net.params.copy())
    for result in results[1:]:
        assert_same_bits(result, results[0])


@isas
@dtypes
def test_max_norm_is_for_dense_gates_that_are_trained(dtype: str, isa: str) -> None:
    """Weights of 2 for 4 inputs have norm 4: with max_norm 2 they become 1, in panels and not, with a bias and without."""
    nodes = [
        Node("input", (), 4),
        Node("dense", (0,), 300, (0,)),
        Node("layer_norm", (1,), 0, (1e-5,)),
        Node("slice", (2,), 4, (7,)),
        Node("matmul", (3,), 4, (), np.full((4, 4), 2.0)),
        Node("dense", (4,), 4, (1,), trainable=False),
        Node("dense", (5,), 3, (1,)),
    ]
    plan = compile_graph(nodes, dtype=dtype, optimizer="sgd", isa=isa)
    plan.set_hyper(*fb.SGD(0.0, max_norm=2.0).hyper)
    plan.params()[:] = 2
    plan.grads()[:] = 1
    plan.update()
    wanted = np.full(plan.parameters, 2, dtype)
    wanted[plan.offset(1) : plan.offset(2)] = 1
    wanted[plan.offset(6) : plan.offset(6) + 4 * 3] = 1
    assert_same_bits(plan.params(), wanted)
    plan.set_trainable(5, True)
    plan.update()
    wanted[plan.offset(5) : plan.offset(5) + 4 * 4] = 1
    assert_same_bits(plan.params(), wanted)


# The penalty ----------------------------------------------------------------------------------------------------------


def test_penalty(library: ModuleType) -> None:
    optimizer = library.Adam(l2=0.5, l1=0.25)
    assert optimizer.penalty() == optimizer.penalty([]) == 0.0
    W = integers(7, 5, most=9)
    wanted = 0.25 * float((W**2).sum()) + 0.25 * float(np.abs(W).sum())
    for given in (W, W.astype(np.float32), W.tolist(), np.asfortranarray(W), W.reshape(-1)):
        assert optimizer.penalty(given) == wanted
    assert optimizer.penalty(W, W[0], 4.0) == wanted + optimizer.penalty(W[0]) + 0.25 * 16 + 0.25 * 4
    assert library.SGD(weight_decay=1.0, max_norm=1.0).penalty(W) == 0.0
    for bad, error in (([1j], TypeError), ("a", TypeError), ([[1.0], [1.0, 2.0]], ValueError)):
        with pytest.raises(error, match="matrices must"):
            optimizer.penalty(bad)


def test_penalty_is_that_of_its_gradient(library: ModuleType) -> None:
    """With no other gradient, a step of plain descent is W - rate dP/dW; P is quadratic, so central differences are exact but
    for rounding: of P, by gamma(log2 n + 4) P each, over 2 h."""
    optimizer = library.SGD(1.0, l2=0.5, l1=0.25, decay_biases=True)
    W, got, _ = one_step(library, optimizer, 0 * EXACT)
    gamma, h = Rounding("float64").gamma, 2.0**-12
    for i in np.argsort(-np.abs(W))[:9]:
        high, low = W.copy(), W.copy()
        high[i] += h
        low[i] -= h
        slope = (optimizer.penalty(high) - optimizer.penalty(low)) / (high[i] - low[i])
        bound = gamma(int(np.log2(W.size)) + 5) * optimizer.penalty(high) / h + gamma(4) * (1 + abs(W[i]))
        assert abs(W[i] - got[i] - slope) <= bound


def test_penalty_of_many_numbers_is_close_to_the_exact_sum() -> None:
    """ceil(log2 n) sums in a row, and a product or two before and after."""
    W = numbers(1003, 17)
    exact = 0.5 * math.fsum((W * W).reshape(-1).tolist()) + math.fsum(np.abs(W).reshape(-1).tolist())
    assert abs(fb.SGD(l2=1.0, l1=1.0).penalty(W) - exact) <= Rounding("float64").gamma(math.ceil(math.log2(W.size)) + 4) * exact
