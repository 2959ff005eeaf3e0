"""Measurements, as the JSON file has them, and what is computed from them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

OWN = "fastbp"


@dataclass
class Row:
    """One lane.

    Attributes
    ----------
    label : str
        The peer, or what tells the lanes apart.
    seconds : list of float
        Per step, mean over the block of steps of each round.
    losses : list of float
        Of the first steps.
    difference : float or None
        The largest relative difference of them from those of the first lane that has any.
    reason : str
        Why there are no seconds.
    note : str
    """

    label: str
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    difference: float | None = None
    reason: str = ""
    note: str = ""

    @property
    def best(self) -> float:
        """Seconds of the fastest round."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Seconds of the median round."""
        return median(self.seconds)


@dataclass
class Measured:
    """A group of lanes, measured. `peak`: FMA operations of all threads in a second, per round."""

    section: str
    name: str
    layers: tuple[int, ...]
    batch: int
    dtype: str
    threads: int
    operations: int
    rows: list[Row] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    @property
    def shape(self) -> str:
        """The layers in one word."""
        return "-".join(map(str, self.layers))

    @property
    def done(self) -> dict[str, Row]:
        """The rows with times, by label."""
        return {row.label: row for row in self.rows if row.seconds}

    @property
    def limit(self) -> float:
        """Seconds the operations take at the FMA peak; 0 if the peak is unknown."""
        return self.operations / median(self.peak) if self.peak else 0.0

    def ratio(self, label: str, to: str = OWN) -> float | None:
        """How many times as long as `to` a lane takes, minimum to minimum; None if one of them has no times."""
        rows = self.done
        return rows[label].best / rows[to].best if label in rows and to in rows else None

    def median_ratio(self, label: str, to: str = OWN) -> float | None:
        """The median over the rounds of the ratio within a round."""
        rows = self.done
        if label not in rows or to not in rows:
            return None
        return median(a / b for a, b in zip(rows[label].seconds, rows[to].seconds, strict=True))

    def share(self, label: str) -> float | None:
        """The share of the FMA peak: the median over the rounds, each with its own peak."""
        if label not in self.done or not self.peak:
            return None
        return median(self.operations / (s * peak) for s, peak in zip(self.done[label].seconds, self.peak, strict=True))

    def runner_up(self) -> tuple[str, float] | None:
        """The fastest peer and its ratio."""
        ratios = {label: self.ratio(label) for label in self.done if label != OWN}
        found = {label: ratio for label, ratio in ratios.items() if ratio is not None}
        return min(found.items(), key=lambda item: item[1]) if found else None


@dataclass
class Results:
    """A whole run.

    Attributes
    ----------
    about : dict
        Machine and settings.
    peers : dict
        "name, threads" -> versions.
    missing : dict
        Peer -> why it is not there.
    measured : list of Measured
    """

    about: dict[str, Any] = field(default_factory=dict)
    peers: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)

    def of(self, *sections: str, threads: int | None = None) -> list[Measured]:
        """The groups of some sections."""
        return [m for m in self.measured if m.section in sections and threads in (None, m.threads)]

    @property
    def labels(self) -> list[str]:
        """The peers that have a time beside fastbp's anywhere, in the order of the table."""
        rows = [row.label for m in self.of("sgd", "adam", "predict", "batches", "growth") for row in m.rows if row.seconds]
        return list(dict.fromkeys(sorted(rows, key=list(self.about.get("order", rows)).index)))

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read the JSON file."""
        found = json.loads(path.read_text())
        measured = []
        for m in found["measured"]:
            rows = [Row(**row) for row in m.pop("rows")]
            measured.append(Measured(**{**m, "layers": tuple(m["layers"])}, rows=rows))
        return cls(found["about"], found["peers"], found["missing"], measured)
