"""SOCKS 4, 4a and 5: PySocks on top of our streams, so that it waits under our deadlines."""

from __future__ import annotations

import io
import ipaddress
import socket
from typing import Any

import socks

from ...errors import ConnectFail
from ...system.deadline import Deadline
from ...system.steps import drive
from ..stream import Stream
from ..waiting import cause, receive, send_all
from .choose import MAX_SOCKS_TEXT, ProxyURL

_UNREACHED = "Check the host and port of the URL, or try again later: the proxy could not reach the server."
_UNKNOWN = "Put the proxy's user name and password in its URL: socks5h://user:password@host:port."


class Unreachable(ConnectFail):
    """A SOCKS proxy could not or would not connect to the host; another address may work."""


def negotiate(stream: Stream, proxy: ProxyURL, host: str, port: int, deadline: Deadline) -> None:
    """Have a SOCKS proxy connect to a host: after that, the stream's bytes are that host's.

    Blocks. The caller keeps the stream, even if this fails.

    Args:
        host: an address, or a name if the proxy looks names up.

    Raises:
        Unreachable: the proxy refused this host.
        ConnectFail: the proxy refused us, or did not answer in time (phase ``"proxy"``).
        Cancelled: the deadline was cancelled.
    """
    user, password = proxy.credentials or (None, None)
    try:
        check_target(proxy, host)
        with _Negotiation(stream, deadline) as negotiation:
            version = socks.SOCKS5 if proxy.scheme.startswith("socks5") else socks.SOCKS4
            negotiation.set_proxy(version, proxy.host, proxy.port, True, user, password)
            # Otherwise PySocks would wrap all errors in one of its own, which hides their kind.
            negotiation.connect((host, port), catch_errors=True)
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


class _Borrowed(socket.socket):
    """A socket in name only: it works on a stream, under a deadline.

    PySocks is built on a socket class that connects, and that makes files which block. Here the connection
    exists already, and the files wait under the deadline. So PySocks never blocks in the system, and no
    thread is needed to interrupt it.
    """

    _stream: Stream
    _deadline: Deadline

    def connect(self, address: Any, /) -> None:
        """Do nothing: the stream is connected."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Do nothing: the deadline is what counts."""

    def makefile(self, *_: Any, **__: Any) -> Any:
        """Return a file for PySocks to read from or write to."""
        return _File(self._stream, self._deadline)


class _Negotiation(socks.socksocket, _Borrowed):
    """PySocks on a stream. The order of the bases puts `_Borrowed` where PySocks expects the system."""

    def __init__(self, stream: Stream, deadline: Deadline) -> None:
        super().__init__()
        self._stream = stream
        self._deadline = deadline


class _File(io.BytesIO):
    """The file that PySocks reads and writes. `io.BytesIO` keeps what is written until it is flushed."""

    def __init__(self, stream: Stream, deadline: Deadline) -> None:
        super().__init__()
        self._stream = stream
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        return drive(receive(self._stream, size or 0, self._deadline), self._deadline)

    def flush(self) -> None:
        drive(send_all(self._stream, self.getvalue(), self._deadline), self._deadline)
        self.seek(0)
        self.truncate()


def _refusal(error: socks.ProxyError) -> str:
    # Its text is "0x05: Connection refused".
    code, _, meaning = str(error).partition(": ")
    return f"the SOCKS proxy refused: {meaning} (code {int(code, 16)})"
