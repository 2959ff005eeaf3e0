"""What gates have in common: a place in the network, which stays, and a pass through it, which does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.checks import Array, reals
from fastbp.reference.activations import ActivationFunction
from fastbp.values import Value


@dataclass(frozen=True, eq=False)
class Place:
    """What belongs to a gate in its network and outlives a pass.

    Attributes
    ----------
    value : Value
    f : ActivationFunction
    inputs : tuple of int
        Positions, in topological order, of the gates that give its inputs.
    W, dW : ndarray
        Parameters and their gradient: views of the flat vectors of the network, shapes as in the table; else empty.
    state : ndarray, shape (2, U)
        Of batch_norm: running mean and variance; of standardize: mean and deviation; else empty.
    values : ndarray
        C of a matmul, or the row of a constant, in the dtype of the network; else empty.
    number : int
        k, how many dropout gates come before.
    """

    value: Value
    f: ActivationFunction
    inputs: tuple[int, ...]
    W: Array
    dW: Array  # noqa: N815
    state: Array
    values: Array
    number: int = 0

    @property
    def learns(self) -> bool:
        """Whether there are parameters, and they are not frozen."""
        return self.W.size > 0 and bool(self.value.layer.trainable)


@dataclass(frozen=True)
class Run:
    """What all gates of a pass know of it: whether in training, its rows m, its dtype, what random numbers depend on."""

    training: bool
    rows: int
    dtype: np.dtype[Any]
    seed: int
    draws: int


class Gate:
    """O = f(Z) in one pass: Z and the gradients of inputs and parameters are what kinds of gates differ in, f they share."""

    forward: Callable[..., Array]  # forward(X0, X1, ...) -> Z
    spare = False  # whether Z is memory that nobody needs once O is known

    def __init__(self, place: Place, run: Run) -> None:
        self.value, self.W, self.dW, self.state = place.value, place.W, place.dW, place.state
        self.place, self.run = place, run

    def output(self, *inputs: Array) -> Array:
        """Return O = f(Z), shape (m, U), and keep what the way back needs."""
        Z, f = self.forward(*inputs), self.place.f
        self.O = self.kept = Z
        if f.name != "identity":
            self.O, self.kept = f.apply(Z if self.spare or f.wants_z else Z.copy())
        return self.O

    def delta(self, dO: Array) -> Array:
        """Return the error signal dZ = dO * f'(Z), shape (m, U)."""
        return self.place.f.delta(self.kept, dO)

    def backward(self, dZ: Array) -> tuple[Array, ...]:
        """Return the gradient of every input."""
        raise NotImplementedError

    def learn(self, dZ: Array) -> None:
        """Fill dW; W stays as it is."""

    def finish(self) -> None:
        """Change the state, when the forward pass of the whole network is over."""


def own(name: str, f: Callable[[Array], npt.ArrayLike]) -> Callable[[Array], Array]:
    """Return a function of the user's own, called `name` in messages, that raises if what it gives has not the shape of Z."""

    def checked(Z: Array) -> Array:
        result = reals(f"what {name} returns", f(Z.copy()))
        if result.shape != Z.shape:
            raise ValueError(f"{name} must return shape {Z.shape}, got {result.shape}")
        return result.astype(Z.dtype)

    return checked
