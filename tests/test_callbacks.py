"""Losses of the user's own: what they are given, what becomes of what they return, and what happens when they fail."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, Array, assert_same_bits, numbers
from graphs import dense, node

from fastbp.graph import Node, Objective, compile_graph

ROWS = 6
X, T = numbers(ROWS, 3), numbers(ROWS, 2, seed=1)
Loss = Callable[[Array, Any], tuple[float, Any]]


def squared_error(out: Array, target: Array) -> tuple[float, Array]:
    """The row of the table, operation for operation."""
    d = out - target.astype(out.dtype)
    return 0.5 * float((d * d).sum()) / len(d), d * d.dtype.type(1 / len(d))


def plan_with(*losses: Any, dtype: str = "float64", units: int = 4, weight: float = 1.0) -> Any:
    """One output for each loss, all of one hidden layer."""
    nodes = [Node("input", (), 3), dense(0, units, "tanh"), node("batch_norm", 1, settings=(1e-5, 0.1))]
    nodes += [dense(2, 2) for _ in losses]
    objectives = [Objective(loss, weight=weight) for loss in losses]
    plan = compile_graph(nodes, range(3, 3 + len(losses)), dtype=dtype, losses=objectives, optimizer="sgd")
    plan.set_hyper(0.1)
    plan.params()[:] = numbers(plan.parameters, seed=2, dtype=dtype)
    plan.state()[:] = 1.0
    return plan


def raising(error: BaseException) -> Loss:
    def loss(out: Array, target: Any) -> tuple[float, Array]:
        raise error

    return loss


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [4, 200], ids=["rows", "panels"])
def test_a_loss_of_ones_own_trains_as_the_one_of_the_table(units: int, dtype: str) -> None:
    """The gradient has the same bits; of E only the last ones may differ, its sum having another order."""
    own, table = (plan_with(loss, dtype=dtype, units=units) for loss in (squared_error, "squared_error"))
    order = np.random.default_rng(0).permutation(ROWS)
    for rows in (order, None):
        got, wanted = own.train_epoch(X, T, rows, 4), table.train_epoch(X, T, rows, 4)
        assert abs(got - wanted) <= 2 * ROWS * np.finfo(dtype).eps * wanted
        assert_same_bits(own.params().copy(), table.params().copy())
        assert_same_bits(own.state().copy(), table.state().copy())
    assert own.draws == own.updates == 4


def test_each_loss_is_given_its_own_targets_and_adds_its_weight() -> None:
    seen: list[tuple[Array, Any]] = []

    def loss(out: Array, target: Any) -> tuple[float, Array]:
        seen.append((out.copy(), target.copy()))
        return float(len(seen)), np.ones_like(out)

    plan = plan_with(loss, loss, weight=0.5)
    words = np.arange(ROWS, dtype=np.int8)
    assert plan.train_step(X, [T, words]) == 0.5 * 1 + 0.5 * 2
    assert_same_bits(seen[0][1], T)
    assert_same_bits(seen[1][1], words)  # of any type and shape, one row for each of x
    assert [out.shape for out, _ in seen] == [(ROWS, 2)] * 2
    seen.clear()
    order = np.array([3, 1, 4, 0, 5, 2])
    plan.train_epoch(X, [T, words], order, 4)
    assert [target.tolist() for _, target in seen[1::2]] == [[3, 1, 4, 0], [5, 2]]


def test_what_a_loss_is_given_is_its_own() -> None:
    """Writing to it, or keeping it, harms nobody."""
    kept: list[Array] = []

    def careless(out: Array, target: Array) -> tuple[float, Array]:
        result = squared_error(out, target)
        kept.append(out)
        out[...] = np.nan
        return result

    one, other = plan_with(careless), plan_with(squared_error)
    for plan in (one, other):
        plan.train_step(X, T)
    assert_same_bits(one.params().copy(), other.params().copy())
    assert np.isnan(kept[0]).all()


def test_targets_are_given_back() -> None:
    plan, target = plan_with(squared_error), T.copy()
    gone = weakref.ref(target)
    plan.train_step(X, target)
    del target
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "returned, error, message",
    [
        ((1.0, np.ones((ROWS, 3))), ValueError, r"shape \(6, 2\), got \(6, 3\)"),
        ((1.0, 1.0), ValueError, r"shape \(6, 2\), got \(\)"),
        ((1.0, np.ones((ROWS, 2), complex)), TypeError, "real numbers, got complex128"),
        ((1.0, "no"), TypeError, "real numbers"),
        (("one", np.ones((ROWS, 2))), TypeError, "the loss must be a real number, got str"),
        (None, TypeError, r"must return \(loss, dout\), got None"),
        (np.ones((3, 2)), TypeError, r"must return \(loss, dout\)"),
    ],
)
def test_what_a_loss_may_not_return(returned: Any, error: type[Exception], message: str) -> None:
    plan = plan_with(lambda out, target: returned)
    before = plan.params().copy()
    with pytest.raises(error, match=message):
        plan.train_step(X, T)
    assert_same_bits(plan.params().copy(), before)


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("first", [True, False], ids=["first output", "second output"])
def test_an_exception_arrives_and_nothing_has_changed(first: bool, error: BaseException) -> None:
    calls: list[int] = []

    def counting(out: Array, target: Array) -> tuple[float, Array]:
        calls.append(1)
        return squared_error(out, target)

    losses = (raising(error), counting) if first else (counting, raising(error))
    plan = plan_with(*losses)
    before = [plan.params().copy(), plan.state().copy(), plan.predict(X)[0]]
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            plan.train_step(X, [T, T])
        assert caught.value is error
    assert calls == ([] if first else [1, 1]), "after the first failure no other function is called"
    assert (plan.draws, plan.updates) == (0, 0)
    for one, other in zip([plan.params(), plan.state(), plan.predict(X)[0]], before, strict=True):
        assert_same_bits(one.copy(), other)


def test_an_epoch_ends_where_a_loss_fails() -> None:
    """The steps before it are done, as Ctrl-C between two steps leaves them."""
    calls: list[int] = []

    def third_time(out: Array, target: Array) -> tuple[float, Array]:
        calls.append(1)
        return squared_error(out, target) if len(calls) < 3 else raising(OSError("third"))(out, target)

    plan, twin = plan_with(third_time), plan_with("squared_error")
    with pytest.raises(OSError, match="third"):
        plan.train_epoch(X, T, None, 2)
    twin.train_epoch(X[:4], T[:4], None, 2)
    assert (plan.draws, plan.updates) == (2, 2)
    assert_same_bits(plan.params().copy(), twin.params().copy())
    assert_same_bits(plan.state().copy(), twin.state().copy())


CALLS: dict[str, Callable[[Any], object]] = {
    "predict": lambda plan: plan.predict(X),
    "forward": lambda plan: plan.forward(X),
    "train_step": lambda plan: plan.train_step(X, T),
    "update": lambda plan: plan.update(),
    "params": lambda plan: plan.params(),
    "draws": lambda plan: plan.draws,
    "updates": lambda plan: plan.updates,
    "nbytes": lambda plan: plan.nbytes,
    "operations": lambda plan: plan.operations(1),
    "set_trainable": lambda plan: plan.set_trainable(1, False),
    "set_hyper": lambda plan: plan.set_hyper(0.1),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_loss_cannot_call_its_own_network(name: str) -> None:
    """It would wait for itself for ever."""

    def loss(out: Array, target: Any) -> tuple[float, Array]:
        CALLS[name](plan)
        return 0.0, out

    plan = plan_with(loss)
    before = plan.params().copy()
    with pytest.raises(RuntimeError, match="cannot call the network"):
        plan.train_step(X, T)
    assert_same_bits(plan.params().copy(), before)
    CALLS[name](plan) if name != "train_step" else None


def test_a_loss_may_call_another_network_and_read_a_view() -> None:
    judge = plan_with("squared_error")

    def loss(out: Array, target: Array) -> tuple[float, Array]:
        judge.train_step(X, T)
        return squared_error(out, target)[0] + float((view**2).sum()), squared_error(out, target)[1]

    plan = plan_with(loss)
    view = plan.params()
    expected = float((view**2).sum())
    alone = plan_with("squared_error").train_step(X, T)
    error = 2 * view.size * np.finfo(float).eps * (alone + expected)
    assert abs(plan.train_step(X, T) - alone - expected) <= error
    assert judge.updates == 1


def test_functions_run_in_the_callers_floating_point_mode() -> None:
    """Denormals are flushed in kernels, not in the user's NumPy."""
    found: list[float] = []

    def loss(out: Array, target: Array) -> tuple[float, Array]:
        found.append(float(np.float64(np.finfo(float).tiny) / np.float64(4)))
        return squared_error(out, target)

    plan_with(loss).train_step(X, T)
    assert found == [np.finfo(float).tiny / 4] and found[0] > 0


def test_weights_of_rows_are_not_for_losses_of_ones_own() -> None:
    plan = plan_with(squared_error)
    with pytest.raises(ValueError, match="weights"):
        plan.train_step(X, T, np.ones(ROWS))


def test_threads_that_train_one_network_each_have_their_targets() -> None:
    """Their steps come one after the other, each with its own targets and its own exceptions."""
    wrong: list[object] = []

    def loss(out: Array, target: Array) -> tuple[float, Array]:
        if (target[:, 0] != threading.get_ident()).any():
            wrong.append(target)
        if target[0, 1]:
            raise KeyError(threading.get_ident())
        return 0.0, np.zeros_like(out)

    plan = plan_with(loss)

    def work(fails: bool) -> None:
        target = np.full((ROWS, 2), threading.get_ident(), np.int64)
        target[:, 1] = fails
        for _ in range(50):
            try:
                plan.train_step(X, target)
                came = None
            except KeyError as error:
                came = error.args[0]
            if came != (threading.get_ident() if fails else None):
                wrong.append(came)
            assert plan.draws >= 0  # waits for the other thread's step, which may be waiting for this one's GIL

    threads = [threading.Thread(target=work, args=(k % 2 == 1,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "they wait for each other"
    assert wrong == []
    assert plan.draws == 100
