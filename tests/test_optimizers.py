"""Optimizers on given gradients: their formulas, the same bits everywhere, and PyTorch's."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bounds import Rounding
from cases import FMA_ISAS, assert_same_bits, numbers, two_fma_isas
from cases import network as small_network
from optimizing import (
    DEFAULTS,
    OPTIONS,
    PACKED,
    STEPS,
    THREADS,
    Some,
    Spec,
    bounded,
    by_hand,
    check_by_hand,
    dtypes,
    gradients,
    isas,
    made,
    rows,
    specs,
    with_options,
)
from test_against_reference import OPTIMIZER, compare, network

import fastbp as fb
from fastbp._fastbp_core import OPTIMIZERS

pytestmark = pytest.mark.usefixtures("keep_threads")


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


@pytest.mark.parametrize("option", [{}, {"l1": 0.05, "max_norm": 0.5}], ids=["plain", "l1_and_max_norm"])
@rows
@dtypes
@specs
def test_training_is_update_by_hand(spec: Spec, dtype: str, row: str, option: dict[str, float]) -> None:
    """The update inside of a step, block by block, gives the bits of backward and update."""
    fast, hand = (made(spec, replace(OPTIMIZER[row], **option), dtype) for _ in range(2))
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
    "l1": {"l1": 0.1, "decay_biases": True},
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
        if optimizer.l1:
            (optimizer.l1 * W.abs().sum()).backward()  # adds to W.grad
        steps.step()
        compare(row, got, W.detach().numpy(), (bound, bound), dtype)
