"""Passes written out and drawn: every number is the network's own, and what is sent is what is received."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_networks import ACTIVATIONS, Array, activated, all_gates, rows, xyz

import fastbp as fb
from fastbp import extras
from fastbp.inspect.layout import layout
from fastbp.inspect.trace import Trace
from fastbp.values import gate_of

EPS = float(np.finfo(np.float64).eps)


def neuron() -> fb.Sequential:
    layer = fb.Dense(1, "sigmoid", weight_init=[[2], [-3]], bias_init=[-3])
    return fb.Sequential([fb.Input(2), layer], dtype="float64")


def residual() -> tuple[fb.Sequential, Array, Array]:
    block = fb.Residual(fb.Dense(3, "tanh"), fb.Dense(3))
    layers = [fb.Input(2), fb.Dense(3, "tanh"), block, fb.Dense(3, "softmax")]
    return fb.Sequential(layers, loss="squared_error", dtype="float64", seed=0), rows(4, 2), rows(4, 3, seed=1)


def consistent(trace: Trace) -> None:
    """What a gate receives is the sum of what others send it; local gradients and what is sent fit."""
    for step in trace:
        received = [back.sent for other in trace for back in other.back if back.to == step.number]
        received += [dout for number, dout in zip(trace.outputs, trace.douts, strict=True) if number == step.number]
        known = [part for part in received if part is not None]
        if step.received is not None and known:
            assert step.received.shape == step.value.shape
            slack = len(known) * EPS * sum(np.abs(part) for part in known)
            assert np.all(np.abs(step.received - sum(known)) <= slack)
        for back in step.back:
            if back.sent is not None:
                assert back.sent.shape == trace.steps[back.to].value.shape
            if back.sent is not None and back.local is not None and step.delta is not None:
                d = step.delta if step.z is not None else step.received
                assert d is not None
                assert np.all(np.abs(back.sent - d * back.local) <= 4 * EPS * np.abs(d * back.local))


# Worked examples ------------------------------------------------------------------------------------------------------


def test_sum_times_z() -> None:
    trace = xyz().trace([-2, 5, -4], names="xyz")
    consistent(trace)
    assert trace["#3"].value.item() == 3 and trace.E == -12 and trace["#4"].formula == "#3 * z"
    assert [trace[name].received.item() for name in "xyz"] == [-4, -4, 3]  # type: ignore[union-attr]
    assert [back.local.item() for back in trace["#4"].back] == [-4, 3]  # type: ignore[union-attr]
    text = str(trace)
    assert "#3 = x + y   (1, 1)  3" in text
    assert "to #3 (1, 1): local gradient z = -4, sends d * local gradient = -4" in text
    assert text.index("forward") < text.index("E = -12") < text.index("backward")


def test_a_neuron_as_one_gate_and_as_a_chain() -> None:
    net = neuron()
    step = net.trace([[-1, -2]])[net.layers[1]]
    assert step.z is not None and step.slope is not None and step.received is not None
    assert step.z.item() == 1 and round(step.value.item(), 4) == 0.7311 and round(step.slope.item(), 4) == 0.1966
    assert step.gradients["weight"].round(4).tolist() == [[-0.1966], [-0.3932]]
    assert step.gradients["bias"].round(4).tolist() == [0.1966]
    assert step.back[0].sent is not None and step.back[0].sent.round(4).tolist() == [[0.3932, -0.5898]]
    x = fb.Input(2)
    z = fb.Dense(1, weight_init=[[2], [-3]], bias_init=[-3])(x)
    chain = fb.Model(x, fb.reciprocal(fb.exp(-z) + 1.0), dtype="float64").trace([[-1, -2]])
    consistent(chain)
    assert [step.formula for step in chain][1:] == ["[x 1] W", "-#1", "exp(#2)", "1", "#3 + 1", "1 / #5"]
    dx = chain["x"].received
    assert dx is not None and np.all(np.abs(dx - step.back[0].sent) <= 16 * EPS)


def test_maximum_routes_and_branches_add_up() -> None:
    x, y, z, w = (fb.Input(1) for _ in range(4))
    trace = fb.Model([x, y, z, w], 2 * (x * y + fb.maximum(z, w)), dtype="float64").trace([3, -4, 2, -1])
    consistent(trace)
    assert trace.E == -20 and [trace[i].received.item() for i in range(4)] == [-8, 6, 2, 0]  # type: ignore[union-attr]
    assert "to 2: nothing, no gradient is asked for there" in str(trace)
    x, y, z = (fb.Input(1) for _ in range(3))
    trace = fb.Model([x, y, z], (x + y) * fb.maximum(y, z), dtype="float64").trace([1, 2, 0], names="xyz")
    consistent(trace)
    assert trace.E == 6 and [trace[name].received.item() for name in "xyz"] == [2, 5, 0]  # type: ignore[union-attr]
    assert "dE/dy (1, 1) = what #3 sends + what #4 sends = 5" in str(trace)


# Any network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name: str) -> None:
    net = activated(name)
    trace = net.trace(rows(5, 3))
    consistent(trace)
    assert name in str(trace) or name in ("square", "power", "reciprocal", "negative", "identity")
    same_as_the_network(net, trace, rows(5, 3))


def same_as_the_network(net: fb.Model, trace: Trace, *x: Any, roundings: int = 0) -> None:
    """The copy is drawn apart; its bits are the network's, but where branches meet: there sums are made in another order."""
    net.forward(*x)
    net.backward(list(trace.douts) if len(trace.outputs) > 1 else trace.douts[0])
    for step in trace:
        np.testing.assert_array_equal(step.value, net.plan.value(step.number))
    gradients = [gradient.reshape(-1) for step in trace for gradient in step.gradients.values()]
    slack = roundings * EPS * np.abs(net.grads).max()
    assert np.all(np.abs(np.concatenate(gradients) - net.grads) <= slack)


def test_every_gate() -> None:
    net, x, y = all_gates()
    trace = net.trace(x, y)
    consistent(trace)
    gates = {step.node.gate for step in trace}
    assert gates >= {"dense", "embedding", "batch_norm", "layer_norm", "rms_norm", "standardize", "dropout", "slice", "matmul"}
    assert all(gate in ("input", "constant") or str(trace) for gate in gates)
    same_as_the_network(net, trace, *x, roundings=10 * 19)  # ten gates, each a sum of at most 19 terms


def test_large_arrays_are_cut() -> None:
    net = fb.Sequential([fb.Input(100), fb.Dense(50)], seed=0)
    text = str(net.trace(rows(200, 100)))
    assert "(200, 50)" in text and "..." in text and len(text.splitlines()) < 80


def test_functions_of_ones_own_and_given_gradients() -> None:
    cube = fb.Activation((lambda z: z**3, lambda z: 3 * z**2))
    net = fb.Sequential([fb.Input(1), cube], dtype="float64")
    trace = net.trace([2.0], dout=[[10.0]])
    assert trace.E == 80 and trace["x"].received.item() == 120  # type: ignore[union-attr]
    assert "local gradient df(x) = 12" in str(trace)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="names must be 3, one for each input"):
        xyz().trace([1, 2, 3], names="xy")
    with pytest.raises(RuntimeError, match="no loss"):
        xyz().trace([1, 2, 3], [1])
    with pytest.raises(KeyError):
        xyz().trace([1, 2, 3])["nothing"]


# Pictures -------------------------------------------------------------------------------------------------------------

CHAIN = [(), (0,), (1,)]
DIAMOND = [(), (0,), (0,), (1, 2), (0, 3)]
TWICE = [(), (), (0, 0), (1, 2), (0, 2, 3), (4, 4)]


@pytest.mark.parametrize("inputs", [CHAIN, DIAMOND, TWICE], ids=["chain", "diamond", "twice"])
def test_places(inputs: list[tuple[int, ...]]) -> None:
    places = layout(inputs)
    assert len(set(places.at)) == len(inputs)
    for i, sources in enumerate(inputs):
        for k, source in enumerate(sources):
            path = places.paths[i, k]
            assert path[0] == places.at[source] and path[-1] == places.at[i]
            assert [column for column, _ in path] == list(range(path[0][0], path[-1][0] + 1))
            assert not set(path[1:-1]) & set(places.at)


def test_graphviz() -> None:
    net, x, y = residual()
    for trace in (xyz().trace([-2, 5, -4], names="xyz"), net.trace(x, y)):
        text = trace.dot()
        assert text.startswith("digraph") and text.endswith("}") and text.count("{") == text.count("}")
        edges = re.findall(r"^  n(\d+) -> n(\d+) \[label=<<FONT COLOR=\"#\w+\">(.+?)</FONT>", text, re.M)
        assert [(int(a), int(b)) for a, b, _ in edges] == [(back.to, step.number) for step in trace for back in step.back]
        assert len(re.findall(r"^  n\d+ \[label=", text, re.M)) == len(trace)
    first = xyz().trace([-2, 5, -4], names="xyz").dot()
    assert '<FONT COLOR="#1a7f37">3</FONT><BR/><FONT COLOR="#c0262d">-4</FONT>' in first


def test_a_picture_has_all_numbers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "trace.svg"
    xyz().trace([-2, 5, -4], names="xyz").plot(path)
    words = ["".join(node.itertext()).strip() for node in ElementTree.parse(path).iter() if node.tag.endswith("}text")]
    (caption,) = (word for word in words if word.startswith("above"))
    words.remove(caption)
    assert sorted(words) == sorted(["x", "y", "z", "+", "*", "-2", "-4", "5", "-4", "-4", "3", "3", "-4", "-12", "1"])
    assert "the sum of dout * output" in caption


def test_the_same_picture_is_the_same_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        xyz().trace([-2, 5, -4], names="xyz").plot(tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_pictures_of_larger_graphs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    net, x, y = all_gates()
    res, u, v = residual()
    for i, trace in enumerate((net.trace(x, y), res.trace(u, v))):
        path = tmp_path / f"{i}.png"
        figure = trace.plot(path)
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
        assert len(figure.axes[0].texts) > 2 * sum(len(step.back) for step in trace) - len(trace)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> Any:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module.partition(".")[0])

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(extras.MissingExtraError, match=r'a picture needs matplotlib: pip install "fastbp\[plot\]"'):
        xyz().trace([-2, 5, -4]).plot()


def test_gates_used_twice() -> None:
    x = fb.Input(2)
    trace = fb.Model(x, x * x + gate_of("tanh", x), dtype="float64").trace([[1.0, 2.0]])
    consistent(trace)
    assert [back.to for back in trace["#1"].back] == [0, 0]
