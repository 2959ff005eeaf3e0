"""Memory for results that does not fit, and calls in the wrong order: refused with a sentence, nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import LABELS, X, network

import fastbp as fb
from fastbp import _fastbp_core

Array = np.ndarray[Any, Any]


# Memory for results ---------------------------------------------------------------------------------------------------


def read_only(out: Array) -> Array:
    out.flags.writeable = False
    return out


OUT: dict[str, tuple[Callable[[Array], object], type[Exception]]] = {
    "list": (lambda out: out.tolist(), TypeError),
    "memoryview": (lambda out: memoryview(out), TypeError),
    "float64": (lambda out: out.astype(np.float64), TypeError),
    "big_endian": (lambda out: out.astype(">f4"), TypeError),
    "int32": (lambda out: out.view(np.int32), TypeError),
    "too_few_rows": (lambda out: out[:-1], ValueError),
    "transposed": (lambda out: out.T, ValueError),
    "flat": (lambda out: out.reshape(-1), ValueError),
    "read_only": (read_only, ValueError),
    "fortran_order": (np.asfortranarray, ValueError),
    "strided": (lambda out: np.zeros((len(out), 6), np.float32)[:, ::2], ValueError),
    "reversed": (lambda out: out[::-1], ValueError),
    "broadcast": (lambda out: np.broadcast_to(out[:1], out.shape), ValueError),
    "unaligned": (lambda out: np.zeros(out.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(out.shape), ValueError),
}


@pytest.mark.parametrize("bad", OUT)
def test_out(bad: str) -> None:
    make, error = OUT[bad]
    net, memory = network(), np.full((5, 3), 7, np.float32)
    with pytest.raises(error, match=r"^out must .* got ") as caught:
        net.predict(X, out=make(memory))
    assert caught.type is error
    assert (memory == 7).all(), "it was written to"
    expected = network().predict(X)
    result = net.predict(X, out=(fresh := np.empty((5, 3), np.float32)))
    assert result is fresh
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("bad", ["list", "float64", "too_few_rows", "flat"])
def test_out_of_the_reference(bad: str) -> None:
    make, error = OUT[bad]
    with pytest.raises(error, match=r"^out must .* got "):
        network(fb.reference).predict(X, out=make(np.zeros((5, 3), np.float32)))


@pytest.mark.parametrize("shift", [-3, -1, 0, 1, 3, 19])
def test_out_must_not_overlap_the_input(shift: int) -> None:
    net = fb.Sequential([fb.Input(4), fb.Dense(4)], seed=0)
    memory = np.arange(60, dtype=np.float32)
    x = memory[20:40].reshape(5, 4)
    out = memory[20 + shift : 40 + shift].reshape(5, 4)
    before = memory.tobytes()
    for view in (x, x[::-1]):
        with pytest.raises(ValueError, match="out must not overlap"):
            net.predict(view, out=out)
    assert memory.tobytes() == before
    net.predict(x, out=memory[40:].reshape(5, 4))
    net.predict(x, out=memory[:20].reshape(5, 4))
    assert memory[20:40].tobytes() == before[80:160]


def test_out_must_not_overlap_the_parameters() -> None:
    net = fb.Sequential([fb.Input(4), fb.Dense(4)], seed=0)
    twin = fb.Sequential([fb.Input(4), fb.Dense(4)], seed=0)
    for out in (net.layers[1].weight, net.params[4:].reshape(4, 4)):
        with pytest.raises(ValueError, match="out must not overlap the parameters"):
            net.predict(X[:4], out=out)
    np.testing.assert_array_equal(net.params, twin.params)
    with pytest.raises(ValueError, match="out must not overlap"):
        net.predict(net.layers[1].weight, out=net.layers[1].weight)


@pytest.mark.parametrize("which", ["params", "grads"])
def test_training_inputs_must_not_overlap_the_parameters(which: str) -> None:
    """One thread would read what another changes."""
    net, other = network(), network()
    view = getattr(net, which)[: 4 * (len(net.params) // 4)].reshape(-1, 4)
    labels = np.zeros(len(view), np.int64)
    before = net.params.copy()
    for call in (lambda: net.train_step(view, labels), lambda: net.fit(view[::2, ::-1], labels[::2])):
        with pytest.raises(ValueError, match="must not overlap the parameters or their gradients"):
            call()
    np.testing.assert_array_equal(net.params, before)
    net.predict(view)
    other.train_step(view, labels)
    net.train_step(view.copy(), labels)


def test_an_order_in_the_other_byte_order() -> None:
    order = np.arange(len(X)).astype(np.dtype(np.int64).newbyteorder())
    with pytest.raises(ValueError, match="order must be a contiguous int64 vector"):
        network().plan.train_epoch(X, LABELS, order, 2)


# Calls of the hot path, which take their arguments apart by themselves ------------------------------------------------


@pytest.mark.parametrize("call", [_fastbp_core.train_step, _fastbp_core.predict])
def test_calls_of_the_core(call: Callable[..., Any]) -> None:
    wanted = 4 if call is _fastbp_core.train_step else 3
    for count in (0, wanted - 1, wanted + 1):
        with pytest.raises(TypeError, match=f"{call.__name__} takes {wanted} arguments, got {count}"):
            call(*[None] * count)
    with pytest.raises(TypeError, match="Plan"):
        call(*[X] * wanted)
    with pytest.raises(TypeError, match="keyword"):
        call(plan=X)


# In the wrong order ---------------------------------------------------------------------------------------------------


def test_backward_needs_forward(library: ModuleType) -> None:
    for used, width in (
        (network(library), 3),
        (library.Dense(3, inputs=4, seed=0), 3),
        (library.Activation("relu"), 4),
    ):
        with pytest.raises(RuntimeError, match="backward needs a forward pass before it"):
            used.backward(np.zeros((5, width)))
        used.forward(X)
        used.backward(np.zeros((5, width)))
        with pytest.raises(ValueError, match="dout"):
            used.backward(np.zeros((4, width)))


@pytest.mark.parametrize("train", ["train_step", "fit"])
def test_training_uses_up_what_forward_kept(train: str) -> None:
    net = network()
    net.forward(X)
    getattr(net, train)(X, LABELS)
    before = net.grads.tobytes()
    with pytest.raises(RuntimeError, match="backward needs a forward pass before it"):
        net.backward(np.zeros((5, 3)))
    assert net.grads.tobytes() == before


def test_predict_and_infer_leave_what_forward_kept(library: ModuleType) -> None:
    net, activation = network(library), library.Activation("tanh")
    activation.forward(X)
    net.forward(X)
    net.predict(X[:2])
    activation.infer(X[:2])
    activation.infer(X[:, :2].astype(np.float32))
    with pytest.raises(TypeError, match="x must hold"):
        activation.forward(np.zeros((2, 7), complex))
    assert net.backward(np.ones((5, 3)), inputs=True).shape == X.shape
    twin = library.Activation("tanh")
    twin.forward(X)
    np.testing.assert_array_equal(activation.backward(np.ones_like(X)), twin.backward(np.ones_like(X)))


def test_training_needs_loss_and_optimizer(library: ModuleType) -> None:
    for missing in ("loss", "optimizer"):
        net = network(library, **{missing: None})
        for train in (net.train_step, net.fit):
            with pytest.raises(RuntimeError, match=f"no {missing}: pass {missing}="):
                train(X, LABELS)
    with pytest.raises(RuntimeError, match="pass optimizer="):
        network(library, optimizer=None).update()
    with pytest.raises(RuntimeError, match="pass loss="):
        network(library, loss=None).evaluate(X, LABELS)
    with pytest.raises(RuntimeError, match=r"predict_proba needs loss='cross_entropy' or .*, got 'squared_error'"):
        network(library, loss="squared_error").predict_proba(X)


def test_a_layer_without_inputs_has_no_weights(library: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="pass inputs="):
        library.Dense(3).forward(X)
    with pytest.raises(AttributeError, match="pass inputs="):
        _ = library.Dense(3).weight
    with pytest.raises(AttributeError, match="pass inputs="):
        library.Dense(3).weight = np.zeros((4, 3))


@pytest.mark.parametrize("name", ["weight", "params"])
def test_assignment_of_a_view_of_the_same_memory(library: ModuleType, name: str) -> None:
    layer = library.Dense(3, inputs=3, seed=0)
    net = library.Sequential([layer])
    owner: Any = layer if name == "weight" else net
    before = getattr(owner, name).copy()
    setattr(owner, name, getattr(owner, name).T if name == "weight" else getattr(owner, name)[::-1])
    np.testing.assert_array_equal(getattr(owner, name), before.T if name == "weight" else before[::-1])
