"""The environment's `no_proxy`: exempt hosts, suffixes, ports, addresses and CIDR blocks."""

from __future__ import annotations

import ipaddress
import re
from typing import TypeAlias

from ...url import Endpoint, ascii_host

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# An entry's host and port. An IPv6 address with a port needs brackets, because of its own colons.
_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):(\d{1,5})")


def is_exempt(endpoint: Endpoint, no_proxy: str) -> bool:
    """Return whether a list of exemptions, separated by commas or spaces, covers the endpoint.

    There is no standard; this is what most programs agree on:

    * ``*`` matches every host.
    * ``example.org``, ``.example.org`` and ``*.example.org`` match that host and all its subdomains.
    * ``10.0.0.1`` and ``::1`` match those addresses, ``10.0.0.0/8`` and ``fd00::/8`` all addresses in the
      block. They are compared with URLs that contain an address; no name is looked up for this.
    * Each of them may end in ``:port`` (with brackets round IPv6), and then matches that port alone.

    Any other entry exempts nothing.
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
    # ::ffff:10.0.0.1 is the same host as 10.0.0.1, and entries of either kind may mean it.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return [address] if mapped is None else [address, mapped]


def _ascii(name: str) -> str:
    try:
        return ascii_host(name)
    except ValueError:
        return ""
