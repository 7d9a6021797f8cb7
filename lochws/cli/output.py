"""Options of every command: verbosity, quiet and color."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, TypeVar

import click

from .. import demo
from .shown import as_options

if TYPE_CHECKING:
    from rich.console import Console

Command = TypeVar("Command", bound=click.Command)

_COLORS = {"always": True, "never": False}
# Keys of click's Context.meta, which a command shares with the group that it belongs to.
_QUIET = "lochws.quiet"
_LOGS = "lochws.logs"


class _Sentences(logging.Formatter):
    """Formats log records in the words of the command line: with options in place of parameters."""

    def format(self, record: logging.LogRecord) -> str:
        return as_options(super().format(record))


def _set_verbosity(ctx: click.Context, parameter: click.Parameter, count: int) -> None:
    if count:
        handler = logging.StreamHandler()
        handler.setFormatter(_Sentences("%(asctime)s %(levelname)-7s %(message)s"))
        level = logging.INFO if count == 1 else logging.DEBUG
        logging.basicConfig(level=level, handlers=[handler], force=True)
        ctx.meta[_LOGS] = True


def _set_debug(ctx: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        _set_verbosity(ctx, parameter, 2)


def _set_quiet(ctx: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        ctx.meta[_QUIET] = True


def _set_color(ctx: click.Context, parameter: click.Parameter, when: str | None) -> None:
    if when is None and ctx.parent is not None:
        return  # the context has inherited the choice
    # None lets click decide by whether the output is a terminal.
    ctx.color = _COLORS.get(when or "auto", False if os.environ.get("NO_COLOR") else None)


#: The options that every command has; their values take effect by themselves.
OPTIONS = (
    click.Option(["-v", "--verbose"], count=True, expose_value=False, callback=_set_verbosity,
                 help="Log events to stderr; -vv logs more."),
    click.Option(["--debug"], is_flag=True, expose_value=False, callback=_set_debug,
                 help="Log everything, including tracebacks of unexpected errors."),
    click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_set_quiet,
                 help="Print only messages and results; the exit code tells whether the command succeeded."),
    click.Option(["--color"], type=click.Choice(["auto", "always", "never"]), expose_value=False,
                 callback=_set_color,
                 help="When to use color. The default, auto, uses it on a terminal unless NO_COLOR is set."),
)


def output_options(command: Command) -> Command:
    """Add the options of this module to a command."""
    command.params.extend(OPTIONS)
    return command


def is_quiet() -> bool:
    """Return whether ``-q`` was given. For the main thread, in a command."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and _QUIET in ctx.meta


def is_logged() -> bool:
    """Return whether ``-v`` was given, so that events are logged. For the main thread, in a command."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and _LOGS in ctx.meta


def set_logged() -> None:
    """Remember that events are printed to stderr, so that the last one is not printed again at the end."""
    click.get_current_context().meta[_LOGS] = True


def forced_color() -> bool | None:
    """Return whether color is forced on (True) or off (False); None if the kind of output decides."""
    ctx = click.get_current_context(silent=True)
    return None if ctx is None else ctx.color


def has_color(*, err: bool = False) -> bool:
    """Return whether to print in color to stdout or, with `err`, to stderr."""
    forced = forced_color()
    return demo.has_colors(sys.stderr if err else sys.stdout) if forced is None else forced


def rich_console(*, err: bool = False) -> Console:
    """Return rich's console for stdout or, with `err`, for stderr. rich is large, so it is imported here."""
    from rich.console import Console  # noqa: PLC0415

    if not has_color(err=err):
        return Console(stderr=err, color_system=None)
    return Console(stderr=err, force_terminal=True if forced_color() else None, color_system="standard")
