"""Bad arrays, everywhere an array goes in: a sentence that names the argument, the network as before, and it works on.

Each case runs on the library and on the NumPy reference, which must raise the same type of exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastbp as fb

Array = np.ndarray[Any, Any]
Use = Callable[["Bench", Any], object]
ROWS, INPUTS, UNITS = 5, 4, 3
X = np.linspace(-1, 1, ROWS * INPUTS).reshape(ROWS, INPUTS)
Y = np.cos(np.arange(ROWS * UNITS)).reshape(ROWS, UNITS)
LABELS = np.arange(ROWS) % UNITS


class Bench:
    """A regression, a classifier, a layer alone and an activation alone, all in mid-use: `forward` was called."""

    def __init__(self, library: ModuleType) -> None:
        self.losses = library.losses
        self.net = self.network(library, "squared_error")
        self.classifier = self.network(library, "cross_entropy")
        self.dense = library.Dense(UNITS, "tanh", inputs=INPUTS, seed=3)
        self.activation = library.Activation("softmax")
        for used in (self.net, self.classifier, self.dense, self.activation):
            used.forward(X)

    @staticmethod
    def network(library: ModuleType, loss: str) -> Any:
        layers = [library.Input(INPUTS), library.Dense(6, "tanh"), library.Dense(UNITS)]
        return library.Sequential(layers, loss, library.SGD(0.1, momentum=0.9), seed=1)

    @property
    def layer(self) -> Any:
        """A layer inside of a network: its weights are (INPUTS, 6)."""
        return self.net.layers[1]

    def state(self) -> list[bytes]:
        parts = [self.dense.weight, self.dense.bias, self.dense.dweight, self.dense.dbias]
        parts += [vector for net in (self.net, self.classifier) for vector in (net.params, net.grads)]
        return [part.tobytes() for part in parts]

    def go_on(self) -> list[bytes]:
        """Use what `forward` kept, then everything else."""
        results = [self.net.backward(Y, inputs=True), self.classifier.backward(Y, inputs=True)]
        results += [self.dense.backward(Y), self.activation.backward(np.ones((ROWS, INPUTS)))]
        for net, y in ((self.net, Y), (self.classifier, LABELS)):
            net.update()
            results.append(np.array(net.train_step(X, y)))
            results.append(np.array(net.fit(X, y, epochs=2, batch_size=2).loss))
            results.append(net.predict(X))
        return [result.tobytes() for result in results] + self.state()


def check_misuse(library: ModuleType, use: Use, value: object, error: type[Exception], argument: str) -> None:
    """`use` with `value` raises exactly `error`, names the argument and what came, and changes nothing."""
    bench, twin = Bench(library), Bench(library)
    with pytest.raises(error) as caught:
        use(bench, value)
    message = str(caught.value)
    assert caught.type is error, f"{caught.type.__name__}: {message}"
    assert re.search(rf"(?<!\w){re.escape(argument)}(?!\w)", message), f"{argument} is not named: {message}"
    assert " got " in message, f"what came is not said: {message}"
    assert bench.state() == twin.state()
    assert bench.go_on() == twin.go_on()


# Where matrices go in: argument, good shape, use ----------------------------------------------------------------------

MATRICES: dict[str, tuple[str, tuple[int, ...], Use]] = {
    "train_step": ("x", (ROWS, INPUTS), lambda b, x: b.net.train_step(x, Y)),
    "fit": ("X", (ROWS, INPUTS), lambda b, x: b.net.fit(x, Y)),
    "predict": ("X", (ROWS, INPUTS), lambda b, x: b.net.predict(x)),
    "predict_proba": ("X", (ROWS, INPUTS), lambda b, x: b.classifier.predict_proba(x)),
    "forward": ("x", (ROWS, INPUTS), lambda b, x: b.net.forward(x)),
    "evaluate": ("X", (ROWS, INPUTS), lambda b, x: b.net.evaluate(x, Y)),
    "validation": ("validation_data[0]", (ROWS, INPUTS), lambda b, x: b.net.fit(X, Y, validation_data=(x, Y))),
    "dense": ("x", (ROWS, INPUTS), lambda b, x: b.dense.forward(x)),
    "backward": ("dout", (ROWS, UNITS), lambda b, d: b.net.backward(d)),
    "backward_inputs": ("dout", (ROWS, UNITS), lambda b, d: b.net.backward(d, inputs=True)),
    "dense_backward": ("dout", (ROWS, UNITS), lambda b, d: b.dense.backward(d)),
    "activation_backward": ("dout", (ROWS, INPUTS), lambda b, d: b.activation.backward(d)),
    "train_step_y": ("y", (ROWS, UNITS), lambda b, y: b.net.train_step(X, y)),
    "fit_y": ("y", (ROWS, UNITS), lambda b, y: b.net.fit(X, y)),
    "evaluate_y": ("y", (ROWS, UNITS), lambda b, y: b.net.evaluate(X, y)),
    "validation_y": ("validation_data[1]", (ROWS, UNITS), lambda b, y: b.net.fit(X, Y, validation_data=(X, y))),
    "one_hot": ("y", (ROWS, UNITS), lambda b, y: b.classifier.train_step(X, y)),
    "loss_target": ("target", (ROWS, UNITS), lambda b, t: b.losses.squared_error(Y, t)),
    "soft_target": ("target", (ROWS, UNITS), lambda b, t: b.losses.cross_entropy(Y, t)),
}
# Any number of columns is right for these, so only the dtype and the dimensions can be wrong.
ANY_WIDTH: dict[str, tuple[str, tuple[int, ...], Use]] = {
    "activation": ("x", (ROWS, INPUTS), lambda b, x: b.activation.forward(x)),
    "activation_infer": ("x", (ROWS, INPUTS), lambda b, x: b.activation.infer(x)),
    "loss_out": ("out", (ROWS, UNITS), lambda b, o: b.losses.squared_error(o, Y)),
    "logits": ("out", (ROWS, UNITS), lambda b, o: b.losses.cross_entropy(o, LABELS)),
}
# Memory of the library that is assigned to.
ASSIGNED: dict[str, tuple[str, tuple[int, ...], Use]] = {
    "params": ("params", Bench(fb).net.params.shape, lambda b, v: setattr(b.net, "params", v)),
    "grads": ("grads", Bench(fb).net.params.shape, lambda b, v: setattr(b.net, "grads", v)),
    "weight": ("weight", (INPUTS, 6), lambda b, v: setattr(b.layer, "weight", v)),
    "bias": ("bias", (6,), lambda b, v: setattr(b.layer, "bias", v)),
    "dweight": ("dweight", (INPUTS, 6), lambda b, v: setattr(b.layer, "dweight", v)),
    "dbias": ("dbias", (UNITS,), lambda b, v: setattr(b.dense, "dbias", v)),
}


def structured(shape: tuple[int, ...]) -> Array:
    return np.zeros(shape, [("a", "f4"), ("b", "f4")])


DTYPES: dict[str, Callable[[tuple[int, ...]], object]] = {
    "object": lambda shape: np.full(shape, 1.0, object),
    "half_object": lambda shape: np.append(np.ones(np.prod(shape) - 1), [None]).reshape(shape),
    "huge_integers": lambda shape: np.full(shape, 2**70, object).tolist(),
    "complex": lambda shape: np.full(shape, 1 + 1j),
    "string": lambda shape: np.full(shape, "1.5"),
    "bytes": lambda shape: np.full(shape, b"1.5"),
    "datetime": lambda shape: np.full(shape, np.datetime64("2001-01-01")),
    "timedelta": lambda shape: np.full(shape, np.timedelta64(1, "s")),
    "structured": structured,
    "void": lambda shape: np.zeros(shape, "V8"),
    "none": lambda shape: None,
    "text": lambda shape: "nonsense",
    "dict": lambda shape: {"a": 1},
}
SHAPES: dict[str, Callable[[tuple[int, ...]], object]] = {
    "ragged": lambda shape: [[1.0] * shape[-1]] * (shape[0] - 1) + [[1.0]],
    "scalar": lambda shape: 1.0,
    "vector": lambda shape: np.zeros(shape[0] * 2 + 1),
    "3-d": lambda shape: np.zeros((*shape, 1)),
    "9-d": lambda shape: np.zeros((1,) * 9),
}
WIDTHS: dict[str, Callable[[tuple[int, ...]], object]] = {
    "wide": lambda shape: np.zeros((*shape[:-1], shape[-1] + 1)),
    "narrow": lambda shape: np.zeros((*shape[:-1], shape[-1] - 1)),
    "transposed": lambda shape: np.zeros(shape[::-1]),
    "no_columns": lambda shape: np.zeros((*shape[:-1], 0)),
}
MORE_ROWS = {name: place for name, place in MATRICES.items() if place[1] == (ROWS, UNITS)}


@pytest.mark.parametrize("dtype", [*DTYPES, "longdouble"])
@pytest.mark.parametrize("place", [*MATRICES, *ANY_WIDTH, *ASSIGNED])
def test_dtype(library: ModuleType, place: str, dtype: str) -> None:
    argument, shape, use = (MATRICES | ANY_WIDTH | ASSIGNED)[place]
    if dtype == "none" and place in ("backward", "backward_inputs"):
        pytest.skip("stands for ones")
    if dtype == "longdouble":
        if np.dtype(np.longdouble).itemsize == 8:
            pytest.skip("the same as double here")
        value: object = np.ones(shape, np.longdouble)
    else:
        value = DTYPES[dtype](shape)
    check_misuse(library, use, value, TypeError, argument)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("place", [*MATRICES, *ANY_WIDTH])
def test_dimensions(library: ModuleType, place: str, shape: str) -> None:
    argument, good, use = (MATRICES | ANY_WIDTH)[place]
    check_misuse(library, use, SHAPES[shape](good), ValueError, argument)


@pytest.mark.parametrize("shape", WIDTHS)
@pytest.mark.parametrize("place", MATRICES)
def test_width(library: ModuleType, place: str, shape: str) -> None:
    argument, good, use = MATRICES[place]
    check_misuse(library, use, WIDTHS[shape](good), ValueError, argument)


@pytest.mark.parametrize("rows", [ROWS - 1, ROWS + 1, 0])
@pytest.mark.parametrize("place", MORE_ROWS)
def test_rows_that_do_not_match(library: ModuleType, place: str, rows: int) -> None:
    argument, good, use = MORE_ROWS[place]
    check_misuse(library, use, np.zeros((rows, good[1])), ValueError, argument)


@pytest.mark.parametrize("shape", ["scalar", "3-d", "wide", "ragged", "broadcast"])
@pytest.mark.parametrize("place", ASSIGNED)
def test_shape_of_an_assignment(library: ModuleType, place: str, shape: str) -> None:
    argument, good, use = ASSIGNED[place]
    values = {**SHAPES, **WIDTHS, "broadcast": lambda shape: np.zeros((1, *shape[1:]))}
    values["ragged"] = lambda shape: [[1.0], [1.0, 2.0]]
    check_misuse(library, use, values[shape](good), ValueError, argument)


# Targets --------------------------------------------------------------------------------------------------------------

TARGETS: dict[str, tuple[str, Use]] = {
    "train_step": ("y", lambda b, y: b.classifier.train_step(X, y)),
    "fit": ("y", lambda b, y: b.classifier.fit(X, y)),
    "evaluate": ("y", lambda b, y: b.classifier.evaluate(X, y)),
    "validation": ("validation_data[1]", lambda b, y: b.classifier.fit(X, LABELS, validation_data=(X, y))),
    "loss": ("target", lambda b, y: b.losses.cross_entropy(Y, y)),
}
BAD_LABELS: dict[str, tuple[object, type[Exception]]] = {
    "negative": (np.where(LABELS == 1, -1, LABELS), ValueError),
    "most_negative": (np.full(ROWS, np.iinfo(np.int64).min), ValueError),
    "one_too_large": (LABELS + 1, ValueError),
    "last_one": (np.append(LABELS[:-1], UNITS), ValueError),
    "int32_overflow": (LABELS + 2**32, ValueError),
    "uint64": (np.full(ROWS, 2**64 - 1, np.uint64), ValueError),
    "uint64_sign_bit": (np.full(ROWS, 2**63, np.uint64), ValueError),
    "big_endian": (np.full(ROWS, 256, ">i4"), ValueError),
    "float": (LABELS.astype(float), TypeError),
    "float16": (LABELS.astype(np.float16), TypeError),
    "nan": (np.full(ROWS, np.nan), TypeError),
    "strings": (LABELS.astype(str), TypeError),
    "huge_python_integers": ([2**70] * ROWS, TypeError),
    "column": (LABELS[:, None], ValueError),
    "too_few": (LABELS[:-1], ValueError),
    "too_many": (np.append(LABELS, 0), ValueError),
    "nan_in_one_hot": (np.where(np.arange(ROWS * UNITS).reshape(ROWS, UNITS) == 14, np.nan, 0.0), ValueError),
    "infinity_in_one_hot": (np.where(np.eye(ROWS, UNITS) == 1, -np.inf, 0.0), ValueError),
}
REGRESSION: dict[str, tuple[str, Use]] = {
    "train_step": ("y", lambda b, y: b.net.train_step(X, y)),
    "fit": ("y", lambda b, y: b.net.fit(X, y)),
    "evaluate": ("y", lambda b, y: b.net.evaluate(X, y)),
    "validation": ("validation_data[1]", lambda b, y: b.net.fit(X, Y, validation_data=(X, y))),
    "loss": ("target", lambda b, y: b.losses.squared_error(Y, y)),
}


@pytest.mark.parametrize("labels", BAD_LABELS)
@pytest.mark.parametrize("place", TARGETS)
def test_labels(library: ModuleType, place: str, labels: str) -> None:
    argument, use = TARGETS[place]
    value, error = BAD_LABELS[labels]
    check_misuse(library, use, value, error, argument)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", REGRESSION)
def test_targets_that_are_not_finite(library: ModuleType, place: str, bad: float, dtype: str) -> None:
    argument, use = REGRESSION[place]
    target = np.array(Y, dtype)
    target[-1, -1] = bad
    check_misuse(library, use, target, ValueError, argument)


def test_the_label_in_the_message_is_the_one_that_came(library: ModuleType) -> None:
    net = Bench(library).classifier
    for label in (-7, UNITS, 2**63, 2**64 - 1):
        labels = np.array([label] * ROWS, np.int64 if label < 2**63 else np.uint64)
        with pytest.raises(ValueError, match=rf"got .*(?<!\d){label}(?!\d)"):
            net.train_step(X, labels)


# No rows --------------------------------------------------------------------------------------------------------------

NO_X, NO_Y, NO_LABELS = np.zeros((0, INPUTS)), np.zeros((0, UNITS)), np.zeros(0, int)
NO_ROWS: dict[str, tuple[str, Use]] = {
    "train_step": ("[xy]", lambda b, _: b.net.train_step(NO_X, NO_Y)),
    "train_step_labels": ("[xy]", lambda b, _: b.classifier.train_step(NO_X, NO_LABELS)),
    "fit": ("[Xy]", lambda b, _: b.net.fit(NO_X, NO_Y)),
    "evaluate": ("[Xy]", lambda b, _: b.classifier.evaluate(NO_X, NO_LABELS)),
    "validation": (r"validation_data\[[01]\]", lambda b, _: b.net.fit(X, Y, validation_data=(NO_X, NO_Y))),
    "squared_error": ("out|target", lambda b, _: b.losses.squared_error(NO_Y, NO_Y)),
    "cross_entropy": ("out|target", lambda b, _: b.losses.cross_entropy(NO_Y, NO_LABELS)),
}


@pytest.mark.parametrize("place", NO_ROWS)
def test_training_needs_rows(library: ModuleType, place: str) -> None:
    argument, use = NO_ROWS[place]
    bench, twin = Bench(library), Bench(library)
    with pytest.raises(ValueError, match=rf"^({argument}) must have .*at least one.* got "):
        use(bench, None)
    assert bench.go_on() == twin.go_on()


def test_no_rows_have_no_predictions(library: ModuleType) -> None:
    bench, twin = Bench(library), Bench(library)
    for empty in (NO_X, np.zeros((0, INPUTS), ">i2"), np.zeros((INPUTS, 0)).T):
        for result in (bench.net.predict(empty), bench.classifier.predict_proba(empty)):
            assert result.shape == (0, UNITS) and result.dtype == np.float32
    assert bench.go_on() == twin.go_on()


def test_no_rows_forward_and_back(library: ModuleType) -> None:
    bench = Bench(library)
    assert bench.net.forward(NO_X).shape == bench.dense.forward(NO_X).shape == (0, UNITS)
    assert bench.activation.forward(NO_X).shape == (0, INPUTS)
    assert bench.net.backward(NO_Y, inputs=True).shape == bench.dense.backward(NO_Y).shape == (0, INPUTS)
    assert bench.activation.backward(NO_X).shape == (0, INPUTS)
    assert not bench.net.grads.any() and not bench.dense.dweight.any()
