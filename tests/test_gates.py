"""Gates on whole numbers: nothing is rounded, so every output and every gradient is exact, whatever the size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, ISAS, Array, integers, numbers
from graphs import dense, node

from fastbp.graph import Node, compile_graph

OPERATIONS = ("add", "subtract", "multiply", "maximum", "minimum")
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 131)


def results(nodes: Sequence[Node], x: Sequence[Array], dout: Array, dtype: str, isa: str) -> tuple[Array, list[Array], Array]:
    """Outputs, gradients of the inputs, and of the parameters, which are 1, 2, ...; every way to the output agrees."""
    plan = compile_graph(nodes, dtype=dtype, isa=isa)
    plan.params()[:] = 1 + np.arange(plan.parameters) % 5
    given = x[0] if len(x) == 1 else list(x)
    out = plan.forward(given)
    np.testing.assert_array_equal(plan.predict(given), out)
    dx = plan.backward(dout, True)
    assert [d.dtype for d in (out, *dx)] == [np.dtype(dtype)] * (1 + len(x))
    return out, dx, plan.grads().copy()


def local(gate: str, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Z, dZ/dX, dZ/dY; a maximum gives half to each of two equal ones."""
    one = np.ones_like(x)
    larger = np.sign(x - y) / 2 + 1 / 2
    return {
        "add": (x + y, one, one),
        "subtract": (x - y, one, -one),
        "multiply": (x * y, y, x),
        "maximum": (np.maximum(x, y), larger, 1 - larger),
        "minimum": (np.minimum(x, y), 1 - larger, larger),
    }[gate]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gate", OPERATIONS)
def test_two_inputs(gate: str, dtype: str) -> None:
    for width, rows in itertools.product(WIDTHS, (1, 5)):
        x, y, dout = (integers(rows, width, most=4, seed=s).astype(float) for s in (1, 2, 3))
        Z, to_x, to_y = local(gate, x, y)
        nodes = [Node("input", (), width), Node("input", (), width), node(gate, 0, 1)]
        for isa in ISAS:
            out, dx, _ = results(nodes, [x, y], 2 * dout, dtype, isa)
            np.testing.assert_array_equal(out, Z)
            np.testing.assert_array_equal(dx, [2 * dout * to_x, 2 * dout * to_y], f"{isa}, width {width}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gate", OPERATIONS)
def test_the_same_value_as_both_operands(gate: str, dtype: str) -> None:
    """It receives both parts."""
    for width in WIDTHS:
        x, dout = (integers(3, width, most=4, seed=s).astype(float) for s in (1, 2))
        Z, to_x, to_y = local(gate, x, x)
        for isa in ISAS:
            out, dx, _ = results([Node("input", (), width), node(gate, 0, 0)], [x], 2 * dout, dtype, isa)
            np.testing.assert_array_equal(out, Z)
            np.testing.assert_array_equal(dx[0], 2 * dout * (to_x + to_y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gate", OPERATIONS)
def test_a_constant_operand(gate: str, dtype: str) -> None:
    for width in (1, 5, 16, 33):
        x, dout = (integers(3, width, most=4, seed=s).astype(float) for s in (1, 2))
        c = integers(width, most=4, seed=3).astype(float)
        constant = node("constant", width=width, values=c)
        for isa, first in itertools.product(ISAS, (True, False)):
            Z, to_x, _ = local(gate, x, c + 0 * x)
            if not first:
                Z, _, to_x = local(gate, c + 0 * x, x)
            out, dx, _ = results(
                [Node("input", (), width), constant, node(gate, *((0, 1) if first else (1, 0)))], [x], 2 * dout, dtype, isa
            )
            np.testing.assert_array_equal(out, Z)
            np.testing.assert_array_equal(dx[0], 2 * dout * to_x)


@pytest.mark.parametrize("gate", ["maximum", "minimum"])
def test_maxima_of_nan_and_infinity(gate: str) -> None:
    """NaN of either operand is the result; it routes no gradient, as the derivative of ReLU does not."""
    x = np.array([[np.nan, 1.0, np.nan, np.inf, -np.inf, np.inf, -0.0]])
    y = np.array([[1.0, np.nan, np.nan, 1.0, 1.0, np.inf, 0.0]])
    nodes = [Node("input", (), 7), Node("input", (), 7), node(gate, 0, 1)]
    for isa, dtype in itertools.product(ISAS, DTYPES):
        out, dx, _ = results(nodes, [x, y], np.ones((1, 7)), dtype, isa)
        np.testing.assert_array_equal(out, getattr(np, gate)(x, y))
        larger = [0, 0, 0, 1, 0, 0.5, 0.5] if gate == "maximum" else [0, 0, 0, 0, 1, 0.5, 0.5]
        np.testing.assert_array_equal(dx[0], [larger])
        np.testing.assert_array_equal(dx[1], [[0, 0, 0, *(1 - np.array(larger[3:]))]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_concatenate_and_slice(dtype: str) -> None:
    """Columns that two parts share receive from both, those of none receive 0."""
    for width in (5, 16, 33):
        x, y = integers(4, width, most=9, seed=1).astype(float), integers(4, 3, most=9, seed=2).astype(float)
        nodes = [
            Node("input", (), width),
            Node("input", (), 3),
            node("slice", 0, width=width - 2, settings=(1,)),
            node("slice", 0, width=2, settings=(0,)),
            node("concatenate", 2, 1, 3, 1, 2),
        ]
        parts = [x[:, 1:-1], y, x[:, :2], y, x[:, 1:-1]]
        dout = integers(4, 2 * width + 4, most=9, seed=3).astype(float)
        d = np.split(dout, np.cumsum([part.shape[1] for part in parts])[:-1], axis=1)
        dX = np.zeros_like(x)
        dX[:, 1:-1] += d[0] + d[4]
        dX[:, :2] += d[2]
        for isa in ISAS:
            out, dx, _ = results(nodes, [x, y], dout, dtype, isa)
            np.testing.assert_array_equal(out, np.hstack(parts))
            np.testing.assert_array_equal(dx[0], dX)
            np.testing.assert_array_equal(dx[1], d[1] + d[3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gate", ["matmul", "dense", "dense without bias"])
def test_products(gate: str, dtype: str) -> None:
    """D = W X: dW = dD X^T, dX = W^T dD; the matrix of a matmul receives nothing."""
    for width, units in itertools.product((1, 3, 16, 33), (1, 4, 17, 65, 200)):
        x, dout = integers(5, width, most=4, seed=1).astype(float), integers(5, units, most=4, seed=2).astype(float)
        W = 1.0 + np.arange(width * units).reshape(width, units) % 5
        bias = 1.0 + (width * units + np.arange(units)) % 5 if gate == "dense" else np.zeros(units)
        product = node("matmul", 0, width=units, values=W) if gate == "matmul" else dense(0, units, bias=int(gate == "dense"))
        dW = {"matmul": np.empty(0), "dense": np.append(x.T @ dout, dout.sum(axis=0))}.get(gate, (x.T @ dout).reshape(-1))
        for isa in ISAS:
            out, dx, grads = results([Node("input", (), width), product], [x], dout, dtype, isa)
            np.testing.assert_array_equal(out, x @ W + bias)
            np.testing.assert_array_equal(dx[0], dout @ W.T)
            np.testing.assert_array_equal(grads, dW)


def test_an_input_that_nothing_takes() -> None:
    nodes = [Node("input", (), 2), Node("input", (), 3), dense(1, 2)]
    plan = compile_graph(nodes, dtype="float64")
    for rows in (5, 3):
        plan.forward([np.ones((rows, 2)), np.ones((rows, 3))])
        dx = plan.backward(np.ones((rows, 2)), True)
        np.testing.assert_array_equal(dx[0], np.zeros((rows, 2)))
        np.testing.assert_array_equal(plan.delta(0), np.zeros((rows, 2)))


def test_many_rows_are_the_same_rows() -> None:
    """More than 4096 rows, more than one block: every gate that takes rows one by one gives them the same results."""
    nodes = [
        Node("input", (), 7),
        dense(0, 7),
        node("maximum", 0, 1),
        node("slice", 2, width=4, settings=(2,)),
        node("concatenate", 3, 2),
        node("layer_norm", 4, settings=(1e-5,)),
        node("rms_norm", 5, settings=(1e-5,)),
        node("multiply", 6, 6),
    ]
    plan = compile_graph(nodes, dtype="float32")
    plan.params()[:] = numbers(plan.parameters)
    x, dout = numbers(5000, 7, dtype="float32"), numbers(5000, 11, seed=1, dtype="float32")
    out, dx = plan.forward(x), plan.backward(dout, True)
    np.testing.assert_array_equal(plan.predict(x), out)
    for rows in (slice(0, 1), slice(4095, 4098), slice(4999, 5000)):
        np.testing.assert_array_equal(plan.forward(x[rows]), out[rows])
        np.testing.assert_array_equal(plan.backward(dout[rows], True)[0], dx[0][rows])


# Graphs that make no sense ----------------------------------------------------------------------------------------------

WIDE = Node("input", (), 4)
SENSELESS: dict[str, list[Node]] = {
    "a slice past the end": [WIDE, node("slice", 0, width=3, settings=(2,))],
    "a slice before the start": [WIDE, node("slice", 0, width=2, settings=(-1,))],
    "a slice of nothing": [WIDE, node("slice", 0, width=0, settings=(1,))],
    "different widths": [WIDE, dense(0, 3), node("multiply", 0, 1)],
    "a rate of 1": [WIDE, node("dropout", 0, settings=(1.0,))],
    "a rate that is no number": [WIDE, node("dropout", 0, settings=(np.nan,))],
    "an embedding of no categories": [WIDE, node("embedding", 0, width=4, settings=(0,))],
    "an embedding of uneven width": [WIDE, node("embedding", 0, width=6, settings=(3,))],
    "a constant too short": [WIDE, node("constant", width=4, values=np.ones(3)), node("add", 0, 1)],
    "a constant too long": [WIDE, node("constant", width=4, values=np.ones(5)), node("add", 0, 1)],
    "a constant of nothing": [WIDE, node("constant", width=4), node("add", 0, 1)],
    "a matrix too small": [WIDE, node("matmul", 0, width=3, values=np.ones((3, 3)))],
    "nothing concatenated": [WIDE, node("concatenate")],
    "no input": [node("constant", width=2, values=np.ones(2)), dense(0, 2)],
    "a gate that leads nowhere": [WIDE, dense(0, 3), dense(0, 2)],
}


@pytest.mark.parametrize("name", SENSELESS)
def test_graphs_that_make_no_sense(name: str) -> None:
    with pytest.raises(ValueError, match="graph"):
        compile_graph(SENSELESS[name], dtype="float32")


def test_sizes_that_do_not_fit() -> None:
    most = Node("input", (), 2**60 - 100)
    for nodes in (
        [most, node("concatenate", *[0] * 17)],
        [most, node("concatenate", 0, 0)],
        [WIDE, node("embedding", 0, width=2**62, settings=(9,))],
    ):
        with pytest.raises((ValueError, MemoryError), match=r"address space|not enough memory"):
            compile_graph(nodes, dtype="float64")


@pytest.mark.parametrize("method", ["set_trainable", "offset", "state_offset", "value", "delta"])
def test_nodes_that_are_none(method: str) -> None:
    plan: Any = compile_graph([WIDE, dense(0, 2)], dtype="float64")
    plan.forward(np.zeros((1, 4)))
    for number in (-1, 2, 1000):
        with pytest.raises(ValueError, match="node must be from 0 to 1"):
            getattr(plan, method)(number, *([True] if method == "set_trainable" else []))
