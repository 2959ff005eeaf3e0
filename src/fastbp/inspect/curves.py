"""The flow of gradients as a picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fastbp.extras import extra
from fastbp.inspect.pictures import GROUP, WHAT, save

if TYPE_CHECKING:
    from fastbp.inspect.flow import GradientFlow

BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#d1662b", "#1a7f37", "#444444"
CURVES = (
    ("activation", "activations, rms", GREEN, "o-"),
    ("delta", "error signals dE/dZ, rms", ORANGE, "s-"),
    ("weight", "|dE/dW|", BLUE, "^-"),
    ("bias", "|dE/db|", BLUE, "v:"),
)
SHARES = (("saturated", "saturated outputs", ORANGE), ("dead", "dead units", GREY))


def plot_flow(flow: GradientFlow, path: str | os.PathLike[str] | None) -> Any:
    """Draw sizes by layer, logarithmically, and below them the shares of units that are stuck."""
    rc_context, figure = extra("matplotlib", WHAT, GROUP).rc_context, extra("matplotlib.figure", WHAT, GROUP).Figure
    style = {
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.grid": True,
        "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False, "svg.fonttype": "none",
        "svg.hashsalt": "fastbp",
    }  # fmt: skip
    count = len(flow.layers)
    at = np.arange(count)
    with rc_context(style):
        fig = figure(figsize=(max(5.2, 0.62 * count + 2.2), 4.4), dpi=200, layout="constrained")
        sizes, shares = fig.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for name, label, color, line in CURVES:
            values = np.array([getattr(layer, name) for layer in flow.layers])
            shown = np.isfinite(values) & (values > 0)
            if shown.any():
                sizes.plot(at[shown], values[shown], line, color=color, label=label, lw=1.4, ms=4)
        sizes.set(yscale="log", ylabel="size")
        sizes.legend(fontsize=8, loc="best")
        for k, (name, label, color) in enumerate(SHARES):
            values = np.array([100 * getattr(layer, name) for layer in flow.layers])
            if np.isfinite(values).any():
                shares.bar(at + 0.36 * (k - 0.5), np.nan_to_num(values), 0.34, color=color, label=label)
        shares.set(ylabel="share (%)", ylim=(0, 100))
        if shares.get_legend_handles_labels()[0]:
            shares.legend(fontsize=8, loc="best")
        shares.set_xticks(at, [layer.name for layer in flow.layers], rotation=45, ha="right", fontsize=7)
        warnings = [warning.partition(":")[0] for warning in flow.warnings]
        fig.suptitle(", ".join(dict.fromkeys(warnings)) or "nothing vanishes, nothing explodes", fontsize=10)
        save(fig, path)
    return fig
