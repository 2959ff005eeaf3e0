"""The NumPy reference: gradients against central differences, worked examples, and the rules of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cases import EVERYWHERE, WITH_KERNELS
from numeric import central_differences

import fastbp.reference as fb
from fastbp import rng
from fastbp.reference import gates

Array = npt.NDArray[Any]
Layer = Any  # an Input, or a layer
EPS = float(np.finfo(np.float64).eps)
ROWS = 6


def numbers(*shape: int, seed: int = 0) -> Array:
    """Uniform numbers in [-1, 1)."""
    return 2 * rng.uniform(seed, 99, 0, int(np.prod(shape))).reshape(shape) - 1


def classifier(*, momentum: float = 0.0, dtype: str = "float64", seed: int = 7) -> fb.Sequential:
    layers: list[Layer] = [fb.Input(4), fb.Dense(8, "tanh"), fb.Dense(3)]
    return fb.Sequential(layers, "cross_entropy", fb.SGD(0.1, momentum), dtype=dtype, seed=seed)


def labelled(n: int = 50) -> tuple[Array, Array]:
    """Rows in [-1, 1)^4, labelled by the largest of their first three numbers."""
    X = numbers(n, 4)
    return X, X[:, :3].argmax(axis=1)


# Gradients -------------------------------------------------------------------------------------------

SOFT = np.abs(numbers(ROWS, 3, seed=5))  # rows need not add up to 1
LABELS = np.array([0, 2, 1, 1, 0, 2])
TARGETS: dict[str, tuple[str, int, Array]] = {
    "values": ("squared_error", 3, numbers(ROWS, 3, seed=6)),
    "vector": ("squared_error", 1, numbers(ROWS, seed=6)),
    "labels": ("cross_entropy", 3, LABELS),
    "one_hot": ("cross_entropy", 3, np.eye(3)[LABELS]),
    "soft": ("cross_entropy", 3, SOFT),
}


def check_gradients(net: fb.Sequential, x: Array, y: Array) -> None:
    """Compare dE/dparams and dE/dX with central differences."""
    assert net.loss is not None
    _, dout = getattr(fb.losses, net.loss)(net.forward(x), y)
    dx = net.backward(dout, inputs=True)
    assert dx is not None
    grads = net.grads.copy()
    central_differences(net, net.params, x, y).check(grads)
    central_differences(net, x, x, y).check(dx)


@pytest.mark.filterwarnings("ignore:loss 'cross_entropy' takes logits")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("activation", EVERYWHERE)
def test_gradients(activation: str, target: str) -> None:
    loss, units, y = TARGETS[target]
    hidden = fb.Dense(5, activation, bias_init=numbers(5))
    net = fb.Sequential([fb.Input(3), hidden, fb.Dense(units, activation)], loss, dtype="float64", seed=1)
    check_gradients(net, numbers(ROWS, 3, seed=2), y)


@pytest.mark.parametrize("activation", EVERYWHERE)
def test_gradients_of_activation_layers(activation: str) -> None:
    f = [fb.Activation(activation) for _ in range(3)]
    layers: list[Layer] = [fb.Input(3), f[0], fb.Dense(4), f[1], fb.Dense(3), f[2]]
    net = fb.Sequential(layers, "squared_error", dtype="float64", seed=1)
    check_gradients(net, numbers(ROWS, 3, seed=2), TARGETS["values"][2])


def test_gradients_of_a_deep_network() -> None:
    widths = [2, 4, 3, 3, 1]
    layers: list[Layer] = [fb.Input(5), *(fb.Dense(units, "sigmoid") for units in widths)]
    net = fb.Sequential(layers, "squared_error", dtype="float64", seed=3)
    assert net.params.size == sum((i + 1) * u for i, u in zip([5, *widths], widths, strict=False))
    check_gradients(net, numbers(ROWS, 5), numbers(ROWS, 1))


def test_a_wrong_gradient_is_noticed() -> None:
    net = classifier()
    x, y = labelled(ROWS)
    _, dout = fb.losses.cross_entropy(net.forward(x), y)
    net.backward(dout)
    wrong = net.grads * (1 + EPS**0.25)
    with pytest.raises(AssertionError, match="bounds"):
        central_differences(net, net.params, x, y).check(wrong)


@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_recursion_is_the_loop_bit_for_bit(depth: int, inputs: bool) -> None:
    dense = [fb.Dense(3, "sigmoid") for _ in range(depth)]
    net = fb.Sequential([fb.Input(4), fb.Activation("tanh"), *dense], seed=0)
    dout = numbers(*net.forward(numbers(7, 4)).shape)
    dx = net.backward(dout, inputs)
    grads = net.grads.copy()
    net.grads[:] = np.nan
    dx_recursive = net.backward_recursive(dout, inputs)
    np.testing.assert_array_equal(net.grads, grads)
    assert (dx is not None) == inputs
    np.testing.assert_equal(dx_recursive, dx)


def test_training_stops_at_the_first_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without inputs=True nobody asks the first dense layer, or a layer below it, for its dX."""
    asked: list[int] = []

    def backward(gate: gates.Dense, dZ: Array) -> tuple[Array, ...]:
        asked.append(gate.value.width)
        return original(gate, dZ)

    def fail(Z: Array) -> Array:
        raise AssertionError("dX was computed")

    original = gates.Dense.backward
    monkeypatch.setattr(gates.Dense, "backward", backward)
    net = fb.Sequential([fb.Input(4), fb.Activation((np.tanh, fail)), fb.Dense(3, "relu"), fb.Dense(2)], seed=0)
    dout = np.ones_like(net.forward(numbers(5, 4)))
    assert net.backward(dout) is None
    assert net.backward_recursive(dout) is None
    assert asked == [2, 2]
    assert net.grads.any()
    with pytest.raises(AssertionError, match="dX was computed"):
        net.backward(dout, inputs=True)
    assert asked == [2, 2, 2, 3]


# Worked examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [2.0, -1.0])
@pytest.mark.parametrize("w2", [1.5, -1.5])
def test_chain_of_two_weights(w2: float, T: float) -> None:
    """E = 1/2 (Y3 - T)**2, Y3 = relu(w2 Y2), Y2 = sigmoid(w1 X): every derivative in closed form.

    Each is a product of at most 6 factors; exp is within 4 ulp and the sigmoid adds 2 roundings, twice in
    Y2 (1 - Y2), whose difference here at most doubles a relative error: 6 + 3 (4 + 2) = 24 roundings.
    """
    X, w1 = 0.8, 0.5
    first = fb.Dense(1, "sigmoid", inputs=1, weight_init=[[w1]])
    second = fb.Dense(1, "relu", weight_init=[[w2]])
    net = fb.Sequential([first, second], "squared_error", dtype="float64", seed=0)
    Y2 = 1 / (1 + np.exp(-w1 * X))
    Y3 = max(w2 * Y2, 0.0)
    delta3 = (Y3 - T) * (1.0 if w2 > 0 else 0.0)
    delta2 = delta3 * w2 * Y2 * (1 - Y2)
    expected = [(Y3 - T) ** 2 / 2, delta2 * X, delta2, delta3 * Y2, delta3, delta2 * w1]
    E, dY3 = fb.losses.squared_error(net.forward([[X]]), [[T]])
    dX = net.backward(dY3, inputs=True)
    assert dX is not None
    np.testing.assert_allclose([E, *net.grads, dX[0, 0]], expected, rtol=24 * EPS)


def test_sigmoid_neuron() -> None:
    """The values are known to 4 decimals."""
    neuron = fb.Dense(1, "sigmoid", inputs=2, weight_init=[[2], [-3]], bias_init=[-3], dtype="float64")
    assert neuron.forward([[-1, -2]]).round(4).tolist() == [[0.7311]]
    assert neuron.backward([[1.0]]).round(4).tolist() == [[0.3932, -0.5898]]
    assert neuron.dweight.round(4).tolist() == [[-0.1966], [-0.3932]]
    assert neuron.dbias.round(4).tolist() == [0.1966]


def test_bias_is_the_weight_of_a_column_of_ones() -> None:
    """Small integers: every product and sum is exact, so both must agree exactly."""
    x, dout = np.rint(8 * numbers(6, 3)), np.rint(8 * numbers(6, 2, seed=1))
    W = np.rint(8 * numbers(4, 2, seed=2))
    with_bias = fb.Dense(2, "relu", inputs=3, weight_init=W[:-1], bias_init=W[-1])
    augmented = fb.Dense(2, "relu", inputs=4, weight_init=W)
    x_augmented = np.column_stack([x, np.ones(len(x))])
    np.testing.assert_array_equal(with_bias.forward(x), augmented.forward(x_augmented))
    dx = augmented.backward(dout)
    np.testing.assert_array_equal(with_bias.backward(dout), dx[:, :-1])
    np.testing.assert_array_equal(with_bias.dweight, augmented.dweight[:-1])
    np.testing.assert_array_equal(with_bias.dbias, augmented.dweight[-1])


def test_losses_at_their_extremes() -> None:
    loss, dout = fb.losses.cross_entropy([[1e4, -1e4], [-1e4, 1e4]], [0, 0])
    assert loss == 1e4
    assert dout.tolist() == [[0.0, 0.0], [-0.5, 0.5]]
    assert fb.Dense(1, "sigmoid", inputs=1, weight_init=[[1]]).forward([[-1e4], [1e4]]).tolist() == [
        [0.0],
        [1.0],
    ]
    assert fb.Activation("softmax").forward([[1e4, -1e4]]).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("activation", WITH_KERNELS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_stays_nan(activation: str) -> None:
    assert np.isnan(fb.Activation(activation).forward([[np.nan]])).all()


# Parameters ------------------------------------------------------------------------------------------


def test_views_are_live() -> None:
    net = classifier()
    hidden, last = net.layers[1], net.layers[2]
    assert isinstance(hidden, fb.Dense) and isinstance(last, fb.Dense)
    parts = [hidden.weight, hidden.bias, last.weight, last.bias]
    np.testing.assert_array_equal(net.params, np.concatenate([part.reshape(-1) for part in parts]))
    net.params[:] = 1.0
    assert all((part == 1.0).all() for part in parts)
    hidden.weight -= 0.5
    last.bias = np.array([1.0, 2.0, 3.0])
    assert (net.params[:32] == 0.5).all()
    assert net.params[-3:].tolist() == [1.0, 2.0, 3.0]
    net.params -= net.params
    assert not last.bias.any()
    with pytest.raises(ValueError, match=r"bias must have shape \(3,\), got \(4,\)"):
        last.bias = np.ones(4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initial_weights(dtype: str) -> None:
    """Layer d draws with (net seed, d), a layer with a seed of its own, or alone, with (its seed, 0)."""
    own, second = fb.Dense(4, seed=9), fb.Dense(2, "relu", weight_init="he_normal")
    fb.Sequential([fb.Input(3), own, fb.Activation("tanh"), second], dtype=dtype, seed=5)
    alone = fb.Dense(4, inputs=3, seed=9, dtype=dtype)
    np.testing.assert_array_equal(own.weight, alone.weight)
    expected = np.sqrt(2 / 4) * rng.normal(5, rng.STREAM_INIT, 1, 8).reshape(4, 2)
    np.testing.assert_array_equal(second.weight, expected.astype(dtype))
    assert own.weight.dtype == second.bias.dtype == np.dtype(dtype)


def test_a_drawn_seed_is_remembered() -> None:
    net = fb.Sequential([fb.Input(3), fb.Dense(4)])
    again = fb.Sequential([fb.Input(3), fb.Dense(4)], seed=net.seed)
    np.testing.assert_array_equal(net.params, again.params)
    alone = fb.Dense(4, inputs=3)
    assert alone.seed is not None
    np.testing.assert_array_equal(fb.Dense(4, inputs=3, seed=alone.seed).weight, alone.weight)


# Training --------------------------------------------------------------------------------------------


def test_momentum() -> None:
    net = classifier(momentum=0.9)
    x, y = labelled()
    W, v = net.params.copy(), np.zeros_like(net.params)
    for _ in range(3):
        net.train_step(x, y)
        v = 0.9 * v + net.grads
        W = W - 0.1 * v
        np.testing.assert_array_equal(net.params, W)


def test_train_step_is_forward_backward_update() -> None:
    net, by_hand = classifier(), classifier()
    x, y = labelled()
    loss, dout = fb.losses.cross_entropy(by_hand.forward(x), y)
    by_hand.backward(dout)
    by_hand.params -= 0.1 * by_hand.grads
    assert net.train_step(x, y) == loss
    np.testing.assert_array_equal(net.params, by_hand.params)


def test_fit_is_train_step_over_shuffled_batches() -> None:
    """50 rows in batches of 16: the last has 2, and the loss weighs it so."""
    net, by_hand = classifier(momentum=0.5), classifier(momentum=0.5)
    X, y = labelled()
    history = net.fit(X, y, epochs=2, batch_size=16)
    for epoch in range(2):
        order = rng.permutation(by_hand.seed, rng.STREAM_SHUFFLE, epoch, 50)
        total = 0.0
        for batch in np.split(order, [16, 32, 48]):
            total += len(batch) * by_hand.train_step(X[batch], y[batch])
        assert history.loss[epoch] == total / 50
    np.testing.assert_array_equal(net.params, by_hand.params)
    assert len(history) == len(history.seconds) == 2


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_second_fit_goes_on(shuffle: bool) -> None:
    X, y = labelled()
    once, twice = classifier(momentum=0.9), classifier(momentum=0.9)
    history = once.fit(X, y, epochs=3, shuffle=shuffle)
    losses = twice.fit(X, y, epochs=1, shuffle=shuffle).loss + twice.fit(X, y, epochs=2, shuffle=shuffle).loss
    assert history.loss == losses
    np.testing.assert_array_equal(once.params, twice.params)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_learns(dtype: str) -> None:
    X, y = labelled(300)
    net = classifier(momentum=0.9, dtype=dtype)
    history = net.fit(X[:200], y[:200], epochs=40, validation_data=(X[200:], y[200:]))
    assert history.loss[-1] < history.loss[0] / 4
    assert history.val_accuracy[-1] > 0.9
    assert net.evaluate(X[200:], y[200:]) == {
        "loss": history.val_loss[-1],
        "accuracy": history.val_accuracy[-1],
    }
    proba = net.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=2 * 3 * float(np.finfo(dtype).eps))
    np.testing.assert_array_equal(proba.argmax(axis=1), net.predict(X).argmax(axis=1))


def test_callback_counts_over_the_life_and_stops() -> None:
    X, y = labelled()
    net = classifier()
    seen: list[tuple[int, int]] = []

    def callback(epoch: int, history: fb.History) -> bool:
        seen.append((epoch, len(history)))
        return epoch == 2

    net.fit(X, y, epochs=2, callback=callback)
    assert len(net.fit(X, y, epochs=9, callback=callback)) == 1
    assert seen == [(0, 1), (1, 2), (2, 1)]


def test_squared_error_has_no_accuracy() -> None:
    net = fb.Sequential([fb.Input(2), fb.Dense(1)], "squared_error", fb.SGD(), seed=0)
    x = numbers(5, 2)
    history = net.fit(x, x[:, 0], validation_data=(x, x[:, 0]))
    assert (len(history.val_loss), history.val_accuracy) == (1, [])
    assert list(net.evaluate(x, x[:, :1])) == ["loss"]


def test_predict() -> None:
    """Blocks of rows change no result by more than the order of summation: here the sums are exact."""
    net = fb.Sequential([fb.Dense(2, "relu", inputs=3, weight_init=[[1, 2], [3, -4], [0, 5]])], seed=0)
    X = np.rint(8 * numbers(5000, 3))
    out = np.empty((5000, 2), np.float32)
    assert net.predict(X, out=out) is out
    np.testing.assert_array_equal(out, net.forward(X))
    assert net.predict(X[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match=r"out must have shape \(2, 2\), got \(5000, 2\)"):
        net.predict(X[:2], out=out)
    with pytest.raises(TypeError, match="out must be a float32 array, got float64"):
        net.predict(X, out=out.astype(np.float64))


def test_predict_leaves_the_forward_pass_alone() -> None:
    net = classifier()
    x, y = labelled()
    _, dout = fb.losses.cross_entropy(net.forward(x), y)
    net.backward(dout)
    grads = net.grads.copy()
    net.predict(x[:3])
    net.backward(dout)
    np.testing.assert_array_equal(net.grads, grads)


def test_arguments_are_not_changed() -> None:
    net = classifier()
    x, y = labelled()
    dout = numbers(50, 3)
    for array in (x, y, dout):
        array.flags.writeable = False
    net.train_step(x, y)
    net.forward(x)
    net.backward(dout, inputs=True)
    fb.losses.cross_entropy(dout, y)
    fb.losses.squared_error(dout, dout)


# Errors ----------------------------------------------------------------------------------------------


def test_wrong_input_is_refused_and_changes_nothing() -> None:
    net = classifier()
    x, y = labelled()
    before = net.params.copy()
    refused: list[tuple[Any, Any, type[Exception], str]] = [
        (x[:, :3], y, ValueError, r"x must have shape \(batch, 4\), got \(50, 3\)"),
        (x.reshape(50, 2, 2), y, ValueError, r"x must have shape \(batch, 4\), got \(50, 2, 2\)"),
        (x * 1j, y, TypeError, "x must hold real numbers, got complex128"),
        (x, y[:-1], ValueError, r"y must have shape \(50,\) or \(50, 3\), got \(49,\)"),
        (x, y + 1, ValueError, r"y must hold labels 0 \.\. 2, got 1 \.\. 3"),
        (x, y - 1, ValueError, r"y must hold labels 0 \.\. 2, got -1 \.\. 1"),
        (x, y * 1.0, TypeError, r"y of shape \(batch,\) must hold integer labels, got float64"),
        (x[:0], y[:0], ValueError, "y must have at least one row"),
    ]
    for bad_x, bad_y, error, message in refused:
        with pytest.raises(error, match=message):
            net.train_step(bad_x, bad_y)
        with pytest.raises(error, match=message.replace("x must", "X must")):
            net.fit(bad_x, bad_y)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        net.fit(x, y, batch_size=0)
    np.testing.assert_array_equal(net.params, before)


def test_missing_steps() -> None:
    net = fb.Sequential([fb.Input(4), fb.Dense(3)], seed=0)
    x, y = labelled()
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        net.backward(np.ones((50, 3)))
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        fb.Activation("relu").backward([[1.0]])
    with pytest.raises(RuntimeError, match="no loss"):
        net.train_step(x, y)
    with pytest.raises(RuntimeError, match="no optimizer"):
        net.update()
    with pytest.raises(RuntimeError, match="predict_proba needs"):
        net.predict_proba(x)
    net.forward(x)
    with pytest.raises(ValueError, match=r"dout must have shape \(50, 3\), got \(50, 2\)"):
        net.backward(np.ones((50, 2)))
    with pytest.raises(RuntimeError, match="no weights yet"):
        fb.Dense(3).forward(x)
    with pytest.raises(AttributeError, match="no weights yet"):
        _ = fb.Dense(3).weight


def test_names_and_sizes_are_checked() -> None:
    names = ", ".join(WITH_KERNELS)
    with pytest.raises(ValueError, match=rf"activation must be one of {names}, or a pair of functions \(f, df\), got 'ReLU'"):
        fb.Dense(3, "ReLU")
    with pytest.raises(ValueError, match=r"loss must be one of squared_error, cross_entropy, .*, gaussian_nll, got 'mse'"):
        fb.Sequential([fb.Input(4), fb.Dense(3)], "mse")
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'float16'"):
        fb.Dense(3, dtype="float16")
    with pytest.raises(ValueError, match="units must be at least 1, got 0"):
        fb.Dense(0)
    with pytest.raises(TypeError, match="features must be an integer, got float"):
        fb.Input(4.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="learning_rate must be at least 0"):
        fb.SGD(float("nan"))
    with pytest.raises(ValueError, match="momentum must be at least 0 and below 1, got 1"):
        fb.SGD(0.1, 1.0)


def test_layers_must_fit() -> None:
    shared = fb.Dense(3)
    fb.Sequential([fb.Input(4), shared])
    twice = fb.Dense(4)
    refused: list[tuple[list[Any], type[Exception], str]] = [
        ([], ValueError, "at least one layer"),
        ([fb.Input(4)], ValueError, "at least one layer"),
        ([fb.Dense(3)], ValueError, "must begin with Input"),
        ([fb.Activation("relu"), fb.Dense(3)], ValueError, "must begin with Input"),
        ([fb.Input(4), fb.Dense(3, inputs=5)], ValueError, "inputs must be 4"),
        ([fb.Input(4), shared], ValueError, "belongs to one network"),
        ([fb.Input(4), twice, twice], ValueError, "belongs to one network"),
        ([fb.Input(4), fb.Dense(3), fb.Input(3)], TypeError, "layers must be layers after the Input"),
        ([fb.Input(4), fb.Dense(3), "relu"], TypeError, "layers must be layers after the Input"),
    ]
    for layers, error, message in refused:
        with pytest.raises(error, match=message):
            fb.Sequential(layers)


def test_reprs() -> None:
    net = fb.Sequential([fb.Input(2), fb.Dense(3, None), fb.Activation("tanh")], seed=1)
    assert repr(net) == (
        "Sequential([Input(features=2), Dense(3, inputs=2), Activation('tanh')], "
        "loss=None, optimizer=None, dtype='float32', seed=1)"
    )
    history = fb.History(loss=[2.0, 1.0], val_loss=[3.0], seconds=[0.25, 0.5])
    assert repr(history) == "History(epochs=2, loss=2 -> 1, val_loss=3, seconds=0.75)"
    assert history["loss"] is history.loss
    with pytest.raises(KeyError, match="accuracy"):
        history["accuracy"]


def test_thread_count_is_remembered() -> None:
    before = fb.get_num_threads()
    fb.set_num_threads(3)
    assert fb.get_num_threads() == 3
    fb.set_num_threads(before)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        fb.set_num_threads(0)
    assert fb.isa() == "numpy"
