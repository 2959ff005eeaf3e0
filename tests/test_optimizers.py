"""Optimizers on given gradients: their formulas, their state, the same bits everywhere, and PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bounds import Bounded, Rounding, updated
from cases import DTYPES, FMA_ISAS, ISAS, LABELS, Array, X, assert_same_bits, numbers, two_fma_isas
from cases import network as small_network
from test_against_reference import OPTIMIZER, compare, name_of, network, twin

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

dtypes = pytest.mark.parametrize("dtype", DTYPES)
isas = pytest.mark.parametrize("isa", ISAS)
rows = pytest.mark.parametrize("row", OPTIMIZERS)
specs = pytest.mark.parametrize("spec", [NARROW, PACKED], ids=name_of)


@pytest.fixture(autouse=True)
def keep_threads() -> Iterator[None]:
    before = fb.get_num_threads()
    yield
    fb.set_num_threads(before)


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


def bounded(optimizer: Some, W: Array, grads: list[Array], in_: Rounding) -> Iterator[Bounded]:
    """The same, with error bounds."""
    params, state = in_.exact(W), []
    for t, g in enumerate(grads, start=1):
        params = updated(twin(optimizer), params, in_.exact(g), state, t)
        yield params


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
    optimizer = settings[row]
    fast = made(spec, optimizer, dtype)
    slow = network(ref, spec, dtype="float64", optimizer=twin(optimizer))
    slow.params[:] = fast.params
    grads = gradients(fast.params.size, dtype)
    before = fast.params.copy()
    errors = zip(*(bounded(optimizer, before, grads, Rounding(kind)) for kind in (dtype, "float64")), strict=True)
    for got, wanted, bounds in zip(by_hand(fast, grads), by_hand(slow, grads), errors, strict=True):
        compare(row, got, wanted, bounds, dtype)
        assert (got != before).mean() > 0.9
        before = got


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
    (got,) = by_hand(net, [g])
    in_ = Rounding(dtype)
    (W_bound,) = bounded(optimizer, W, [g], in_)
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


@pytest.mark.parametrize("row", ["momentum", "adam"])
@specs
def test_a_refused_batch_changes_nothing(spec: Spec, row: str) -> None:
    net, other = (made(spec, DEFAULTS[row], "float32") for _ in range(2))
    x, y = numbers(6, spec[0], dtype="float32"), np.arange(6) % 5
    for step in range(3):
        for each in (net, other):
            each.train_step(x, y)
        with pytest.raises(ValueError, match="y must hold class labels"):
            net.train_step(x, y + 5)
        assert net.plan.updates == step + 1
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


@two_fma_isas
@rows
@dtypes
@specs
def test_the_same_bits(spec: Spec, dtype: str, row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = numbers(200, spec[0], dtype=dtype), np.arange(200) % 5
    results = []
    for isa in FMA_ISAS:
        monkeypatch.setenv("FASTBP_ISA", isa)
        for threads in THREADS:
            fb.set_num_threads(threads)
            net = made(spec, OPTIMIZER[row], dtype)
            losses = net.fit(x, y, 4, batch_size=70).loss
            results.append([np.array(losses), net.params.copy(), *(net.plan.slot(i) for i in range(net.plan.slots))])
    for result in results[1:]:
        for got, wanted in zip(result, results[0], strict=True):
            assert_same_bits(got, wanted)


# PyTorch --------------------------------------------------------------------------------------------------------------


def of_torch(torch: Any, optimizer: Some, params: list[Any]) -> Any:
    s: dict[str, Any] = asdict(optimizer)
    rate = s["learning_rate"]
    match optimizer:
        case fb.SGD():
            return torch.optim.SGD(params, rate, momentum=s["momentum"], nesterov=s["nesterov"])
        case fb.Adam():
            return torch.optim.Adam(params, rate, betas=(s["beta1"], s["beta2"]), eps=s["eps"])
        case fb.RMSprop():
            return torch.optim.RMSprop(params, rate, alpha=s["alpha"], eps=s["eps"])
    return torch.optim.Adagrad(params, rate, eps=s["eps"])


@pytest.mark.parametrize("settings", [DEFAULTS, OPTIMIZER], ids=["defaults", "other_numbers"])
@rows
@dtypes
def test_against_pytorch(dtype: str, row: str, settings: dict[str, Some]) -> None:
    torch = pytest.importorskip("torch")
    optimizer = settings[row]
    net = made(PACKED, optimizer, dtype)
    W = torch.tensor(net.params.copy(), requires_grad=True)
    grads, steps = gradients(net.params.size, dtype), of_torch(torch, optimizer, [W])
    errors = bounded(optimizer, net.params.copy(), grads, Rounding(dtype))
    for got, g, bound in zip(by_hand(net, grads), grads, errors, strict=True):
        W.grad = torch.tensor(g)
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
    ("Adagrad", {"learning_rate": None}, TypeError, "learning_rate must be a real number, got NoneType"),
]


@pytest.mark.parametrize("name, settings, error, message", BAD, ids=lambda v: v if isinstance(v, str) else "")
def test_bad_settings(library: ModuleType, name: str, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        getattr(library, name)(**settings)
    assert str(caught.value) == message
