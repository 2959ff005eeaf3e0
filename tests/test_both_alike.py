"""What once was different in fastbp and its reference, or true of neither."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import LABELS, Array, X

import fastbp as fb

BOUND = 64 * np.finfo(float).eps  # of sums of a few dozen terms below 1


def made(library: ModuleType, *layers: Any, **settings: Any) -> Any:
    defaults = {"loss": "cross_entropy", "optimizer": library.SGD(0.1), "seed": 1, "dtype": "float64"}
    return library.Sequential([library.Input(4), *(layers or [library.Dense(3, "tanh")])], **(defaults | settings))


# Gradients that wait ----------------------------------------------------------------------------------------------


def test_fewer_steps_to_gather_than_are_waiting(library: ModuleType) -> None:
    net = made(library, optimizer=library.SGD(0.1, accumulate=3))
    before = net.params.copy()
    for _ in range(2):
        net.train_step(X, LABELS)
    np.testing.assert_array_equal(net.params, before)
    net.optimizer = library.SGD(0.1, accumulate=2)
    net.train_step(X, LABELS)
    np.testing.assert_allclose(net.params, before - 0.1 * net.grads / 3, rtol=0, atol=BOUND)
    after = net.params.copy()
    net.train_step(X, LABELS)
    np.testing.assert_array_equal(net.params, after)
    net.train_step(X, LABELS)
    assert (net.params != after).all()


def test_grads_hold_the_sum_of_what_waits(library: ModuleType) -> None:
    net, single = made(library, optimizer=library.SGD(0.1, accumulate=3)), made(library)
    single.train_step(X, LABELS)
    one = (made(library).params - single.params) / 0.1
    for steps in (1, 2, 3):
        net.train_step(X, LABELS)
        np.testing.assert_allclose(net.grads, steps * one, rtol=0, atol=BOUND)
    np.testing.assert_allclose(net.params, single.params, rtol=0, atol=BOUND)  # the mean of three of the same
    for _ in range(2):
        net.train_step(X, LABELS)
    waiting, before = net.grads.copy(), net.params.copy()
    net.update()
    np.testing.assert_allclose(net.params, before - 0.1 * waiting, rtol=0, atol=BOUND)


# Steps that fail --------------------------------------------------------------------------------------------------


def test_a_step_whose_loss_raises_changes_nothing(library: ModuleType) -> None:
    fails = [False]

    def loss(out: Array, target: Any) -> tuple[float, Array]:
        if fails[0]:
            raise ArithmeticError("no")
        return float(np.square(out).sum()), 2 * out

    layers = [(library.Dense(6), library.BatchNorm(), library.Dropout(0.5), library.Dense(3)) for _ in range(2)]
    net, twin = (made(library, *each, loss=loss) for each in layers)
    fails[0] = True
    with pytest.raises(ArithmeticError):
        net.train_step(X, LABELS)
    fails[0] = False
    assert net.draws == 0
    np.testing.assert_array_equal(net.state, twin.state)
    assert net.train_step(X, LABELS) == twin.train_step(X, LABELS)
    np.testing.assert_array_equal(net.params, twin.params)


def test_an_epoch_counts_though_its_validation_fails(library: ModuleType) -> None:
    fails = [False]

    def loss(out: Array, target: Any) -> tuple[float, Array]:
        if fails[0] and len(out) == 4:
            raise ArithmeticError("no")
        return float(np.square(out).sum()), 2 * out

    net, twin = made(library, loss=loss), made(library, loss=loss)
    fails[0] = True
    with pytest.raises(ArithmeticError):
        net.fit(X, LABELS, batch_size=1, validation_data=(X[:4], LABELS[:4]))
    fails[0] = False
    net.fit(X, LABELS, batch_size=1)
    twin.fit(X, LABELS, 2, batch_size=1)
    np.testing.assert_array_equal(net.params, twin.params)


# Results ----------------------------------------------------------------------------------------------------------


def test_what_forward_returns_is_the_callers(library: ModuleType) -> None:
    net, twin = made(library), made(library)
    for one in (net, twin):
        out = one.forward(X)
        if one is net:
            out[...] = 0
        one.backward()
    np.testing.assert_array_equal(net.grads, twin.grads)
    layers = [library.Dense(3, "sigmoid", inputs=4, seed=1), library.Activation("tanh")]
    for layer in layers:
        ones = np.ones_like(layer.forward(X))
        wanted = layer.backward(ones)
        layer.forward(X)[...] = 0
        np.testing.assert_array_equal(layer.backward(ones), wanted)


def test_a_single_loss_has_its_weight(library: ModuleType) -> None:
    x = library.Input(4)
    net = library.Model(x, library.Dense(3)(x), "cross_entropy", library.SGD(0.1), loss_weights=[0.5], seed=1, dtype="float64")
    E = net.evaluate(X, LABELS)["loss"]
    np.testing.assert_allclose(net.fit(X, LABELS, batch_size=5, validation_data=(X, LABELS)).loss, [E], rtol=BOUND)


def test_hard_swish_of_nan_has_no_slope(library: ModuleType) -> None:
    layer = library.Activation("hard_swish")
    layer.forward([[np.nan, 4.0, 3.0, -4.0, 1.0]])
    got = layer.backward([[1.0, 1.0, 1.0, 1.0, 1.0]])[0]
    assert np.isnan(got[0])
    np.testing.assert_allclose(got[1:], [1, 1, 0, 5 / 6], rtol=BOUND)


def test_fractions_are_numbers(library: ModuleType) -> None:
    net, twin = made(library, optimizer=library.SGD(Fraction(1, 8))), made(library, optimizer=library.SGD(0.125))
    assert net.train_step(X, LABELS) == twin.train_step(X, LABELS)
    np.testing.assert_array_equal(net.params, twin.params)


# Arguments --------------------------------------------------------------------------------------------------------


def test_flags_are_true_or_false(library: ModuleType) -> None:
    net = made(library)
    for call, name in [
        (lambda: net.fit(X, LABELS, shuffle="false"), "shuffle"),
        (lambda: net.forward(X, training="no"), "training"),
        (lambda: (net.forward(X), net.backward(inputs=0)), "inputs"),
    ]:
        with pytest.raises(TypeError, match=f"{name} must be True or False, got"):
            call()
    assert net.fit(X, LABELS, shuffle=np.True_).loss


def test_masked_numbers_are_refused(library: ModuleType) -> None:
    net, masked = made(library), np.ma.masked_array(X, X > 0.5)
    for call, name in [
        (lambda: net.predict(masked), "X"),
        (lambda: net.fit(masked, LABELS), "X"),
        (lambda: net.train_step(X, np.ma.masked_array(LABELS, LABELS == 2)), "y"),
    ]:
        with pytest.raises(TypeError, match=f"{name} must have nothing masked"):
            call()
    np.testing.assert_array_equal(net.predict(np.ma.masked_array(X)), net.predict(X))


def test_predict_takes_out_and_nodes_in_this_order(library: ModuleType) -> None:
    net, out = made(library), np.empty((5, 3))
    net.predict(X, out)
    np.testing.assert_array_equal(out, net.predict(X, None, net.layers[1]))


def test_layers_of_the_other_library_are_refused(library: ModuleType) -> None:
    other = fb.reference if library is fb else fb
    x = library.Input(4)
    with pytest.raises(TypeError, match="outputs must be made of layers of fastbp"):
        library.Model(x, other.Dense(3)(x))
    for first in (made(library), x + 1):
        with pytest.raises(ValueError, match=r"layers must begin with Input\(features\)"):
            library.Sequential([first, library.Dense(2)])
    with pytest.raises(TypeError, match="loss_weights must be a list of numbers"):
        library.Model(x, library.Dense(3)(x), "cross_entropy", loss_weights=1.0)
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64'"):
        library.Model(x, library.Dense(3)(x), dtype=np.zeros(2))


def test_arguments_of_values() -> None:
    x = fb.Input(3)
    for call, error, message in [
        (lambda: x ** float("nan"), ValueError, "exponent must be finite, got nan"),
        (lambda: fb.power(x, np.inf), ValueError, "exponent must be finite, got inf"),
        (lambda: x ** "3", TypeError, "exponent must be a real number, got str"),
        (lambda: fb.maximum(1, 2), TypeError, "maximum needs a value of a graph"),
        (lambda: fb.constant(1, 0), ValueError, "width must be at least 1"),
        (lambda: fb.constant(1, 2.5), TypeError, "width must be an integer"),
        (lambda: fb.constant([1, 2], 3), ValueError, r"shape \(3,\), got \(2,\)"),
        (lambda: fb.constant([]), ValueError, r"shape \(columns,\), got \(0,\)"),
        (lambda: fb.concatenate(x), TypeError, "values must be a sequence of values"),
        (lambda: x[:, 3], IndexError, "column must be one of 3, from 0 to 2, got 3"),
        (lambda: x[:, -4], IndexError, "column must be one of 3, from 0 to 2, got -4"),
        (lambda: x[:, 2:2], IndexError, "columns must be next to each other, at least one"),
        (lambda: x[np.arange(3), 1], IndexError, r"index must be \[:, column\] or \[:, from:to\]"),
        (lambda: x[:, np.array([0, 1])], IndexError, r"index must be \[:, column\] or \[:, from:to\]"),
        (lambda: x[:, True], IndexError, r"index must be \[:, column\] or \[:, from:to\]"),
        (lambda: x[:, "a"], IndexError, r"index must be \[:, column\] or \[:, from:to\]"),
        (lambda: x[:, [0, 1]], IndexError, r"index must be \[:, column\] or \[:, from:to\]"),
    ]:
        with pytest.raises(error, match=message):
            call()
    m = fb.Model(x, fb.concatenate([x[:, -1], x[:, 0], x[:, -2:], fb.constant([7, 8])]), dtype="float64")
    assert m.predict([[1, 2, 3]]).tolist() == [[3, 1, 2, 3, 7, 8]]


def test_what_looks_into_networks_names_its_arguments() -> None:
    net = made(fb)
    for call, error, message in [
        (lambda: fb.gradient_flow(None, X), TypeError, "net must be a Model or Sequential"),
        (lambda: fb.jacobian(None, X), TypeError, "net must be a Model or Sequential"),
        (lambda: fb.gradcheck(net, X, LABELS + 9), ValueError, "y must hold class labels"),
        (lambda: net.trace(X, LABELS[:2]), ValueError, r"y must have 5 rows, got shape \(2,\)"),
        (lambda: net.trace(X[:0], LABELS[:0]), ValueError, "x must have at least one row"),
        (lambda: net.trace(X, LABELS, names=0), ValueError, "names must be 1, one for each input, got 0"),
        (lambda: net.trace(X)[99], KeyError, "the trace has steps 0 to 1, got 99"),
        (lambda: made(fb, loss=lambda out, target: 1.0).evaluate(X, LABELS), TypeError, r"must return \(loss, dout\), got 1.0"),
        (lambda: made(fb, loss=lambda out, target: (1.0, out[:1])).evaluate(X, LABELS), ValueError, "that the loss returns must"),
        (lambda: net.predict(X[:1, :], out=net.params[:3].reshape(1, 3)), ValueError, "out must not overlap the parameters"),
    ]:
        with pytest.raises(error, match=message):
            call()
    check = fb.gradcheck(fb.Sequential([fb.Input(1), fb.Activation("tanh")], dtype="float64"), [[np.inf]])
    assert not check.ok


def test_out_may_not_be_the_state() -> None:
    net = fb.Sequential([fb.Input(4), fb.Standardize()], dtype="float64")
    before = net.state.copy()
    with pytest.raises(ValueError, match="out must not overlap the state"):
        net.predict(X[:2], out=net.state.reshape(2, 4))
    np.testing.assert_array_equal(net.state, before)


def test_a_setter_that_is_refused_changes_nothing() -> None:
    seen = []

    def loss(out: Array, target: Any) -> tuple[float, Array]:
        for change in (lambda: setattr(net, "optimizer", fb.SGD(0.0)), lambda: setattr(net.layers[1], "trainable", False)):
            with pytest.raises(RuntimeError):
                change()
            seen.append(change)
        return float(np.square(out).sum()), 2 * out

    net = made(fb, loss=loss)
    net.train_step(X, LABELS)
    assert len(seen) == 2 and net.optimizer == fb.SGD(0.1) and net.layers[1].trainable is True


def test_what_functions_of_ones_own_return(library: ModuleType) -> None:
    """The same sentences in training and in evaluation; what other libraries call a number is one."""

    class Number:
        ndim = 0

        def item(self) -> float:
            return 1.5

    for returned, error, message in [
        (lambda out: 1.0, TypeError, r"the loss must return \(loss, dout\), got 1.0"),
        (lambda out: (np.ones(3), out), TypeError, "the loss must be a real number, got ndarray"),
        (lambda out: ("1.5", out), TypeError, "the loss must be a real number, got str"),
        (lambda out: (1 + 1j, out), TypeError, "the loss must be a real number, got complex"),
        (lambda out: (None, out), TypeError, "the loss must be a real number, got NoneType"),
        (lambda out: (1.0, out[:1]), ValueError, r"the gradient that the loss returns must have shape \(5, 3\), got \(1, 3\)"),
        (lambda out: (1.0, None), TypeError, "the gradient that the loss returns must hold real numbers"),
    ]:
        for weights in (None, [0.5]):
            x = library.Input(4)
            loss = partial(lambda returned, out, target: returned(out), returned)
            net = library.Model(x, library.Dense(3)(x), loss, library.SGD(0.1), dtype="float64", seed=0, loss_weights=weights)
            before = net.params.copy()
            for call in (net.train_step, net.fit, net.evaluate):
                with pytest.raises(error, match=message):
                    call(X, LABELS)
            np.testing.assert_array_equal(net.params, before)
    net = made(library, loss=lambda out, target: (Number(), out))
    assert net.train_step(X, LABELS) == net.evaluate(X, LABELS)["loss"] == 1.5
    with pytest.raises(TypeError, match="callback must return something that is true or false, got array"):
        net.fit(X, LABELS, callback=lambda epoch, history: np.zeros(2))


def test_settings_of_other_libraries(library: ModuleType) -> None:
    other = fb.reference if library is fb else fb
    for call, error, message in [
        (lambda: library.LayerNorm(64), ValueError, "eps must be above 0 and below 1, got 64"),
        (lambda: library.RMSNorm(1), ValueError, "eps must be above 0 and below 1, got 1"),
        (lambda: library.BatchNorm(eps=2.0), ValueError, "eps must be above 0 and below 1, got 2.0"),
        (lambda: made(library, optimizer=other.SGD(0.1)), TypeError, rf"of fastbp.*, got SGD\(.*\) of {other.__name__}"),
        (lambda: library.Dense(3, np.tanh), ValueError, r"or a pair of functions \(f, df\), got <ufunc 'tanh'>"),
        (lambda: library.losses.CrossEntropy(class_weight={"a": 1, 1: 2}), TypeError, "integer labels .* got label 'a'"),
        (lambda: library.losses.CrossEntropy(class_weight=[[np.nan, 2], [1, 3]]), TypeError, "integer labels .* got label nan"),
        (lambda: library.losses.CrossEntropy(class_weight=[[np.inf, 2], [1, 3]]), TypeError, "integer labels .* got label inf"),
    ]:
        with pytest.raises(error, match=message):
            call()
