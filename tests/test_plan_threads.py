"""One network in several Python threads: predictions are those of parameters that there were, nobody waits for ever."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Array, assert_same_bits
from gate_cases import data, everything

import fastbp as fb

SECONDS = 120  # until a thread counts as hung
x, y = data(60, "float32")


pytestmark = pytest.mark.usefixtures("two_threads")


def side_by_side(*work: Callable[[], object]) -> None:
    """Run all at once; the first exception of any is raised."""
    errors: list[BaseException] = []

    def run(one: Callable[[], object]) -> None:
        try:
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "hung"
    if errors:
        raise errors[0]


@pytest.mark.parametrize("units", [20, 140], ids=["rows", "panels"])
def test_predictions_beside_training(units: int) -> None:
    """Each is that of the parameters after some step, folded weights and all."""
    plan, twin = everything("float32", units=units), everything("float32", units=units)
    known = {twin.predict(x)[0].tobytes()}
    for _ in range(60):
        twin.train_step(x, y)
        known.add(twin.predict(x)[0].tobytes())
    done = threading.Event()

    def train() -> None:
        for _ in range(60):
            plan.train_step(x, y)
        done.set()

    def predict() -> None:
        while not done.is_set():
            assert plan.predict(x)[0].tobytes() in known

    side_by_side(train, predict, predict)
    assert_same_bits(plan.params().copy(), twin.params().copy())


def test_calls_are_let_in_in_the_order_in_which_they_came() -> None:
    """A step waits for a prediction, and later predictions for the step: without end, they would starve it."""
    entered: list[str] = []
    first_is_in, first_may_go = threading.Event(), threading.Event()

    def f(z: Array) -> Array:
        entered.append(threading.current_thread().name)
        if entered == ["first"]:
            first_is_in.set()
            first_may_go.wait(SECONDS)
        return z

    net = fb.Sequential([fb.Input(2), fb.Dense(2, (f, np.ones_like))], loss="squared_error", optimizer=fb.SGD(0.1), seed=0)
    few = np.ones((3, 2), np.float32)

    def started(name: str, work: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    threads = [started("first", lambda: net.predict(few))]
    assert first_is_in.wait(SECONDS)
    threads.append(started("step", lambda: net.train_step(few, few)))
    for _ in range(1000):  # once the step waits, a prediction does, too
        threads.append(started("later", lambda: net.predict(few)))
        threads[-1].join(1)
        if threads[-1].is_alive():
            break
    assert threads[-1].is_alive(), "predictions go past a step that waits"
    before = len(entered)
    first_may_go.set()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "hung"
    assert entered[before:] == ["step", "later"]


def test_everything_beside_everything() -> None:
    """No order of calls hangs, crashes, or breaks what a later step needs."""
    plan = everything("float32")
    view = plan.params()
    saved = view.copy(), plan.state().copy()

    def by_hand() -> None:
        for k in range(40):
            try:
                plan.forward([v[: 10 + k] for v in x])
                plan.backward([y[0][: 10 + k], np.ones((10 + k, 4))], True)
                plan.value(3), plan.delta(5)
            except (RuntimeError, ValueError):  # another thread was in between
                pass

    def looks() -> None:
        for _ in range(100):
            plan.draws, plan.updates, plan.nbytes, plan.operations(1), plan.params().sum(), plan.state().sum()

    def freezes() -> None:
        for k in range(50):
            plan.set_trainable(3 + k % 10, k % 3 == 0)

    side_by_side(
        by_hand,
        looks,
        freezes,
        lambda: [plan.train_step(x, y) for _ in range(40)],
        lambda: [plan.train_epoch(x, y, None, 20) for _ in range(10)],
        lambda: [plan.predict(x, nodes=[3, 12, 24]) for _ in range(40)],
    )
    for gate in range(plan.nodes):
        plan.set_trainable(gate, True)
    fresh: Any = everything("float32", optimizer="sgd")
    view[:], plan.state()[:] = saved
    plan.draws = 0
    assert fresh.train_step(x, y) == plan.train_step(x, y)


def test_kept_activations_of_another_batch() -> None:
    """Whoever asks for them while another thread goes forward gets those of one batch, or is told that they have changed."""
    plan = everything("float32")
    plan.forward(x)

    def forward() -> None:
        for k in range(200):
            plan.forward([v[: 1 + 59 * (k % 2)] for v in x])

    def look() -> None:
        for _ in range(400):
            with contextlib.suppress(RuntimeError):
                assert len(plan.value(5)) in (1, 60)

    side_by_side(forward, look)
