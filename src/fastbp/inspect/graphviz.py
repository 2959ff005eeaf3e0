"""A trace as text for Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastbp.inspect.labels import GREEN, RED, brief, node_label

if TYPE_CHECKING:
    from fastbp.inspect.trace import Trace


def dot(trace: Trace) -> str:
    """Return the graph: on each edge its value and, in the second line, the gradient that comes back."""
    lines = [
        "digraph trace {",
        "  rankdir=LR; nodesep=0.5; ranksep=0.9;",
        '  node [fontname="Helvetica", fontsize=12]; edge [fontname="Helvetica", fontsize=10, color=gray40];',
    ]
    for step in trace.steps:
        source = step.node.gate in ("input", "constant")
        shape = "plaintext" if source else "box, style=rounded" if "\n" in node_label(step) else "circle"
        lines.append(f"  n{step.number} [label={_quoted(node_label(step))}, shape={shape}];")
    for step in trace.steps:
        for back in step.back:
            value = trace.steps[back.to].value
            gradient = None if back.sent is None else brief(back.sent)
            lines.append(f"  n{back.to} -> n{step.number} [{_label(brief(value, True), gradient)}];")
    for k, number in enumerate(trace.outputs):
        step = trace.steps[number]
        given = trace.douts[k]
        lines.append(f'  end{k} [label="", shape=none]; n{number} -> end{k} [{_label(brief(step.value, True), brief(given))}];')
    return "\n".join([*lines, "}"])


def _label(value: str, gradient: str | None) -> str:
    below = "" if gradient is None else f'<BR/><FONT COLOR="{RED}">{gradient}</FONT>'
    return f'label=<<FONT COLOR="{GREEN}">{value}</FONT>{below}>'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
