"""The demo: handwritten digits learned by fastbp and by the NumPy reference, side by side, and a picture of both.

The data are the 1,797 images of 8 x 8 pixels that scikit-learn bundles, so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

import fastbp
from fastbp import extras, reference, runtime
from fastbp.bench import blas_line, limited_blas, plural, settings
from fastbp.history import History

LAYERS = (64, 256, 128, 10)
BATCH = 32
LEARNING_RATE, MOMENTUM = 0.07, 0.9
EPOCHS = 40
TEST_SHARE = 0.2
MODULES = ("sklearn", "matplotlib", "tqdm")
BLUE, ORANGE, GREY = "#1f5fa8", "#d1662b", "#444444"


@dataclass(frozen=True)
class Digits:
    """Images (n, 64), pixels from 0 to 1, and labels (n,): a part to train on and one to test on."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """A trained network's record."""

    history: History
    accuracy: float

    @property
    def epoch_seconds(self) -> float:
        """Median over the epochs; shuffling included, testing not."""
        return median(self.history.seconds)


def extra(module: str) -> Any:
    """Import an optional module, or raise MissingExtraError."""
    return extras.extra(module, "the demo", "demo")


def load(seed: int) -> Digits:
    """Load the digits and hold out a stratified part to test on."""
    images, labels = extra("sklearn.datasets").load_digits(return_X_y=True)
    x, x_test, y, y_test = extra("sklearn.model_selection").train_test_split(
        np.asarray(images / 16, np.float32), labels, test_size=TEST_SHARE, stratify=labels, random_state=seed % 2**32
    )
    return Digits(x, y, x_test, y_test)


def train(library: ModuleType, digits: Digits, *, epochs: int, seed: int, title: str) -> Run:
    """Train the network with `fastbp` or `fastbp.reference`, under a progress bar."""
    *hidden, classes = LAYERS[1:]
    net = library.Sequential(
        [library.Input(LAYERS[0]), *(library.Dense(units, "relu") for units in hidden), library.Dense(classes)],
        loss="cross_entropy",
        optimizer=library.SGD(LEARNING_RATE, momentum=MOMENTUM),
        seed=seed,
    )
    test = digits.x_test, digits.y_test
    with extra("tqdm").tqdm(total=epochs, desc=f"{title:<9}", unit="epoch", ncols=100) as bar:

        def show(epoch: int, history: History) -> None:
            state = f"loss {history.loss[-1]:.4f}, test accuracy {history.val_accuracy[-1]:.1%}"
            bar.set_postfix_str(state, refresh=False)
            bar.update()

        history = net.fit(digits.x, digits.y, epochs, batch_size=BATCH, validation_data=test, callback=show)
    return Run(history, net.evaluate(*test)["accuracy"])


def draw(path: Path, own: Run, other: Run) -> None:
    """Draw the curves of fastbp as lines and those of the reference as points on top; the suffix names the format."""
    rc_context, figure = extra("matplotlib").rc_context, extra("matplotlib.figure").Figure
    style = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "legend.frameon": False,
        "svg.fonttype": "none",
    }
    with rc_context(style):
        fig = figure(figsize=(7.2, 3.2), dpi=200, layout="constrained")
        fig.get_layout_engine().set(w_pad=0.08, h_pad=0.06, wspace=0.04)
        left, right = fig.subplots(1, 2)
        epochs = np.arange(1, len(own.history) + 1)
        step = max(1, len(epochs) // 20)
        every = slice((len(epochs) - 1) % step, None, step)  # ends with the last epoch
        points = {"ls": "none", "marker": "o", "ms": 4.2, "mfc": "none", "mew": 0.9, "zorder": 3}
        for axes, name, color, label in (
            (left, "loss", BLUE, "training"),
            (left, "val_loss", ORANGE, "test"),
            (right, "val_accuracy", ORANGE, "test"),
        ):
            unit = 100 if axes is right else 1
            mine, theirs = (unit * np.array(run.history[name]) for run in (own, other))
            axes.plot(epochs, mine, color=color, lw=1.5, label=f"{label}, fastbp")
            axes.plot(epochs[every], theirs[every], color=color, label=f"{label}, NumPy reference", **points)
        left.set(yscale="log", ylabel="cross-entropy (nats per image)", title="Loss")
        right.set(ylabel="test images recognised (%)", title=f"Accuracy: {own.accuracy:.1%} at the end")
        for axes in (left, right):
            axes.set(xlabel="epoch", xlim=(0, len(epochs) + 1))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.title.set(fontsize=9.5, fontweight="bold")
            axes.legend(loc="center right" if axes is left else "lower right", fontsize=8)
        layers = "-".join(map(str, LAYERS))
        times = f"{own.epoch_seconds * 1e3:.2f} ms per epoch (fastbp), {other.epoch_seconds * 1e3:.2f} ms (NumPy)"
        fig.suptitle(f"Handwritten digits, {layers}: {times}", fontsize=10)
        fig.savefig(path)


def run(
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    threads: int = 1,
    path: Path = Path("fastbp_demo.png"),
    out: Callable[[str], object] = print,
) -> tuple[Run, Run]:
    """Train both, print how they compare, and write the picture; return the records of fastbp and the reference.

    Raises
    ------
    MissingExtraError
        If a package that the demo needs is not installed.
    """
    for module in MODULES:  # before anything takes time
        extra(module)
    digits = load(seed)
    out(f"handwritten digits: {len(digits.x)} images to train on, {len(digits.x_test)} to test on")
    out(f"network {'-'.join(map(str, LAYERS))}, float32, batches of {BATCH}, {plural(epochs, 'epoch')}, seed {seed}\n")
    with settings(None, threads), limited_blas(threads) as blas:
        own = train(fastbp, digits, epochs=epochs, seed=seed, title="fastbp")
        other = train(reference, digits, epochs=epochs, seed=seed, title="reference")
        isa = runtime.isa()
    draw(path, own, other)
    difference = np.abs(np.subtract(own.history.loss, other.history.loss)).max()
    ms = [run.epoch_seconds * 1e3 for run in (own, other)]
    out(f"\n{'':<17}{'fastbp':>10}{'reference':>12}")
    out(f"{'test accuracy':<17}{own.accuracy:>10.2%}{other.accuracy:>12.2%}")
    out(f"{'ms per epoch':<17}{ms[0]:>10.3f}{ms[1]:>12.3f}   ratio {ms[1] / ms[0]:.2f} (medians; shuffling included)")
    out(f"{'last loss':<17}{own.history.loss[-1]:>10.6f}{other.history.loss[-1]:>12.6f}")
    out(f"\nlargest difference of the two loss curves: {difference:.1e}")
    out(f"fastbp     {isa}, {plural(threads, 'thread')}")
    out(f"reference  NumPy {np.__version__}, {blas_line(blas)}")
    out(f"picture    {path}")
    return own, other
