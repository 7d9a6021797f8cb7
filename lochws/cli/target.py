"""The options that say where and how to connect, shared by all commands that do."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import click

from .. import WebSocketApp
from ..handlers.log import Log
from .exits import Exit, Failed
from .shown import as_options

Command = TypeVar("Command", bound=Callable[..., Any])

#: Bytes that may wait to be sent, unless a command says otherwise.
QUEUE = 16 * 1024 * 1024

class Seconds(click.FloatRange):
    """Seconds from 0 up, ``inf`` included."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is no number, which no comparison does."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


def limit(seconds: float) -> float | None:
    """Seconds as lochws takes them: 0 and ``inf`` are no limit, None."""
    return None if seconds in (0, math.inf) else seconds


_OPTIONS = (
    click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Send a header."),
    click.option(
        "-s", "--subprotocol", "subprotocols", multiple=True, metavar="NAME", help="Offer a subprotocol."
    ),
    click.option("--origin", metavar="ORIGIN", help="The Origin header."),
    click.option(
        "--auth", metavar="USER[:PASSWORD]", envvar="LOCHWS_AUTH", show_envvar=True,
        help="Basic authentication; without a password it is asked for.",
    ),
    click.option("--compress", is_flag=True, help="Offer permessage-deflate."),
    click.option(
        "--proxy", metavar="URL",
        help="http, https, socks4, socks4a, socks5 or socks5h; 'none' for no proxy. Else the environment's.",
    ),
    click.option("--cafile", metavar="FILE", help="Trust these certificate authorities, too."),
    click.option("--insecure", is_flag=True, help="Do not verify the server's certificate."),
    click.option("--cert", metavar="FILE", help="Our own certificate."),
    click.option("--key", metavar="FILE", help="Its key, if that is in a file of its own."),
    click.option(
        "--timeout", type=Seconds(), default=30.0, show_default=True, metavar="SECONDS",
        help="For the opening, and for the server's answer to our Close frame; 0 for no limit.",
    ),
)


def _set_verbosity(ctx: click.Context, parameter: click.Parameter, count: int) -> None:
    if count:
        level = logging.INFO if count == 1 else logging.DEBUG
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(message)s", force=True)


def _set_debug(ctx: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        _set_verbosity(ctx, parameter, 2)


def verbosity(command: Command) -> Command:
    """Give a command the options ``-v`` and ``--debug``, which set up logging to stderr."""
    command = click.option("--debug", is_flag=True, expose_value=False, callback=_set_debug,
                           help="Log everything, and where an unexpected error comes from.")(command)
    return click.option("-v", "--verbose", count=True, expose_value=False, callback=_set_verbosity,
                        help="Log what happens on stderr; twice for more.")(command)


def target_options(command: Command) -> Command:
    """Give a command the argument URL and the options; it gets them as keywords, for `Target`."""
    for option in reversed((click.argument("url"), *_OPTIONS)):
        command = option(command)
    return verbosity(command)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where and how to connect, as the command line says it; the options are those of `target_options`."""

    url: str
    headers: tuple[str, ...] = ()
    subprotocols: tuple[str, ...] = ()
    origin: str | None = None
    auth: str | None = None
    compress: bool = False
    proxy: str | None = None
    cafile: str | None = None
    insecure: bool = False
    cert: str | None = None
    key: str | None = None
    timeout: float = 30.0

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Target:
        """The target, whose options are taken out of a command's keywords."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls)})

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `WebSocket` and `WebSocketApp` but the URL.

        Raises:
            Failed: an option is wrong.
        """
        return {
            "headers": [_as_header(header) for header in self.headers],
            "subprotocols": self.subprotocols or None,
            "origin": self.origin,
            "auth": None if self.auth is None else _as_auth(self.auth),
            "compress": self.compress,
            "proxies": {} if self.proxy == "none" else self.proxy,
            "ssl_cafile": self.cafile,
            "ssl_verify": not self.insecure,
            "ssl_certfile": self.cert,
            "ssl_keyfile": self.key,
            "open_timeout": limit(self.timeout),
        }

    def app(self, *, logs: bool = True, **more: Any) -> WebSocketApp:
        """An app for this target, with more arguments of `WebSocketApp`; not started.

        Args:
            logs: whether it tells the log about its life, if ``-v`` was given.

        Raises:
            Failed: an option is wrong.
        """
        arguments = {"max_queue": QUEUE, "on_handler_error": "stop", **self.arguments, **more}
        app = checked(lambda: WebSocketApp(self.url, **arguments))
        if logs and logging.getLogger("lochws.events").isEnabledFor(logging.INFO):
            app.add_handler(Log())
        return app


Made = TypeVar("Made")


def checked(make: Callable[[], Made]) -> Made:
    """What a function makes of the command line's values, or a sentence about the wrong one.

    Raises:
        Failed: it raised TypeError, ValueError or OSError.
    """
    try:
        return make()
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else as_options(str(error))
        raise Failed(what, Exit.USAGE) from error
    except (TypeError, ValueError) as error:
        raise Failed(as_options(str(error)), Exit.USAGE) from error


def _as_header(given: str) -> tuple[str, str]:
    name, colon, value = given.partition(":")
    if not colon:
        # The whole may be a secret that was meant to stand behind a name.
        raise Failed("--header: expected 'Name: value', with a colon", Exit.USAGE)
    return name.strip(), value.strip()


def _as_auth(given: str) -> tuple[str, str]:
    user, colon, password = given.partition(":")
    if not colon:
        try:
            password = click.prompt(
                f"Password of {user}", hide_input=True, default="", show_default=False, err=True
            )
        except click.Abort:
            raise Failed("no password was given", Exit.USAGE) from None
    return user, password


@contextmanager
def running(app: WebSocketApp, seconds: float, **options: Any) -> Iterator[None]:
    """Starts an app, and ends it with the block: by closing, within so many seconds, and then by force.

    What ends the block, Ctrl-C for one, then goes on; a second Ctrl-C does not wait. A Ctrl-C may strike
    while the app starts: its threads may by then have said much to the server.

    Args:
        app: what to start.
        seconds: how long the closing handshake may take.
        options: those of `WebSocketApp.start`.
    """
    try:
        app.start(**options)
        yield
    except BaseException:
        app.close(1001, "interrupted")
        raise
    finally:
        if not app.stop(seconds):
            app.force_disconnect()


def is_open(descriptor: int) -> bool:
    """Whether there is such a descriptor: who starts a program may have closed any."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def is_terminal(descriptor: int) -> bool:
    """Whether a person may sit behind it."""
    try:
        return os.isatty(descriptor)
    except OSError:  # it was closed before we were started
        return False
