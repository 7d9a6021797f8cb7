"""The connection options, shared by all commands that connect."""

from __future__ import annotations

import getpass
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import click

from .. import WebSocketApp
from ..handlers.log import Log
from .exits import Exit, Failed
from .output import is_logged, output_options
from .shown import as_options

#: The maximum number of bytes waiting to be sent, unless a command sets another limit.
QUEUE = 16 * 1024 * 1024


class Seconds(click.FloatRange):
    """The type of options in seconds: 0 or more, including ``inf``."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert the value, and refuse NaN, which range checks do not catch."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return super().convert(seconds, param, ctx)


def limit(seconds: float) -> float | None:
    """Return the seconds as a limit for lochws: None (no limit) for 0 and ``inf``."""
    return None if seconds in (0, math.inf) else seconds


#: The options of all commands that connect.
OPTIONS = (
    click.Option(
        ["-H", "--header", "headers"], multiple=True, metavar="'NAME: VALUE'",
        help="Add a request header.",
    ),
    click.Option(
        ["-s", "--subprotocol", "subprotocols"], multiple=True, metavar="NAME",
        help="Offer a subprotocol.",
    ),
    click.Option(["--origin"], metavar="ORIGIN", help="Send an Origin header."),
    click.Option(
        ["-u", "--auth"], metavar="USER[:PASSWORD]", envvar="LOCHWS_AUTH", show_envvar=True,
        help="Basic authentication; prompts for a missing password.",
    ),
    click.Option(["--compress"], is_flag=True, help="Offer permessage-deflate."),
    click.Option(
        ["--proxy"], metavar="URL",
        help="An http, https, socks4, socks4a, socks5 or socks5h proxy; 'none' for no proxy at all.",
    ),
    click.Option(
        ["--cafile"], type=click.Path(), metavar="FILE",
        help="Trust these certificate authorities as well.",
    ),
    click.Option(["-k", "--insecure"], is_flag=True, help="Do not verify the server's certificate."),
    click.Option(["--cert"], type=click.Path(), metavar="FILE", help="Present this client certificate."),
    click.Option(
        ["--key"], type=click.Path(), metavar="FILE",
        help="The certificate's key, if in a separate file.",
    ),
    click.Option(
        ["--timeout"], type=Seconds(), default=30.0, show_default=True, metavar="SECONDS",
        help="Time limit for connecting, and for the server's Close frame after ours; 0 is no limit.",
    ),
)


def target_options(command: click.Command) -> click.Command:
    """Add the argument URL and the options to a command, which receives them as keywords for `Target`."""
    command.params[:0] = [click.Argument(["url"]), *OPTIONS]
    return output_options(command)


# RFC 3986 section 3.1. Requires the slashes, because "localhost:8765" would have a scheme otherwise.
_HAS_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)


def full_url(given: str) -> str:
    """Complete a URL that lacks a scheme or a host.

    The scheme is ``ws``, or ``wss`` if the port is 443; the host is ``localhost``.
    """
    if not given or _HAS_SCHEME.match(given):
        return given
    place, slash, path = given.partition("/")
    if place.startswith(":"):
        place = f"localhost{place}"
    return f"{'wss' if place.endswith(':443') else 'ws'}://{place}{slash}{path}"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The target of a command: the values of `target_options`."""

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
        """Create a target from a command's keywords, removing them from the dict."""
        options["url"] = full_url(options["url"])
        return cls(**{field.name: options.pop(field.name) for field in fields(cls)})

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments for `WebSocket` and `WebSocketApp`.

        Raises:
            Failed: an option is not valid.
        """
        return {
            "headers": [_as_header(header) for header in self.headers],
            "protocols": self.subprotocols or None,
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
        """Create an app for this target, without starting it.

        Args:
            logs: whether to log its events if ``-v`` was given.
            more: additional arguments for `WebSocketApp`.

        Raises:
            Failed: an option is not valid.
        """
        arguments = {"max_queue": QUEUE, "on_handler_error": "stop", **self.arguments, **more}
        app = checked(lambda: WebSocketApp(self.url, **arguments))
        if logs and is_logged():
            app.add_handler(Log())
        return app


Made = TypeVar("Made")


def checked(make: Callable[[], Made]) -> Made:
    """Call a function that uses command-line values, and convert its errors to usage errors.

    Raises:
        Failed: the function raised TypeError, ValueError or OSError.
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
        # The value is not shown, because it may be a secret without its header name.
        raise Failed("--header: expected 'Name: value', with a colon", Exit.USAGE)
    return name.strip(), value.strip()


def _as_auth(given: str) -> tuple[str, str]:
    user, colon, password = given.partition(":")
    if not colon:
        try:  # not by click.prompt, which does not tell Ctrl-C from the end of the input
            with warnings.catch_warnings():
                warnings.simplefilter("error", getpass.GetPassWarning)
                password = getpass.getpass(f"Password of {user}: ")
        except EOFError:
            raise Failed("no password given", Exit.USAGE) from None
        except getpass.GetPassWarning:
            sentence = "--auth has no password, and there is no terminal to ask for one: pass USER:PASSWORD"
            raise Failed(sentence, Exit.USAGE) from None
    return user, password


@contextmanager
def running(app: WebSocketApp, seconds: float, **options: Any) -> Iterator[None]:
    """Start an app, and stop it at the end of the block: by a closing handshake or, if that fails, by force.

    An exception that ends the block, such as that of Ctrl-C, then propagates; a second Ctrl-C ends the wait.
    Ctrl-C may also arrive while the app is starting, when its threads may already have sent something.

    Args:
        app: the app.
        seconds: how long the closing handshake may take.
        options: the arguments for `WebSocketApp.start`.
    """
    try:
        app.start(**options)
        yield
    except BaseException:
        app.close(1001, "interrupted")
        raise
    finally:
        if not app.stop(seconds):
            app.force_disconnect(f"the server did not answer our Close frame within {seconds:g} s")


def is_open(descriptor: int) -> bool:
    """Return whether a descriptor is open: a program may be started with its standard streams closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def is_terminal(descriptor: int) -> bool:
    """Return whether a descriptor is a terminal."""
    try:
        return os.isatty(descriptor)
    except OSError:  # it is closed
        return False
