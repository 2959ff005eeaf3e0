"""What `fit` returns: one number per epoch and quantity."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(repr=False)
class History:
    """Record of a training run, one entry per epoch.

    Attributes
    ----------
    loss : list of float
        Mean training loss, each batch before its own update: sum(batch loss * batch weight) / sum(batch weight). The weight of
        a batch is that of its rows together: their number, if they have no sample or class weights.
    val_loss : list of float
        Loss on the validation data after the epoch; empty without validation data.
    val_accuracy : list of float
        Share of validation rows whose largest output is the right class; cross-entropy only.
    seconds : list of float
        Wall time of the epoch's training, without validation and callback.

    Examples
    --------
    >>> from fastbp.history import History
    >>> history = History(loss=[2.30, 1.25], seconds=[0.5, 0.5])
    >>> len(history), history["loss"][-1]
    (2, 1.25)
    >>> history
    History(epochs=2, loss=2.3 -> 1.25, seconds=1)
    """

    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[float]:
        """List of that name: ``history["loss"] is history.loss``; KeyError for an unknown name."""
        columns = vars(self)
        if name not in columns:
            raise KeyError(f"history has {', '.join(columns)}, got {name!r}")
        values: list[float] = columns[name]
        return values

    def __len__(self) -> int:
        """Epochs recorded."""
        return len(self.loss)

    def __repr__(self) -> str:
        """First and last value of each list, and the total time."""
        parts = [f"epochs={len(self)}"]
        for name in ("loss", "val_loss", "val_accuracy"):
            values = self[name]
            if values:
                ends = values if len(values) == 1 else [values[0], values[-1]]
                parts.append(f"{name}={' -> '.join(f'{value:.4g}' for value in ends)}")
        parts.append(f"seconds={sum(self.seconds):.4g}")
        return f"History({', '.join(parts)})"
