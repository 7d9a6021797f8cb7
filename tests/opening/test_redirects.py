"""Redirects are followed where that is safe, and secrets stay with the origin they are meant for."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from http.cookiejar import CookieJar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws import WebSocket
from lochws.opening.redirect import is_redirect, target
from lochws.response import Response
from lochws.url import parse_url

from ..support.attempts import Dial
from ..support.peer import Link, Peer, StartPeer


def moved(location: str | Callable[[], str], code: int = 302) -> Callable[[Link], object]:
    """A script: redirect every request."""

    def script(link: Link) -> None:
        link.read_request()
        where = location() if callable(location) else location
        link.send(f"HTTP/1.1 {code} Moved\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode())
        link.wait_for_end()

    return script


@pytest.fixture
def goal(start_peer: StartPeer) -> Peer:
    """The target of redirects."""
    return start_peer(Link.accept)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_each_kind_is_followed_with_a_get(dial: Dial, start_peer: StartPeer, goal: Peer, code: int) -> None:
    first = start_peer(moved(f"{goal.url}new?x=1", code))
    attempt = dial(first.url)
    assert attempt.opened
    assert attempt.names == ["connecting", "connected"] * 2
    assert [event.url for event in attempt.events] == [first.url] * 2 + [f"{goal.url}new?x=1"] * 2
    line, headers = goal.links[0].request
    assert line == "GET /new?x=1 HTTP/1.1"
    assert headers["host"] == goal.authority
    assert headers["sec-websocket-key"] != first.links[0].request.headers["sec-websocket-key"]


def test_it_is_followed_relatively_with_the_same_credentials(dial: Dial, start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        request = link.read_request()
        if request.line.startswith("GET /a/b"):
            link.send(b"HTTP/1.1 307 Moved\r\nLocation: ../c?d\r\nContent-Length: 0\r\n\r\n")
        else:
            link.accept(request=request)

    peer = start_peer(script)
    attempt = dial(f"ws://me:secret@{peer.authority}/a/b", headers=(("Cookie", "x=y"),))
    assert attempt.opened
    requests = [link.request for link in peer.links]
    assert [request.line for request in requests] == ["GET /a/b HTTP/1.1", "GET /c?d HTTP/1.1"]
    assert requests[1].headers["authorization"] == requests[0].headers["authorization"]
    assert requests[1].headers["cookie"] == "x=y"


def test_another_origin_gets_no_header_but_ours(dial: Dial, start_peer: StartPeer, goal: Peer) -> None:
    secrets = (("Authorization", "Bearer secret"), ("Cookie", "secret=1"), ("X-Api-Key", "secret"))
    for options in ({"headers": secrets}, {"auth": ("me", "secret")}, {"auth": lambda: "secret"}, {}):
        first = start_peer(moved(goal.url.replace("ws://", "ws://them:theirs@")))
        assert dial(first.url.replace("ws://", "ws://me:secret@"), origin="https://us", **options).opened
        assert first.links[0].request.headers["authorization"]
        _, headers = goal.links[-1].request
        assert set(headers) == {
            "host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "user-agent",
            "origin",
        }
        assert headers["host"] == goal.authority


def test_redirect_headers_all_takes_the_users_headers_and_subprotocols_along(
    dial: Dial, start_peer: StartPeer, goal: Peer
) -> None:
    first = start_peer(moved(goal.url))
    options = {
        "headers": (("X-Api-Key", "secret"), ("Authorization", "secret"), ("Host", "first.example")),
        "protocols": ("v1", "bearer.secret"), "auth": ("me", "secret"),
    }
    assert dial(first.url, redirect_headers="all", **options).opened
    _, headers = goal.links[0].request
    assert headers["x-api-key"] == headers["authorization"] == "secret"
    assert headers["host"] == goal.authority
    assert headers["sec-websocket-protocol"] == "v1, bearer.secret"


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (["graphql-transport-ws", "wamp.2.json", "v12.stomp", "json.reliable.webpubsub.azure.v1"], None),
        (["v4.channel.k8s.io", "base64url.bearer.authorization.k8s.io.c2VjcmV0"], ["v4.channel.k8s.io"]),
        (["access_token", "hunter2", "v1"], ["v1"]),
        (["realtime", "openai-insecure-api-key.sk-123", "openai-beta.realtime-v1"],
         ["realtime", "openai-beta.realtime-v1"]),
        (["aws-appsync-event-ws", "header-eyJob3N0IjoieCJ9"], ["aws-appsync-event-ws"]),
        (["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc"], []),
        (["550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204", "QWxhZGRpbjpvcGVu", "x" * 41], []),
    ],
)
def test_another_origin_is_offered_no_subprotocol_that_looks_like_a_credential(
    dial: Dial, start_peer: StartPeer, goal: Peer, offered: list[str], expected: list[str] | None
) -> None:
    first = start_peer(moved(goal.url))
    assert dial(first.url, protocols=tuple(offered)).opened
    assert first.links[0].request.headers["sec-websocket-protocol"] == ", ".join(offered)
    expected = offered if expected is None else expected
    assert goal.links[0].request.headers.get("sec-websocket-protocol", "") == ", ".join(expected)


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("/caf\xe9".encode(), "/caf%C3%A9"), (b"/caf\xe9", "/caf%E9"), (b"/a b", "/a%20b"),
        (b"/a%20b?c=%C3%A9#d", "/a%20b?c=%C3%A9"),
    ],
)
def test_a_location_beyond_ascii_is_asked_for_byte_by_byte(
    dial: Dial, start_peer: StartPeer, location: bytes, asked: str
) -> None:
    def script(link: Link) -> None:
        request = link.read_request()
        if request.line == "GET / HTTP/1.1":
            link.send(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n")
        else:
            link.accept(request=request)

    peer = start_peer(script)
    assert dial(peer.url).opened
    assert peer.links[1].request.line == f"GET {asked} HTTP/1.1"


def test_the_same_location_twice_is_followed_and_two_that_differ_are_not(
    dial: Dial, start_peer: StartPeer, goal: Peer
) -> None:
    assert dial(start_peer(moved(f"{goal.url}\r\nLocation: {goal.url}")).url).opened
    rejected = dial(start_peer(moved(f"{goal.url}\r\nLocation: /elsewhere")).url).events[2]
    assert rejected.reason == "redirect not followed: it has several different Location headers"


def test_a_cookie_beyond_ascii_comes_back_as_it_was_set(dial: Dial, start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        head = link.read_until(b"\r\n\r\n")
        seen.append(head)
        link.send(b"HTTP/1.1 403 No\r\nSet-Cookie: a=caf\xc3\xa9\r\nSet-Cookie: b=\xff\r\n\r\n")

    seen: list[bytes] = []
    peer, jar = start_peer(script), CookieJar()
    for _ in range(2):
        dial(peer.url, cookies=jar)
    assert b"\r\nCookie: a=caf\xc3\xa9; b=\xff\r\n" in seen[1]


def test_a_redirect_back_home_gets_no_credentials_either(dial: Dial, start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        request = link.read_request()
        if request.line.startswith("GET /back"):
            link.accept(request=request)
            return
        link.send(f"HTTP/1.1 302 Found\r\nLocation: {other.url}\r\nContent-Length: 0\r\n\r\n".encode())

    home = start_peer(script)
    other = start_peer(moved(lambda: f"{home.url}back"))
    assert dial(home.url, auth=("me", "secret")).opened
    assert "authorization" in home.links[0].request.headers
    assert "authorization" not in home.links[1].request.headers


def test_cookies_are_kept_along_the_way_and_go_where_they_belong(
    dial: Dial, start_peer: StartPeer, goal: Peer
) -> None:
    jar = CookieJar()
    first = start_peer(moved(f"{goal.url}\r\nSet-Cookie: a=1; Path=/elsewhere"))
    assert dial(first.url, cookies=jar).opened
    assert [cookie.name for cookie in jar] == ["a"]
    assert "cookie" not in goal.links[0].request.headers


def test_from_ws_to_wss_it_is_followed(
    dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    goal = start_peer(Link.accept, tls=server_tls)
    for scheme in ("wss", "https"):
        first = start_peer(moved(goal.url.replace("wss", scheme)))
        assert dial(first.url, ssl_cafile=ca_file).opened


@pytest.mark.parametrize("scheme", ["ws", "http"])
def test_from_wss_to_ws_it_is_not(
    dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str, goal: Peer, scheme: str
) -> None:
    first = start_peer(moved(goal.url.replace("ws", scheme)), tls=server_tls)
    attempt = dial(first.url, ssl_cafile=ca_file)
    assert attempt.names == ["connecting", "connected", "rejected", "disconnected"]
    assert attempt.events[2].reason == "redirect not followed: it leads from wss to ws"
    assert goal.links == []


def test_ten_are_followed_and_an_eleventh_is_not(dial: Dial, start_peer: StartPeer) -> None:
    peer = start_peer(moved("/again"))
    attempt = dial(peer.url)
    assert len(peer.links) == 11
    assert attempt.names[-2:] == ["rejected", "disconnected"]
    assert attempt.events[-2].reason == "redirect not followed: 10 were already followed"
    assert attempt.events[-2].response.status_code == 302


def test_fewer_are_followed_if_told_so(dial: Dial, start_peer: StartPeer) -> None:
    peer = start_peer(moved("/again"))
    assert dial(peer.url, max_redirects=0).events[2].reason == "upgrade refused: 302 Moved"
    assert len(peer.links) == 1
    dial(peer.url, max_redirects=2)
    assert len(peer.links) == 4
    with pytest.raises(ValueError, match="max_redirects"):
        WebSocket("ws://host/", max_redirects=-1)


def test_the_connection_that_redirected_is_closed(dial: Dial, start_peer: StartPeer, goal: Peer) -> None:
    ended = []
    first = start_peer(lambda link: (moved(goal.url)(link), ended.append(True)))
    assert dial(first.url).opened
    first.close()
    assert ended == [True]


def test_a_failure_behind_a_redirect_is_the_failure_of_the_attempt(dial: Dial, start_peer: StartPeer) -> None:
    first = start_peer(moved("ws://127.0.0.1:1/"))
    attempt = dial(first.url)
    assert attempt.names == ["connecting", "connected", "connecting", "connect_fail"]
    assert attempt.last.address == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("gopher://host/", "redirect not followed: URL 'gopher://host/' has the scheme 'gopher'"),
        ("ws://", "redirect not followed: URL 'ws://' has no host"),
        ("ws+unix:///run/secret.sock:/", "redirect not followed: it leads to a Unix socket"),
        ("ws://me:secret@host:x/", "redirect not followed: URL 'ws://host:x/' has no valid port"),
    ],
)
def test_what_leads_nowhere_is_a_refusal(
    dial: Dial, start_peer: StartPeer, location: str, reason: str
) -> None:
    rejected = dial(start_peer(moved(location)).url).events[2]
    assert rejected.reason.startswith(reason)
    assert "secret@" not in rejected.reason


def test_without_a_location_it_is_an_ordinary_refusal(dial: Dial, start_peer: StartPeer) -> None:
    peer = start_peer(lambda link: (link.read_request(), link.send(b"HTTP/1.1 302 Found\r\n\r\n")))
    assert dial(peer.url).events[2].reason == "upgrade refused: 302 Found"


def test_300_and_304_are_not_followed() -> None:
    for code, expected in ((300, False), (301, True), (304, False), (308, True), (200, False)):
        assert is_redirect(Response(f"HTTP/1.1 {code} X\r\nLocation: /".encode())) is expected


@pytest.mark.parametrize(
    ("url", "location", "found"),
    [
        ("ws://h/a/b?c", "d", "ws://h/a/d"),
        ("ws://h/a/b?c", "?d", "ws://h/a/b?d"),
        ("wss://h/a", "//other/x", "wss://other/x"),
        ("ws://h:81/a", "/two words", "ws://h:81/two%20words"),
        ("ws+unix:///run/s:/a/b", "c", "ws+unix:///run/s:/a/c"),
        ("ws+unix:///run/s:/a/b", "ws://h/", "ws://h/"),
        ("ws://[::1]:81/a", "http://[::1]:82/", "ws://[::1]:82/"),
    ],
)
def test_where_it_leads(url: str, location: str, found: str) -> None:
    response = Response(f"HTTP/1.1 302 Found\r\nLocation: {location}".encode())
    assert str(target(parse_url(url), response)) == found


def test_a_given_socket_leads_to_one_server_only(dial: Dial, start_peer: StartPeer, goal: Peer) -> None:
    import socket

    first = start_peer(moved(goal.url))
    attempt = dial(first.url, sock=socket.create_connection((first.host, first.port)))
    assert attempt.events[2].reason == "redirect not followed: the given socket reaches only one server"


_PIECES = [*"/.@[]%?#&=a1 \\ü\t:", "ws", "http", "s:", "//", "://"]


@given(
    st.one_of(st.text(max_size=30), st.lists(st.sampled_from(_PIECES), max_size=20).map("".join)),
    st.sampled_from(["ws://me:secret@h/a/b?c", "wss://me:secret@[::1]:8/x", "ws+unix:///run/s:/q"]),
)
def test_whatever_the_location_is_it_leads_to_a_sound_endpoint_or_nowhere(location: str, url: str) -> None:
    base = parse_url(url)
    head = b"HTTP/1.1 302 Found\r\nLocation: " + location.encode("utf-8", "surrogatepass")
    try:
        found = target(base, Response(head))
    except ValueError:
        return
    assert found.credentials is None or found.origin == base.origin
    assert found.unix in {None, base.unix}
    assert found.is_secure or not base.is_secure
    assert all(32 < ord(char) < 127 for char in found.resource + found.host)
