"""Streams through a proxy of any kind, with the second attempts that its protocol asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...errors import ConnectFail
from ...system.deadline import Deadline
from ...system.lazy import ensure_whole
from ...system.steps import Steps
from ...url import Endpoint
from ..stream import Stream
from ..tcp import resolve
from .choose import ProxyURL
from .tunnel import first_authorization, next_authorization, tunnel

#: Opens a stream to the proxy itself, a new one per call.
Reach = Callable[[], Steps[Stream]]


def open_through(reach: Reach, proxy: ProxyURL, endpoint: Endpoint, deadline: Deadline) -> Steps[Stream]:
    """Open a stream to the endpoint through a proxy. If it fails, nothing is left open.

    Raises:
        ConnectFail: the proxy could not be reached, or refused.
        Cancelled: the deadline was cancelled.
    """
    if proxy.is_socks:
        return (yield from _through_socks(reach, proxy, endpoint, deadline))
    ask = partial(tunnel, proxy=proxy, endpoint=endpoint, deadline=deadline)
    try:
        return (yield from _opened(reach, partial(ask, authorization=first_authorization(proxy))))
    except ConnectFail as refusal:
        try:
            authorization = next_authorization(proxy, endpoint, refusal.response)
        except ValueError as error:
            text = f"{refusal}; {error}"
            about = {"phase": refusal.phase, "address": refusal.address, "response": refusal.response}
            raise ConnectFail(text, **about) from error  # type: ignore[arg-type]
        if authorization is None:
            raise
    # On a new connection: many proxies close the one on which they refused.
    return (yield from _opened(reach, partial(ask, authorization=authorization)))


def _through_socks(reach: Reach, proxy: ProxyURL, endpoint: Endpoint, deadline: Deadline) -> Steps[Stream]:
    ensure_whole("lochws.transport.proxies.socks")
    from .socks import Unreachable, negotiate  # noqa: PLC0415  brings PySocks, which few need

    hosts = yield from _hosts(proxy, endpoint, deadline)
    failures: list[str] = []
    for host in hosts:
        negotiation = partial(negotiate, proxy=proxy, host=host, port=endpoint.port, deadline=deadline)
        try:
            return (yield from _opened(reach, negotiation))
        except Unreachable as fail:
            if host is hosts[-1]:
                causes = "; ".join([*failures, f"{host}: {fail}"]) if failures else str(fail)
                about = {"address": fail.address, "advice": fail.advice}
                raise ConnectFail(causes, phase="proxy", **about) from fail.__cause__  # type: ignore[arg-type]
            failures.append(f"{host}: {fail}")
    raise AssertionError("there is at least one host")


def _hosts(proxy: ProxyURL, endpoint: Endpoint, deadline: Deadline) -> Steps[list[str]]:
    """Return the endpoint as the proxy is told it: its name, or each of its addresses."""
    ensure_whole("lochws.transport.proxies.socks")
    from .socks import is_ipv6  # noqa: PLC0415  likewise

    if proxy.resolves:
        return [endpoint.host]
    deadline.enter("proxy")  # the proxy needs the address
    addresses = yield from resolve(endpoint.host, endpoint.port, deadline)
    hosts = list(dict.fromkeys(str(address[4][0]) for address in addresses))
    if proxy.scheme == "socks4":
        # If there are only IPv6 addresses, `negotiate` refuses them and says why.
        hosts = [host for host in hosts if not is_ipv6(host)] or hosts
    return hosts


def _opened(reach: Reach, prepare: Callable[[Stream], Steps[None]]) -> Steps[Stream]:
    stream = yield from reach()
    try:
        yield from prepare(stream)
    except BaseException:
        stream.close()
        raise
    return stream
