"""What optimizers of the library and of the reference share: the ranges of their numbers, and how they are shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from fastbp.checks import real_number


def _not_negative(name: str, value: float) -> None:
    """0 <= value < infinity; `not`, here and below, makes NaN fail too."""
    if not 0.0 <= real_number(name, value) < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value}")


def _fraction(name: str, value: float) -> None:
    if not 0.0 <= real_number(name, value) < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")


def _above_zero(name: str, value: float) -> None:
    if not 0.0 < real_number(name, value) < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")


def _boolean(name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


CHECKS: dict[str, Callable[[str, Any], object]] = {
    "learning_rate": _not_negative,
    "momentum": _fraction,
    "nesterov": _boolean,
    "beta1": _fraction,
    "beta2": _fraction,
    "alpha": _fraction,
    "eps": _above_zero,
}


@dataclass(frozen=True, repr=False)
class Settings:
    """The numbers of an optimizer: fields of a subclass, each with its row in `CHECKS`."""

    def __post_init__(self) -> None:
        """Check every number."""
        for field in fields(self):
            CHECKS[field.name](field.name, getattr(self, field.name))

    def __repr__(self) -> str:
        """Show the call that makes it: the first number, and those that are not the default ones."""
        first, *others = fields(self)
        shown = [first, *(field for field in others if getattr(self, field.name) != field.default)]
        return f"{type(self).__name__}({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in shown)})"
