"""SOCKS 4, 4a and 5: PySocks on the bytes of our streams, so that it never waits itself."""

from __future__ import annotations

import io
import ipaddress
import socket
from typing import Any

import socks

from ...errors import ConnectFail
from ...system.deadline import Deadline
from ...system.steps import Steps
from ..stream import Stream
from ..waiting import cause, receive, send_all
from .choose import MAX_SOCKS_TEXT, ProxyURL

_UNREACHED = "Check the host and port of the URL, or try again later: the proxy could not reach the server."
_UNKNOWN = "Put the proxy's user name and password in its URL: socks5h://user:password@host:port."


class Unreachable(ConnectFail):
    """A SOCKS proxy could not or would not connect to the host; another address may work."""


def negotiate(stream: Stream, proxy: ProxyURL, host: str, port: int, deadline: Deadline) -> Steps[None]:
    """Have a SOCKS proxy connect to a host: after that, the stream's bytes are that host's.

    The caller keeps the stream, even if this fails.

    Args:
        host: an address, or a name if the proxy looks names up.

    Raises:
        Unreachable: the proxy refused this host.
        ConnectFail: the proxy refused us, or did not answer in time (phase ``"proxy"``).
        Cancelled: the deadline was cancelled.
    """
    try:
        check_target(proxy, host)
        yield from _converse(stream, proxy, host, port, deadline)
    except TimeoutError as error:
        text = f"no answer from the SOCKS proxy: {cause(error)}"
        raise ConnectFail(text, phase="proxy", address=stream.address) from error
    except (socks.SOCKS4Error, socks.SOCKS5Error) as error:
        refusal = _refusal(error)
        raise Unreachable(refusal, phase="proxy", address=stream.address, advice=_UNREACHED) from error
    except socks.SOCKS5AuthError as error:
        text = f"the SOCKS proxy refused: {error}"
        raise ConnectFail(text, phase="proxy", address=stream.address, advice=_UNKNOWN) from error
    except (OSError, ValueError) as error:
        raise ConnectFail(cause(error), phase="proxy", address=stream.address) from error


def _converse(stream: Stream, proxy: ProxyURL, host: str, port: int, deadline: Deadline) -> Steps[None]:
    """Have PySocks negotiate, starting from the beginning whenever more has been received.

    What it writes depends on what it reads alone, so bytes that were sent are not sent again. It takes three
    or four rounds of a few bytes, and no thread has to wait inside PySocks.
    """
    user, password = proxy.credentials or (None, None)
    version = socks.SOCKS5 if proxy.scheme.startswith("socks5") else socks.SOCKS4
    talk = _Talk()
    sent = 0
    while True:
        talk.begin()
        with _Negotiation(talk) as negotiation:
            negotiation.set_proxy(version, proxy.host, proxy.port, True, user, password)
            try:
                # Otherwise PySocks would wrap all errors in one of its own, which hides their kind.
                negotiation.connect((host, port), catch_errors=True)
                return
            except _WantsMore as wanted:
                size = wanted.size
        yield from send_all(stream, bytes(talk.written[sent:]), deadline)
        sent = len(talk.written)
        data = yield from receive(stream, size, deadline)
        talk.received += data
        talk.has_ended = not data


def check_target(proxy: ProxyURL, host: str) -> None:
    """Refuse a host that the proxy's protocol, or PySocks, cannot express.

    Raises:
        ValueError: it is refused; the text says why.
    """
    if proxy.scheme.startswith("socks4") and is_ipv6(host):
        raise ValueError("SOCKS 4 has no IPv6 addresses: use socks5:// if the proxy supports it")
    if len(host) > MAX_SOCKS_TEXT:
        raise ValueError(f"the host name has over {MAX_SOCKS_TEXT} bytes, too long for SOCKS: use socks5://")


def is_ipv6(host: str) -> bool:
    """Return whether the host is an IPv6 address."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).version == 6
    except ValueError:
        return False


class _WantsMore(Exception):
    """Raised out of PySocks when it has read everything that was received."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class _Talk:
    """The bytes of a negotiation: received from the proxy, and written by PySocks in this round."""

    def __init__(self) -> None:
        self.received = b""
        self.has_ended = False
        self.written = bytearray()
        self._position = 0

    def begin(self) -> None:
        """Start from the beginning."""
        self._position = 0
        self.written.clear()

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end of the stream.

        Raises:
            _WantsMore: all received bytes have been read.
        """
        data = self.received[self._position:self._position + size]
        if not data and not self.has_ended:
            raise _WantsMore(size)
        self._position += len(data)
        return data


class _Borrowed(socket.socket):
    """A socket in name only: its bytes are those of a `_Talk`.

    PySocks is built on a socket class that connects, and that makes files which block. Here the connection
    exists already, and the files never wait.
    """

    _talk: _Talk

    def connect(self, address: Any, /) -> None:
        """Do nothing: the stream is connected."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Do nothing: nothing here waits."""

    def makefile(self, *_: Any, **__: Any) -> Any:
        """Return a file for PySocks to read from or write to."""
        return _File(self._talk)


class _Negotiation(socks.socksocket, _Borrowed):
    """PySocks on a `_Talk`. The order of the bases puts `_Borrowed` where PySocks expects the system."""

    def __init__(self, talk: _Talk) -> None:
        super().__init__()
        self._talk = talk


class _File(io.BytesIO):
    """The file that PySocks reads and writes."""

    def __init__(self, talk: _Talk) -> None:
        super().__init__()
        self._talk = talk

    def read(self, size: int | None = -1, /) -> bytes:
        return self._talk.read(size or 0)

    def write(self, data: Any, /) -> int:
        self._talk.written += data
        return len(data)


def _refusal(error: socks.ProxyError) -> str:
    # Its text is "0x05: Connection refused".
    code, _, meaning = str(error).partition(": ")
    return f"the SOCKS proxy refused: {meaning} (code {int(code, 16)})"
