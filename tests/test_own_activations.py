"""Activations of the user's own, a pair (f, df): at every gate, in every call, with their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, Array, assert_same_bits, numbers
from graphs import node

from fastbp.graph import Node, Objective, compile_graph

Function = Callable[[Array], Any]
ROWS = 6
X, T = numbers(ROWS, 3), numbers(ROWS, 2, seed=1)


def leaky(z: Array) -> Array:
    """The row of the table, operation for operation."""
    return np.where(z > 0, z, z * z.dtype.type(0.01))


def leaky_slope(z: Array) -> Array:
    return np.where(z > 0, z.dtype.type(1), z.dtype.type(0.01))


OWN = {"activation": "custom", "function": (leaky, leaky_slope)}
TABLE = {"activation": "leaky_relu"}


def plan_with(at: str, f: dict[str, Any], dtype: str = "float64", units: int = 5) -> Any:
    """One gate with the activation f, its output also an output of the network, between dense ones."""
    norm = {"settings": (1e-5, 0.1)}
    gates = {
        "dense": Node("dense", (1,), units, (1,), **f),
        "activation": node("activation", 1, **f),
        "add": node("add", 1, 1, **f),
        "slice": node("slice", 1, width=2, settings=(1,), **f),
        "layer_norm": node("layer_norm", 1, **norm, **f),
        "batch_norm": node("batch_norm", 1, **norm, **f),
        "dropout": node("dropout", 1, settings=(0.5,), **f),
    }
    nodes = [Node("input", (), 3), Node("dense", (0,), units, (1,)), gates[at], Node("dense", (2,), 2, (1,))]
    losses = [Objective("squared_error")]
    plan = compile_graph(nodes, dtype=dtype, losses=losses, optimizer="sgd", seed=1)
    plan.set_hyper(0.1)
    plan.params()[:] = numbers(plan.parameters, seed=2, dtype=dtype)
    plan.state()[:] = 1.0
    return plan


GATES = ("dense", "activation", "add", "slice", "layer_norm", "batch_norm", "dropout")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [5, 200], ids=["rows", "panels"])
@pytest.mark.parametrize("at", GATES)
def test_one_of_the_users_own_is_as_one_of_the_table(at: str, units: int, dtype: str) -> None:
    own, table = (plan_with(at, f, dtype, units) for f in (OWN, TABLE))
    for call in (
        lambda plan: plan.forward(X),
        lambda plan: plan.backward(T, True)[0],
        lambda plan: plan.grads().copy(),
        lambda plan: plan.predict(X),
        lambda plan: plan.predict(X, nodes=[2])[0],
        lambda plan: plan.train_step(X, T),
        lambda plan: plan.train_epoch(X, T, None, 4),
        lambda plan: plan.params().copy(),
        lambda plan: plan.predict(X),
        lambda plan: plan.forward(X[:0]),
    ):
        assert_same_bits(np.asarray(call(own)), np.asarray(call(table)))


def test_what_the_functions_are_given_is_their_own() -> None:
    """f may write to it; df sees Z, not what f has made of it; predictions need no df."""
    calls: list[str] = []

    def f(z: Array) -> Array:
        calls.append("f")
        z[:] = leaky(z)
        return z

    def df(z: Array) -> Array:
        calls.append("df")
        slope = leaky_slope(z)
        z[:] = np.nan
        return slope

    own, table = plan_with("dense", {"activation": "custom", "function": (f, df)}), plan_with("dense", TABLE)
    own.predict(X)
    assert calls == ["f"]
    own.train_step(X, T)
    table.train_step(X, T)
    assert sorted(calls) == ["df", "f", "f"]
    assert_same_bits(own.params().copy(), table.params().copy())


def failing(at: int) -> tuple[Function, Function]:
    """Functions of which number `at` fails."""

    def fail(z: Array) -> Array:
        raise ArithmeticError(f"number {at}")

    return (fail, leaky_slope) if at == 0 else (leaky, fail)


@pytest.mark.parametrize("at", [0, 1], ids=["f", "df"])
def test_an_exception_arrives_and_nothing_has_changed(at: int) -> None:
    plan = plan_with("batch_norm", {"activation": "custom", "function": failing(at)})
    before = [plan.params().copy(), plan.state().copy(), plan.grads().copy()]
    calls: list[Callable[[], object]] = [
        lambda: plan.train_step(X, T),
        lambda: plan.train_epoch(X, T, None, 2),
        lambda: plan.forward(X),
        lambda: plan.forward(X, False),
    ]
    for call in calls + [lambda: plan.predict(X)] * (at == 0):
        with pytest.raises(ArithmeticError, match=f"number {at}"):
            call()
    assert (plan.draws, plan.updates) == (0, 0)
    for one, other in zip([plan.params(), plan.state(), plan.grads()], before, strict=True):
        assert_same_bits(one.copy(), other)
    with pytest.raises(RuntimeError, match="forward"):
        plan.backward(T, False)
    if at == 1:
        plan.predict(X)


@pytest.mark.parametrize("returned", [np.ones((ROWS, 4)), np.ones(5), 1.0, np.ones((ROWS, 5), complex), None])
def test_what_a_function_may_not_return(returned: Any) -> None:
    for function in ((lambda z: returned, leaky_slope), (leaky, lambda z: returned)):
        plan = plan_with("dense", {"activation": "custom", "function": function})
        with pytest.raises((ValueError, TypeError), match=r"f must return an array|what d?f returns"):
            plan.train_step(X, T)


def test_a_function_cannot_call_its_own_network() -> None:
    """Nor one that only predicts: whoever wants to write waits for it."""

    def f(z: Array) -> Array:
        view = plan.params()
        return z + view[0]

    plan = plan_with("dense", {"activation": "custom", "function": (f, leaky_slope)})
    for call in (lambda: plan.predict(X), lambda: plan.train_step(X, T), lambda: plan.forward(X)):
        with pytest.raises(RuntimeError, match="cannot call the network"):
            call()


@pytest.mark.parametrize("f", [{"activation": "custom"}, {"activation": "tanh", "function": (leaky, leaky_slope)}])
def test_functions_and_the_row_custom_belong_together(f: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="graph"):
        plan_with("dense", f)
