"""Graphs of every gate in NumPy, float64: forward and backward, with a bound of the rounding errors beside every number.

`Graph` computes with `Bounded` numbers (bounds.py) what a plan computes from the same nodes, parameters and state: written once,
it bounds the distance of either program to the exact result of the same formulas. `outputs_of` goes forward alone, in any dtype:
with complex numbers it checks the derivatives of `Graph` by complex steps, which cancel nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from bounds import Bounded, Rounding, activate, deactivate
from cases import Array

from fastbp import rng
from fastbp.graph import Node


def node(gate: str, *inputs: int, width: int = 0, **more: object) -> Node:
    return Node(gate, inputs, width, **more)  # type: ignore[arg-type]


def dense(below: int, units: int, activation: str = "identity", bias: int = 1) -> Node:
    return Node("dense", (below,), units, (bias,), activation=activation)


def widths(nodes: Sequence[Node]) -> list[int]:
    found: list[int] = []
    for n in nodes:
        below = [found[i] for i in n.inputs]
        found.append(n.width or (sum(below) if n.gate == "concatenate" else below[0]))
    return found


def shapes(nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """Of the parameters of every gate: rows, the bias or shift among them, and columns."""
    U = widths(nodes)
    rows = {"dense": lambda n: U[n.inputs[0]] + int(n.settings[0]), "embedding": lambda n: int(n.settings[0])}
    rows |= {"layer_norm": lambda n: 2, "batch_norm": lambda n: 2, "rms_norm": lambda n: 1}
    columns = [U[i] // (U[n.inputs[0]] if n.gate == "embedding" else 1) for i, n in enumerate(nodes)]
    return [(rows.get(n.gate, lambda n: 0)(n), columns[i]) for i, n in enumerate(nodes)]


def split(nodes: Sequence[Node], params: Array) -> list[Array]:
    """The parameters of every gate, as matrices."""
    ends = np.cumsum([rows * columns for rows, columns in shapes(nodes)])
    return [part.reshape(shape) for part, shape in zip(np.split(params, ends[:-1]), shapes(nodes), strict=True)]


def split_state(nodes: Sequence[Node], state: Array) -> list[Array]:
    """Two rows for each gate that has state."""
    sizes = [2 * U if n.gate in ("batch_norm", "standardize") else 0 for n, U in zip(nodes, widths(nodes), strict=True)]
    return [part.reshape(2, -1) for part in np.split(state, np.cumsum(sizes)[:-1])]


def masks(nodes: Sequence[Node], rows: int, seed: int, draws: int) -> list[Array]:
    """0 where a dropout drops, else 1, for every gate: its word, number r U + j, is below rate 2^32."""
    found, count = [], 0
    for n, U in zip(nodes, widths(nodes), strict=True):
        if n.gate == "dropout":
            words = rng.philox(seed, rng.STREAM_DROPOUT + count, draws, rows * U).reshape(rows, U)
            found.append((words >= np.floor(n.settings[0] * 2.0**32)).astype(float))
            count += 1
        else:
            found.append(np.ones((1, 1)))
    return found


def outputs_of(
    nodes: Sequence[Node], params: Array, state: Array, x: Sequence[Array], kept: Sequence[Array], training: bool
) -> list[Array]:
    """O of every gate; no rounding is bounded, any dtype is taken."""
    W, S, waiting, O = split(nodes, params), split_state(nodes, state), list(x), []
    for i, n in enumerate(nodes):
        a = [O[k] for k in n.inputs]
        match n.gate:
            case "input":
                z = waiting.pop(0)
            case "constant":
                z = np.repeat(np.atleast_2d(n.values), len(x[0]), axis=0)
            case "dense":
                z = a[0] @ W[i][:-1] + W[i][-1] if n.settings[0] else a[0] @ W[i]
            case "matmul":
                z = a[0] @ n.values
            case "add" | "subtract" | "multiply" | "divide":
                z = getattr(np, n.gate)(*a)
            case "maximum" | "minimum":  # of the real parts, for complex steps
                z = np.where((a[0].real > a[1].real) == (n.gate == "maximum"), a[0], a[1])
            case "concatenate":
                z = np.hstack(a)
            case "slice":
                z = a[0][:, int(n.settings[0]) : int(n.settings[0]) + n.width]
            case "dropout":
                z = a[0] * kept[i] / (1 - n.settings[0]) if training else a[0]
            case "layer_norm" | "rms_norm" | "batch_norm":
                axis = 0 if n.gate == "batch_norm" else 1
                mean = a[0].mean(axis=axis, keepdims=True) if n.gate != "rms_norm" else 0
                var = ((a[0] - mean) ** 2).mean(axis=axis, keepdims=True)
                if n.gate == "batch_norm" and not training:
                    mean, var = S[i]
                z = (a[0] - mean) / np.sqrt(var + n.settings[0]) * W[i][0] + (W[i][1] if n.gate != "rms_norm" else 0)
            case "embedding":
                z = W[i][a[0].real.astype(int)].reshape(len(a[0]), -1)
            case "standardize":
                z = (a[0] - S[i][0]) / S[i][1]
            case "activation":
                z = a[0]
        O.append({"identity": lambda z: z, "tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}[n.activation](z))
    return O


def mean(x: Bounded) -> Bounded:
    """Of every row, as a column."""
    return x.sum_rows() / x.in_.exact(x.value.shape[1])


class Graph:
    """One forward pass with rounding errors, and the way back from it."""

    def __init__(
        self,
        nodes: Sequence[Node],
        params: Array,
        state: Array,
        x: Sequence[Array],
        kept: Sequence[Array],
        in_: Rounding,
        training: bool = True,
    ) -> None:
        self.nodes, self.in_, self.kept, self.training, self.x = nodes, in_, kept, training, [in_.exact(v) for v in x]
        self.W = [in_.exact(part) for part in split(nodes, params)]
        self.S = [in_.exact(part) for part in split_state(nodes, state)]
        self.norm: dict[int, tuple[Bounded, Bounded]] = {}  # X^ and scale, lines of what is averaged being rows
        self.batch: dict[int, tuple[Bounded, Bounded]] = {}  # mean and variance of a batch
        self.Z: list[Bounded] = []
        self.O: list[Bounded] = []
        for i, n in enumerate(nodes):
            self.Z.append(self.forward(i, n))
            self.O.append(activate(n.activation, self.Z[i], n.parameter))

    def inputs(self, n: Node) -> list[Bounded]:
        return [self.O[i] for i in n.inputs]

    def ones(self, x: Bounded, n: Node) -> Bounded:
        """X, with the column of ones where there is a bias."""
        more = np.ones((len(x.value), int(n.settings[0])))
        return Bounded(np.hstack([x.value, more]), np.hstack([x.error, 0 * more]), self.in_)

    def factor(self, i: int, n: Node) -> Bounded:
        """0 or 1 / (1 - rate), of two roundings and that to the dtype."""
        return self.in_.exact(self.kept[i]).result(self.kept[i] / (1 - n.settings[0]), np.zeros_like(self.kept[i]), 3)

    def onehot(self, n: Node) -> list[Bounded]:
        """For every column of the categories."""
        index = self.O[n.inputs[0]].value.astype(int)
        return [self.in_.exact(np.eye(int(n.settings[0]))[column]) for column in index.T]

    def normalized(self, i: int, n: Node, x: Bounded) -> Bounded:
        """X^ of rows."""
        in_ = self.in_
        centre = Bounded(np.zeros((len(x.value), 1)), np.zeros((len(x.value), 1)), in_) if n.gate == "rms_norm" else mean(x)
        var = mean((x - centre) * (x - centre))
        if n.gate == "batch_norm":
            if not self.training:
                centre, var = self.S[i][0][:, None], self.S[i][1][:, None]
            self.batch[i] = centre, var
        scale = in_.exact(1.0).over((var + in_.constant(n.settings[0])).sqrt(), np.float64(np.sqrt(n.settings[0]) / 2))
        self.norm[i] = (x - centre) * scale, scale
        return self.norm[i][0]

    def forward(self, i: int, n: Node) -> Bounded:
        """Z of gate i."""
        a, in_ = self.inputs(n), self.in_
        match n.gate:
            case "input":
                return self.x[sum(m.gate == "input" for m in self.nodes[:i])]
            case "constant":
                return self.constant(np.repeat(np.atleast_2d(n.values), len(self.x[0].value), axis=0))
            case "dense":
                return self.ones(a[0], n) @ self.W[i]
            case "matmul":
                return a[0] @ self.constant(n.values)
            case "activation":
                return a[0]
            case "add":
                return a[0] + a[1]
            case "subtract":
                return a[0] - a[1]
            case "multiply":
                return a[0] * a[1]
            case "divide":
                return a[0] / a[1]
            case "maximum" | "minimum":
                value = getattr(np, n.gate)(a[0].value, a[1].value)
                return Bounded(value, np.maximum(a[0].error, a[1].error), in_)
            case "concatenate":
                return Bounded(np.hstack([v.value for v in a]), np.hstack([v.error for v in a]), in_)
            case "slice":
                return a[0][:, self.columns(n)]
            case "dropout":
                return a[0] * self.factor(i, n) if self.training else a[0]
            case "layer_norm" | "rms_norm":
                z = self.normalized(i, n, a[0]) * self.W[i][0]
                return z if n.gate == "rms_norm" else z + self.W[i][1]
            case "batch_norm":
                return self.normalized(i, n, a[0].T).T * self.W[i][0] + self.W[i][1]
            case "embedding":
                parts = [hot @ self.W[i] for hot in self.onehot(n)]
                return Bounded(np.hstack([v.value for v in parts]), np.zeros_like(np.hstack([v.error for v in parts])), in_)
            case "standardize":
                return (a[0] - self.S[i][0]) / self.S[i][1]
        raise KeyError(f"no bounds for the gate {n.gate!r}")

    def constant(self, values: Array) -> Bounded:
        return Bounded(values, self.in_.u * np.abs(values), self.in_)

    @staticmethod
    def columns(n: Node) -> slice:
        return slice(int(n.settings[0]), int(n.settings[0]) + n.width)

    def share(self, n: Node, which: int) -> Bounded:
        """Of the gradient of a maximum or minimum: all, half where both are equal, or nothing."""
        a, b = self.inputs(n)[which], self.inputs(n)[1 - which]
        sign = 1 if n.gate == "maximum" else -1
        difference, error = sign * (a.value - b.value), a.error + b.error
        either = (np.abs(difference) <= error) & (error > 0)  # the program may find either to be larger
        return Bounded(np.sign(difference) / 2 + 1 / 2, 1.0 * either, self.in_)

    def backward(self, dO: dict[int, Array]) -> tuple[list[Bounded], list[Bounded]]:
        """From dE/dO of the outputs: dE/dX of the inputs, and dE/dW of every gate."""
        self.dW = [Bounded(np.zeros(shape), np.zeros(shape), self.in_) for shape in shapes(self.nodes)]
        parts: list[list[Bounded]] = [[self.in_.exact(dO[i])] if i in dO else [] for i in range(len(self.nodes))]
        dx = []
        for i in reversed(range(len(self.nodes))):
            n = self.nodes[i]
            received = reduce(Bounded.__add__, parts[i] or [self.in_.exact(np.zeros_like(self.O[i].value))])
            dZ = deactivate(n.activation, self.O[i], received, self.Z[i], n.parameter)
            if n.gate == "input":
                dx.insert(0, dZ)
            for k, sent in zip(n.inputs, self.sent(i, n, dZ), strict=True):
                parts[k].append(sent)
        return dx, self.dW

    def sent(self, i: int, n: Node, dZ: Bounded) -> list[Bounded]:
        """What each input receives of dZ."""
        a, in_, zero = self.inputs(n), self.in_, self.in_.exact(0.0)
        match n.gate:
            case "dense":
                self.dW[i] = self.ones(a[0], n).T @ dZ
                return [dZ @ self.W[i][: a[0].value.shape[1]].T]
            case "matmul":
                return [dZ @ self.constant(n.values).T]
            case "activation":
                return [dZ]
            case "add":
                return [dZ, dZ]
            case "subtract":
                return [dZ, Bounded(-dZ.value, dZ.error, in_)]
            case "multiply":
                return [dZ * a[1], dZ * a[0]]
            case "divide":
                return [dZ / a[1], zero - dZ / a[1] * (a[0] / a[1])]
            case "maximum" | "minimum":
                return [dZ * self.share(n, 0), dZ * self.share(n, 1)]
            case "concatenate":
                ends = np.cumsum([v.value.shape[1] for v in a])
                return [dZ[:, end - v.value.shape[1] : end] for end, v in zip(ends, a, strict=True)]
            case "slice":
                value, error = np.zeros_like(a[0].value), np.zeros_like(a[0].value)
                value[:, self.columns(n)], error[:, self.columns(n)] = dZ.value, dZ.error
                return [Bounded(value, error, in_)]
            case "dropout":
                return [dZ * self.factor(i, n) if self.training else dZ]
            case "layer_norm" | "rms_norm" | "batch_norm":
                return [self.sent_by_norm(i, n, dZ)]
            case "embedding":
                depth = self.W[i].value.shape[1]
                parts = [hot.T @ dZ[:, k * depth : (k + 1) * depth] for k, hot in enumerate(self.onehot(n))]
                self.dW[i] = reduce(Bounded.__add__, parts)
                return [in_.exact(np.zeros_like(a[0].value))]
            case "standardize":
                return [dZ / self.S[i][1]]
        return []

    def sent_by_norm(self, i: int, n: Node, dZ: Bounded) -> Bounded:
        """s (G - mean(G) - X^ mean(G X^)), G = gain dZ; the statistics of prediction are numbers."""
        h, scale = self.norm[i]
        columns = n.gate == "batch_norm"
        product, G = (dZ * (h.T if columns else h)).T.sum_rows().T, dZ * self.W[i][0]
        rows = [product] if n.gate == "rms_norm" else [product, dZ.T.sum_rows().T]
        self.dW[i] = Bounded(np.vstack([r.value for r in rows]), np.vstack([r.error for r in rows]), self.in_)
        if columns and not self.training:
            return (G.T * scale).T
        G = G.T if columns else G
        inner = G - h * mean(G * h)
        if n.gate != "rms_norm":
            inner = inner - mean(G)
        sent = inner * scale
        return sent.T if columns else sent


def flat(parts: Sequence[Bounded]) -> Bounded:
    """Matrices of all gates in one vector, as `params` and `grads` have them."""
    value, error = (np.concatenate([getattr(p, what).reshape(-1) for p in parts]) for what in ("value", "error"))
    return Bounded(value, error, parts[0].in_)
