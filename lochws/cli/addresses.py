"""Every address of a host, each tried by itself: an attempt stops at the first that is good."""

from __future__ import annotations

import errno
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from .findings import Finding, Verdict

#: Seconds that one address gets.
ADDRESS_SECONDS = 5.0
#: How many addresses are tried at most.
MAX_ADDRESSES = 16

_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}

_BY_ERRNO = {
    errno.ECONNREFUSED: "nobody listens there",
    errno.ENETUNREACH: "this machine has no way to that network",
    errno.EHOSTUNREACH: "there is no way to that host",
    errno.EADDRNOTAVAIL: "this machine has no address of that family",
}
_ONE_OF_SEVERAL = (
    "Clients lose time with this address before they try another: have it answer, or take it out of the DNS."
)


class Address(NamedTuple):
    """Where a host can be reached.

    Attributes:
        family: as the module `socket` has it.
        sockaddr: what `socket.connect` takes.
    """

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    def __str__(self) -> str:
        host, port = self.sockaddr[:2]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"


def look_up(host: str, port: int, limit: float) -> tuple[Finding, list[Address]]:
    """Ask for the addresses of a host. Blocks for `limit` seconds at most.

    Returns:
        The finding, and the addresses of both families in the system's order.
    """
    began = monotonic()
    try:
        answers = within(limit, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except TimeoutError:
        advice = "Check this machine's DNS: no answer came in time."
        return Finding("name", Verdict.FAILED, f"{host}: no answer", monotonic() - began, advice), []
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = "Check the spelling of the host and this machine's DNS."
        return Finding("name", Verdict.FAILED, f"{host}: {reason}", monotonic() - began, advice), []
    found = list(dict.fromkeys(Address(family, sockaddr) for family, *_, sockaddr in answers))
    counts = [
        f"{sum(address.family == family for address in found)} {name}" for family, name in _FAMILIES.items()
    ]
    more = f"; the first {MAX_ADDRESSES} are tried" if len(found) > MAX_ADDRESSES else ""
    took = monotonic() - began
    return Finding("name", Verdict.OK, f"{host}: {', '.join(counts)}{more}", took), found[:MAX_ADDRESSES]


def try_all(addresses: list[Address], limit: float) -> tuple[list[Finding], Address | None]:
    """Connect to each of them, side by side, and hang up.

    Returns:
        The findings, and the first address that answered, or None.
    """
    if not addresses:
        return [], None
    with ThreadPoolExecutor(len(addresses)) as pool:
        tried = list(pool.map(lambda address: _try(address, min(limit, ADDRESS_SECONDS)), addresses))
    good = [address for address, (reason, _) in zip(addresses, tried, strict=True) if not reason]
    findings = []
    for address, (reason, seconds) in zip(addresses, tried, strict=True):
        family = _FAMILIES.get(address.family, "address")
        if not reason:
            findings.append(Finding(family, Verdict.OK, f"{address} accepts connections", seconds))
        elif good:
            text = f"{address}: {reason}"
            findings.append(Finding(family, Verdict.WARNING, text, seconds, _ONE_OF_SEVERAL))
        else:  # what to do about it the attempt itself says
            findings.append(Finding(family, Verdict.FAILED, f"{address}: {reason}", seconds))
    return findings, good[0] if good else None


def _try(address: Address, limit: float) -> tuple[str, float]:
    """What is wrong with an address, empty if nothing, and how long it took to know."""
    began = monotonic()
    reason = ""
    try:
        with socket.socket(address.family, socket.SOCK_STREAM) as sock:
            sock.settimeout(limit)
            sock.connect(address.sockaddr)
    except TimeoutError:
        reason = f"no answer within {limit:g} s: perhaps a firewall drops what is sent there"
    except OSError as error:
        reason = _BY_ERRNO.get(error.errno or 0) or error.strerror or str(error)
    return reason, monotonic() - began


Answer = TypeVar("Answer")


def within(limit: float, ask: Callable[[], Answer]) -> Answer:
    """What a function returns or raises; TimeoutError if it takes too long: then it is left to itself."""
    answers: queue.Queue[Callable[[], Answer]] = queue.Queue()

    def work() -> None:
        try:
            answer = ask()
        except Exception as error:  # noqa: BLE001  the caller raises it
            answers.put(lambda error=error: _raise(error))  # type: ignore[misc]  # a lambda has no types
        else:
            answers.put(lambda: answer)

    threading.Thread(target=work, name="look-up", daemon=True).start()
    try:
        return answers.get(timeout=limit)()
    except queue.Empty:
        raise TimeoutError from None


def _raise(error: Exception) -> Any:
    raise error
