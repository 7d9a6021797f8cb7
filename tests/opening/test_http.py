"""HTTP in an opening: headers, credentials, cookies and refusals."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from contextlib import closing
from http.cookiejar import CookieJar
from itertools import count
from typing import Any

import pytest

from lochws import Backoff, WebSocket, WebSocketApp, events
from lochws.opening.dial import Dialler
from lochws.options import USER_AGENT, Options, as_headers
from lochws.response import Response
from lochws.system.deadline import Deadline

from ..support.attempts import Attempt, Dial
from ..support.peer import Link, Request, StartPeer
from ..support.seen import PATIENCE, await_reports


def answering(head: str, body: bytes = b"") -> Callable[[Link], object]:
    """A script: read the request, send the answer, wait for the end."""
    data = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    return lambda link: (link.read_request(), link.send(data), link.wait_for_end())


@pytest.fixture
def ask(start_peer: StartPeer) -> Callable[..., Request]:
    """Return the upgrade request that a WebSocket with these options sends."""

    def ask(path: str = "/", **options: Any) -> Request:
        peer = start_peer(answering("403 Forbidden"))
        list(WebSocket(peer.url.rstrip("/") + path, **options))
        return peer.links[0].request

    return ask


class TestHeaders:
    """``headers=``, ``origin=``, ``agent=``, ``protocols=``."""

    @pytest.mark.parametrize(
        ("agent", "sent"), [("me/1.0", "me/1.0"), (None, USER_AGENT), ("", None)]
    )
    def test_the_agent_is_sent_as_given_by_default_or_not_at_all(
        self, ask: Callable[..., Request], agent: str | None, sent: str | None
    ) -> None:
        assert ask(agent=agent).headers.get("user-agent") == sent

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-A": "1", "x-b": "2"},
            {b"X-A": b"1", b"x-b": b"2"},
            [("X-A", "1"), ("x-b", "2")],
            [["X-A", b"1"], (b"x-b", "2")],
            lambda: {"X-A": "1", "x-b": "2"},
            lambda: iter([(b"X-A", "1"), ("x-b", "2")]),
        ],
    )
    def test_they_may_come_in_any_of_the_usual_forms(self, ask: Callable[..., Request], headers: Any) -> None:
        sent = ask(headers=headers).headers
        assert (sent["x-a"], sent["x-b"]) == ("1", "2")

    def test_they_replace_built_in_ones_without_regard_to_case(self, start_peer: StartPeer) -> None:
        peer = start_peer(answering("403 Forbidden"))
        headers = {"USER-AGENT": "mine", "hOST": "other.example", "oRIGIN": "https://mine"}
        list(WebSocket(peer.url, headers=headers, origin="https://not-this"))
        _, sent = peer.links[0].request
        assert sent["user-agent"] == "mine"
        assert sent["host"] == "other.example"
        assert sent["origin"] == "https://mine"

    def test_one_header_may_have_several_values(self, start_peer: StartPeer) -> None:
        seen = []
        peer = start_peer(lambda link: seen.append(link.read_until(b"\r\n\r\n")))
        list(WebSocket(peer.url, headers=[("X-Many", "1"), ("X-Many", "2")]))
        assert b"X-Many: 1\r\nX-Many: 2\r\n" in seen[0]

    @pytest.mark.parametrize(
        "pair",
        [
            ("X", "a\rb"), ("X", "a\nb"), ("X", "a\0b"), ("", "a"), ("X Y", "a"), ("X:", "a"), ("X\r\n", "a"),
            (b"X", b"a\r\nb"), (b"X\0", b"a"), ("Ü", "a"),
        ],
    )
    def test_what_would_break_out_of_its_line_is_refused(self, pair: tuple[Any, Any]) -> None:
        with pytest.raises(ValueError, match="header"):
            as_headers([pair])

    @pytest.mark.parametrize("pair", [("X",), ("X", 1), (1, "X"), ("X", None), "XY", ("X", "Y", "Z")])
    def test_an_invalid_header_is_refused_without_repeating_its_value(self, pair: Any) -> None:
        with pytest.raises(TypeError):
            as_headers([pair])
        with pytest.raises(TypeError) as caught:
            as_headers([("Authorization", ["secret"])])  # type: ignore[list-item]
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("protocols", [["chat"], lambda: ["chat"]], ids=["list", "function"])
    @pytest.mark.parametrize("agreed", [True, False])
    def test_a_required_one_that_is_not_agreed_is_rejected(
        self, start_peer: StartPeer, agreed: bool, protocols: Any
    ) -> None:
        lines = ["Sec-WebSocket-Protocol: chat"] if agreed else []
        peer = start_peer(lambda link: (link.accept(*lines), link.reset()))
        seen = list(WebSocket(peer.url, protocols=protocols, require_protocol=True))
        names = [event.name for event in seen]
        assert ("ready" in names) is agreed
        assert ("rejected" in names) is not agreed
        if not agreed:
            assert "the server agreed to no subprotocol (offered: 'chat')" in str(seen[-2])
            assert "require_protocol" in seen[-2].advice

    def test_requiring_one_without_offering_any_is_refused(self) -> None:
        with pytest.raises(ValueError, match="require_protocol=True needs protocols"):
            WebSocket("ws://host/", require_protocol=True)

    def test_subprotocols_is_another_name_for_protocols(self, ask: Callable[..., Request]) -> None:
        assert ask(subprotocols=["a", "b"]).headers["sec-websocket-protocol"] == "a, b"
        assert ask(subprotocols=lambda: ["c"]).headers["sec-websocket-protocol"] == "c"
        with pytest.raises(ValueError, match="give one of them"):
            WebSocket("ws://host/", protocols=["a"], subprotocols=["a"])

    def test_other_characters_than_ascii_are_percent_encoded_in_the_path(
        self, ask: Callable[..., Request]
    ) -> None:
        assert ask("/grüße?q=ñ&r=%20").line == "GET /gr%C3%BC%C3%9Fe?q=%C3%B1&r=%20 HTTP/1.1"


class TestCredentials:
    """``auth=``, and user and password in the URL."""

    @staticmethod
    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    @pytest.mark.parametrize("auth", [("mé", "p:w"), lambda: ("mé", "p:w")])
    def test_a_pair_is_for_basic_authentication(self, ask: Callable[..., Request], auth: Any) -> None:
        assert ask(auth=auth).headers["authorization"] == self.basic("mé:p:w")

    def test_a_function_may_return_a_bearer_token(self, start_peer: StartPeer) -> None:
        peer = start_peer(answering("403 Forbidden"))
        tokens = iter(["one", "a-._~+/b=="])
        websocket = WebSocket(peer.url, auth=lambda: next(tokens))
        list(websocket)
        list(websocket)
        sent = [link.request.headers["authorization"] for link in peer.links]
        assert sent == ["Bearer one", "Bearer a-._~+/b=="]

    def test_the_url_is_percent_decoded(self, start_peer: StartPeer) -> None:
        peer = start_peer(answering("403 Forbidden"))
        list(WebSocket(f"ws://me%40home:s%2Fcret@{peer.authority}/"))
        assert peer.links[0].request.headers["authorization"] == self.basic("me@home:s/cret")

    def test_the_users_header_is_the_last_word(self, ask: Callable[..., Request]) -> None:
        for auth in (("me", "secret"), lambda: "token"):
            assert ask(auth=auth, headers={"authorization": "Mine"}).headers["authorization"] == "Mine"

    @pytest.mark.parametrize("returned", ["", "two words", "a\r\nb", ("a",), 5, (b"a", b"b")])
    def test_invalid_values_fail_before_anything_is_sent(self, dial: Dial, returned: Any) -> None:
        last = dial("ws://127.0.0.1:1/", auth=lambda: returned).last
        assert last.phase == "prepare"
        assert "two words" not in last.reason

    def test_a_function_may_have_none_today(self, ask: Callable[..., Request]) -> None:
        assert "authorization" not in ask(auth=lambda: None).headers

    def test_they_show_in_no_repr(self) -> None:
        options = Options(auth=("me", "secret"), headers=(("X", "secret"),), ssl_password="secret")
        assert "secret" not in repr(options)


class TestCookies:
    """``cookies=``: a jar of the standard library."""

    def test_what_the_server_sets_is_sent_with_the_next_request(self, start_peer: StartPeer) -> None:
        peer = start_peer(lambda link: link.accept("Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; Path=/other"))
        dialler = Dialler(Options(cookies=CookieJar()), peer.url)
        for _ in range(2):
            with closing(Deadline(PATIENCE)) as deadline:
                Attempt(dialler, deadline).opened.stream.close()
        assert "cookie" not in peer.links[0].request.headers
        assert peer.links[1].request.headers["cookie"] == "a=1"

    def test_a_refusal_may_set_them_too(self, start_peer: StartPeer) -> None:
        peer = start_peer(answering("401 Unauthorized\r\nSet-Cookie: session=xyz"))
        jar = CookieJar()
        list(WebSocket(peer.url, cookies=jar))
        assert [(cookie.name, cookie.value) for cookie in jar] == [("session", "xyz")]

    def test_bad_lines_are_tolerated(self, start_peer: StartPeer) -> None:
        bad = [
            "Set-Cookie: ", "Set-Cookie: ;;;=;", "Set-Cookie: \xff\xfe=\x01",
            "Set-Cookie: a=b; expires=never",
            "Set-Cookie: c=d; max-age=x", "Set-Cookie: e=f; domain=other.example", "Set-Cookie: good=1",
            "Set-Cookie2: x=y; version=z", "Set-Cookie: =", "Set-Cookie: g; port=x",
        ]
        peer = start_peer(lambda link: link.accept(*bad))
        jar = CookieJar()
        dialler = Dialler(Options(cookies=jar), peer.url)
        with closing(Deadline(PATIENCE)) as deadline:
            Attempt(dialler, deadline).opened.stream.close()
        assert "good" in [cookie.name for cookie in jar]

    @pytest.mark.parametrize("value", ["a=\0", "a=\x0bb", "a=\rb", "a=\x7f"])
    def test_a_line_with_control_characters_is_left_out(
        self, dial: Dial, start_peer: StartPeer, value: str
    ) -> None:
        jar = CookieJar()
        peer = start_peer(lambda link: link.accept(f"Set-Cookie: {value}", "Set-Cookie: good=1"))
        assert dial(peer.url, cookies=jar).opened
        assert dial(peer.url, cookies=jar).opened
        assert peer.links[1].request.headers["cookie"] == "good=1"

    def test_a_jar_that_fails_is_no_reason_to_fail(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken(CookieJar):
            def extract_cookies(self, response: Any, request: Any) -> None:
                raise LookupError("full")

        peer = start_peer(Link.accept)
        dialler = Dialler(Options(cookies=Broken()), peer.url)
        with closing(Deadline(PATIENCE)) as deadline:
            Attempt(dialler, deadline).opened.stream.close()
        await_reports()
        assert "cannot read the cookies from" in caplog.text

    def test_the_users_own_header_is_the_last_word(self, start_peer: StartPeer) -> None:
        peer = start_peer(answering("403 No\r\nSet-Cookie: a=1"))
        websocket = WebSocket(peer.url, cookies=CookieJar(), headers={"Cookie": "mine=1"})
        list(websocket)
        list(websocket)
        assert peer.links[1].request.headers["cookie"] == "mine=1"

    @pytest.mark.parametrize("path", ["/", "/elsewhere"])
    def test_new_cookies_beyond_the_limit_are_ignored(
        self, path: str, start_peer: StartPeer, dial: Dial, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lochws.opening.cookies.MAX_COOKIES", 12)
        numbers = count()

        def script(link: Link) -> None:
            link.accept(*(f"Set-Cookie: c{next(numbers)}={'x' * 1000}; Path={path}" for _ in range(5)))

        peer, jar = start_peer(script), CookieJar()
        for _ in range(8):
            assert dial(peer.url, cookies=jar).opened
        assert 10 <= len(jar) <= 16
        assert len(peer.links[-1].request.headers.get("cookie", "")) <= 8 * 1024 + 5 * 1010


class TestRefusal:
    """The contents of `Rejected`."""

    def test_its_response_has_status_headers_and_body(self, start_peer: StartPeer) -> None:
        body = "nicht für dich".encode("latin-1")
        head = "403 Forbidden\r\nContent-Type: text/plain; charset=ISO-8859-1\r\nX-Why: no"
        peer = start_peer(answering(head, body))
        rejected = next(event for event in WebSocket(peer.url) if isinstance(event, events.Rejected))
        assert rejected.response.status_code == 403
        assert rejected.response.get("X-WHY") == "no"
        assert rejected.response.body == body
        assert rejected.response.text == "nicht für dich"
        assert (rejected.phase, rejected.address) == ("upgrade", peer.authority)

    @pytest.mark.parametrize(
        ("content_type", "body", "text"),
        [
            ("", "ü".encode(), "ü"),
            ("text/html", "ü".encode(), "ü"),
            ('text/html; charset="utf-16-le"', "ü".encode("utf-16-le"), "ü"),
            ("text/html; CharSet = latin-1 ; x=y", b"\xfc", "ü"),
            ("text/html; charset=no-such", "ü".encode(), "ü"),
            ("text/html; charset=hex", "ü".encode(), "ü"),  # a codec that does not produce text
            ("text/html", b"\xfc", "\ufffd"),
        ],
    )
    def test_its_text_is_decoded_by_its_charset(self, content_type: str, body: bytes, text: str) -> None:
        head = f"HTTP/1.1 403 No\r\nContent-Type: {content_type}\r\n\r\n".encode()
        assert Response(head, body).text == text

    def test_its_retry_after_reaches_the_backoff(self, start_peer: StartPeer) -> None:
        peer = start_peer(answering("429 Too Many Requests\r\nRetry-After: 77"))
        delays = []

        class App(WebSocketApp):
            def on_back_off(self, event: events.BackOff) -> None:
                delays.append(event.delay)
                self.close()

        App(peer.url).run_forever(persist=Backoff(min_wait=0.01, max_wait=0.02))
        assert delays == [77.0]


def test_no_header_is_lost_if_threads_add_them_at_the_same_time() -> None:
    ws = WebSocket("ws://host/")
    threads = [
        threading.Thread(target=lambda n=n: [ws.add_header(f"X-{n}-{i}", "1") for i in range(200)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ws._lochws._added_headers) == 800
