"""What is measured: groups of lanes. A lane is one peer doing one task; the lanes of a group are timed in the same rounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fastbp.workloads import WORKLOADS, Workload

TRAINING = ("sgd", "adam")
TASKS = {
    "sgd": "training step, SGD",
    "adam": "training step, Adam",
    "predict": "prediction",
    "batches": "predictions over the rows of a batch",
    "growth": "a training step over width and batch",
    "threads": "two threads against one, over the rows of a batch",
    "update": "what Adam costs a parameter",
    "fit": "an epoch of fit against its steps",
}
POWERS = tuple(2**k for k in range(13))  # 1 to 4096
WIDTHS = POWERS[4:]
GROWTH_WIDTH_BATCH, GROWTH_BATCH_LAYERS = 128, (784, 512, 512, 10)
PREDICTED = ("rl64", "digits", "rl256", "mnist128", "mnist512", "wide1k")
PREDICTED_ROWS = (1, 2, 5, 16, 64, 1024)
UPDATED = ("mnist128", "mnist512", "wide4k")


@dataclass(frozen=True)
class Lane:
    """A peer, its threads, and what its worker does: "sgd", "adam", "predict", "steps", "fit" or "copy".

    `process`: the threads its worker was started for, where these are more; lanes in one process run on the same cores.
    """

    label: str
    peer: str
    threads: int
    task: str
    process: int = 0


@dataclass(frozen=True)
class Group:
    """Lanes with the same network and batch, which are measured together.

    Attributes
    ----------
    section : str
        A key of TASKS.
    name : str
        Of the workload or the sweep.
    threads : int
        Of the lanes, or the most of them.
    """

    section: str
    name: str
    layers: tuple[int, ...]
    batch: int
    dtype: str
    threads: int
    lanes: tuple[Lane, ...]

    @property
    def operations(self) -> int:
        """Floating-point operations of the products: of a training step, or of a prediction."""
        return operations(self.layers, self.batch, predict=all(lane.task == "predict" for lane in self.lanes))

    @property
    def network(self) -> Workload:
        """Layers and batch."""
        return Workload(self.name, self.layers, self.batch)

    def __str__(self) -> str:
        """What the line of progress says."""
        return f"{TASKS.get(self.section, self.section)}: {self.network}, threads {self.threads}"


def operations(layers: Sequence[int], batch: int, *, predict: bool) -> int:
    """2 B sum(I O) for a prediction; a training step as in `Workload.operations`."""
    if predict:
        return 2 * batch * sum(i * o for i, o in pairwise(layers))
    return Workload("", tuple(layers), batch).operations


@dataclass(frozen=True)
class Choice:
    """What the command line asks for; `quick` thins the sweeps out."""

    workloads: tuple[Workload, ...]
    tasks: tuple[str, ...]
    threads: tuple[int, ...]
    peers: tuple[str, ...]
    dtype: str = "float32"
    quick: bool = False

    def group(self, section: str, work: Workload, lanes: Iterable[Lane]) -> Group:
        """One group with the workload's network."""
        lanes = tuple(lanes)
        most = max(lane.threads for lane in lanes)
        return Group(section, work.name, work.layers, work.batch, self.dtype, most, lanes)

    def beside_peers(self, section: str, task: str, work: Workload, threads: int) -> Group:
        """A group with a lane for every peer."""
        return self.group(section, work, (Lane(peer, peer, threads, task) for peer in self.peers))

    def thinned(self, values: Sequence[int]) -> tuple[int, ...]:
        """All values, or with `quick` every third and the last."""
        return tuple(sorted({*values[::3], values[-1]})) if self.quick else tuple(values)

    def groups(self) -> list[Group]:
        """All groups: sections in order, one thread before two."""
        found = []
        for threads in self.threads:
            for task in ("sgd", "adam", "predict"):
                if task in self.tasks:
                    found += [self.beside_peers(task, task, work, threads) for work in self.workloads]
        for section, make in (
            ("batches", self.batches),
            ("growth", self.growth),
            ("threads", self.sharing),
            ("update", self.update),
            ("fit", self.fit),
        ):
            if section in self.tasks:
                found += make()
        return found

    def batches(self) -> list[Group]:
        """Predictions of few to many rows, one thread."""
        works = [work for work in self.workloads if work.name in PREDICTED or work not in WORKLOADS]
        rows = PREDICTED_ROWS[::2] if self.quick else PREDICTED_ROWS
        return [self.beside_peers("batches", "predict", Workload(work.name, work.layers, m), 1) for work in works for m in rows]

    def growth(self) -> list[Group]:
        """Training steps of w-w-w-10 over w, and of one network over its batch; one thread."""
        widths = [Workload("width", (w, w, w, 10), GROWTH_WIDTH_BATCH) for w in self.thinned(WIDTHS)]
        batches = [Workload("batch", GROWTH_BATCH_LAYERS, m) for m in self.thinned(POWERS)]
        return [self.beside_peers("growth", "sgd", work, 1) for work in (*widths, *batches)]

    def sharing(self) -> list[Group]:
        """Fastbp alone, with one and two threads, over the rows of a batch.

        Both in one process: of two cores one may be slower for seconds, while a neighbour of the host works on its other half.
        """
        return [
            self.group(
                "threads",
                Workload(f"{work.name} {task}", work.layers, m),
                (Lane(f"{n} thread{'s' * (n > 1)}", "fastbp", n, task, process=2) for n in (1, 2)),
            )
            for work in self.workloads
            for task in ("sgd", "predict")
            for m in self.thinned(POWERS)
        ]

    def update(self) -> list[Group]:
        """Adam's step, SGD's step, and copying as many numbers as there are parameters."""
        lanes = (("sgd", "fastbp"), ("adam", "fastbp"), ("copy", "memory"))
        works = [work for work in self.workloads if work.name in UPDATED]
        return [self.group("update", work, (Lane(task, peer, 1, task) for task, peer in lanes)) for work in works]

    def fit(self) -> list[Group]:
        """An epoch of `fit` and the same batches by `train_step`."""
        return [self.group("fit", work, (Lane(task, "fastbp", 1, task) for task in ("steps", "fit"))) for work in self.workloads]
