"""What optimizers keep: their slots, the count of updates, gradients that wait for others; and going on from all that."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bounds import Rounding
from cases import LABELS, X, assert_same_bits, numbers
from cases import network as small_network
from optimizing import (
    DEFAULTS,
    EXACT,
    OPTIONS,
    Spec,
    by_hand,
    dtypes,
    gradients,
    made,
    rows,
    specs,
    with_options,
)
from test_against_reference import OPTIMIZER

import fastbp as fb
from fastbp.graph import Node, compile_graph

# Accumulation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 5])
@rows
@dtypes
@specs
def test_accumulated_steps_are_one_of_the_mean_gradient(spec: Spec, dtype: str, row: str, k: int) -> None:
    fast, hand = made(spec, replace(OPTIMIZER[row], accumulate=k), dtype), made(spec, OPTIMIZER[row], dtype)
    x, y = numbers(12 * k, spec[0], dtype=dtype), np.arange(12 * k) % 5
    for update in range(2):
        before, total = hand.params.copy(), np.zeros(hand.params.size, dtype)
        for step in range(k):
            part = slice(12 * step, 12 * step + 9 + step)  # batches of different sizes count alike
            assert_same_bits(fast.params, before)
            loss, dout = fb.losses.cross_entropy(hand.forward(x[part]), y[part])
            assert fast.train_step(x[part], y[part]) == loss
            hand.backward(dout)
            total = total + hand.grads
            assert_same_bits(fast.grads, total)
        hand.grads[:] = total * np.array(1 / k, dtype)
        hand.update()
        assert_same_bits(fast.params, hand.params, update)
    assert fast.plan.updates == 2


@pytest.mark.parametrize("option", ["accumulate", "all"])
def test_accumulation_goes_on_from_fit_to_fit(option: str, library: ModuleType) -> None:
    """Three batches an epoch and three, or two, for an update; the last batch is smaller."""
    once, twice = (small_network(library, optimizer=library.SGD(0.1, momentum=0.5, **OPTIONS[option])) for _ in range(2))
    once.fit(X, LABELS, 3, batch_size=2)
    for _ in range(3):
        twice.fit(X, LABELS, batch_size=2)
    np.testing.assert_array_equal(once.params, twice.params)
    if library is fb:
        assert once.plan.updates == 9 // OPTIONS[option]["accumulate"]


def test_by_hand_accumulation_starts_anew(library: ModuleType) -> None:
    """`backward` and `update` throw away what training steps have gathered; `update` does not wait."""
    for action in ("backward", "update"):
        net, twin = (small_network(library, optimizer=library.SGD(0.1, accumulate=2), dtype="float64") for _ in range(2))
        net.train_step(X, LABELS)
        if action == "backward":
            net.forward(X)
            net.backward(np.ones((5, 3)))
        else:
            for each in (net, twin):
                each.grads[:] = EXACT
                each.update()
        np.testing.assert_array_equal(net.params, twin.params)
        for each in (net, twin):
            each.train_step(X, LABELS)
        np.testing.assert_array_equal(net.params, twin.params)
        for each in (net, twin):
            each.train_step(X[:2], LABELS[:2])
        np.testing.assert_array_equal(net.params, twin.params)


def test_accumulate_may_change_on_the_way() -> None:
    """An update is due as soon as there are enough gradients, and takes the mean of all there are."""
    net, hand = (small_network(optimizer=fb.SGD(0.1, accumulate=4), dtype="float64") for _ in range(2))
    _, dout = fb.losses.cross_entropy(hand.forward(X), LABELS)
    hand.backward(dout)
    for _ in range(3):
        net.train_step(X, LABELS)
    net.optimizer = fb.SGD(0.1)
    net.train_step(X, LABELS)
    hand.update()
    np.testing.assert_array_equal(net.params, hand.params)  # a mean of four that are alike


# State ----------------------------------------------------------------------------------------------------------------


@rows
@dtypes
@specs
def test_slots_are_in_the_order_of_params(spec: Spec, dtype: str, row: str) -> None:
    """Integers, so that nothing is rounded: v = g, m = g / 2, s = g^2 / 4 or g^2."""
    optimizer = {
        "momentum": fb.SGD(0.5, momentum=0.5),
        "nesterov": fb.SGD(0.5, momentum=0.5, nesterov=True),
        "adam": fb.Adam(beta1=0.5, beta2=0.75),
        "rmsprop": fb.RMSprop(alpha=0.75),
    }.get(row, DEFAULTS[row])
    net = made(spec, optimizer, dtype)
    g = (np.arange(net.params.size) % 1021 - 510).astype(dtype)
    for i in range(net.plan.slots):
        assert not net.plan.slot(i).any()
    net.grads[:] = g
    net.update()
    wanted = {
        "sgd": [],
        "momentum": [g],
        "nesterov": [g],
        "adam": [g / 2, g * g / 4],
        "rmsprop": [g * g / 4],
        "adagrad": [g * g],
    }[row]
    assert net.plan.slots == len(wanted)
    for i, values in enumerate(wanted):
        assert_same_bits(net.plan.slot(i), values.astype(dtype), i)


def test_slots_that_are_not_there() -> None:
    plan = small_network(optimizer=DEFAULTS["momentum"]).plan
    for i in (-1, 1, 2):
        with pytest.raises(ValueError, match=f"slot must be from 0 to 0, got {i}"):
            plan.slot(i)
    assert small_network(optimizer=None).plan.slots == 0


def test_updates_are_counted() -> None:
    net = small_network(optimizer=DEFAULTS["adam"])
    assert net.plan.updates == 0
    net.fit(X, LABELS, 3, batch_size=2)
    net.train_step(X, LABELS)
    net.backward(net.forward(X))
    assert net.plan.updates == 10
    net.update()
    assert net.plan.updates == 11


@pytest.mark.parametrize("option", [None, "clip_norm", "accumulate"])
@pytest.mark.parametrize("row", ["momentum", "adam"])
@specs
def test_a_refused_batch_changes_nothing(spec: Spec, row: str, option: str | None) -> None:
    optimizer = with_options(DEFAULTS[row], option) if option else DEFAULTS[row]
    net, other = (made(spec, optimizer, "float32") for _ in range(2))
    x, y = numbers(6, spec[0], dtype="float32"), np.arange(6) % 5
    for step in range(4):
        for each in (net, other):
            each.train_step(x, y)
        with pytest.raises(ValueError, match="y must hold class labels"):
            net.train_step(x, y + 5)
        assert net.plan.updates == (step + 1) // optimizer.accumulate
        assert_same_bits(net.params, other.params)
        for i in range(net.plan.slots):
            assert_same_bits(net.plan.slot(i), other.plan.slot(i))


def test_adam_after_many_steps() -> None:
    """1 - beta^t becomes 1: the corrections end."""
    net = small_network(optimizer=fb.Adam(1e-6, beta2=0.9), dtype="float64")
    net.fit(X, LABELS, 2000, batch_size=5)
    before, m, v = net.params.copy(), net.plan.slot(0), net.plan.slot(1)
    assert 0.9**net.plan.updates < np.finfo(np.float64).eps
    g = gradients(before.size, "float64")[0]
    (got,) = by_hand(net, [g])
    m, v = 0.9 * m + 0.1 * g, 0.9 * v + 0.1 * g * g
    wanted = before - 1e-6 * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=Rounding("float64").gamma(4) * np.abs(before).max())


def test_an_assigned_optimizer_goes_on_with_the_state() -> None:
    net = small_network(optimizer=fb.Adam(0.1), dtype="float64")
    first, second = gradients(net.params.size, "float64")[:2]
    (W,) = by_hand(net, [first])
    net.optimizer = fb.Adam(0.2, beta1=0.5)
    assert net.optimizer == fb.Adam(0.2, beta1=0.5)
    m, v = 0.5 * 0.1 * first + 0.5 * second, 0.999 * 0.001 * first**2 + 0.001 * second**2
    step = 0.2 * (m / (1 - 0.5**2)) / (np.sqrt(v / (1 - 0.999**2)) + 1e-8)
    (got,) = by_hand(net, [second])
    # Corrections: 1 - 0.999^2 has lost three digits.
    np.testing.assert_allclose(got, W - step, rtol=0, atol=Rounding("float64").gamma(1000) * 1.2)
    for other in (fb.SGD(0.1), fb.SGD(0.1, momentum=0.9), fb.RMSprop(), None):
        with pytest.raises(ValueError, match=r"optimizer must be of the same kind as Adam\(.*, got "):
            net.optimizer = other  # type: ignore[assignment]


# Going on -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [None, "max_norm", "all"])
@rows
@dtypes
@specs
def test_a_run_goes_on_from_its_state(spec: Spec, dtype: str, row: str, option: str | None) -> None:
    """Parameters, slots and the number of updates, given to a new network: the bits of a run that was not stopped."""
    optimizer = with_options(OPTIMIZER[row], option) if option else OPTIMIZER[row]
    x, y = numbers(40, spec[0], dtype=dtype), np.arange(40) % 5
    through, first = (made(spec, optimizer, dtype) for _ in range(2))
    through.fit(x, y, 4, batch_size=10, shuffle=False)
    first.fit(x, y, 2, batch_size=10, shuffle=False)
    second = made(spec, optimizer, dtype)
    second.params[:] = first.params
    second.plan.updates = first.plan.updates
    for i in range(second.plan.slots):
        second.plan.set_slot(i, first.plan.slot(i))
        assert_same_bits(second.plan.slot(i), first.plan.slot(i), i)
    second.fit(x, y, 2, batch_size=10, shuffle=False)
    assert_same_bits(second.params, through.params)
    assert second.plan.updates == through.plan.updates
    for i in range(second.plan.slots):
        assert_same_bits(second.plan.slot(i), through.plan.slot(i), i)


@dtypes
@specs
def test_slots_are_set_in_the_order_of_params(spec: Spec, dtype: str) -> None:
    """v = momentum v + g with integers, so that nothing is rounded; each slot by itself, from any array."""
    net = made(spec, fb.SGD(0.5, momentum=0.5), dtype)
    size = net.params.size
    v = np.arange(size) % 1021 - 510
    for values in (v, v.astype(np.float32), v.astype(">f8"), np.repeat(v, 2)[::2], v.tolist()):
        net.plan.set_slot(0, np.zeros(size))
        net.plan.set_slot(0, values)
        assert_same_bits(net.plan.slot(0), v.astype(dtype))
    net.grads[:] = 1
    net.update()
    assert_same_bits(net.plan.slot(0), (0.5 * v + 1).astype(dtype))
    adam = made(spec, fb.Adam(), dtype)
    adam.plan.set_slot(1, v)
    assert not adam.plan.slot(0).any()
    assert_same_bits(adam.plan.slot(1), v.astype(dtype))


@dtypes
def test_slots_of_every_gate_with_parameters(dtype: str) -> None:
    nodes = [
        Node("input", (), 2),
        Node("embedding", (0,), 300, (7,)),
        Node("layer_norm", (1,), 0, (1e-5,)),
        Node("dense", (2,), 301, (0,)),
        Node("rms_norm", (3,), 0, (1e-6,)),
        Node("dense", (4,), 5, (1,), trainable=False),
        Node("batch_norm", (5,), 0, (1e-5, 0.1)),
    ]
    plan = compile_graph(nodes, dtype=dtype, optimizer="adam")
    for i in range(2):
        plan.set_slot(i, np.arange(plan.parameters) + i)
    for i in range(2):
        assert_same_bits(plan.slot(i), (np.arange(plan.parameters) + i).astype(dtype))


def test_states_that_are_refused() -> None:
    plan = small_network(optimizer=DEFAULTS["momentum"]).plan
    v = np.arange(plan.parameters)
    plan.set_slot(0, v)
    plan.updates = 7
    bad: list[tuple[int, Any, type[Exception], str]] = [
        (1, v, ValueError, "slot must be from 0 to 0, got 1"),
        (-1, v, ValueError, "slot must be from 0 to 0, got -1"),
        (0, v[1:], ValueError, rf"values must have shape \({v.size},\), got \({v.size - 1},\)"),
        (0, v[None], ValueError, rf"values must have shape \({v.size},\), got \(1, {v.size}\)"),
        (0, 1.0, ValueError, rf"values must have shape \({v.size},\), got \(\)"),
        (0, v * 1j, TypeError, "values must hold real numbers"),
        (0, None, TypeError, "values must hold real numbers"),
    ]
    for i, values, error, message in bad:
        with pytest.raises(error, match=message):
            plan.set_slot(i, values)
    for count, error in ((-1, ValueError), (1.5, TypeError), ("1", TypeError), (2**63, OverflowError)):
        with pytest.raises(error):
            plan.updates = count
    assert plan.updates == 7
    np.testing.assert_array_equal(plan.slot(0), v)
