"""The command line as a whole: its commands, and how each of them ends."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from .. import __version__, demo
from ..text import escaped
from .exits import Exit, Failed
from .target import verbosity

logger = logging.getLogger("lochws.cli")

#: Commands that are imported when they are used, for most of what they need is large: each is called as its
#: module.
LOADED = ("bench", "connect", "doctor", "replay", "serve")


class _Signalled(KeyboardInterrupt):
    """A signal came that ends programs; its number is the argument.

    It is a `KeyboardInterrupt`: others that strike in a callback of asyncio stay there.
    """


class _Commands(click.Group):
    """The commands, and how they end when somebody ends them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *LOADED})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in LOADED:
            return super().get_command(ctx, cmd_name)
        command = getattr(importlib.import_module(f"..{cmd_name}", __name__), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except _Signalled as signalled:
            raise Failed("", Exit(128 + signalled.args[0])) from None
        except KeyboardInterrupt:  # which click would make an empty line of
            raise Failed("", Exit.INTERRUPTED) from None
        except BrokenPipeError:
            raise Failed("", Exit.NO_READER) from None


@click.group(
    cls=_Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Completion: eval \"$(_LOCHWS_COMPLETE=bash_source lochws)\", with your shell's name for bash.",
)
@click.version_option(__version__, message="lochws %(version)s")
@verbosity
def main() -> None:
    """Talk to WebSocket servers, see what is wrong with them, measure them, be one."""


@main.command("demo")
@click.option("--serve", is_flag=True, help="Only serve the price feed, for your programs, until Ctrl-C.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True,
    help="With --serve: the port on 127.0.0.1; 0 picks a free one.",
)
def demo_command(*, serve: bool, port: int) -> int:
    """Run an app against a small built-in server that drops the connection once; takes three seconds."""
    return demo.serve(port) if serve else demo.run()


def run(arguments: Sequence[str]) -> int:  # noqa: PLR0911  an end each
    """Do what the command line says. For the main thread.

    What goes wrong is one sentence on stderr, and the exit code.

    Args:
        arguments: the words after ``lochws``.

    Returns:
        The exit code, see `Exit`.
    """
    # Python writes errors to stderr where nobody else takes them, asked for or not.
    logging.getLogger("lochws").addHandler(logging.NullHandler())
    try:
        with _signals_raise():
            code = int(main.main(list(arguments), prog_name="lochws", standalone_mode=False) or 0)
            return _flushed(code)
    except Failed as failed:
        return _told(str(failed), failed.code)
    except SystemExit as end:  # click's: after completion, and where nobody reads what it prints
        return _flushed(Exit.NO_READER if end.code else Exit.OK)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "lochws"
        return _told(f"{error.format_message().rstrip('.')} (see {path} --help)", Exit.USAGE)
    except click.ClickException as error:
        return _told(error.format_message(), Exit.FAILED)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except ImportError as error:
        return _told(f"{error}" if "pip install" in str(error) else MISSING.format(error.name), Exit.FAILED)
    except Exception as error:
        logger.debug("where it happened", exc_info=True)
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _told(f"{what}; that is a defect of lochws, and --debug shows where", Exit.FAILED)


#: What is said where a package of the extra is not there.
MISSING = "this needs {}: pip install 'lochws[cli]'"


def _told(sentence: str, code: int) -> int:
    if sentence:
        try:
            click.echo(f"lochws: {escaped(sentence)}", err=True)
        except OSError:
            pass  # nobody reads that either
    return _flushed(code)


def _flushed(code: int) -> int:
    """The code, or `Exit.NO_READER` if what was printed cannot be written; Python would say so at its end."""
    if sys.stdout is None:  # it was closed before we were started
        return code
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return code or Exit.NO_READER
    return code


@contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP end the main thread's work as Ctrl-C does, connections included."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_it(number: int, frame: FrameType | None) -> None:
        raise _Signalled(number)

    before = {}
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            before[number] = signal.signal(number, raise_it)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
