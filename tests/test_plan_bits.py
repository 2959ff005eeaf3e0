"""A network with every gate: the same bits for any number of threads, instruction set, split, order and layout of the rows."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, FMA_ISAS, Array, assert_same_bits, needs_fma, two_fma_isas
from gate_cases import data, everything

import fastbp as fb

pytestmark = pytest.mark.usefixtures("keep_threads")
ROWS = (1, 2, 7, 97, 700)


def run(dtype: str, rows: int, isa: str | None = None, units: int = 20) -> dict[str, Array]:
    """Everything a plan can be asked for."""
    plan = everything(dtype, isa, units=units)
    (x, y), found = data(rows, dtype), {}
    found["loss"] = np.array([plan.train_step(x, y) for _ in range(2)])
    found["mean loss"] = np.array(plan.train_epoch(x, y, np.arange(rows)[::-1].copy(), max(rows // 3, 1)))
    found["out"], found["labels"] = plan.forward(x)
    found["dx"], _ = plan.backward([y[0], np.ones((rows, 4), dtype)], True)
    found["grads"] = plan.grads().copy()
    plan.update()
    found["evaluation"], _ = plan.forward(x, False)
    found["dx of evaluation"], _ = plan.backward([y[0], np.ones((rows, 4), dtype)], True)
    for k, value in enumerate(plan.predict(x, nodes=[23, 24, 12, 5, 9, 14, 0])):
        found[f"prediction {k}"] = value
    found |= {"params": plan.params().copy(), "state": plan.state().copy(), "slot": plan.slot(1)}
    return found


def agree(one: dict[str, Array], other: dict[str, Array], case: object) -> None:
    for what in one:
        assert_same_bits(one[what], other[what], f"{case}: {what}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", ROWS)
def test_threads(rows: int, dtype: str) -> None:
    for units in (20, 140):  # rows, and panels
        results = []
        for threads in (1, 2, 3, 8):
            fb.set_num_threads(threads)
            results.append(run(dtype, rows, units=units))
        for threads, result in zip((2, 3, 8), results[1:], strict=True):
            agree(results[0], result, f"{threads} threads, {units} units")


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_more_than_4096_rows(dtype: str) -> None:
    """Sums over rows are cut there, and the rows of a forward pass are more than one block."""
    results = []
    for threads in (1, 2, 3):
        fb.set_num_threads(threads)
        results.append(run(dtype, 9001))
    agree(results[0], results[1], "2 threads")
    agree(results[0], results[2], "3 threads")


@two_fma_isas
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [*ROWS, 4500])
def test_instruction_sets(rows: int, dtype: str) -> None:
    for units in (20, 140):
        one, *others = (run(dtype, rows, isa, units) for isa in FMA_ISAS)
        for other in others:
            agree(one, other, units)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_split_and_order_of_a_prediction(dtype: str) -> None:
    plan, (x, y) = everything(dtype), data(2500, dtype)
    plan.train_step(x, y)
    nodes = list(range(25))
    whole = plan.predict(x, nodes=nodes)
    order = np.random.default_rng(0).permutation(2500)
    for start, stop in ((0, 1), (1, 3), (3, 600), (600, 2500)):
        rows = order[start:stop]
        for node, (part, all_) in enumerate(zip(plan.predict([v[rows] for v in x], nodes=nodes), whole, strict=True)):
            assert_same_bits(part, all_[rows], f"node {node}, {stop - start} rows")
    for node in nodes:
        assert_same_bits(plan.predict(x, nodes=[node])[0], whole[node], f"node {node} alone")
    assert_same_bits(plan.predict(x)[1], whole[24])


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "columns first": np.asfortranarray,
    "backwards": lambda v: v[::-1].copy()[::-1],
    "every second": lambda v: np.repeat(v, 2, axis=0)[::2],
    "every second column": lambda v: np.repeat(v, 2, axis=-1)[..., ::2] if v.ndim == 2 else np.repeat(v, 2)[::2],
    "other byte order": lambda v: v.astype(v.dtype.newbyteorder()),
    "doubles": lambda v: v.astype(np.float64 if v.dtype.kind == "f" else np.int32),
    "unaligned": lambda v: unaligned(v),
    "read-only": lambda v: read_only(v),
    "a page apart": lambda v: np.pad(v, ((0, 0), (0, 4096 // v.itemsize - v.shape[1])))[:, : v.shape[1]] if v.ndim == 2 else v,
}


def unaligned(v: Array) -> Array:
    memory = np.empty(v.nbytes + 1, np.uint8)[1:].view(v.dtype) if v.ndim == 1 else None
    if memory is None:
        memory = np.frombuffer(bytes(1) + v.tobytes(), np.uint8)[1:].view(v.dtype).reshape(v.shape)
    else:
        memory[:] = v
    return memory


def read_only(v: Array) -> Array:
    v = v.copy()
    v.flags.writeable = False
    return v


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_the_rows(name: str) -> None:
    plain, placed = everything("float32"), everything("float32")
    x, y = data(50, "float32")
    other_x, other_y = ([LAYOUTS[name](v) for v in values] for values in (x, y))
    for call in (
        lambda plan, x, y: np.float64(plan.train_step(x, y)),
        lambda plan, x, y: np.float64(plan.train_epoch(x, y, None, 20)),
        lambda plan, x, y: plan.forward(x)[0],
        lambda plan, x, y: plan.backward([y[0], plan.value(24)], True)[0],
        lambda plan, x, y: plan.predict(x)[1],
        lambda plan, x, y: plan.params().copy(),
    ):
        assert_same_bits(np.asarray(call(plain, x, y)), np.asarray(call(placed, other_x, other_y)), name)


def test_steps_and_epochs() -> None:
    epoch, steps = everything(), everything()
    x, y = data(60)
    order = np.random.default_rng(0).permutation(60)
    weights = np.arange(60.0)
    epoch.train_epoch(x, y, order, 25, weights)
    for rows in np.split(order, [25, 50]):
        steps.train_step([v[rows] for v in x], [v[rows] for v in y], weights[rows])
    for what in ("params", "state"):
        assert_same_bits(getattr(epoch, what)().copy(), getattr(steps, what)().copy())


@needs_fma
def test_a_larger_workspace_changes_nothing() -> None:
    """Rows left over from a larger batch are in nobody's way."""
    fresh, used = everything(), everything()
    saved = used.params().copy(), used.state().copy()
    x, y = data(300)
    x[0][:] = np.nan
    used.forward(x)
    used.backward([y[0], np.full((300, 4), np.nan)], True)
    used.params()[:], used.state()[:] = saved
    used.draws = 0
    small = data(7)
    assert used.train_step(*copy.deepcopy(small)) == fresh.train_step(*small)
    assert_same_bits(used.params().copy(), fresh.params().copy())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_goes_on() -> None:
    fb.set_num_threads(2)
    plan, (x, y) = everything(), data(700)
    plan.train_step(x, y)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        plan.train_step(x, y)
        os.write(write, plan.predict(x)[0].tobytes()[:1000] + plan.state().tobytes()[:1000])
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    plan.train_step(x, y)
    wanted: Any = plan.predict(x)[0].tobytes()[:1000] + plan.state().tobytes()[:1000]
    assert os.read(read, 4000) == wanted
