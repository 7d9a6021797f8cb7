"""HTTP proxies: requests for tunnels, and the texts of refusals."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from lochws.errors import ConnectFail
from lochws.system.deadline import Cancelled, Deadline
from lochws.system.steps import Steps
from lochws.transport.proxies import through
from lochws.transport.proxies.choose import parse_proxy
from lochws.transport.stream import Stream
from lochws.url import parse_url

from ..support.driven import driven
from ..support.peer import Link, Request, StartPeer
from ..support.seen import PATIENCE

CHALLENGE = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n"
REFUSAL = "HTTP/1.1 407 Proxy Authentication Required\r\n"

open_through = driven(through.open_through)


@pytest.fixture
def ask(start_peer: StartPeer) -> Iterator[Callable[..., Stream]]:
    """Asks a scripted proxy for a tunnel; returns the stream if it is granted."""
    streams: list[Stream] = []

    def ask_proxy(
        script: Callable[[Link], object],
        *,
        url: str = "ws://target.example/",
        proxy: str = "http://proxy",
        deadline: Deadline | None = None,
        **settings: Any,
    ) -> Stream:
        peer = start_peer(script)

        def reach() -> Steps[Stream]:
            sock = socket.create_connection((peer.host, peer.port))
            sock.setblocking(False)
            yield from ()
            return Stream(sock)

        limit = deadline or Deadline(PATIENCE)
        try:
            chosen = replace(parse_proxy(proxy), **settings)
            streams.append(open_through(reach, chosen, parse_url(url), limit))
        finally:
            limit.close()
        return streams[-1]

    yield ask_proxy
    for stream in streams:
        stream.close()


def answering(answer: bytes) -> Callable[[Link], object]:
    return lambda link: (link.read_request(), link.send(answer), link.finish(), link.wait_for_end())


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("ws://target.example/", "target.example:80"),
        ("wss://target.example/", "target.example:443"),
        ("ws://target.example:8080/", "target.example:8080"),
        ("ws://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_host_and_port_are_asked_for(ask: Callable[..., Stream], url: str, target: str) -> None:
    requests: list[Request] = []

    def script(link: Link) -> None:
        requests.append(link.read_request())
        link.send(b"HTTP/1.1 200 OK\r\n\r\n")

    ask(script, url=url)
    assert requests == [Request(f"CONNECT {target} HTTP/1.1", {"host": target})]


@pytest.mark.parametrize(
    ("proxy", "token"),
    [
        ("http://Aladdin:open%20sesame@proxy", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("http://Aladdin@proxy", "QWxhZGRpbjo="),
    ],
)
def test_credentials_go_as_basic_authentication(ask: Callable[..., Stream], proxy: str, token: str) -> None:
    given: list[str] = []

    def script(link: Link) -> None:
        given.append(link.read_request().headers["proxy-authorization"])
        link.send(b"HTTP/1.1 200 OK\r\n\r\n")

    ask(script, proxy=proxy)
    assert given == [f"Basic {token}"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200\r\nVia: somebody\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_any_2xx_grants_it(ask: Callable[..., Stream], answer: bytes) -> None:
    ask(answering(answer))


def test_an_answer_in_single_bytes_is_understood(ask: Callable[..., Stream]) -> None:
    ask(lambda link: (link.read_request(), link.send_bytewise(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n")))


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "^407 Proxy Authentication Required$"),
        (b"HTTP/1.1 502\r\n\r\n", "^502$"),
        (b"HTTP/1.1 301 Moved\r\n\r\n", "^301 Moved$"),
        (b"HTTP/1.1 maybe\r\n\r\n", "is not HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "is not HTTP"),
        (b"\x05\xff", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nsurprise", "8 unexpected bytes after the answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000, "more than 16 KiB of headers"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 4000, "more than 16 KiB of headers"),
    ],
)
def test_anything_else_is_a_refusal(ask: Callable[..., Stream], answer: bytes, text: str) -> None:
    with pytest.raises(ConnectFail, match=text) as caught:
        ask(answering(answer), proxy="http://me:secret@proxy")
    assert caught.value.phase == "proxy"
    assert caught.value.address is not None
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("end", "text"),
    [(Link.finish, "no answer to CONNECT: the proxy ended the connection"),
     (Link.reset, "reset by peer")]
)
def test_hanging_up_is_a_refusal(
    ask: Callable[..., Stream], end: Callable[[Link], None], text: str
) -> None:
    with pytest.raises(ConnectFail, match=text):
        ask(lambda link: (link.read_request(), end(link), link.wait_for_end()))


def test_lines_may_end_in_a_lone_line_feed(ask: Callable[..., Stream]) -> None:
    """RFC 9112 section 2.2."""
    granted = b"HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nVia: x\n\n"
    stream = ask(lambda link: (link.read_request(), link.send(granted), link.wait_for_end()))
    assert stream.receive_into(bytearray(10)) is None
    refused = b"HTTP/1.1 403 Forbidden\nX: y\n\nno"
    with pytest.raises(ConnectFail, match=r"^403 Forbidden$") as caught:
        ask(lambda link: (link.read_request(), link.send(refused), link.finish()))
    assert caught.value.response.body == b"no"


@pytest.mark.parametrize("how", ["silence", "end"])
def test_an_answer_that_stops_half_way_is_shown(ask: Callable[..., Stream], how: str) -> None:
    def script(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 403 Forbidden\r\nServer: squid\r\n")
        if how == "end":
            link.finish()
        link.wait_for_end()

    shown = r"b'HTTP/1.1 403 Forbidden\r\nServer: squid\r\n'"
    # The machine may stall before the answer.
    for seconds in (0.3, 3, 30) if how == "silence" else (PATIENCE,):
        with pytest.raises(ConnectFail) as caught:
            ask(script, deadline=Deadline(seconds))
        if shown in str(caught.value):
            break
    why = {"silence": f"timed out after {seconds:g} s", "end": "the proxy ended the connection"}[how]
    assert str(caught.value) == f"no answer to CONNECT: it stops half-way, after {shown}: {why}"


@pytest.mark.parametrize("own", [None, "mine/1"])
def test_connect_names_the_agent_unless_it_is_empty_or_given(
    ask: Callable[..., Stream], own: str | None
) -> None:
    seen = []

    def script(link: Link) -> None:
        seen.append(link.read_request().headers.get("user-agent"))
        link.send(b"HTTP/1.1 200 OK\r\n\r\n")
        link.wait_for_end()

    headers = () if own is None else (("User-Agent", own),)
    for agent in ("lochws/1", ""):
        ask(script, agent=agent, headers=headers)
    assert seen == ["lochws/1" if own is None else own, own]


def test_silence_ends_with_the_deadline(ask: Callable[..., Stream]) -> None:
    with pytest.raises(ConnectFail, match=r"^no answer to CONNECT: timed out after 0\.05 s$"):
        ask(Link.wait_for_end, deadline=Deadline(0.05))


def test_cancelling_ends_it(ask: Callable[..., Stream]) -> None:
    deadline = Deadline(None)
    with pytest.raises(Cancelled):
        ask(lambda link: (link.read_request(), deadline.cancel(), link.wait_for_end()), deadline=deadline)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((("X-Team", "blue"),), {"host": "target.example:80", "x-team": "blue"}),
        ((("HOST", "other"),), {"host": "other"}),
        ((("X-Team", "bl\u00fc"),), {"host": "target.example:80", "x-team": "bl\u00fc"}),
    ],
)
def test_own_headers_are_added_and_replace_built_in_ones(
    ask: Callable[..., Stream], headers: tuple[tuple[str, str], ...], expected: dict[str, str]
) -> None:
    given: list[dict[str, str]] = []

    def script(link: Link) -> None:
        given.append(link.read_request().headers)
        link.send(b"HTTP/1.1 200 OK\r\n\r\n")

    ask(script, headers=headers)
    assert given == [expected]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nnever and ever", b"never"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, b"x" * 65536),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
def test_the_body_of_a_refusal_is_kept(ask: Callable[..., Stream], answer: bytes, body: bytes) -> None:
    with pytest.raises(ConnectFail, match=r"^403 No$") as caught:
        ask(answering(answer))
    assert caught.value.response is not None
    assert caught.value.response.body == body


def test_the_body_of_a_refusal_without_length_ends_with_the_connection(ask: Callable[..., Stream]) -> None:
    with pytest.raises(ConnectFail) as caught:
        ask(lambda link: (link.read_request(), link.send(b"HTTP/1.1 403 No\r\n\r\nnever")))
    assert caught.value.response is not None
    assert caught.value.response.body == b"never"


class TestDigest:
    """Proxies that ask for Digest authentication."""

    def script(
        self, seen: list[str | None], granted: bytes = b"HTTP/1.1 200 OK\r\n\r\n"
    ) -> Callable[[Link], None]:
        """A proxy that refuses everything but Digest."""

        def answer(link: Link) -> None:
            seen.append(link.read_request().headers.get("proxy-authorization"))
            digest = (seen[-1] or "").startswith("Digest ")
            link.send(granted if digest else f"{REFUSAL}{CHALLENGE}Content-Length: 0\r\n\r\n".encode())
            link.wait_for_end()

        return answer

    def test_it_is_the_second_answer(self, ask: Callable[..., Stream]) -> None:
        seen: list[str | None] = []
        ask(self.script(seen), proxy="http://me:secret@proxy")
        assert [(text or "").partition(" ")[0] for text in seen] == ["Basic", "Digest"]
        assert 'uri="target.example:80"' in (seen[1] or "")

    def test_with_auth_digest_the_password_is_never_sent(self, ask: Callable[..., Stream]) -> None:
        seen: list[str | None] = []
        ask(self.script(seen), proxy="http://me:secret@proxy", auth="digest")
        assert [text and text.partition(" ")[0] for text in seen] == [None, "Digest"]

    @pytest.mark.parametrize(
        ("proxy", "settings"), [("http://proxy", {}), ("http://me:secret@proxy", {"auth": "basic"})]
    )
    def test_without_credentials_or_with_auth_basic_it_is_not_answered(
        self, ask: Callable[..., Stream], proxy: str, settings: dict[str, Any]
    ) -> None:
        seen: list[str | None] = []
        with pytest.raises(ConnectFail, match=r"^407 Proxy Authentication Required$"):
            ask(self.script(seen), proxy=proxy, **settings)
        assert len(seen) == 1

    def test_a_second_refusal_is_final(self, ask: Callable[..., Stream]) -> None:
        seen: list[str | None] = []
        refused = f"{REFUSAL}{CHALLENGE}Content-Length: 0\r\n\r\n".encode()
        with pytest.raises(ConnectFail, match=r"^407 Proxy Authentication Required$"):
            ask(self.script(seen, refused), proxy="http://me:secret@proxy")
        assert len(seen) == 2

    def test_a_challenge_that_cannot_be_answered_is_named(self, ask: Callable[..., Stream]) -> None:
        answer = f"{REFUSAL}{CHALLENGE}Content-Length: 0\r\n\r\n".replace("auth", "auth-int").encode()
        with pytest.raises(ConnectFail, match=r"^407 .*; the proxy's Digest challenge cannot be") as caught:
            ask(answering(answer), proxy="http://me:secret@proxy")
        assert caught.value.response is not None

    def test_other_challenges_are_not_answered(self, ask: Callable[..., Stream]) -> None:
        answer = f"{REFUSAL}Proxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n".encode()
        with pytest.raises(ConnectFail, match=r"^407 Proxy Authentication Required$"):
            ask(answering(answer), proxy="http://me:secret@proxy")
