"""The gradient check: analytic gradients beside central differences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, above_zero, boolean, positive
from fastbp.data import Arrays
from fastbp.inspect.copies import Copy, arrays_of, as_plan_takes, copy_of
from fastbp.inspect.differences import EPS, FIRST, SMALLEST, Difference, derivative, noise_of
from fastbp.inspect.ends import Ending, ending_of
from fastbp.inspect.kinks import Sides
from fastbp.inspect.text import count, short, table
from fastbp.network import Network
from fastbp.rng import checked_seed

HAIR = 16 * EPS  # of each number: what E is moved by to see its rounding errors


@dataclass(frozen=True)
class Tensor:
    """One array of parameters, or an input, in a gradient check.

    Attributes
    ----------
    name : str
        As "layers[1].weight" or "input".
    layer : str
        The layer it belongs to.
    shape : tuple of int
    checked, kinks : int
        Entries that were compared, and entries left out because every difference around them crosses a kink.
    worst : float
        Largest relative error; 0 if none was compared.
    where : tuple of int
        Its index.
    analytic, numeric : float
        The two gradients there.
    note : str
        Why nothing was compared: "frozen" or "categories"; else empty.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    checked: int = 0
    kinks: int = 0
    worst: float = 0.0
    where: tuple[int, ...] = ()
    analytic: float = math.nan
    numeric: float = math.nan
    note: str = ""

    @property
    def at(self) -> str:
        """Name and index of the worst entry."""
        return f"{self.name}[{', '.join(map(str, self.where))}]"


@dataclass(frozen=True, repr=False)
class GradientCheck:
    """What `gradcheck` found: a `Tensor` for each array of parameters and each input; printed, a table.

    Attributes
    ----------
    tensors : tuple of Tensor
    tolerance : float
    noise : float
        Bound of the rounding errors of E.
    """

    tensors: tuple[Tensor, ...]
    tolerance: float
    noise: float

    @property
    def worst(self) -> Tensor:
        """The tensor with the largest relative error."""
        return max(self.tensors, key=lambda tensor: math.inf if math.isnan(tensor.worst) else tensor.worst)

    @property
    def ok(self) -> bool:
        """Whether something was compared, and all of it agreed."""
        return any(tensor.checked for tensor in self.tensors) and self.worst.worst <= self.tolerance

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        checked, kinks = (sum(getattr(tensor, name) for tensor in self.tensors) for name in ("checked", "kinks"))
        worst, verdict = self.worst, "ok" if self.ok else "WRONG" if checked else "nothing was compared"
        lines = [f"gradient check of {count(checked, 'entry').replace('entrys', 'entries')}: {verdict}"]
        if checked:
            lines.append(f"largest relative error {worst.worst:.1e} (tolerance {self.tolerance:.0e}) at {worst.at}")
        if kinks:
            lines.append(f"{kinks:,} left out: at a kink")
        heads = ("gradient of", "layer", "shape", "checked", "at a kink", "worst error", "at", "analytic", "numeric")
        return "\n".join([*lines, "", table(heads, [_cells(tensor) for tensor in self.tensors], "<<<>>><>>")])

    __repr__ = __str__


def _cells(tensor: Tensor) -> list[str]:
    named = [tensor.name, tensor.layer, str(tensor.shape)]
    if tensor.note or not tensor.checked:
        return [*named, tensor.note or "0", str(tensor.kinks or ""), "", "", "", ""]
    where = f"[{', '.join(map(str, tensor.where))}]"
    values = [f"{value:.9g}" for value in (tensor.analytic, tensor.numeric)]
    return [*named, f"{tensor.checked:,}", str(tensor.kinks or ""), f"{tensor.worst:.1e}", where, *values]


def gradcheck(
    net: Network,
    x: Arrays,
    y: Arrays | None = None,
    *,
    dout: Arrays | None = None,
    sample_weight: npt.ArrayLike | None = None,
    samples: int | None = None,
    seed: int = 0,
    training: bool = True,
    tolerance: float = 1e-7,
    raise_error: bool = False,
) -> GradientCheck:
    """Compare dE/dt with (E(t + h) - E(t - h)) / 2h for every parameter and every input t.

    In float64, whatever the network's dtype, on a copy: the network stays as it is, its kept forward pass, its running
    statistics and its dropout included. All differences see the same dropout, that of the network's next training pass.

    Parameters
    ----------
    net : Model or Sequential
    x, y : array-like, or lists of them for several inputs or outputs
        A batch of some rows. E is the network's loss of it.
    dout : array-like, or list of them, optional
        Without y, E = sum dout * O. By default fixed random numbers: with ones, errors that cancel would not be seen, as in a
        softmax, whose outputs add up to 1.
    sample_weight : array-like, shape (m,), optional
        As for `fit`.
    samples : int, optional
        Compare so many entries of each array, a random choice that `seed` fixes. By default all.
    seed : int
        Of this choice, and of dout.
    training : bool
        Whether to check the gradient of training, or that of prediction (running statistics, no dropout).
    tolerance : float
        Largest relative error that is right.
    raise_error : bool
        Whether to raise ArithmeticError if the gradient is wrong.

    Returns
    -------
    GradientCheck
        True if all is well; its `worst` tensor says where the largest error is; printed, it is a table.

    Notes
    -----
    The differences are extrapolated, see `inspect.differences`. Of a gradient a and a difference n over steps down to h, the
    relative error is

        |a - n| / max(|a|, |n|, noise / (tolerance h), error / tolerance)

    where noise bounds the rounding errors of E, measured from values of E a hair apart, and error those of extrapolation:
    noise / h and error are what a difference cannot tell, so gradients that small are held to them. Steps are large where E is
    smooth (1/8 of the size of the numbers), and smaller where it changes too much within them, as that of a sigmoid of large
    inputs. Where one crosses a kink (of relu, maximum, hinge and the like: seen from the units concerned, not from the result),
    it is made smaller, down to where noise / h reaches `tolerance` times the largest gradient of the array; an entry around which
    even that step crosses a kink is left out and counted as "at a kink". Functions of your own are taken to be smooth.

    Frozen layers, whose gradients are 0 by definition, and inputs that are categories of an embedding are not compared.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above.
    ArithmeticError
        With `raise_error`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Input(3), fb.Dense(4, "tanh"), fb.Dense(2)], loss="cross_entropy", seed=0)
    >>> check = fb.gradcheck(net, np.linspace(-1, 1, 15).reshape(5, 3), [0, 1, 0, 1, 1])
    >>> check.ok, check.worst.worst < 1e-7, [tensor.name for tensor in check.tensors]
    (True, True, ['layers[1].weight', 'layers[1].bias', 'layers[2].weight', 'layers[2].bias', 'input'])

    A derivative that is wrong is found:

    >>> wrong = fb.Sequential([fb.Input(3), fb.Dense(4, (np.tanh, lambda z: 1 - np.tanh(z)))], seed=0)
    >>> check = fb.gradcheck(wrong, np.linspace(-1, 1, 15).reshape(5, 3))
    >>> check.ok, check.worst.worst > 0.01
    (False, True)
    """
    above_zero("tolerance", tolerance)
    generator = np.random.default_rng(checked_seed(seed))
    X = arrays_of(net, x, "float64")
    if samples is not None:
        positive("samples", samples)
    if y is None and dout is None:
        rows = len(X[0])
        douts = [generator.uniform(0.5, 1.5, (rows, value.width)) for value in net.outputs]
        dout = douts if net._data.listed else douts[0]
    ending = ending_of(net, X, y, dout, sample_weight)
    work = _Work(net, X, ending, y, boolean("training", training))
    found = []
    for tensor, values, analytic, chosen in work.tensors(net):
        if samples is not None and samples < len(chosen):
            chosen = np.sort(generator.choice(chosen, samples, replace=False))
        found.append(work.compared(tensor, values, analytic, chosen, tolerance) if len(chosen) else tensor)
    check = GradientCheck(tuple(found), tolerance, work.noise)
    if boolean("raise_error", raise_error) and not check.ok:
        raise ArithmeticError(str(check))
    return check


class _Work:
    """A network's copies and inputs: one for gradients as they are computed, one drawn apart for differences."""

    def __init__(self, net: Network, X: list[Array], ending: Ending, y: Any, training: bool) -> None:
        self.X, self.ending, self.training = X, ending, training
        self.own = copy_of(net, dtype="float64")
        self.apart = copy_of(net, dtype="float64", apart=True)
        targets = [] if y is None else [net._data.y("y", y)] if len(net.outputs) == 1 else net._data.y("y", y)
        self.sides = Sides(self.apart, net._heads if targets else (), targets)
        self.params = self.apart.plan.params()
        self.smooth = [np.ones(x.shape, np.bool_) for x in X]
        for i, columns, _ in net._data.categories:
            self.smooth[i][:, columns] = False
        douts = ending(self.run(self.own))[1]
        self.dX = [np.array(d) for d in self.own.backward(douts)]
        self.grads = self.own.plan.grads().copy()
        self.noise = self._noise()
        self.now = self.loss()[1]

    def run(self, copy: Copy) -> list[Array]:
        return copy.forward(as_plan_takes(self.X), self.training)

    def loss(self) -> tuple[float, bytes]:
        """E, and the side of each unit, for the parameters and inputs as they are now."""
        outs = self.run(self.apart)
        return self.ending(outs)[0], self.sides(outs)

    def _noise(self) -> float:
        """Move all numbers by a hair, some steps in a row, and look at E."""
        moved = [self.params, *self.X]
        before = [values.copy() for values in moved]
        masks = [np.ones(self.params.shape, np.bool_), *self.smooth]
        found = []
        for k in (*range(-4, 5), 0):
            for values, old, mask in zip(moved, before, masks, strict=True):
                values[...] = np.where(mask, old * (1 + k * HAIR), old)
            found.append(self.loss()[0])
        return noise_of(found[:-1])

    def tensors(self, net: Network) -> Iterator[tuple[Tensor, Array, Array, npt.NDArray[np.intp]]]:
        """Yield every array of parameters and every input: what it is, values, gradient, and which entries can be compared."""
        for k, layer in enumerate(net.layers):
            for name, (start, shape) in getattr(layer, "_places", {}).items():
                if getattr(type(layer), name).vector == "params":
                    part = slice(start, start + math.prod(shape))
                    values, gradient = (vector[part].reshape(shape) for vector in (self.params, self.grads))
                    tensor = Tensor(f"layers[{k}].{name}", short(layer), shape, note="" if layer.trainable else "frozen")
                    yield tensor, values, gradient, np.arange(values.size if layer.trainable else 0)
        for i, (x, dx) in enumerate(zip(self.X, self.dX, strict=True)):
            smooth = self.smooth[i]
            name = "input" if len(self.X) == 1 else f"inputs[{i}]"
            note = "" if smooth.any() else "categories"
            yield Tensor(name, repr(net.inputs[i]), x.shape, note=note), x, dx, np.flatnonzero(smooth)

    def compared(self, tensor: Tensor, values: Array, analytic: Array, chosen: npt.NDArray[np.intp], tolerance: float) -> Tensor:
        """Compare the entries `chosen` of an array of the copy."""
        flat, gradient = values.reshape(-1), analytic.reshape(-1)
        typical = math.sqrt(float(np.mean(flat**2))) or 1.0
        largest = float(np.abs(gradient[chosen]).max(initial=0.0))
        enough = self.noise / (tolerance * largest) if largest > 0 else 0.0
        checked = kinks = 0
        worst = (-1.0, 0, math.nan, math.nan)
        for i in chosen.tolist():
            a, value = float(gradient[i]), float(flat[i])
            unit = max(abs(value), typical)
            least = min(max(enough, SMALLEST * FIRST * unit), FIRST * unit)
            n = self._numeric(flat, i, FIRST * unit, least, tolerance)
            if n.kink:
                kinks += 1
                continue
            checked += 1
            scale = max(abs(a), abs(n.value), max(self.noise / n.step, n.error) / tolerance)
            error = 0.0 if a == n.value else math.nan if math.isnan(n.value) else abs(a - n.value) / scale
            if math.isnan(error) or error > worst[0]:
                worst = (error, i, a, n.value)
            if math.isnan(error):
                break
        error, i, a, value = worst
        where = tuple(int(k) for k in np.unravel_index(i, values.shape))
        found = (checked, kinks, max(error, 0.0) if checked else 0.0, where if checked else ())
        return Tensor(tensor.name, tensor.layer, tensor.shape, *found, a, value)

    def _numeric(self, flat: Array, i: int, first: float, least: float, tolerance: float) -> Difference:
        value = float(flat[i])

        def at(t: float) -> tuple[float, bytes]:
            flat[i] = t
            return self.loss()

        try:
            return derivative(at, value, self.now, first, least, self.noise, tolerance / 16)
        finally:
            flat[i] = value
