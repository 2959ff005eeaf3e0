"""Gradients that vanish, explode or get stuck are seen, and said in words."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_networks import all_gates, rows

import fastbp as fb
from fastbp.inspect.flow import GradientFlow


def flow_of(f: str, depth: int = 8, **settings: Any) -> GradientFlow:
    hidden = [fb.Dense(24, f, **settings) for _ in range(depth)]
    net = fb.Sequential([fb.Input(10), *hidden, fb.Dense(3)], loss="cross_entropy", seed=0)
    return fb.gradient_flow(net, rows(100, 10), np.arange(100) % 3)


def test_sigmoids_make_gradients_vanish() -> None:
    flow = flow_of("sigmoid")
    deltas = [layer.delta for layer in flow.layers]
    assert all(a < b for a, b in itertools.pairwise(deltas))
    assert flow.ratio == deltas[0] / deltas[-1] < 1e-3
    assert len(flow.warnings) == 1 and flow.warnings[0].startswith("gradients vanish: the error signal")
    assert flow.warnings[0] in str(flow)


@pytest.mark.parametrize("f", ["tanh", "relu"])
def test_others_do_not(f: str) -> None:
    flow = flow_of(f)
    assert flow.warnings == () and 1e-3 < flow.ratio < 1e3
    assert "nothing vanishes, nothing explodes" in str(flow)


def test_large_weights_make_gradients_explode() -> None:
    flow = flow_of("relu", weight_init=lambda shape, seed, step: 2 * rows(*shape, seed=step))
    assert flow.ratio > 1e3 and flow.warnings[0].startswith("gradients explode")


def test_dead_units() -> None:
    net = fb.Sequential([fb.Input(4), fb.Dense(10, "relu"), fb.Dense(3)], loss="cross_entropy", seed=0)
    net.layers[1].bias[:7] = -100
    flow = fb.gradient_flow(net, rows(50, 4), np.arange(50) % 3)
    assert flow.layers[0].dead == 0.7 and math.isnan(flow.layers[0].saturated)
    assert flow.warnings == (
        "dead: 70% of the units of layer 1, Dense(10, 'relu'): their slope is 0 for every row, they do not learn",
    )


@pytest.mark.parametrize(("f", "bias"), [("sigmoid", 8.0), ("tanh", -5.0), ("hard_sigmoid", 4.0)])
def test_saturated_units(f: str, bias: float) -> None:
    net = fb.Sequential([fb.Input(4), fb.Dense(10, f, weight_init="zeros"), fb.Dense(3)], loss="cross_entropy", seed=0)
    net.layers[1].bias[:6] = bias
    flow = fb.gradient_flow(net, rows(50, 4), np.arange(50) % 3)
    assert flow.layers[0].saturated == 0.6 and flow.warnings[0].startswith("saturated: 60% of the outputs of layer 1")


def test_numbers_that_are_none() -> None:
    net = fb.Sequential([fb.Input(4), fb.Dense(10, "tanh"), fb.Dense(3)], loss="cross_entropy", seed=0)
    net.layers[1].weight[0, 0] = math.nan
    flow = fb.gradient_flow(net, rows(50, 4), np.arange(50) % 3)
    assert flow.warnings[0] == "numbers are not finite from layer 1 on, Dense(10, 'tanh')"


def test_sizes_are_those_of_the_network() -> None:
    layers = [fb.Input(4), fb.Dense(6, "tanh"), fb.LayerNorm(), fb.Dense(3)]
    net = fb.Sequential(layers, loss="squared_error", dtype="float64", seed=0)
    x, y = rows(20, 4), rows(20, 3, seed=1)
    flow = fb.gradient_flow(net, x, y)
    _, dout = fb.losses.squared_error(net.forward(x), y)
    net.backward(dout)
    assert [layer.number for layer in flow.layers] == [1, 2, 3]
    assert [layer.weight for layer in flow.layers] == [
        float(np.linalg.norm(gradient)) for gradient in (net.layers[1].dweight, net.layers[2].dgain, net.layers[3].dweight)
    ]
    for layer in flow.layers:
        assert layer.delta == math.sqrt(np.mean(net.plan.delta(layer.number) ** 2))
        assert layer.activation == math.sqrt(np.mean(net.plan.value(layer.number) ** 2))


def test_any_graph(tmp_path: Path) -> None:
    net, x, y = all_gates()
    flow = fb.gradient_flow(net, x, y)
    assert len(flow.layers) > 6 and np.isfinite([layer.activation for layer in flow.layers]).all()
    assert np.isfinite([layer.delta for layer in fb.gradient_flow(net, x).layers]).all()


def test_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "flow.png"
    figure = flow_of("sigmoid").plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    sizes, shares = figure.axes
    assert sizes.get_yscale() == "log" and len(sizes.lines) == 4 and len(shares.patches) == 9
    assert [len(line.get_xdata()) for line in sizes.lines] == [9] * 4
