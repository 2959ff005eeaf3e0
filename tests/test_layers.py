"""Layers: what they make when called, their views, freezing, adapting; and misuse, refused with a sentence."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import X, numbers

import fastbp as fb
from fastbp.values import Value

Array = np.ndarray[Any, Any]


def refused(call: Callable[[], object], argument: str, error: type[Exception]) -> str:
    """Call, and check that exactly `error` comes, with the argument's name and what came."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert caught.type is error, f"{caught.type.__name__}: {message}"
    assert re.search(rf"(?<!\w){re.escape(argument)}(?!\w)", message), f"{argument} is not named: {message}"
    assert " got " in message, f"what came is not said: {message}"
    return message


# Calling --------------------------------------------------------------------------------------------------------------

LAYERS: dict[str, tuple[Callable[[ModuleType], Any], str, int, tuple[float, ...]]] = {  # gate, width on 4 columns, settings
    "dense": (lambda lib: lib.Dense(3, "tanh"), "dense", 3, (1.0,)),
    "dense_without_bias": (lambda lib: lib.Dense(3, bias=False), "dense", 3, (0.0,)),
    "activation": (lambda lib: lib.Activation("relu"), "activation", 4, ()),
    "dropout": (lambda lib: lib.Dropout(0.25), "dropout", 4, (0.25,)),
    "layer_norm": (lambda lib: lib.LayerNorm(), "layer_norm", 4, (1e-5,)),
    "rms_norm": (lambda lib: lib.RMSNorm(), "rms_norm", 4, (1e-6,)),
    "batch_norm": (lambda lib: lib.BatchNorm(), "batch_norm", 4, (1e-5, 0.1)),
    "embedding": (lambda lib: lib.Embedding(7, 2), "embedding", 8, (7,)),
    "standardize": (lambda lib: lib.Standardize(), "standardize", 4, ()),
    "residual": (lambda lib: lib.Residual(lib.Dense(5, "relu"), lib.Dense(4)), "add", 4, ()),
}


@pytest.mark.parametrize("name", LAYERS)
def test_calling_a_layer_makes_a_gate(library: ModuleType, name: str) -> None:
    make, gate, width, settings = LAYERS[name]
    layer, x = make(library), library.Input(4)
    value = layer(x)
    assert (value.gate, value.width, value.settings, value.layer) == (gate, width, settings, layer)
    assert value.inputs[0] is x
    assert not layer.in_network
    net = library.Sequential([library.Input(4), layer], seed=0)
    assert layer.in_network and net.predict(np.ones((2, 4))).shape == (2, width)
    refused(lambda: layer(x), "layer", ValueError)
    refused(lambda: library.Sequential([library.Input(4), layer]), "layer", ValueError)


@pytest.mark.parametrize("name", LAYERS)
def test_calling_a_layer_on_anything_else(library: ModuleType, name: str) -> None:
    layer = LAYERS[name][0](library)
    for thing in (X, 3.0, None, "x", library.Dense(3)):
        assert "x must be a value of a graph, as Input(3)" in refused(lambda thing=thing: layer(thing), "x", TypeError)


def test_representations(library: ModuleType) -> None:
    shown = [
        library.Input(4),
        library.Dense(3),
        library.Dense(3, "relu"),
        library.Dense(3, library.Activation("relu"), bias=False, inputs=2),
        library.Activation("tanh"),
        library.Dropout(0.5),
        library.LayerNorm(),
        library.RMSNorm(1e-3),
        library.BatchNorm(0.2),
        library.Embedding(7, 2),
        library.Standardize(),
        library.Residual(library.Dense(4), library.Dropout(0.1)),
    ]
    assert [repr(thing) for thing in shown] == [
        "Input(features=4)",
        "Dense(3)",
        "Dense(3, 'relu')",
        "Dense(3, 'relu', bias=False, inputs=2)",
        "Activation('tanh')",
        "Dropout(0.5)",
        "LayerNorm(eps=1e-05)",
        "RMSNorm(eps=0.001)",
        "BatchNorm(momentum=0.2, eps=1e-05)",
        "Embedding(7, 2)",
        "Standardize()",
        "Residual(Dense(4), Dropout(0.1))",
    ]


def test_an_input_is_a_value(library: ModuleType) -> None:
    x = library.Input(3)
    assert isinstance(x, Value) and (x.features, x.width, x.gate, x.inputs) == (3, 3, "input", ())
    assert x == x and x != library.Input(3)


def test_activations_of_a_dense_layer(library: ModuleType) -> None:
    def f(z: Array) -> Array:
        return z**3

    def df(z: Array) -> Array:
        return 3 * z**2

    x = library.Input(4)
    slope = library.Activation("leaky_relu", 0.25)
    for activation, wanted in (
        (None, ("identity", None, None)),
        ("relu", ("relu", None, None)),
        (library.Activation("tanh"), ("tanh", None, None)),
        (slope, ("leaky_relu", 0.25, None)),
        ((f, df), ("custom", None, (f, df))),
        (library.Activation((f, df)), ("custom", None, (f, df))),
    ):
        layer = library.Dense(3, activation)
        value = layer(x)
        assert (value.activation, value.parameter, value.function) == wanted
        assert (layer.activation, layer.parameter, layer.function) == wanted
    assert not slope.in_network
    assert repr(library.Dense(3, slope)) == "Dense(3, Activation('leaky_relu', 0.25))"
    assert repr(library.Activation("leaky_relu", 0.25)) == "Activation('leaky_relu', 0.25)"


@pytest.mark.parametrize("bad", [(abs,), (abs, abs, abs), (abs, "relu"), abs, "custom", b"relu", 5], ids=repr)
def test_activations_that_are_none(library: ModuleType, bad: Any) -> None:
    refused(lambda: library.Activation(bad), "activation", ValueError)
    refused(lambda: library.Dense(3, bad), "activation", ValueError)


def test_parameters_of_activations(library: ModuleType) -> None:
    for name in ("relu", "identity", "softmax"):
        refused(lambda name=name: library.Activation(name, 0.5), "parameter", ValueError)
    refused(lambda: library.Activation((abs, abs), 0.5), "parameter", ValueError)
    for bad in ("0.5", [0.5], 1j):
        refused(lambda bad=bad: library.Activation("leaky_relu", bad), "parameter", TypeError)


def test_functions_of_the_users_own_alone(library: ModuleType) -> None:
    cube: Any = (lambda z: z**3, lambda z: 3 * z**2)
    x = numbers(5, 4)
    activation = library.Activation(cube)
    np.testing.assert_array_equal(activation.forward(x), x**3)
    np.testing.assert_array_equal(activation.infer(x), x**3)
    np.testing.assert_array_equal(activation.backward(np.ones((5, 4))), 3 * x**2)
    layer = library.Dense(1, cube, inputs=1, weight_init=[[2.0]], dtype="float64")
    assert layer.forward([[1.0]]).item() == 8.0
    assert layer.backward([[1.0]]).item() == 24.0
    assert layer.dweight.item() == 12.0


# Numbers --------------------------------------------------------------------------------------------------------------

NOT_FRACTIONS: list[tuple[object, type[Exception]]] = [
    (-0.1, ValueError),
    (float("nan"), ValueError),
    (float("inf"), ValueError),
    ("0.5", TypeError),
    (None, TypeError),
    ([0.5], TypeError),
]


@pytest.mark.parametrize("value, error", [*NOT_FRACTIONS, (1.0, ValueError)])
def test_rates(library: ModuleType, value: Any, error: type[Exception]) -> None:
    refused(lambda: library.Dropout(value), "rate", error)


@pytest.mark.parametrize("value, error", [*NOT_FRACTIONS, (1.1, ValueError)])
def test_momentum(library: ModuleType, value: Any, error: type[Exception]) -> None:
    refused(lambda: library.BatchNorm(value), "momentum", error)
    library.BatchNorm(1.0)


@pytest.mark.parametrize("value, error", [*NOT_FRACTIONS, (0.0, ValueError)])
def test_eps(library: ModuleType, value: Any, error: type[Exception]) -> None:
    for make in (library.LayerNorm, library.RMSNorm, library.BatchNorm):
        refused(lambda make=make: make(eps=value), "eps", error)


@pytest.mark.parametrize("value", [0, 1, None, "yes"], ids=repr)
def test_booleans(library: ModuleType, value: Any) -> None:
    refused(lambda: library.Dense(3, bias=value), "bias", TypeError)
    for layer in (library.Dense(3), library.Residual(library.Dense(3))):
        refused(lambda layer=layer: setattr(layer, "trainable", value), "trainable", TypeError)
        assert layer.trainable is True


@pytest.mark.parametrize("value, error", [(0, ValueError), (2.0, TypeError), (None, TypeError)])
def test_counts_of_an_embedding(library: ModuleType, value: Any, error: type[Exception]) -> None:
    refused(lambda: library.Embedding(value, 2), "categories", error)
    refused(lambda: library.Embedding(2, value), "units", error)


def test_categories_that_float32_cannot_tell_apart(library: ModuleType) -> None:
    def network(dtype: str) -> Any:
        return library.Sequential([library.Input(1), library.Embedding(2**24 + 1, 1, weight_init="zeros")], dtype=dtype)

    refused(lambda: network("float32"), "categories", ValueError)
    assert network("float64").predict([[2**24]]).tolist() == [[0]]


def test_widths(library: ModuleType) -> None:
    refused(lambda: library.Dense(3, inputs=5)(library.Input(4)), "inputs", ValueError)
    message = refused(lambda: library.Residual(library.Dense(3))(library.Input(4)), "layers", ValueError)
    assert "4 columns" in message and "got 3" in message
    refused(lambda: library.Residual(), "layers", ValueError)
    refused(lambda: library.Residual("relu"), "layers", TypeError)
    refused(lambda: library.Residual([library.Dense(4)]), "layers", TypeError)
    scale = library.Standardize()
    scale.adapt(X)
    refused(lambda: scale(library.Input(3)), "inputs", ValueError)


# Views ----------------------------------------------------------------------------------------------------------------

VIEWS: dict[str, tuple[Callable[[ModuleType], Any], dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]] = {
    "dense": (lambda lib: lib.Dense(3), {"weight": (4, 3), "bias": (3,)}, {}),
    "dense_without_bias": (lambda lib: lib.Dense(3, bias=False), {"weight": (4, 3)}, {}),
    "layer_norm": (lambda lib: lib.LayerNorm(), {"gain": (4,), "shift": (4,)}, {}),
    "rms_norm": (lambda lib: lib.RMSNorm(), {"gain": (4,)}, {}),
    "batch_norm": (
        lambda lib: lib.BatchNorm(),
        {"gain": (4,), "shift": (4,)},
        {"running_mean": (4,), "running_var": (4,)},
    ),
    "embedding": (lambda lib: lib.Embedding(7, 2), {"weight": (7, 2)}, {}),
    "standardize": (lambda lib: lib.Standardize(), {}, {"mean": (4,), "deviation": (4,)}),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_live(library: ModuleType, name: str) -> None:
    make, parameters, state = VIEWS[name]
    layer = make(library)
    before = library.Dense(4)
    net = library.Sequential([library.Input(4), before, layer, library.Dense(2)], seed=0)
    start = 4 * 4 + 4
    for part, shape in parameters.items():
        size = int(np.prod(shape))
        for view, vector in ((part, "params"), ("d" + part, "grads")):
            values = np.arange(size).reshape(shape) + (1 if vector == "params" else 100)
            assert getattr(layer, view).shape == shape
            setattr(layer, view, values)
            np.testing.assert_array_equal(getattr(net, vector)[start : start + size], values.ravel())
            getattr(net, vector)[start] = -7
            assert getattr(layer, view).flat[0] == -7
            view_of = getattr(layer, view)
            view_of[...] = 5
            assert (getattr(net, vector)[start : start + size] == 5).all()
            refused(lambda view=view: setattr(layer, view, np.zeros(99)), view, ValueError)
        start += size
    assert start + sum(int(np.prod(part.shape)) for part in (net.layers[3].weight, net.layers[3].bias)) == net.params.size
    at = 0
    for part, shape in state.items():
        setattr(layer, part, np.arange(4) + 1)
        np.testing.assert_array_equal(net.state[at : at + 4], np.arange(4) + 1)
        at += 4
        assert getattr(layer, part).shape == shape
    assert net.state.size == at


@pytest.mark.parametrize("name", VIEWS)
def test_no_views_without_a_network(library: ModuleType, name: str) -> None:
    make, parameters, state = VIEWS[name]
    for part in (*parameters, *("d" + part for part in parameters), *state):
        with pytest.raises(AttributeError, match="no weights yet"):
            getattr(make(library), part)


def test_no_bias(library: ModuleType) -> None:
    layer = library.Dense(3, bias=False, inputs=4, seed=0)
    twin = library.Dense(3, inputs=4, seed=0)
    assert not hasattr(layer, "bias") and not hasattr(layer, "dbias")
    np.testing.assert_array_equal(layer.weight, twin.weight)
    assert (layer.forward(np.zeros((2, 4))) == 0).all()
    np.testing.assert_array_equal(layer.forward(X), twin.forward(X))
    np.testing.assert_array_equal(layer.backward(np.ones((5, 3))), twin.backward(np.ones((5, 3))))
    np.testing.assert_array_equal(layer.dweight, twin.dweight)


def test_first_values(library: ModuleType) -> None:
    norm, scale = library.BatchNorm(), library.Standardize()
    library.Sequential([library.Input(3), scale, norm], seed=0)
    for view, value in ((norm.gain, 1), (norm.shift, 0), (norm.running_mean, 0), (norm.running_var, 1)):
        assert view.tolist() == [value] * 3
    assert scale.mean.tolist() == [0] * 3 and scale.deviation.tolist() == [1] * 3


def test_layers_with_weights_are_counted_for_their_seeds(library: ModuleType) -> None:
    """Others do not count, and a seed of its own is that of a layer alone."""
    first, table, last = library.Dense(4), library.Embedding(5, 2), library.Dense(3)
    x = library.Input(4)
    block = library.Residual(library.LayerNorm(), first)(x)
    library.Model(x, block + table(x)[:, :4] + last(library.Dropout(0.1)(x))[:, :1], seed=7)
    own = library.Dense(3, seed=11)
    library.Sequential([library.Input(4), library.Dense(4), own], seed=7)
    np.testing.assert_array_equal(first.weight, library.Dense(4, inputs=4, seed=7).weight)
    np.testing.assert_array_equal(own.weight, library.Dense(3, inputs=4, seed=11).weight)
    rule = fb.initializers.initialize("glorot_uniform", (4, 3), seed=7, step=2)
    np.testing.assert_array_equal(last.weight, rule.astype(np.float32))
    assert (first.seed, own.seed, last.seed) == (7, 11, 7)


# Freezing -------------------------------------------------------------------------------------------------------------


def test_freezing(library: ModuleType) -> None:
    layers = [library.Dense(5, "tanh"), library.LayerNorm(), library.Dense(3)]
    layers[0].trainable = False
    net = library.Sequential([library.Input(4), *layers], "squared_error", library.SGD(0.1), seed=0)
    y = numbers(5, 3)
    for frozen in (0, 1, 2):
        for k, layer in enumerate(layers):
            layer.trainable = k != frozen
        before = [layer.weight.copy() if k != 1 else layer.gain.copy() for k, layer in enumerate(layers)]
        net.train_step(X, y)
        net.fit(X, y, epochs=2, batch_size=2)
        after = [layer.weight if k != 1 else layer.gain for k, layer in enumerate(layers)]
        assert [bool((old == new).all()) for old, new in zip(before, after, strict=True)] == [k == frozen for k in range(3)]
        net.forward(X)
        net.backward(np.ones((5, 3)))
        zero = [(layer.dweight == 0).all() if k != 1 else (layer.dgain == 0).all() for k, layer in enumerate(layers)]
        assert zero == [k == frozen for k in range(3)]


def test_freezing_a_block(library: ModuleType) -> None:
    inner = library.Dense(4, "tanh"), library.Dense(4)
    block = library.Residual(*inner)
    block.trainable = False
    assert [layer.trainable for layer in inner] == [False, False]
    inner[0].trainable = True
    assert not block.trainable
    net = library.Sequential([library.Input(4), block], "squared_error", library.SGD(0.1), seed=0)
    before = [layer.weight.copy() for layer in inner]
    net.train_step(X, X)
    assert [bool((old == layer.weight).all()) for old, layer in zip(before, inner, strict=True)] == [False, True]
    block.trainable = True
    net.train_step(X, X)
    assert (inner[1].weight != before[1]).any()


# Adapting -------------------------------------------------------------------------------------------------------------


def by_column(data: Array) -> tuple[Array, Array]:
    exact = data.astype(np.longdouble)
    mean = exact.mean(axis=0)
    return mean.astype(float), np.sqrt(np.square(exact - mean).mean(axis=0)).astype(float)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint16", "bool", "float16", ">f8"])
@pytest.mark.parametrize("rows", [1, 2, 4095, 4096, 4097, 10000])
def test_adapt(library: ModuleType, dtype: str, rows: int) -> None:
    data = (100 * numbers(rows, 3) + 60).astype(dtype)
    scale = library.Standardize()
    scale.adapt(data)
    mean, deviation = by_column(data)
    deviation[deviation == 0] = 1
    error = rows * np.finfo(float).eps * np.abs(data.astype(float)).max()  # of a sum of so many numbers, divided by it
    np.testing.assert_allclose(scale.mean, mean, rtol=0, atol=error)
    np.testing.assert_allclose(scale.deviation, deviation, rtol=0, atol=2 * error)


@pytest.mark.parametrize("early", [True, False])
def test_adapt_before_and_after_the_network(library: ModuleType, early: bool) -> None:
    data = np.array([[1.0, 1000.0, 5.0], [3.0, 3000.0, 5.0]])
    scale = library.Standardize()
    if early:
        scale.adapt(data)
        assert scale.mean.tolist() == [2, 2000, 5] and scale.deviation.tolist() == [1, 1000, 1]
    net = library.Sequential([library.Input(3), scale])
    if not early:
        scale.adapt(data)
    assert net.predict(data).tolist() == [[-1, -1, 0], [1, 1, 0]]
    assert net.state.tolist() == [2, 2000, 5, 1, 1000, 1]
    scale.adapt(data[:1])
    assert net.predict(data).tolist() == [[0, 0, 0], [2, 2000, 0]]
    refused(lambda: scale.adapt(data[:, :2]), "X", ValueError)
    assert scale.mean.tolist() == [1, 1000, 5]


def test_a_constant_column_has_deviation_one(library: ModuleType) -> None:
    for value in (0.1, 1 / 3, 1e300, -1e-300, 0.0):
        scale = library.Standardize()
        scale.adapt(np.full((10001, 1), value))
        assert scale.mean.tolist() == [value] and scale.deviation.tolist() == [1.0]


def test_adapt_refuses(library: ModuleType) -> None:
    scale = library.Standardize()
    scale.adapt(X)
    before = scale.mean.copy(), scale.deviation.copy()
    infinite, nan = X.copy(), X.copy()
    infinite[2, 1], nan[0, 0] = np.inf, np.nan
    bad: list[tuple[Any, type[Exception]]] = [
        (X[:0], ValueError),
        (X[:, :0], ValueError),
        (X[0], ValueError),
        (X[:, :3], ValueError),
        (nan, ValueError),
        (infinite, ValueError),
        (1e200 * X, ValueError),
        (X.astype(complex), TypeError),
        (None, TypeError),
    ]
    for value, error in bad:
        refused(lambda value=value: scale.adapt(value), "X", error)
    np.testing.assert_array_equal(before, (scale.mean, scale.deviation))


def test_adapt_makes_no_copy_of_the_data() -> None:
    data = np.broadcast_to(np.arange(4, dtype=np.int8), (2**18, 4))
    tracemalloc.start()
    try:
        fb.Standardize().adapt(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < data.shape[0] * 8
