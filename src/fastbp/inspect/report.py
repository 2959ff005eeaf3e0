"""A trace written out: the forward pass, then the backward pass, gate by gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastbp.checks import Array
from fastbp.inspect.text import count, number, numbers
from fastbp.inspect.words import ROWWISE, WHOLE, slope_of

if TYPE_CHECKING:
    from fastbp.inspect.trace import Back, Step, Trace

INDENT = " " * 7


def report(trace: Trace) -> str:
    """Return the text."""
    first = trace.steps[0].value
    width = max(len(step.name) for step in trace.steps)
    formulas = min(max(len(step.formula) for step in trace.steps), 40)
    lines = [f"forward, {count(len(first), 'row')}, {first.dtype}", ""]
    for step in trace.steps:
        lines += _forward(step, width, formulas)
    lines += ["", f"E = {number(trace.E)}, the {trace.ending}", "", "backward: d is what a gate receives, delta = dE/dZ", ""]
    for step in reversed(trace.steps):
        lines += _backward(step, trace, width)
    return "\n".join(lines)


def _said(head: str, values: Array) -> str:
    """Return "head = numbers", on lines of their own if they need several."""
    text = numbers(values, INDENT + "  ")
    return f"{head} ={'' if text.startswith(chr(10)) else ' '}{text}"


def _forward(step: Step, width: int, formulas: int) -> list[str]:
    sign = " " if step.node.gate == "constant" else "="
    name = "" if step.node.gate == "constant" else step.name
    head = f"{name:>{width}} {sign} {step.formula:<{formulas}}  {step.value.shape}"
    if step.z is None:
        text = numbers(step.value, INDENT + "  ")
        lines = [f"{head}{'' if text.startswith(chr(10)) else '  '}{text}"]
    else:
        lines = [head, _said(f"{INDENT}Z", step.z), _said(f"{INDENT}O", step.value)]
    return lines + [_said(f"{INDENT}{name} {values.shape}", values) for name, values in step.parameters.items()]


def _backward(step: Step, trace: Trace, width: int) -> list[str]:
    if step.received is None:
        return []
    users = [other.name for other in trace.steps for back in other.back if back.to == step.number]
    origin = " + ".join([f"what {name} sends" for name in users] + ["dout" for _ in {step.number} & {*trace.outputs}])
    own = "delta = " if step.z is None and step.node.gate in WHOLE else ""
    lines = [_said(f"{step.name:>{width}} receives {own}dE/d{step.name} {step.received.shape} = {origin}", step.received)]
    if step.z is not None and step.delta is not None:
        words = slope_of(step.node, "Z", "O")
        if step.node.activation in ROWWISE:
            lines.append(_said(f"{INDENT}delta = dE/dZ = {words}", step.delta))
        elif step.slope is not None:
            lines.append(_said(f"{INDENT}f'(Z) = {words}", step.slope))
            lines.append(_said(f"{INDENT}delta = dE/dZ = dE/d{step.name} * f'(Z)", step.delta))
    for back in step.back:
        lines += _sent(back, trace, "delta" if step.z is not None else "d")
    for name, gradient in step.gradients.items():
        lines.append(_said(f"{INDENT}dE/d{name} {gradient.shape}{_made(step, trace, name)}", gradient))
    return lines


def _sent(back: Back, trace: Trace, d: str) -> list[str]:
    to = f"{INDENT}to {trace.steps[back.to].name}"
    if back.sent is None:
        return [f"{to}: nothing, no gradient is asked for there"]
    if not back.elementwise:
        return [_said(f"{to} {back.sent.shape}: sends {back.words}", back.sent)]
    local = f"{to} {back.sent.shape}: local gradient {back.words}"
    if back.local is not None and not _says_it(back.words):
        local = _said(local, back.local)
    if "\n" in local or back.sent.size > 1:
        return [local, _said(f"{INDENT}   sends {d} * local gradient", back.sent)]
    return [_said(f"{local}, sends {d} * local gradient", back.sent)]


def _says_it(words: str) -> bool:
    return words.removeprefix("-").isdigit()


def _made(step: Step, trace: Trace, name: str) -> str:
    """Return how a parameter's gradient is made."""
    if step.node.gate != "dense":
        return ""
    x = trace.steps[step.back[0].to].name
    return f" = {x}^T delta" if name == "weight" else " = 1^T delta, 1 the column of ones"
