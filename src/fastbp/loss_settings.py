"""What losses of the library and of the reference share: their settings, and the weights of the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastbp.checks import real_number, reals

Weights = npt.NDArray[np.float64]  # (m,), one for each row
# "balanced"; a weight for each class; or pairs (label, weight), which a mapping becomes.
ClassWeight = str | Mapping[int, float] | Sequence[float] | Sequence[tuple[int, float]] | npt.NDArray[Any] | None

RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "delta": (lambda v: 0.0 < v < math.inf, "above 0 and finite"),
    "level": (lambda v: 0.0 < v < 1.0, "above 0 and below 1"),
    "label_smoothing": (lambda v: 0.0 <= v < 1.0, "at least 0 and below 1"),
    "margin": (lambda v: 0.0 <= v < math.inf, "at least 0 and finite"),
}


@dataclass(frozen=True, repr=False, kw_only=True)
class LossSettings:
    """The number of a loss, if it has one, with its row in `RANGES`.

    Attributes
    ----------
    row : str
        Its name in the table of losses.
    """

    row: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check the number."""
        for setting in fields(self):
            if setting.name in RANGES:
                within, what = RANGES[setting.name]
                value = real_number(setting.name, getattr(self, setting.name))
                if not within(value):
                    raise ValueError(f"{setting.name} must be {what}, got {getattr(self, setting.name)}")

    @property
    def parameter(self) -> float | None:
        """The number its row takes; None if it takes none."""
        found = [float(getattr(self, setting.name)) for setting in fields(self) if setting.name in RANGES]
        return found[0] if found else None

    def row_weights(
        self, target: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None, *, name: str = "target"
    ) -> Weights | None:
        """Return the weights of the rows, sample_weight * class weight; None where all are 1.

        Parameters
        ----------
        target : array-like
            Targets of m rows; those of the whole data set, where "balanced" weights are to be those of the data.
        sample_weight : array-like, shape (m,), optional
            Finite, at least 0.
        name : str
            What `target` is called in messages.

        Returns
        -------
        ndarray, shape (m,), float64, or None

        Raises
        ------
        ValueError, TypeError
            If a weight is out of range, shapes do not fit, or class weights have no class to go by.
        """
        return None if sample_weight is None else sample_weights(sample_weight, np.shape(target)[:1])

    def __repr__(self) -> str:
        """Show the call that makes it: the settings that are not the default ones."""
        shown = [setting for setting in fields(self) if getattr(self, setting.name) != setting.default]
        return f"{type(self).__name__}({', '.join(f'{s.name}={getattr(self, s.name)!r}' for s in shown)})"


@dataclass(frozen=True, repr=False, kw_only=True)
class ClassLossSettings(LossSettings):
    """Settings of a loss whose targets are classes, which may have weights.

    Attributes
    ----------
    class_weight
        None, "balanced", a tuple of weights, or a tuple of pairs (label, weight).
    """

    one_column: ClassVar[bool] = False  # a target of one column is a class by itself, 0 or 1
    signs: ClassVar[bool] = False  # a target above 0 stands for 1, any other for 0

    class_weight: ClassWeight = field(default=None)

    def __post_init__(self) -> None:
        """Check the number, and the weights, which become a tuple."""
        super().__post_init__()
        frozen = frozen_class_weight(self.class_weight)
        if self.signs and isinstance(frozen, tuple) and isinstance(frozen[0], tuple):
            frozen = tuple((max(label, 0), weight) for label, weight in frozen)  # the negative class may be called -1
        object.__setattr__(self, "class_weight", frozen)

    def row_weights(
        self, target: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None, *, name: str = "target"
    ) -> Weights | None:
        """Return sample_weight * class weight of each row, see `LossSettings`; None where all are 1.

        With class weights, targets must be integer labels, one-hot rows, or, in a binary loss, one column. "balanced" is
        m / (classes * count of the row's class), as scikit-learn has it, counting the classes that occur; a class that a
        mapping leaves out weighs 1.
        """
        given = super().row_weights(target, sample_weight, name=name)
        if self.class_weight is None:
            return given
        found = class_weights(self.class_weight, self._classes(target, name), name)
        return found if given is None else checked_weights("sample_weight", given * found)

    def _classes(self, target: npt.ArrayLike, name: str) -> npt.NDArray[np.intp]:
        T = reals(name, target)
        if T.ndim == 1 and T.dtype.kind != "f" and not self.one_column:
            return T.astype(np.intp)
        hot = T > 0
        exact = self.signs or bool((hot == T).all())
        if exact and self.one_column and (T.ndim == 1 or (T.ndim == 2 and T.shape[1] == 1)):
            return hot.reshape(-1).astype(np.intp)
        if not exact or T.ndim != 2 or not (hot.sum(axis=1) == 1).all():
            raise ValueError(f"class_weight needs {name} to hold integer labels or one-hot rows, got {T.dtype} {T.shape}")
        labels: npt.NDArray[np.intp] = hot.argmax(axis=1)
        return labels


def sample_weights(value: npt.ArrayLike, shape: tuple[int, ...]) -> Weights:
    """Return weights of rows as float64 of that shape, or raise."""
    weights = reals("sample_weight", value).astype(np.float64)
    if weights.shape != shape:
        raise ValueError(f"sample_weight must have shape {shape}, got {weights.shape}")
    return checked_weights("sample_weight", weights)


def checked_weights(name: str, weights: Weights) -> Weights:
    """Return weights if they, and their sum, are finite and none is negative, or raise."""
    bad = ~((weights >= 0) & (weights < math.inf))
    if bad.any():
        raise ValueError(f"{name} must be finite and at least 0, got {weights[bad.argmax()]} in row {bad.argmax()}")
    with np.errstate(over="ignore"):
        if weights.sum() == math.inf:
            raise ValueError(f"{name} must have a finite sum, got inf")
    return weights


def frozen_class_weight(value: ClassWeight) -> ClassWeight:
    """Return class weights as None, "balanced", or a tuple, see `ClassLossSettings`; or raise."""
    if value is None or (isinstance(value, str) and value == "balanced"):
        return value
    if isinstance(value, str):
        raise ValueError(f"class_weight must be None, 'balanced', a mapping or an array of weights, got {value!r}")
    if not isinstance(value, Mapping):
        weights = reals("class_weight", value)
        if weights.ndim == 1 and len(weights):
            return tuple(checked_weights("class_weight", weights.astype(np.float64)).tolist())
        if weights.ndim != 2 or weights.shape[1] != 2:
            raise ValueError(f"class_weight must have one weight for each class, got shape {weights.shape}")
        value = {int(label) if label % 1 == 0 else label: weight for label, weight in weights.tolist()}
    for label, weight in value.items():
        if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
            raise TypeError(f"class_weight must map integer labels to weights, got label {label!r}")
        if not 0.0 <= real_number("class_weight", weight) < math.inf:
            raise ValueError(f"class_weight must be finite and at least 0, got {weight} for label {label}")
    return tuple((int(label), float(weight)) for label, weight in sorted(value.items())) or None


def class_weights(class_weight: ClassWeight, labels: npt.NDArray[np.intp], name: str) -> Weights:
    """Return the weight of each row's class."""
    if isinstance(class_weight, tuple) and not isinstance(class_weight[0], tuple):
        outside = (labels < 0) | (labels >= len(class_weight))
        if outside.any():
            found = labels[outside].min()
            raise ValueError(
                f"class_weight must have one weight for each class, got {len(class_weight)} weights and label {found} in {name}"
            )
        of_labels: Weights = np.array(class_weight)[labels]
        return of_labels
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if class_weight == "balanced":
        weights = len(labels) / (len(classes) * counts)
    else:
        given: dict[int, float] = dict(class_weight)  # type: ignore[arg-type]
        weights = np.array([given.get(label, 1.0) for label in classes.tolist()])
    result: Weights = weights[index.reshape(-1)]
    return result
