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
    """Run the demonstration; for another command say what to install."""
    from .cli.about import version_text  # noqa: PLC0415  only here
    from .cli.streams import NO_READER, flushed  # noqa: PLC0415

    install = "pip install 'lochws[cli]'"
    named = next((word for word in arguments if not word.startswith("-")), "demo")
    if named != "demo":
        command = named if named.isidentifier() else "connect"  # a URL alone means connect
        print(f"lochws: {command} needs click, like every command but demo: {install}", file=sys.stderr)
        return 1
    about = "an app and a small built-in server that drops the connection once; takes three seconds"
    parser = argparse.ArgumentParser(
        prog="lochws", description="A WebSocket client for threaded programs.",
        epilog=f"The other commands need click: {install}",
    )
    parser.add_argument("-V", "--version", action="version", version=version_text(), help="show the versions")
    commands = parser.add_subparsers(metavar="command", required=True)
    demo_parser = commands.add_parser("demo", help=about, description=f"Run {about}.")
    demo_parser.add_argument("--serve", action="store_true", help="only serve the feed, until Ctrl-C")
    port = "with --serve: the port (8765); 0 picks a free one"
    demo_parser.add_argument("--port", type=int, default=8765, help=port)
    demo_parser.add_argument("--color", choices=_COLORS, default="auto", help="when to use color (auto)")
    options = parser.parse_args(arguments)
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
