"""The chart of a soak: memory, threads, descriptors and latency over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from .growth import LIMITS, WARM_UP, Sample

mpl.use("agg")
from matplotlib import pyplot as plt

_LINE, _LIGHT, _SHADE, _INK = "#0b6bcb", "#b9bec6", "#f0f2f4", "#24292f"


def draw(samples: Sequence[Sample], path: Path) -> None:
    """Write the chart; the path's suffix says in which format."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "text.color": _INK})
    minutes = [sample.at / 60 for sample in samples]
    figure, axes = plt.subplots(len(LIMITS), 1, figsize=(9, 8), sharex=True)
    for axis, limit in zip(axes, LIMITS, strict=True):
        values = [limit.of(sample) for sample in samples]
        if limit.title.startswith("latency"):
            axis.plot(minutes, [sample.slowest for sample in samples], color=_LIGHT, linewidth=0.8)
            axis.set_yscale("log")
        else:
            axis.set_ylim(0, 1.15 * max(values))
        axis.plot(minutes, values, color=_LINE, linewidth=1.2)
        axis.axvspan(0, WARM_UP * minutes[-1], color=_SHADE, zorder=0)
        grown = f"grown after the warm-up: {limit.grown(samples):+.2f}, allowed {limit.allowed(samples):.1f}"
        axis.set_title(limit.title, loc="left", weight="bold", fontsize=9.5)
        axis.set_title(grown, loc="right", fontsize=8.5)
        axis.set_xlim(0, minutes[-1])
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("minutes; grey line: the slowest round trip between two samples; shaded: warm-up")
    figure.suptitle("lochws, soaked", x=0.01, ha="left", weight="bold", fontsize=12)
    figure.tight_layout()
    figure.savefig(path, dpi=110, facecolor="white")
    plt.close(figure)
