"""Norms: statistics of rows and columns, what is remembered of them, and a batch norm folded into the weights before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bounds import Rounding
from cases import DTYPES, FMA_ISAS, ISAS, Array, assert_same_bits, numbers, two_fma_isas
from graphs import Graph, dense, node

import fastbp as fb
from fastbp.graph import Node, Objective, compile_graph

SETTINGS = (1e-5, 0.1)  # eps, momentum
NORMS = ("layer_norm", "rms_norm", "batch_norm")
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130)


def alone(gate: str, width: int, dtype: str = "float64", isa: str | None = None) -> Any:
    plan = compile_graph([Node("input", (), width), node(gate, 0, settings=SETTINGS)], dtype=dtype, isa=isa)
    plan.params()[:] = 1 + numbers(plan.parameters, seed=1) / 2
    plan.state()[:] = 1.0
    return plan


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gate", NORMS)
def test_rows_around_the_length_of_a_register(gate: str, dtype: str) -> None:
    """Every lane of a tail counts, and none beside it."""
    for width in WIDTHS:
        x, dout = (numbers(5, width, seed=s, dtype="float32").astype(float) for s in (2, 3))
        for isa in ISAS:
            plan = alone(gate, width, dtype, isa)
            params = plan.params().astype(float)
            got = plan.forward(x), plan.backward(dout, True)[0], plan.grads().astype(float)
            for k, name in enumerate(("output", "dx", "grads")):
                wanted = expected(gate, width, params, x, dout, dtype)[k]
                oracle = expected(gate, width, params, x, dout, "float64")[k]
                assert np.all(np.abs(got[k] - wanted.value) <= wanted.error + oracle.error), f"{isa}: {name} of width {width}"


def expected(gate: str, width: int, params: Array, x: Array, dout: Array, dtype: str) -> Any:
    nodes = [Node("input", (), width), node(gate, 0, settings=SETTINGS)]
    graph = Graph(nodes, params, np.ones(2 * width * (gate == "batch_norm")), [x], [np.ones((1, 1))] * 2, Rounding(dtype))
    dx, dW = graph.backward({1: dout})
    flat = dW[1].value.reshape(-1), dW[1].error.reshape(-1)
    return graph.O[1], dx[0], type(dx[0])(*flat, graph.in_)


@two_fma_isas
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gate", NORMS)
def test_same_bits_on_every_isa(gate: str, dtype: str) -> None:
    for width in WIDTHS:
        x, dout = numbers(9, width, seed=2, dtype=dtype), numbers(9, width, seed=3, dtype=dtype)
        results = []
        for isa in FMA_ISAS:
            plan = alone(gate, width, dtype, isa)
            results.append(
                [plan.forward(x), *plan.backward(dout, True), plan.grads().copy(), plan.state().copy(), plan.predict(x)]
            )
        for one, other in zip(*results[:2], strict=True):
            assert_same_bits(one, other, f"width {width}")


@pytest.mark.parametrize("gate", NORMS)
@pytest.mark.parametrize("where", [0, 6])
def test_nan_stays(gate: str, where: int) -> None:
    """In its row, or of a batch norm in its column; nowhere else."""
    x = numbers(4, 7, seed=4)
    x[2, where] = np.nan
    O = alone(gate, 7).forward(x)
    hit = np.zeros((4, 7), bool)
    hit[(slice(None), where) if gate == "batch_norm" else 2] = True
    np.testing.assert_array_equal(np.isnan(O), hit)


def test_a_constant_row_or_column_is_zero() -> None:
    """Its variance is 0, and 1 / sqrt(eps) finite."""
    for gate in NORMS:
        plan = alone(gate, 5)
        O = plan.forward(np.zeros((3, 5)))
        shift = plan.params()[5:] if gate != "rms_norm" else np.zeros(5)
        np.testing.assert_array_equal(O, np.tile(shift, (3, 1)))
        assert np.isfinite(plan.backward(np.ones((3, 5)), True)[0]).all()


# Batch norm -----------------------------------------------------------------------------------------------------------


def network(dtype: str = "float64", activation: str = "identity", units: int = 5, bias: int = 1) -> Any:
    nodes = [
        Node("input", (), 4),
        dense(0, units, activation, bias),
        node("batch_norm", 1, settings=SETTINGS, activation="tanh"),
        dense(2, 3),
    ]
    plan = compile_graph(nodes, dtype=dtype, losses=[Objective("squared_error")], optimizer="sgd", seed=1)
    plan.set_hyper(0.1)
    plan.params()[:] = numbers(plan.parameters, seed=5, dtype=dtype)
    plan.state()[:] = 1.0
    return plan


X, T = numbers(64, 4, seed=6), numbers(64, 3, seed=7)


def prediction(plan: Any, X: Array) -> Array:
    """The output from the parameters and state there are, in float64."""
    params, state = plan.params().astype(float), plan.state().astype(float).reshape(2, -1)
    U = state.shape[1]
    W, gain, shift = params[: 5 * U].reshape(5, U), params[5 * U : 6 * U], params[6 * U : 7 * U]
    Z = (X @ W[:-1] + W[-1] - state[0]) / np.sqrt(state[1] + SETTINGS[0]) * gain + shift
    V = params[7 * U :].reshape(U + 1, 3)
    return np.tanh(Z) @ V[:-1] + V[-1]


def close(got: Array, wanted: Array, dtype: str = "float64", units: int = 5) -> bool:
    """Two products, and between them three quotients and products: numbers below 8, that many roundings."""
    return bool(np.all(np.abs(got - wanted) <= 8 * units * Rounding(dtype).gamma(2 * (units + 8))))


@pytest.mark.parametrize("units", [5, 200], ids=["rows", "panels"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_folded_weights_are_those_of_now(units: int, dtype: str) -> None:
    """Whatever has changed parameters or statistics, and whoever has looked at the weights since."""
    plan = network(dtype, units=units)

    def check(what: str) -> None:
        assert close(plan.predict(X), prediction(plan, X), dtype, units), what

    plan.forward(X, False)
    check("forward before the first prediction")
    plan.train_step(X, T)
    check("a step")
    plan.params()[:] *= 0.5
    check("written parameters")
    plan.params()[:] *= 1.5
    plan.forward(X, False)
    check("written parameters, then forward")
    plan.state()[:] += 0.5
    plan.forward(X, False)
    plan.backward(T, False)
    check("written state, then backward")
    plan.forward(X)
    check("forward in training mode")
    plan.backward(T, False)
    plan.update()
    check("an update by hand")
    view = plan.params()
    view *= 1.25
    check("a view that is out")
    view *= 0.5
    check("a view that is still out")


@pytest.mark.parametrize("activation, bias", [("identity", 1), ("identity", 0), ("tanh", 1)])
def test_prediction_is_the_forward_pass_of_evaluation(activation: str, bias: int) -> None:
    plan = network(activation=activation, bias=bias)
    plan.train_step(X, T)
    assert close(plan.predict(X), plan.forward(X, False))
    (between, last), out = plan.predict(X, nodes=[1, 3]), plan.predict(X)
    assert_same_bits(last, out, "the output does not depend on what else is asked for")
    plan.forward(X, False)
    assert_same_bits(between, plan.value(1))


@pytest.mark.parametrize("rows", [1, 2, 5, 4096, 4097, 9000])
def test_running_statistics(rows: int) -> None:
    """running = (1 - momentum) running + momentum batch; the variance of a sample is over m - 1, of a single row 0."""
    plan = alone("batch_norm", 3)
    x = 3 + numbers(rows, 3, seed=8)
    plan.forward(x)
    mean, var = x.mean(axis=0), x.var(axis=0) * rows / max(rows - 1, 1)
    wanted = 0.9 * np.ones((2, 3)) + 0.1 * np.vstack([mean, var])
    bound = Rounding("float64").gamma(3 * (rows + 4)) * np.vstack([np.abs(x).mean(axis=0), (x**2).mean(axis=0) + 16])
    np.testing.assert_array_less(np.abs(plan.state().reshape(2, 3) - wanted), bound)


def test_no_statistics_of_evaluation_of_no_rows_or_of_a_failed_step() -> None:
    plan = network()
    before = plan.state().copy()
    plan.forward(X, False)
    plan.forward(X[:0])
    plan.predict(X)
    bad = T.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="y must be finite"):
        plan.train_step(X, bad)
    assert_same_bits(plan.state(), before)
    plan.train_step(X, T)
    assert (plan.state() != before).all()


def test_denormal_statistics_are_flushed_by_hand_as_in_training() -> None:
    """In float32, 0.9 times a tiny variance has no normal number."""
    x = np.zeros((4, 4))
    states = []
    for by_hand in (True, False):
        plan = network("float32")
        plan.state()[:] = np.finfo(np.float32).tiny
        plan.forward(x) if by_hand else plan.train_step(x, T[:4])
        states.append(plan.state().copy())
    assert_same_bits(*states)


@pytest.mark.usefixtures("keep_threads")
def test_wide_batch_norms_are_shared_out() -> None:
    """More columns than 64 times what the pool counts parts with."""
    fb.set_num_threads(2)
    plan = alone("batch_norm", 64 * 65536 + 1, "float32")
    x = np.zeros((2, plan.width), np.float32)
    x[1] = 2
    plan.params()[: plan.width] = 1
    plan.params()[plan.width :] = 0
    O = plan.forward(x)
    assert (O[0] == O[0, 0]).all() and (O[1] == -O[0, 0]).all()
