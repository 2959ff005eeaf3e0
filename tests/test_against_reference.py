"""Networks of fastbp and of the reference in float64, from the same parameters, agree within the bounds of `bounds`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bounds import FUNCTION_ULP, MAX_ULP_WITHOUT_FMA, Bounded, Rounding
from cases import DTYPES, EVERYWHERE, Array, integers, numbers
from loss_bounds import bounded_loss
from network_bounds import Network
from numeric import KINKS, central_differences

import fastbp as fb
import fastbp.reference as ref
from fastbp._fastbp_core import ACTIVATIONS, LOSSES, OPTIMIZERS
from fastbp.rng import STREAM_SHUFFLE, permutation

Spec = tuple[int | str, ...]  # features, then "units activation" for a Dense, "activation" for an Activation

# One optimizer for every row of the core's table.
# Large eps: with the default, where a gradient is nearly 0, the sign of a step is rounding error (test_optimizers has it).
OPTIMIZER: dict[str, fb.optimizers.Optimizer] = {
    optimizer.row: optimizer
    for optimizer in (
        fb.SGD(0.1),
        fb.SGD(0.1, momentum=0.9),
        fb.SGD(0.05, momentum=0.8, nesterov=True),
        fb.Adam(0.01, beta1=0.8, beta2=0.95, eps=0.05),
        fb.RMSprop(0.01, alpha=0.9, eps=0.05),
        fb.Adagrad(0.02, eps=0.05),
    )
}
# The kinds of targets for every row of the core's table of losses.
TARGETS = {
    "squared_error": ("values",),
    "cross_entropy": ("labels", "one_hot", "soft"),
    "absolute_error": ("values",),
    "huber": ("values",),
    "log_cosh": ("values",),
    "quantile": ("values",),
    "binary_cross_entropy": ("soft",),
    "hinge": ("labels", "one_hot"),
    "binary_hinge": ("values",),
    "poisson": ("soft",),
    "gaussian_nll": ("values",),
}
NETS: list[Spec] = [
    (1, "1"),
    (1, "1 sigmoid", "1 tanh", "1"),
    (5, "1 relu", "3"),
    (3, "2 tanh", "1"),
    (17, "33 relu", "65 tanh", "10"),
    (64, "100 relu", "10"),
    (200, "7"),
    (17, "150 tanh", "3"),  # rows of W too long to be used unpacked
    (9, "8 sigmoid", "7 tanh", "6 relu", "8 sigmoid", "4"),
    (6, "tanh", "16", "relu", "identity", "5 sigmoid", "4"),
]
PLACES: dict[str, tuple[int | str, ...]] = {
    "hidden": (7, "13 {}", "5"),
    "last": (7, "13 tanh", "5 {}"),
    "single_unit": (7, "1 {}", "1 {}"),
    "before_the_first": (7, "{}", "13", "5"),
    "between": (7, "13", "{}", "{}", "5"),
    "at_the_end": (7, "13 tanh", "5", "{}"),
}
BATCHES = (1, 2, 5, 33)
GROWING = ("exp", "square", "power", "log_softmax")  # a step downhill makes some of what they give very large

dtypes = pytest.mark.parametrize("dtype", DTYPES)
KINDS = [(loss, kind) for loss in LOSSES for kind in TARGETS[loss]]
losses = pytest.mark.parametrize("loss, target", KINDS)


def with_losses(name: str, rows: Iterable[str], usual: Iterable[str]) -> pytest.MarkDecorator:
    """Every row of a table with the losses that are trained with most, the usual rows with every loss; --full: all pairs."""
    few, often = tuple(usual), KINDS[:2]
    pairs = [
        pytest.param(loss, target, row, marks=() if (loss, target) in often or row in few else pytest.mark.full)
        for loss, target in KINDS
        for row in rows
    ]
    return pytest.mark.parametrize(f"loss, target, {name}", pairs)


def name_of(spec: Spec) -> str:
    return "-".join(str(part).replace(" ", "_") for part in spec)


def network(package: ModuleType, spec: Spec, *, seed: int = 3, **settings: Any) -> Any:
    """The same layers from fastbp or the reference; random biases, so that they matter."""
    layers: list[Any] = [package.Input(spec[0])]
    for part in spec[1:]:
        units, _, activation = str(part).partition(" ")
        if units.isdigit():
            bias = numbers(int(units), seed=len(layers))
            layers.append(package.Dense(int(units), activation or None, bias_init=bias))
        else:
            layers.append(package.Activation(units))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a softmax before cross_entropy is unwise, and still a function
        return package.Sequential(layers, seed=seed, **settings)


def twin(optimizer: fb.optimizers.Optimizer) -> ref.optimizers.Optimizer:
    """The reference's optimizer of the same settings."""
    found: ref.optimizers.Optimizer = getattr(ref, type(optimizer).__name__)(**asdict(optimizer))
    return found


def fitting(spec: Spec, loss: str) -> Spec:
    """Twice as many units in the last dense layer, where the loss takes two columns for one of the target."""
    if loss != "gaussian_nll":
        return spec
    last = max(i for i, part in enumerate(spec) if i and str(part).partition(" ")[0].isdigit())
    units, space, activation = str(spec[last]).partition(" ")
    return (*spec[:last], f"{2 * int(units)}{space}{activation}", *spec[last + 1 :])


def pair(spec: Spec, dtype: str, loss: str, optimizer: fb.optimizers.Optimizer) -> tuple[fb.Sequential, ref.Sequential]:
    fast = network(fb, spec, dtype=dtype, loss=loss, optimizer=optimizer)
    slow = network(ref, spec, dtype="float64", loss=loss, optimizer=twin(optimizer))
    slow.params[:] = fast.params
    return fast, slow


def batch(
    kind: str, rows: int, inputs: int, units: int, dtype: str, seed: int = 0, *, loss: str = ""
) -> tuple[Array, Array]:
    """Inputs and targets as float64 arrays of numbers that the dtype holds."""
    units = units // 2 if loss == "gaussian_nll" else units
    x = numbers(rows, inputs, seed=seed, dtype=dtype).astype(np.float64)
    labels = np.abs(integers(rows, most=units - 1, seed=seed + 1))
    y = {
        "values": numbers(rows, units, seed=seed + 1, dtype=dtype).astype(np.float64),
        "labels": labels,
        "one_hot": np.eye(units)[labels],
        "soft": np.abs(numbers(rows, units, seed=seed + 1, dtype=dtype)).astype(np.float64),
    }[kind]
    return x, y


def compare(what: str, got: Any, wanted: Any, bounds: tuple[Bounded, Bounded], dtype: str) -> None:
    """|got - wanted| <= the bound of fastbp's error + that of the reference's; and the bound means something."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted)
    fast, slow = bounds
    assert got.shape == wanted.shape == fast.error.shape, what
    tolerance = fast.error + slow.error
    error = np.abs(got - wanted)
    assert np.all(error <= tolerance), f"{what}: off by {np.max(error / tolerance)} bounds"
    # Not vacuous: a lost term or a wrong factor changes an element by a good part of itself.
    size = np.abs(wanted).sum() or 1.0
    share = tolerance.sum() / size
    assert share < np.finfo(dtype).eps ** (1 / 8), f"{what}: the bound is {share} of it"


def check(
    spec: Spec, dtype: str, loss: str, target: str, optimizer: fb.optimizers.Optimizer, rows: int, steps: int = 2
) -> None:
    spec = fitting(spec, loss)
    fast, slow = pair(spec, dtype, loss, optimizer)
    nets = tuple(Network(slow, Rounding(kind)) for kind in (dtype, "float64"))
    units = slow.layers[-1].units if isinstance(slow.layers[-1], ref.Dense) else slow.forward([[0] * spec[0]]).shape[1]
    x, y = batch(target, rows, int(spec[0]), units, dtype, loss=loss)

    wanted = slow.forward(x)
    bounds = [net.forward(x) for net in nets]
    out = fast.forward(x)
    compare("forward", out, wanted, (bounds[0], bounds[1]), dtype)
    compare("predict", fast.predict(x), wanted, (bounds[0], bounds[1]), dtype)
    E, dO = getattr(fb.losses, loss)(out, y)
    wanted_E, wanted_dO = getattr(ref.losses, loss)(wanted, y)
    (fast_E, fast_dO), (slow_E, slow_dO) = (bounded_loss(loss, O, y) for O in bounds)
    compare("loss", E, wanted_E, (fast_E, slow_E), dtype)
    compare("dout", dO, wanted_dO, (fast_dO, slow_dO), dtype)
    dX, wanted_dX = fast.backward(dO, inputs=True), slow.backward(wanted_dO, inputs=True)
    assert wanted_dX is not None
    dX_bounds = nets[0].backward(fast_dO), nets[1].backward(slow_dO)
    compare("grads", fast.grads, slow.grads, (nets[0].grads, nets[1].grads), dtype)
    compare("dX", dX, wanted_dX, dX_bounds, dtype)
    both = fast.grads.copy()
    fast.backward(dO)
    np.testing.assert_array_equal(fast.grads, both)  # without dX they are the same

    for step in range(steps):
        x, y = batch(target, rows, int(spec[0]), units, dtype, seed=10 * step, loss=loss)
        losses = [net.train_step(x, y) for net in nets]
        compare(f"loss of step {step}", fast.train_step(x, y), slow.train_step(x, y), (losses[0], losses[1]), dtype)
        compare(f"params after step {step}", fast.params, slow.params, (nets[0].params, nets[1].params), dtype)


# Tables ------------------------------------------------------------------------------------------------


def test_tables_are_those_of_the_reference() -> None:
    assert tuple(ref.activations.ACTIVATIONS) == ACTIVATIONS
    assert tuple(ref.losses.LOSSES) == LOSSES
    assert tuple(OPTIMIZER) == OPTIMIZERS, "an optimizer here for every row of the table"
    assert all(asdict(twin(row)) == asdict(row) for row in OPTIMIZER.values())
    assert set(TARGETS) == set(LOSSES), "kinds of targets for every row of the table"


def test_error_bounds_of_functions_are_covered() -> None:
    assert 2 * max(MAX_ULP_WITHOUT_FMA.values()) <= 2 * FUNCTION_ULP + 4  # the roundings of bounds.own_roundings


# Networks ----------------------------------------------------------------------------------------------


@with_losses("row", OPTIMIZERS, ["sgd"])
@dtypes
@pytest.mark.parametrize("spec", NETS, ids=name_of)
def test_networks(spec: Spec, dtype: str, loss: str, target: str, row: str) -> None:
    steps = 1 if loss == "gaussian_nll" else 2  # after a step of 0.02 in every weight, its bound is wide
    for rows in BATCHES:
        check(spec, dtype, loss, target, OPTIMIZER[row], rows, steps)


@pytest.mark.parametrize("place", PLACES)
@with_losses("activation", EVERYWHERE, ["relu", "tanh"])
@dtypes
def test_activations_in_every_place(dtype: str, loss: str, target: str, activation: str, place: str) -> None:
    spec = tuple(part if isinstance(part, int) else part.format(activation) for part in PLACES[place])
    if loss == "binary_hinge" and activation == "softmax" and place == "single_unit":
        pytest.skip("the output is 1, where the hinge has its kink: rounding errors decide")
    if loss == "poisson" and activation in GROWING and place != "hidden":
        pytest.skip("the loss takes e to an output that may be any size")
    check(spec, dtype, loss, target, OPTIMIZER[OPTIMIZERS[0]], rows=5, steps=1 if activation in GROWING else 2)


@losses
@dtypes
def test_batch_beyond_one_reduction(dtype: str, loss: str, target: str) -> None:
    """Sums over more than 4096 rows are cut there; twice, here."""
    for optimizer in (OPTIMIZER["momentum"], fb.SGD(0.1, accumulate=2)):
        check((3, "5 relu", "2"), dtype, loss, target, optimizer, rows=2 * 4096 + 3, steps=optimizer.accumulate)


@dtypes
def test_layer_alone(dtype: str) -> None:
    for inputs, units, activation in ((3, 1, "sigmoid"), (37, 150, "tanh"), (150, 37, "softmax")):
        fast = fb.Dense(units, activation, inputs=inputs, seed=1, dtype=dtype)
        slow = ref.Dense(units, activation, inputs=inputs, seed=1, dtype="float64")
        slow.weight[...] = fast.weight
        chain = ref.Sequential([ref.Dense(units, activation, inputs=inputs, weight_init=fast.weight)], dtype="float64")
        nets = [Network(chain, Rounding(kind)) for kind in (dtype, "float64")]
        x, dO = (numbers(6, n, dtype=dtype) for n in (inputs, units))
        bounds = [net.forward(x) for net in nets]
        compare("forward", fast.forward(x), slow.forward(x.astype(np.float64)), (bounds[0], bounds[1]), dtype)
        dX = [net.backward(net.in_.exact(dO)) for net in nets]
        compare("dX", fast.backward(dO), slow.backward(dO.astype(np.float64)), (dX[0], dX[1]), dtype)
        got, wanted = (np.concatenate([layer.dweight.reshape(-1), layer.dbias]) for layer in (fast, slow))
        compare("dweight, dbias", got, wanted, (nets[0].grads, nets[1].grads), dtype)


@pytest.mark.parametrize("row", OPTIMIZERS)
@losses
@dtypes
def test_fit_and_evaluate(dtype: str, loss: str, target: str, row: str) -> None:
    """Two shuffled epochs whose last batch is smaller, then the mean loss, and the loss on all rows."""
    n, size = 19, 8
    fast, slow = pair(fitting((4, "9 tanh", "3"), loss), dtype, loss, OPTIMIZER[row])
    nets = [Network(slow, Rounding(kind)) for kind in (dtype, "float64")]
    X, y = batch(target, n, 4, 3, dtype)  # of 3 columns, also where 6 units give them
    history, wanted = (net.fit(X, y, epochs=2, batch_size=size) for net in (fast, slow))
    for epoch in range(2):
        order = permutation(slow.seed, STREAM_SHUFFLE, epoch, n)
        parts = [order[start : start + size] for start in range(0, n, size)]
        steps = [[net.train_step(X[part], y[part]) for part in parts] for net in nets]
        means = []
        for each in steps:
            error = sum(len(part) * E.error for part, E in zip(parts, each, strict=True)) / n
            means.append(Bounded(np.asarray(wanted.loss[epoch]), np.asarray(error), each[0].in_))
        compare(f"loss of epoch {epoch}", history.loss[epoch], wanted.loss[epoch], (means[0], means[1]), dtype)
    compare("params", fast.params, slow.params, (nets[0].params, nets[1].params), dtype)
    E = [bounded_loss(loss, net.forward(X), y)[0] for net in nets]
    got, right = fast.evaluate(X, y), slow.evaluate(X, y)
    compare("evaluate", got["loss"], right["loss"], (E[0], E[1]), dtype)
    assert got.keys() == right.keys()
    assert got.get("accuracy") == right.get("accuracy")


# Central differences -----------------------------------------------------------------------------------


@with_losses("activation", EVERYWHERE, ["relu", "tanh"])
def test_gradients_are_central_differences(loss: str, target: str, activation: str) -> None:
    """Of the reference's loss, by every parameter and input: fastbp's float64 gradients lie within the same bounds."""
    fast, slow = pair((3, f"5 {activation}", "tanh", "4"), "float64", loss, OPTIMIZER[OPTIMIZERS[0]])
    x, y = batch(target, 6, 3, 4, "float64", loss=loss)
    _, dO = getattr(fb.losses, loss)(fast.forward(x), y)
    dX = fast.backward(dO, inputs=True)
    assert dX is not None
    central_differences(slow, slow.params, x, y).check(fast.grads)
    central_differences(slow, x, x, y).check(dX)


@with_losses("activation", [name for name in EVERYWHERE if name not in KINKS], ["tanh"])
def test_gradients_are_central_differences_of_its_own_loss(loss: str, target: str, activation: str) -> None:
    """D(h) = (E(w + h) - E(w - h)) / 2h errs by at most |D(2h) - D(h)|, see numeric.py, and by E's error over h."""
    fast, slow = pair((3, f"4 {activation}", "3 tanh", "2"), "float64", loss, OPTIMIZER[OPTIMIZERS[0]])
    x, y = batch(target, 5, 3, 2, "float64", loss=loss)
    params = fast.params
    _, dO = getattr(fb.losses, loss)(fast.forward(x), y)
    fast.backward(dO)
    noise = bounded_loss(loss, Network(slow, Rounding("float64")).forward(x), y)[0].error
    h = np.cbrt(np.finfo(np.float64).eps)

    def difference(i: int, step: float) -> float:
        before, E, at = params[i], [], []
        for sign in (1, -1):
            params[i] = before + sign * step
            at.append(params[i])
            E.append(getattr(fb.losses, loss)(fast.predict(x), y)[0])
        params[i] = before
        return (E[0] - E[1]) / (at[0] - at[1])

    for i, gradient in enumerate(fast.grads):
        near, far = difference(i, h), difference(i, 2 * h)
        bound = abs(far - near) + 2 * noise / h  # twice: E there is not E here
        assert abs(near - gradient) <= bound
        assert bound < np.sqrt(np.finfo(np.float64).eps) * max(1, np.abs(fast.grads).max())


# The bounds themselves ---------------------------------------------------------------------------------


@dtypes
def test_a_wrong_gradient_is_noticed(dtype: str) -> None:
    fast, slow = pair((7, "13 relu", "5"), dtype, "squared_error", OPTIMIZER[OPTIMIZERS[0]])
    nets = [Network(slow, Rounding(kind)) for kind in (dtype, "float64")]
    x, y = batch("values", 33, 7, 5, dtype)
    for net in nets:
        net.train_step(x, y)
    _, dO = fb.losses.squared_error(fast.forward(x), y)
    fast.backward(dO)
    slow.train_step(x, y)
    bounds = nets[0].grads, nets[1].grads
    compare("grads", fast.grads, slow.grads, bounds, dtype)
    with pytest.raises(AssertionError, match="bounds"):
        compare("grads", fast.grads * (1 + np.finfo(dtype).eps ** (1 / 4)), slow.grads, bounds, dtype)
