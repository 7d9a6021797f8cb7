"""Escaping: what a terminal or a log viewer would obey or hide."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from lochws.text import cut, escaped, escaped_block

#: Controls, format characters, line and paragraph separators, lone surrogates.
CATEGORIES = {"Cc", "Cf", "Zl", "Zp", "Cs"}


def test_every_control_and_format_character_of_unicode_is_escaped() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) in CATEGORIES:
            assert escaped(character) == ascii(character)[1:-1]


def test_what_people_write_stays_as_it_is() -> None:
    text = "héllo, wörld: Ünïcödé 漢字 עברית العربية 🙂 \\ ' \""
    assert escaped(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_escapes_are_those_of_python(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_block_keeps_its_lines_and_tabs_only() -> None:
    assert escaped_block("a\nb\tc\rd\u202e\x1b") == "a\nb\tc\\rd\\u202e\\x1b"


def test_a_text_is_cut_where_it_is_too_long() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "abc…"
