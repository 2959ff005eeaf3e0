"""Outputs and gradients of every activation, gate and layer beside PyTorch's, in float64 (losses and optimizers: in their tests).

Both round; the bound is that of the running error analysis where there is one, else sqrt(eps) of the largest number: a wrong
formula is off by far more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Array, numbers

import fastbp as fb
from fastbp._fastbp_core import ACTIVATIONS

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional
EPS = np.finfo(np.float64).eps

ACTIVATION: dict[str, Callable[[Any], Any]] = {
    "identity": lambda z: z,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "softmax": lambda z: torch.softmax(z, 1),
    "softplus": F.softplus,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "softsign": F.softsign,
    "gelu": F.gelu,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "relu6": F.relu6,
    "exp": torch.exp,
    "sin": torch.sin,
    "log_softmax": lambda z: torch.log_softmax(z, 1),
    "square": torch.square,
    "reciprocal": torch.reciprocal,
    "log": torch.log,
    "negative": torch.neg,
    "power": lambda z: z**2,
}


def close(got: Array, wanted: Any) -> None:
    wanted = wanted.detach().numpy()
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=np.sqrt(EPS) * max(1.0, np.abs(wanted).max()))
    assert np.abs(wanted).max() > np.sqrt(np.sqrt(EPS)), "nothing was compared"


def tensor(array: Array) -> Any:
    return torch.tensor(array, requires_grad=True)


def compare(
    build: Callable[..., fb.Value], theirs: Callable[..., Any], *inputs: Array, training: bool = True
) -> tuple[fb.Model, Array]:
    """One gate or layer as a network, and the same in PyTorch: its output, and the gradients of all inputs."""
    xs = [fb.Input(x.shape[1]) for x in inputs]
    model = fb.Model(xs, build(*xs), dtype="float64", seed=1)
    out = model.forward(*inputs, training=training)
    dout = numbers(*out.shape, seed=77)
    gradients = model.backward(dout)
    tensors = [tensor(x) for x in inputs]
    wanted = theirs(*tensors)
    close(out, wanted)
    wanted.backward(torch.tensor(dout))
    for gradient, x in zip(gradients, tensors, strict=True):
        close(gradient, x.grad)
    return model, dout


def test_every_activation_is_here() -> None:
    assert {*ACTIVATION, "custom"} == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATION)
def test_activation(name: str) -> None:
    x = 4 * numbers(9, 21, seed=3)
    if name in ("log", "reciprocal"):
        x = np.abs(x) + 0.5
    compare(fb.Activation(name), ACTIVATION[name], x)


@pytest.mark.parametrize(
    "name, parameter, theirs",
    [
        ("leaky_relu", 0.3, lambda z: F.leaky_relu(z, 0.3)),
        ("elu", 0.5, lambda z: F.elu(z, 0.5)),
        ("power", 3.0, lambda z: z**3),
    ],
)
def test_activation_with_a_parameter(name: str, parameter: float, theirs: Callable[[Any], Any]) -> None:
    compare(fb.Activation(name, parameter), theirs, 4 * numbers(9, 21, seed=3))


MATRIX = numbers(6, 4, seed=5)
GATES: dict[str, tuple[Callable[..., fb.Value], Callable[..., Any]]] = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "subtract": (lambda a, b: a - b, lambda a, b: a - b),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b),
    "divide": (lambda a, b: a / (b * b + 1), lambda a, b: a / (b * b + 1)),
    "maximum": (fb.maximum, torch.maximum),
    "minimum": (fb.minimum, torch.minimum),
    "concatenate": (lambda a, b: fb.concatenate([a, b, a]), lambda a, b: torch.cat([a, b, a], 1)),
    "slice": (lambda a, b: a[:, 1:4] * b[:, 2:5], lambda a, b: a[:, 1:4] * b[:, 2:5]),
    "constant": (lambda a, b: 2 * a - b + np.arange(6.0), lambda a, b: 2 * a - b + torch.arange(6.0)),
    "one column": (lambda a, b: a[:, 0] * b, lambda a, b: a[:, :1] * b),
    "matmul": (lambda a, b: (a - b) @ MATRIX, lambda a, b: (a - b) @ torch.tensor(MATRIX)),
    "twice": (lambda a, b: a * a + a * b, lambda a, b: a * a + a * b),
}


@pytest.mark.parametrize("name", GATES)
def test_gate(name: str) -> None:
    a, b = numbers(7, 6, seed=6), numbers(7, 6, seed=7)
    b[:2] = a[:2]  # ties of maximum and minimum
    compare(*GATES[name], a, b)


@pytest.mark.parametrize("bias", [True, False])
def test_dense(bias: bool) -> None:
    ours, theirs = fb.Dense(5, "silu", bias=bias), torch.nn.Linear(6, 5, bias=bias, dtype=torch.float64)
    x = numbers(8, 6, seed=8)
    inputs = fb.Input(6)
    model = fb.Model(inputs, ours(inputs), dtype="float64", seed=1)
    with torch.no_grad():
        theirs.weight[...] = torch.tensor(ours.weight.T.copy())
        if bias:
            ours.bias = numbers(5, seed=9)
            theirs.bias[...] = torch.tensor(ours.bias.copy())
    out, wanted = model.forward(x), F.silu(theirs(torch.tensor(x)))
    dout = numbers(8, 5, seed=10)
    model.backward(dout)
    wanted.backward(torch.tensor(dout))
    close(out, wanted)
    close(ours.dweight.T, theirs.weight.grad)
    if bias:
        close(ours.dbias, theirs.bias.grad)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm", "batch_norm"])
def test_norm(kind: str, training: bool) -> None:
    x, gain, shift = 3 * numbers(8, 6, seed=11) + 1, numbers(6, seed=12) + 2, numbers(6, seed=13)
    ours: Any = {"layer_norm": fb.LayerNorm, "rms_norm": fb.RMSNorm, "batch_norm": fb.BatchNorm}[kind]()
    theirs: Any = {
        "layer_norm": lambda: torch.nn.LayerNorm(6),
        "rms_norm": lambda: torch.nn.RMSNorm(6, eps=1e-6),
        "batch_norm": lambda: torch.nn.BatchNorm1d(6),
    }[kind]().double()
    theirs.train(training)
    inputs = fb.Input(6)
    model = fb.Model(inputs, ours(inputs), dtype="float64")
    with torch.no_grad():
        ours.gain = gain
        theirs.weight[...] = torch.tensor(gain)
        if kind != "rms_norm":
            ours.shift = shift
            theirs.bias[...] = torch.tensor(shift)
        if kind == "batch_norm":
            ours.running_mean, ours.running_var = numbers(6, seed=14), numbers(6, seed=15) + 2
            theirs.running_mean[...] = torch.tensor(ours.running_mean.copy())
            theirs.running_var[...] = torch.tensor(ours.running_var.copy())
    z = tensor(x)
    out, wanted = model.forward(x, training=training), theirs(z)
    dout = numbers(8, 6, seed=16)
    (dx,) = model.backward(dout)
    wanted.backward(torch.tensor(dout))
    close(out, wanted)
    close(dx, z.grad)
    close(ours.dgain, theirs.weight.grad)
    if kind != "rms_norm":
        close(ours.dshift, theirs.bias.grad)
    if kind == "batch_norm":
        close(ours.running_mean, theirs.running_mean)
        close(ours.running_var, theirs.running_var)


def test_embedding() -> None:
    x = np.array([[0, 4], [2, 2], [4, 1]])
    ours, theirs = fb.Embedding(5, 3), torch.nn.Embedding(5, 3, dtype=torch.float64)
    inputs = fb.Input(2)
    model = fb.Model(inputs, ours(inputs), dtype="float64", seed=1)
    with torch.no_grad():
        theirs.weight[...] = torch.tensor(ours.weight.copy())
    out, wanted = model.forward(x), theirs(torch.tensor(x)).reshape(3, 6)
    dout = numbers(3, 6, seed=17)
    model.backward(dout)
    wanted.backward(torch.tensor(dout))
    close(out, wanted)
    close(ours.dweight, theirs.weight.grad)


def test_standardize() -> None:
    x = 5 * numbers(40, 3, seed=18) + 2
    layer = fb.Standardize()
    layer.adapt(x)
    t = torch.tensor(x)
    mean, deviation = t.mean(0), t.std(0, unbiased=False)
    compare(layer, lambda z: (z - mean) / deviation, x)


def test_dropout() -> None:
    """The mask is our own; what is done with it is PyTorch's: kept numbers are multiplied by 1 / (1 - rate)."""
    x = numbers(16, 8, seed=19) + 2
    inputs = fb.Input(8)
    model = fb.Model(inputs, fb.Dropout(0.25)(inputs), dtype="float64", seed=1)
    out = model.forward(x)
    (dx,) = model.backward()
    kept = torch.tensor(out != 0)
    z = tensor(x)
    wanted = z * kept / (1 - 0.25)
    wanted.sum().backward()
    close(out, wanted)
    close(dx, z.grad)
    assert 0 < int(kept.sum()) < x.size


def test_residual() -> None:
    x = numbers(7, 5, seed=20)
    dense = fb.Dense(5, "tanh")
    inputs = fb.Input(5)
    model = fb.Model(inputs, fb.Residual(dense)(inputs), dtype="float64", seed=1)
    out = model.forward(x)
    (dx,) = model.backward()
    z, W, b = tensor(x), torch.tensor(dense.weight.copy()), torch.tensor(dense.bias.copy())
    wanted = z + torch.tanh(z @ W + b)
    wanted.sum().backward()
    close(out, wanted)
    close(dx, z.grad)
