"""Faults while a connection is opened: what is said, that it is tried again, and that nothing piles up."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from lochws import Backoff
from lochws import testing as t
from lochws.opening import refusal

from ..support.hang import Hang
from ..support.peer import TEXT, frame
from ..support.ports import free_port
from ..support.seen import PATIENCE, Noting
from .life import CALM, OPENED, attempts, end_of_first, surviving
from .registry import fault

#: `open_timeout` in seconds where the first attempt ends with it, but the second must not.
LIMIT = 2.0


def failed_at(app: Noting, *events: str, phase: str, reason: str) -> None:
    """The first attempt had these events and ended so; the next one opened."""
    app.wait_for("ready")
    assert attempts(app)[:2] == [["connecting", *events], OPENED]
    end = end_of_first(app)
    assert end.phase == phase
    assert re.search(reason, end.reason), end.reason
    assert end.advice


def resolvers() -> list[threading.Thread]:
    """The threads that wait for DNS."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("lochws-resolver")]


# The network.


@fault("opening", "DNS keeps failing")
def test_while_dns_fails_each_attempt_says_so_and_when_it_is_back_the_app_connects(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 300
    real = socket.getaddrinfo
    asked = []

    def getaddrinfo(host: str, *rest: object, **more: object) -> list[object]:
        asked.append(host)
        if len(asked) <= failures:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", *rest, **more)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with t.ScriptedServer(CALM) as server, surviving(f"ws://feed.test:{server.port}/") as app:
        app.wait_for("ready")
        assert not resolvers()
    assert attempts(app)[:failures] == [["connecting", "connect_fail"]] * failures
    assert attempts(app)[failures:] == [[*OPENED, "closed", "disconnected"]]
    for event in app.all("connect_fail"):
        assert event.phase == "resolve"
        assert "Temporary failure in name resolution" in event.reason


@fault("opening", "DNS hangs")
def test_a_resolver_that_hangs_fails_each_attempt_in_time_and_holds_one_thread(hang: Hang) -> None:
    url, _ = hang.resolve()
    with surviving(url, open_timeout=0.02) as app:
        app.wait_for("connect_fail", 5)
        assert len(resolvers()) == 1
    for event in app.all("connect_fail")[:5]:
        assert event.phase == "resolve"
        assert event.reason == "unable to connect; cannot resolve 'slow.host': timed out after 0.02 s"


@fault("opening", "The port refuses 5,000 attempts")
@pytest.mark.timeout(400)
def test_after_5000_refusals_there_are_as_many_threads_and_descriptors_as_after_the_first() -> None:
    counts = []
    enough = threading.Event()
    with surviving(f"ws://127.0.0.1:{free_port()}/") as app:

        @app.on("back_off")
        def note(_: object) -> None:
            counts.append((active_threads(), descriptors()))
            if len(counts) == 5000:
                enough.set()

        assert enough.wait(300)
    assert attempts(app)[:5000] == [["connecting", "connect_fail"]] * 5000
    reasons = {event.reason for event in app.all("connect_fail")[:5000]}
    assert len(reasons) == 1
    assert "Connection refused" in reasons.pop()
    assert {threads for threads, _ in counts} == {counts[0][0]}
    # An attempt under way has a few descriptors of its own.
    open_files = [number for _, number in counts]
    assert max(open_files) - min(open_files) <= 6


def active_threads() -> int:
    """Return how many threads there are, without the one that writes the log, which comes and goes."""
    return sum(thread.name != "lochws-log" for thread in threading.enumerate())


def descriptors() -> int:
    """Return how many descriptors this process has; 0 where the system does not tell."""
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


@fault("opening", "The host does not answer")
def test_a_host_that_does_not_answer_fails_the_attempt_in_time_and_is_tried_again(hang: Hang) -> None:
    listener = hang.full_listener()
    host, port = listener.getsockname()
    with surviving(f"ws://{host}:{port}/", open_timeout=0.1) as app:
        failed = app.wait_for("connect_fail")
        assert (failed.phase, failed.address) == ("tcp", f"{host}:{port}")
        assert failed.reason.endswith("timed out after 0.1 s")
        hang.drain(listener)
        app.wait_for("connected")
    assert attempts(app)[0] == ["connecting", "connect_fail"]


# TLS.


@fault("opening", "The TLS handshake stalls")
def test_a_server_that_stalls_tls_fails_the_attempt_in_time_and_is_tried_again(
    server_tls: ssl.SSLContext, ca_file: str
) -> None:
    server = t.ScriptedServer([t.tls_stall()], CALM, tls=server_tls)
    with server, surviving(server.url, ssl_cafile=ca_file, open_timeout=LIMIT) as app:
        reason = f"TLS handshake failed: timed out after {LIMIT:g} s$"
        failed_at(app, "connect_fail", phase="tls", reason=reason)
        server.connections[0].wait_over()


@fault("opening", "The certificate is not valid")
def test_a_certificate_that_is_not_accepted_fails_each_attempt_and_no_request_is_sent(
    server_tls: ssl.SSLContext
) -> None:
    with t.ScriptedServer(CALM, tls=server_tls) as server, surviving(server.url) as app:
        app.wait_for("connect_fail", 3)
        server.connection(2)
    assert attempts(app)[:3] == [["connecting", "connect_fail"]] * 3
    for event in app.all("connect_fail")[:3]:
        assert event.phase == "tls"
        assert event.reason.endswith("was not accepted: it comes from an unknown authority")
    assert not server.requests


# The upgrade.

REJECTED = ["rejected", "disconnected"]
NO_ANSWER = ["protocol_error", "disconnected"]


def wrong(
    name: str, script: list[t.Step], events: list[str], reason: str, *, case: str = ""
) -> Any:
    """A case of the test below: a fault, its script, and what then happens."""
    return pytest.param(script, events, reason, marks=fault("opening", name), id=case or name)


WRONG_ANSWERS = [
    wrong(
        "The server accepts TCP and then says nothing", [t.silence()], ["disconnected"],
        f"no answer to the upgrade request: timed out after {LIMIT:g} s$",
    ),
    wrong(
        "The server does not speak HTTP", [t.send_raw(b"SSH-2.0-OpenSSH_9.6\r\n"), t.wait_for_end()],
        NO_ANSWER, "not an HTTP response: it begins with b'SSH-2.0",
    ),
    wrong(
        "502 or 503", [t.upgrade(502, body="no backend"), t.fin()], REJECTED, "refused: 502", case="502",
    ),
    wrong("502 or 503", [t.upgrade(503, body="busy"), t.fin()], REJECTED, "refused: 503", case="503"),
    wrong(
        "A refusal that leaves the socket open", [t.upgrade(404, body="no such feed"), t.wait_for_end()],
        REJECTED, "upgrade refused: 404",
    ),
    wrong(
        "A refusal that leaves the socket open",
        [t.upgrade(404, {"Content-Length": None}, "no end"), t.wait_for_end()], REJECTED, "refused: 404",
        case="non-101 with the socket left open in the body",
    ),
    wrong(
        "A wrong Sec-WebSocket-Accept",
        [t.upgrade(101, {"Sec-WebSocket-Accept": "bm90IHRoaXMgb25lIGF0IGFsbA=="})], REJECTED,
        "Sec-WebSocket-Accept challenge failed",
    ),
    wrong(
        "A subprotocol or extension that was not requested",
        [t.upgrade(101, {"Sec-WebSocket-Protocol": "other"})],
        REJECTED, "other", case="subprotocol",
    ),
    wrong(
        "A subprotocol or extension that was not requested",
        [t.upgrade(101, {"Sec-WebSocket-Extensions": "x-other"})],
        REJECTED, "x-other", case="extension",
    ),
    wrong(
        "Endless response headers",
        [t.wait_for_request(), t.send_raw(b"HTTP/1.1 101 OK\r\n" + b"X: 1\r\n" * 9000), t.wait_for_end()],
        NO_ANSWER, "response head is over 16 KiB",
    ),
]


@pytest.mark.parametrize(("script", "events", "reason"), WRONG_ANSWERS)
def test_a_wrong_answer_to_the_upgrade_ends_the_attempt_and_the_next_one_opens(
    script: list[t.Step], events: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusal, "BODY_SECONDS", 0.05)
    server = t.ScriptedServer(script, CALM)
    limit = LIMIT if "timed out" in reason else PATIENCE
    with server, surviving(server.url, protocols=["mine"], open_timeout=limit) as app:
        failed_at(app, "connected", *events, phase="upgrade", reason=reason)
        server.connections[0].wait_over()
    for event in app.all("rejected"):
        assert event.response.status_code in {101, 404, 502, 503}
        if event.response.status_code != 101:
            assert event.response.body in {b"no backend", b"busy", b"no such feed", b"no end"}
    assert not server.connections[0].messages


@fault("opening", "401 until the token is renewed")
def test_a_header_function_is_asked_again_after_a_401() -> None:
    tokens = iter(["old", "new"])
    server = t.ScriptedServer([t.upgrade(401), t.fin()], CALM)
    with server, surviving(server.url, headers=lambda: {"Authorization": next(tokens)}) as app:
        failed_at(app, "connected", *REJECTED, phase="upgrade", reason="upgrade refused: 401")
    assert [request.headers["authorization"] for request in server.requests] == ["old", "new"]


@fault("opening", "429 with Retry-After")
def test_a_429_lengthens_the_back_off_to_what_the_server_asks_for() -> None:
    script = [t.upgrade(429, {"Retry-After": "120"}), t.fin()]
    with t.ScriptedServer(script) as server, surviving(server.url) as app:
        assert app.wait_for("back_off").delay == 120
    assert attempts(app) == [["connecting", "connected", "rejected", "disconnected"]]
    assert len(server.connections) == 1


@fault("opening", "A malformed Set-Cookie header")
@pytest.mark.parametrize(
    "value", ["", ";;;=;", "a=b; expires=never", "\xff\xfe=\x80", "=", "e=f; domain=other.example"]
)
def test_a_malformed_cookie_does_not_keep_the_connection_from_opening(value: str) -> None:
    jar = CookieJar()
    script = [t.upgrade(101, {"Set-Cookie": value}), t.fin()]
    with t.ScriptedServer(script, CALM) as server, surviving(server.url, cookies=jar) as app:
        app.wait_for("ready", 2)
        assert attempts(app)[0] == [*OPENED, "disconnected"]
    assert not [cookie for cookie in jar if cookie.domain == "other.example"]


@fault("opening", "A proxy that refuses or stalls")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param([t.upgrade(403, body="not you"), t.fin()], "^proxy fail; 403 Forbidden$", id="refusal"),
        pytest.param([t.silence()], f"timed out after {LIMIT:g} s$", id="stall"),
    ],
)
def test_a_proxy_that_does_not_lead_on_fails_the_attempt_and_is_asked_again(
    script: list[t.Step], reason: str
) -> None:
    good = [t.wait_for_request(), t.upgrade(200, {"Content-Length": None}), t.accept()]
    proxy = t.ScriptedServer(script, good)
    proxies = {"http": f"http://{proxy.authority}"}
    limit = LIMIT if "timed out" in reason else PATIENCE
    with proxy, surviving("ws://feed.test/", proxies=proxies, open_timeout=limit) as app:
        failed_at(app, "connect_fail", phase="proxy", reason=reason)
    assert [request.method for request in proxy.requests] == ["CONNECT", "CONNECT", "GET"]
    assert proxy.requests[0].target == "feed.test:80"


@fault("opening", "Frames in the same packet as the 101 response")
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_frames_that_come_with_the_answer_are_delivered_after_ready(
    secure: bool, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    texts = [f"{number} {'x' * 50}" for number in range(100)]
    beginning, rest = frame(TEXT, b"last")[:4], frame(TEXT, b"last")[4:]
    script = [
        t.answer_ping(None),  # a pong would go into the middle of the last message
        t.together(t.accept(), *map(t.send, texts), t.send_raw(beginning)),
    ]
    server = t.ScriptedServer(script, tls=server_tls if secure else None)
    with server, surviving(server.url, ssl_cafile=ca_file) as app:
        app.wait_for("text", 100)
        assert attempts(app) == [[*OPENED, *["text"] * 100]]
        server.do(t.send_raw(rest))
        assert app.wait_for("text", 101).text == "last"
    assert [event.text for event in app.all("text")] == [*texts, "last"]


@fault("opening", "The 101 response arrives in single bytes")
def test_an_answer_in_single_bytes_opens_the_connection() -> None:
    script = [t.split(every=1), t.accept(), t.send("hello")]
    with t.ScriptedServer(script) as server, surviving(server.url) as app:
        assert app.wait_for("text").text == "hello"
        assert attempts(app) == [[*OPENED, "text"]]


def test_a_back_off_of_the_users_holds_between_failures() -> None:
    """The apps here try again at once; with any other policy they wait as it says."""
    with t.ScriptedServer([t.reset()]) as server:
        app = Noting(server.url)
        app.run_forever(persist=Backoff(0.01, 0.01, max_attempts=3))
    assert [event.delay for event in app.all("back_off")] == [0.01, 0.01]
