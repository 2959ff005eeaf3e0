"""Models of any graph: what they take, give and refuse; several inputs and outputs, weights of rows, functions of one's own."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import LABELS, X, numbers
from test_layers import refused

import fastbp as fb
from fastbp.values import Value

Array = np.ndarray[Any, Any]
Y = numbers(5, 2, seed=3)


def two_in_two_out(library: ModuleType, **settings: Any) -> Any:
    """Inputs of 4 and 1 columns; a head of 3 logits, a head of 2 numbers."""
    x, z = library.Input(4), library.Input(1)
    h = library.Dense(6, "tanh")(fb.concatenate([x, z]))
    defaults = {"loss": ["cross_entropy", "squared_error"], "optimizer": library.SGD(0.1), "seed": 1, "dtype": "float64"}
    return library.Model([x, z], [library.Dense(3)(h), library.Dense(2)(h * z)], **(defaults | settings))


# Forward, backward ----------------------------------------------------------------------------------------------------


def test_a_graph_of_scalars(library: ModuleType) -> None:
    x, y, z = (library.Input(1) for _ in range(3))
    m = library.Model([x, y, z], (x + y) * z)
    assert m.forward(-2, 5, -4).tolist() == [[-12]]
    gradients = m.backward()
    assert isinstance(gradients, tuple) and [gradient.tolist() for gradient in gradients] == [[[-4]], [[-4]], [[3]]]
    assert [gradient.tolist() for gradient in m.backward([[2]])] == [[[-8]], [[-8]], [[6]]]
    assert m.params.size == m.grads.size == m.state.size == 0 and m.layers == ()


FORMS = {"vector": lambda v: v, "column": lambda v: v.reshape(-1, 1), "list": lambda v: v.tolist()}


@pytest.mark.parametrize("name", FORMS)
def test_columns_of_one(library: ModuleType, name: str) -> None:
    form: Any = FORMS[name]
    x, y = library.Input(1), library.Input(1)
    m = library.Model([x, y], x * y, dtype="float64")
    a, b = numbers(5), numbers(5, seed=1)
    np.testing.assert_array_equal(m.forward(form(a), form(b)), (a * b).reshape(-1, 1))
    single = library.Model(x, 2 * x, dtype="float64")
    np.testing.assert_array_equal(single.forward(form(a)), 2 * a.reshape(-1, 1))
    assert single.forward(3.0).tolist() == [[6.0]]


def test_inputs_are_in_the_order_given(library: ModuleType) -> None:
    x, y = library.Input(1), library.Input(2)
    m = library.Model([y, x], fb.concatenate([x, y]))
    assert m.forward([[1, 2]], [[3]]).tolist() == [[3, 1, 2]]
    gy, gx = m.backward([[5, 6, 7]])
    assert gy.tolist() == [[6, 7]] and gx.tolist() == [[5]]
    assert m.predict([[[1, 2]], [[3]]]).tolist() == [[3, 1, 2]]


def test_one_output_in_a_list(library: ModuleType) -> None:
    x = library.Input(4)
    net = library.Model([x], [library.Dense(2)(x)], ["squared_error"], library.SGD(0.1), seed=0, dtype="float64")
    out = net.forward(X)
    assert isinstance(out, list) and out[0].shape == (5, 2)
    assert isinstance(net.predict(X), list) and isinstance(net.predict(X, nodes=x), np.ndarray)
    (gradient,) = net.backward([np.ones((5, 2))])
    np.testing.assert_array_equal(gradient, net.backward()[0])
    loss = net.evaluate(X, [Y])["loss"]
    np.testing.assert_allclose(net.train_step(X, [Y]), loss, rtol=16 * np.finfo(float).eps)
    assert net.fit(X, [Y], epochs=2).loss[1] < loss
    net.forward(X)
    refused(lambda: net.train_step(X, Y), "y", ValueError)
    refused(lambda: net.backward(np.ones((5, 2))), "dout", ValueError)


def test_any_value_may_be_an_output(library: ModuleType) -> None:
    x = library.Input(2)
    h = library.Activation("relu")(x)
    row = library.constant([7, 8], 2)
    m = library.Model(x, [h + row, h, x, row])
    assert [out.tolist() for out in m.forward([[1, -2]])] == [[[8, 8]], [[1, 0]], [[1, -2]], [[7, 8]]]
    (gradient,) = m.backward()
    assert gradient.tolist() == [[3, 1]]
    assert library.Model(x, x).forward([[1, -2]]).tolist() == [[1, -2]]
    assert [out.tolist() for out in m.predict([[1, -2]])] == [out.tolist() for out in m.forward([[1, -2]])]


def test_several_inputs_and_outputs(library: ModuleType) -> None:
    net = two_in_two_out(library)
    Z = X[:, :1]
    logits, values = net.forward(X, Z)
    assert logits.shape == (5, 3) and values.shape == (5, 2)
    for got, wanted in zip(net.predict([X, Z]), (logits, values), strict=True):
        np.testing.assert_array_equal(got, wanted)
    dx, dz = net.backward()
    assert dx.shape == (5, 4) and dz.shape == (5, 1)
    both = net.grads.copy()
    net.backward([np.ones((5, 3)), np.zeros((5, 2))])
    first = net.grads.copy()
    net.backward([np.zeros((5, 3)), np.ones((5, 2))])
    np.testing.assert_allclose(first + net.grads, both, rtol=0, atol=8 * np.finfo(float).eps * np.abs(both).max())
    scores = net.evaluate([X, Z], [LABELS, Y])
    assert set(scores) == {"loss", "loss_0", "accuracy_0", "loss_1"}
    assert scores["loss"] == scores["loss_0"] + scores["loss_1"]
    step = two_in_two_out(library).train_step([X, Z], [LABELS, Y])
    np.testing.assert_allclose(step, scores["loss"], rtol=16 * np.finfo(float).eps)
    history = net.fit([X, Z], [LABELS, Y], epochs=30, batch_size=2, validation_data=([X, Z], [LABELS, Y]))
    assert history.val_loss[-1] < history.val_loss[0] and history.val_accuracy == []


def test_weights_of_losses(library: ModuleType) -> None:
    Z = X[:, :1]
    plain, weighted = two_in_two_out(library), two_in_two_out(library, loss_weights=[0.25, 2])
    scores, other = plain.evaluate([X, Z], [LABELS, Y]), weighted.evaluate([X, Z], [LABELS, Y])
    assert other["loss_0"] == scores["loss_0"] and other["loss"] == 0.25 * scores["loss_0"] + 2 * scores["loss_1"]
    step = weighted.train_step([X, Z], [LABELS, Y])
    np.testing.assert_allclose(step, other["loss"], rtol=16 * np.finfo(float).eps)
    silent = two_in_two_out(library, loss_weights=[1, 0])
    before = silent.layers[2].weight.copy()
    silent.train_step([X, Z], [LABELS, Y])
    np.testing.assert_array_equal(silent.layers[2].weight, before)
    for bad, error in (([1], ValueError), ([1, -1], ValueError), ([1, np.nan], ValueError), ([1, "2"], TypeError)):
        refused(lambda bad=bad: two_in_two_out(library, loss_weights=bad), "loss_weights", error)
    refused(lambda: two_in_two_out(library, loss=None, loss_weights=[1, 1]), "loss_weights", ValueError)


def test_one_loss_for_all_outputs(library: ModuleType) -> None:
    x = library.Input(4)
    net = library.Model(x, [library.Dense(2)(x), library.Dense(2)(x)], "squared_error", library.SGD(0.1), seed=0)
    assert set(net.evaluate(X, [Y, Y])) == {"loss", "loss_0", "loss_1"}
    refused(lambda: two_in_two_out(library, loss=["squared_error"]), "loss", ValueError)
    refused(lambda: two_in_two_out(library, loss=["squared_error"] * 3), "loss", ValueError)


def test_prediction_and_training_mode(library: ModuleType) -> None:
    net = library.Sequential([library.Input(4), library.Dropout(0.5), library.BatchNorm()], seed=0, dtype="float64")
    norm = net.layers[2]
    quiet = net.forward(X, training=False)
    assert norm.running_mean.tolist() == [0] * 4
    np.testing.assert_array_equal(quiet, net.predict(X))
    assert (net.forward(X) != quiet).any()
    assert (norm.running_mean != 0).any()


def test_activations_of_nodes(library: ModuleType) -> None:
    x = library.Input(4)
    first, block = library.Dense(6, "relu"), library.Residual(library.Dense(6, "tanh"))
    h = first(x)
    s = h[:, 2:4]
    net = library.Model(x, block(h) + fb.concatenate([s, s, s]), seed=0, dtype="float64")
    values = net.predict(X, nodes=[x, first, h, s, block, block.layers[0]])
    np.testing.assert_array_equal(values[0], X)
    np.testing.assert_array_equal(values[1], values[2])
    np.testing.assert_array_equal(values[3], values[1][:, 2:4])
    np.testing.assert_array_equal(values[4], values[1] + values[5])
    assert net.predict(X, nodes=first).shape == (5, 6) and len(net.predict(X, nodes=[first])) == 1
    assert net.predict(X[:0], nodes=first).shape == (0, 6)
    for bad, error in (
        (library.Dense(3), ValueError),
        (library.Input(4), ValueError),
        (2 * h, ValueError),
        ("relu", TypeError),
        (1, TypeError),
        ([first, None], TypeError),
    ):
        refused(lambda bad=bad: net.predict(X, nodes=bad), "nodes", error)
    refused(lambda: net.predict(X, out=np.empty((5, 6)), nodes=h), "out", ValueError)


def test_draws_are_counted(library: ModuleType) -> None:
    def net() -> Any:
        return library.Sequential([library.Input(4), library.Dropout(0.5)], "squared_error", library.SGD(0.1), seed=3)

    one, other = net(), net()
    outputs = [one.forward(X) for _ in range(3)]
    assert one.draws == 3
    one.predict(X)
    one.forward(X, training=False)
    assert one.draws == 3
    one.train_step(X, X)
    one.fit(X, X, epochs=2, batch_size=2)
    assert one.draws == 3 + 1 + 2 * 3
    other.draws = 2
    np.testing.assert_array_equal(other.forward(X), outputs[2])
    for bad, error in ((-1, ValueError), (2**32, ValueError), (1.5, TypeError), (True, TypeError)):
        refused(lambda bad=bad: setattr(other, "draws", bad), "draws", error)


def test_layers_are_in_topological_order(library: ModuleType) -> None:
    x = library.Input(4)
    a, b, c = library.Dense(4), library.Dense(4), library.Residual(library.LayerNorm())
    h = a(x)
    net = library.Model(x, b(x) + c(h))
    assert net.layers == (a, b, c.layers[0], c) or net.layers == (a, c.layers[0], c, b)


def test_backward_of_a_chain(library: ModuleType) -> None:
    net = library.Sequential([library.Input(4), library.Dense(3)], seed=0, dtype="float64")
    with pytest.raises(RuntimeError, match="backward needs a forward pass before it"):
        net.backward()
    net.forward(X)
    assert net.backward() is None
    grads = net.grads.copy()
    dX = net.backward(np.ones((5, 3)), inputs=True)
    np.testing.assert_array_equal(net.grads, grads)
    np.testing.assert_array_equal(net.backward(inputs=True), dX)
    assert dX.shape == X.shape


def test_a_chain_without_weights(library: ModuleType) -> None:
    net = library.Sequential([library.Input(4), library.Activation("relu")], "squared_error", library.SGD(0.1), dtype="float64")
    np.testing.assert_array_equal(net.predict(X), np.maximum(X, 0))
    net.forward(X)
    np.testing.assert_array_equal(net.backward(X, inputs=True), np.maximum(X, 0))
    assert net.train_step(X, np.maximum(X, 0)) == 0.0
    assert isinstance(net, library.Model)


def test_a_value_may_be_in_several_networks(library: ModuleType) -> None:
    x, y = library.Input(1), library.Input(1)
    product = x * y
    assert library.Model([x, y], product).forward(2, 3).tolist() == [[6]]
    assert library.Model([y, x], product + x).forward(2, 3).tolist() == [[9]]


# What is refused ------------------------------------------------------------------------------------------------------


def test_inputs_that_are_missing_or_of_no_use(library: ModuleType) -> None:
    x, y, z = library.Input(1), library.Input(7), library.Input(1)
    f = x * library.Dense(1)(y)
    message = refused(lambda: library.Model([x], f), "inputs", ValueError)
    assert "Input(features=7)" in message and "dense" in message
    assert "Input(features=1)" in refused(lambda: library.Model([x, y, z], f), "inputs", ValueError)
    refused(lambda: library.Model([x, y, x], f), "inputs", ValueError)
    refused(lambda: library.Model([], f), "inputs", ValueError)
    refused(lambda: library.Model([x, f], f), "inputs", TypeError)
    refused(lambda: library.Model(4, f), "inputs", TypeError)
    refused(lambda: library.Model([x, y], []), "outputs", ValueError)
    refused(lambda: library.Model([x, y], [f, f]), "outputs", ValueError)
    for bad in (None, "f", library.Dense(3), [f, X]):
        refused(lambda bad=bad: library.Model([x, y], bad), "outputs", TypeError)
    library.Model([x, y], f)


def test_a_layer_has_one_place(library: ModuleType) -> None:
    x = library.Input(4)
    layer, block = library.Dense(4), library.Residual(library.Dense(4))
    for twice in (layer(layer(x)), layer(x) + layer(x), block(block(x))):
        refused(lambda twice=twice: library.Model(x, twice), "layer", ValueError)
    library.Model(x, layer(x))
    refused(lambda: layer(x), "layer", ValueError)
    late = library.Dense(4)
    a, b = late(x), late(x)
    library.Model(x, a)
    refused(lambda: library.Model(x, b), "layer", ValueError)


def test_a_network_that_failed_leaves_its_layers_free(library: ModuleType) -> None:
    x = library.Input(4)
    good, bad = library.Dense(4, weight_init=np.zeros((4, 4))), library.Dense(3, weight_init=np.zeros((9, 9)))
    refused(lambda: library.Model(x, bad(good(x))), "weight_init", ValueError)
    assert not good.in_network and not bad.in_network
    library.Sequential([library.Input(4), good]).predict(X)


def test_arrays_that_do_not_fit(library: ModuleType) -> None:
    net, twin = two_in_two_out(library), two_in_two_out(library)
    Z = X[:, :1]
    for call in (lambda: net.forward(X), lambda: net.forward(X, Z, Z), lambda: net.forward()):
        refused(call, "x", ValueError)
    for x in (X, [X], (X, Z, Z), None, "ab"):
        refused(lambda x=x: net.predict(x), "X", ValueError)
        refused(lambda x=x: net.train_step(x, [LABELS, Y]), "x", ValueError)
        refused(lambda x=x: net.fit(x, [LABELS, Y]), "X", ValueError)
    refused(lambda: net.forward(X, Z[:4]), "x[1]", ValueError)
    refused(lambda: net.forward(X[:, :3], Z), "x[0]", ValueError)
    refused(lambda: net.forward(X, X), "x[1]", ValueError)
    refused(lambda: net.predict([X, Z[:4]]), "X[1]", ValueError)
    refused(lambda: net.forward(X, Z.astype(complex)), "x[1]", TypeError)
    net.forward(X, Z)
    twin.forward(X, Z)
    for y in (LABELS, [LABELS], [LABELS, Y, Y], None):
        refused(lambda y=y: net.train_step([X, Z], y), "y", ValueError)
        refused(lambda y=y: net.evaluate([X, Z], y), "y", ValueError)
        refused(lambda y=y: net.fit([X, Z], y), "y", ValueError)
        if y is not None:
            refused(lambda y=y: net.backward(y), "dout", ValueError)
    refused(lambda: net.train_step([X, Z], [LABELS, Y[:, :1]]), "y[1]", ValueError)
    refused(lambda: net.train_step([X, Z], [LABELS + 1, Y]), "y[0]", ValueError)
    refused(lambda: net.fit([X, Z], [LABELS, Y[:4]]), "y[1]", ValueError)
    refused(lambda: net.backward([np.ones((5, 3)), np.ones((5, 3))]), "dout[1]", ValueError)
    for got, wanted in zip(net.backward(), twin.backward(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(net.params, twin.params)


def test_scalars_need_a_width_of_one(library: ModuleType) -> None:
    x, y = library.Input(1), library.Input(3)
    m = library.Model([x, y], x * y)
    refused(lambda: m.forward(1.0, 2.0), "x[1]", ValueError)
    refused(lambda: m.forward([1.0, 2.0], [1.0, 2.0, 3.0]), "x[1]", ValueError)
    refused(lambda: m.forward([1.0, 2.0], [[1.0, 2.0, 3.0]]), "x[1]", ValueError)
    single = library.Sequential([library.Input(3), library.Dense(1)])
    refused(lambda: single.forward(2.0), "x", ValueError)
    refused(lambda: single.forward(X[0, :3]), "x", ValueError)


@pytest.mark.parametrize("index", [-1, 3, 0.5, np.nan, 1e30])
def test_categories(library: ModuleType, index: float) -> None:
    net = library.Sequential([library.Input(2), library.Embedding(3, 2)], "squared_error", library.SGD(0.1), seed=0)
    good, target = np.array([[0, 2], [1, 1]]), np.ones((2, 4))
    bad = good.astype(float)
    bad[1, 0] = index
    before = net.params.copy()
    for call in (lambda: net.forward(bad), lambda: net.train_step(bad, target)):
        refused(call, "x", ValueError)
    for call in (lambda: net.predict(bad), lambda: net.fit(bad, target)):
        refused(call, "X", ValueError)
    many, first = np.vstack([good] * 5 + [bad]), np.ones((12, 4))
    refused(lambda: net.fit(many, first, batch_size=2), "X", ValueError)
    refused(lambda: net.fit(good, target, validation_data=(bad, target)), "validation_data[0]", ValueError)
    np.testing.assert_array_equal(net.params, before)
    net.train_step(good, target)
    net.fit(good.astype(np.uint8), target)


def test_softmax_twice(library: ModuleType) -> None:
    x = library.Input(4)
    h = library.Dense(3)(x)
    for make in (
        lambda: library.Model(x, library.Dense(3, "softmax")(x), "cross_entropy"),
        lambda: library.Sequential([library.Input(4), library.Dense(3), library.Activation("softmax")], "cross_entropy"),
        lambda: library.Model(x, [h + h, library.Dense(2, "softmax")(h)], ["cross_entropy", "cross_entropy"]),
    ):
        with pytest.warns(UserWarning, match="applied twice") as caught:
            make()
        assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library.Sequential([library.Input(4), library.Dense(3, "softmax")], "squared_error")
        library.Sequential([library.Input(4), library.Dense(3, "softmax"), library.Dense(3)], "cross_entropy")


# Weights of rows ------------------------------------------------------------------------------------------------------


def test_a_row_of_weight_two_counts_twice(library: ModuleType) -> None:
    def net() -> Any:
        layers = [library.Input(4), library.Dense(6, "tanh"), library.Dense(3)]
        return library.Sequential(layers, "cross_entropy", library.SGD(0.1), seed=1, dtype="float64")

    rows, weights = [0, 1, 2, 2, 3, 3, 3], [1, 1, 2, 3, 0]
    bound = 64 * np.finfo(float).eps
    wanted = net().evaluate(X[rows], LABELS[rows])["loss"]
    np.testing.assert_allclose(net().evaluate(X, LABELS, weights)["loss"], wanted, rtol=bound)
    twice, weighted, fitted = net(), net(), net()
    twice.train_step(X[rows], LABELS[rows])
    np.testing.assert_allclose(weighted.train_step(X, LABELS, sample_weight=weights), wanted, rtol=bound)
    history = fitted.fit(X, LABELS, batch_size=5, sample_weight=weights, shuffle=False)
    np.testing.assert_allclose(history.loss, [wanted], rtol=bound)
    for other in (weighted, fitted):
        np.testing.assert_allclose(other.params, twice.params, rtol=0, atol=bound)
    history = net().fit(X, LABELS, 2, validation_data=(X, LABELS, weights), shuffle=False, batch_size=5)
    twice = net()
    twice.train_step(X, LABELS)
    np.testing.assert_allclose(history.val_loss[0], twice.evaluate(X, LABELS, weights)["loss"], rtol=bound)


def test_the_loss_of_an_epoch_is_the_mean_by_weight(library: ModuleType) -> None:
    def net() -> Any:
        layers = [library.Input(4), library.Dense(6, "tanh"), library.Dense(3)]
        return library.Sequential(layers, "cross_entropy", library.SGD(0.1), seed=1, dtype="float64")

    bound = 64 * np.finfo(float).eps
    for weights in (np.array([1.0, 2.0, 0.0, 3.0, 0.5]), np.array([0, 0, 4.0, 1.0, 0]), np.ones(5)):
        by_hand = net()
        losses = [by_hand.train_step(X[i : i + 2], LABELS[i : i + 2], weights[i : i + 2]) for i in (0, 2, 4)]
        wanted = np.average(losses, weights=[weights[:2].sum(), weights[2:4].sum(), weights[4]])
        history = net().fit(X, LABELS, batch_size=2, sample_weight=weights, shuffle=False)
        np.testing.assert_allclose(history.loss, [wanted], rtol=bound)
    assert net().fit(X, LABELS, batch_size=2, sample_weight=np.zeros(5)).loss == [0.0]


@pytest.mark.parametrize(
    "weights, error",
    [
        ([1, 1, 1, 1], ValueError),
        (np.ones((5, 1)), ValueError),
        (1.0, ValueError),
        ([1, 1, -1, 1, 1], ValueError),
        ([1, 1, np.nan, 1, 1], ValueError),
        ([1, 1, np.inf, 1, 1], ValueError),
        (["1"] * 5, TypeError),
        ([1j] * 5, TypeError),
    ],
    ids=str,
)
def test_weights_that_are_none(library: ModuleType, weights: Any, error: type[Exception]) -> None:
    layers = [library.Input(4), library.Dense(3)]
    net = library.Sequential(layers, "cross_entropy", library.SGD(0.1), seed=1)
    before = net.params.copy()
    for call in (
        lambda: net.train_step(X, LABELS, weights),
        lambda: net.fit(X, LABELS, sample_weight=weights),
        lambda: net.evaluate(X, LABELS, weights),
        lambda: net.fit(X, LABELS, validation_data=(X, LABELS, weights)),
    ):
        refused(call, "sample_weight", error)
    np.testing.assert_array_equal(net.params, before)


def test_weights_of_classes(library: ModuleType) -> None:
    def net(loss: Any) -> Any:
        layers = [library.Input(4), library.Dense(6, "tanh"), library.Dense(3)]
        return library.Sequential(layers, loss, library.SGD(0.1), seed=1, dtype="float64")

    of_class, sample = np.array([1.0, 3.0, 0.5]), np.array([1.0, 2, 0, 1, 4])
    loss = library.losses.CrossEntropy(class_weight=of_class)
    for given, rows in ((None, of_class[LABELS]), (sample, sample * of_class[LABELS])):
        weighted, plain = net(loss), net("cross_entropy")
        assert weighted.evaluate(X, LABELS, given) == plain.evaluate(X, LABELS, rows)
        assert weighted.train_step(X, LABELS, given) == plain.train_step(X, LABELS, rows)
        first = weighted.fit(X, LABELS, 3, batch_size=2, sample_weight=given)
        second = plain.fit(X, LABELS, 3, batch_size=2, sample_weight=rows)
        assert first.loss == second.loss
        np.testing.assert_array_equal(weighted.params, plain.params)
    assert repr(weighted.loss) in repr(weighted)
    refused(lambda: two_in_two_out(library, loss=[loss, "squared_error"]), "class_weight", ValueError)


def test_weights_of_rows_with_several_outputs(library: ModuleType) -> None:
    Z, weights = X[:, :1], np.array([2.0, 0, 1, 0, 0])
    rows = [0, 0, 2]
    weighted, twice = two_in_two_out(library), two_in_two_out(library)
    scores = weighted.evaluate([X, Z], [LABELS, Y], weights)
    wanted = twice.train_step([X[rows], Z[rows]], [LABELS[rows], Y[rows]])
    bound = 64 * np.finfo(float).eps
    np.testing.assert_allclose(scores["loss"], wanted, rtol=bound)
    np.testing.assert_allclose(weighted.train_step([X, Z], [LABELS, Y], weights), wanted, rtol=bound)
    np.testing.assert_allclose(weighted.params, twice.params, rtol=0, atol=bound)


# Functions of one's own -----------------------------------------------------------------------------------------------


def half_square(out: Array, target: Any) -> tuple[float, Array]:
    difference = out - np.asarray(target).reshape(out.shape)
    return float(0.5 * np.square(difference).sum() / len(out)), difference / len(out)


def test_a_loss_of_ones_own(library: ModuleType) -> None:
    def net(loss: Any) -> Any:
        layers = [library.Input(4), library.Dense(6, "tanh"), library.Dense(2)]
        return library.Sequential(layers, loss, library.SGD(0.1), seed=1, dtype="float64")

    own, named = net(half_square), net("squared_error")
    bound = 64 * np.finfo(float).eps
    for first, second in (
        (own.evaluate(X, Y)["loss"], named.evaluate(X, Y)["loss"]),
        (own.train_step(X, Y), named.train_step(X, Y)),
        (own.fit(X, Y, 3, batch_size=2).loss, named.fit(X, Y, 3, batch_size=2).loss),
        (own.params, named.params),
    ):
        np.testing.assert_allclose(first, second, rtol=0, atol=bound)
    refused(lambda: own.train_step(X, Y, np.ones(5)), "sample_weight", ValueError)
    refused(lambda: own.fit(X, Y, sample_weight=np.ones(5)), "sample_weight", ValueError)
    with pytest.raises(RuntimeError, match="predict_proba needs loss="):
        own.predict_proba(X)


def test_an_exception_in_a_function_of_ones_own(library: ModuleType) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("mine")

    def network(activation: Any, loss: Any) -> Any:
        return library.Sequential([library.Input(4), library.Dense(2, activation)], loss, library.SGD(0.1), seed=1)

    for net in (network(None, broken), network((broken, broken), "squared_error")):
        before = net.params.copy()
        for call in (lambda net=net: net.train_step(X, Y), lambda net=net: net.fit(X, Y)):
            with pytest.raises(KeyError, match="mine"):
                call()
        np.testing.assert_array_equal(net.params, before)
    with pytest.raises(KeyError, match="mine"):
        net.predict(X)


def test_losses_that_are_none(library: ModuleType) -> None:
    for bad in (5, b"squared_error", "nonsense", ["squared_error"], [half_square], {"a": 1}, dict):
        with pytest.raises((ValueError, TypeError), match=r"loss must .* got "):
            library.Sequential([library.Input(4), library.Dense(2)], bad)


# Probabilities, penalty, state ----------------------------------------------------------------------------------------


def test_probabilities(library: ModuleType) -> None:
    def net(loss: Any) -> Any:
        return library.Sequential([library.Input(4), library.Dense(3)], loss, seed=0, dtype="float64")

    softmax = net("cross_entropy")
    Z = softmax.predict(X)
    bound = 16 * np.finfo(float).eps
    np.testing.assert_allclose(softmax.predict_proba(X), np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True), rtol=bound)
    np.testing.assert_allclose(net("binary_cross_entropy").predict_proba(X), 1 / (1 + np.exp(-Z)), rtol=bound)
    heads = two_in_two_out(library, loss=["cross_entropy", "binary_cross_entropy"])
    first, second = heads.predict_proba([X, X[:, :1]])
    np.testing.assert_allclose(first.sum(axis=1), 1, rtol=bound)
    assert ((second > 0) & (second < 1)).all()
    for bad in (net("squared_error"), net(None), two_in_two_out(library)):
        with pytest.raises(RuntimeError, match=r"predict_proba needs loss='cross_entropy' or 'binary_cross_entropy', got "):
            bad.predict_proba([X, X[:, :1]] if len(bad.inputs) > 1 else X)


def test_penalty(library: ModuleType) -> None:
    layers = [library.Input(4), library.Dense(3), library.LayerNorm(), library.Dense(2)]
    net = library.Sequential(layers, "squared_error", library.SGD(0.1, l2=0.5), seed=0, dtype="float64")
    squares = [np.square(layer.weight).sum() for layer in (layers[1], layers[3])]
    bound = 16 * np.finfo(float).eps
    np.testing.assert_allclose(net.penalty(), 0.25 * sum(squares), rtol=bound)
    layers[1].trainable = False
    np.testing.assert_allclose(net.penalty(), 0.25 * squares[1], rtol=bound)
    layers[1].trainable = True
    net = library.Sequential(
        [library.Input(4), library.Dense(3), library.BatchNorm()],
        "squared_error",
        library.SGD(0.1, l2=0.5, decay_biases=True),
        dtype="float64",
    )
    np.testing.assert_allclose(net.penalty(), 0.25 * np.square(net.params).sum(), rtol=bound)
    with pytest.raises(RuntimeError, match="pass optimizer="):
        library.Sequential([library.Input(4), library.Dense(3)]).penalty()


def test_state_may_be_assigned(library: ModuleType) -> None:
    net = library.Sequential([library.Input(2), library.BatchNorm()], dtype="float64")
    net.state = [1, 2, 4, 9]
    assert net.layers[1].running_mean.tolist() == [1, 2] and net.layers[1].running_var.tolist() == [4, 9]
    refused(lambda: setattr(net, "state", np.zeros(3)), "state", ValueError)
    net.layers[1].running_var -= 1
    assert net.state.tolist() == [1, 2, 3, 8]


def test_representation(library: ModuleType) -> None:
    net = two_in_two_out(library)
    assert repr(net).startswith("Model([Input(features=4), Input(features=1)], [<dense#")
    assert "loss=['cross_entropy', 'squared_error'], optimizer=SGD(learning_rate=0.1), dtype='float64', seed=1)" in repr(net)


# Values ---------------------------------------------------------------------------------------------------------------


def test_functions_are_exported(library: ModuleType) -> None:
    x = library.Input(2)
    for name in ("square", "reciprocal", "exp", "log", "negative"):
        value = getattr(library, name)(x)
        assert isinstance(value, Value) and (value.gate, value.activation) == ("activation", name)
    assert library.power(x, 3).parameter == 3.0
    assert library.matmul(x, np.ones((2, 5))).width == 5
    assert library.maximum(x, 0.0).gate == "maximum" and library.minimum(x, x).gate == "minimum"
    assert library.concatenate([x, x]).width == 4
    assert library.constant([1, 2], 2).values.tolist() == [1, 2]
