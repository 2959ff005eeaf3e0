"""Parameters written in place are seen by the next call, also where the plan keeps packed copies of weights."""

from __future__ import annotations

import numpy as np
import pytest
from cases import DTYPES, Array, assert_same_bits, numbers
from test_against_reference import name_of, network
from test_same_bits import SMALL, WIDE

import fastbp as fb

dtypes = pytest.mark.parametrize("dtype", DTYPES)
specs = pytest.mark.parametrize("spec", [SMALL, WIDE], ids=name_of)


def outcome(net: fb.Sequential, x: Array, y: Array) -> list[Array]:
    """Predict, forward, dX, gradients: none of them changes the weights."""
    out = net.forward(x)
    dX = net.backward(fb.losses.cross_entropy(out, y)[1], inputs=True)
    assert dX is not None
    return [net.predict(x), out, dX, net.grads.copy()]


def check_sees(net: fb.Sequential, spec: tuple[int | str, ...], x: Array, y: Array) -> None:
    """`net` does what a network does that never had other weights; then both train, and still agree."""
    fresh = network(fb, spec, dtype=net.dtype, loss="cross_entropy", optimizer=fb.SGD(0.1))
    fresh.params[:] = net.params
    for got, right in zip(outcome(net, x, y), outcome(fresh, x, y), strict=True):
        assert_same_bits(got, right)
    assert net.train_step(x, y) == fresh.train_step(x, y)
    assert_same_bits(net.params, fresh.params)
    for got, right in zip(outcome(net, x, y), outcome(fresh, x, y), strict=True):
        assert_same_bits(got, right)


@dtypes
@specs
def test_writing_parameters_is_seen_by_the_next_call(spec: tuple[int | str, ...], dtype: str) -> None:
    net = network(fb, spec, dtype=dtype, loss="cross_entropy", optimizer=fb.SGD(0.1))
    x, y = numbers(6, spec[0], dtype=dtype), np.arange(6) % 5
    dense = [layer for layer in net.layers if isinstance(layer, fb.Dense)]
    check_sees(net, spec, x, y)
    for layer in dense:
        layer.weight -= 0.1 * layer.dweight
        check_sees(net, spec, x, y)
        layer.bias += 1
        check_sees(net, spec, x, y)
        layer.weight[0, 0] = 3
        check_sees(net, spec, x, y)
    net.params[:] = numbers(net.params.size, seed=1)
    check_sees(net, spec, x, y)
    net.params *= 0.5
    check_sees(net, spec, x, y)
    net.params = numbers(net.params.size, seed=2)
    check_sees(net, spec, x, y)


@pytest.mark.parametrize("call", ["predict", "forward", "backward", "train_step", "fit", "update"])
@dtypes
@specs
def test_writing_between_calls_through_a_view_held_or_dropped(
    spec: tuple[int | str, ...], dtype: str, call: str
) -> None:
    """Each call is the first to see what was written.

    The twin's parameters are written alike, through a view that is never let go, so it trusts no copy of its weights.
    Only `view` touches the parameters of `net`: reading `net.params` to compare them would tell it that they changed.
    """
    x, y = numbers(6, spec[0], dtype=dtype), np.arange(6) % 5

    def make() -> fb.Sequential:
        return network(fb, spec, dtype=dtype, loss="cross_entropy", optimizer=fb.SGD(0.1))

    def results(net: fb.Sequential) -> list[Array]:
        match call:
            case "predict":
                return [net.predict(x)]
            case "forward":
                return [net.forward(x)]
            case "backward":
                dX = net.backward(np.ones((6, 5)), inputs=True)
                assert dX is not None
                return [dX, net.grads.copy()]
            case "train_step":
                return [np.float64(net.train_step(x, y)), net.predict(x)]
            case "fit":
                return [np.float64(net.fit(x, y, batch_size=4, shuffle=False).loss[0]), net.predict(x)]
        net.grads[:] = numbers(net.grads.size)
        net.update()
        return [net.predict(x)]

    dense = [i for i, layer in enumerate(make().layers) if isinstance(layer, fb.Dense)]
    for part in (*dense, None):  # of the parameters: one layer's weights, or all

        def view_of(net: fb.Sequential, part: int | None = part) -> Array:
            return net.params if part is None else net.layers[part].weight

        net, twin, view = make(), make(), None
        forever = view_of(twin)
        for hold in (True, True, False, False, True, True):
            for each in (net, twin):
                each.forward(x)  # for backward, whose copies of the weights must then be newer than forward's
            if view is None:
                view = view_of(net)
            view *= 0.5
            forever *= 0.5
            if not hold:
                view = None
            for got, wanted in zip(results(net), results(twin), strict=True):
                assert_same_bits(np.asarray(got), np.asarray(wanted), f"part {part}, view held {hold}")


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimizer", [fb.SGD(0.1), fb.SGD(0.1, momentum=0.9, max_norm=0.5), fb.Adam(0.01, clip_norm=0.1)])
@dtypes
def test_a_view_that_comes_and_goes_changes_no_bit(dtype: str, optimizer: fb.optimizers.Optimizer, threads: int) -> None:
    """Rows of these weights are long enough for panels, which serve while there is no view; the norm is folded into them."""
    fb.set_num_threads(threads)
    layers = [(fb.Dense, 160), (fb.BatchNorm,), (fb.Activation, "relu"), (fb.Dense, 224, "tanh"), (fb.Dense, 5)]
    net, twin = (
        fb.Sequential(
            [fb.Input(300), *(kind(*settings) for kind, *settings in layers)],
            "cross_entropy", optimizer, dtype=dtype, seed=0,
        )
        for _ in range(2)
    )  # fmt: skip
    x, y = numbers(40, 300, dtype=dtype), np.arange(40) % 5
    view = None
    for step, held in enumerate([0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0]):
        view = net.params if held else None
        assert net.train_step(x, y) == twin.train_step(x, y)
        if step % 3 == 1:
            view = None if held else net.params
        assert_same_bits(net.predict(x), twin.predict(x), step)
    del view
    assert_same_bits(net.params, twin.params)


@dtypes
def test_layer_alone_sees_what_is_written(dtype: str) -> None:
    layer = fb.Dense(150, "tanh", inputs=9, seed=0, dtype=dtype)
    x, dO = numbers(5, 9, dtype=dtype), numbers(5, 150, dtype=dtype)
    view = layer.weight
    for _ in range(3):
        layer.forward(x)
        layer.backward(dO)
        view -= np.array(0.1, dtype) * layer.dweight
        fresh = fb.Dense(150, "tanh", inputs=9, weight_init=layer.weight, dtype=dtype)
        assert_same_bits(layer.forward(x), fresh.forward(x))
        assert_same_bits(layer.backward(dO), fresh.backward(dO))
        assert_same_bits(layer.dweight, fresh.dweight)
