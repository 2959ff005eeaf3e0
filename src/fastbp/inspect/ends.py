"""How a pass through a network ends: in the losses of its outputs, or in gradients that are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, loss_and_gradient
from fastbp.inspect.copies import as_plan_takes
from fastbp.losses import Loss
from fastbp.network import Network

Ending = Callable[[list[Array]], tuple[float, list[Array]]]  # outputs -> E, and dE/dO of each


def ending_of(
    net: Network, x: list[Array], y: Any = None, dout: Any = None, sample_weight: npt.ArrayLike | None = None
) -> Ending:
    """Return what turns the outputs for inputs x into E and its gradients.

    With targets y, E is the network's loss, the sum over its outputs; with `dout`, or neither, E = sum dout * O, ones if left
    out, whose gradient dout is.
    """
    if y is None:
        if sample_weight is not None:
            raise ValueError("sample_weight must come with y, got no y")
        return _given(net, dout)
    if dout is not None:
        raise ValueError("dout must be None where y is given, from which it follows, got both")
    if not net._heads:
        raise RuntimeError("the network has no loss: pass loss= to it, or dout instead of y")
    targets = net._data.y("y", y)
    net._data.check(net.plan, as_plan_takes(x), targets, "x", "y")
    targets = targets if len(net.outputs) > 1 else [targets]

    def losses(outs: list[Array]) -> tuple[float, list[Array]]:
        E, douts = 0.0, []
        found: tuple[float, npt.ArrayLike]
        for head, out, target in zip(net._heads, outs, targets, strict=True):
            if isinstance(head.loss, Loss):
                found = head.loss(out, target, sample_weight=sample_weight)
            else:
                head.row_weights(target, sample_weight)  # raises if there are any
                found = loss_and_gradient(head.loss(out.copy(), target), out)
            E += head.weight * float(found[0])
            douts.append(np.multiply(head.weight, found[1], dtype=out.dtype))
        return E, douts

    return losses


def _given(net: Network, dout: Any) -> Ending:
    fixed = None if dout is None else net._data.y("dout", dout)
    fixed = fixed if fixed is None or len(net.outputs) > 1 else [fixed]

    def products(outs: list[Array]) -> tuple[float, list[Array]]:
        douts = [np.ones_like(out) for out in outs] if fixed is None else [np.asarray(d, outs[0].dtype) for d in fixed]
        for d, out in zip(douts, outs, strict=True):
            if d.shape != out.shape:
                raise ValueError(f"dout must have the shape of the output, {out.shape}, got {d.shape}")
        return float(sum((d * out).sum() for d, out in zip(douts, outs, strict=True))), douts

    return products
