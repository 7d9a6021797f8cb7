"""The command `lochws`, also ``python -m lochws``, of which only `demo` works without the extra ``cli``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from . import demo

#: The exit code after Ctrl-C: as shells report it, 128 plus the signal's number.
INTERRUPTED = 130
_COLORS = {"auto": None, "always": True, "never": False}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: the words after ``lochws``; None for those of this process.

    Returns:
        The exit code; `lochws.cli.exits.Exit` says what the codes mean.

    Raises:
        SystemExit: without the extra ``cli``: with 2 if the command line is wrong, with 0 after ``--help``
            and ``--version``.
    """
    # Otherwise logging would print warnings and errors to stderr, even without -v.
    logging.getLogger("lochws").addHandler(logging.NullHandler())
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        from .cli.command import run  # noqa: PLC0415  the demonstration works without click
    except ImportError as error:
        if error.name != "click":
            raise
        return _without_click(given)
    except KeyboardInterrupt:
        return INTERRUPTED
    return run(given)


def _without_click(arguments: Sequence[str]) -> int:
    """Run the demonstration; for every other command say what to install."""
    from .cli.about import version_text  # noqa: PLC0415  only here
    from .cli.streams import NO_READER, flushed  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="lochws", description="A WebSocket client for threaded programs.")
    parser.add_argument("--version", action="version", version=version_text())
    parser.add_argument(
        "command",
        help="demo: an app and a small built-in server that drops the connection once; takes three seconds. "
        "For the other commands: pip install 'lochws[cli]'.",
    )
    parser.add_argument("--serve", action="store_true", help="demo: only serve its feed, until Ctrl-C")
    parser.add_argument(
        "--port", type=int, default=8765, help="demo --serve: the port (8765); 0 picks a free one"
    )
    parser.add_argument("--color", choices=_COLORS, default="auto", help="demo: when to use color (auto)")
    options, others = parser.parse_known_args(arguments)
    if options.command != "demo" or others:
        print("lochws: this needs click: pip install 'lochws[cli]'", file=sys.stderr)
        return 1
    try:
        code = demo.serve(options.port) if options.serve else demo.run(_COLORS[options.color])
        return flushed(code)
    except ImportError as error:
        print(f"lochws: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return flushed(NO_READER)


if __name__ == "__main__":
    sys.exit(main())
