"""Random models through random calls: the same bits for any threads, instruction set and split, and those of the reference.

What no list of cases has: gates, losses, settings of optimizers and calls in combinations that nobody chose.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, EVERYWHERE, FMA_ISAS, Array, assert_same_bits, integers, needs_fma, numbers
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp as fb

SIZES = (1, 2, 7, 8, 16, 17, 33, 64, 100, 130)
ROWS = (1, 2, 3, 5, 17, 64, 100, 257, 1100)
CATEGORIES = 11
TOLERANCE = 1e-6  # of float64, after a few steps; eps is large, so that no step is a sign of rounding errors
SMOOTH = tuple(name for name in EVERYWHERE if name not in ("exp", "square", "power", "log_softmax"))  # no step makes them grow
NORMS = ("LayerNorm", "BatchNorm", "RMSNorm")
KINDS = ("dense", "dense", "residual", "norm", "dropout", "activation", "branch", "columns", "product", "maximum", "square")
TARGETS = {  # of m rows and U columns of outputs
    "cross_entropy": lambda r, m, U: np.abs(integers(m, most=10**6, seed=r)) % U,
    "hinge": lambda r, m, U: np.abs(integers(m, most=10**6, seed=r)) % U,
    "squared_error": lambda r, m, U: numbers(m, U, seed=r),
    "absolute_error": lambda r, m, U: numbers(m, U, seed=r),
    "huber": lambda r, m, U: 3 * numbers(m, U, seed=r),
    "log_cosh": lambda r, m, U: numbers(m, U, seed=r),
    "quantile": lambda r, m, U: numbers(m, U, seed=r),
    "binary_cross_entropy": lambda r, m, U: np.abs(numbers(m, U, seed=r)),
    "binary_hinge": lambda r, m, U: np.sign(numbers(m, U, seed=r)),
    "poisson": lambda r, m, U: np.abs(integers(m, U, most=4, seed=r)),
    "gaussian_nll": lambda r, m, U: numbers(m, U // 2, seed=r),
}
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {"eps": 0.05}),
    ("AdamW", {"eps": 0.05, "weight_decay": 0.1}),
    ("RMSprop", {"eps": 0.05}),
    ("Adagrad", {"eps": 0.05}),
]
RULES: list[dict[str, Any]] = [
    {},
    {"l2": 0.05, "decay_biases": True},
    {"l1": 0.01, "clip_value": 0.2},
    {"clip_norm": 0.5},
    {"accumulate": 2, "max_norm": 1.5},
]
CALLS = ("fit", "train_step", "by hand", "predict", "evaluate", "freeze", "write")
Plan = tuple[Any, ...]

block = st.tuples(
    st.sampled_from(KINDS), st.sampled_from(SIZES), st.sampled_from(SMOOTH), st.sampled_from(NORMS), st.integers(0, 999)
)
models = st.tuples(
    st.lists(st.sampled_from(SIZES), min_size=1, max_size=2),  # inputs
    st.booleans(),  # the second one is of categories
    st.lists(block, min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from(sorted(TARGETS)), st.sampled_from(SIZES[:6])), min_size=1, max_size=2),  # outputs
    st.sampled_from(OPTIMIZERS),
    st.sampled_from(RULES),
)
runs = st.lists(
    st.tuples(st.sampled_from(CALLS), st.sampled_from(ROWS), st.integers(0, 999), st.booleans()), min_size=1, max_size=4
)


def heads_of(model: Plan) -> list[tuple[str, int]]:
    """Losses and widths of the outputs: two classes at least, means and variances together."""
    return [(loss, max(U, 2) if loss != "gaussian_nll" else 2 * U) for loss, U in model[3]]


def build(library: ModuleType, model: Plan, dtype: str) -> Any:
    sizes, categories, blocks, _, (kind, options), rules = model
    inputs, values, width = [], [], sum(sizes)
    for i, U in enumerate(sizes):
        of_categories = categories and i == 1
        inputs.append(library.Input(1 if of_categories else U))
        values.append(library.Embedding(CATEGORIES, U)(inputs[-1]) if of_categories else inputs[-1])
    h = values[0] if len(values) == 1 else library.concatenate(values)
    earlier = [(h, width)]
    for what, U, f, norm, number in blocks:
        if what == "dense":
            h, width = library.Dense(U, f, bias=number % 5 > 0)(h), U
        elif what == "residual":
            h = library.Residual(getattr(library, norm)(), library.Dense(U, f), library.Dense(width))(h)
        elif what == "norm":
            h = getattr(library, norm)()(h)
        elif what == "dropout":
            h = library.Dropout(number / 2000)(h)
        elif what == "activation":
            h = library.Activation(f)(h)
        elif what == "branch":
            other, its_width = earlier[number % len(earlier)]
            h, width = (h + other, width) if its_width == width else (library.concatenate([h, other]), width + its_width)
        elif what == "columns":
            h, width = h[:, number % width :], width - number % width
        elif what == "product":
            h = h * library.Dense(width, "sigmoid")(h)
        elif what == "maximum":
            h = library.maximum(h, library.Dense(width, "tanh")(h))
        else:
            h = library.square(library.Activation("tanh")(h))
        earlier.append((h, width))
    heads = heads_of(model)
    h = library.Activation("tanh")(h)  # so that no loss explodes
    return library.Model(
        inputs,
        [library.Dense(U)(h) for _, U in heads],
        loss=[loss for loss, _ in heads],
        loss_weights=[1.0, 0.3][: len(heads)],
        optimizer=getattr(library, kind)(0.01, **options, **rules),
        dtype=dtype,
        seed=7,
    )


def data(model: Plan, m: int, seed: int) -> tuple[Any, list[Array]]:
    sizes, categories = model[:2]
    X = [numbers(m, U, seed=seed + i) for i, U in enumerate(sizes)]
    if categories and len(sizes) > 1:
        X[1] = np.abs(integers(m, 1, most=10**6, seed=seed)) % CATEGORIES
    return X if len(X) > 1 else X[0], [TARGETS[loss](seed + 10 + k, m, U) for k, (loss, U) in enumerate(heads_of(model))]


def called(net: Any, model: Plan, call: tuple[str, int, int, bool], split: bool) -> list[Array]:
    """What a call gives, and all that the network is afterwards."""
    what, m, seed, weighted = call
    X, y = data(model, m, seed)
    weights = 1 + numbers(m, seed=seed) if weighted else None
    found: list[Any] = []
    if what == "fit":
        history = net.fit(X, y, 2, batch_size=max(seed % m + 1, m // 8), sample_weight=weights, validation_data=(X, y))
        found = [history.loss, history.val_loss]
    elif what == "train_step":
        found = [net.train_step(X, y, weights) for _ in range(2)]
    elif what == "by hand":
        out = net.forward(*X) if isinstance(X, list) else net.forward(X)
        dX = net.backward([numbers(*O.shape, seed=seed + k) for k, O in enumerate(out)])
        found = [*out, *(dx for dx in dX if dx is not None), net.grads]
        net.update()
    elif what == "predict":
        at = seed % m if split else 0
        parts = [
            net.predict([x[rows] for x in X] if isinstance(X, list) else X[rows], nodes=net.layers)
            for rows in (slice(at), slice(at, m))
        ]
        found = [np.concatenate(each) for each in zip(*parts, strict=True)]
    elif what == "evaluate":
        found = list(net.evaluate(X, y, weights).values())
    elif what == "freeze":
        layer = net.layers[seed % len(net.layers)]
        layer.trainable = not layer.trainable
    else:
        net.params *= 0.9
        net.params[seed % net.params.size] = 0.25
    return [np.array(each) for each in (*found, net.params, net.state)]


@pytest.fixture(scope="module", autouse=True)
def as_before() -> Iterator[None]:
    threads, isa = fb.get_num_threads(), os.environ.get("FASTBP_ISA")
    yield
    fb.set_num_threads(threads)
    os.environ.pop("FASTBP_ISA", None)
    if isa is not None:
        os.environ["FASTBP_ISA"] = isa


@needs_fma
@settings(max_examples=400, deadline=None)
@given(models, runs, st.sampled_from(DTYPES))
def test_same_bits(model: Plan, run: list[tuple[str, int, int, bool]], dtype: str) -> None:
    nets = []
    for threads, isa in [(1, FMA_ISAS[0]), (2, FMA_ISAS[0]), *((3, isa) for isa in FMA_ISAS[1:])]:
        os.environ["FASTBP_ISA"] = isa
        nets.append((build(fb, model, dtype), threads))
    for call in run:
        results = []
        for net, threads in nets:
            fb.set_num_threads(threads)
            results.append(called(net, model, call, split=threads > 1))
        for result, (net, threads) in zip(results[1:], nets[1:], strict=True):
            for got, wanted in zip(result, results[0], strict=True):
                assert_same_bits(got, wanted, (call, net.plan.isa, threads))


@settings(max_examples=400, deadline=None, derandomize=True)  # the same ones every time: there is a tolerance
@given(models, runs)
def test_as_the_reference(model: Plan, run: list[tuple[str, int, int, bool]]) -> None:
    os.environ.pop("FASTBP_ISA", None)
    nets = [build(library, model, "float64") for library in (fb, fb.reference)]
    for call in run:
        got, wanted = (called(net, model, call, split=False) for net in nets)
        for mine, its in zip(got, wanted, strict=True):
            largest = max(1.0, np.abs(its).max(initial=0.0))
            np.testing.assert_allclose(mine, its, rtol=0, atol=TOLERANCE * largest, err_msg=str(call))
