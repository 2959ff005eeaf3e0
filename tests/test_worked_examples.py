"""Examples that can be followed by hand, from lecture notes on backpropagation; for the library and for the reference."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import Array, numbers

import fastbp as fb

EPS = np.finfo(np.float64).eps


def exact(model: Any, inputs: list[float], value: float, gradients: list[float]) -> None:
    """Small whole numbers: no rounding anywhere."""
    assert model.forward(*inputs).tolist() == [[value]]
    assert [gradient.tolist() for gradient in model.backward()] == [[[gradient]] for gradient in gradients]


def variables(library: ModuleType, count: int) -> list[Any]:
    return [library.Input(1) for _ in range(count)]


def test_a_sum_times_a_number(library: ModuleType) -> None:
    """f = (x + y) z: q = x + y = 3, and df/dq = z, df/dz = q."""
    x, y, z = variables(library, 3)
    q = x + y
    exact(library.Model([x, y, z], q * z), [-2, 5, -4], -12, [-4, -4, 3])
    both = library.Model([x, y, z], [q, q * z])
    assert [value.item() for value in both.forward(-2, 5, -4)] == [3, -12]


def test_a_sigmoid_neuron(library: ModuleType) -> None:
    """f = s(w0 x0 + w1 x1 + w2) as one gate, and as the chain of * (-1), exp, + 1, 1/x."""
    w, x = [2.0, -3.0, -3.0], [-1.0, -2.0]

    def chained(z: Any) -> Any:
        return library.reciprocal(library.exp(z * -1) + 1)

    def neuron(squash: Any) -> tuple[float, list[float]]:
        w0, w1, w2, x0, x1 = variables(library, 5)
        z = w0 * x0 + w1 * x1 + w2
        model = library.Model([w0, w1, w2, x0, x1], [z, squash(z)], dtype="float64")
        inside, f = model.forward(*w, *x)
        assert inside.item() == 1
        return f.item(), [gradient.item() for gradient in model.backward([[[0.0]], [[1.0]]])]

    f, gradients = neuron(library.Activation("sigmoid"))
    assert round(f, 4) == 0.7311 and round(f * (1 - f), 4) == 0.1966
    assert np.round(gradients, 4).tolist() == [-0.1966, -0.3932, 0.1966, 0.3932, -0.5898]
    again, others = neuron(chained)
    np.testing.assert_allclose([again, *others], [f, *gradients], rtol=32 * EPS)  # ten roundings, functions within 4 ULP


def test_contributions_of_branches_add_up(library: ModuleType) -> None:
    """f = (x + s(y)) / (s(x) + (x + y)^2) at x = 3, y = -4: x and y are used three and two times."""
    x, y = variables(library, 2)
    f = (x + library.Activation("sigmoid")(y)) / (library.Activation("sigmoid")(x) + library.square(x + y))
    model = library.Model([x, y], f, dtype="float64")

    def value(a: complex, b: complex) -> complex:
        def s(t: complex) -> complex:
            return 1 / (1 + np.exp(-t))

        return (a + s(b)) / (s(a) + (a + b) ** 2)

    assert abs(model.forward(3, -4).item() - value(3, -4)) <= 64 * EPS
    h = 1e-30  # complex steps: no difference that cancels
    exactly = [value(3 + 1j * h, -4).imag / h, value(3, -4 + 1j * h).imag / h]
    np.testing.assert_allclose([gradient.item() for gradient in model.backward()], exactly, rtol=64 * EPS)


def test_add_hands_on_max_routes_multiply_swaps(library: ModuleType) -> None:
    x, y, z, w = variables(library, 4)
    exact(library.Model([x, y, z, w], 2 * (x * y + library.maximum(z, w))), [3, -4, 2, -1], -20, [-8, 6, 2, 0])


def test_a_value_used_twice(library: ModuleType) -> None:
    x, y, z = variables(library, 3)
    exact(library.Model([x, y, z], (x + y) * library.maximum(y, z)), [1, 2, 0], 6, [2, 5, 0])


def test_matrices(library: ModuleType) -> None:
    """D = W X, W (5, 10), X (10, 3): dW = dD X^T, dX = W^T dD. Rows of the library are columns here: D^T = X^T W^T."""
    W, X, dD = (np.round(8 * numbers(*shape, seed=seed)) for seed, shape in enumerate([(5, 10), (10, 3), (5, 3)]))
    layer = library.Dense(5, inputs=10, weight_init=W.T, dtype="float64")
    assert np.array_equal(layer.forward(X.T).T, W @ X)
    dX = layer.backward(dD.T).T
    assert dX.shape == X.shape and np.array_equal(dX, W.T @ dD)
    assert layer.dweight.T.shape == W.shape and np.array_equal(layer.dweight.T, dD @ X.T)


def score(library: ModuleType, W: Array, b: Array, u: Array) -> tuple[Any, Any, Any]:
    """s = u^T f(W x + b)."""
    hidden = library.Dense(len(b), "tanh", weight_init=W.T, bias_init=b)
    top = library.Dense(1, bias=False, weight_init=u.reshape(-1, 1))
    x = library.Input(W.shape[1])
    return x, hidden, top(hidden(x))


def test_score_of_a_window(library: ModuleType) -> None:
    """ds/db = delta = u * f'(z), ds/dW = delta x^T in the shape of W, ds/dx = W^T delta."""
    W, b, u, x = numbers(4, 6, seed=1), numbers(4, seed=2), numbers(4, seed=3), numbers(6, seed=4)
    inputs, hidden, s = score(library, W, b, u)
    model = library.Model(inputs, s, dtype="float64")
    f = np.tanh(W @ x + b)
    delta = u * (1 - f**2)
    bound = 32 * EPS  # sums of 7 numbers below 1, a function within 4 ULP, a product
    np.testing.assert_allclose(model.forward(x.reshape(1, -1)), [[u @ f]], atol=bound)
    (dx,) = model.backward()
    np.testing.assert_allclose(hidden.dbias, delta, atol=bound)
    np.testing.assert_allclose(hidden.dweight.T, np.outer(delta, x), atol=bound)
    np.testing.assert_allclose(dx, [W.T @ delta], atol=bound)


@pytest.mark.parametrize("margin", [1.0, 1e-3])
def test_max_margin_between_two_scores(library: ModuleType, margin: float) -> None:
    """J = max(0, margin - s + s_c): -delta x^T and + delta_c x_c^T, or nothing where the margin is kept."""
    W, b, u, x, corrupt = (numbers(*shape, seed=seed) for seed, shape in enumerate([(4, 6), (4,), (4,), (6,), (6,)]))
    first, hidden, s = score(library, W, b, u)
    second, hidden_c, s_c = score(library, W, b, u)
    J = library.maximum(margin - s + s_c, 0)
    model = library.Model([first, second], J, dtype="float64")
    value = model.forward(x.reshape(1, -1), corrupt.reshape(1, -1)).item()
    right, wrong = (u @ np.tanh(W @ each + b) for each in (x, corrupt))
    assert abs(value - max(0.0, margin - right + wrong)) <= 64 * EPS
    model.backward()
    active = margin - right + wrong > 0
    for layer, each, sign in ((hidden, x, -1), (hidden_c, corrupt, 1)):
        delta = sign * active * u * (1 - np.tanh(W @ each + b) ** 2)
        np.testing.assert_allclose(layer.dweight.T, np.outer(delta, each), atol=32 * EPS)
    assert active == (margin == 1.0), "both cases are there"


SIZES = (5, 2, 4, 3, 3, 1)


@pytest.mark.parametrize("last", ["sigmoid", "identity"])
def test_five_layers_by_loop_and_by_recursion(library: ModuleType, last: str) -> None:
    """Squared error with dE/dO = (O - T) / m; the library, a loop and a recursion give the same gradients."""
    names = ["sigmoid"] * (len(SIZES) - 2) + [last]
    layers = [library.Dense(units, name) for units, name in zip(SIZES[1:], names, strict=True)]
    net = library.Sequential([library.Input(SIZES[0]), *layers], dtype="float64", seed=3)
    X, T = numbers(7, SIZES[0], seed=5), numbers(7, 1, seed=6)
    m = len(X)

    def f(Z: Array, name: str) -> Array:
        return 1 / (1 + np.exp(-Z)) if name == "sigmoid" else Z

    def slope(O: Array, name: str) -> Array:
        return O * (1 - O) if name == "sigmoid" else np.ones_like(O)

    Ws = [np.vstack([layer.weight, layer.bias]) for layer in layers]  # the bias as the weights of a column of ones

    def with_ones(O: Array) -> Array:
        return np.hstack([O, np.ones((m, 1))])

    kept = [with_ones(X)]
    for W, name in zip(Ws, names, strict=True):
        kept.append(with_ones(f(kept[-1] @ W, name)))
    out = kept[-1][:, :-1]
    delta = (out - T) / m * slope(out, last)
    looped = []
    for k in range(len(Ws) - 1, -1, -1):
        looped.insert(0, kept[k].T @ delta)
        if k:
            delta = (delta @ Ws[k][:-1].T) * slope(kept[k][:, :-1], names[k - 1])

    def recursion(A: Array, k: int) -> tuple[Array, list[Array]]:
        """Return dE/dO below layer k, and the gradients from layer k on."""
        if k == len(Ws):
            return (A[:, :-1] - T) / m, []
        above, gradients = recursion(with_ones(f(A @ Ws[k], names[k])), k + 1)
        signal = above * slope(f(A @ Ws[k], names[k]), names[k])
        return signal @ Ws[k][:-1].T, [A.T @ signal, *gradients]

    _, dO = library.losses.squared_error(net.forward(X), T)
    dX = net.backward(dO, inputs=True)
    got = [np.vstack([layer.dweight, layer.dbias]) for layer in layers]
    below, recursed = recursion(with_ones(X), 0)
    bound = 2 * sum(8 * (inputs + 8) for inputs in SIZES) * EPS  # roundings of five layers there and back, numbers below 1
    for mine, one, other in zip(got, looped, recursed, strict=True):
        np.testing.assert_allclose(mine, one, atol=bound)
        np.testing.assert_allclose(mine, other, atol=bound)
    np.testing.assert_allclose(dX, below, atol=bound)
    assert np.array_equal(kept[0][:, -1], np.ones(m)), "the ones are no unit: nothing changes them"


@pytest.mark.parametrize("kinds", [("sigmoid", "relu"), ("relu", "sigmoid")], ids="-".join)
def test_two_weights_in_a_chain(library: ModuleType, kinds: tuple[str, str]) -> None:
    """Y2 = f1(w1 X), Y3 = f2(w2 Y2), E = 1/2 (Y3 - T)^2: dE/dw2 = (Y3 - T) f2' Y2, dE/dw1 = (Y3 - T) f2' w2 f1' X."""
    w1, w2, X, T = 0.75, 1.5, 2.0, 0.25
    layers = [library.Dense(1, kind, bias=False, weight_init=[[w]]) for kind, w in zip(kinds, (w1, w2), strict=True)]
    net = library.Sequential([library.Input(1), *layers], dtype="float64")

    def f(z: float, kind: str) -> tuple[float, float]:
        s = 1 / (1 + np.exp(-z))
        return (s, s * (1 - s)) if kind == "sigmoid" else (max(z, 0.0), float(z > 0))

    Y2, slope1 = f(w1 * X, kinds[0])
    Y3, slope2 = f(w2 * Y2, kinds[1])
    E, dO = library.losses.squared_error(net.forward([[X]]), [[T]])
    net.backward(dO)
    assert abs(E - 0.5 * (Y3 - T) ** 2) <= 32 * EPS
    np.testing.assert_allclose(layers[1].dweight.item(), (Y3 - T) * slope2 * Y2, rtol=64 * EPS)
    np.testing.assert_allclose(layers[0].dweight.item(), (Y3 - T) * slope2 * w2 * slope1 * X, rtol=64 * EPS)


@pytest.mark.parametrize("batch_size", [1, 8, 64], ids=["single samples", "mini-batches", "the whole batch"])
def test_descent_by_samples_by_batches_by_all(library: ModuleType, batch_size: int) -> None:
    X = numbers(64, 2, seed=7)
    y = np.sin(3 * X[:, :1]) * X[:, 1:]
    layers = [library.Input(2), library.Dense(8, "tanh"), library.Dense(1)]
    net = library.Sequential(layers, "squared_error", library.SGD(0.1), dtype="float64", seed=1)
    history = net.fit(X, y, epochs=40, batch_size=batch_size)
    assert history.loss[-1] < history.loss[0]
    assert abs(net.evaluate(X, y)["loss"] - ((net.predict(X) - y) ** 2).sum() / (2 * len(X))) <= 64 * EPS


def test_scaled_inputs_scale_the_first_gradient(library: ModuleType) -> None:
    """dW = X^T delta: inputs a thousand times as large, with delta as it was, make it a thousand times as large."""
    X, dO = np.round(8 * numbers(6, 3, seed=8)), np.round(8 * numbers(6, 2, seed=9))
    gradients = []
    for factor in (1, 1000):
        net = library.Sequential([library.Input(3), library.Dense(2, seed=1)], dtype="float64")
        net.forward(factor * X)
        net.backward(dO)
        gradients.append(net.layers[-1].dweight.copy())
    assert np.array_equal(gradients[1], 1000 * gradients[0])


def test_standardized_inputs_train_alike(library: ModuleType) -> None:
    """A power of two changes no bit of (X - mean) / deviation; 1000 changes roundings only."""
    X, y = numbers(64, 3, seed=10), np.arange(64) % 3

    def losses(factor: float) -> list[float]:
        scale = library.Standardize()
        layers = [library.Input(3), scale, library.Dense(8, "tanh"), library.Dense(3)]
        net = library.Sequential(layers, "cross_entropy", library.SGD(0.5), dtype="float64", seed=2)
        scale.adapt(factor * X)
        return list(net.fit(factor * X, y, epochs=5, batch_size=16).loss)

    assert losses(1024.0) == losses(1.0)
    np.testing.assert_allclose(losses(1000.0), losses(1.0), rtol=np.sqrt(EPS))


def test_all_gradients_cost_about_two_forward_passes() -> None:
    """Counted, not timed (benchmarks/graphs.py does that): operations of a 20-layer network, whatever parameters are wanted."""
    net = fb.Sequential([fb.Input(16), *(fb.Dense(16, "tanh") for _ in range(20))], "squared_error", fb.SGD(0.1))
    forward = 2 * 20 * 16 * 16
    backward = net.plan.operations(1) - forward
    assert forward < backward <= 2 * forward


def test_a_linear_support_vector_machine(library: ModuleType) -> None:
    """min l2/2 |w|^2 + mean hinge is LinearSVC's problem with C = 1 / (l2 n), which also shrinks the intercept."""
    svm = pytest.importorskip("sklearn.svm", reason="scikit-learn is not installed")
    data = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    X, y = data.load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    n, l2 = len(X), 0.1
    sign = np.where(y > 0, 1.0, -1.0)

    def objective(w: Array) -> float:
        return float(l2 / 2 * w @ w + np.maximum(0, 1 - sign * (X @ w[:-1] + w[-1])).mean())

    scikit = svm.LinearSVC(loss="hinge", C=1 / (l2 * n), tol=1e-10, max_iter=1_000_000).fit(X, y)
    best = np.append(scikit.coef_[0], scikit.intercept_[0])
    steps, average = 4000, np.zeros(X.shape[1] + 1)
    layers = [library.Input(X.shape[1]), library.Dense(1, weight_init="zeros")]
    net = library.Sequential(layers, "binary_hinge", library.SGD(1.0, l2=l2, decay_biases=True), dtype="float64")
    for t in range(1, steps + 1):  # the subgradient method with steps 1 / (l2 t), and the average of the later half
        net.optimizer = library.SGD(1 / (l2 * t), l2=l2, decay_biases=True)
        net.train_step(X, y)
        average += net.params * (t > steps // 2) / (steps - steps // 2)
    # Its error after T steps is at most G^2 / (l2 T) up to a small factor, G the largest subgradient on the way.
    G = np.linalg.norm(np.hstack([X, np.ones((n, 1))]), axis=1).max() + l2 * np.linalg.norm(best)
    gap = objective(average) - objective(best)
    assert -EPS * n <= gap <= 2 * G**2 / (l2 * steps)
    assert gap <= 1e-3 * objective(best)
    # Strong convexity: the same minimum, |w - w*|^2 <= 2 gap / l2.
    assert np.linalg.norm(average - best) ** 2 <= 2 * (abs(gap) + EPS * n) / l2 * 1.01
