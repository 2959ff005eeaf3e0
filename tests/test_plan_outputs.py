"""Several outputs, weights of rows, frozen gates: what of the loss arrives where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bounds import Rounding
from cases import DTYPES, Array, assert_same_bits, integers, numbers
from gate_cases import data, everything
from graphs import dense, node

import fastbp as fb
from fastbp.graph import Node, Objective, compile_graph

U = Rounding("float64")
HEADS = [Node("input", (), 3), dense(0, 4, "tanh"), dense(1, 2), dense(1, 2), node("add", 2, 3, activation="sigmoid")]


def heads(outputs: list[int], weights: list[float], optimizer: Any = None, losses: list[str] | None = None) -> Any:
    """Outputs 2 and 3 also feed 4."""
    losses = losses or ["squared_error"] * len(outputs)
    objectives = [Objective(loss, weight=w) for loss, w in zip(losses, weights, strict=True)]
    optimizer = optimizer or fb.SGD(0.5)
    plan = compile_graph(HEADS, outputs, dtype="float64", losses=objectives, optimizer=optimizer.row)
    plan.set_hyper(*optimizer.hyper)
    plan.params()[:] = numbers(plan.parameters)
    return plan


X = numbers(8, 3, seed=1)
T = [numbers(8, 2, seed=s) for s in (2, 3, 4)]


def step(plan: Any, x: Array, y: Any, weights: Array | None = None) -> tuple[float, Array]:
    """E and dE/dW, from what SGD of rate 0.5 has done to W."""
    before = plan.params().copy()
    E = plan.train_step(x, y, weights)
    return E, 2 * (before - plan.params())


def close(got: Any, wanted: Any, terms: int = 200) -> bool:
    """Sums of terms below 4: a tanh, a sigmoid, 8 rows, 5 columns, forward and back."""
    return bool(np.all(np.abs(np.asarray(got) - np.asarray(wanted)) <= 4 * U.gamma(terms)))


def test_losses_of_several_outputs_add_up_with_their_weights() -> None:
    E, dW = step(heads([2, 3, 4], [1.0, 0.25, 3.0]), X, T)
    parts = [step(heads([k, 4] if k < 4 else [4], [1.0, 0.0][: 1 + (k < 4)]), X, [T[k - 2], T[2]][: 1 + (k < 4)]) for k in (2, 3)]
    last = compile_graph(HEADS, dtype="float64", losses=[Objective("squared_error")], optimizer="sgd")
    last.set_hyper(0.5)
    last.params()[:] = numbers(last.parameters)
    parts.append(step(last, X, T[2]))
    assert close(E, sum(w * part[0] for w, part in zip((1.0, 0.25, 3.0), parts, strict=True)))
    assert close(dW, sum(w * part[1] for w, part in zip((1.0, 0.25, 3.0), parts, strict=True)))


def test_an_output_of_weight_0_changes_nothing() -> None:
    one, other = heads([4], [1.0]), heads([2, 4], [0.0, 1.0])
    for _ in range(3):
        assert one.train_step(X, T[2]) == other.train_step(X, [T[0], T[2]])
        np.testing.assert_array_equal(one.params(), other.params())


def test_by_hand_as_in_a_step() -> None:
    """8 rows: 1/m is a power of 2, and nothing is rounded."""
    steps, hand = heads([2, 3, 4], [1.0, 0.5, 2.0]), heads([2, 3, 4], [1.0, 0.5, 2.0])
    for _ in range(2):
        steps.train_step(X, T)
        outs = hand.forward(X)
        hand.backward([w * (o - t) / 8 for w, o, t in zip((1.0, 0.5, 2.0), outs, T, strict=True)], False)
        hand.update()
        assert_same_bits(steps.params().copy(), hand.params().copy())


def test_values_and_deltas_that_are_kept() -> None:
    plan = heads([2, 3, 4], [1.0, 1.0, 1.0])
    with pytest.raises(RuntimeError, match="forward"):
        plan.value(1)
    outs = plan.forward(X)
    for k, out in zip((2, 3, 4), outs, strict=True):
        assert_same_bits(plan.value(k), out)
    assert_same_bits(plan.value(0), X)
    with pytest.raises(RuntimeError, match="forward"):
        plan.delta(4)
    ones = np.ones((8, 2))
    dx = plan.backward([ones] * 3, True)[0]
    assert_same_bits(plan.delta(0), dx)
    delta4 = ones * (outs[2] * (1 - outs[2]))
    np.testing.assert_array_equal(plan.delta(4), delta4)
    np.testing.assert_array_equal(plan.delta(2), ones + delta4)
    plan.backward([ones] * 3, False)
    with pytest.raises(RuntimeError, match="forward"):
        plan.delta(0)
    assert plan.delta(1).shape == (8, 4)
    plan.train_step(X, T)
    with pytest.raises(RuntimeError, match="forward"):
        plan.value(1)


# Errors -----------------------------------------------------------------------------------------------------------------


def test_a_bad_target_of_any_output_changes_nothing() -> None:
    (x, y), plan, twin = data(9), everything(), everything()
    label, number = y[1].copy(), y[0].copy()
    label[4], number[5, 1] = 4, np.inf
    for bad, match in (
        ([y[0], label], r"y\[1\] must hold class labels from 0 to 3, got 4 in row 4"),
        ([number, y[1]], r"y\[0\] must be finite"),
        ([y[0]], "y must be a list of 2 arrays"),
        ([y[0], y[1][:8]], r"y\[1\] must have 9 rows"),
        (y[0], "y must be a list of 2 arrays, got ndarray"),
    ):
        for call in (lambda bad=bad: plan.train_step(x, bad), lambda bad=bad: plan.train_epoch(x, bad, None, 9)):
            with pytest.raises(ValueError, match=match):
                call()
    for bad, match in (([x[0]], "x must be a list"), ([x[0], x[1][:5]], r"x\[1\] must have as many rows as x\[0\], 9")):
        with pytest.raises(ValueError, match=match):
            plan.train_step(bad, y)
        with pytest.raises(ValueError, match=match):
            plan.forward(bad)
    assert (plan.draws, plan.updates) == (0, 0)
    for p in (plan, twin):
        p.train_step(x, y)
    for what in ("params", "state"):
        assert_same_bits(getattr(plan, what)().copy(), getattr(twin, what)().copy())


def test_nodes_asked_for() -> None:
    plan = heads([2, 4], [1.0, 1.0])
    a, b, c = plan.predict(X, nodes=[4, 0, 4])
    assert_same_bits(a, c)
    assert_same_bits(b, X)
    assert plan.predict(X, nodes=[]) == []
    for nodes in ([5], [-1], [1, 7]):
        with pytest.raises(ValueError, match="node must be from 0 to 4"):
            plan.predict(X, nodes=nodes)
    assert [o.shape for o in plan.predict(X[:0])] == [(0, 2), (0, 2)]


# Weights of rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("losses", [["squared_error"] * 3, ["cross_entropy", "squared_error", "squared_error"]])
def test_weights_are_repetitions(losses: list[str]) -> None:
    """A row of weight 3 is three rows, one of weight 0 is none; powers of 2 in the sum."""
    weights = np.array([1.0, 3, 0, 2, 0, 0, 1, 1])
    repeated = np.repeat(np.arange(8), weights.astype(int))
    y = [T[0] if losses[0] == "squared_error" else np.abs(integers(8, most=1)), *T[1:]]
    E, dW = step(heads([2, 3, 4], [1.0, 0.5, 2.0], losses=losses), X, y, weights)
    E2, dW2 = step(heads([2, 3, 4], [1.0, 0.5, 2.0], losses=losses), X[repeated], [t[repeated] for t in y])
    assert close(E, E2) and close(dW, dW2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_1_change_no_bit(dtype: str) -> None:
    one, other = everything(dtype), everything(dtype)
    x, y = data(50, dtype)
    assert one.train_step(x, y) == other.train_step(x, y, np.ones(50))
    assert one.train_epoch(x, y, None, 20) == other.train_epoch(x, y, None, 20, np.ones(50))
    assert_same_bits(one.params().copy(), other.params().copy())


def test_weights_that_are_all_0() -> None:
    plan = heads([2, 3, 4], [1.0, 0.5, 2.0])
    E, dW = step(plan, X, T, np.zeros(8))
    assert E == 0
    np.testing.assert_array_equal(dW, 0)
    weights = np.array([0.0] * 4 + [1.0] * 4)
    twin = heads([2, 3, 4], [1.0, 0.5, 2.0])
    assert plan.train_epoch(X, T, None, 4, weights) == twin.train_epoch(X[4:], [t[4:] for t in T], None, 4)
    np.testing.assert_array_equal(plan.params(), twin.params())


# Frozen gates -------------------------------------------------------------------------------------------------------------

OPTIMIZERS = [
    fb.SGD(0.1),
    fb.SGD(0.1, momentum=0.9, l2=0.1),
    fb.SGD(0.1, weight_decay=0.5, decay_biases=True),
    fb.Adam(0.1),
    fb.AdamW(0.1, weight_decay=0.5, decay_biases=True),
    fb.RMSprop(0.1, clip_norm=0.1),
    fb.Adagrad(0.1, accumulate=2),
]


def trained(plan: Any, optimizer: Any, frozen: list[int]) -> tuple[Array, Array]:
    """Parameters before and after some steps and an update by hand."""
    plan.set_hyper(*optimizer.hyper)
    for gate in frozen:
        plan.set_trainable(gate, False)
    before, (x, y) = plan.params().copy(), data(12)
    for _ in range(2):
        plan.train_step(x, y)
    plan.forward(x)
    plan.backward([y[0], np.ones((12, 4))], False)
    plan.update()
    return before, plan.params().copy()


def parameters_of(plan: Any, gates: list[int]) -> Array:
    """Which parameters belong to one of the gates."""
    starts = [plan.offset(i) for i in range(plan.nodes)] + [plan.parameters]
    mine = np.zeros(plan.parameters, bool)
    for gate in gates:
        mine[starts[gate] : starts[gate + 1]] = True
    return mine


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("frozen", [[3], [5], [6, 7], [10, 13], [3, 5, 6], [24]], ids=str)
@pytest.mark.parametrize("units", [20, 140], ids=["rows", "panels"])
def test_a_frozen_gate_stays_and_hands_the_error_on(frozen: list[int], optimizer: Any, units: int) -> None:
    plan = everything(optimizer=optimizer.row, units=units)
    before, after = trained(plan, optimizer, frozen)
    mine = parameters_of(plan, frozen)
    assert mine.any()
    assert_same_bits(after[mine], before[mine])
    np.testing.assert_array_equal(plan.grads()[mine], 0)
    assert (after[~mine] != before[~mine]).mean() > 1 / 2, "the others are trained"


def test_frozen_gates_change_no_gradient_of_others() -> None:
    (x, y), plan, free = data(12), everything(), everything()
    frozen = [5, 6, 10]
    for gate in frozen:
        plan.set_trainable(gate, False)
    found = []
    for p in (plan, free):
        p.forward(x)
        found.append((p.backward([y[0], np.ones((12, 4))], True), p.grads().copy()))
    mine = parameters_of(plan, frozen)
    assert_same_bits(found[0][1][~mine], found[1][1][~mine])
    for one, other in zip(found[0][0], found[1][0], strict=True):
        assert_same_bits(one, other)


def test_freezing_and_back() -> None:
    """Gradients are 0 from when a gate is frozen; one that is trained again needs a new backward for its delta."""
    (x, y), plan, free = data(12), everything(), everything()
    dout = [y[0], np.ones((12, 4))]
    for p in (plan, free):
        p.forward(x)
        p.backward(dout, False)
    for gate in (3, 5):
        plan.set_trainable(gate, False)
        np.testing.assert_array_equal(plan.grads()[parameters_of(plan, [gate])], 0)
    plan.backward(dout, False)
    with pytest.raises(RuntimeError):
        plan.delta(3)
    for gate in (3, 5):
        plan.set_trainable(gate, True)
    with pytest.raises(RuntimeError):
        plan.delta(3)
    plan.backward(dout, False)
    assert_same_bits(plan.grads().copy(), free.grads().copy())
    assert_same_bits(plan.delta(3), free.delta(3))
    assert plan.operations(1) == free.operations(1)


def test_all_frozen() -> None:
    (x, y), plan = data(12), everything()
    for gate in range(plan.nodes):
        plan.set_trainable(gate, False)
    before = plan.params().copy()
    free = everything()
    assert plan.train_step(x, y) == free.train_step(x, y)
    assert_same_bits(plan.params().copy(), before)
    assert_same_bits(plan.state().copy(), free.state().copy())  # statistics are no parameters
