"""Real proxies of every kind: messages pass in both directions, as docs/proxies.md says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lochws import WebSocket, events

from ..support.seen import PATIENCE
from .conftest import PASSWORD, PLAIN_PASSWORD, USER, StartProxy

DOCUMENT = Path(__file__).parents[2] / "docs" / "proxies.md"
#: If set, the run writes the table into the page; otherwise it checks the table there.
WRITE = "LOCHWS_WRITE_DOCS"


@dataclass(frozen=True)
class Case:
    """A row of the table: a kind of proxy, a program of that kind, and its authentication."""

    scheme: str
    program: str
    authentication: str

    def __str__(self) -> str:
        return f"{self.scheme}-{self.program}-{self.authentication}"

    def url(self, authority: str, password: str | None = None) -> str:
        """Return the proxy's URL, with credentials if there are any."""
        if self.authentication == "none":
            return f"{self.scheme}://{authority}"
        right = PLAIN_PASSWORD if self.program == "tinyproxy" else PASSWORD
        return f"{self.scheme}://{quote(USER)}:{quote(password or right, safe='')}@{authority}"


CASES = [
    Case("http", "squid", "none"),
    Case("http", "squid", "Basic"),
    Case("http", "squid", "Digest"),
    Case("http", "tinyproxy", "none"),
    Case("http", "tinyproxy", "Basic"),
    Case("https", "squid", "none"),
    Case("https", "squid", "Basic"),
    Case("https", "squid", "Digest"),
    Case("socks4", "dante", "none"),
    Case("socks4", "OpenSSH", "none"),
    Case("socks4a", "OpenSSH", "none"),
    Case("socks5", "dante", "none"),
    Case("socks5h", "dante", "none"),
    Case("socks5", "OpenSSH", "none"),
    Case("socks5h", "OpenSSH", "none"),
    Case("socks5", "microsocks", "none"),
    Case("socks5h", "microsocks", "none"),
    Case("socks5", "microsocks", "password"),
    Case("socks5h", "microsocks", "password"),
]
SCHEMES = ("ws", "wss")
CLOSED = [case for case in CASES if case.authentication != "none"]

# The cases that have passed in this run.
_passed: set[tuple[Case, str]] = set()


def talk(url: str, **options: Any) -> list[events.Event]:
    """Exchange messages larger and smaller than any buffer on the way with an echo server."""
    texts = ["hello", "\N{GREEK SMALL LETTER PI}" * 40_000, ""]
    data = os.urandom(3_000_000)
    seen: list[events.Event] = []
    websocket = WebSocket(url, **options)
    heard: list[str | bytes] = []
    for event in websocket.connect(close_timeout=PATIENCE):
        seen.append(event)
        if event.name == "ready":
            for text in texts:
                websocket.send_text(text)
            websocket.send_binary(data)
        elif isinstance(event, events.Text):
            heard.append(event.text)
        elif isinstance(event, events.Binary):
            heard.append(event.data)
            websocket.close()
    assert heard == [*texts, data], seen[-1]
    assert seen[-1].graceful  # type: ignore[attr-defined]
    return seen


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_messages_pass_in_both_directions(
    case: Case, scheme: str, start_proxy: StartProxy, echo: dict[str, int], ca_file: str
) -> None:
    proxy = case.url(start_proxy(case.program, case.scheme, case.authentication))
    url = f"{scheme}://localhost:{echo[scheme]}/"
    seen = talk(url, proxies=proxy, ssl_cafile=ca_file)
    connected = next(event for event in seen if isinstance(event, events.Connected))
    assert connected.proxy == re.sub("//.*@", "//", proxy)
    _passed.add((case, scheme))


@pytest.mark.parametrize("case", CLOSED, ids=str)
def test_a_wrong_password_is_refused_and_shown_nowhere(
    case: Case, start_proxy: StartProxy, echo: dict[str, int], ca_file: str
) -> None:
    authority = start_proxy(case.program, case.scheme, case.authentication)
    last = fail(f"ws://localhost:{echo['ws']}/", case.url(authority, "wr0ng"), ca_file)
    assert (last.phase, last.reason.partition(";")[0]) == ("proxy", "proxy fail")
    if case.scheme.startswith("http"):
        # tinyproxy mistakes itself for a server when the password is wrong.
        code = 401 if case.program == "tinyproxy" else 407
        assert last.reason.startswith(f"proxy fail; {code} ")
        assert last.response.status_code == code
        assert b"<html" in last.response.body.lower()  # the page that people would see
    else:
        assert "authentication failed" in last.reason
    assert "wr0ng" not in f"{last!r}{last.error!r}{last.error.__cause__!r}"


@pytest.mark.parametrize("case", CLOSED, ids=str)
def test_without_a_password_it_is_refused(
    case: Case, start_proxy: StartProxy, echo: dict[str, int], ca_file: str
) -> None:
    authority = start_proxy(case.program, case.scheme, case.authentication)
    last = fail(f"ws://localhost:{echo['ws']}/", f"{case.scheme}://{authority}", ca_file)
    assert last.phase == "proxy"
    assert re.search(r"407|authentication methods were rejected", last.reason)


# OpenSSH agrees before it has connected, and then closes the connection.
@pytest.mark.parametrize("case", [case for case in CASES if case.program != "OpenSSH"], ids=str)
def test_an_endpoint_that_is_not_there_is_the_proxys_refusal(
    case: Case, start_proxy: StartProxy, ca_file: str, nobody: int
) -> None:
    authority = start_proxy(case.program, case.scheme, case.authentication)
    last = fail(f"ws://127.0.0.1:{nobody}/", case.url(authority), ca_file)
    assert (last.phase, last.reason.partition(";")[0]) == ("proxy", "proxy fail")
    assert re.search(r"50\d |the SOCKS proxy refused: ", last.reason), last.reason


def test_digest_without_basic_sends_no_password(
    start_proxy: StartProxy, echo: dict[str, int]
) -> None:
    case = Case("http", "squid", "Digest")
    proxy = case.url(start_proxy("squid", "http", "Digest"))
    talk(f"ws://localhost:{echo['ws']}/", proxies=proxy, proxy_auth="digest")


def test_basic_alone_does_not_become_digest(start_proxy: StartProxy, echo: dict[str, int]) -> None:
    case = Case("http", "squid", "Digest")
    proxy = case.url(start_proxy("squid", "http", "Digest"))
    last = fail(f"ws://localhost:{echo['ws']}/", proxy, None, proxy_auth="basic")
    assert last.reason == "proxy fail; 407 Proxy Authentication Required"


def test_the_certificate_of_an_https_proxy_is_verified(start_proxy: StartProxy, echo: dict[str, int]) -> None:
    authority = start_proxy("squid", "https", "none")
    last = fail(f"ws://localhost:{echo['ws']}/", f"https://{authority}", None)
    assert last.phase == "proxy"
    reason = "unable to connect to proxy; the certificate of 'localhost' was not accepted"
    assert last.reason.startswith(reason)


@pytest.mark.parametrize("name", ["https_proxy", "WSS_PROXY", "all_proxy"])
def test_the_environment_leads_through_a_proxy(
    name: str, start_proxy: StartProxy, echo: dict[str, int], ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Case("http", "squid", "Basic").url(start_proxy("squid", "http", "Basic"))
    monkeypatch.setenv(name, proxy)
    url = f"wss://localhost:{echo['wss']}/"
    assert seen_proxy(talk(url, ssl_cafile=ca_file)) is not None
    monkeypatch.setenv("no_proxy", "localhost")
    assert seen_proxy(talk(url, ssl_cafile=ca_file)) is None


def fail(url: str, proxy: str, ca_file: str | None, **options: Any) -> Any:
    """Return the ConnectFail that ends an attempt."""
    *_, last = WebSocket(url, proxies=proxy, ssl_cafile=ca_file, **options)
    assert last.name == "connect_fail"
    return last


def seen_proxy(seen: list[events.Event]) -> str | None:
    """Return the proxy that the connection used."""
    return next(event.proxy for event in seen if isinstance(event, events.Connected))


def table() -> str:
    """Return the results of this run as a table."""
    lines = ["| Proxy | Program | Authentication | ws | wss |", "| --- | --- | --- | --- | --- |"]
    for case in CASES:
        cells = ["passes" if (case, scheme) in _passed else "**fails**" for scheme in SCHEMES]
        lines.append(f"| `{case.scheme}://` | {case.program} | {case.authentication} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_table_in_the_documents_is_that_of_this_run(request: pytest.FixtureRequest) -> None:
    chosen = {item.name.partition("[")[0]: 0 for item in request.session.items}
    for item in request.session.items:
        chosen[item.name.partition("[")[0]] += 1
    if chosen.get("test_messages_pass_in_both_directions") != len(CASES) * len(SCHEMES):
        return  # only some of the tests were run, which says nothing about the table
    text = DOCUMENT.read_text(encoding="utf-8")
    before, begin, rest = text.partition("<!-- table: begin -->\n")
    _, end, after = rest.partition("\n<!-- table: end -->")
    assert begin
    assert end
    current = f"{before}{begin}{table()}{end}{after}"
    if os.environ.get(WRITE):
        DOCUMENT.write_text(current, encoding="utf-8")
    elif not programs_are_missing():
        assert text == current


def programs_are_missing() -> bool:
    """Return whether programs are missing, so that their tests were skipped."""
    from .programs import find

    try:
        for name in ("squid", "openssl", "tinyproxy", "danted", "microsocks", "ssh", "sshd", "ssh-keygen"):
            find(name)
    except pytest.skip.Exception:
        return True
    return False
