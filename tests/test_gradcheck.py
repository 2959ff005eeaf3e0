"""Analytic gradients beside central differences: what is right passes, what is wrong is found, kinks are known as kinks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sample_networks import ACTIVATIONS, activated, all_gates, rows, target, xyz

import fastbp as fb
from fastbp import _fastbp_core as core
from fastbp.inspect.differences import EPS, derivative, noise_of
from fastbp.values import gate_of


def state_of(net: fb.Model) -> list[Any]:
    """All that may change in a network, the forward pass it keeps included."""
    values = [net.plan.value(i).tobytes() for i in range(net.plan.nodes)]
    return [net.params.tobytes(), net.grads.tobytes(), net.state.tobytes(), net.draws, values]


# What is right --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name: str) -> None:
    check = fb.gradcheck(activated(name), rows(5, 3))
    assert check.ok, check
    assert sum(tensor.kinks for tensor in check.tensors) < sum(tensor.checked for tensor in check.tensors)


@pytest.mark.parametrize("name", core.LOSSES)
def test_every_loss(name: str) -> None:
    net = fb.Sequential([fb.Input(3), fb.Dense(5, "tanh"), fb.Dense(4)], loss=name, dtype="float64", seed=0)
    check = fb.gradcheck(net, rows(6, 3), target(name, 6, 4), sample_weight=[1, 2, 0, 1, 0.5, 1])
    assert check.ok, check


def test_every_gate_several_inputs_and_outputs() -> None:
    net, x, y = all_gates()
    check = fb.gradcheck(net, x, y)
    assert check.ok, check
    assert [tensor.note for tensor in check.tensors][-3:] == ["", "", "categories"]
    assert fb.gradcheck(net, x, y, training=False).ok
    assert fb.gradcheck(net, x).ok


def test_columns_that_are_categories_are_left_out() -> None:
    x = fb.Input(3)
    net = fb.Model(x, fb.Dense(2, "tanh")(fb.concatenate([fb.Embedding(4, 2)(x[:, :1]), x[:, 1:]])), dtype="float64", seed=0)
    data = rows(6, 3)
    data[:, 0] = [0, 1, 2, 3, 0, 1]
    check = fb.gradcheck(net, data)
    assert check.ok and check.tensors[-1].checked == 12


def test_worked_examples() -> None:
    assert fb.gradcheck(xyz(), [-2, 5, -4]).ok
    x, y = fb.Input(1), fb.Input(1)
    f = (x + gate_of("sigmoid", y)) / (gate_of("sigmoid", x) + (x + y) * (x + y))
    check = fb.gradcheck(fb.Model([x, y], f, dtype="float64"), [3, -4], dout=[[1]])
    assert check.ok and not any(tensor.kinks for tensor in check.tensors)
    x, y, z, w = (fb.Input(1) for _ in range(4))
    check = fb.gradcheck(fb.Model([x, y, z, w], 2 * (x * y + fb.maximum(z, w))), [3, -4, 2, -1], dout=[[1]])
    assert check.ok and [tensor.analytic for tensor in check.tensors] == [-8, 6, 2, 0]


def test_a_float32_network_is_checked_in_float64() -> None:
    net = fb.Sequential([fb.Input(3), fb.Dense(8, "tanh"), fb.Dense(2)], loss="cross_entropy", seed=0)
    assert net.dtype == np.float32 and fb.gradcheck(net, rows(5, 3).astype(np.float32), [0, 1, 1, 0, 1]).ok


@pytest.mark.parametrize(
    ("layers", "samples"),
    [([64, 64], 60), pytest.param([96, 64, 64], None, marks=pytest.mark.full)],
    ids=["sample", "ten thousand"],
)
def test_large_smooth_networks(layers: list[int], samples: int | None) -> None:
    hidden = [fb.Dense(units, f) for units, f in zip(layers, ("tanh", "softplus", "sigmoid"), strict=False)]
    net = fb.Sequential([fb.Input(16), *hidden, fb.Dense(4)], loss="cross_entropy", seed=0)
    check = fb.gradcheck(net, rows(20, 16), target("cross_entropy", 20, 4), samples=samples)
    assert check.ok, check
    assert not any(tensor.kinks for tensor in check.tensors)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_any_scale_of_inputs(scale: float) -> None:
    net = fb.Sequential([fb.Input(3), fb.Dense(8, "tanh"), fb.Dense(2)], loss="squared_error", seed=0)
    check = fb.gradcheck(net, scale * rows(5, 3), rows(5, 2, seed=1))
    assert check.ok, check


def test_the_network_stays_as_it_is() -> None:
    net, x, y = all_gates()
    net.forward(*x)
    net.backward()
    before = state_of(net)
    fb.gradcheck(net, x, y)
    fb.jacobian(net, x)
    net.trace(x, y)
    fb.gradient_flow(net, x, y)
    net.summary()
    assert state_of(net) == before


def test_frozen_layers_and_samples() -> None:
    net = fb.Sequential([fb.Input(3), fb.Dense(8, "tanh"), fb.Dense(2)], loss="squared_error", seed=0)
    net.layers[1].trainable = False
    x, y = rows(5, 3), rows(5, 2, seed=1)
    check = fb.gradcheck(net, x, y, samples=7)
    assert [(tensor.note, tensor.checked) for tensor in check.tensors] == [("frozen", 0)] * 2 + [("", 7), ("", 2), ("", 7)]
    assert str(check) == str(fb.gradcheck(net, x, y, samples=7))
    assert str(check) != str(fb.gradcheck(net, x, y, samples=7, seed=1))


# What is wrong --------------------------------------------------------------------------------------------------------


def wrong_slope(z: Any) -> Any:
    slope = 1 - np.tanh(z) ** 2
    slope[:, 2] *= 1 + 1e-5
    return slope


def test_a_wrong_derivative_is_found_and_pointed_to() -> None:
    layers = [fb.Input(3), fb.Dense(4, (np.tanh, wrong_slope)), fb.Dense(2)]
    check = fb.gradcheck(fb.Sequential(layers, loss="squared_error", seed=0), rows(5, 3), rows(5, 2, seed=1))
    assert not check and not check.ok
    wrong = {tensor.name: tensor for tensor in check.tensors if tensor.worst > check.tolerance}
    assert set(wrong) == {"layers[1].weight", "layers[1].bias", "input"}
    assert wrong["layers[1].weight"].where[1] == 2 and wrong["layers[1].bias"].where == (2,)
    assert "WRONG" in str(check) and check.worst.at in str(check)
    right = fb.Dense(4, (np.tanh, lambda z: 1 - np.tanh(z) ** 2))
    assert fb.gradcheck(fb.Sequential([fb.Input(3), right], seed=0), rows(5, 3)).ok


def half_wrong(out: Any, y: Any) -> tuple[float, Any]:
    D = out - y
    return 0.5 * float((D * D).sum()), D * [1, 2]


def test_a_wrong_loss_is_found() -> None:
    net = fb.Sequential([fb.Input(3), fb.Dense(2)], loss=half_wrong, seed=0)
    check = fb.gradcheck(net, rows(5, 3), rows(5, 2, seed=1))
    assert not check.ok and check.tensors[0].where[1] == 1
    with pytest.raises(ArithmeticError, match="WRONG"):
        fb.gradcheck(net, rows(5, 3), rows(5, 2, seed=1), raise_error=True)


def test_a_gradient_that_is_not_a_number_is_wrong() -> None:
    net = fb.Sequential([fb.Input(1), fb.Dense(1)], loss="squared_error", seed=0)
    check = fb.gradcheck(net, [[math.nan]], [[1.0]])
    assert not check.ok and math.isnan(check.worst.worst)


# Kinks ----------------------------------------------------------------------------------------------------------------


def kinks(check: fb.inspect.gradcheck.GradientCheck) -> list[int]:
    return [tensor.kinks for tensor in check.tensors]


def test_relu_at_its_kink_and_near_it() -> None:
    x = fb.Input(4)
    net = fb.Model(x, gate_of("relu", x), dtype="float64")
    check = fb.gradcheck(net, [[0.0, 1e-12, 1e-3, -1e-3]])
    assert check.ok and kinks(check) == [2] and check.tensors[0].checked == 2


def test_maximum_where_both_are_equal() -> None:
    x, y = fb.Input(2), fb.Input(2)
    check = fb.gradcheck(fb.Model([x, y], fb.maximum(x, y)), [[[1.0, 2.0]], [[1.0, 3.0]]])
    assert check.ok and kinks(check) == [1, 1]


@pytest.mark.parametrize(
    ("loss", "out", "y"),
    [
        ("absolute_error", [[1.0, 2.0]], [[1.0, 3.0]]),
        ("quantile", [[1.0, 2.0]], [[1.0, 3.0]]),
        ("huber", [[2.0, 2.0]], [[1.0, 2.5]]),
        ("hinge", [[1.0, 0.0, 2.5]], [0]),
        ("binary_hinge", [[1.0, 2.0]], [[1.0, 1.0]]),
    ],
)
def test_losses_at_their_kinks(loss: str, out: list[list[float]], y: Any) -> None:
    x = fb.Input(len(out[0]))
    net = fb.Model(x, fb.Activation("identity")(x), loss=loss, dtype="float64")
    check = fb.gradcheck(net, out, y)
    assert check.ok, check
    assert 0 < kinks(check)[0] < len(out[0])


def test_a_kink_does_not_hide_an_error() -> None:
    """A wrong slope beside the kinks of 64 relus is found: those that are left out are few."""
    layers = [fb.Input(8), fb.Dense(64, "relu"), fb.Dense(64, "relu"), fb.Dense(3)]
    x, y = rows(20, 8), rows(20, 3, seed=1)
    right = fb.gradcheck(fb.Sequential(layers, loss="squared_error", seed=0), x, y, samples=100)
    assert right.ok and sum(kinks(right)) < 10

    def loss(out: Any, y: Any) -> tuple[float, Any]:
        E, dout = fb.losses.squared_error(out, y)
        return E, dout * (1 + 1e-6)

    layers = [fb.Input(8), fb.Dense(64, "relu"), fb.Dense(64, "relu"), fb.Dense(3)]
    assert not fb.gradcheck(fb.Sequential(layers, loss=loss, seed=0), x, y, samples=100).ok


# Differences ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "df", "at"), [(math.exp, math.exp, 1.0), (math.sin, math.cos, 2.0), (math.atan, lambda t: 1 / (1 + t * t), 0.3)]
)
def test_differences_of_smooth_functions(f: Any, df: Any, at: float) -> None:
    found = derivative(lambda t: (f(t), b""), at, b"", 0.25, 1e-9, EPS, 1e-10)
    assert abs(found.value - df(at)) < 1e-10 * abs(df(at)) + 4 * EPS / found.step


def test_differences_step_aside_of_kinks() -> None:
    def f(t: float) -> tuple[float, bytes]:
        return abs(t) * t, b"+" if t > 0 else b"-"

    found = derivative(f, 0.01, b"+", 0.25, 1e-9, EPS, 1e-10)
    assert not found.kink and found.step < 0.01 and abs(found.value - 0.02) < 1e-10
    assert derivative(f, 1e-10, b"+", 0.25, 1e-9, EPS, 1e-10).kink


def test_noise_is_measured() -> None:
    generator = np.random.default_rng(0)
    for s in (1e-12, 1e-3):
        values = 1 + s * generator.normal(size=9)
        assert s < noise_of(values.tolist()) < 40 * s
    assert noise_of([5.0] * 9) == 5 * EPS


# Arguments ------------------------------------------------------------------------------------------------------------


def test_bad_arguments() -> None:
    net = fb.Sequential([fb.Input(3), fb.Dense(2)], seed=0)
    x = rows(5, 3)
    for look in (fb.gradcheck, fb.jacobian, fb.gradient_flow):
        with pytest.raises(TypeError, match=r"net must be a Model or Sequential of fastbp, got fastbp\.reference"):
            look(fb.reference.Sequential([fb.reference.Input(3), fb.reference.Dense(2)]), x)
    with pytest.raises(RuntimeError, match="no loss"):
        fb.gradcheck(net, x, rows(5, 2))
    with pytest.raises(ValueError, match="dout must have the shape of the output, \\(5, 2\\), got \\(5, 3\\)"):
        fb.gradcheck(net, x, dout=x)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        fb.gradcheck(net, x, samples=0)
    with pytest.raises(ValueError, match="tolerance must be above 0"):
        fb.gradcheck(net, x, tolerance=0)
    with pytest.raises(ValueError, match="sample_weight must come with y"):
        fb.gradcheck(net, x, sample_weight=[1] * 5)
    with pytest.raises(ValueError, match="x must have shape"):
        fb.gradcheck(net, rows(5, 4))


# Jacobians ------------------------------------------------------------------------------------------------------------


def test_jacobian_of_a_layer_is_its_closed_form() -> None:
    net = fb.Sequential([fb.Input(3), fb.Dense(4, "tanh"), fb.Dense(2, bias=False)], dtype="float64", seed=0)
    x = rows(5, 3)
    J = fb.jacobian(net, x)
    assert J.shape == (5, 2, 3) and J.dtype == np.float64
    W, V = net.layers[1].weight, net.layers[2].weight
    for i, z in enumerate(x @ W + net.layers[1].bias):
        expected = V.T @ np.diag(1 - np.tanh(z) ** 2) @ W.T
        bound = 16 * EPS * (np.abs(V.T) @ np.abs(W.T))  # sums of 3 and 4 products, and tanh within 2 ulp
        assert np.all(np.abs(J[i] - expected) <= bound)


def test_jacobians_of_several_inputs_and_outputs() -> None:
    net, x, _ = all_gates()
    J = fb.jacobian(net, x)
    assert [[part.shape for part in parts] for parts in J] == [
        [(6, units, width) for width in (4, 1, 2)] for units in (3, 2)
    ]
    total = sum(J[0][0][:, j] for j in range(3))
    net.forward(*x, training=False)
    dx = net.backward([np.ones((6, 3)), np.zeros((6, 2))])[0]
    assert np.all(np.abs(total - dx) <= 64 * EPS * sum(np.abs(J[0][0][:, j]) for j in range(3)).max())


@pytest.mark.parametrize("scale", [100.0, 1000.0])
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "gelu", "softplus"])
def test_inputs_so_large_that_a_step_crosses_the_whole_function(name: str, scale: float) -> None:
    for seed in range(10):
        random = np.random.default_rng(seed)
        net = fb.Sequential([fb.Input(4), fb.Dense(6, name), fb.Dense(2)], "squared_error", seed=seed, dtype="float64")
        check = fb.gradcheck(net, random.normal(size=(5, 4)) * scale, random.normal(size=(5, 2)))
        assert check.ok, check


def test_what_is_wrong_is_found_with_large_inputs_too() -> None:
    random = np.random.default_rng(0)
    wrong = (lambda z: np.logaddexp(0, z), lambda z: 0.45 * (1 + np.tanh(z / 2)))
    net = fb.Sequential([fb.Input(4), fb.Dense(6, wrong), fb.Dense(2)], "squared_error", seed=0, dtype="float64")
    check = fb.gradcheck(net, random.normal(size=(5, 4)) * 1000, random.normal(size=(5, 2)))
    assert not check.ok and check.worst.worst > 0.05
