"""Dropout: word r U + j of the Philox stream (seed, 16 + k, draws) decides about element (r, j) of dropout number k."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, ISAS, Array, assert_same_bits, numbers
from graphs import dense, node

import fastbp as fb
from fastbp import rng
from fastbp.graph import Node, Objective, compile_graph

WIDTHS = (1, 3, 4, 5, 16, 63, 64, 65, 66, 200)


def factors(rate: float, rows: int, width: int, dtype: str, *, seed: int = 0, number: int = 0, draws: int = 0) -> Array:
    """0, or 1 / (1 - rate) rounded once to the dtype."""
    words = rng.philox(seed, rng.STREAM_DROPOUT + number, draws, rows * width).reshape(rows, width)
    return np.where(words >= np.floor(rate * 2.0**32), 1 / (1 - rate), 0).astype(dtype)


def alone(rate: float, width: int, dtype: str = "float64", isa: str | None = None, seed: int = 0) -> Any:
    return compile_graph([Node("input", (), width), node("dropout", 0, settings=(rate,))], dtype=dtype, isa=isa, seed=seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1 - 2.0**-32, 1 - 2.0**-53])
def test_masks_are_those_of_the_stream(rate: float, dtype: str) -> None:
    for width, isa in itertools.product(WIDTHS, ISAS):
        x, dout = numbers(11, width, dtype=dtype), numbers(11, width, seed=1, dtype=dtype)
        plan = alone(rate, width, dtype, isa, seed=2**63 + 5)
        for draws in range(2):
            factor = factors(rate, 11, width, dtype, seed=2**63 + 5, draws=draws)
            assert_same_bits(plan.forward(x), x * factor, (isa, width))
            assert_same_bits(plan.backward(dout, True)[0], dout * factor, (isa, width))


def test_each_dropout_has_a_stream() -> None:
    """Counted in topological order; an activation and another gate between change nothing."""
    nodes = [
        Node("input", (), 7),
        node("dropout", 0, settings=(0.5,)),
        dense(1, 7),
        node("dropout", 2, settings=(0.25,), activation="tanh"),
        node("dropout", 0, settings=(0.5,)),
        node("concatenate", 1, 3, 4),
    ]
    plan = compile_graph(nodes, dtype="float64", seed=3)
    plan.params()[:56] = np.append(np.eye(7).reshape(-1), np.zeros(7))
    x = np.ones((5, 7))
    first, second, third = (factors(rate, 5, 7, "float64", seed=3, number=k) for k, rate in enumerate((0.5, 0.25, 0.5)))
    out = plan.forward(x)
    assert_same_bits(out[:, :7], first)
    assert_same_bits(out[:, 14:], third)
    np.testing.assert_array_equal(out[:, 7:14] == 0, first * second == 0)
    assert (first != third).any()


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_thread_changes_a_mask(dtype: str) -> None:
    x = np.ones((5000, 65))
    results = []
    for threads in (1, 2, 3, 8):
        fb.set_num_threads(threads)
        plan = alone(0.3, 65, dtype)
        results.append(plan.forward(x))
    for result in results:
        assert_same_bits(result, factors(0.3, 5000, 65, dtype))


def network(rate: float = 0.5, loss: Any = "squared_error") -> Any:
    nodes = [Node("input", (), 4), dense(0, 6, "tanh"), node("dropout", 1, settings=(rate,)), dense(2, 3)]
    plan = compile_graph(nodes, dtype="float64", losses=[Objective(loss)], optimizer="sgd", seed=7)
    plan.set_hyper(0.1)
    plan.params()[:] = numbers(plan.parameters)
    return plan


X, T = numbers(10, 4, seed=1), numbers(10, 3, seed=2)


def test_draws_count_forward_passes_in_training_mode_and_steps() -> None:
    plan = network()
    bad = T.copy()
    bad[0, 0] = np.inf
    counts = []
    for call in (
        lambda: plan.forward(X),
        lambda: plan.forward(X, False),
        lambda: plan.predict(X),
        lambda: plan.train_step(X, T),
        lambda: plan.train_epoch(X, T, None, 3),
        lambda: plan.backward(T, True) if plan.forward(X) is not None else None,
    ):
        call()
        counts.append(plan.draws)
    assert counts == [1, 1, 1, 2, 6, 7]
    with pytest.raises(ValueError, match="y must be finite"):
        plan.train_step(X, bad)
    with pytest.raises(ValueError, match="x must have shape"):
        plan.forward(X[:, :2])
    assert plan.draws == 7


def test_a_step_is_forward_backward_update_with_the_same_mask() -> None:
    step, hand = network(), network()
    x, t = X[:8], T[:8]
    for _ in range(3):
        step.train_step(x, t)
        out = hand.forward(x)
        hand.backward((out - t) / 8, False)  # a power of 2: no rounding
        hand.update()
        assert_same_bits(step.params().copy(), hand.params().copy())
    assert step.draws == hand.draws == 3


def test_epochs_and_steps_draw_alike() -> None:
    epochs, steps = network(), network()
    order = np.random.default_rng(0).permutation(10)
    epochs.train_epoch(X, T, order, 4)
    for batch in np.split(order, [4, 8]):
        steps.train_step(X[batch], T[batch])
    assert_same_bits(epochs.params().copy(), steps.params().copy())


def test_draws_can_be_put_back() -> None:
    """A run that goes on from saved parameters and draws gives the same bits."""
    plan, twin = network(), network()
    for _ in range(5):
        plan.train_step(X, T)
    saved, draws = plan.params().copy(), plan.draws
    plan.train_step(X, T)
    twin.params()[:], twin.draws = saved, draws
    twin.train_step(X, T)
    assert_same_bits(plan.params().copy(), twin.params().copy())


def test_evaluation_drops_nothing() -> None:
    plan = network()
    assert_same_bits(plan.forward(X, False), plan.predict(X))
    np.testing.assert_array_equal(plan.value(2), plan.value(1))
    dx = plan.backward(T, True)[0]
    clean = network(rate=0.0)
    clean.forward(X, False)
    assert_same_bits(dx, clean.backward(T, True)[0])
    assert_same_bits(plan.grads().copy(), clean.grads().copy())


def test_nan_is_not_dropped() -> None:
    """0 times NaN is NaN: nothing skips a factor."""
    x = np.full((8, 8), np.nan)
    assert np.isnan(alone(0.9, 8).forward(x)).all()


def test_shares_kept_are_those_asked_for() -> None:
    """Of n words a share p is kept: within 6 standard deviations, which 1 of 10^9 seeds misses."""
    for rate in (0.1, 0.5, 0.8):
        kept = alone(rate, 100, seed=1).forward(np.ones((1000, 100))) != 0
        assert abs(kept.mean() - (1 - rate)) < 6 * np.sqrt(rate * (1 - rate) / kept.size)
