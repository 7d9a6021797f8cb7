"""The command `lochws`, which is ``python -m lochws``, too; without the extra ``cli`` it has `demo` alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__, demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Args:
        arguments: the words after ``lochws``; None for those of this process.

    Returns:
        The exit code; `lochws.cli.exits.Exit` has what they mean.

    Raises:
        SystemExit: without the extra ``cli``: with 2 if there is no such command, with 0 after ``--help``
            and ``--version``.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        from .cli.command import run  # noqa: PLC0415  the demonstration does without click
    except ImportError as error:
        if error.name != "click":
            raise
        return _without_click(given)
    return run(given)


def _without_click(arguments: Sequence[str]) -> int:
    """The demonstration, and for all else what has to be installed."""
    parser = argparse.ArgumentParser(prog="lochws", description="A threaded WebSocket client.")
    parser.add_argument("--version", action="version", version=f"lochws {__version__}")
    parser.add_argument(
        "command",
        help="demo: an app against a small built-in server that drops the connection once; takes three "
        "seconds. For the other commands: pip install 'lochws[cli]'.",
    )
    options, others = parser.parse_known_args(arguments)
    if options.command != "demo" or others:
        print("lochws: this needs click: pip install 'lochws[cli]'", file=sys.stderr)
        return 1
    try:
        return demo.run()
    except ImportError as error:
        print(f"lochws: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as shells say it: 128 and the signal's number


if __name__ == "__main__":
    sys.exit(main())
