"""What the environment's `no_proxy` exempts: hosts, suffixes, ports, addresses and CIDR blocks."""

from __future__ import annotations

import ipaddress
import re
from typing import TypeAlias

from ...url import Endpoint, ascii_host

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# An entry's host and port. An IPv6 address only has a port behind brackets: its own colons look the same.
_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):(\d{1,5})")


def is_exempt(endpoint: Endpoint, no_proxy: str) -> bool:
    """Whether a list of exemptions, separated by commas or spaces, has the endpoint in it.

    There is no standard; this is what most programs agree on:

    * ``*`` is every host.
    * ``example.org`` is that host and all below it, as are ``.example.org`` and ``*.example.org``.
    * ``10.0.0.1`` and ``::1`` are those addresses, ``10.0.0.0/8`` and ``fd00::/8`` all addresses in the
      block. They are compared with URLs that have an address in them: no name is looked up for this.
    * Each of them may end in ``:port`` (brackets round IPv6), and is meant for that port only then.

    Entries that are none of these exempt nothing.
    """
    return any(_matches(entry, endpoint) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


def _matches(entry: str, endpoint: Endpoint) -> bool:
    host = entry
    if match := _WITH_PORT.fullmatch(entry):
        host, port = match[1], int(match[2])
        if port != endpoint.port:
            return False
    host = host.replace("[", "").replace("]", "")
    if host == "*":
        return True
    addresses = _addresses(endpoint.host)
    if addresses:
        return any(_is_in_block(address, host) for address in addresses)
    name = _ascii(host.removeprefix("*").removeprefix(".").rstrip("."))
    target = endpoint.host.rstrip(".")
    return bool(name) and (target == name or target.endswith(f".{name}"))


def _is_in_block(address: _Address, block: str) -> bool:
    try:
        network = ipaddress.ip_network(block, strict=False)
    except ValueError:
        return False
    return address in network


def _addresses(host: str) -> list[_Address]:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return []
    # ::ffff:10.0.0.1 reaches the same host as 10.0.0.1, and may be meant by entries of either kind.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return [address] if mapped is None else [address, mapped]


def _ascii(name: str) -> str:
    try:
        return ascii_host(name)
    except ValueError:
        return ""
