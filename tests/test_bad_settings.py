"""Bad numbers, names, sizes, layers and environment variables: refused with a sentence that names the argument."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cases import LABELS, X, network

import fastbp as fb


def refused(call: Callable[[], object], argument: str, error: type[Exception]) -> str:
    """Call, and check that exactly `error` comes, with the argument's name and what came."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert caught.type is error, f"{caught.type.__name__}: {message}"
    assert re.search(rf"(?<!\w){re.escape(argument)}(?!\w)", message), f"{argument} is not named: {message}"
    assert " got " in message, f"what came is not said: {message}"
    return message


# Numbers --------------------------------------------------------------------------------------------------------------

COUNTS: dict[str, tuple[str, Callable[[ModuleType, Any], object]]] = {
    "units": ("units", lambda lib, n: lib.Dense(n)),
    "inputs": ("inputs", lambda lib, n: lib.Dense(3, inputs=n if n is not None else "none")),
    "features": ("features", lambda lib, n: lib.Input(n)),
    "epochs": ("epochs", lambda lib, n: network(lib).fit(X, LABELS, n)),
    "batch_size": ("batch_size", lambda lib, n: network(lib).fit(X, LABELS, batch_size=n)),
    "threads": ("n", lambda lib, n: lib.set_num_threads(n)),
}
BAD_COUNTS: dict[str, tuple[object, type[Exception]]] = {
    "zero": (0, ValueError),
    "negative": (-1, ValueError),
    "most_negative": (-(2**63), ValueError),
    "below_int64": (-(2**70), ValueError),
    "2**63": (2**63, ValueError),
    "2**64": (2**64, ValueError),
    "googol": (10**100, ValueError),
    "float": (2.0, TypeError),
    "nan": (float("nan"), TypeError),
    "numpy_float": (np.float32(2), TypeError),
    "bool": (True, TypeError),
    "numpy_bool": (np.True_, TypeError),
    "string": ("2", TypeError),
    "none": (None, TypeError),
    "list": ([2], TypeError),
    "array": (np.array([2]), TypeError),
}


@pytest.mark.parametrize("bad", BAD_COUNTS)
@pytest.mark.parametrize("place", COUNTS)
def test_counts(library: ModuleType, place: str, bad: str) -> None:
    argument, use = COUNTS[place]
    value, error = BAD_COUNTS[bad]
    threads = library.get_num_threads()
    refused(lambda: use(library, value), argument, error)
    assert library.get_num_threads() == threads


def test_one_thread_more_than_there_can_be(library: ModuleType) -> None:
    refused(lambda: library.set_num_threads(257), "n", ValueError)


@pytest.mark.parametrize("bad", BAD_COUNTS)
def test_threads_of_the_peak(bad: str) -> None:
    value, error = BAD_COUNTS[bad]
    refused(lambda: fb.runtime.fma_peak(threads=value), "threads", error)


def test_settings_of_the_peak() -> None:
    refused(lambda: fb.runtime.fma_peak(threads=257), "threads", ValueError)
    refused(lambda: fb.runtime.fma_peak(dtype="float16"), "dtype", ValueError)


@pytest.mark.parametrize("value", [np.int8(2), np.uint64(2), np.int64(2)], ids=["int8", "uint64", "int64"])
def test_numpy_integers_are_counts(library: ModuleType, value: Any) -> None:
    net = library.Sequential([library.Input(value), library.Dense(value)], "cross_entropy", library.SGD(), seed=0)
    assert len(net.fit(np.ones((4, 2)), [0, 1, 0, 1], value, batch_size=value)) == 2


def test_a_batch_larger_than_the_data_is_the_data(library: ModuleType) -> None:
    whole, huge = network(library), network(library)
    whole.fit(X, LABELS, 2, batch_size=len(X))
    huge.fit(X, LABELS, 2, batch_size=2**63 - 1)
    np.testing.assert_array_equal(whole.params, huge.params)


SIZES = {
    "product_2**80": (2**40, 2**40),
    "product_2**64": (2**32, 2**32),
    "product_2**63": (2**32, 2**31),
    "address_space": (2**45, 8),
    "many_units": (1, 2**62),
    "many_inputs": (2**62, 1),
    "largest": (2**63 - 1, 2**63 - 1),
    "plus_one_overflows": (2**63 - 1, 1),
    "bytes_overflow": (2**61 - 1, 1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_sizes_beyond_any_memory(size: str, dtype: str) -> None:
    inputs, units = SIZES[size]
    for make in (
        lambda: fb.Dense(units, inputs=inputs, dtype=dtype),
        lambda: network(dtype=dtype).layers and fb.Sequential([fb.Input(inputs), fb.Dense(units)], dtype=dtype),
        lambda: fb.Sequential([fb.Input(inputs), fb.Dense(1), fb.Dense(units), fb.Dense(inputs)], dtype=dtype),
    ):
        with pytest.raises((ValueError, MemoryError)) as caught:
            make()
        if caught.type is ValueError:
            assert re.search(rf"units .*\b{units}\b", str(caught.value))


def test_more_rows_than_memory() -> None:
    net, twin = network(), network()
    endless = np.broadcast_to(np.zeros((1, 4), np.float32), (2**56, 4))
    for call in (net.predict, net.forward, net.predict_proba, net.layers[0] and net.predict):
        with pytest.raises((ValueError, MemoryError)):
            call(endless)
    np.testing.assert_array_equal(net.predict(X), twin.predict(X))


BAD_RATES: dict[str, tuple[object, type[Exception]]] = {
    "nan": (float("nan"), ValueError),
    "infinity": (float("inf"), ValueError),
    "negative": (-0.1, ValueError),
    "most_negative": (-float("inf"), ValueError),
    "too_large_for_a_float": (10**400, ValueError),
    "string": ("0.1", TypeError),
    "none": (None, TypeError),
    "complex": (0.1j, TypeError),
    "list": ([0.1], TypeError),
    "array": (np.array([0.1, 0.2]), TypeError),
}


@pytest.mark.parametrize("bad", BAD_RATES)
@pytest.mark.parametrize("argument", ["learning_rate", "momentum"])
def test_numbers_of_an_optimizer(library: ModuleType, argument: str, bad: str) -> None:
    value, error = BAD_RATES[bad]
    refused(lambda: library.SGD(**{argument: value}), argument, error)


def test_momentum_is_below_one(library: ModuleType) -> None:
    refused(lambda: library.SGD(0.1, momentum=1.0), "momentum", ValueError)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", float("nan"), [1], np.float64(1)], ids=repr)
def test_seeds(library: ModuleType, seed: Any) -> None:
    error = ValueError if isinstance(seed, int) else TypeError
    refused(lambda: network(library, seed=seed), "seed", error)
    refused(lambda: library.Dense(3, seed=seed), "seed", error)


# Names and things -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ReLU", "", "relu\0", "rélu", 5, b"relu", ["relu"], {"a": 1}], ids=repr)
def test_names(library: ModuleType, name: Any) -> None:
    refused(lambda: library.Dense(3, name), "activation", ValueError)
    refused(lambda: library.Activation(name), "activation", ValueError)
    refused(lambda: network(library, loss=name), "loss", ValueError if isinstance(name, str) else TypeError)
    refused(lambda: network(library, dtype=name), "dtype", ValueError)
    if isinstance(name, str):
        refused(lambda: library.Dense(3, inputs=2, weight_init=name), "weight_init", ValueError)


@pytest.mark.parametrize("argument", ["weight_init", "bias_init"])
def test_initial_values(library: ModuleType, argument: str) -> None:
    shape = (4, 3) if argument == "weight_init" else (3,)
    bad: list[tuple[object, type[Exception]]] = [
        (np.zeros((*shape, 1)), ValueError),
        (np.full(shape, np.nan), ValueError),
        ([[1.0], [1.0, 2.0]], ValueError),
        (np.full(shape, 1j), TypeError),
        (None, TypeError),
        ("normal", ValueError),
    ]
    for value, error in bad:
        given: dict[str, Any] = {argument: value}
        refused(lambda given=given: library.Dense(3, inputs=4, **given), argument, error)
        layer = library.Dense(3, **given)
        refused(lambda layer=layer: library.Sequential([library.Input(4), layer]), argument, error)


def test_layers(library: ModuleType) -> None:
    Input, Dense, Sequential = library.Input, library.Dense, library.Sequential
    twice, used = Dense(4), network(library).layers[1]
    bad: list[tuple[object, type[Exception], str]] = [
        (None, TypeError, "layers"),
        (Dense(3, inputs=4), TypeError, "layers"),
        ([], ValueError, "layers"),
        ([Input(4)], ValueError, "layers"),
        ([Dense(3)], ValueError, "layers"),
        (["relu", Dense(3)], ValueError, "layers"),
        ([Input(4), "relu", Dense(3)], TypeError, "layers"),
        ([Input(4), Input(4), Dense(3)], TypeError, "layers"),
        ([Input(4), Dense(3, inputs=5)], ValueError, "inputs"),
        ([Input(4), twice, twice], ValueError, "layer"),
        ([Input(4), used], ValueError, "layer"),
    ]
    for layers, error, argument in bad:
        refused(lambda layers=layers: Sequential(layers), argument, error)
    Sequential([Input(4), twice], seed=0).predict(X)  # a layer of a network that failed is free


@pytest.mark.parametrize("value", [0.1, "sgd", fb.SGD], ids=["number", "name", "class"])
def test_optimizer(library: ModuleType, value: Any) -> None:
    refused(lambda: network(library, optimizer=value), "optimizer", TypeError)


@pytest.mark.parametrize("value", [X, (X,), (X, LABELS, LABELS, LABELS), 5, "ab", {1, 2}], ids=lambda v: type(v).__name__)
def test_validation_data_is_two_or_three_things(library: ModuleType, value: Any) -> None:
    net, twin = network(library), network(library)
    refused(lambda: net.fit(X, LABELS, validation_data=value), "validation_data", ValueError)
    refused(lambda: net.fit(X, LABELS, callback="nonsense"), "callback", TypeError)
    np.testing.assert_array_equal(net.params, twin.params)


def test_an_assigned_optimizer_keeps_its_state() -> None:
    net = network()
    for value in (None, "sgd", fb.SGD(0.1, momentum=0.9)):
        refused(
            lambda value=value: setattr(net, "optimizer", value),
            "optimizer",
            TypeError if value == "sgd" else ValueError,
        )
    assert net.optimizer == fb.SGD(0.1)


# The environment ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nonsense", "AVX2", "avx2 ", "avx1024", "ä"])
def test_instruction_sets_that_are_not_there(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    net, twin = network(), network()
    monkeypatch.setenv("FASTBP_ISA", name)
    refused(fb.isa, "FASTBP_ISA", ValueError)
    refused(network, "FASTBP_ISA", ValueError)
    refused(lambda: fb.losses.squared_error([[1.0]], [[1.0]]), "FASTBP_ISA", ValueError)
    refused(lambda: fb.runtime.fma_peak(isa=name), "isa", ValueError)
    refused(lambda: fb.runtime.fma_peak(isa=name, threads=2), "isa", ValueError)
    net.train_step(X, LABELS)
    monkeypatch.setenv("FASTBP_ISA", "")
    twin.train_step(X, LABELS)
    np.testing.assert_array_equal(net.params, twin.params)


def test_import_with_nonsense_in_the_environment() -> None:
    nonsense = {"FASTBP_ISA": "x", "FASTBP_NUM_THREADS": "²", "OMP_NUM_THREADS": "9" * 5000}
    code = "import fastbp; print(fastbp.get_num_threads())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), **nonsense},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "256"
