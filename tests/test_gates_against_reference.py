"""The plan beside the NumPy reference, for every row of the table of gates: the same graph, parameters, state and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bounds import Rounding
from cases import DTYPES, ISAS, Array
from gate_cases import BETWEEN, CASES, SEED, Problem
from graphs import Graph, shapes, widths

from fastbp.reference.network import Network
from fastbp.values import GATES, Value


class Bare:
    """What a network of the reference asks of a layer: here parameters are written afterwards."""

    own_seed, trainable = None, True

    def __init__(self, shape: tuple[int, int], state: tuple[int, int]) -> None:
        self.shape, self.size = shape, state

    def initial(self, inputs: int, seed: int, step: int) -> tuple[Array, Array]:
        return np.zeros(self.shape), np.zeros(self.size)

    def join(self, place: Any) -> None:
        """Nothing is kept of its place."""


def twin(problem: Problem, dtype: str) -> Network:
    """The network of the reference with the nodes of a problem."""
    values: list[Value] = []
    for n, shape, U in zip(problem.nodes, shapes(problem.nodes), widths(problem.nodes), strict=True):
        state = (2, U) if n.gate in ("batch_norm", "standardize") else (0, 0)
        layer = Bare(shape, state) if shape[0] or state[0] else None
        settings = {"settings": n.settings, "values": n.values, "activation": n.activation}
        values.append(Value(n.gate, [values[i] for i in n.inputs], U, layer=layer, **settings))
    inputs = [value for value in values if value.gate == "input"]
    network = Network(inputs, [values[i] for i in problem.outputs], np.dtype(dtype), SEED)
    network.params[:], network.state[:] = problem.params, problem.state
    return network


def test_every_gate_is_compared() -> None:
    assert set(BETWEEN) == set(GATES), "a row of the table has no graph in gate_cases.py"


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_plan_and_reference(name: str, dtype: str, training: bool) -> None:
    """Both err by the bound of their dtype at most, by which they may be apart twice."""
    problem = Problem(name)
    O, D = ([np.asarray(v, dtype) for v in values] for values in (problem.x, [problem.douts[i] for i in problem.outputs]))
    one_input, one_output = len(O) == 1, len(D) == 1
    graph, bound_dx, bound_dW = problem.graph(dtype, training)
    for isa in ISAS:
        plan, network = problem.plan(dtype, isa), twin(problem, dtype)
        out = plan.forward(O[0] if one_input else O, training)
        passed = network.forward(O, training)
        if training:
            network.finish(passed)
        for k, i in enumerate(problem.outputs):
            got = out if one_output else out[k]
            assert np.all(np.abs(got - passed.outputs[k]) <= 2 * graph.O[i].error), f"{isa}: output {i}"
        dx = plan.backward(D[0] if one_output else D, True)
        for k, (got, wanted) in enumerate(zip(dx, passed.backward(D, True), strict=True)):
            assert np.all(np.abs(got - wanted) <= 2 * bound_dx[k].error), f"{isa}: dx[{k}]"
        assert np.all(np.abs(plan.grads() - network.grads) <= 2 * bound_dW.error), f"{isa}: grads"
        assert np.all(np.abs(plan.state() - network.state) <= 2 * bound_of_state(problem, graph)), f"{isa}: state"
        assert plan.draws == network.draws == training


def bound_of_state(problem: Problem, graph: Graph) -> Array:
    """0.9 of what there was, 0.1 of the statistics of the batch: three roundings each, and what these bring with them."""
    u, parts = Rounding(graph.in_.dtype).gamma(3), []
    for i, n in enumerate(problem.nodes):
        if n.gate == "standardize":
            parts.append(np.zeros(2 * widths(problem.nodes)[i]))
        if n.gate == "batch_norm":
            before = graph.S[i].value
            mean, var = graph.batch[i]
            new = np.hstack([v.value for v in (mean, var)]).T
            error = np.hstack([v.error for v in (mean, var)]).T
            parts.append((u * (np.abs(before) + 2 * np.abs(new)) + error).reshape(-1))
    return np.concatenate(parts) if parts else np.zeros(0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_are_the_same_bits(dtype: str) -> None:
    """Over several forward passes, of several dropouts."""
    problem = Problem("dropouts")
    plan, network, x = problem.plan(dtype, ISAS[0]), twin(problem, dtype), problem.x[0].astype(dtype)
    for _ in range(3):
        plan.forward(x)
        passed = network.forward([x], True)
        network.finish(passed)
        for i in (2, 3, 5):
            np.testing.assert_array_equal(plan.value(i) == 0, passed.gates[i].O == 0)
