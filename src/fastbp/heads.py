"""Heads: each output of a network with the loss it is trained for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import losses
from fastbp.checks import Array, loss_and_gradient, real_number
from fastbp.graph import Objective
from fastbp.layers import Activation

Weights = npt.NDArray[np.float64]  # (n,), one for each row
UserLoss = Callable[[Array, npt.NDArray[np.generic]], tuple[float, npt.ArrayLike]]  # (out, target) -> (loss, dout)
LossLike = str | losses.Loss | UserLoss
PROBABILITIES = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}  # f(logits), by loss
NO_PROBABILITIES = f"predict_proba needs loss={' or '.join(map(repr, PROBABILITIES))}"
NO_WEIGHTS = "a loss of your own sees whole batches and takes no sample weights: sample_weight must be None, got weights"


@dataclass(frozen=True)
class Head:
    """An output's loss: a description, or a function of the user's own; and what it counts in the sum of all losses."""

    loss: losses.Loss | UserLoss
    weight: float = 1.0

    @property
    def name(self) -> str:
        """Row in the table of losses, "custom" for a function of the user's own."""
        return self.loss.row if isinstance(self.loss, losses.Loss) else "custom"

    @property
    def objective(self) -> Objective:
        """What a plan wants to know."""
        if isinstance(self.loss, losses.Loss):
            return Objective(self.loss.row, self.loss.parameter, self.weight)
        return Objective(self.loss, None, self.weight)

    @property
    def weighs_classes(self) -> bool:
        """Whether its classes have weights."""
        return getattr(self.loss, "class_weight", None) is not None

    def row_weights(self, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None, name: str = "y") -> Weights | None:
        """Return the weight of every row, float64 (n,), or None if all are 1; y is called `name` in messages."""
        if isinstance(self.loss, losses.Loss):
            return self.loss.row_weights(y, sample_weight, name=name)
        if sample_weight is not None:
            raise ValueError(NO_WEIGHTS)
        return None

    def scores(self, out: Array, y: npt.NDArray[np.generic], sample_weight: npt.ArrayLike | None) -> dict[str, float]:
        """Return the loss, and with cross-entropy the accuracy, of outputs for targets."""
        if not isinstance(self.loss, losses.Loss):
            self.row_weights(y, sample_weight)
            return {"loss": loss_and_gradient(self.loss(out.copy(), y), out)[0]}
        scores = {"loss": self.loss(out, y, sample_weight=sample_weight)[0]}
        if self.name == "cross_entropy":
            labels = y if y.ndim == 1 else y.argmax(axis=1)
            scores["accuracy"] = float((out.argmax(axis=1) == labels).mean())
        return scores

    def probabilities(self, out: Array) -> Array:
        """Return the probabilities that outputs are logits of."""
        if self.name not in PROBABILITIES:
            raise RuntimeError(f"{NO_PROBABILITIES}, got {self.name!r}")
        return self._to_probabilities.infer(out)

    @cached_property
    def _to_probabilities(self) -> Activation:
        """A layer that is compiled once, not for every call."""
        return Activation(PROBABILITIES[self.name])


def heads_of(
    loss: LossLike | Sequence[LossLike] | None, loss_weights: Sequence[float] | None, outputs: int, listed: bool
) -> tuple[Head, ...]:
    """Return a head for each of so many outputs; none without a loss. A single loss is that of all outputs."""
    if loss_weights is not None and not isinstance(loss_weights, Iterable):
        raise TypeError(f"loss_weights must be a list of numbers, one for each output, got {loss_weights!r}")
    if loss is None:
        if loss_weights is not None:
            raise ValueError(f"loss_weights must come with a loss, got {loss_weights!r} and no loss")
        return ()
    given: list[Any] = list(loss) if listed and isinstance(loss, (list, tuple)) else [loss] * outputs
    if len(given) != outputs:
        raise ValueError(f"loss must be one loss, or a list of {outputs}, one for each output, got {len(given)}")
    weights = [1.0] * outputs if loss_weights is None else [_loss_weight(weight) for weight in loss_weights]
    if len(weights) != outputs:
        raise ValueError(f"loss_weights must be a list of {outputs} numbers, one for each output, got {len(weights)}")
    heads = tuple(map(Head, (one if _is_function(one) else losses.loss_named(one) for one in given), weights))
    if outputs > 1 and any(head.weighs_classes for head in heads):
        raise ValueError(f"class_weight must be None where there are several outputs, got {loss!r}")
    return heads


def _is_function(loss: object) -> bool:
    return callable(loss) and not isinstance(loss, type)


def _loss_weight(weight: float) -> float:
    if not 0.0 <= real_number("loss_weights", weight) < math.inf:
        raise ValueError(f"loss_weights must be at least 0 and finite, got {weight}")
    return float(weight)
