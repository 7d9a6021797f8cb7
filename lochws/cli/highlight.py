"""Colors for messages that are JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby

import click

#: The colors of the parts of JSON, named as rich's highlighter names them, and whether each is bold.
JSON_COLORS = {
    "json.key": ("blue", True), "json.str": ("green", False), "json.number": ("cyan", False),
    "json.bool_true": ("magenta", False), "json.bool_false": ("magenta", False),
    "json.null": ("magenta", False), "json.brace": ("", True),
}
#: The longest text to color, in characters.
MAX_JSON = 100_000


def highlighted(text: str) -> list[tuple[str, str]]:
    """Return the parts of a JSON object or array, as pairs of a key of `JSON_COLORS` (or "") and a text.

    Returns:
        The parts, whose texts make up `text`; an empty list if it is not a JSON object or array, or has more
        than `MAX_JSON` characters.
    """
    if len(text) > MAX_JSON or text.lstrip()[:1] not in {"{", "["} or not _is_json(text):
        return []
    from rich.highlighter import JSONHighlighter  # noqa: PLC0415  a large package, of no use without colors
    from rich.text import Text  # noqa: PLC0415

    found = Text(text)
    JSONHighlighter().highlight(found)
    styles = [""] * len(text)
    for span in found.spans:  # a key is marked as a string first
        styles[span.start:span.end] = [str(span.style)] * (span.end - span.start)
    return list(_pieces(text, styles))


def _pieces(text: str, styles: list[str]) -> Iterator[tuple[str, str]]:
    start = 0
    for style, run in groupby(styles):
        end = start + sum(1 for _ in run)
        yield style, text[start:end]
        start = end


def colored(text: str, otherwise: str | None = None) -> str:
    """Return a text with terminal colors: those of JSON, or the color `otherwise` (None for no color)."""
    parts = highlighted(text)
    if not parts:
        return text if otherwise is None else click.style(text, fg=otherwise)
    return "".join(_styled(style, piece) for style, piece in parts)


def _styled(style: str, piece: str) -> str:
    color, is_bold = JSON_COLORS.get(style, ("", False))
    return click.style(piece, fg=color or None, bold=is_bold or None) if color or is_bold else piece


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
