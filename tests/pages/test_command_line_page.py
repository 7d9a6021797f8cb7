"""Tests of docs/command-line.md: it has every option, every exit code and everything that can be typed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from lochws.cli.command import main
from lochws.cli.exits import MEANINGS
from lochws.cli.terminal import HELP

from ..support.pages import page, rows

PAGE = page("command-line.md")
#: The options that the page describes once for all commands.
EVERYWHERE = {"--verbose", "--debug", "--quiet", "--color", "--help"}


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        yield name, command


def options_of(text: str) -> set[str]:
    """Return the long options that a text names."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


def section(name: str) -> str:
    """Return the section of the page about a command."""
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_option_of_a_command_is_in_its_section(name: str, command: click.Command) -> None:
    assert f"`lochws {name}" in PAGE
    shared = section("connect") if name in {"bench", "doctor"} else ""
    named = set(re.findall(r"--[a-z-]+", section(name) + shared)) | EVERYWHERE
    options = {
        option.opts[-1] for option in command.params if isinstance(option, click.Option)
    }
    assert options <= named


def test_every_option_on_the_page_exists() -> None:
    known = {
        word for _, command in commands() for option in command.params
        for word in (*option.opts, *option.secondary_opts)
    } | {"--help", "--version", "--signal"}  # the last belongs to the command timeout
    text, found, compared = PAGE.partition("## Compared with")
    assert found
    assert options_of(text) <= known
    table = [row for row in rows(compared) if len(row) == 4]
    assert len(table) > 20
    assert options_of(" ".join(row[1] for row in table)) <= known


def test_the_options_of_every_command_are_described_once_for_all() -> None:
    described = options_of(PAGE[PAGE.index("Options of every command:"):PAGE.index("## connect")])
    assert described == EVERYWHERE - {"--help"} | {"--version"}


def test_the_exit_codes_are_those_of_the_program() -> None:
    table = {row[0]: row[1] for row in rows(PAGE) if row[0].isdecimal()}
    assert table == {str(code.value): meaning for code, meaning in MEANINGS.items()}


def test_what_can_be_typed_is_what_help_says() -> None:
    table = {row[0].replace("`", ""): row[1] for row in rows(PAGE) if len(row) == 2}
    for typed, means in HELP:
        if typed != "Alt-Enter":
            assert table[typed] == means
