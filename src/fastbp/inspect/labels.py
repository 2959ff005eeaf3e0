"""What is written on the nodes and edges of pictures of a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastbp.checks import Array
from fastbp.inspect.text import number

if TYPE_CHECKING:
    from fastbp.inspect.trace import Step, Trace

GREEN, RED, GREY = "#1a7f37", "#c0262d", "#444444"
FEW = 3  # numbers that are all written on an edge

SYMBOLS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "maximum": "max", "minimum": "min", "concatenate": "[ ]",
}  # fmt: skip
FUNCTIONS = {"negative": "*(-1)", "reciprocal": "1/x", "square": "x^2", "identity": "=", "custom": "f"}


def node_label(step: Step) -> str:
    """Return a short name of a gate: a symbol, or two lines for a layer."""
    value = step.node
    f = FUNCTIONS.get(value.activation, value.activation)
    if value.gate in ("input", "constant"):
        return step.name
    if value.gate == "activation":
        return f"x^{value.parameter or 2:g}" if value.activation == "power" else f
    if value.gate in SYMBOLS:
        return SYMBOLS[value.gate]
    if value.gate == "slice":
        return f"[:, {value.settings[0]:g}:{value.settings[0] + value.width:g}]"
    name = value.gate.replace("_", " ")
    if value.gate in ("dense", "matmul", "embedding"):
        shape = f"{value.inputs[0].width} x {value.width}"
        return f"{name} {shape}" + (f"\n{f}" if value.activation != "identity" else "\n ")
    return f"{name}\n "


def caption(trace: Trace) -> str:
    """Return what is to be read beside a picture."""
    return f"above a line: values (of arrays shape and |norm|); below: gradients of E, the {trace.ending}"


def brief(values: Array, shape: bool = False) -> str:
    """Return a few numbers as they are, or the norm of many, between bars, after their shape."""
    if values.size == 1:
        return number(values.item())
    if values.size <= FEW:
        return "[" + " ".join(f"{value:.3g}" for value in values.reshape(-1).tolist()) + "]"
    norm = f"|{np.linalg.norm(values.astype(np.float64)):.3g}|"
    return f"{values.shape[0]}x{values.shape[1]} {norm}" if shape else norm
