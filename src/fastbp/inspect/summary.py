"""A network as a table: what each gate computes, the shapes of all it holds, what it costs."""

from __future__ import annotations

from fastbp.graph import Node
from fastbp.inspect.text import Text, size, table
from fastbp.layer_base import Layer, nodes_of
from fastbp.network import Network
from fastbp.values import Value

HEADS = ("", "gate", "of", "f", "Z, O, delta", "W with bias row", "parameters", "operations", "memory")
EXPLAINED = """\
Z is what a gate computes, O = f(Z), delta = dE/dZ; m rows in a batch. The bias is the last row of W: (inputs + 1, units).
operations: multiplications and additions of products, for one row, forward and back. memory: parameters, gradients, and state."""


def summary_of(net: Network) -> Text:
    """Return the table, see `Model.summary`."""
    nodes = nodes_of(net._values)
    wanted: list[bool] = []
    rows, trained, frozen, state = [], 0, 0, 0
    plan = net.plan
    item = net.dtype.itemsize
    rowwise = 2 * item * sum(value.width for value in net._values)
    for i, (value, node) in enumerate(zip(net._values, nodes, strict=True)):
        below = any(wanted[k] for k in node.inputs)
        count = _parameters(value)
        trains = node.trainable and count > 0
        wanted.append(below or trains)
        trained, frozen = trained + (count if trains else 0), frozen + (0 if trains else count)
        kept = value.layer is not None and _numbers(value.layer, "state")
        state += kept or 0
        rows.append([
            str(i),
            node.gate,
            ", ".join(map(str, node.inputs)),
            _function(value),
            f"(m, {value.width})",
            _shape(value),
            f"{count:,}{'' if trains else ' frozen'}" if count else "",
            f"{_operations(value, below, node):,}" if _operations(value, below, node) else "",
            size(item * (count * (2 + plan.slots) + (kept or 0))) if count or kept else "",
        ])  # fmt: skip
    lines = [
        f"{net!r}",
        "",
        table(HEADS, rows, "><<<<<>>>"),
        "",
        f"parameters   {trained + frozen:,}: {trained:,} trained, {frozen:,} frozen; {state:,} more numbers of state",
        f"outputs      {', '.join(str(i) for i in net._at)}",
        f"operations   {plan.operations(1):,.0f} a row in a step of training",
        f"memory       {size(plan.nbytes)} held now, in {net.dtype}; O and delta: {size(rowwise)} for each row of a batch",
        "",
        EXPLAINED,
    ]
    return Text("\n".join(lines))


def _numbers(layer: Layer, vector: str) -> int:
    """Return how many numbers of "params" or "state" a layer has."""
    names = [name for name in layer._places if getattr(type(layer), name).vector == vector]
    return sum(getattr(layer, name).size for name in names)


def _parameters(value: Value) -> int:
    return 0 if value.layer is None else _numbers(value.layer, "params")


def _function(value: Value) -> str:
    if value.activation == "identity":
        return ""
    return value.activation if value.parameter is None else f"{value.activation}({value.parameter:g})"


def _shape(value: Value) -> str:
    """Return the shape of W, or what else a gate has."""
    if value.gate == "dense":
        inputs, bias = value.inputs[0].width, bool(value.settings[0])
        return f"({inputs}{'+1' if bias else ''}, {value.width})"
    if value.gate == "matmul":
        return f"({value.inputs[0].width}, {value.width}) constant"
    if value.gate == "constant":
        return f"(1, {value.width}) constant"
    if value.layer is None:
        return ""
    shapes: dict[str, list[str]] = {}
    for name, (_, shape) in value.layer._places.items():
        shapes.setdefault(str(shape), []).append(name)
    return "; ".join(f"{', '.join(names)} {shape}" for shape, names in shapes.items())


def _operations(value: Value, below: bool, node: Node) -> int:
    """2 I U for each product: forward, dX where something below wants it, and dW."""
    if value.gate not in ("dense", "matmul"):
        return 0
    one: int = 2 * value.inputs[0].width * value.width
    return one * (1 + below + (value.gate == "dense" and node.trainable))
