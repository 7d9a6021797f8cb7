"""Where a redirect leads, and which ones are not followed (RFC 9110 section 15.4)."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from ..response import Response
from ..url import Endpoint, parse_url

#: The upgrade is a GET and stays one, so all of them mean the same.
CODES = frozenset({301, 302, 303, 307, 308})


def is_redirect(response: Response) -> bool:
    """Whether the answer says where else to ask."""
    return response.status_code in CODES and bool(response.get("location"))


def target(endpoint: Endpoint, response: Response) -> Endpoint:
    """Where a redirect leads. Another origin gets no credentials, also none that the redirect gives.

    Raises:
        ValueError: it is not to be followed; the text says why, and never repeats credentials.
    """
    location = (response.get("location") or "").replace(" ", "%20")
    scheme = "https" if endpoint.is_secure else "http"
    base = f"{scheme}://{endpoint.host_header}{endpoint.resource}"
    try:
        where = urlsplit(location)
        joined = urljoin(base, location)
        if where.scheme.lower().endswith("+unix"):
            raise ValueError("it leads to a Unix socket")
        found = parse_url(joined)
    except ValueError as error:
        raise ValueError(f"redirect not followed: {error}") from error
    if not where.scheme and not where.netloc:
        return replace(endpoint, resource=found.resource)
    if endpoint.is_secure and not found.is_secure:
        raise ValueError("redirect not followed: it leads from wss to ws")
    same = found.origin == endpoint.origin
    return replace(found, credentials=endpoint.credentials if same else None)
