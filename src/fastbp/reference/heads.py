# ruff: noqa: E741 - O is the field's letter for an output
"""Heads: each output of a network with the loss it is trained for, E = sum_k weight_k E_k."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, loss_and_gradient, real_number, reals
from fastbp.loss_settings import Weights
from fastbp.reference.activations import activation_named
from fastbp.reference.losses import Loss, Target, loss_named

UserLoss = Callable[[Array, Target], tuple[float, npt.ArrayLike]]  # (out, target) -> (loss, dout)
LossLike = str | Loss | UserLoss
PROBABILITIES = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}  # f(logits), by loss
NO_PROBABILITIES = f"predict_proba needs loss={' or '.join(map(repr, PROBABILITIES))}"
NO_WEIGHTS = "a loss of your own sees whole batches and takes no sample weights: sample_weight must be None, got weights"


@dataclass(frozen=True)
class Head:
    """An output's loss: a row of the table, or a function of the user's own; and what it counts in the sum of all."""

    loss: Loss | UserLoss
    weight: float = 1.0

    @property
    def name(self) -> str:
        """Row in the table of losses, "custom" for a function of the user's own."""
        return self.loss.row if isinstance(self.loss, Loss) else "custom"

    def target(self, y: npt.ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Target:
        """Return targets for outputs of this shape in the form that `value` knows, or raise; `name` is that of y."""
        if isinstance(self.loss, Loss):
            return self.loss.target(y, shape, dtype, name)
        T = reals(name, y)
        if T.ndim == 0 or len(T) != shape[0]:
            raise ValueError(f"{name} must have {shape[0]} rows, got shape {T.shape}")
        if len(T) == 0:
            raise ValueError(f"{name} must have at least one row, got shape {T.shape}")
        return T

    def row_weights(self, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None, name: str) -> Weights | None:
        """Return what each row counts, by its sample and its class, or raise; None if all count 1; y is called `name`."""
        if isinstance(self.loss, Loss):
            return self.loss.row_weights(y, sample_weight, name=name)
        if sample_weight is not None:
            raise ValueError(NO_WEIGHTS)
        return None

    def value(self, O: Array, T: Target, weights: Weights | None) -> tuple[float, Array]:
        """Return E and dE/dO, (m, U), both times the weight of the head; rows count as their `weights`, (m,)."""
        if isinstance(self.loss, Loss):
            E, dO = self.loss.value(O, T, weights)
        else:
            E, dO = loss_and_gradient(self.loss(O.copy(), T), O)
        return (E, dO) if self.weight == 1.0 else (self.weight * E, dO * O.dtype.type(self.weight))

    def scores(self, O: Array, T: Target, weights: Weights | None) -> dict[str, float]:
        """Return the loss, without the weight of the head, and with cross-entropy the accuracy."""
        scores = {"loss": Head(self.loss).value(O, T, weights)[0]}
        if self.name == "cross_entropy":
            labels = T if T.ndim == 1 else T.argmax(axis=1)
            scores["accuracy"] = float((O.argmax(axis=1) == labels).mean())
        return scores

    def probabilities(self, Z: Array) -> Array:
        """Return the probabilities that outputs are logits of, or raise."""
        if self.name not in PROBABILITIES:
            raise RuntimeError(f"{NO_PROBABILITIES}, got {self.name!r}")
        O = np.empty_like(Z)
        activation_named(PROBABILITIES[self.name]).forward(Z, O)
        return O


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
    several = listed and isinstance(loss, (list, tuple))
    given = list(loss) if several else [loss] * outputs  # type: ignore[arg-type]
    if len(given) != outputs:
        raise ValueError(f"loss must be one loss, or a list of {outputs}, one for each output, got {len(given)}")
    weights = [1.0] * outputs if loss_weights is None else [_loss_weight(weight) for weight in loss_weights]
    if len(weights) != outputs:
        raise ValueError(f"loss_weights must be a list of {outputs} numbers, one for each output, got {len(weights)}")
    heads = tuple(
        Head(one if callable(one) and not isinstance(one, type) else loss_named(one), weight)  # type: ignore[arg-type]
        for one, weight in zip(given, weights, strict=True)
    )
    if outputs > 1 and any(getattr(head.loss, "class_weight", None) is not None for head in heads):
        raise ValueError(f"class_weight must be None where there are several outputs, got {loss!r}")
    return heads


def _loss_weight(weight: float) -> float:
    if not 0.0 <= real_number("loss_weights", weight) < math.inf:
        raise ValueError(f"loss_weights must be at least 0 and finite, got {weight}")
    return float(weight)
