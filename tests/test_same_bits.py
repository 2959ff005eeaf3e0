"""Same dtype, seed and data, same bits: for any threads, instruction set, split, order or memory layout."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from cases import DTYPES, FMA_ISAS, ISAS, Array, assert_same_bits, integers, needs_fma, numbers
from test_against_reference import name_of, network

import fastbp as fb

STEPS = 100
THREADS = (1, 2, 3)
OPERATIONS_PER_THREAD = 3e5  # below twice that much a call stays on one thread
# (features, layers ...), rows of a batch, rows of the data
TRAINED = {
    "digits": ((64, "100 relu", "10"), 64, 320),
    "odd": ((37, "101 tanh", "53 sigmoid", "7"), 50, 225),
    "packed": ((33, "200 relu", "130 tanh", "5"), 32, 100),
    "few_rows_of_wide": ((33, "600 relu", "500 tanh", "5"), 20, 100),  # by several threads 16 rows or less, see gemm.h
    "beyond_one_reduction": ((5, "17 tanh", "3"), 4100, 4100),
}
HOW = [("fit", 0.9), ("train_step", 0.0), ("fit", 0.0), ("train_step", 0.9)]  # and momentum
WIDE = (33, "200 relu", "130 tanh", "5")  # W has rows too long to be used unpacked: more than 128 float32
SMALL = (7, "13 tanh", "5")

pytestmark = pytest.mark.usefixtures("keep_threads")
dtypes = pytest.mark.parametrize("dtype", DTYPES)
isas = pytest.mark.parametrize("isa", ISAS)
specs = pytest.mark.parametrize("spec", [SMALL, WIDE], ids=name_of)


def sha(array: Array) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


# Training ----------------------------------------------------------------------------------------------


def trained(name: str, dtype: str, how: str, momentum: float) -> tuple[str, list[float]]:
    """SHA-256 of the parameters, and the losses, after STEPS steps."""
    spec, rows, count = TRAINED[name]
    net = network(fb, spec, dtype=dtype, loss="cross_entropy", optimizer=fb.SGD(0.05, momentum))
    assert net.plan.operations(rows) > max(THREADS) * OPERATIONS_PER_THREAD, "too small to be shared"
    X, y = numbers(count, spec[0], dtype=dtype), np.abs(integers(count, most=net.layers[-1].units - 1))
    before = net.params.copy()
    if how == "fit":
        steps = -(-count // rows)
        losses = net.fit(X, y, epochs=-(-STEPS // steps), batch_size=rows).loss
    else:
        starts = [step * rows % (count - rows + 1) for step in range(STEPS)]
        losses = [net.train_step(X[start : start + rows], y[start : start + rows]) for start in starts]
    assert np.isfinite(net.params).all() and losses[-1] < losses[0] and (net.params != before).mean() > 0.5
    return sha(net.params), losses


@needs_fma
@pytest.mark.parametrize(
    "name, how, momentum",
    [
        (name, how, momentum)
        for name in TRAINED
        for how, momentum in HOW
        if name == "digits" or (how, momentum) in HOW[:2]
    ],
)
@dtypes
def test_training(name: str, dtype: str, how: str, momentum: float, monkeypatch: pytest.MonkeyPatch) -> None:
    results = {}
    for isa in FMA_ISAS:
        monkeypatch.setenv("FASTBP_ISA", isa)
        for threads in THREADS:
            fb.set_num_threads(threads)
            results[isa, threads] = trained(name, dtype, how, momentum)
    first = results[FMA_ISAS[0], 1]
    assert all(result == first for result in results.values()), results


@dtypes
def test_threads_without_fma(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`base` rounds otherwise, but its threads agree as well."""
    monkeypatch.setenv("FASTBP_ISA", "base")
    results = []
    for threads in THREADS:
        fb.set_num_threads(threads)
        results.append(trained("odd", dtype, "fit", 0.9))
    assert all(result == results[0] for result in results)


@needs_fma
@dtypes
@specs
def test_by_hand(spec: tuple[int | str, ...], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """forward, backward and update, with rows for three threads and for two reductions; and train_step agrees."""
    rows = 5000
    x, y = numbers(rows, spec[0], dtype=dtype), np.abs(integers(rows, most=4))
    results = []
    for isa in FMA_ISAS:
        monkeypatch.setenv("FASTBP_ISA", isa)
        for threads in THREADS:
            fb.set_num_threads(threads)
            net = network(fb, spec, dtype=dtype, loss="cross_entropy", optimizer=fb.SGD(0.1, 0.9))
            assert net.plan.isa == isa
            out = net.forward(x)
            E, dO = fb.losses.cross_entropy(out, y)
            dX = net.backward(dO, inputs=True)
            grads = net.grads.copy()
            net.update()
            again = network(fb, spec, dtype=dtype, loss="cross_entropy", optimizer=fb.SGD(0.1, 0.9))
            assert again.train_step(x, y) == E
            assert_same_bits(again.params, net.params)
            results.append([sha(array) for array in (out, dO, dX, grads, net.params)])
    assert all(result == results[0] for result in results)


# Prediction: split, order, layout ----------------------------------------------------------------------


@isas
@dtypes
@specs
def test_predict_row_by_row_and_in_any_split_or_order(
    spec: tuple[int | str, ...], dtype: str, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTBP_ISA", isa)
    net = network(fb, spec, dtype=dtype)
    X = numbers(1300, spec[0], dtype=dtype)  # more than one block of rows
    whole = net.predict(X)
    rows = range(0, len(X), 13)
    assert_same_bits(np.concatenate([net.predict(X[r : r + 1]) for r in rows]), whole[rows])
    for size in (2, 3, 7, 13, 100, 769):
        parts = [net.predict(X[start : start + size]) for start in range(0, len(X), size)]
        assert_same_bits(np.concatenate(parts), whole, size)
    order = fb.rng.permutation(0, 99, 0, len(X))
    assert_same_bits(net.predict(X[order]), whole[order])
    for threads in THREADS:
        fb.set_num_threads(threads)
        assert_same_bits(net.predict(X), whole, threads)
    assert_same_bits(net.forward(X), whole)
    out = np.empty_like(whole)
    assert net.predict(X, out=out) is out
    assert_same_bits(out, whole)


def unaligned(X: Array) -> Array:
    memory = np.zeros(X.nbytes + 1, np.uint8)
    view = memory[1:].view(X.dtype).reshape(X.shape)
    view[...] = X
    assert not view.flags.aligned
    return view


def strided(X: Array, step: int) -> Array:
    memory = np.full((abs(step) * len(X), abs(step) * X.shape[1]), np.nan, X.dtype)
    view = memory[::step, ::step]
    view[...] = X
    return view


def padded(X: Array) -> Array:
    """Rows a page apart."""
    memory = np.full((len(X), 4096 // X.itemsize), np.nan, X.dtype)
    memory[:, : X.shape[1]] = X
    return memory[:, : X.shape[1]]


LAYOUTS = {
    "c": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "step_2": lambda X: strided(X, 2),
    "negative": lambda X: strided(X, -1),
    "negative_step_3": lambda X: strided(X, -3),
    "rows_a_page_apart": padded,
    "unaligned": unaligned,
    "big_endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "little_endian": lambda X: X.astype(X.dtype.newbyteorder("<")),
    "big_endian_step_2": lambda X: strided(X.astype(X.dtype.newbyteorder(">")), 2),
    "read_only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
    "list": lambda X: X.tolist(),
}


def everything(spec: tuple[int | str, ...], dtype: str, x: object, y: object) -> list[Array]:
    """What a network makes of x and y: predict, forward, dX and dW, a step, an epoch."""
    net = network(fb, spec, dtype=dtype, loss="squared_error", optimizer=fb.SGD(0.1))
    out = net.forward(x)
    results = [net.predict(x), out, net.backward(fb.losses.squared_error(out, y)[1], inputs=True), net.grads.copy()]
    results += [np.float64(net.train_step(x, y)), net.params.copy()]
    return [*results, np.array(net.fit(x, y, epochs=2, batch_size=4).loss), net.params.copy()]


@pytest.mark.parametrize("layout", LAYOUTS)
@dtypes
@specs
def test_memory_layouts(spec: tuple[int | str, ...], dtype: str, layout: str) -> None:
    x, y = numbers(11, spec[0], dtype=dtype), numbers(11, 5, seed=1, dtype=dtype)
    wanted = everything(spec, dtype, x, y)
    lay = LAYOUTS[layout]
    for got, right in zip(everything(spec, dtype, lay(x), lay(y)), wanted, strict=True):
        assert_same_bits(np.asarray(got), np.asarray(right), layout)


@dtypes
def test_broadcast_rows_and_columns(dtype: str) -> None:
    for x in (numbers(1, 7, dtype=dtype), numbers(11, 1, dtype=dtype), numbers(1, 1, dtype=dtype)):
        view = np.broadcast_to(x, (11, 7))
        assert 0 in view.strides
        y = np.broadcast_to(numbers(1, 5, dtype=dtype), (11, 5))
        wanted = everything(SMALL, dtype, view.copy(), y.copy())
        for got, right in zip(everything(SMALL, dtype, view, y), wanted, strict=True):
            assert_same_bits(np.asarray(got), np.asarray(right))


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
OTHER_TYPES = ["bool", "float16", "float32", "float64", *INTEGERS]


def full_range(other: str, rows: int, cols: int) -> Array:
    """All of the range of an integer type, by its bytes; a float16 or wider with every exponent that float32 has."""
    kind = np.dtype(other)
    if kind.kind == "b":
        return numbers(rows, cols) > 0
    if kind.kind == "f":
        exponent = np.floor((14 if other == "float16" else 120) * numbers(rows, cols, seed=1)).astype(int)
        return np.ldexp(numbers(rows, cols), exponent).astype(other)
    memory = np.floor(256 * (numbers(rows, cols * kind.itemsize) + 1) / 2).astype(np.uint8)
    return memory.view(kind)


@pytest.mark.parametrize("order", ["<", ">"], ids=["little_endian", "big_endian"])
@pytest.mark.parametrize("other", OTHER_TYPES)
@dtypes
def test_other_types_are_converted_as_by_astype(dtype: str, other: str, order: str) -> None:
    """The identity shows every bit of the conversion; a network, in every call, that it is used everywhere."""
    x = full_range(other, 9, 7)
    with np.errstate(over="ignore"):
        wanted = x.astype(dtype)
    given = x.astype(x.dtype.newbyteorder(order))
    identity = fb.Dense(7, inputs=7, weight_init=np.eye(7), dtype=dtype)
    assert_same_bits(identity.forward(given), identity.forward(wanted))
    np.testing.assert_array_equal(identity.forward(given), wanted)
    mirrored = everything(SMALL, dtype, given[:, ::-1], given[:, :5])
    for got, right in zip(mirrored, everything(SMALL, dtype, wanted[:, ::-1], wanted[:, :5]), strict=True):
        assert_same_bits(np.asarray(got), np.asarray(right))


@pytest.mark.parametrize("order", ["<", ">"], ids=["little_endian", "big_endian"])
@pytest.mark.parametrize("other", INTEGERS)
def test_labels_of_any_integer_type(other: str, order: str) -> None:
    x, labels = numbers(9, 7), np.arange(9) % 5

    def loss_and_params(y: Array) -> list[Array]:
        net = network(fb, SMALL, loss="cross_entropy", optimizer=fb.SGD(0.1))
        losses = [net.train_step(x, y), *net.fit(x, y, batch_size=2).loss]
        return [np.array([*losses, fb.losses.cross_entropy(net.predict(x), y)[0]]), net.params.copy()]

    y = labels.astype(np.dtype(other).newbyteorder(order))
    for given in (y, np.repeat(y, 3)[::3], y[::-1].copy()[::-1]):
        for got, right in zip(loss_and_params(given), loss_and_params(labels), strict=True):
            assert_same_bits(got, right)
