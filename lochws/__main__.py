"""The command line: ``python -m lochws demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__, demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Args:
        arguments: the words after ``python -m lochws``; None for those of this process.

    Returns:
        The exit status.

    Raises:
        SystemExit: with 2 if there is no such command, with 0 after ``--help`` and ``--version``.
    """
    parser = argparse.ArgumentParser(prog="python -m lochws", description="A threaded WebSocket client.")
    parser.add_argument("--version", action="version", version=f"lochws {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "demo",
        help="an app against a small built-in server that drops the connection once; takes three seconds",
    )
    parser.parse_args(arguments)
    try:
        return demo.run()
    except ImportError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as shells say it: 128 and the signal's number


if __name__ == "__main__":
    sys.exit(main())
