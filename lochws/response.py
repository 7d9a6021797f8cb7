"""The server's HTTP answer to the upgrade request, parsed (RFC 9112)."""

from __future__ import annotations

import codecs
import re

_STATUS_LINE = re.compile(r"HTTP/(\d\.\d) (\d{3})(?: (.*))?$", re.DOTALL)

# Not compiled before a refusal's text is read.
_CHARSET = r"""charset\s*=\s*["']?([A-Za-z0-9._:+-]+)"""
# No charsets of documents, and decoding takes seconds for 64 KiB that are made for it.
_NO_CHARSETS = frozenset({"idna", "punycode"})

# RFC 9110 section 5.5: these stand in no value, and a space may be put in their place. What a server says
# ends up in logs and on terminals, where they would begin new lines and move the cursor.
_CONTROLS = dict.fromkeys([*range(9), *range(10, 32), 127], " ")


class Response:
    """An HTTP response: its head, parsed leniently, and the beginning of its body.

    Whatever the bytes are, construction succeeds: what could not be understood is None or empty.
    Control characters are spaces in `status` and `headers`.

    Args:
        header_data: the head as it came, with or without the blank line at its end.
        body: what came of the body, for a refusal.

    Attributes:
        raw: the head as it came.
        http_ver: the version from the status line, such as ``"1.1"``; empty if there is none.
        status_code: the status code, or None if the first line is no status line.
        status: the reason phrase.
        headers: values by lower-case name; repeated ones are joined by a comma, folded ones by a space.
        body: the beginning of the body; empty after an upgrade.
    """

    def __init__(self, header_data: bytes, body: bytes = b"") -> None:
        self.raw = header_data
        self.body = body
        first, *lines = header_data.decode("ascii", "replace").split("\r\n")
        match = _STATUS_LINE.match(first)
        self.http_ver: str = match[1] if match else ""
        self.status_code: int | None = int(match[2]) if match else None
        self.status: str = _text(match[3] or "") if match else ""
        self.headers: dict[str, str] = {}
        #: Every header line in order, names in lower case, values as they came; for checks.
        self.header_list: list[tuple[str, str]] = _header_list(lines)
        for name, given in self.header_list:
            value = _text(given)
            self.headers[name] = f"{self.headers[name]},{value}" if name in self.headers else value

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of a header, whatever the case of its name, or `default`."""
        return self.headers.get(name.lower(), default)

    def get_list(self, name: str) -> list[str]:
        """The value of a header split at its commas, stripped, without empty parts."""
        return [part for part in map(str.strip, self.headers.get(name.lower(), "").split(",")) if part]

    @property
    def text(self) -> str:
        """The body as text, by the charset of its Content-Type, else UTF-8; wrong bytes are replaced."""
        match = re.search(_CHARSET, self.get("content-type") or "", re.IGNORECASE)
        charset = match[1] if match else "utf-8"
        try:
            known = codecs.lookup(charset).name not in _NO_CHARSETS
            return self.body.decode(charset if known else "utf-8", "replace")
        except (LookupError, ValueError):  # a charset that nobody knows, or a codec that makes no text
            return self.body.decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"Response(HTTP/{self.http_ver} {self.status_code} {self.status})"


def _header_list(lines: list[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for line in lines:
        if line[:1] in (" ", "\t") and pairs:
            # Obsolete line folding, RFC 9112 section 5.2: one space stands for the fold.
            name, value = pairs[-1]
            pairs[-1] = (name, f"{value} {line.strip()}".strip())
            continue
        name, colon, value = line.partition(":")
        if colon:
            pairs.append((_text(name).lower(), value.strip()))
    return pairs


def _text(received: str) -> str:
    return received.translate(_CONTROLS).strip()
