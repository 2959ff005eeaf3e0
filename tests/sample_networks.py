"""Networks that between them have every gate, for the tests of what looks into networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import fastbp as fb
from fastbp import _fastbp_core as core
from fastbp.values import gate_of

Array = npt.NDArray[Any]
ACTIVATIONS = [name for name in core.ACTIVATIONS if name != "custom"]
POSITIVE = ("log", "power", "reciprocal")  # tested where they are smooth
LABELS = ("cross_entropy", "hinge")


def rows(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def target(loss: str, m: int, units: int) -> Array:
    """A target for m rows of so many outputs."""
    T = rows(m, units, seed=1)
    if loss in LABELS:
        return np.arange(m) % units
    if loss in ("binary_cross_entropy", "binary_hinge"):
        return (T > 0).astype(np.float64)
    if loss == "poisson":
        return np.abs(T).round()
    return T[:, : units // 2] if loss == "gaussian_nll" else T


def activated(name: str, **settings: Any) -> fb.Sequential:
    """An activation in a layer, and as a gate of its own, on numbers where it is smooth."""
    below = [fb.Dense(5), fb.Activation("softplus")] if name in POSITIVE else [fb.Dense(5, name)]
    return fb.Sequential([fb.Input(3), *below, fb.Activation(name), fb.Dense(4)], dtype="float64", seed=3, **settings)


def xyz() -> fb.Model:
    x, y, z = fb.Input(1), fb.Input(1), fb.Input(1)
    return fb.Model([x, y, z], (x + y) * z, dtype="float64")


def all_gates() -> tuple[fb.Model, list[Array], list[Array]]:
    """A network with every gate, two outputs with losses and weights; its inputs and targets."""
    x, number, category = fb.Input(4), fb.Input(1), fb.Input(2)
    scaled = fb.Standardize()
    scaled.adapt(rows(20, 4, seed=5) * 3 + 1)
    h = fb.Dense(6, "tanh")(fb.BatchNorm()(scaled(x)))
    h = fb.Dropout(0.4)(fb.LayerNorm()(h + fb.Dense(6, bias=False)(h)))
    e = fb.Embedding(5, 3)(category)
    joined = fb.concatenate([h, e, number])
    a, b = joined[:, :6], joined[:, 6:12]
    mixed = fb.maximum(a, b) - fb.minimum(a * 2.0, b) / (gate_of("softplus", b) + 1.5)
    first = fb.Dense(3)(fb.RMSNorm()(mixed @ rows(6, 6, seed=6)))
    second = fb.Dense(2, "softmax")(mixed)
    net = fb.Model(
        [x, number, category],
        [first, second],
        loss=["cross_entropy", "squared_error"],
        optimizer=fb.Adam(),
        loss_weights=[1.0, 0.5],
        dtype="float64",
        seed=4,
    )
    inputs = [rows(6, 4), rows(6, seed=1), np.arange(12).reshape(6, 2) % 5]
    return net, inputs, [target("cross_entropy", 6, 3), target("squared_error", 6, 2)]
