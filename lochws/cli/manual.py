"""The manual page lochws(1), generated from the commands and their options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator

import click

from .exits import MEANINGS
from .output import OPTIONS as OUTPUT_OPTIONS
from .target import OPTIONS as TARGET_OPTIONS

_ENVIRONMENT = {
    "LOCHWS_AUTH": "The value of --auth, kept out of process lists.",
    "NO_COLOR": "If set, --color auto means never.",
    "http_proxy, https_proxy, all_proxy, no_proxy": "The proxies, unless --proxy names one.",
}
_FILES = {
    "~/.local/state/lochws/history": "The lines typed in a terminal; --no-history does not save them.",
}
_EXAMPLES = {
    "lochws localhost:8765": "Talk to ws://localhost:8765/ in the terminal.",
    "lochws -x hello wss://echo.example.org": "Send one message and print the answers.",
    "tail -f log | lochws wss://feed.example.org": "Send each new line of a file.",
    "lochws doctor wss://feed.example.org": "Find out why a connection fails.",
}


def manual(group: click.Group) -> str:
    """Return the manual page of a group of commands, written with the macros of man(7)."""
    return "\n".join(_lines(group)) + "\n"


def _lines(group: click.Group) -> Iterator[str]:
    context = click.Context(group, info_name="lochws")
    purpose = inspect.cleandoc(group.help or "").rstrip(".")
    yield '.TH LOCHWS 1 "" lochws "User Commands"'
    yield from (".SH NAME", roff(f"lochws - {purpose[0].lower()}{purpose[1:]}"))
    yield from (".SH SYNOPSIS", ".B lochws", roff("[OPTIONS] URL"), ".br", ".B lochws", "[OPTIONS] COMMAND")
    yield ".SH DESCRIPTION"
    errors = "Errors are one sentence on stderr and an exit status."
    yield roff(f"`lochws URL` means `lochws connect URL`. {errors}")
    yield ".SH COMMANDS"
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from _command(name, command)
    yield from _options("OPTIONS FOR CONNECTING", TARGET_OPTIONS)
    yield from _options("OPTIONS OF EVERY COMMAND", OUTPUT_OPTIONS)
    yield from _options("OTHER OPTIONS", [
        option for option in group.params if isinstance(option, click.Option) and "--version" in option.opts
    ])
    yield from _pairs("EXIT STATUS", {str(code.value): meaning for code, meaning in MEANINGS.items()})
    yield from _pairs("ENVIRONMENT", _ENVIRONMENT)
    yield from _pairs("FILES", _FILES)
    yield from _pairs("EXAMPLES", _EXAMPLES)


def _command(name: str, command: click.Command) -> Iterator[str]:
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    metavars = [str(each.metavar or each.name).upper() for each in arguments]
    shown = [word if each.required else f"[{word}]" for each, word in zip(arguments, metavars, strict=True)]
    yield ".SS " + roff(" ".join(["lochws", name, "[OPTIONS]", *shown]))
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    for paragraph in paragraphs:
        yield from (".PP", roff(" ".join(paragraph.split())))
    names = {option.name for option in command.params}
    common = {option.name for option in (*TARGET_OPTIONS, *OUTPUT_OPTIONS)}
    if names >= {option.name for option in TARGET_OPTIONS}:
        yield from (".PP", roff("Takes the options for connecting, below."))
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in common:
            yield from _option(option)


def _options(title: str, options: Iterable[click.Option]) -> Iterator[str]:
    yield f".SH {title}"
    for option in options:
        yield from _option(option)


def _option(option: click.Option) -> Iterator[str]:
    names = ", ".join(option.opts) + "".join(f" / {other}" for other in option.secondary_opts)
    default = ""
    if option.show_default and not option.is_flag:
        value = option.default
        default = f" The default is {value:g}." if isinstance(value, float) else f" The default is {value}."
    yield from (".TP", f".B {roff(f'{names} {_metavar(option)}'.rstrip())}")
    yield roff((option.help or "") + default)


def _metavar(option: click.Option) -> str:
    if option.is_flag or option.count:
        return ""
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.metavar or option.type.name.upper()


def _pairs(title: str, pairs: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for name, means in pairs.items():
        yield from (".TP", f".B {roff(name)}", roff(means))


def roff(text: str) -> str:
    """Escape a text for roff, and set what is in backquotes in bold."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", escaped)
    return f"\\&{escaped}" if escaped[:1] in {".", "'"} else escaped
