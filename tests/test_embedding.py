"""Embeddings: rows of a table by category, gradients summed where a category was named, and numbers that name none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import DTYPES, ISAS, Array, assert_same_bits, integers, numbers
from graphs import dense, node

import fastbp as fb
from fastbp.graph import Node, Objective, compile_graph


def alone(categories: int, depth: int, columns: int = 1, dtype: str = "float64", isa: str | None = None) -> Any:
    nodes = [Node("input", (), columns), node("embedding", 0, width=columns * depth, settings=(categories,))]
    return compile_graph(nodes, dtype=dtype, isa=isa, optimizer="sgd", losses=[Objective("squared_error")])


def categories_of(rows: int, columns: int, categories: int) -> Array:
    return np.abs(integers(rows, columns, most=categories - 1, seed=rows))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", [1, 3, 8, 17, 130, 200])
@pytest.mark.parametrize("categories, columns, rows", [(1, 1, 5), (5, 3, 40), (33, 2, 7), (100, 1, 4097), (97, 2, 300)])
def test_rows_and_their_gradients_are_exact(categories: int, columns: int, rows: int, depth: int, dtype: str) -> None:
    """Sums of small whole numbers have no rounding: dW[v] is the sum of dZ wherever x is v."""
    x = categories_of(rows, columns, categories)
    W, dout = integers(categories, depth, most=9, seed=1), integers(rows, columns * depth, most=9, seed=2)
    dW = np.zeros_like(W)
    for c in range(columns):
        np.add.at(dW, x[:, c], dout[:, c * depth : (c + 1) * depth])
    for isa in ISAS:
        plan = alone(categories, depth, columns, dtype, isa)
        plan.params()[:] = W.reshape(-1)
        np.testing.assert_array_equal(plan.forward(x), W[x].reshape(rows, -1))
        np.testing.assert_array_equal(plan.predict(x), W[x].reshape(rows, -1))
        np.testing.assert_array_equal(plan.backward(dout, True)[0], np.zeros_like(x))
        np.testing.assert_array_equal(plan.grads(), dW.reshape(-1))


def test_sums_of_gradients_are_added_up() -> None:
    """Two steps gathered into one update are one step on twice the rows: every sum is exact."""
    x, T = categories_of(8, 2, 5), integers(8, 6, most=9)
    plans = [alone(5, 3, 2), alone(5, 3, 2)]
    for plan, accumulate in zip(plans, (2, 1), strict=True):
        plan.set_hyper(*fb.SGD(0.5, accumulate=accumulate).hyper)
    for half in (slice(0, 4), slice(4, 8)):
        plans[0].train_step(x[half], T[half])
    plans[1].train_step(x, T)
    assert_same_bits(plans[0].params().copy(), plans[1].params().copy())


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_threads_and_isa(dtype: str) -> None:
    """9000 rows: the sums are cut twice."""
    x, T = categories_of(9000, 2, 150), numbers(9000, 40, dtype=dtype)
    results = []
    for threads, isa in [(1, ISAS[0]), (2, ISAS[0]), (3, ISAS[0]), (8, ISAS[0]), *[(1, isa) for isa in ISAS]]:
        fb.set_num_threads(threads)
        plan = alone(150, 20, 2, dtype, isa)
        plan.params()[:] = numbers(plan.parameters, seed=1, dtype=dtype)
        plan.set_hyper(0.5)
        loss = plan.train_step(x, T)
        plan.train_epoch(x, T, np.arange(9000)[::-1].copy(), 5000)
        results.append((np.float64(loss), plan.params().copy(), plan.predict(x)))
    for other in results[1:] if "base" not in ISAS else results[1:-1]:
        for one, two in zip(results[0], other, strict=True):
            assert_same_bits(np.asarray(one), np.asarray(two))


@pytest.mark.parametrize("dtype", ["int8", "uint16", ">i4", "int64", "float16", "float32", "float64", "bool"])
def test_categories_of_any_type(dtype: str) -> None:
    x = (categories_of(9, 2, 2)).astype(dtype)
    plan = alone(2, 3, 2)
    plan.params()[:] = np.arange(6)
    W = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(plan.forward(x[::-1]), W[x.astype(int)].reshape(9, 6)[::-1])


# Numbers that name no category ------------------------------------------------------------------------------------------

BAD = [5, -1, 0.5, np.nan, np.inf, -np.inf, 1e300, 4.0000001]


def network(seed: int = 0) -> Any:
    """Columns: two numbers, a category of 5, a category of 7."""
    nodes = [
        Node("input", (), 4),
        node("slice", 0, width=2, settings=(2,)),
        node("slice", 1, width=1, settings=(0,)),
        node("slice", 1, width=1, settings=(1,)),
        node("embedding", 2, width=3, settings=(5,)),
        node("embedding", 3, width=2, settings=(7,)),
        node("slice", 0, width=2, settings=(0,)),
        node("concatenate", 6, 4, 5),
        node("batch_norm", 7, settings=(1e-5, 0.1)),
        node("dropout", 8, settings=(0.25,)),
        dense(9, 3, "tanh"),
        dense(10, 2),
    ]
    plan = compile_graph(nodes, dtype="float64", losses=[Objective("squared_error")], optimizer="adam", seed=seed)
    plan.set_hyper(0.01, 0.9, 0.999, 1e-8)
    plan.params()[:] = numbers(plan.parameters)
    plan.state()[:] = 1.0
    return plan


def table(rows: int) -> Array:
    return np.hstack([numbers(rows, 2, seed=rows), categories_of(rows, 1, 5), categories_of(rows, 1, 7)])


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bad", BAD)
def test_a_number_that_names_no_category_changes_nothing(bad: float, threads: int) -> None:
    fb.set_num_threads(threads)
    x, T = table(60), numbers(60, 2, seed=5)
    wrong = x.copy()
    wrong[37, 2] = bad
    plan, twin = network(), network()
    match = "must hold whole numbers from 0 to 4 in column 2, .*in row 37"
    for call, name in (
        (lambda: plan.train_step(wrong, T), "x"),
        (lambda: plan.train_epoch(wrong, T, None, 60), "X"),
        (lambda: plan.forward(wrong), "x"),
        (lambda: plan.forward(wrong, False), "x"),
        (lambda: plan.predict(wrong), "X"),
        (lambda: plan.check(wrong, T, "X", "y"), "X"),
    ):
        with pytest.raises(ValueError, match=f"^{name} {match}"):
            call()
    with pytest.raises(RuntimeError, match="forward"):
        plan.backward(T, False)
    assert (plan.draws, plan.updates) == (0, 0)
    for p in (plan, twin):
        p.train_step(x, T)
    for what in ("params", "state"):
        assert_same_bits(getattr(plan, what)().copy(), getattr(twin, what)().copy())
    assert_same_bits(plan.predict(x), twin.predict(x))


def test_kept_activations_survive_a_number_that_names_no_category() -> None:
    x, T = table(20), numbers(20, 2, seed=5)
    wrong = x.copy()
    wrong[7, 3] = 7
    plan, twin = network(), network()
    assert_same_bits(plan.forward(x), twin.forward(x))
    for call in (lambda: plan.train_step(wrong, T), lambda: plan.forward(wrong), lambda: plan.predict(wrong)):
        with pytest.raises(ValueError, match=r"from 0 to 6 in column 3, categories of an embedding, got 7\.0 in row 7"):
            call()
    plan.backward(T, False)
    twin.backward(T, False)
    assert_same_bits(plan.grads(), twin.grads())


def test_computed_categories_are_checked_on_the_way() -> None:
    nodes = [Node("input", (), 1), node("add", 0, 0), node("embedding", 1, width=2, settings=(4,))]
    plan = compile_graph(nodes, dtype="float64")
    plan.params()[:] = np.arange(8)
    np.testing.assert_array_equal(plan.forward([[0.5], [1.0], [1.5]]), [[2, 3], [4, 5], [6, 7]])
    with pytest.raises(ValueError, match="names no category"):
        plan.forward([[0.5], [2.0]])
    with pytest.raises(ValueError, match="names no category"):
        plan.predict([[0.25]])
    np.testing.assert_array_equal(plan.predict([[0.5]]), [[2, 3]])


def test_more_categories_than_a_dtype_can_tell_apart() -> None:
    for dtype, most in (("float32", 2**24), ("float64", 2**53)):
        with pytest.raises(ValueError, match="more categories"):
            alone(most + 2, 1, dtype=dtype)
    with pytest.raises((ValueError, MemoryError)):
        alone(2**52, 1, dtype="float64")


def test_categories_of_inputs_put_together(library: Any) -> None:
    """Two inputs share a table; what is wrong with either is found before anything is trained."""
    a, b = library.Input(1), library.Input(2)
    found = library.Embedding(3, 2)(library.Activation("identity")(library.concatenate([b[:, 1:], a])))
    net = library.Model([a, b], library.Dense(1)(found), "squared_error", library.SGD(0.1), dtype="float64", seed=1)
    x = [np.zeros((40, 1)), np.full((40, 2), 0.5)]
    x[1][:, 1] = np.arange(40) % 3
    y, before = np.ones(40), net.params.copy()
    if library is fb:
        check = fb.gradcheck(net, x, y)
        assert check.ok and [tensor.checked for tensor in check.tensors[-2:]] == [0, 40]
    x[0][30] = 7
    with pytest.raises(ValueError, match=r"X\[0\] must hold whole numbers 0 .. 2 for an Embedding, got 7.0 in row 30"):
        net.fit(x, y, batch_size=4, shuffle=False)
    np.testing.assert_array_equal(net.params, before)
    x[0][30] = 2
    net.fit(x, y, batch_size=4)


def test_a_number_below_the_normal_ones_is_category_0_in_every_call() -> None:
    x = fb.Input(1)
    net = fb.Model(x, fb.Dense(2)(fb.Embedding(5, 3)(x)), "squared_error", fb.SGD(0.1), seed=0)
    tiny, zero = np.full((4, 1), 1e-40, np.float32), np.zeros((4, 1), np.float32)
    expected = net.predict(zero)
    for _ in range(2):  # the second time forward has kept something
        np.testing.assert_array_equal(net.forward(tiny), expected)
    net.train_step(tiny, np.zeros((4, 2)))
