"""Calls of several networks in turn, none like the one before: what threads are told of a call is that call's alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import DTYPES, Array, assert_same_bits, integers, numbers

import fastbp as fb

ROUNDS = 12
ROWS = 300  # of the data; a step of half of them is work for several threads that no trial gives to one
CLASSES = 9
SHARED = 5e7  # operations from which on a step always has all threads

pytestmark = pytest.mark.usefixtures("keep_threads")


def networks(dtype: str) -> list[fb.Sequential]:
    chains: list[tuple[Any, list[Any]]] = [
        (fb.SGD(0.05), [fb.Input(300), fb.Dense(256, "relu")]),
        (fb.Adam(0.01), [fb.Input(120), fb.Dense(300, "tanh"), fb.Dense(200, "relu")]),
        (
            fb.SGD(0.02, 0.9, clip_norm=0.5),
            [fb.Input(120), fb.Dense(300), fb.BatchNorm(), fb.Activation("relu"), fb.Dropout(0.2), fb.Dense(200, "relu")],
        ),
        (fb.AdamW(0.01, accumulate=2), [fb.Input(500), fb.Dense(256, "relu")]),
    ]
    return [
        fb.Sequential([*layers, fb.Dense(CLASSES)], loss="cross_entropy", optimizer=optimizer, dtype=dtype, seed=5)
        for optimizer, layers in chains
    ]


def calls_in_turn(dtype: str, threads: int) -> list[Array]:
    """Losses, predictions and parameters."""
    fb.set_num_threads(threads)
    nets = networks(dtype)
    labels = np.abs(integers(ROWS, most=CLASSES - 1))
    one_hot, weights = np.eye(CLASSES)[labels], np.abs(numbers(ROWS)) + 0.1
    results: list[Array] = []
    for turn in range(ROUNDS):
        for i, net in enumerate(nets):
            start, rows = 7 * turn, 170 + 11 * ((turn + i) % 3)
            assert net.plan.operations(rows) > SHARED
            X = numbers(ROWS, net.layers[0].width, seed=turn % 2, dtype=(dtype, "float64", "float16")[(turn + i) % 3])
            part = slice(start, start + rows)
            y = (labels, one_hot)[turn % 2]
            losses = [net.train_step(X[part], y[part], *([weights[part]] if i == turn % 4 else []))]
            if turn % 5 == i:
                losses += net.fit(X, y, batch_size=rows).loss
                out = net.forward(X[part])
                net.backward(out)
                net.update()
            results += [np.array(losses), net.predict(X[: 100 + 20 * i]), net.params.copy()]
    return results


@pytest.mark.parametrize("dtype", DTYPES)
def test_calls_in_turn(dtype: str) -> None:
    wanted = calls_in_turn(dtype, 1)
    assert all(np.isfinite(array).all() for array in wanted)
    for threads in (2, 3):
        for i, (got, right) in enumerate(zip(calls_in_turn(dtype, threads), wanted, strict=True)):
            assert_same_bits(got, right, (threads, i))
