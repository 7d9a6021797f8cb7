"""Escaping of untrusted text: characters that a terminal or log viewer would obey or hide.

A server chooses the words of its refusals, close reasons and messages. If they were printed unchanged, they
could move the cursor, forge log lines, or make one text look like another (https://trojansource.codes/).
"""

from __future__ import annotations

import re

# C0 and C1 controls, line and paragraph separators, and Unicode's category Cf (format): characters that
# reverse, join or hide the text around them. Lone surrogates cannot be encoded at all.
_FORMAT = (
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_UNSAFE = rf"[\x00-\x1f\x7f-\x9f{_FORMAT}]"
_UNSAFE_IN_BLOCKS = rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_FORMAT}]"


def escaped(text: str) -> str:
    r"""Escape the characters that a terminal or log viewer would obey or hide. The result is one line.

    Control characters, line ends, tabs, and the invisible characters that change how the text around them is
    displayed (U+202E, for instance) are written as in a Python literal: ``\n``, ``\x1b``, ``\u202e``.
    Everything else is left unchanged.
    """
    return re.sub(_UNSAFE, _as_escape, text)


def escaped_block(text: str) -> str:
    """Escape control and invisible characters, but keep line feeds and tabs, for text shown as a block."""
    return re.sub(_UNSAFE_IN_BLOCKS, _as_escape, text)


def cut(text: str, length: int) -> str:
    """Cut a text to at most `length` characters, and mark the cut with an ellipsis."""
    return text if len(text) <= length else text[:length] + "…"


def _as_escape(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]
