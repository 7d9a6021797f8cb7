"""Draws what was measured: one panel a work, one bar a client, its number beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

from .metrics import METRICS, Metric, middle
from .run import Results
from .works import WORKS

mpl.use("agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The works that say most, with a title each. Others would only repeat them.
_PANELS = {
    "receive text 128": "receive text, 128 B",
    "receive text 1024": "receive text, 1 KiB",
    "receive binary 64K": "receive binary, 64 KiB",
    "receive TLS 128": "receive text over TLS, 128 B",
    "receive deflated 1024": "receive deflated text, 1 KiB",
    "send text 128": "send text, 128 B",
    "send text 128, 8 threads": "send text, 128 B, 8 threads",
    "echo 125": "echo, 125 B, one in flight",
    "idle 10000": "memory of an idle connection (KiB)",
}
_COLUMNS = 3
_OURS, _OURS_LIGHT, _PEER, _LIMIT, _INK = "#0b6bcb", "#7fb2e5", "#b9bec6", "#e3e6ea", "#24292f"


def draw(results: Results, about: dict[str, str], path: Path) -> None:
    """Write a chart; the path's suffix says in which format.

    Raises:
        ValueError: nothing was measured that belongs into it.
    """
    works = [work for work in _PANELS if results.rounds.get(work)]
    if not works:
        raise ValueError("nothing of what is drawn was measured")
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "svg.fonttype": "none",
                         "svg.hashsalt": "lochws", "text.color": _INK})
    rows = -(-len(works) // _COLUMNS)
    tallest = max(len(results.rounds[work]) for work in works)
    figure, grid = plt.subplots(
        rows, min(_COLUMNS, len(works)), figsize=(12.5, rows * (0.2 * tallest + 0.6) + 0.8), squeeze=False
    )
    axes = list(grid.flat)
    for axis, work in zip(axes, works, strict=False):
        _panel(axis, results, work)
        axis.set_ylim(tallest - 0.4, -0.6)  # bars of one height in all panels
    for axis in axes[len(works) :]:
        axis.set_axis_off()
    figure.suptitle(
        "What a message costs: µs of the client's CPU, median of the rounds; shorter is better",
        x=0.01, ha="left", weight="bold", fontsize=12,
    )
    figure.text(0.01, 0.006, _footnote(about), fontsize=7.5, color="#6a737d")
    figure.tight_layout(rect=(0, 0.02, 1, 0.98), h_pad=1.6, w_pad=1.2)
    about_file = {"Date": None} if path.suffix == ".svg" else None  # the same bytes from the same numbers
    figure.savefig(path, dpi=110, facecolor="white", metadata=about_file)
    plt.close(figure)


def _panel(axis: Axes, results: Results, work: str) -> None:
    metric = METRICS[WORKS[work].kind][0]
    measured = _sorted(results, work, metric)
    positions = range(len(measured))
    most = max(value for _, value in measured)
    colours = [_colour(name) for name, _ in measured]
    axis.barh(positions, [value for _, value in measured], color=colours, height=0.72)
    for position, (name, value) in zip(positions, measured, strict=True):
        axis.text(value + most * 0.015, position, _number(value), va="center", fontsize=8,
                  weight="bold" if name == "lochws" else "normal")
    axis.set_yticks(positions, [name for name, _ in measured])
    for label, (name, _) in zip(axis.get_yticklabels(), measured, strict=True):
        label.set_fontweight("bold" if name == "lochws" else "normal")
    axis.set_xlim(0, most * 1.16)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.spines["left"].set_color("#d0d7de")
    axis.spines["left"].set_bounds(-0.5, len(measured) - 0.5)
    axis.set_title(_PANELS[work], loc="left", fontsize=9.5, weight="bold")


def _sorted(results: Results, work: str, metric: Metric) -> Sequence[tuple[str, float]]:
    found = [(name, middle(results, work, name, metric)) for name in results.rounds[work]]
    return sorted(((name, value) for name, value in found if value is not None), key=lambda pair: pair[1])


def _colour(name: str) -> str:
    if name == "lochws":
        return _OURS
    if name.startswith("lochws"):
        return _OURS_LIGHT
    return _LIMIT if name == "bare sockets" else _PEER


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _footnote(about: dict[str, str]) -> str:
    peers = [f"{name} {version}" for name, version in about.items()
             if name not in ("python", "system", "processors", "lochws") and version != "not installed"]
    return (f"python -m benchmarks · Python {about['python']}, {about['processors']} processors · lochws "
            f"{about['lochws']} · {', '.join(peers)}")
