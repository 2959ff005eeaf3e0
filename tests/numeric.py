"""Central differences with an error bound: the check of the oracle, free of tuned tolerances.

For E(theta) along one parameter, with step h,

    D(h) = (E(theta + h) - E(theta - h)) / (2h) = E' + h**2/6 E''' + O(h**4)

errs in two ways, and both are bounded from quantities at hand:

- truncation: D(2h) - D(h) = h**2/2 E''' + O(h**4), three times the leading term of the error of D(h), so
  |D(2h) - D(h)| bounds it with room for the higher terms;
- rounding: with |computed E - E| <= noise, D(h) errs by at most noise / h. `noise` comes from a running error
  analysis: the forward pass again, with a bound of its error carried beside every number (`rounding_noise`).

    |D(h) - E'| <= |D(2h) - D(h)| + noise / h

h = eps**(1/3) max(1, |theta|) makes both of the order eps**(2/3). The rounding errors of the gradient under
test, a few eps relative to its terms, are thousands of times smaller than noise / h, which therefore covers
them.

Some functions have kinks (`KINKS`), and so have some losses. A parameter for which any unit of them, or any element of the
loss, changes side between theta - 2h and theta + 2h is left out, by looking at the units, not at the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from bounds import Rounding
from loss_bounds import bounded_loss
from network_bounds import Network

import fastbp.reference as ref

Array = npt.NDArray[Any]
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Differences:
    """Central differences of one vector of parameters, their error bounds, and which of them are usable."""

    gradient: Array
    bound: Array
    smooth: npt.NDArray[np.bool_]
    loss: float

    def check(self, gradient: Array) -> None:
        """Assert that `gradient` is the derivative, within the bounds."""
        gradient = gradient.reshape(-1)
        error = np.abs(gradient - self.gradient)[self.smooth]
        bound = self.bound[self.smooth]
        assert len(bound) > len(gradient) / 2, "most parameters lie at a kink: nothing was tested"
        assert np.all(error <= bound), f"off by {np.max(error / bound)} bounds"
        # Not vacuous: h is chosen for bounds of eps**(2/3), and eps**(1/2) leaves them a factor of 400.
        assert bound.max() < np.sqrt(EPS) * max(1.0, np.abs(gradient).max(), self.loss), f"bound is {bound.max()}"


def central_differences(net: ref.Sequential, theta: Array, x: Array, y: npt.ArrayLike) -> Differences:
    """Differentiate the loss of `net` (float64) on a batch by `theta`: `net.params`, or `x` itself.

    `theta` is changed in place, and restored.
    """
    return differences(lambda: loss_and_sides(net, x, y), theta, rounding_noise(net, x, y))


def differences(evaluate: Callable[[], tuple[float, bytes]], theta: Array, noise: float) -> Differences:
    """Differentiate by `theta` the number that `evaluate` returns, beside the sides of kinks it is on; it errs by `noise`."""
    flat = theta.reshape(-1)
    assert np.shares_memory(flat, theta)
    gradient, bound = np.empty(flat.size), np.empty(flat.size)
    smooth = np.empty(flat.size, np.bool_)
    loss, side = evaluate()
    for i, value in enumerate(flat.tolist()):
        h = np.cbrt(EPS) * max(1.0, abs(value))
        E: dict[int, float] = {}
        smooth[i] = True
        for k in (-2, -1, 1, 2):
            flat[i] = value + k * h
            E[k], side_k = evaluate()
            smooth[i] &= side_k == side
        near = (E[1] - E[-1]) / ((value + h) - (value - h))  # the steps as they were rounded
        far = (E[2] - E[-2]) / ((value + 2 * h) - (value - 2 * h))
        gradient[i], bound[i] = near, abs(far - near) + noise / h
        flat[i] = value
    return Differences(gradient, bound, smooth, loss)


# Where f' jumps, or f''.
KINKS = {
    "relu": (0,), "leaky_relu": (0,), "elu": (0,), "selu": (0,), "softsign": (0,), "relu6": (0, 6), "hard_sigmoid": (-3, 3),
    "hard_swish": (-3, 3),
}  # fmt: skip


def loss_and_sides(net: ref.Sequential, x: Array, y: npt.ArrayLike) -> tuple[float, bytes]:
    """Return E, and for every unit of every function with kinks, and of the loss, between which of them it is."""
    assert net.loss is not None
    layers = [layer for layer in net.layers if not isinstance(layer, ref.Input)]
    outputs = net.predict(x, nodes=layers)
    sides, below = b"", x
    for layer, O in zip(layers, outputs, strict=True):
        Z = below @ layer.weight + layer.bias if isinstance(layer, ref.Dense) else below
        name = layer.activation if isinstance(layer, ref.Dense) else layer.name
        if name in KINKS:
            sides += np.searchsorted(KINKS[name], Z).tobytes()
        below = O
    return getattr(ref.losses, net.loss)(below, y)[0], sides + sides_of_loss(net.loss, below, np.asarray(y))


def sides_of_loss(loss: str, O: Array, y: Array, parameter: float = 1.0) -> bytes:
    """Return for every element of a loss with kinks on which side of them it is."""
    if loss in ("absolute_error", "quantile"):
        return np.sign(O - y.reshape(O.shape)).tobytes()
    if loss == "huber":
        return (np.abs(O - y.reshape(O.shape)) > parameter).tobytes()
    if loss == "binary_hinge":
        return (np.where(y.reshape(O.shape) > 0, O, -O) < parameter).tobytes()
    if loss == "hinge":
        labels = y if y.ndim == 1 else y.argmax(axis=1)
        return (O - O[np.arange(len(O)), labels][:, None] + parameter > 0).tobytes()
    return b""


def rounding_noise(net: ref.Sequential, x: Array, y: npt.ArrayLike) -> float:
    """Bound |computed E - E| by the running error analysis of bounds.py."""
    assert net.loss is not None
    return float(bounded_loss(net.loss, Network(net, Rounding("float64")).forward(x), np.asarray(y))[0].error)
