"""The layers of the NumPy reference in networks: masks of dropout, statistics of norms, embeddings, frozen layers, training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bounds import Rounding
from cases import Array, integers, numbers
from graph_bounds import matrix, model, sequential

import fastbp.reference as fb
from fastbp import rng

EPS = float(np.finfo(np.float64).eps)


# Dropout --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masks_of_dropout(dtype: str) -> None:
    """Word r U + j of stream 16 + k and step draws, exactly; k counts in topological order, draws forward passes."""
    assert rng.STREAM_DROPOUT == 16
    x = fb.Input(5)
    first, second = fb.Dropout(0.3)(x), fb.Dropout(0.75)(x)
    net = fb.Model(x, [second, first], dtype=dtype, seed=9)  # the order of outputs is not that of gates
    X = np.ones((7, 5))
    for draws in (0, 1, 2, 7):
        net.draws = max(net.draws, draws)
        outs = net.forward(X)
        net.forward(X, training=False)  # draws nothing
        for out, k, rate in ((outs[1], 0, 0.3), (outs[0], 1, 0.75)):
            words = rng.philox(9, 16 + k, draws, 35).reshape(7, 5)
            factor = np.array(1 / (1 - rate), dtype)
            np.testing.assert_array_equal(out, np.where(words >= math.floor(rate * 2**32), factor, 0))
    assert net.draws == 8
    net.draws = 2
    again = net.forward(X)
    net.draws = np.int64(2)
    np.testing.assert_array_equal(net.forward(X), again)


def test_dropout_hands_back_through_its_mask_and_is_off_in_prediction() -> None:
    net = sequential(fb.Input(50), fb.Dropout(0.5))
    X = numbers(40, 50)
    out = net.forward(X)
    dX = net.backward(np.ones_like(out), inputs=True)
    np.testing.assert_array_equal(dX * X, out)
    assert 0.4 < (dX == 0).mean() < 0.6
    for same in (net.predict(X), net.forward(X, training=False)):
        np.testing.assert_array_equal(same, X)
    np.testing.assert_array_equal(net.backward(X, inputs=True), X)


def test_training_draws_a_mask_for_every_step() -> None:
    """`fit` is train_step by train_step, with the masks of the passes."""
    X, y = numbers(20, 3), np.arange(20) % 2
    layers = [[fb.Input(3), fb.Dense(8, "tanh"), fb.Dropout(0.5), fb.Dense(2)] for _ in range(2)]
    nets = [sequential(*each, loss="cross_entropy", optimizer=fb.SGD(0.1)) for each in layers]
    nets[0].fit(X, y, epochs=2, batch_size=8, shuffle=False)
    for _ in range(2):
        for start in (0, 8, 16):
            nets[1].predict(X)
            nets[1].train_step(X[start : start + 8], y[start : start + 8])
    np.testing.assert_array_equal(nets[0].params, nets[1].params)
    assert nets[0].draws == nets[1].draws == 6


# Norms ----------------------------------------------------------------------------------------------------------------


def test_running_statistics() -> None:
    """Numbers of which nothing is rounded: momentum 1/2, columns with whole means, m - 1 a power of two."""
    norm = fb.BatchNorm(momentum=0.5)
    net = sequential(fb.Input(2), norm)
    X = matrix([[1, 10], [2, 10], [3, 10], [4, 10], [5, 10]])
    assert (norm.running_mean.tolist(), norm.running_var.tolist()) == ([0, 0], [1, 1])
    net.forward(X)
    assert norm.running_mean.tolist() == [1.5, 5]
    assert norm.running_var.tolist() == [0.5 + 0.5 * 10 / 4, 0.5]
    before = net.state.copy()
    net.predict(X)
    net.forward(X, training=False)
    net.forward(X[:0])
    np.testing.assert_array_equal(net.state, before)
    net.forward(X[:1])  # the unbiased variance of one row is taken to be 0
    assert norm.running_mean.tolist() == [(1.5 + 1) / 2, 7.5]
    assert norm.running_var.tolist() == [1.75 / 2, 0.25]
    np.testing.assert_array_equal(net.state, np.concatenate([norm.running_mean, norm.running_var]))
    norm.running_mean = [3.0, 10.0]
    norm.running_var[...] = 4.0 - norm.eps
    np.testing.assert_allclose(net.predict(X), (X - [3, 10]) / 2, rtol=0, atol=8 * EPS)


@pytest.mark.parametrize("layer", [fb.LayerNorm, fb.BatchNorm])
def test_norms_bring_mean_0_and_variance_1(layer: Any) -> None:
    """eps lowers the variance v to v / (v + eps)."""
    norm = layer()
    net = sequential(fb.Input(16), norm)
    X = 5 * numbers(16, 16) + 3
    axis = 0 if layer is fb.BatchNorm else 1
    out = net.forward(X)
    v = X.var(axis=axis)
    bound = Rounding("float64").gamma(64) * 8  # sums of 16 numbers below 8, twice
    np.testing.assert_allclose(out.mean(axis=axis), 0, rtol=0, atol=bound)
    np.testing.assert_allclose(out.var(axis=axis), v / (v + norm.eps), rtol=0, atol=bound)
    norm.gain, norm.shift = np.full(16, 2.0), np.arange(16.0)
    np.testing.assert_allclose(net.forward(X), 2 * out + np.arange(16.0), rtol=0, atol=16 * EPS)


def test_rms_norm_brings_a_mean_square_of_1() -> None:
    net = sequential(fb.Input(8), fb.RMSNorm())
    X = numbers(5, 8)
    square = (X * X).mean(axis=1)
    bound = Rounding("float64").gamma(32)
    np.testing.assert_allclose((net.predict(X) ** 2).mean(axis=1), square / (square + 1e-6), rtol=bound)
    assert not hasattr(net.layers[1], "shift")


def test_standardize() -> None:
    X = np.column_stack([3 * numbers(50), np.full(50, 0.1), 1e6 + numbers(50, seed=1)])
    early, late = fb.Standardize(), fb.Standardize()
    early.adapt(X)
    nets = [sequential(fb.Input(3), layer) for layer in (early, late)]
    np.testing.assert_array_equal(nets[1].predict(X), X)  # not adapted
    late.adapt(X)
    for net in nets:
        np.testing.assert_array_equal(net.state, np.concatenate([early.mean, early.deviation]))
        out = net.predict(X)
        assert not out[:, 1].any() and early.deviation[1] == 1  # a constant column
        np.testing.assert_allclose(out.mean(axis=0), 0, rtol=0, atol=1e6 * 50 * EPS)
        assert net.params.size == 0


# Embeddings -----------------------------------------------------------------------------------------------------------


def test_embedding_is_one_hot_times_weights() -> None:
    X = np.array([[0, 2], [1, 1], [2, 0], [0, 0]])
    W = integers(3, 2, most=8).astype(float)
    net = sequential(fb.Input(2), fb.Embedding(3, 2, weight_init=W))
    layer = net.layers[1]
    hot = np.eye(3)[X]  # (m, 2, 3)
    np.testing.assert_array_equal(net.forward(X), (hot @ W).reshape(4, 4))
    D = integers(4, 4, most=8, seed=1).astype(float)
    assert not net.backward(D, inputs=True).any()
    np.testing.assert_array_equal(layer.dweight, np.einsum("mkv,mkd->vd", hot, D.reshape(4, 2, 2)))


@pytest.mark.parametrize("bad", [-1, 3, 0.5, np.nan, np.inf, -np.inf])
def test_embeddings_refuse_what_is_no_category(bad: float) -> None:
    x, y = fb.Input(2), fb.Input(2)
    net = model([x, y], fb.Dense(2)(fb.concatenate([fb.Embedding(3, 2)(y[:, 1]), x])), loss="cross_entropy", optimizer=fb.SGD())
    good, labels = matrix([[0, 1], [5, 2], [7.5, 0]]), [0, 1, 0]
    wrong = good.copy()
    wrong[2, 1] = bad
    before = net.params.copy()
    calls: list[tuple[str, Callable[[], object]]] = [
        ("x[1]", lambda: net.forward(good, wrong)),
        ("x[1]", lambda: net.train_step([good, wrong], labels)),
        ("X[1]", lambda: net.fit([good, wrong], labels)),
        ("X[1]", lambda: net.predict([good, wrong])),
        ("validation_data[0][1]", lambda: net.fit([good, good], labels, validation_data=([good, wrong], labels))),
    ]
    for name, call in calls:
        with pytest.raises(ValueError) as caught:
            call()
        wanted = f"{name} must hold whole numbers 0 .. 2 for an Embedding, got {wrong[2, 1]} in row 2"
        assert str(caught.value) == wanted
    np.testing.assert_array_equal(net.params, before)
    assert net.draws == 0
    net.train_step([good, good], labels)


def test_embeddings_of_computed_numbers() -> None:
    x = fb.Input(2)
    net = model(x, fb.Embedding(3, 2)(x + 1))
    assert net.forward([[-1, 1]]).shape == (1, 4)
    with pytest.raises(ValueError, match=r"an Embedding must get whole numbers 0 \.\. 2, got 3"):
        net.forward([[-1, 2]])
    assert net.draws == 1


def test_categories_are_told_apart() -> None:
    with pytest.raises(ValueError, match=r"categories must be at most 16777216, to be told apart in float32"):
        fb.Sequential([fb.Input(1), fb.Embedding(2**24 + 1, 1, weight_init="zeros")])


# Frozen layers --------------------------------------------------------------------------------------------------------


OPTIMIZERS = [fb.SGD(0.1, momentum=0.9), fb.AdamW(0.1, weight_decay=0.1), fb.SGD(0.1, accumulate=2)]


def parameters(layers: Any, prefix: str = "") -> list[Array]:
    """Copies of all parameters, or gradients, of layers."""
    names = [prefix + name for name in ("weight", "bias", "gain", "shift")]
    return [getattr(layer, name).copy() for layer in layers for name in names if hasattr(layer, name)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_frozen_layers(optimizer: Any) -> None:
    """Their gradients are 0, they and their part of the optimizer's state stay, and the layers below learn as before."""
    X, y = numbers(12, 3), np.arange(12) % 2

    def network() -> fb.Sequential:
        layers = [fb.Dense(4, "tanh"), fb.LayerNorm(), fb.Dense(3, "tanh"), fb.Dense(2)]
        return sequential(fb.Input(3), *layers, loss="cross_entropy", optimizer=optimizer)

    net, free = network(), network()
    for each in (net, free):
        each.train_step(X, y)
        each.train_step(X, y)
    frozen = net.layers[2:4]
    for layer in frozen:
        layer.trainable = False
    for each in (net, free):
        _, dO = fb.losses.cross_entropy(each.forward(X), y)
        each.backward(dO)
    assert not any(gradient.any() for gradient in parameters(frozen, "d"))
    for k in (1, 4):
        for one, other in zip(parameters(net.layers[k : k + 1], "d"), parameters(free.layers[k : k + 1], "d"), strict=True):
            np.testing.assert_array_equal(one, other)
    before = parameters(frozen)
    for _ in range(4):
        net.train_step(X, y)
    for one, other in zip(before, parameters(frozen), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (net.layers[1].weight != free.layers[1].weight).any()
    for layer in frozen:
        layer.trainable = True
    net.train_step(X, y)
    net.train_step(X, y)
    assert (net.layers[3].weight != before[2]).any()


def test_a_residual_freezes_its_layers() -> None:
    inner = [fb.Dense(4, "tanh"), fb.Dense(3)]
    net = sequential(fb.Input(3), fb.Residual(*inner), fb.Dense(2))
    net.layers[1].trainable = False
    assert [layer.trainable for layer in inner] == [False, False]
    net.forward(numbers(5, 3))
    net.backward()
    assert not inner[0].dweight.any() and net.layers[2].dweight.any()
    inner[1].trainable = True
    assert not net.layers[1].trainable
    with pytest.raises(TypeError, match="trainable must be True or False, got 1"):
        inner[0].trainable = 1


# Parameters -----------------------------------------------------------------------------------------------------------


def test_parameters_lie_in_topological_order() -> None:
    x, c = fb.Input(3), fb.Input(1)
    late = fb.Dense(2, bias=False)
    first, norm, table, batch, root = fb.Dense(4), fb.LayerNorm(), fb.Embedding(3, 2), fb.BatchNorm(), fb.RMSNorm()
    out = late(fb.concatenate([root(batch(norm(first(x)))), table(c)]))
    net = fb.Model([x, c], out, optimizer=fb.SGD(), seed=5)
    assert net.layers == (first, norm, batch, root, table, late)
    parts = [first.weight, first.bias, norm.gain, norm.shift, batch.gain, batch.shift, root.gain, table.weight, late.weight]
    np.testing.assert_array_equal(net.params, np.concatenate([part.reshape(-1) for part in parts]))
    for step, layer in enumerate((first, table, late)):
        shape = layer.weight.shape
        wanted = np.sqrt(6 / sum(shape)) * (2 * rng.uniform(5, rng.STREAM_INIT, step, math.prod(shape)) - 1)
        np.testing.assert_array_equal(layer.weight, wanted.reshape(shape).astype(np.float32))
    net.params[:] = np.arange(net.params.size)
    assert norm.shift.tolist() == [20, 21, 22, 23]
    assert not hasattr(late, "bias") and not hasattr(root, "shift")
    assert net._updates is not None
    assert net._updates.decays.tolist() == [1] * 12 + [0] * 4 + [0] * 20 + [1] * 6 + [1] * 12


def test_another_optimizer_may_be_assigned() -> None:
    X, y = numbers(8, 3), numbers(8, 2, seed=1)
    net, twin = (sequential(fb.Input(3), fb.Dense(2), loss="squared_error", optimizer=fb.SGD(0.5)) for _ in range(2))
    net.optimizer = fb.SGD(0.125, weight_decay=0.25, decay_biases=True)
    before = net.params.copy()
    net.train_step(X, y)
    np.testing.assert_allclose(net.params, before - 0.125 * (net.grads + 0.25 * before), rtol=0, atol=8 * EPS)
    for bad, error in ((fb.SGD(0.5, 0.9), ValueError), (fb.RMSprop(), ValueError), (None, ValueError), ("sgd", TypeError)):
        with pytest.raises(error, match="optimizer must"):
            twin.optimizer = bad  # type: ignore[assignment]
    assert twin.optimizer == fb.SGD(0.5)


def test_decay_leaves_norms_alone() -> None:
    for too in (False, True):
        optimizer = fb.SGD(0.5, weight_decay=0.25, decay_biases=too)
        dense = fb.Dense(2, weight_init=[[8, 16], [24, 32]], bias_init=[8, 8])
        net = sequential(fb.Input(2), dense, fb.LayerNorm(), optimizer=optimizer)
        before = net.params.copy()
        net.update()  # by gradients of 0
        shrinks = np.array([True] * 4 + [too] * 6)
        np.testing.assert_array_equal(net.params, np.where(shrinks, before * 0.875, before))


# Training -------------------------------------------------------------------------------------------------------------


def two_heads(**settings: Any) -> fb.Model:
    x, y = fb.Input(3), fb.Input(1)
    h = fb.Dense(6, "tanh")(fb.concatenate([x, y]))
    return model([x, y], [fb.Dense(2)(h), fb.Dense(1)(h)], loss=["cross_entropy", "squared_error"], **settings)


def two_head_data(n: int) -> tuple[list[Array], list[Array]]:
    x, y = numbers(n, 3), numbers(n, seed=1)
    return [x, y], [(x[:, 0] > y).astype(np.int64), x[:, 1] * y]


def test_several_losses_are_weighed_and_added() -> None:
    net, by_hand = (two_heads(loss_weights=[1.0, 4.0], optimizer=fb.SGD(0.25)) for _ in range(2))
    X, T = two_head_data(8)
    outs = by_hand.forward(*X)
    (E0, dO0), (E1, dO1) = fb.losses.cross_entropy(outs[0], T[0]), fb.losses.squared_error(outs[1], T[1])
    by_hand.backward([dO0, 4 * dO1])
    by_hand.params -= 0.25 * by_hand.grads
    scores = net.evaluate(X, T)
    assert scores["loss"] == E0 + 4 * E1 and (scores["loss_0"], scores["loss_1"]) == (E0, E1)
    assert "accuracy_0" in scores and "accuracy_1" not in scores
    assert net.train_step(X, T) == E0 + 4 * E1
    np.testing.assert_array_equal(net.params, by_hand.params)


def test_fit_of_several_inputs_and_outputs() -> None:
    X, T = two_head_data(120)
    net = two_heads(optimizer=fb.SGD(0.3, momentum=0.9))
    history = net.fit(X, T, epochs=30, batch_size=16, validation_data=(X, T))
    assert history.loss[-1] < history.loss[0] / 3
    out = net.predict(X)
    assert [o.shape for o in out] == [(120, 2), (120, 1)]
    assert history.val_loss[-1] == net.evaluate(X, T)["loss"]
    assert history.val_accuracy == []


def test_losses_of_ones_own() -> None:
    """(out, target) -> (loss, dout), with targets as they came, in batches."""
    seen: list[Array] = []

    def loss(out: Array, target: Array) -> tuple[float, Array]:
        seen.append(target)
        return fb.losses.squared_error(out, target)

    X, y = numbers(10, 3), numbers(10, 2, seed=1)
    own, known = (
        sequential(fb.Input(3), fb.Dense(2), loss=which, optimizer=fb.SGD(0.1)) for which in (loss, "squared_error")
    )
    assert own.fit(X, y, epochs=2, batch_size=4).loss == known.fit(X, y, epochs=2, batch_size=4).loss
    np.testing.assert_array_equal(own.params, known.params)
    assert [len(target) for target in seen] == [4, 4, 2] * 2
    assert own.evaluate(X, y) == known.evaluate(X, y)
    with pytest.raises(ValueError, match="sample_weight must be None, got weights"):
        own.fit(X, y, sample_weight=np.ones(10))
    bad = sequential(fb.Input(3), fb.Dense(2), loss=lambda out, target: (0.0, out[:, :1]), optimizer=fb.SGD(0.1))
    before = bad.params.copy()
    with pytest.raises(ValueError, match=r"the gradient that the loss returns must have shape \(10, 2\), got \(10, 1\)"):
        bad.train_step(X, y)
    np.testing.assert_array_equal(bad.params, before)


def test_sample_weights_are_repetitions() -> None:
    """Whole weights are rows that come several times, up to the order of summation; weights of 1 are none."""
    X, y, weights = numbers(6, 3), np.arange(6) % 2, np.array([1, 2, 0, 3, 1, 1])
    weighted, repeated, plain, ones = (
        sequential(fb.Input(3), fb.Dense(2), loss="cross_entropy", optimizer=fb.SGD(0.5)) for _ in range(4)
    )
    loss = weighted.train_step(X, y, weights)
    bound = 32 * EPS * 8  # sums of 8 terms of a few roundings each, of numbers below 8
    np.testing.assert_allclose(loss, repeated.train_step(X.repeat(weights, axis=0), y.repeat(weights)), rtol=0, atol=bound)
    np.testing.assert_allclose(weighted.params, repeated.params, rtol=0, atol=bound)
    np.testing.assert_allclose(plain.train_step(X, y), ones.train_step(X, y, np.ones(6)), rtol=0, atol=bound)
    before = weighted.params.copy()
    assert weighted.train_step(X, y, np.zeros(6)) == 0
    np.testing.assert_array_equal(weighted.params, before)
    for bad, message in (
        (np.ones(5), r"sample_weight must have shape \(6,\), got \(5,\)"),
        (-np.ones(6), "sample_weight must be finite and at least 0, got -1.0 in row 0"),
        (np.full(6, np.nan), "sample_weight must be finite and at least 0, got nan in row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            weighted.fit(X, y, sample_weight=bad)


def test_class_weights_are_weights_of_rows() -> None:
    """Also in `fit`, batch by batch; "balanced" counts the classes of the whole data set."""
    X, y = numbers(12, 3), np.array([0] * 8 + [1] * 4)
    rows = np.where(y == 0, 12 / (2 * 8), 12 / (2 * 4))
    classes, samples = (
        sequential(fb.Input(3), fb.Dense(2), loss=fb.losses.CrossEntropy(class_weight=weights), optimizer=fb.SGD(0.5))
        for weights in ("balanced", None)
    )
    history = classes.fit(X, y, epochs=2, batch_size=5)
    assert history.loss == samples.fit(X, y, epochs=2, batch_size=5, sample_weight=rows).loss
    np.testing.assert_array_equal(classes.params, samples.params)
    assert classes.evaluate(X, y) == samples.evaluate(X, y, rows)


def test_predict_returns_any_node() -> None:
    x = fb.Input(3)
    dense, skip = fb.Dense(4, "tanh"), fb.Residual(fb.Dense(4))
    h = dense(x)
    out = fb.Dense(2)(skip(h) * 2)
    net = model(x, out)
    X = numbers(5000, 3)
    hidden, residual, same, first = net.predict(X, nodes=[dense, skip, out, x])
    np.testing.assert_array_equal(hidden, net.predict(X, nodes=h))
    np.testing.assert_array_equal(same, net.predict(X))
    np.testing.assert_array_equal(first, X)
    assert residual.shape == (5000, 4)
    assert net.predict(X, nodes=[dense])[0].shape == (5000, 4)
    with pytest.raises(ValueError, match="out must be None where nodes are asked for, got ndarray"):
        net.predict(X, nodes=dense, out=np.empty((5000, 4)))
    for stranger in (fb.Input(3), fb.Dense(3)):
        with pytest.raises(ValueError, match="nodes must be values or layers of this network, got"):
            net.predict(X, nodes=stranger)
    with pytest.raises(TypeError, match="nodes must be values or layers of the network, got 'relu'"):
        net.predict(X, nodes="relu")


# Errors ---------------------------------------------------------------------------------------------------------------


def test_graphs_that_are_none() -> None:
    x, y = fb.Input(2), fb.Input(2)
    dense, used = fb.Dense(2), fb.Dense(2)
    fb.Model(x, used(x))
    twice = dense(x) + dense(y)
    refused: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: fb.Model(x, x + y), ValueError, "inputs must hold every input that outputs depend on, got none for"),
        (lambda: fb.Model([x, y], x), ValueError, "inputs must be used: no output depends on it, got Input"),
        (lambda: fb.Model([x, x], x), ValueError, "inputs must be different, got Input"),
        (lambda: fb.Model(x, [x, x]), ValueError, "outputs must be different, got Input"),
        (lambda: fb.Model([], x), ValueError, "inputs must hold at least one value, got none"),
        (lambda: fb.Model(x, []), ValueError, "outputs must hold at least one value, got none"),
        (lambda: fb.Model(x + 1, x), TypeError, "inputs must be Input"),
        (lambda: fb.Model(x, 5), TypeError, "outputs must be a value"),
        (lambda: fb.Model([x, y], twice), ValueError, r"a layer belongs to one network, once, got Dense\(2\) again"),
        (lambda: used(x), ValueError, "a layer belongs to one network, once"),
        (lambda: fb.Dense(2)(5), TypeError, "x must be a value of a graph"),
        (lambda: fb.Residual(fb.Dense(3))(x), ValueError, "layers must give back the 2 columns they get, got 3"),
        (lambda: fb.Residual(), ValueError, "layers must hold at least one layer"),
        (lambda: fb.Dropout(1.0), ValueError, "rate must be at least 0 and below 1, got 1.0"),
        (lambda: fb.LayerNorm(0), ValueError, "eps must be above 0 and finite, got 0"),
        (lambda: fb.BatchNorm(1.5), ValueError, "momentum must be from 0 to 1, got 1.5"),
        (lambda: fb.Dense(2, bias=1), TypeError, "bias must be True or False, got 1"),
        (lambda: fb.Standardize().adapt([[1, np.inf]]), ValueError, "X must be finite"),
        (lambda: fb.Model(x, x, loss_weights=[1]), ValueError, "loss_weights must come with a loss"),
        (lambda: fb.Model(x, [x], ["cross_entropy"] * 2), ValueError, "loss must be one loss, or a list of 1"),
        (lambda: fb.Model(x, [x], "cross_entropy", loss_weights=[-1]), ValueError, "loss_weights must be at least 0"),
    ]
    for call, error, message in refused:
        with pytest.raises(error, match=message):
            call()
    fb.Model(x, fb.Dense(2)(dense(x)))  # a layer of a network that failed is free


def test_arrays_that_do_not_fit() -> None:
    net = two_heads(optimizer=fb.SGD())
    X, T = two_head_data(6)
    before = net.params.copy()
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: net.forward(X[0]), "x must be 2 arrays, one for each input, got 1"),
        (lambda: net.forward(X[0], X[1][:5]), r"x\[1\] must have as many rows as x\[0\], 6, got 5"),
        (lambda: net.forward(X[0][:, :2], X[1]), r"x\[0\] must have shape \(batch, 3\), got \(6, 2\)"),
        (lambda: net.train_step(X[0], T), "x must be a list of 2 arrays, one for each input, got ndarray"),
        (lambda: net.train_step(X, T[:1]), "y must be a list of 2 arrays, one for each output, got 1 things"),
        (lambda: net.fit(X, [T[0], T[1][:5]]), r"y\[1\] must have shape \(6, 1\) or \(6,\), got \(5,\)"),
        (lambda: net.fit(X, T, validation_data=(X,)), r"validation_data must be \(X, y\) or"),
    ]
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()
    net.forward(*X)
    with pytest.raises(ValueError, match="dout must be a list of 2 arrays, one for each output, got ndarray"):
        net.backward(np.ones((6, 2)))
    with pytest.raises(ValueError, match=r"dout\[1\] must have shape \(6, 1\), got \(6, 2\)"):
        net.backward([np.ones((6, 2)), np.ones((6, 2))])
    np.testing.assert_array_equal(net.params, before)


def test_functions_of_ones_own_are_checked() -> None:
    net = sequential(fb.Input(3), fb.Activation((lambda z: z[:1], np.cos)))
    with pytest.raises(ValueError, match=r"f must return shape \(5, 3\), got \(1, 3\)"):
        net.forward(numbers(5, 3))
    net = sequential(fb.Input(3), fb.Activation((np.sin, lambda z: "no")))
    net.forward(numbers(5, 3))
    with pytest.raises(TypeError, match="what df returns must hold real numbers"):
        net.backward(None, inputs=True)


@pytest.mark.parametrize("bad, error", [(-1, ValueError), (2**32, ValueError), (1.0, TypeError), (True, TypeError)])
def test_draws_are_counted_from_0(bad: Any, error: type[Exception]) -> None:
    net = sequential(fb.Input(3), fb.Dropout(0.5))
    with pytest.raises(error, match="draws must be"):
        net.draws = bad
    assert net.draws == 0


def test_reprs() -> None:
    x = fb.Input(2)
    layers = [fb.Dense(2, "relu", bias=False), fb.Dropout(0.5), fb.LayerNorm(), fb.BatchNorm(), fb.RMSNorm(), fb.Standardize()]
    text = "Residual(Dense(2, 'relu', bias=False), Dropout(0.5), LayerNorm(eps=1e-05), BatchNorm(momentum=0.1, eps=1e-05), " \
        "RMSNorm(eps=1e-06), Standardize())"  # fmt: skip
    assert repr(fb.Residual(*layers)) == text
    assert repr(fb.Embedding(3, 2)) == "Embedding(3, 2)"
    assert repr(fb.Model(x, x, seed=1)) == (
        "Model([Input(features=2)], [Input(features=2)], loss=None, optimizer=None, dtype='float32', seed=1)"
    )
