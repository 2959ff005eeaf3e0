"""Every gate, alone and among others: outputs and gradients within the bounds of rounding errors, which complex steps check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bounds import Bounded, Rounding
from cases import DTYPES, ISAS, Array
from gate_cases import AMONG, BETWEEN, CASES, ROWS, Problem
from graphs import Graph, outputs_of, widths

from fastbp.values import GATES


def test_every_gate_has_a_case() -> None:
    assert set(BETWEEN) == set(GATES)


def each(values: list[Any], one: bool) -> Any:
    return values[0] if one else values


def assert_within(got: Array, wanted: Bounded, oracle: Bounded, what: str) -> None:
    """The oracle errs by its own bound, in float64."""
    error, bound = np.abs(got - wanted.value), wanted.error + oracle.error
    assert np.all(error <= bound), f"{what}: off by {np.max(error / np.maximum(bound, oracle.in_.tiny))} bounds"


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_of(name: str, dtype: str, training: bool) -> None:
    problem = Problem(name)
    (graph, dx, dW), (oracle, exact_dx, exact_dW) = problem.graph(dtype, training), problem.graph("float64", training)
    for isa in ISAS:
        plan = problem.plan(dtype, isa)
        out = plan.forward(each(problem.x, len(problem.x) == 1), training)
        single = len(problem.outputs) == 1
        for i, o in zip(problem.outputs, [out] if single else out, strict=True):
            assert_within(o, graph.O[i], oracle.O[i], f"{isa}: output {i}")
        got = plan.backward(each([problem.douts[i] for i in problem.outputs], single), True)
        for k, d in enumerate(got):
            assert_within(d, dx[k], exact_dx[k], f"{isa}: dx[{k}]")
        assert_within(plan.grads(), dW, exact_dW, f"{isa}: grads")
        for i, n in enumerate(problem.nodes):
            if n.gate == "batch_norm" and training:
                check_running(problem, plan, graph, oracle, i)
    worst = max(float(exact_dW.error.max(initial=0)), *(float(d.error.max()) for d in exact_dx))
    assert worst < np.sqrt(Rounding("float64").u), "the bounds say nothing"


def check_running(problem: Problem, plan: Any, graph: Graph, oracle: Graph, i: int) -> None:
    """running = 0.9 running + 0.1 batch, the variance over m - 1 rows."""
    at, U = plan.state_offset(i), widths(problem.nodes)[i]
    for g in (graph, oracle):
        mean, var = g.batch[i]
        unbiased = Bounded(var.value * ROWS / (ROWS - 1), var.error * ROWS / (ROWS - 1), g.in_)
        keep, take = g.in_.constant(0.9), g.in_.constant(0.1)
        running = [keep * g.in_.exact(row) + take * new.T[0] * g.in_.constant(1.0)
                   for row, new in zip(problem.state[at : at + 2 * U].reshape(2, U), (mean, unbiased), strict=True)]  # fmt: skip
        g.S[i] = Bounded(np.vstack([r.value for r in running]), np.vstack([r.error for r in running]), g.in_)
    assert_within(plan.state()[at : at + 2 * U].reshape(2, U), graph.S[i], oracle.S[i], "running statistics")


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", BETWEEN | AMONG)
def test_the_oracle_of(name: str, training: bool) -> None:
    """Im f(x + i h) / h is the derivative to the last bits: h^2 vanishes beside 1. It has the roundings of forward alone."""
    problem, h = Problem(name), 1e-30
    graph, dx, dW = problem.graph("float64", training)

    def along(at: int, of: Callable[[Array, list[Array]], Array]) -> float:
        p, v = problem.params.astype(complex), [x.astype(complex) for x in problem.x]
        of(p, v).reshape(-1)[at] += 1j * h
        O = outputs_of(problem.nodes, p, problem.state, v, problem.kept, training)
        return float(sum((problem.douts[i] * O[i]).sum().imag for i in problem.outputs) / h)

    O = outputs_of(problem.nodes, problem.params, problem.state, problem.x, problem.kept, training)
    for i, o in enumerate(O):
        assert np.all(np.abs(o - graph.O[i].value) <= 2 * graph.O[i].error)
    for k, d in enumerate(dx):
        steps = np.array([along(at, lambda p, v, k=k: v[k]) for at in range(d.value.size)])  # type: ignore[misc]
        assert np.all(np.abs(steps.reshape(d.value.shape) - d.value) <= 2 * d.error), f"dx[{k}]"
    steps = np.array([along(at, lambda p, v: p) for at in range(problem.params.size)])
    assert np.all(np.abs(steps - dW.value) <= 2 * dW.error), "dW"
