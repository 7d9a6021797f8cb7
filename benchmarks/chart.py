"""The chart of what was measured: one panel per work, one bar per client, with its number."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

from . import report
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
    "receive TLS 128": "receive text over TLS, 128 B",
    "receive binary 64K": "receive binary, 64 KiB",
    "send text 128": "send text, 128 B",
    "echo 125": "round trip, 125 B, one in flight",
    "idle 10000": "memory of an idle connection, KiB",
}
#: Ways of using lochws that the picture can do without.
_LEFT_OUT = ("lochws corked",)
_COLUMNS, _WIDTH, _BAR, _HEAD = 2, 8.6, 0.2, 0.62  # sizes in inches
_OURS, _OURS_LIGHT, _PEER, _LIMIT, _INK = "#0b6bcb", "#7fb2e5", "#b9bec6", "#e3e6ea", "#24292f"
_NOTE, _AXIS, _PAGE = "#6a737d", "#d0d7de", "#ffffff"
#: What some of these are on a dark page.
_DARK = {
    _PAGE: "#14181f", _INK: "#e6edf3", _NOTE: "#9aa4b0", _AXIS: "#4a5260",
    _PEER: "#6b7480", _LIMIT: "#3a414c", _OURS: "#4c9bee", _OURS_LIGHT: "#2d5f92",
}


def draw(results: Results, about: dict[str, str], path: Path) -> None:
    """Write a chart; the path's suffix says in which format.

    Raises:
        ValueError: nothing was measured that belongs into it.
    """
    works = [work for work in _PANELS if results.rounds.get(work)]
    if not works:
        raise ValueError("nothing of what is drawn was measured")
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "svg.fonttype": "path",
                         "svg.hashsalt": "lochws", "text.color": _INK, "ytick.labelcolor": _INK})
    rows = -(-len(works) // _COLUMNS)
    tallest = max(len(_sorted(results, work, METRICS[WORKS[work].kind][0])) for work in works)
    height = rows * (_BAR * tallest + _HEAD) + 0.9
    figure, grid = plt.subplots(
        rows, min(_COLUMNS, len(works)), figsize=(_WIDTH, height), squeeze=False
    )
    axes = list(grid.flat)
    for axis, work in zip(axes, works, strict=False):
        _panel(axis, results, work)
        axis.set_ylim(tallest - 0.4, -0.6)  # bars of one height in all panels
    for axis in axes[len(works) :]:
        axis.set_axis_off()
    figure.suptitle(
        "What a message costs: µs of the client's processor time (shorter is better)",
        x=0.015, ha="left", weight="bold", fontsize=11.5,
    )
    figure.text(0.015, 0.1 / height, _footnote(about), fontsize=6.8, color=_NOTE)
    figure.tight_layout(rect=(0, 0.4 / height, 1, 1 - 0.05 / height), h_pad=1.4, w_pad=1.2)
    about_file = {"Date": None} if path.suffix == ".svg" else None  # the same bytes from the same numbers
    figure.savefig(path, dpi=110, facecolor=_PAGE, metadata=about_file)
    plt.close(figure)
    if path.suffix == ".svg":
        drawn = path.read_text(encoding="utf-8")
        path.write_text(drawn.replace("</style>", f"{_dark()}</style>", 1), encoding="utf-8")


def _dark() -> str:
    """Return the style that a dark page gives to the colours that matplotlib wrote into each element."""
    rules = "".join(
        f'[style*="{part}: {light}"] {{ {part}: {dark} !important }} '
        for light, dark in _DARK.items() for part in ("fill", "stroke")
    )
    return f"@media (prefers-color-scheme: dark) {{ {rules}}}"


def _panel(axis: Axes, results: Results, work: str) -> None:
    metric = METRICS[WORKS[work].kind][0]
    measured = _sorted(results, work, metric)
    positions = range(len(measured))
    most = max(value for _, value in measured)
    colours = [_colour(name) for name, _ in measured]
    axis.barh(positions, [value for _, value in measured], color=colours, height=0.72)
    for position, (name, value) in zip(positions, measured, strict=True):
        axis.text(value + most * 0.015, position, report.number(value), va="center", fontsize=8,
                  weight="bold" if name == "lochws" else "normal")
    axis.set_yticks(positions, [name for name, _ in measured])
    for label, (name, _) in zip(axis.get_yticklabels(), measured, strict=True):
        label.set_fontweight("bold" if name == "lochws" else "normal")
    axis.set_xlim(0, most * 1.16)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.spines["left"].set_color(_AXIS)
    axis.spines["left"].set_bounds(-0.5, len(measured) - 0.5)
    axis.set_title(_PANELS[work], loc="left", fontsize=9.5, weight="bold")


def _sorted(results: Results, work: str, metric: Metric) -> Sequence[tuple[str, float]]:
    found = [(name, middle(results, work, name, metric)) for name in results.rounds[work]
             if name not in _LEFT_OUT]
    return sorted(((name, value) for name, value in found if value is not None), key=lambda pair: pair[1])


def _colour(name: str) -> str:
    if name == "lochws":
        return _OURS
    if name.startswith("lochws"):
        return _OURS_LIGHT
    return _LIMIT if name == "bare sockets" else _PEER


def _footnote(about: dict[str, str]) -> str:
    text = (f"python -m benchmarks · Python {about['python']}, {about['processors']} processors · lochws "
            f"{about['lochws']} · {', '.join(report.peer_versions(about))}")
    return textwrap.fill(text, 130)
