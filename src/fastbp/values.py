"""Values of a graph: what a gate gives. Operators and functions on values make new gates; nothing is computed here.

A `Value` says which gate it comes from and from which values; a network compiles the values its outputs depend on. The
library and the reference share this file: a graph is the same for both.

    gate                     inputs  settings         values   parameters     Z
    input                    -
    constant                 -                        (U,)                    the same row for every row of the batch
    dense                    1       bias: 1 or 0              W (I+bias, U)  [X 1] W, or X W
    matmul                   1                        (I, U)                  X C
    activation               1                                                X
    add, subtract, multiply  2                                                X0 + X1, X0 - X1, X0 * X1
    divide                   2                                                X0 / X1
    maximum, minimum         2                                                the larger, the smaller
    concatenate              1 ...                                            [X0 X1 ...]
    slice                    1       start                                    X[:, start : start + U]
    dropout                  1       rate                                     X * mask / (1 - rate); X in prediction
    layer_norm               1       eps                       gain, shift    gain * (X - mean) / sqrt(var + eps) + shift, by row
    rms_norm                 1       eps                       gain           gain * X / sqrt(mean X^2 + eps), by row
    batch_norm               1       eps, momentum                   gain, shift    as layer_norm, by column
    embedding                1       categories                W (V, D)       [W[X0] W[X1] ...], rows of W named by X
    standardize              1                                                (X - mean) / deviation, by column

and O = f(Z) with the value's activation f, the identity unless a layer says otherwise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, positive, real_number, reals

GATES = (  # in the order of enum fbp_gate
    "input", "constant", "dense", "matmul", "activation", "add", "subtract", "multiply", "divide", "maximum", "minimum",
    "concatenate", "slice", "dropout", "layer_norm", "rms_norm", "batch_norm", "embedding", "standardize",
)  # fmt: skip

Function = tuple[Callable[[Array], npt.ArrayLike], Callable[[Array], npt.ArrayLike]]  # (f, df) of the user's own
_count = itertools.count()


class Value:
    """What a gate gives for each row: `width` numbers.

    Attributes
    ----------
    gate : str
        One of `GATES`.
    inputs : tuple of Value
        What it is computed from.
    width : int
        U, its columns.
    settings : tuple of float
        Of the gate, see the table above.
    values : ndarray or None
        Of a constant or matmul, float64.
    activation : str
        Name of f.
    parameter : float or None
        Of f; None for its usual value.
    function : pair of callables or None
        (f, df) of the user's own; the activation is then "custom".
    layer : object or None
        What owns its parameters and state.
    number : int
        Values count from 0 as they are made, so inputs have smaller numbers: sorted by number, gates are in topological order.

    Examples
    --------
    >>> import fastbp as fb
    >>> x, y = fb.Input(2), fb.Input(2)
    >>> isinstance(x, fb.Value), (x + y).gate, (x + y)[:, 0].width
    (True, 'add', 1)
    """

    __array_ufunc__ = None  # NumPy leaves `array + value` to us

    def __init__(
        self,
        gate: str,
        inputs: Sequence[Value] = (),
        width: int = 0,
        *,
        settings: Sequence[float] = (),
        values: Array | None = None,
        activation: str = "identity",
        parameter: float | None = None,
        function: Function | None = None,
        layer: Any = None,
    ) -> None:
        self.gate = gate
        self.inputs = tuple(inputs)
        self.width: int = width or self.inputs[0].width
        self.settings = tuple(settings)
        self.values = values
        self.activation = activation
        self.parameter = parameter
        self.function = function
        self.layer = layer
        self.number = next(_count)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Count a copy, or what was pickled, as a new value: after its inputs, which are there already."""
        self.__dict__.update(state)
        self.number = next(_count)

    def __add__(self, other: Operand) -> Value:
        """Return self + other."""
        return _binary("add", self, other)

    def __radd__(self, other: Operand) -> Value:
        """Return other + self."""
        return _binary("add", other, self)

    def __sub__(self, other: Operand) -> Value:
        """Return self - other."""
        return _binary("subtract", self, other)

    def __rsub__(self, other: Operand) -> Value:
        """Return other - self."""
        return _binary("subtract", other, self)

    def __mul__(self, other: Operand) -> Value:
        """Return self * other, element by element."""
        return _binary("multiply", self, other)

    def __rmul__(self, other: Operand) -> Value:
        """Return other * self, element by element."""
        return _binary("multiply", other, self)

    def __truediv__(self, other: Operand) -> Value:
        """Return self / other."""
        return _binary("divide", self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        """Return other / self."""
        return _binary("divide", other, self)

    def __neg__(self) -> Value:
        """Return -self."""
        return negative(self)

    def __pow__(self, exponent: float) -> Value:
        """Return self to a constant power."""
        return power(self, exponent)

    def __matmul__(self, matrix: npt.ArrayLike) -> Value:
        """Return self @ matrix, a constant of shape (width, U)."""
        return matmul(self, matrix)

    def __getitem__(self, index: Any) -> Value:
        """Return columns: ``x[:, 3]``, ``x[:, 2:5]``; a single column keeps two dimensions."""
        all_rows, which = index if isinstance(index, tuple) and len(index) == 2 else (None, None)
        if repr(all_rows) != repr(slice(None)) or isinstance(which, bool) or not isinstance(which, (int, np.integer, slice)):
            raise IndexError(f"index must be [:, column] or [:, from:to], got {index!r}")
        if not isinstance(which, slice) and not -self.width <= which < self.width:
            raise IndexError(f"column must be one of {self.width}, from 0 to {self.width - 1}, got {which}")
        try:
            columns = range(self.width)[which if isinstance(which, slice) else slice(which, which + 1 or None)]
        except TypeError:
            raise IndexError(f"index must be [:, column] or [:, from:to], got {index!r}") from None
        if columns.step != 1 or not columns:
            raise IndexError(f"columns must be next to each other, at least one, got {which!r} of {self.width}")
        return Value("slice", [self], len(columns), settings=[columns.start])

    __iter__ = None  # a value is not a sequence of columns

    def __repr__(self) -> str:
        """Show the gate, its width and, by their numbers, what it is computed from."""
        inputs = ", ".join(f"{value.gate}#{value.number}" for value in self.inputs)
        return f"<{self.gate}#{self.number} of width {self.width}{' from ' if inputs else ''}{inputs}>"


Operand = Value | npt.ArrayLike


def constant(values: npt.ArrayLike, width: int | None = None) -> Value:
    """Return a row of numbers that is the same for every row of a batch.

    Parameters
    ----------
    values : number or array-like, shape (width,)
        A single number is repeated `width` times.
    width : int, optional
        U; by default as many as there are numbers.

    Raises
    ------
    ValueError, TypeError
        If the shape is another one, or `values` are not real numbers.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.constant([1, 2, 3]).width, fb.constant(0.5, 3).width
    (3, 3)
    """
    row = np.atleast_1d(reals("constant", values)).astype(np.float64)
    columns = (row.size or 1) if width is None else positive("width", width)
    if row.ndim != 1 or row.size not in (1, columns):
        shape = "(columns,)" if width is None else f"({columns},)"
        raise ValueError(f"a constant must be a number or have shape {shape}, got {row.shape}")
    return Value("constant", (), columns, values=np.repeat(row, columns) if row.size == 1 else row)


def maximum(a: Operand, b: Operand) -> Value:
    """max(a, b), element by element: hands the gradient to the larger one, half to each where they are equal.

    Examples
    --------
    >>> import fastbp as fb
    >>> x, y = fb.Input(1), fb.Input(1)
    >>> m = fb.Model([x, y], fb.maximum(x, y))
    >>> m.forward(2, -1).item(), [gradient.item() for gradient in m.backward()]
    (2.0, [1.0, 0.0])
    """
    return _binary("maximum", a, b)


def minimum(a: Operand, b: Operand) -> Value:
    """min(a, b), element by element: hands the gradient to the smaller one, half to each where they are equal.

    Examples
    --------
    >>> import fastbp as fb
    >>> x = fb.Input(1)
    >>> m = fb.Model(x, fb.minimum(x, 1.0))
    >>> m.forward(2).item(), m.backward()[0].item()
    (1.0, 0.0)
    """
    return _binary("minimum", a, b)


def concatenate(values: Iterable[Value]) -> Value:
    """[X0 X1 ...]: the columns of all values, side by side.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.concatenate([fb.Input(3), fb.Input(2)]).width
    5
    """
    if not isinstance(values, Iterable):
        raise TypeError(f"values must be a sequence of values, got {values!r}")
    parts = tuple(values)
    for part in parts:
        checked("values", part)
    if not parts:
        raise ValueError("values must hold at least one value, got none")
    return Value("concatenate", parts, sum(part.width for part in parts))


def matmul(x: Value, matrix: npt.ArrayLike) -> Value:
    """X C (m, U) for a constant C (I, U); the gradient of X is dZ C^T. The same as ``x @ matrix``.

    Examples
    --------
    >>> import fastbp as fb
    >>> x = fb.Input(2)
    >>> m = fb.Model(x, fb.matmul(x, [[1, 0, 1], [0, 1, 1]]))
    >>> m.forward([[3, 4]]).tolist(), m.backward()[0].tolist()
    ([[3.0, 4.0, 7.0]], [[2.0, 2.0]])
    """
    C = reals("matrix", matrix)
    if C.ndim != 2 or C.shape[0] != checked("x", x).width or C.shape[1] == 0:
        raise ValueError(f"matrix must have shape ({x.width}, columns), got {C.shape}")
    return Value("matmul", [x], C.shape[1], values=C.astype(np.float64))


def square(x: Value) -> Value:
    """x^2; local derivative 2 x.

    Examples
    --------
    >>> import fastbp as fb
    >>> x = fb.Input(1)
    >>> m = fb.Model(x, fb.square(x))
    >>> m.forward(3).item(), m.backward()[0].item()
    (9.0, 6.0)
    """
    return gate_of("square", x)


def reciprocal(x: Value) -> Value:
    """1 / x; local derivative -1 / x^2.

    Examples
    --------
    >>> import fastbp as fb
    >>> x = fb.Input(1)
    >>> m = fb.Model(x, fb.reciprocal(x))
    >>> m.forward(2).item(), m.backward()[0].item()
    (0.5, -0.25)
    """
    return gate_of("reciprocal", x)


def exp(x: Value) -> Value:
    """e^x; local derivative e^x.

    Examples
    --------
    >>> import fastbp as fb
    >>> x = fb.Input(1)
    >>> m = fb.Model(x, fb.exp(x))
    >>> m.forward(0).item(), m.backward()[0].item()
    (1.0, 1.0)
    """
    return gate_of("exp", x)


def log(x: Value) -> Value:
    """Natural logarithm; local derivative 1 / x.

    Examples
    --------
    >>> import fastbp as fb
    >>> x = fb.Input(1)
    >>> m = fb.Model(x, fb.log(x))
    >>> m.forward(1).item(), m.backward()[0].item()
    (0.0, 1.0)
    """
    return gate_of("log", x)


def negative(x: Value) -> Value:
    """-x; local derivative -1.

    Examples
    --------
    >>> import fastbp as fb
    >>> x = fb.Input(1)
    >>> m = fb.Model(x, fb.negative(x))
    >>> m.forward(3).item(), m.backward()[0].item()
    (-3.0, -1.0)
    """
    return gate_of("negative", x)


def power(x: Value, exponent: float) -> Value:
    """x^p for a constant p; local derivative p x^(p-1). Not a number where x < 0 and p is not whole.

    Examples
    --------
    >>> import fastbp as fb
    >>> x = fb.Input(1)
    >>> m = fb.Model(x, fb.power(x, 3))
    >>> m.forward(1).item(), m.backward()[0].item()
    (1.0, 3.0)
    """
    p = real_number("exponent", exponent)
    if not math.isfinite(p):
        raise ValueError(f"exponent must be finite, got {p}")
    return gate_of("power", x, p)


def gate_of(activation: str, x: Value, parameter: float | None = None) -> Value:
    """Return an activation as a gate of its own, O = f(X)."""
    return Value("activation", [checked("x", x)], activation=activation, parameter=parameter)


def checked(name: str, value: Value) -> Value:
    """Return `value`, or raise TypeError if it is not one."""
    if not isinstance(value, Value):
        raise TypeError(f"{name} must be a value of a graph, as Input(3) or what a layer returns, got {value!r}")
    return value


def in_order(outputs: Iterable[Value]) -> list[Value]:
    """Return all values that `outputs` depend on, and these, each once, after all it is computed from."""
    seen: dict[int, Value] = {}
    waiting = list(outputs)
    while waiting:
        value = waiting.pop()
        if value.number not in seen:
            seen[value.number] = value
            waiting.extend(value.inputs)
    return [seen[number] for number in sorted(seen)]


def _binary(gate: str, a: Operand, b: Operand) -> Value:
    """Return a gate of two inputs; numbers become constants, and a single column is repeated under a wider value."""
    width = max((value.width for value in (a, b) if isinstance(value, Value)), default=0)
    if width == 0:
        raise TypeError(f"{gate} needs a value of a graph, as Input(3) or what a layer returns, got {a!r} and {b!r}")
    inputs = []
    for operand in (a, b):
        value = operand if isinstance(operand, Value) else constant(operand, width)
        if value.width == 1 < width:
            value = matmul(value, np.ones((1, width)))
        if value.width != width:
            raise ValueError(f"{gate} needs values of the same width, or of width 1, got {width} and {value.width}")
        inputs.append(value)
    return Value(gate, inputs, width)
