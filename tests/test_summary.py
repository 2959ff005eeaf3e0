"""The table of a network: its sums are those of the plan, its shapes those of the arrays."""

from __future__ import annotations

import re

import pytest
from sample_networks import all_gates, rows

import fastbp as fb


def cells(net: fb.Model) -> list[dict[str, str]]:
    """The lines of the table, by head."""
    lines = str(net.summary()).splitlines()[2:]
    heads = [(match.group(), match.start(), match.end()) for match in re.finditer(r"\S+(?: \S+)*", lines[0])]
    found = []
    for line in lines[1 : lines.index("")]:
        words = [(match.group(), match.start(), match.end()) for match in re.finditer(r"\S+(?: \S+)*", line)]
        row = {}
        for word, start, end in words:
            near = [head for head, first, last in heads if start < last and end > first]
            row[near[0] if near else ""] = word
        found.append(row)
    return found


def count(text: str) -> int:
    return int(text.replace(",", "").removesuffix(" frozen")) if text else 0


def test_sums_are_those_of_the_plan() -> None:
    net, *_ = all_gates()
    rows_of = cells(net)
    assert len(rows_of) == net.plan.nodes
    assert sum(count(row.get("parameters", "")) for row in rows_of) == net.plan.parameters
    assert sum(count(row.get("operations", "")) for row in rows_of) == net.plan.operations(1)


def test_shapes() -> None:
    layers = [fb.Input(3), fb.Standardize(), fb.Dense(8, "relu"), fb.BatchNorm(), fb.Dense(5, bias=False), fb.Dropout(0.5)]
    net = fb.Sequential(layers, optimizer=fb.Adam(), loss="cross_entropy")
    table = cells(net)
    assert [row["gate"] for row in table] == ["input", "standardize", "dense", "batch_norm", "dense", "dropout"]
    assert [row["Z, O, delta"] for row in table] == [f"(m, {units})" for units in (3, 3, 8, 8, 5, 5)]
    dense, norm, plain = table[2], table[3], table[4]
    assert dense["W with bias row"] == "(3+1, 8)" and dense["f"] == "relu" and dense["of"] == "1"
    assert norm["W with bias row"] == "gain, shift, running_mean, running_var (8,)"
    assert plain["W with bias row"] == "(8, 5)" and plain["parameters"] == "40"
    assert dense["memory"] == f"{4 * 32 * 4} B"  # weights, gradients, and Adam's two means, float32


@pytest.mark.parametrize("frozen", [(), (1,), (1, 2), (2,), (1, 2, 3)])
def test_frozen_layers_cost_less(frozen: tuple[int, ...]) -> None:
    net = fb.Sequential([fb.Input(3), fb.Dense(8, "relu"), fb.Dense(5), fb.Dense(2)], loss="cross_entropy")
    for k in frozen:
        net.layers[k].trainable = False
    table = cells(net)
    assert [row.get("parameters", "").endswith("frozen") for row in table] == [k in frozen for k in range(4)]
    assert sum(count(row.get("operations", "")) for row in table) == net.plan.operations(1)
    trained = sum(net.layers[k].weight.size + net.layers[k].bias.size for k in (1, 2, 3) if k not in frozen)
    assert f"{trained} trained, {net.plan.parameters - trained} frozen" in net.summary()


def test_it_shows_itself() -> None:
    net = fb.Sequential([fb.Input(3), fb.Dense(2, fb.Activation("leaky_relu", 0.1))], seed=0)
    summary = net.summary()
    assert isinstance(summary, str) and repr(summary) == str(summary) == summary
    assert "leaky_relu(0.1)" in summary and repr(net) in summary
    net.predict(rows(2, 3))
    assert "held now, in float32" in net.summary()
