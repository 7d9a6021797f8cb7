"""The command line as a whole: its commands, errors and exit codes."""

from __future__ import annotations

import importlib
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from types import FrameType
from typing import Any

import click
from click.shell_completion import get_completion_class

from .. import demo
from ..text import escaped
from .about import version_text
from .exits import Exit, Failed
from .output import forced_color, is_logged, is_quiet, output_options
from .streams import flushed
from .target import full_url

logger = logging.getLogger("lochws.cli")

#: Commands that are imported only when used, because their imports are slow. Each is named after its module.
LOADED = ("bench", "connect", "doctor", "replay", "serve")
#: The command for a command line that names none.
DEFAULT = "connect"


class _Signalled(KeyboardInterrupt):
    """A signal that ends the program has arrived; its number is the argument.

    It is a `KeyboardInterrupt` because asyncio lets no other exception propagate from its callbacks.
    """


class _Commands(click.Group):
    """The group of commands: adds `DEFAULT` before a URL, and sets the exit codes of interrupted commands."""

    # Unknown options belong to the command DEFAULT.
    ignore_unknown_options = True

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *LOADED})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in LOADED:
            return super().get_command(ctx, cmd_name)
        command = getattr(importlib.import_module(f"..{cmd_name}", __name__), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] in known:
            return super().resolve_command(ctx, args)
        if args[0].startswith("-") or looks_like_url(args[0]):
            return super().resolve_command(ctx, [DEFAULT, *args])
        if ctx.resilient_parsing:  # of a command line that is being completed
            return None, None, args[1:]
        sentence = f"No such command '{args[0]}'"
        if similar := get_close_matches(args[0], known):
            raise click.UsageError(f"{sentence}. Did you mean {' or '.join(similar)}?", ctx)
        raise click.UsageError(f"{sentence}; if that is a host, write {full_url(args[0])}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except _Signalled as signalled:
            raise Failed("", Exit(128 + signalled.args[0])) from None
        except KeyboardInterrupt:  # caught here because click would print an empty line
            raise Failed("", Exit.INTERRUPTED) from None
        except BrokenPipeError:
            raise Failed("", Exit.NO_READER) from None
        except Failed as failed:
            is_said = is_quiet() and failed.code is not Exit.USAGE
            if is_said or (failed.is_event and is_logged()):
                raise Failed("", failed.code) from failed
            raise


def looks_like_url(word: str) -> bool:
    """Return whether a word that is not a command is meant as a URL rather than a misspelt command."""
    return word == "localhost" or any(mark in word for mark in ":./[")


def _print_version(ctx: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        click.echo(version_text())
        ctx.exit()


@output_options
@click.group(
    cls=_Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="[COMMAND] [ARGS]...",
    epilog="`lochws URL` means `lochws connect URL`. For shell completion, see `lochws completion --help`.",
)
@click.option(
    "-V", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Show the versions of lochws, Python and OpenSSL, and whether lochws is compiled.",
)
def main() -> None:
    """Connect to, diagnose, benchmark and imitate WebSocket servers."""


@output_options
@main.command("demo", short_help="Show an app that loses its connection and reconnects.")
@click.option("--serve", is_flag=True, help="Only serve the price feed, for your own programs, until Ctrl-C.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="PORT", default=8765, show_default=True,
    help="With --serve: the port on 127.0.0.1; 0 picks a free one.",
)
def demo_command(*, serve: bool, port: int) -> int:
    """Run an app against a small built-in server that drops the connection once; takes three seconds."""
    return demo.serve(port) if serve else demo.run(forced_color())


@output_options
@main.command("completion", short_help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(*, shell: str) -> None:
    """Print the script that makes a shell complete commands, options and file names.

    For bash, add `eval "$(lochws completion bash)"` to ~/.bashrc; for zsh, `eval "$(lochws completion zsh)"`
    to ~/.zshrc; for fish, `lochws completion fish | source` to ~/.config/fish/config.fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "lochws", "_LOCHWS_COMPLETE").source())


@output_options
@main.command("man", short_help="Print the manual page.")
def man_command() -> None:
    """Print the manual page lochws(1); `lochws man | man -l -` displays it.

    `pip install` also installs it in share/man, where `man lochws` finds it.
    """
    from .manual import manual  # noqa: PLC0415  rarely used

    click.echo(manual(main), nl=False)


def run(arguments: Sequence[str]) -> int:  # noqa: PLR0911  one for each way to end
    """Run a command line, on the main thread. Errors are one sentence on stderr and an exit code.

    Args:
        arguments: the words after ``lochws``.

    Returns:
        The exit code, one of `Exit`.
    """
    try:
        with _signals_raise():
            code = int(main.main(list(arguments), prog_name="lochws", standalone_mode=False) or 0)
            return flushed(code)
    except Failed as failed:
        return _report(str(failed), failed.code)
    except SystemExit as end:  # from click: after completion, or if it cannot write its output
        return flushed(Exit.NO_READER if end.code else Exit.OK)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "lochws"
        return _report(f"{error.format_message().rstrip('.')} (see {path} --help)", Exit.USAGE)
    except click.ClickException as error:
        return _report(error.format_message(), Exit.FAILED)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except ImportError as error:
        return _report(f"{error}" if "pip install" in str(error) else MISSING.format(error.name), Exit.FAILED)
    except Exception as error:
        logger.debug("traceback of an unexpected error", exc_info=True)
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return _report(f"{what}; this is a bug in lochws, and --debug shows the traceback", Exit.FAILED)


#: The sentence for a missing package of the extra.
MISSING = "this command needs {}: pip install 'lochws[cli]'"


def _report(sentence: str, code: int) -> int:
    """Print a sentence to stderr; return the exit code."""
    if sentence:
        try:
            click.echo(f"lochws: {escaped(sentence)}", err=True)
        except OSError:
            pass  # the reader of stderr is gone too
    return flushed(code)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the main thread's work like Ctrl-C, including the closing handshake."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_it(number: int, frame: FrameType | None) -> None:
        raise _Signalled(number)

    before = {}
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # which nohup sets
            before[number] = signal.signal(number, raise_it)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
