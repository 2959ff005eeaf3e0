"""The graph of the NumPy reference: every gate against central differences, values used twice, and worked examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bounds import FUNCTION_ULP, Rounding
from cases import Array, integers, numbers
from graph_bounds import Gradients, matrix, model, sequential

import fastbp.reference as fb
from fastbp import values
from fastbp.reference.gates import GATES

EPS = float(np.finfo(np.float64).eps)
ULP = FUNCTION_ULP * EPS  # of NumPy's functions
ROWS = 6


# Gates against central differences ------------------------------------------------------------------------------------

Graph = tuple[list[fb.Input], Any]  # inputs and output


def of_one(gate: Callable[[Any], Any], width: int = 3) -> Graph:
    """The gate between two dense layers, so that it has to hand gradients on, of its input and of parameters below."""
    x = fb.Input(width)
    return [x], fb.Dense(2)(gate(fb.Dense(4, "tanh", bias_init=numbers(4))(x)))


def of_two(gate: Callable[[Any, Any], Any]) -> Graph:
    x, y = fb.Input(3), fb.Input(2)
    return [x, y], fb.Dense(2)(gate(fb.Dense(4, "tanh")(x), fb.Dense(4, "sigmoid")(y)))


def adapted() -> fb.Standardize:
    layer = fb.Standardize()
    layer.adapt(3 * numbers(20, 4, seed=9) + 1)
    return layer


def embedded() -> Graph:
    x, y = fb.Input(3), fb.Input(2)
    return [x, y], fb.Dense(2)(fb.concatenate([fb.Embedding(4, 3)(x[:, 1:]), fb.Dense(2, "tanh")(y)]))


GRAPHS: dict[str, Callable[[], Graph]] = {
    "input": lambda: of_one(lambda h: h),
    "constant": lambda: of_two(lambda a, b: (a - values.constant([1.0, -2.0, 0.5, 3.0], 4)) * b),
    "dense": lambda: of_one(lambda h: fb.Dense(5, "sigmoid", bias=False)(h)),
    "matmul": lambda: of_one(lambda h: h @ numbers(4, 3, seed=7)),
    "activation": lambda: of_one(lambda h: fb.Activation("softplus")(h)),
    "add": lambda: of_two(lambda a, b: a + b),
    "subtract": lambda: of_two(lambda a, b: a - b),
    "multiply": lambda: of_two(lambda a, b: a * b),
    "divide": lambda: of_two(lambda a, b: a / b),
    "maximum": lambda: of_two(fb.maximum),
    "minimum": lambda: of_two(fb.minimum),
    "concatenate": lambda: of_two(lambda a, b: fb.concatenate([a, b, a])),
    "slice": lambda: of_one(lambda h: h[:, 1:3]),
    "dropout": lambda: of_one(lambda h: fb.Dropout(0.4)(h)),
    "layer_norm": lambda: of_one(lambda h: fb.LayerNorm()(h)),
    "rms_norm": lambda: of_one(lambda h: fb.RMSNorm()(h)),
    "batch_norm": lambda: of_one(lambda h: fb.BatchNorm()(h)),
    "embedding": embedded,
    "standardize": lambda: of_one(lambda h: adapted()(h)),
}


def test_every_gate_is_covered() -> None:
    assert tuple(GATES) == values.GATES == tuple(GRAPHS)


@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
@pytest.mark.parametrize("gate", GRAPHS)
def test_gradients_of_every_gate(gate: str, training: bool) -> None:
    inputs, output = GRAPHS[gate]()
    net = model(inputs, output)
    used = {place.value.gate for place in net._network.places}
    assert gate in used
    net.params += 0.1 * numbers(net.params.size, seed=11)  # gains, shifts and biases matter
    if gate == "batch_norm":
        net.state = np.concatenate([numbers(4), 1 + np.abs(numbers(4))])
    xs = [numbers(ROWS, value.width, seed=20 + i) for i, value in enumerate(inputs)]
    if gate == "embedding":
        xs[0] = np.abs(integers(ROWS, 3, most=3)).astype(np.float64)
        dX = Gradients(net, xs, training)
        dX.check(by_inputs=False)
        net.forward(*xs)
        dx, dy = net.backward()
        assert not dx.any() and dy.any()
    else:
        Gradients(net, xs, training).check()


def test_gradients_of_functions_of_ones_own() -> None:
    f = fb.Dense(4, (np.sin, np.cos)), fb.Activation((np.sin, np.cos))
    Gradients(sequential(fb.Input(3), *f, fb.Dense(2)), [numbers(ROWS, 3)]).check()


def test_gradients_of_a_larger_graph() -> None:
    """Two inputs, two outputs, values used several times, a way around layers, constants and dropout."""
    x, y = fb.Input(4), fb.Input(1)
    h = fb.Dense(5, "tanh")(fb.concatenate([x, y, x[:, 1:3]]))
    h = fb.Residual(fb.Dense(6, "tanh"), fb.Dropout(0.3), fb.Dense(5))(h)
    first = fb.Dense(2)(fb.maximum(h, fb.Dense(5)(h)) / (2 + y * y))
    second = 1 - h[:, 0] * first
    net = model([x, y], [first, second])
    for training in (True, False):
        Gradients(net, [numbers(2, 4), numbers(2, 1, seed=1)], training).check()  # bounds grow with rows and depth


def test_a_wrong_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A derivative of a product that forgets one factor, by a part in ten thousand."""
    right = GATES["multiply"].backward
    monkeypatch.setattr(GATES["multiply"], "backward", lambda gate, dZ: tuple(d * (1 + 1e-4) for d in right(gate, dZ)))
    inputs, output = GRAPHS["multiply"]()
    with pytest.raises(AssertionError, match="bounds"):
        Gradients(model(inputs, output), [numbers(ROWS, 3), numbers(ROWS, 2, seed=1)]).check()


def test_recursion_is_the_loop_bit_for_bit() -> None:
    x, y = fb.Input(3), fb.Input(3)
    h = fb.Dense(3, "tanh")(x)
    h = h * fb.Dense(3)(h + y) + h / (y * y + 1)
    net = model([x, y], [h, h - x, fb.Dense(2)(h)])
    outs = net.forward(numbers(ROWS, 3), numbers(ROWS, 3, seed=1))
    douts = [numbers(*out.shape, seed=2 + k) for k, out in enumerate(outs)]
    loop = net.backward(douts)
    grads = net.grads.copy()
    net.grads[:] = np.nan
    recursion = net.backward_recursive(douts)
    np.testing.assert_array_equal(net.grads, grads)
    for one, other in zip(loop, recursion, strict=True):
        np.testing.assert_array_equal(one, other)


# Values used several times, several outputs ---------------------------------------------------------------------------


def test_gradients_add_up_where_a_value_is_used_twice() -> None:
    x = fb.Input(2)
    net = model(x, x * x + x)
    X = matrix([[3, -1], [0.5, 2]])
    assert net.forward(X).tolist() == (X * X + X).tolist()
    (dX,) = net.backward()
    assert dX.tolist() == (2 * X + 1).tolist()


def test_gradients_of_several_outputs_add_up() -> None:
    """Small integers: nothing is rounded."""
    x = fb.Input(3)
    h = fb.Dense(2, weight_init=[[1, 2], [3, -1], [0, 4]])(x)
    both = model(x, [h, h * h])
    X, D0, D1 = matrix([[1, 2, 3], [-1, 0, 2]]), matrix([[1, -1], [2, 3]]), matrix([[2, 1], [0, -1]])
    out = both.forward(X)
    np.testing.assert_array_equal(out[1], out[0] ** 2)
    (dX,) = both.backward([D0, D1])
    dH = D0 + 2 * out[0] * D1
    np.testing.assert_array_equal(dX, dH @ both.layers[0].weight.T)
    np.testing.assert_array_equal(both.layers[0].dweight, X.T @ dH)
    (again,) = both.backward()
    np.testing.assert_array_equal(again, (1 + 2 * out[0]) @ both.layers[0].weight.T)


def test_the_same_value_may_be_input_and_output() -> None:
    x = fb.Input(2)
    net = model(x, [x, 2 * x])
    X = numbers(3, 2)
    same, twice = net.forward(X)
    same[...] = 0  # a copy
    np.testing.assert_array_equal(twice, 2 * X)
    (dX,) = net.backward([np.ones((3, 2)), np.ones((3, 2))])
    np.testing.assert_array_equal(dX, np.full((3, 2), 3.0))


def test_a_list_of_one_output_stays_a_list() -> None:
    x = fb.Input(2)
    net = fb.Model(x, [fb.Dense(3)(x)], "cross_entropy", fb.SGD(0.1), seed=0)
    X, y = numbers(5, 2), [np.arange(5) % 3]
    (out,), (predicted,) = net.forward(X), net.predict(X)
    np.testing.assert_array_equal(out, predicted)
    assert net.backward([np.ones_like(out)])[0].shape == X.shape
    assert isinstance(net.train_step(X, y), float)
    assert set(net.evaluate(X, y)) == {"loss", "accuracy"}


# Worked examples ------------------------------------------------------------------------------------------------------


def gradients(net: fb.Model, *x: float) -> list[float]:
    """The output is computed, then the gradients of all inputs, all single numbers."""
    net.forward(*x)
    return [gradient.item() for gradient in net.backward()]


def test_example_1_sum_and_product() -> None:
    x, y, z = fb.Input(1), fb.Input(1), fb.Input(1)
    q = x + y
    f = model([x, y, z], q * z)
    assert f.forward(-2, 5, -4).tolist() == [[-12.0]]
    assert [gradient.tolist() for gradient in f.backward()] == [[[-4.0]], [[-4.0]], [[3.0]]]
    assert f.predict([[[-2]], [[5]], [[-4]]], nodes=q).tolist() == [[3.0]]


def sigmoid_neuron(s: Callable[[Any], Any]) -> fb.Model:
    """s(w0 x0 + w1 x1 + w2) as a graph of single numbers."""
    w, x = [fb.Input(1) for _ in range(3)], [fb.Input(1) for _ in range(2)]
    return model([*w, *x], s(w[0] * x[0] + w[1] * x[1] + w[2]))


def test_example_2_sigmoid_neuron() -> None:
    """Known to 4 decimals, as one gate, as the chain of *(-1), exp, +1, 1/x, and as a dense layer.

    Whatever the program, o (1 - o) has a relative error of a few roundings and ulps, which 16 of each cover.
    """
    arguments = (2, -3, -3, -1, -2)
    chain = sigmoid_neuron(lambda z: fb.reciprocal(fb.exp(-z) + 1))
    gate = sigmoid_neuron(lambda z: fb.Activation("sigmoid")(z))
    for net in (chain, gate):
        assert net.forward(*arguments).round(4).tolist() == [[0.7311]]
        dw0, dw1, dw2, dx0, dx1 = (round(gradient, 4) for gradient in gradients(net, *arguments))
        assert (dw0, dw1, dw2, dx0, dx1) == (-0.1966, -0.3932, 0.1966, 0.3932, -0.5898)
    np.testing.assert_allclose(gradients(chain, *arguments), gradients(gate, *arguments), rtol=16 * (ULP + EPS))
    local = sigmoid_neuron(lambda z: z)
    assert local.forward(*arguments).tolist() == [[1.0]]


def test_example_3_several_branches() -> None:
    x, y = fb.Input(1), fb.Input(1)
    s = [fb.Activation("sigmoid") for _ in range(2)]
    f = model([x, y], (x + s[0](y)) / (s[1](x) + fb.square(x + y)))
    xs = [matrix([[3.0]]), matrix([[-4.0]])]
    Gradients(f, xs).check()
    sx, sy = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(4))
    above, below = 3 + sy, sx + 1
    dx = 1 / below - above * (sx * (1 - sx) + 2 * -1) / below**2
    dy = sy * (1 - sy) / below - above * 2 * -1 / below**2
    np.testing.assert_allclose(gradients(f, 3, -4), [dx, dy], rtol=32 * (ULP + EPS))


def test_example_4_add_hands_on_max_routes_multiply_swaps() -> None:
    x, y, z, w = (fb.Input(1) for _ in range(4))
    f = model([x, y, z, w], 2 * (x * y + fb.maximum(z, w)))
    assert f.forward(3, -4, 2, -1).tolist() == [[-20.0]]
    assert gradients(f, 3, -4, 2, -1) == [-8.0, 6.0, 2.0, 0.0]


def test_example_5_a_value_used_twice() -> None:
    x, y, z = (fb.Input(1) for _ in range(3))
    f = model([x, y, z], (x + y) * fb.maximum(y, z))
    assert f.forward(1, 2, 0).tolist() == [[6.0]]
    assert gradients(f, 1, 2, 0) == [2.0, 5.0, 0.0]


def test_example_6_product_of_matrices() -> None:
    """D = W X with columns as samples is D^T = X^T W^T here: dW = dD X^T, dX = W^T dD. Whole numbers: nothing is rounded."""
    W, X, dD = (integers(*shape, most=8, seed=i).astype(float) for i, shape in enumerate([(5, 10), (10, 3), (5, 3)]))
    layer = fb.Dense(5, inputs=10, bias=False, weight_init=W.T, dtype="float64")
    np.testing.assert_array_equal(layer.forward(X.T).T, W @ X)  # (5, 3)
    np.testing.assert_array_equal(layer.backward(dD.T).T, W.T @ dD)  # (10, 3)
    np.testing.assert_array_equal(layer.dweight.T, dD @ X.T)  # (5, 10)


def test_example_7_score_and_margin() -> None:
    """s = u^T f(W x + b): ds/db = delta = u * f'(z), ds/dW = delta x^T; max(0, 1 - s + s_c) pulls s up and s_c down."""
    x, corrupt, shape = matrix([[0.5, -1.0, 2.0]]), matrix([[-0.5, 1.0, 0.25]]), (3, 2)
    W, b, u = numbers(*shape), numbers(2, seed=1), numbers(2, 1, seed=2)

    def score() -> tuple[fb.Dense, fb.Dense]:
        hidden = fb.Dense(2, "tanh", weight_init=W, bias_init=b)
        return hidden, fb.Dense(1, bias=False, weight_init=u)

    hidden, last = score()
    net = sequential(fb.Input(3), hidden, last)
    O = np.tanh(x @ W + b)
    np.testing.assert_allclose(net.forward(x), O @ u, rtol=0, atol=8 * (ULP + EPS))
    net.backward()
    delta = u[:, 0] * (1 - O[0] ** 2)
    bound = 8 * (ULP + EPS)  # of numbers below 1: tanh's ulps, and up to 8 roundings
    np.testing.assert_allclose(hidden.dbias, delta, rtol=0, atol=bound)
    np.testing.assert_allclose(hidden.dweight, np.outer(x[0], delta), rtol=0, atol=2 * bound)
    assert hidden.dweight.shape == W.shape

    a, c = fb.Input(3), fb.Input(3)
    (h0, u0), (h1, u1) = score(), score()
    loss = model([a, c], fb.maximum(0, 1 - u0(h0(a)) + u1(h1(c))))
    (margin,) = loss.forward(x, corrupt)[0]
    assert margin > 0
    da, dc = loss.backward()
    net.forward(x)
    np.testing.assert_array_equal(da, -net.backward(None, inputs=True))
    net.forward(corrupt)
    np.testing.assert_array_equal(dc, net.backward(None, inputs=True))
    loss.layers[0].weight[...] *= 100  # far beyond the margin, whichever way
    u0.weight[...] = 100 * np.sign(np.tanh(x @ h0.weight + h0.bias)).T
    assert loss.forward(x, corrupt).item() == 0
    assert not any(gradient.any() for gradient in loss.backward())


@pytest.mark.parametrize("last", ["sigmoid", None])
def test_example_8_a_deep_sigmoid_network(last: str | None) -> None:
    """5-2-4-3-3-1; the derivative of the squared error is output - labels, over m; loop and recursion agree."""
    widths = [2, 4, 3, 3]
    layers = [fb.Input(5), *(fb.Dense(units, "sigmoid") for units in widths), fb.Dense(1, last)]
    net = sequential(*layers, loss="squared_error")
    X, y = numbers(8, 5), numbers(8, 1, seed=1)
    out = net.forward(X)
    _, dO = fb.losses.squared_error(out, y)
    np.testing.assert_array_equal(dO, (out - y) / 8)
    net.backward(dO)
    grads = net.grads.copy()
    slope = out * (1 - out) if last else 1.0
    bound = Rounding("float64").gamma(8 + 2) * np.abs(dO).sum()  # a sum of 8, in any order, of products of 2
    np.testing.assert_allclose(net.layers[-1].dbias, (dO * slope).sum(axis=0), rtol=0, atol=bound)
    net.backward_recursive(dO)
    np.testing.assert_array_equal(net.grads, grads)
    Gradients(net, [X]).check()


def test_example_8_the_bias_as_a_column() -> None:
    """A column of ones in X and no bias is the same; nobody changes the ones."""
    X = integers(6, 3, most=4).astype(float)
    W = integers(4, 2, most=4, seed=1).astype(float)
    ones = np.ones((6, 1))
    column = sequential(fb.Input(4), fb.Dense(2, bias=False, weight_init=W), optimizer=fb.SGD(0.5), loss="squared_error")
    bias = sequential(fb.Input(3), fb.Dense(2, weight_init=W[:3], bias_init=W[3]), optimizer=fb.SGD(0.5), loss="squared_error")
    T, whole = integers(6, 2, most=4, seed=2), np.hstack([X, ones])
    np.testing.assert_array_equal(column.forward(whole), bias.forward(X))
    assert column.train_step(whole, T) == bias.train_step(X, T)
    np.testing.assert_array_equal(column.params, bias.params)
    np.testing.assert_array_equal(whole[:, 3:], ones)


@pytest.mark.parametrize("batch_size", [1, 8, 40], ids=["single_rows", "mini_batches", "full_batches"])
def test_example_9_two_weights_in_a_chain(batch_size: int) -> None:
    """E = 1/2 (Y3 - T)^2, Y3 = relu(w2 Y2), Y2 = sigmoid(w1 X): closed forms, and every kind of descent trains it."""
    x = fb.Input(1)
    first, second = fb.Dense(1, "sigmoid", bias=False, weight_init=[[0.5]]), fb.Dense(1, "relu", bias=False, weight_init=[[1.5]])
    net = model(x, second(first(x)), loss="squared_error", optimizer=fb.SGD(0.5))
    X, T, w1, w2 = 0.8, 2.0, 0.5, 1.5
    E, dO = fb.losses.squared_error(net.forward(X), [[T]])
    net.backward(dO)
    Y2 = 1 / (1 + math.exp(-w1 * X))
    Y3 = w2 * Y2
    expected = [(Y3 - T) * w2 * Y2 * (1 - Y2) * X, (Y3 - T) * Y2]
    np.testing.assert_allclose([E, *net.grads], [(Y3 - T) ** 2 / 2, *expected], rtol=24 * EPS)  # as in test_reference.py
    Xs = numbers(40, 1)
    targets = np.maximum(2 / (1 + np.exp(-3 * Xs)), 0)
    history = net.fit(Xs, targets, epochs=400, batch_size=batch_size)
    assert history.loss[-1] < history.loss[0] / 10


def test_example_10_scaled_inputs_scale_the_first_gradient() -> None:
    """By a power of two exactly; and after Standardize there is no difference."""
    X, y = numbers(20, 3), numbers(20, 2, seed=1)
    W = numbers(3, 4, seed=2)

    def first_gradient(scale: float, *below: Any) -> Array:
        first = fb.Dense(4, weight_init=W / scale if not below else W)
        net = sequential(fb.Input(3), *below, first, fb.Dense(2))
        _, dO = fb.losses.squared_error(net.forward(X * scale), y)
        net.backward(dO)
        return first.dweight.copy()

    np.testing.assert_array_equal(first_gradient(1024.0), 1024 * first_gradient(1.0))
    scales = [fb.Standardize(), fb.Standardize()]
    for layer, scale in zip(scales, (1.0, 1024.0), strict=True):
        layer.adapt(X * scale)
    np.testing.assert_array_equal(first_gradient(1.0, scales[0]), first_gradient(1024.0, scales[1]))


# Ties -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [fb.maximum, fb.minimum], ids=["maximum", "minimum"])
def test_ties_share_the_gradient(f: Any) -> None:
    x, y = fb.Input(3), fb.Input(3)
    net = model([x, y], f(x, y))
    net.forward([[1, 2, 2]], [[2, 1, 2]])
    dx, dy = net.backward([[8, 8, 8]])
    wins = [0, 8, 4] if f is fb.maximum else [8, 0, 4]
    assert (dx.tolist(), dy.tolist()) == ([wins], [[8 - d for d in wins]])
    assert dx.dtype == np.float64


def test_results_have_the_dtype_of_the_network() -> None:
    for gate, graph in GRAPHS.items():
        inputs, output = graph()
        net = fb.Model(inputs, output, seed=0)
        xs = [np.abs(integers(ROWS, value.width, most=3)) for value in inputs]
        results = [net.forward(*xs), *net.backward(), net.predict(xs if len(xs) > 1 else xs[0]), net.params, net.state]
        assert {result.dtype for result in results} == {np.dtype(np.float32)}, gate
