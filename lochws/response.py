"""HTTP responses: the server's answer to the upgrade request, parsed (RFC 9112)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

_STATUS_LINE = r"(?s)(HTTP/\d\.\d) (\d{3})(?: (.*))?$"

# Compiled only when the text of a refusal is read.
_CHARSET = r"""charset\s*=\s*["']?([A-Za-z0-9._:+-]+)"""
# These are not charsets for documents, and decoding 64 KiB of hostile input with them takes seconds.
_NO_CHARSETS = frozenset({"idna", "punycode"})

# RFC 9110 section 5.5: control characters are not allowed in values, and may be replaced by spaces. A
# server's text ends up in logs and on terminals, where such characters would start lines or move the cursor.
_CONTROLS = dict.fromkeys([*range(9), *range(10, 32), 127], " ")

# Bytes, such as a lone carriage return, that take more than stripping white space.
_UNUSUAL = rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff]|\r(?!\n)"

#: A pattern for the end of a head. A lone line feed may end a line, too (RFC 9112 section 2.2).
HEAD_END = rb"\n\r?\n"
_LINE_END = r"\r?\n"


class Response:
    """An HTTP response: its head, parsed leniently, and the beginning of its body.

    Any bytes are accepted: attributes that could not be parsed are None or empty. In `status` and `headers`,
    control characters are replaced by spaces, and non-ASCII bytes are decoded as UTF-8, or as ISO 8859-1 if
    they are not valid UTF-8.

    Args:
        header_data: the head as received, with or without the blank line at its end.
        body: the received part of the body, for a refusal.

    Attributes:
        raw: the head as received.
        http_ver: the version from the status line, such as ``"HTTP/1.1"``; empty without a valid status line.
        status_code: the status code; None without a valid status line.
        status: the reason phrase.
        headers: values by lower-case name; repeated ones are joined by a comma, folded lines by a space.
        header_list: name and value of each header line in order, names in lower case, values as received.
        body: the beginning of the body; empty after an upgrade.
    """

    def __init__(self, header_data: bytes, body: bytes = b"") -> None:
        self.raw = header_data
        self.body = body
        # Latin-1 maps each byte to one character, so that values can be sent back to the server unchanged.
        first, *lines = re.split(_LINE_END, header_data.decode("latin-1"))
        match = re.match(_STATUS_LINE, first)
        self.http_ver: str = match[1] if match else ""
        self.status_code: int | None = int(match[2]) if match else None
        is_usual = re.search(_UNUSUAL, header_data) is None
        readable = str.strip if is_usual else _readable_text
        self.status: str = readable(match[3] or "") if match else ""
        self.headers: dict[str, str] = {}
        self.header_list: list[tuple[str, str]] = _header_list(lines, str.strip if is_usual else _text)
        for name, given in self.header_list:
            value = readable(given)
            if name not in self.headers:
                self.headers[name] = value
            elif name != "location":  # a joined list would not be a URL: the first one counts
                self.headers[name] += f",{value}"

    def get(self, name: str | bytes, default: str | None = None) -> str | None:
        """Return the value of a header, or `default`. The name is case-insensitive."""
        return self.headers.get(_as_name(name), default)

    def get_list(self, name: str | bytes) -> list[str]:
        """Return a header's value as a list, split at commas, stripped and without empty elements."""
        return [part for part in map(str.strip, self.headers.get(_as_name(name), "").split(",")) if part]

    @property
    def text(self) -> str:
        """The body as text, decoded with the charset from Content-Type, by default UTF-8; never fails."""
        match = re.search(_CHARSET, self.get("content-type") or "", re.IGNORECASE)
        charset = match[1] if match else "utf-8"
        try:
            known = codecs.lookup(charset).name not in _NO_CHARSETS
            return self.body.decode(charset if known else "utf-8", "replace")
        except (LookupError, ValueError):  # an unknown charset, or a codec that does not produce text
            return self.body.decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"<response {self.http_ver} {self.status_code} {self.status}>"


def _header_list(lines: list[str], text: Callable[[str], str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for line in lines:
        if line[:1] in (" ", "\t") and pairs:
            # Obsolete line folding, RFC 9112 section 5.2: a fold counts as one space.
            name, value = pairs[-1]
            pairs[-1] = (name, f"{value} {line.strip()}".strip())
            continue
        name, colon, value = line.partition(":")
        if colon:
            pairs.append((text(name).lower(), value.strip()))
    return pairs


def _as_name(name: str | bytes) -> str:
    return (name.decode("latin-1") if isinstance(name, bytes) else name).lower()


def _readable(received: str) -> str:
    """Return text as UTF-8 if it is valid UTF-8, otherwise as ISO 8859-1 (RFC 9110 section 5.5)."""
    try:
        return received.encode("latin-1").decode()
    except UnicodeDecodeError:
        return received


def _readable_text(received: str) -> str:
    return _text(_readable(received))


def _text(received: str) -> str:
    return received.translate(_CONTROLS).strip()
