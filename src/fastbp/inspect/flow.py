"""How the gradient flows: layer by layer, how large activations, error signals and gradients are, and which units are stuck."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array
from fastbp.data import Arrays
from fastbp.graph import Node
from fastbp.inspect.copies import Copy, arrays_of, as_plan_takes, copy_of
from fastbp.inspect.curves import plot_flow
from fastbp.inspect.ends import ending_of
from fastbp.inspect.local import slope
from fastbp.inspect.text import short, table
from fastbp.inspect.words import ROWWISE
from fastbp.network import Network

VANISHED = 1e-3  # the error signal of the first layer with weights, to that of the last: below this, gradients vanish,
EXPLODED = 1e3  # above this, they explode
AGAINST_VANISHING = "relu or tanh, other initial weights, norms or ways around (Residual) help"
AGAINST_EXPLODING = "smaller initial weights, norms or clip_norm help"
MANY = 0.5  # share of units above which there is a warning

FLAT = 1e-2  # where f' is below this share of its largest value, f'(0), a unit is saturated
SATURATE = ("sigmoid", "tanh", "softsign", "hard_sigmoid")
DIE = ("relu", "relu6", "hard_sigmoid", "hard_swish")  # f' = 0 over a half-line: a unit that is there for all rows does not learn


@dataclass(frozen=True)
class LayerFlow:
    """One gate with parameters or an activation.

    Attributes
    ----------
    number : int
        Of the gate, as in `summary`.
    name : str
    activation, delta : float
        Root mean square of O, and of dE/dZ, over rows and units; delta is NaN where nothing asks for it.
    weight, bias : float
        Norms of dE/dweight (or of a norm's gain) and dE/dbias (shift); NaN where there are none.
    saturated : float
        Share of O, over rows and units, where |f'(Z)| is below 1/100 of its largest value; NaN unless f is sigmoid, tanh,
        softsign or hard_sigmoid.
    dead : float
        Share of units with f'(Z) = 0 for every row; NaN unless f is relu, relu6, hard_sigmoid or hard_swish.
    weighs : bool
        Whether it has weights.
    """

    number: int
    name: str
    activation: float
    delta: float
    weight: float
    bias: float
    saturated: float
    dead: float
    weighs: bool


@dataclass(frozen=True, repr=False)
class GradientFlow:
    """What `gradient_flow` found; printed, a table and warnings.

    Attributes
    ----------
    layers : tuple of LayerFlow
        From the input to the output.
    ratio : float
        Root mean square of delta in the first layer with weights, by that in the last; NaN with fewer than two.
    warnings : tuple of str
        What is wrong, in words; empty if nothing is.
    """

    layers: tuple[LayerFlow, ...]
    ratio: float
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        heads = ("", "layer", "activation", "delta", "|dW|", "|db|", "saturated", "dead")
        rows = [
            [str(layer.number), layer.name]
            + [_cell(value, ".2e") for value in (layer.activation, layer.delta, layer.weight, layer.bias)]
            + [_cell(value, ".0%") for value in (layer.saturated, layer.dead)]
            for layer in self.layers
        ]
        words = "activation, delta: root mean squares of O and of dE/dZ; |dW|, |db|: norms of gradients; shares of O, of units"
        verdict = list(self.warnings) or ["nothing vanishes, nothing explodes"]
        return "\n".join([table(heads, rows, "><>>>>>>"), "", words, "", *verdict])

    __repr__ = __str__

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw all of it, layer by layer; `path` as for `Trace.plot`. Returns the matplotlib figure."""
        return plot_flow(self, path)


def gradient_flow(
    net: Network,
    X: Arrays,
    y: Arrays | None = None,
    *,
    dout: Arrays | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> GradientFlow:
    """Measure one forward and one backward pass, layer by layer; say in words whether gradients vanish or explode.

    In training mode, on a copy: the network stays as it is. Gradients vanish where the root mean square of the error signal
    dE/dZ in the first layer with weights is less than 1/1000 of that in the last, and explode where it is more than 1000 times
    that. There is a warning, too, where half of the units of a layer or more are saturated or dead, see
    `inspect.flow.LayerFlow`, and where numbers are not finite.

    Parameters
    ----------
    net : Model or Sequential
    X, y : array-like, or lists of them for several inputs or outputs
        A batch; a few hundred rows tell enough.
    dout : array-like, or list of them, optional
        Without y: dE/dO, by default ones.
    sample_weight : array-like, shape (m,), optional
        As for `fit`.

    Returns
    -------
    GradientFlow
        Printed, a table; ``plot()`` draws it.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        If an argument is not as above, or the network has no loss for y.

    References
    ----------
    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    Examples
    --------
    Ten layers of sigmoids:

    >>> import numpy as np
    >>> import fastbp as fb
    >>> X = np.linspace(-1, 1, 40).reshape(10, 4)
    >>> layers = [fb.Dense(16, "sigmoid") for _ in range(10)]
    >>> deep = fb.Sequential([fb.Input(4), *layers, fb.Dense(2)], loss="cross_entropy", seed=0)
    >>> flow = fb.gradient_flow(deep, X, [0, 1] * 5)
    >>> flow.ratio < 1e-3, flow.warnings[0][:16]
    (True, 'gradients vanish')
    """
    inputs = arrays_of(net, X)
    copy = copy_of(net, apart=True)
    outs = copy.forward(as_plan_takes(inputs))
    _, douts = ending_of(net, inputs, y, dout, sample_weight)(outs)
    copy.backward([np.asarray(d, net.dtype) for d in douts])
    layers = tuple(
        _measured(net, copy, i)
        for i, node in enumerate(copy.nodes)
        if node.activation != "identity" or getattr(net._values[i].layer, "_places", None)
    )
    weighing = [layer for layer in layers if layer.weighs]
    ratio = math.nan
    if len(weighing) > 1:
        first, last = weighing[0].delta, weighing[-1].delta
        ratio = first / last if last > 0 else math.nan
    return GradientFlow(layers, ratio, tuple(_warnings(layers, weighing, ratio)))


def _measured(net: Network, copy: Copy, i: int) -> LayerFlow:
    node, place, value = copy.nodes[i], copy.places[i], net._values[i]
    gradients = {}
    for name, (start, shape) in getattr(value.layer, "_places", {}).items():
        if getattr(type(value.layer), name).vector == "params":
            gradients[name] = copy.plan.grads()[start : start + math.prod(shape)]
    saturated, dead = _stuck(node, copy.plan.value(place.z))
    return LayerFlow(
        i,
        node.activation if value.layer is None else short(value.layer),
        _rms(copy.plan.value(place.end)),
        _rms(copy.gradient(place.z)),
        _norm(gradients.get("weight", gradients.get("gain"))),
        _norm(gradients.get("bias", gradients.get("shift"))),
        saturated,
        dead,
        "weight" in gradients,
    )


def _stuck(node: Node, Z: Array) -> tuple[float, float]:
    """Return the shares of saturated outputs and of dead units."""
    if node.activation in ROWWISE or node.activation not in (*SATURATE, *DIE):
        return math.nan, math.nan
    df = np.abs(slope(node, Z))
    most = float(slope(node, np.zeros((1, 1), Z.dtype))[0, 0])
    saturated = float((df < FLAT * most).mean()) if node.activation in SATURATE else math.nan
    dead = float((df == 0).all(axis=0).mean()) if node.activation in DIE else math.nan
    return saturated, dead


def _warnings(layers: Sequence[LayerFlow], weighing: Sequence[LayerFlow], ratio: float) -> list[str]:
    found = []
    for layer in layers:
        if not math.isfinite(layer.activation) or math.isinf(layer.delta):
            found.append(f"numbers are not finite from layer {layer.number} on, {layer.name}")
            break
    if ratio < VANISHED:
        found.append(f"gradients vanish: {_compared(weighing)}; {AGAINST_VANISHING}")
    elif ratio > EXPLODED:
        found.append(f"gradients explode: {_compared(weighing)}; {AGAINST_EXPLODING}")
    for layer in layers:
        name = f"layer {layer.number}, {layer.name}"
        if layer.saturated >= MANY:
            found.append(f"saturated: {layer.saturated:.0%} of the outputs of {name}")
        if layer.dead >= MANY:
            found.append(f"dead: {layer.dead:.0%} of the units of {name}: their slope is 0 for every row, they do not learn")
    return found


def _compared(weighing: Sequence[LayerFlow]) -> str:
    first, last = weighing[0], weighing[-1]
    return f"the error signal is {last.delta:.1e} in layer {last.number} and {first.delta:.1e} in layer {first.number}"


def _rms(values: Array | None) -> float:
    """Root mean square, without overflow in float32."""
    return math.nan if values is None else math.sqrt(float(np.mean(np.square(values, dtype=np.float64))))


def _norm(values: Array | None) -> float:
    return math.nan if values is None else float(np.linalg.norm(values.astype(np.float64)))


def _cell(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
