"""Optimizers on given gradients: their formulas, their state, the same bits everywhere, and PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bounds import Bounded, Rounding, clipped, updated
from cases import DTYPES, FMA_ISAS, ISAS, LABELS, Array, X, assert_same_bits, numbers, two_fma_isas
from cases import network as small_network
from test_against_reference import OPTIMIZER, check, compare, name_of, network, twin

import fastbp as fb
import fastbp.reference as ref
from fastbp._fastbp_core import OPTIMIZERS

Spec = tuple[int | str, ...]
Some = fb.optimizers.Optimizer

NARROW: Spec = (37, "101 tanh", "53", "7")
PACKED: Spec = (37, "300 relu", "5")  # rows of 300 weights are kept in panels
THREADS = (1, 2, 3)
STEPS = 4
# Every optimizer as it is by default; and with other numbers in OPTIMIZER.
DEFAULTS: dict[str, Some] = {
    "sgd": fb.SGD(),
    "momentum": fb.SGD(momentum=0.9),
    "nesterov": fb.SGD(momentum=0.9, nesterov=True),
    "adam": fb.Adam(),
    "rmsprop": fb.RMSprop(),
    "adagrad": fb.Adagrad(),
}
# What is done to gradients on the way. The norms of `gradients` are about 50 and 60, those of a batch below 5.
OPTIONS: dict[str, dict[str, Any]] = {
    "l2": {"l2": 0.1},
    "l2_of_biases": {"l2": 0.1, "decay_biases": True},
    "weight_decay": {"weight_decay": 0.2},
    "weight_decay_of_biases": {"weight_decay": 0.2, "decay_biases": True},
    "clip_norm": {"clip_norm": 0.01},
    "clip_norm_not_reached": {"clip_norm": 1000.0},
    "clip_value": {"clip_value": 0.02},
    "accumulate": {"accumulate": 3},
    "all": {"l2": 0.1, "weight_decay": 0.2, "clip_norm": 0.01, "accumulate": 2},
    "all_by_value": {"l2": 0.1, "weight_decay": 0.2, "clip_value": 0.02, "accumulate": 2, "decay_biases": True},
}


def with_options(optimizer: Some, option: str) -> Some:
    """The optimizer with these options; Adam becomes AdamW where it needs to, others do without weight decay."""
    settings = dict(OPTIONS[option])
    if "weight_decay" in settings and isinstance(optimizer, fb.Adam):
        optimizer = fb.AdamW(**asdict(optimizer))
    elif not isinstance(optimizer, fb.SGD):
        settings.pop("weight_decay", None)
    return replace(optimizer, **settings)


pytestmark = pytest.mark.usefixtures("keep_threads")
dtypes = pytest.mark.parametrize("dtype", DTYPES)
isas = pytest.mark.parametrize("isa", ISAS)
options = pytest.mark.parametrize("option", OPTIONS)
rows = pytest.mark.parametrize("row", OPTIMIZERS)
specs = pytest.mark.parametrize("spec", [NARROW, PACKED], ids=name_of)


def made(spec: Spec, optimizer: Some, dtype: str) -> fb.Sequential:
    net: fb.Sequential = network(fb, spec, dtype=dtype, loss="cross_entropy", optimizer=optimizer)
    return net


def gradients(size: int, dtype: str) -> list[Array]:
    """Of some steps: in [-1, 1), none so near 0 that its sign is rounding error."""
    found = []
    for step in range(STEPS):
        g = numbers(size, seed=step, dtype=dtype)
        found.append(g + np.sign(g).astype(dtype) * np.array(0.01, dtype))
    return found


def by_hand(net: Any, grads: list[Array]) -> Iterator[Array]:
    """The parameters after each update from given gradients."""
    for g in grads:
        net.grads[:] = g
        net.update()
        yield net.params.copy()


def bias_positions(net: Any) -> Array:
    """Where in `params` the biases are."""
    before = net.params.copy()
    found = np.zeros(before.size, bool)
    for layer in net.layers:
        if hasattr(layer, "bias"):
            layer.bias += 1
    found |= net.params != before
    net.params[:] = before
    return found


def bounded(optimizer: Some, net: Any, grads: list[Array], in_: Rounding) -> Iterator[Bounded]:
    """The same, with error bounds, from the parameters the network has now."""
    decays = np.where(bias_positions(net), optimizer.decay_biases, 1.0)
    start = in_.exact(net.params.copy())

    def steps(params: Bounded, state: list[Bounded]) -> Iterator[Bounded]:
        for t, g in enumerate(grads, start=1):
            params = updated(twin(optimizer), params, clipped(twin(optimizer), in_.exact(g)), state, t, decays)
            yield params

    return steps(start, [])


def check_by_hand(spec: Spec, dtype: str, optimizer: Some) -> None:
    fast = made(spec, optimizer, dtype)
    slow = network(ref, spec, dtype="float64", optimizer=twin(optimizer))
    slow.params[:] = fast.params
    grads = gradients(fast.params.size, dtype)
    errors = zip(*(bounded(optimizer, fast, grads, Rounding(kind)) for kind in (dtype, "float64")), strict=True)
    before = fast.params.copy()
    for got, wanted, bounds in zip(by_hand(fast, grads), by_hand(slow, grads), errors, strict=True):
        compare(optimizer.row, got, wanted, bounds, dtype)
        assert (got != before).mean() > 0.9
        before = got


# Formulas -------------------------------------------------------------------------------------------------------------


def test_there_is_one_of_each() -> None:
    assert {optimizer.row for optimizer in DEFAULTS.values()} == set(OPTIMIZERS) == set(OPTIMIZER)


@pytest.mark.parametrize("settings", [DEFAULTS, OPTIMIZER], ids=["defaults", "other_numbers"])
@rows
@isas
@dtypes
@specs
def test_against_the_reference(
    spec: Spec, dtype: str, isa: str, row: str, settings: dict[str, Some], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTBP_ISA", isa)
    check_by_hand(spec, dtype, settings[row])


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


@rows
@dtypes
def test_first_step(dtype: str, row: str, library: ModuleType) -> None:
    """In closed form: with all state 0, Adam's is the sign of g, and RMSprop's its sign over sqrt(1 - alpha)."""
    optimizer = DEFAULTS[row]
    net = network(library, (5, "4"), dtype=dtype, optimizer=getattr(library, type(optimizer).__name__)(**asdict(optimizer)))
    (g, *_), W = gradients(net.params.size, dtype), net.params.astype(np.float64)
    wide = g.astype(np.float64)
    step = {
        "sgd": 0.01 * wide,
        "momentum": 0.01 * wide,
        "nesterov": 0.019 * wide,
        "adam": 1e-3 * wide / (np.abs(wide) + 1e-8),
        "rmsprop": 1e-3 * wide / (np.sqrt(1 - 0.99) * np.abs(wide) + 1e-8),
        "adagrad": 0.01 * wide / (np.abs(wide) + 1e-10),
    }[row]
    bound = bounded(optimizer, net, [g], Rounding(dtype))
    (got,) = by_hand(net, [g])
    (W_bound,) = bound
    np.testing.assert_array_less(np.abs(got - (W - step)), W_bound.error + Rounding("float64").gamma(10) * np.abs(W))


@rows
@dtypes
@specs
def test_training_is_update_by_hand(spec: Spec, dtype: str, row: str) -> None:
    """The update inside of a step, block by block, gives the bits of backward and update."""
    fast, hand = (made(spec, OPTIMIZER[row], dtype) for _ in range(2))
    for step in range(STEPS):
        x, y = numbers(9, spec[0], seed=step, dtype=dtype), np.arange(9) % 5
        loss, dout = fb.losses.cross_entropy(hand.forward(x), y)
        hand.backward(dout)
        hand.update()
        assert fast.train_step(x, y) == loss
        assert_same_bits(fast.params, hand.params, step)
    for i in range(fast.plan.slots):
        assert_same_bits(fast.plan.slot(i), hand.plan.slot(i), i)


def test_zero_gradients_of_adaptive_optimizers_change_nothing() -> None:
    for row in ("adam", "rmsprop", "adagrad"):
        net = small_network(optimizer=DEFAULTS[row])
        W = net.params.copy()
        net.grads[:] = 0
        net.update()
        np.testing.assert_array_equal(net.params, W)


@rows
def test_nan_stays_where_it_is(row: str) -> None:
    net = small_network(optimizer=DEFAULTS[row])
    g = gradients(net.params.size, "float32")[0]
    g[5] = np.nan
    (got,) = by_hand(net, [g])
    assert np.isnan(got).nonzero()[0].tolist() == [5]


# Options --------------------------------------------------------------------------------------------------------------


def one_step(library: ModuleType, optimizer: Any, g: Array, dtype: str = "float64") -> tuple[Array, Array, Array]:
    """Parameters before and after an update from g, and where biases are."""
    net = small_network(library, optimizer=optimizer, dtype=dtype)
    biases, W = bias_positions(net), net.params.copy()
    (got,) = by_hand(net, [g])
    return W, got, biases


SIZE = small_network().params.size
EXACT = (np.arange(SIZE) % 15 - 7) / 8.0  # numbers and sums of squares of which nothing is rounded


def test_l2_and_weight_decay_leave_biases_alone(library: ModuleType) -> None:
    """With no gradient, both shrink W by rate * factor; biases only if asked to."""
    for settings in ({"l2": 0.25}, {"weight_decay": 0.25}):
        for biases_too in (False, True):
            W, got, biases = one_step(library, library.SGD(0.5, decay_biases=biases_too, **settings), 0 * EXACT)
            assert biases.sum() == 9
            shrinks = ~biases | biases_too
            np.testing.assert_array_equal(got, np.where(shrinks, W - 0.5 * 0.25 * W, W))


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


def test_clipping_comes_before_l2(library: ModuleType) -> None:
    W, got, _ = one_step(library, library.SGD(1.0, clip_value=0.25, l2=0.5, decay_biases=True), EXACT)
    step = np.clip(EXACT, -0.25, 0.25) + 0.5 * W
    np.testing.assert_allclose(got, W - step, rtol=0, atol=Rounding("float64").gamma(3) * (np.abs(W) + 1).max())


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
        with pytest.raises(ValueError, match=r"optimizer must keep the same state as Adam\(.*, got "):
            net.optimizer = other  # type: ignore[assignment]


# The same bits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row, option",
    [*((row, None) for row in OPTIMIZERS), *(("sgd", option) for option in OPTIONS), ("adam", "all"), ("nesterov", "all")],
)
@two_fma_isas
@dtypes
@specs
def test_the_same_bits(spec: Spec, dtype: str, row: str, option: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = with_options(OPTIMIZER[row], option) if option else OPTIMIZER[row]
    x, y = numbers(200, spec[0], dtype=dtype), np.arange(200) % 5
    results = []
    for isa in FMA_ISAS:
        monkeypatch.setenv("FASTBP_ISA", isa)
        for threads in THREADS:
            fb.set_num_threads(threads)
            net = made(spec, optimizer, dtype)
            losses = net.fit(x, y, 4, batch_size=70).loss
            results.append([np.array(losses), net.params.copy(), *(net.plan.slot(i) for i in range(net.plan.slots))])
    for result in results[1:]:
        for got, wanted in zip(result, results[0], strict=True):
            assert_same_bits(got, wanted)


# PyTorch --------------------------------------------------------------------------------------------------------------


TORCH: dict[str, dict[str, Any]] = {
    "plain": {},
    "l2": {"l2": 0.1, "decay_biases": True},  # PyTorch knows no biases
    "clip_norm": {"clip_norm": 0.01},
    "clip_value": {"clip_value": 0.02, "l2": 0.1, "decay_biases": True},
}


def of_torch(torch: Any, optimizer: Some, params: list[Any]) -> Any:
    s: dict[str, Any] = asdict(optimizer)
    rate, l2 = s["learning_rate"], s["l2"]
    match optimizer:
        case fb.SGD():
            return torch.optim.SGD(params, rate, momentum=s["momentum"], nesterov=s["nesterov"], weight_decay=l2)
        case fb.AdamW():
            betas = s["beta1"], s["beta2"]
            return torch.optim.AdamW(params, rate, betas=betas, eps=s["eps"], weight_decay=s["weight_decay"])
        case fb.Adam():
            return torch.optim.Adam(params, rate, betas=(s["beta1"], s["beta2"]), eps=s["eps"], weight_decay=l2)
        case fb.RMSprop():
            return torch.optim.RMSprop(params, rate, alpha=s["alpha"], eps=s["eps"], weight_decay=l2)
    return torch.optim.Adagrad(params, rate, eps=s["eps"], weight_decay=l2)


def clip_in_torch(torch: Any, optimizer: Some, W: Any) -> None:
    """clip_grad_norm_ adds 1e-6 to the norm: here it must not matter."""
    if optimizer.clip_value is not None:
        torch.nn.utils.clip_grad_value_([W], optimizer.clip_value)
    if optimizer.clip_norm is not None:
        norm = torch.nn.utils.get_total_norm([W.grad.double()])
        W.grad *= (optimizer.clip_norm / norm).to(W.dtype)


@pytest.mark.parametrize("option", TORCH)
@pytest.mark.parametrize("settings", [DEFAULTS, OPTIMIZER], ids=["defaults", "other_numbers"])
@pytest.mark.parametrize("row", [*OPTIMIZERS, "adamw"])
@dtypes
def test_against_pytorch(dtype: str, row: str, settings: dict[str, Some], option: str) -> None:
    torch = pytest.importorskip("torch")
    optimizer = replace(settings[row.removesuffix("w")], **TORCH[option])
    if row == "adamw":
        optimizer = fb.AdamW(**(asdict(optimizer) | {"l2": 0.0}), weight_decay=0.3)
        optimizer = replace(optimizer, decay_biases=True)
    net = made(PACKED, optimizer, dtype)
    W = torch.tensor(net.params.copy(), requires_grad=True)
    grads, steps = gradients(net.params.size, dtype), of_torch(torch, optimizer, [W])
    errors = bounded(optimizer, net, grads, Rounding(dtype))
    for got, g, bound in zip(by_hand(net, grads), grads, errors, strict=True):
        W.grad = torch.tensor(g)
        clip_in_torch(torch, optimizer, W)
        steps.step()
        compare(row, got, W.detach().numpy(), (bound, bound), dtype)


# Settings -------------------------------------------------------------------------------------------------------------


def test_they_show_the_call_that_makes_them(library: ModuleType) -> None:
    for name, settings, shown in (
        ("SGD", {}, "SGD(learning_rate=0.01)"),
        ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}, "SGD(learning_rate=0.1, momentum=0.9, nesterov=True)"),
        ("Adam", {}, "Adam(learning_rate=0.001)"),
        ("Adam", {"beta2": 0.9}, "Adam(learning_rate=0.001, beta2=0.9)"),
        ("RMSprop", {"alpha": 0.9, "eps": 0.1}, "RMSprop(learning_rate=0.001, alpha=0.9, eps=0.1)"),
        ("Adagrad", {"learning_rate": 1}, "Adagrad(learning_rate=1)"),
        ("AdamW", {}, "AdamW(learning_rate=0.001)"),
        ("AdamW", {"weight_decay": 0.0, "l2": 1.0}, "AdamW(learning_rate=0.001, l2=1.0, weight_decay=0.0)"),
        ("SGD", {"clip_norm": 1.0, "accumulate": 2}, "SGD(learning_rate=0.01, clip_norm=1.0, accumulate=2)"),
    ):
        made = getattr(library, name)(**settings)
        assert repr(made) == shown
        assert eval(shown, vars(library)) == made


BAD: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("SGD", {"nesterov": True}, ValueError, "nesterov must come with momentum above 0, got momentum=0.0"),
    ("SGD", {"momentum": 0.9, "nesterov": 1}, TypeError, "nesterov must be True or False, got 1"),
    ("Adam", {"learning_rate": -1.0}, ValueError, "learning_rate must be at least 0 and finite, got -1.0"),
    ("Adam", {"beta1": 1.0}, ValueError, "beta1 must be at least 0 and below 1, got 1.0"),
    ("Adam", {"beta2": -0.1}, ValueError, "beta2 must be at least 0 and below 1, got -0.1"),
    ("Adam", {"beta2": "a"}, TypeError, "beta2 must be a real number, got str"),
    ("Adam", {"eps": 0.0}, ValueError, "eps must be above 0 and finite, got 0.0"),
    ("Adam", {"eps": math.nan}, ValueError, "eps must be above 0 and finite, got nan"),
    ("RMSprop", {"alpha": 1.5}, ValueError, "alpha must be at least 0 and below 1, got 1.5"),
    ("RMSprop", {"eps": math.inf}, ValueError, "eps must be above 0 and finite, got inf"),
    ("Adagrad", {"eps": -1e-9}, ValueError, "eps must be above 0 and finite, got -1e-09"),
    ("SGD", {"l2": -1}, ValueError, "l2 must be at least 0 and finite, got -1"),
    ("SGD", {"weight_decay": math.inf}, ValueError, "weight_decay must be at least 0 and finite, got inf"),
    ("AdamW", {"weight_decay": "1"}, TypeError, "weight_decay must be a real number, got str"),
    ("Adam", {"decay_biases": None}, TypeError, "decay_biases must be True or False, got None"),
    ("Adam", {"clip_norm": 0.0}, ValueError, "clip_norm must be None, or above 0 and finite, got 0.0"),
    ("Adam", {"clip_norm": math.nan}, ValueError, "clip_norm must be None, or above 0 and finite, got nan"),
    ("RMSprop", {"clip_value": -2}, ValueError, "clip_value must be None, or above 0 and finite, got -2"),
    ("RMSprop", {"clip_value": "a"}, TypeError, "clip_value must be a real number, got str"),
    (
        "Adagrad",
        {"clip_norm": 1.0, "clip_value": 2.0},
        ValueError,
        "clip_norm and clip_value exclude each other, got clip_norm=1.0, clip_value=2.0",
    ),
    ("SGD", {"accumulate": 0}, ValueError, "accumulate must be at least 1, got 0"),
    ("SGD", {"accumulate": 2.0}, TypeError, "accumulate must be an integer, got float"),
    ("Adagrad", {"learning_rate": None}, TypeError, "learning_rate must be a real number, got NoneType"),
]


@pytest.mark.parametrize("name, settings, error, message", BAD, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_settings_of_optimizers(
    library: ModuleType, name: str, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        getattr(library, name)(**settings)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Adagrad"])
def test_weight_decay_is_for_sgd_and_adamw(name: str, library: ModuleType) -> None:
    with pytest.raises(TypeError, match="weight_decay"):
        getattr(library, name)(weight_decay=0.1)
    for positional in (library.SGD, library.Adam, library.AdamW):
        with pytest.raises(TypeError, match="positional"):
            positional(0.1, 0.9, 0.9, 0.1, 0.1)
