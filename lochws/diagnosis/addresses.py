"""Addresses of a host, each of which is tried (an app stops at the first one that answers)."""

from __future__ import annotations

import errno
import queue
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from ..system.control import start_thread
from ..system.interpreters import new_thread
from .findings import Finding, Verdict

#: Seconds that an address has to answer.
ADDRESS_SECONDS = 5.0
#: At most this many addresses are tried.
MAX_ADDRESSES = 16

_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}

_BY_ERRNO = {
    errno.ECONNREFUSED: "connection refused: no process is listening there",
    errno.ENETUNREACH: "this machine has no route to that network",
    errno.EHOSTUNREACH: "no route to that host",
    errno.EADDRNOTAVAIL: "this machine has no address of that family",
}
_ONE_OF_SEVERAL = (
    "Clients lose time on this address before they try another: make it answer, or remove it from DNS."
)


class Address(NamedTuple):
    """An address of a host.

    Attributes:
        family: the address family, a constant of the module `socket`.
        sockaddr: the argument for `socket.connect`.
    """

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    def __str__(self) -> str:
        host, port = self.sockaddr[:2]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"


def look_up(host: str, port: int, limit: float) -> tuple[Finding, list[Address]]:
    """Look up the addresses of a host. Blocks for at most `limit` seconds.

    Returns:
        The finding, and the addresses of both families in the order of the resolver.
    """
    began = monotonic()
    try:
        answers = call_within(limit, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except TimeoutError:
        advice = "Check this machine's DNS: it did not answer in time."
        return Finding("name", Verdict.FAILED, f"{host}: no answer", monotonic() - began, advice), []
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = "Check the spelling of the host, and this machine's DNS."
        return Finding("name", Verdict.FAILED, f"{host}: {reason}", monotonic() - began, advice), []
    found = list(dict.fromkeys(Address(family, sockaddr) for family, *_, sockaddr in answers))
    counts = [
        f"{sum(address.family == family for address in found)} {name}" for family, name in _FAMILIES.items()
    ]
    more = f"; trying the first {MAX_ADDRESSES}" if len(found) > MAX_ADDRESSES else ""
    took = monotonic() - began
    return Finding("name", Verdict.OK, f"{host}: {', '.join(counts)}{more}", took), found[:MAX_ADDRESSES]


def try_all(addresses: list[Address], limit: float) -> tuple[list[Finding], Address | None]:
    """Connect to all addresses at the same time, and disconnect at once.

    Args:
        addresses: the addresses.
        limit: seconds within which each must answer, but at most `ADDRESS_SECONDS`.

    Returns:
        The findings, and the first address that accepted, or None.
    """
    if not addresses:
        return [], None
    answers: queue.Queue[tuple[Address, tuple[str, float]]] = queue.Queue()

    def work(address: Address) -> None:
        answers.put((address, _try(address, min(limit, ADDRESS_SECONDS))))

    for address in addresses:
        # Usually daemons, so that Ctrl-C need not wait for addresses that do not answer.
        start_thread(new_thread(work, "address", address))
    found = dict(answers.get() for _ in addresses)
    tried = [found[address] for address in addresses]
    good = [address for address, (reason, _) in zip(addresses, tried, strict=True) if not reason]
    findings = []
    for address, (reason, seconds) in zip(addresses, tried, strict=True):
        family = _FAMILIES.get(address.family, "address")
        if not reason:
            findings.append(Finding(family, Verdict.OK, f"{address} accepts connections", seconds))
        elif good:
            text = f"{address}: {reason}"
            findings.append(Finding(family, Verdict.WARNING, text, seconds, _ONE_OF_SEVERAL))
        else:  # the attempt itself gives the advice
            findings.append(Finding(family, Verdict.FAILED, f"{address}: {reason}", seconds))
    return findings, good[0] if good else None


def _try(address: Address, limit: float) -> tuple[str, float]:
    """Return why an address failed (empty if it did not), and how long the attempt took, in seconds."""
    began = monotonic()
    reason = ""
    try:
        with socket.socket(address.family, socket.SOCK_STREAM) as sock:
            sock.settimeout(limit)
            sock.connect(address.sockaddr)
    except TimeoutError:
        reason = f"no answer within {limit:g} s: a firewall may be dropping packets"
    except OSError as error:
        reason = _BY_ERRNO.get(error.errno or 0) or error.strerror or str(error)
    return reason, monotonic() - began


Answer = TypeVar("Answer")


def call_within(limit: float, ask: Callable[[], Answer]) -> Answer:
    """Call a function in another thread, and return its result or raise its exception.

    Raises:
        TimeoutError: the call takes longer than `limit` seconds. The thread is left running.
    """
    answers: queue.Queue[Callable[[], Answer]] = queue.Queue()

    def work() -> None:
        try:
            answer = ask()
        except Exception as error:  # noqa: BLE001  the caller raises it
            answers.put(lambda error=error: _raise(error))  # type: ignore[misc]  # a lambda has no types
        else:
            answers.put(lambda: answer)

    start_thread(new_thread(work, "look-up"))
    try:
        return answers.get(timeout=limit)()
    except queue.Empty:
        raise TimeoutError from None


def _raise(error: Exception) -> Any:
    raise error
