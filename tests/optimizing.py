"""What the tests of optimizers share: one of each, what can be asked of all, given gradients, updates with error bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bounds import Bounded, Rounding
from cases import DTYPES, ISAS, Array, numbers
from cases import network as small_network
from optimizer_bounds import clipped, limited, updated
from test_against_reference import compare, name_of, network, twin

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
    "l1": {"l1": 0.05},
    "l1_of_biases": {"l1": 0.05, "decay_biases": True},
    "weight_decay": {"weight_decay": 0.2},
    "weight_decay_of_biases": {"weight_decay": 0.2, "decay_biases": True},
    "clip_norm": {"clip_norm": 0.01},
    "clip_norm_not_reached": {"clip_norm": 1000.0},
    "clip_value": {"clip_value": 0.02},
    "accumulate": {"accumulate": 3},
    "max_norm": {"max_norm": 0.5},  # about what columns of `PACKED` have
    "max_norm_not_reached": {"max_norm": 1000.0},
    "all": {"l2": 0.1, "l1": 0.03, "weight_decay": 0.2, "clip_norm": 0.01, "accumulate": 2, "max_norm": 0.5},
    "all_by_value": {"l2": 0.1, "l1": 0.03, "weight_decay": 0.2, "clip_value": 0.02, "accumulate": 2, "decay_biases": True},
}


def with_options(optimizer: Some, option: str) -> Some:
    """The optimizer with these options; Adam becomes AdamW where it needs to, others do without weight decay."""
    settings = dict(OPTIONS[option])
    if "weight_decay" in settings and isinstance(optimizer, fb.Adam):
        optimizer = fb.AdamW(**asdict(optimizer))
    elif not isinstance(optimizer, fb.SGD):
        settings.pop("weight_decay", None)
    return replace(optimizer, **settings)


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


def all_limited(optimizer: Some, net: Any, params: Bounded) -> Bounded:
    """The parameters after the norms of all columns have been limited, layer by layer."""
    start, values, errors = 0, [], []
    for layer in net.layers:
        if hasattr(layer, "weight"):
            shape = (layer.inputs + 1, layer.units)
            part = params[start : (start := start + shape[0] * shape[1])]
            W = limited(twin(optimizer), Bounded(part.value.reshape(shape), part.error.reshape(shape), part.in_))
            values.append(W.value.reshape(-1))
            errors.append(W.error.reshape(-1))
    return Bounded(np.concatenate(values), np.concatenate(errors), params.in_)


def bounded(optimizer: Some, net: Any, grads: list[Array], in_: Rounding) -> Iterator[Bounded]:
    """The same, with error bounds, from the parameters the network has now."""
    decays = np.where(bias_positions(net), optimizer.decay_biases, 1.0)
    start = in_.exact(net.params.copy())

    def steps(params: Bounded, state: list[Bounded]) -> Iterator[Bounded]:
        for t, g in enumerate(grads, start=1):
            params = updated(twin(optimizer), params, clipped(twin(optimizer), in_.exact(g)), state, t, decays)
            params = all_limited(optimizer, net, params)
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


def one_step(library: ModuleType, optimizer: Any, g: Array, dtype: str = "float64") -> tuple[Array, Array, Array]:
    """Parameters before and after an update from g, and where biases are."""
    net = small_network(library, optimizer=optimizer, dtype=dtype)
    biases, W = bias_positions(net), net.params.copy()
    (got,) = by_hand(net, [g])
    return W, got, biases


SIZE = small_network().params.size
EXACT = (np.arange(SIZE) % 15 - 7) / 8.0  # numbers and sums of squares of which nothing is rounded
