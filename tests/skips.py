"""Graphs of blocks with skip connections, sums and activations of their own: where gates do work for each other."""

from __future__ import annotations

from collections.abc import Callable

from cases import numbers
from graphs import dense, node

from fastbp.graph import Node

Form = Callable[[int, int, str], list[Node]]


def act(below: int, activation: str) -> Node:
    return node("activation", below, activation=activation)


# Gates put after gate h of so many columns; the last of them goes on.
FORMS: dict[str, Form] = {
    "f(h W)": lambda h, n, f: [dense(h, n), act(h + 1, f)],
    "h + f(h W)": lambda h, n, f: [dense(h, n, f), node("add", h, h + 1)],
    "f(h W) + h": lambda h, n, f: [dense(h, n, f), node("add", h + 1, h)],
    "f(h + h W)": lambda h, n, f: [dense(h, n), node("add", h, h + 1), act(h + 2, f)],
    "h + f'(h W)": lambda h, n, f: [dense(h, n), act(h + 1, f), node("add", h + 2, h)],
    "relu(h + f(h W))": lambda h, n, f: [dense(h, n, f), node("add", h, h + 1), act(h + 2, "relu")],
    "h + f(h W1) W2": lambda h, n, f: [dense(h, n + 3, f), dense(h + 1, n), node("add", h, h + 2)],
    "f(h W1) + f(h W2)": lambda h, n, f: [dense(h, n, f), dense(h, n, f), node("add", h + 1, h + 2)],
    "f(h W1 + h W2)": lambda h, n, f: [dense(h, n), dense(h, n, bias=0), node("add", h + 2, h + 1), act(h + 3, f)],
    "h + relu(h W1) + f(h W2)": lambda h, n, f: [
        *(dense(h, n, "relu"), dense(h, n, f)),
        *(node("add", h, h + 1), node("add", h + 3, h + 2)),
    ],
    "h + norm": lambda h, n, f: [
        *(node("layer_norm", h, settings=(1e-5,), activation=f), dense(h + 1, n)),
        node("add", h, h + 2),
    ],
    "f(norm)": lambda h, n, f: [dense(h, n), node("batch_norm", h + 1, settings=(1e-5, 0.1)), act(h + 2, f)],
    "h + f(norm)": lambda h, n, f: [
        *(dense(h, n), node("batch_norm", h + 1, settings=(1e-5, 0.1)), act(h + 2, f)),
        node("add", h + 3, h),
    ],
    "h + M": lambda h, n, f: [node("matmul", h, width=n, values=numbers(n, n) / n, activation=f), node("add", h + 1, h)],
    "h + h": lambda h, n, f: [dense(h, n, f), node("add", h + 1, h + 1), act(h + 2, f)],
    "f(f(h W))": lambda h, n, f: [dense(h, n), act(h + 1, "identity"), act(h + 2, f), act(h + 3, "relu")],
    "h + (h + f(h W))": lambda h, n, f: [dense(h, n, f), node("add", h + 1, h), node("add", h + 2, h)],
    "a + b, both used again": lambda h, n, f: [
        *(dense(h, n, f), dense(h, n, f), dense(h + 1, n), dense(h + 2, n)),
        *(node("add", h + 1, h + 2), node("add", h + 5, h + 3), node("add", h + 6, h + 4)),
    ],
    "a term used twice": lambda h, n, f: [
        *(dense(h, n), act(h + 1, f), node("add", h, h + 1), dense(h + 1, n, f), node("add", h + 3, h + 4)),
        node("multiply", h + 2, h + 5),
    ],
    "another term between": lambda h, n, f: [dense(h, n), dense(h, n, f), act(h + 1, f), node("add", h + 2, h + 3)],
    "f(h + relu(h W)) as one gate": lambda h, n, f: [
        dense(h, n, "relu"),
        node("add", h, h + 1, activation="gelu" if f == "softmax" else f),
    ],
    "dropout": lambda h, n, f: [dense(h, n, f), node("dropout", h + 1, settings=(0.3,)), act(h + 2, f), node("add", h + 3, h)],
}


def skipping(form: Form, blocks: int, n: int, f: str) -> list[Node]:
    nodes = [Node("input", (), n)]
    for _ in range(blocks):
        nodes += form(len(nodes) - 1, n, f)
    return [*nodes, dense(len(nodes) - 1, 3)]
