"""What is fixed once an object is made, and what cannot be copied: refused, not ignored."""

from __future__ import annotations

import copy
import pickle
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import LABELS, X

import fastbp as fb


def made(library: ModuleType) -> Any:
    layers = [library.Input(4), library.Dense(5, "tanh"), library.BatchNorm(), library.Dropout(0.5), library.Dense(3)]
    return library.Sequential(layers, "cross_entropy", library.SGD(0.1), seed=1, dtype="float64")


def test_settings_of_a_network_and_its_layers_stay(library: ModuleType) -> None:
    net, twin = made(library), made(library)
    _, dense, norm, dropout, _ = net.layers
    for what, name, value in [
        *((net, "loss", "squared_error"), (net, "dtype", "float32"), (net, "seed", 2), (net, "layers", ())),
        *((dense, "units", 9), (dense, "activation", "relu"), (dense, "inputs", 3), (dense, "seed", 0)),
        *((norm, "momentum", 0.9), (norm, "eps", 1.0), (dropout, "rate", 0.0)),
    ]:
        before = repr(getattr(what, name))
        with pytest.raises(AttributeError, match=f"^{name} of a {type(what).__name__} cannot be changed once it is made, got"):
            setattr(what, name, value)
        assert repr(getattr(what, name)) == before
    with pytest.raises(AttributeError):
        dense.in_network = False
    net.mine = dense.mine = "names of one's own"
    net.optimizer = library.SGD(0.2)
    net.optimizer = library.SGD(0.1)
    net.params *= 1.0
    dense.trainable = True
    assert net.train_step(X, LABELS) == twin.train_step(X, LABELS)
    np.testing.assert_array_equal(net.params, twin.params)


def test_settings_may_change_before(library: ModuleType) -> None:
    layer = library.Dropout(0.5)
    layer.rate = 0.0
    net = library.Sequential([library.Input(4), layer], dtype="float64")
    np.testing.assert_array_equal(net.forward(X), X)


def test_a_layer_that_was_alone_joins_a_network(library: ModuleType) -> None:
    layer = library.Dense(3, inputs=4, seed=1)
    with pytest.raises(AttributeError, match="units of a Dense"):
        layer.units = 4
    net = library.Sequential([library.Input(4), layer], dtype="float64", seed=1)
    assert layer.in_network and layer.dtype == "float64" and net.predict(X).shape == (5, 3)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, pickle.dumps], ids=lambda f: f.__name__)
def test_no_copies_of_what_holds_parameters(library: ModuleType, duplicate: Any) -> None:
    net = made(library)
    for what in (net, net.layers[1], library.Dense(3, inputs=2)):
        with pytest.raises(TypeError, match=f"a {type(what).__name__} that is made cannot be copied or pickled"):
            duplicate(what)
    assert net.fit(X, LABELS, 2).loss[1] > 0


def test_copies_of_what_holds_none(library: ModuleType) -> None:
    for what in (library.Dense(3, "tanh"), library.Dropout(0.5), library.Adam(0.1), library.losses.Huber(delta=2.0)):
        for other in (copy.deepcopy(what), pickle.loads(pickle.dumps(what))):
            assert other is not what and repr(other) == repr(what)
    net = library.Sequential([library.Input(4), copy.deepcopy(library.Dense(3))], dtype="float64")
    assert net.predict(X).shape == (5, 3)


def test_copies_of_values_are_other_values() -> None:
    x = fb.Input(1)
    (y, h), other = copy.deepcopy((x, fb.square(x))), fb.Input(1)
    again = pickle.loads(pickle.dumps(h))
    assert len({value.number for value in (x, y, h, other, again, again.inputs[0])}) == 6
    assert h.inputs[0] is y and y.number < h.number and again.inputs[0].number < again.number
    m = fb.Model([x, y, again.inputs[0]], fb.concatenate([fb.square(x), h, again]), dtype="float64")
    assert m.forward(2, 3, 4).tolist() == [[4.0, 9.0, 16.0]]
