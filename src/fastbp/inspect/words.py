"""What gates compute, and their local gradients, in words: a, b are a gate's inputs, o is what it gives."""

from __future__ import annotations

from collections.abc import Sequence

from fastbp.values import Value

FORMULAS = {
    "input": "input",
    "dense": "[{a} 1] W",
    "matmul": "{a} C",
    "add": "{a} + {b}",
    "subtract": "{a} - {b}",
    "multiply": "{a} * {b}",
    "divide": "{a} / {b}",
    "maximum": "max({a}, {b})",
    "minimum": "min({a}, {b})",
    "dropout": "{a} * mask / (1 - rate)",
    "layer_norm": "layer_norm({a})",
    "rms_norm": "rms_norm({a})",
    "batch_norm": "batch_norm({a})",
    "embedding": "rows of W named by {a}",
    "standardize": "({a} - mean) / deviation",
}

# What goes back through a gate to each of its inputs: the factor of d = dE/dZ, for gates that work element by element ...
FACTORS = {
    "add": ("1", "1"),
    "subtract": ("1", "-1"),
    "multiply": ("{b}", "{a}"),
    "divide": ("1 / {b}", "-{a} / {b}^2"),
    "maximum": ("[{a} > {b}]", "[{b} > {a}]"),
    "minimum": ("[{a} < {b}]", "[{b} < {a}]"),
    "dropout": ("mask / (1 - rate)",),
    "standardize": ("1 / deviation",),
}

# ... and all of it for the others.
WHOLE = {
    "dense": "delta weight^T",
    "matmul": "delta C^T",
    "layer_norm": "(n - mean(n) - N mean(n N)) / s by row, n = delta gain, N the normalised {a}, s its sqrt(var + eps)",
    "batch_norm": "(n - mean(n) - N mean(n N)) / s by column, n = delta gain, N the normalised {a}, s its sqrt(var + eps)",
    "rms_norm": "(n - N mean(n N)) / s by row, n = delta gain, N the normalised {a}, s its sqrt(mean square + eps)",
    "embedding": "nothing: categories have no gradient",
    "slice": "delta in its columns, 0 in the others",
    "concatenate": "the columns of delta that came from here",
}

SLOPES = {  # f', of z and o = f(z)
    "identity": "1",
    "sigmoid": "{o} (1 - {o})",
    "tanh": "1 - {o}^2",
    "relu": "[{z} > 0]",
    "leaky_relu": "1 where {z} > 0, else the slope",
    "elu": "1 where {z} > 0, else {o} + alpha",
    "softplus": "sigmoid({z})",
    "softsign": "(1 - |{o}|)^2",
    "hard_sigmoid": "1/6 where -3 < {z} < 3, else 0",
    "relu6": "[0 < {z} < 6]",
    "exp": "{o}",
    "sin": "cos({z})",
    "square": "2 {z}",
    "reciprocal": "-{o}^2",
    "log": "1 / {z}",
    "negative": "-1",
    "power": "p {z}^(p-1)",
    "custom": "df({z})",
}
ROWWISE = {  # functions of whole rows: dE/dZ
    "softmax": "{o} (d - sum_j d_j {o}_j) by row, d what is received",
    "log_softmax": "d - e^{o} sum_j d_j by row, d what is received",
}


def formula_of(value: Value, names: Sequence[str]) -> str:
    """Return what a value is computed as, from the names of its inputs; without the activation of a layer."""
    if value.gate == "constant":
        numbers = set(value.values.tolist()) if value.values is not None else set()
        return f"{numbers.pop():g}" if len(numbers) == 1 else "constant"
    if value.gate == "activation":
        return applied(value, names[0])
    if value.gate == "concatenate":
        return f"[{' '.join(names)}]"
    if value.gate == "slice":
        start = int(value.settings[0])
        return f"{names[0]}[:, {start}:{start + value.width}]"
    text = FORMULAS[value.gate]
    if value.gate == "dense" and not value.settings[0]:
        text = "{a} W"
    return text.format(**_operands(names))


def applied(value: Value, to: str) -> str:
    """Return f(to)."""
    if value.activation == "negative":
        return f"-{to}"
    if value.activation in ("square", "power"):
        return f"{to}^{2 if value.parameter is None else format(value.parameter, 'g')}"
    if value.activation == "reciprocal":
        return f"1 / {to}"
    return f"{'f' if value.activation == 'custom' else value.activation}({to})"


def slope_of(value: Value, z: str, o: str) -> str:
    """Return f'(z); for functions of whole rows, what becomes of what is received."""
    words = ROWWISE.get(value.activation) or SLOPES.get(value.activation, f"{value.activation}'({{z}})")
    return words.format(z=z, o=o)


def back_of(value: Value, names: Sequence[str], own: str) -> list[tuple[str, bool]]:
    """Return for each input the factor of what goes back to it, True; or all that goes back, False."""
    if value.gate == "activation":
        return [(slope_of(value, names[0], own), value.activation not in ROWWISE)]
    if value.gate in WHOLE:
        return [(WHOLE[value.gate].format(**_operands(names)), False)] * len(names)
    return [(text.format(**_operands(names)), True) for text in FACTORS.get(value.gate, ())]


def _operands(names: Sequence[str]) -> dict[str, str]:
    return dict(zip("ab", names, strict=False))
