"""What gates do for each other in a step (csrc/plan/fuse.c) shows in no bit: by hand, each works for itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from cases import DTYPES, ISAS, Array, assert_same_bits, integers, numbers
from graphs import widths
from skips import FORMS, skipping

import fastbp as fb
from fastbp import _fastbp_core as core
from fastbp.graph import Node, Objective, compile_graph

LOSS = core.LOSSES.index("squared_error")
ACTIVATIONS = ("identity", "relu", "tanh", "gelu", "softmax")


def compiled(nodes: list[Node], dtype: str, isa: str, outputs: Sequence[int] = ()) -> Any:
    outputs = [*outputs, len(nodes) - 1]
    losses = [Objective("squared_error")] * len(outputs)
    plan = compile_graph(nodes, outputs, dtype=dtype, losses=losses, optimizer="momentum", seed=1, isa=isa)
    plan.set_hyper(0.1, 0.9)
    plan.params()[:] = numbers(plan.parameters, seed=4) / 4
    return plan


def check(
    nodes: list[Node], rows: int, dtype: str, isa: str, frozen: Sequence[int] = (), outputs: Sequence[int] = ()
) -> None:
    """Two steps, and the same by hand; predictions of one node at a time, and of all at once."""
    x = numbers(rows, nodes[0].width, seed=1, dtype=dtype)
    y = [numbers(rows, widths(nodes)[g], seed=2 + g, dtype=dtype) for g in (*outputs, len(nodes) - 1)]
    step, hand = (compiled(nodes, dtype, isa, outputs) for _ in range(2))
    for g in frozen:
        step.set_trainable(g, False)
        hand.set_trainable(g, False)
    for _ in range(2):
        step.train_step(x, y if outputs else y[0])
        out = hand.forward(x, True)
        douts = [core.loss_gradient(LOSS, o, t)[1] for o, t in zip(out if outputs else [out], y, strict=True)]
        hand.backward(douts if outputs else douts[0], False)
        hand.update()
    assert_same_bits(step.params(), hand.params(), "parameters")
    assert_same_bits(step.state(), hand.state(), "state")
    out = hand.forward(x, False)
    folds = any(n.gate == "batch_norm" for n in nodes)  # into the weights before, in prediction: other roundings
    if not folds:
        for one, other in zip(step.predict(x), out, strict=True):
            assert_same_bits(one, other, "prediction")
    for g, value in enumerate(step.predict(x, nodes=list(range(len(nodes))))):
        assert_same_bits(step.predict(x, nodes=[g])[0], value, f"node {g}")
        if not folds:
            assert_same_bits(hand.value(g), value, f"node {g} by hand")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("f", ACTIVATIONS)
@pytest.mark.parametrize("form", FORMS)
def test_a_step_is_what_is_done_by_hand(form: str, f: str, dtype: str) -> None:
    isas = itertools.cycle(ISAS)
    for n, rows, blocks in ((1, 3, 2), (5, 1, 3), (16, 15, 2), (33, 14, 3), (64, 29, 1), (70, 31, 2)):
        for isa in (next(isas), next(isas)):
            check(skipping(FORMS[form], blocks, n, f), rows, dtype, isa)


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("f", ["relu", "tanh"])
@pytest.mark.parametrize("form", FORMS)
def test_steps_in_company(form: str, f: str) -> None:
    """Short ones: alone, together, then either. Together, products take lines from the other core that gates may share."""
    nodes, rows = skipping(FORMS[form], 2, 70, f), 61
    x, y = numbers(rows, 70, seed=1, dtype="float32"), numbers(rows, widths(nodes)[-1], seed=2, dtype="float32")
    plans = [compiled(nodes, "float32", ISAS[0]) for _ in range(3)]
    for threads, plan in enumerate(plans, start=1):
        fb.set_num_threads(threads)
        plan.set_hyper(1e-3, 0.9)
        for _ in range(30):
            plan.train_step(x, y)
        assert np.isfinite(plan.params()).all()
        assert_same_bits(plan.params(), plans[0].params(), threads)
        assert_same_bits(plan.state(), plans[0].state(), threads)


@pytest.mark.parametrize("form", FORMS)
def test_more_columns_than_a_block_of_a_product_has(form: str) -> None:
    """Its chains go on from what was stored: that of a sum from where the sum goes."""
    check(skipping(FORMS[form], 1, 1100, "relu"), 20, "float32", ISAS[0])


@pytest.mark.parametrize("form", FORMS)
def test_frozen_gates(form: str) -> None:
    """What they would hand on is not made."""
    nodes = skipping(FORMS[form], 3, 17, "relu")
    gates = [g for g, n in enumerate(nodes) if n.gate == "dense"]
    for frozen in (gates[:1], gates[:3], gates[-2:-1], gates[:-1]):
        check(nodes, 9, "float32", ISAS[0], frozen)


@pytest.mark.parametrize("f", ["relu", "identity", "tanh"])
@pytest.mark.parametrize("form", FORMS)
def test_gates_that_are_outputs_as_well(form: str, f: str) -> None:
    nodes = skipping(FORMS[form], 2, 18, f)
    for g in range(1, len(nodes) - 1):
        check(nodes, 15, "float32", ISAS[0], outputs=[g])


@pytest.mark.parametrize("form", FORMS)
def test_values_by_hand_are_those_of_each_gate(form: str) -> None:
    """After a step, in which gates share memory."""
    for f in ("relu", "identity"):
        nodes = skipping(FORMS[form], 2, 9, f)
        if not {n.gate for n in nodes} <= {"input", "dense", "activation", "add"}:
            continue
        plan = compiled(nodes, "float64", ISAS[0])
        plan.params()[:] = integers(plan.parameters, most=2)
        x = integers(7, 9, most=3).astype(float)
        plan.train_step(x, np.zeros((7, 3)))
        plan.params()[:] = integers(plan.parameters, most=2)
        plan.forward(x)
        found: list[Array] = []
        at = 0
        for n in nodes:
            below = [found[i] for i in n.inputs]
            if n.gate == "input":
                Z = x
            elif n.gate == "dense":
                rows = below[0].shape[1]
                W = plan.params()[at : at + (rows + int(n.settings[0])) * n.width].reshape(-1, n.width)
                at += W.size
                Z = below[0] @ W[:rows] + W[rows:].sum(axis=0)
            else:
                Z = below[0] + below[1] if n.gate == "add" else below[0]
            found.append(np.maximum(Z, 0) if n.activation == "relu" else Z)
        for g, value in enumerate(found):
            np.testing.assert_array_equal(plan.value(g), value, f"node {g}")
        for value, got in zip(found, plan.predict(x, nodes=list(range(len(nodes)))), strict=True):
            np.testing.assert_array_equal(got, value)
