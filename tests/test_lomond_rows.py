"""Promises of Lomond's documentation: a test for each of them, named after it.

Other tests go deeper. These show, row by row, that users of Lomond find what they are used to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from lochws import WebSocket, WebSocketApp, errors, events
from lochws.persist import persist

from .support.peer import CLOSE, PING, PONG, TEXT, Link, StartPeer
from .support.scripts import Ends, answer_close, dropping, polite, refusing, silent
from .support.seen import PATIENCE, in_thread, names, take
from .support.threaded_websockets import serve

ROOT = Path(__file__).parent.parent
GREETING = [(TEXT, b'{"a": 1}'), (2, b"\x00\x01"), (PING, b"ping"), (PONG, b"unasked")]


def greeting(link: Link) -> None:
    """A server that sends a message of each kind, and then closes."""
    link.accept()
    for opcode, payload in GREETING:
        link.send_frame(opcode, payload)
    link.send_frame(CLOSE, b"\x03\xe9away")
    while link.read_frame()[0] != CLOSE:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    """The URL of a third-party echo server that compresses on request."""
    def handler(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(handler, "127.0.0.1", 0) as server:
        thread = in_thread(server.serve_forever)
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        server.shutdown()
        thread.join(PATIENCE)


class TestSetup:
    """Before a connection."""

    def test_install_by_pip(self, tmp_path: Path) -> None:
        """Installation with pip."""
        source, target = tmp_path / "source", tmp_path / "target"
        shutil.copytree(ROOT / "lochws", source / "lochws", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
            shutil.copy(ROOT / name, source / name)
        shutil.copytree(ROOT / "docs/man", source / "docs/man")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        subprocess.run([*pip, str(source)], check=True, timeout=120)
        assert (target / "lochws" / "py.typed").exists()
        subprocess.run(
            [sys.executable, "-c", f"import lochws; assert lochws.__file__.startswith({str(target)!r})"],
            check=True, timeout=30, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(target)},
        )

    def test_wsaccel_used_when_there(self) -> None:
        """wsaccel is used if it is installed: for masking; Lomond used it for UTF-8 only."""
        pytest.importorskip("wsaccel", exc_type=ImportError)
        program = "from lochws.protocol import masking; print(masking.best().__name__)"
        environment = {key: value for key, value in os.environ.items() if key != "LOCHWS_PURE_PYTHON"}
        ran = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True,
            timeout=30, cwd=ROOT,
        )
        assert ran.stdout.strip() == "mask_wsaccel"

    @pytest.mark.parametrize("kind", [WebSocket, WebSocketApp])
    def test_no_connection_at_construction(self, kind: type[WebSocket], start_peer: StartPeer) -> None:
        """The constructor does not connect."""
        peer = start_peer(polite)
        threads = threading.active_count()
        ws = kind(peer.url)
        assert (peer.links, ws.state.value) == ([], "new")
        assert threading.active_count() == threads


class TestEvents:
    """Each event, from a real connection, with `name`, `received_time` and a short repr."""

    @pytest.mark.parametrize(
        ("name", "kind", "shown"),
        [
            ("connecting", events.Connecting, "Connecting(url='{url}')"),
            ("connected", events.Connected, "Connected(url='{url}')"),
            ("ready", events.Ready, "Ready(response={response}, protocol=None, extensions=set())"),
            ("poll", events.Poll, "Poll()"),
            ("text", events.Text, "Text(text='{{\"a\": 1}}')"),
            ("binary", events.Binary, "Binary(data=b'\\x00\\x01')"),
            ("ping", events.Ping, "Ping(data=b'ping')"),
            ("pong", events.Pong, "Pong(data=b'unasked')"),
            ("closing", events.Closing, "Closing(code=1001, reason='away')"),
            ("disconnected", events.Disconnected, "Disconnected(reason='closed', graceful=True)"),
        ],
    )
    def test_of_a_connection_that_the_server_closes(
        self, name: str, kind: type[events.Event], shown: str, start_peer: StartPeer
    ) -> None:
        """Connecting, Connected, Ready, Poll, Text, Binary, Ping, Pong, Closing, Disconnected."""
        url = start_peer(greeting).url
        (event,) = take(WebSocket(url), name)
        check(event, name, kind)
        response = "<response HTTP/1.1 101 Switching Protocols>"
        assert repr(event) == shown.format(url=url, response=response)

    def test_text_with_json(self, start_peer: StartPeer) -> None:
        """Text (with `.json`)."""
        (event,) = take(WebSocket(start_peer(greeting).url), "text")
        assert event.json == {"a": 1}

    def test_connect_fail(self) -> None:
        """ConnectFail."""
        (event,) = take(WebSocket("ws://127.0.0.1:1/"), "connect_fail")
        check(event, "connect_fail", events.ConnectFail)
        assert repr(event) == f"ConnectFail(reason={event.reason!r})"

    def test_rejected(self, start_peer: StartPeer) -> None:
        """Rejected."""
        (event,) = take(WebSocket(start_peer(refusing("404 Not Found")).url), "rejected")
        check(event, "rejected", events.Rejected)
        assert event.response.status_code == 404
        assert repr(event) == f"Rejected(response=<response HTTP/1.1 404 Not Found>, reason={event.reason!r})"

    def test_protocol_error(self, start_peer: StartPeer) -> None:
        """ProtocolError."""
        peer = start_peer(lambda link: (link.accept(), link.send(b"\x83\x00"), link.wait_for_end()))
        (event,) = take(WebSocket(peer.url), "protocol_error")
        check(event, "protocol_error", events.ProtocolError)
        assert repr(event) == f"ProtocolError(error={event.error!r}, critical=False)"

    def test_unresponsive(self, start_peer: StartPeer) -> None:
        """Unresponsive."""
        ws = WebSocket(start_peer(silent).url)
        (event,) = take(ws.connect(ping_rate=0.05, ping_timeout=0.05), "unresponsive")
        check(event, "unresponsive", events.Unresponsive)
        assert repr(event) == "Unresponsive()"

    def test_closed(self, start_peer: StartPeer) -> None:
        """Closed."""
        ws = WebSocket(start_peer(polite).url)
        for event in ws:
            if event.name == "ready":
                ws.close(1000, "enough")
            elif event.name == "closed":
                check(event, "closed", events.Closed)
                assert repr(event) == "Closed(code=1000, reason='enough')"
                return
        pytest.fail("no Closed")

    def test_disconnected_graceful_and_reason(self, start_peer: StartPeer) -> None:
        """Disconnected (`graceful`, `reason`)."""
        (event,) = take(WebSocket(start_peer(greeting).url), "disconnected")
        assert (event.graceful, event.reason) == (True, "closed")

    def test_graceful_is_false_for_a_lost_connection(self, start_peer: StartPeer) -> None:
        """`graceful=False` for a lost connection."""
        (event,) = take(WebSocket(start_peer(dropping).url), "disconnected")
        assert (event.graceful, event.reason) == (False, "connection lost: ended by the server")

    def test_back_off(self) -> None:
        """BackOff."""
        (event,) = take(persist(WebSocket("ws://127.0.0.1:1/"), min_wait=0.25, max_wait=0.25), "back_off")
        check(event, "back_off", events.BackOff)
        assert repr(event) == "BackOff(delay=0.2)"

    def test_isinstance_and_name_both_usable(self, start_peer: StartPeer) -> None:
        """Both `isinstance` and `name` can be used."""
        for event in WebSocket(start_peer(greeting).url):
            assert isinstance(event, events.Event)
            assert isinstance(event, events.Text) == (event.name == "text")

    def test_unknown_events_ignorable(self, start_peer: StartPeer) -> None:
        """Unknown events can be ignored: code that checks names keeps working when there are new ones."""
        class News(events.Event):
            name = "news"

        seen = []

        class App(WebSocketApp):
            def on_event(self, event: events.Event) -> None:
                seen.append(event.name)

            def on_text(self, event: events.Text) -> None:
                seen.append("on_text")

        App("ws://127.0.0.1:1/")._lochws.registry.dispatch_all([News()])
        assert seen == ["news"]


class TestLoop:
    """The loop and its end."""

    def test_iteration_and_connect_with_options(self, start_peer: StartPeer) -> None:
        """Iteration and `connect()` with options."""
        ws = WebSocket(start_peer(greeting).url)
        assert names(ws, "poll")[-1] == "disconnected"
        options = {"poll": 1, "ping_rate": 0, "ping_timeout": None, "auto_pong": False, "close_timeout": 5}
        assert names(ws.connect(**options), "poll") == [
            "connecting", "connected", "ready", "text", "binary", "ping", "pong", "closing", "disconnected",
        ]

    def test_an_exception_in_an_iterating_loop_drops_the_socket(self, start_peer: StartPeer) -> None:
        """An exception in an iterating loop drops the socket."""
        ends = Ends()

        def loop(ws: WebSocket) -> None:
            for event in ws:
                assert event.name != "ready", "mine"

        with pytest.raises(AssertionError, match="mine"):
            loop(WebSocket(start_peer(ends).url))
        assert ends.wait()[-1] == "FIN"

    @pytest.mark.parametrize("where", ["the loop", "another thread"])
    def test_close_from_the_loop_or_another_thread(self, where: str, start_peer: StartPeer) -> None:
        """After `close()`, from any thread, messages are received until the end of the loop."""
        def script(link: Link) -> None:
            link.accept()
            while link.read_frame()[0] != CLOSE:
                pass
            link.send_frame(TEXT, b"still here")
            link.send_frame(CLOSE, b"\x03\xe8")

        ws = WebSocket(start_peer(script).url)
        seen, closers = [], []
        for event in ws:
            seen.append(event)
            if event.name == "ready":
                ws.close() if where == "the loop" else closers.append(in_thread(ws.close))
        for closer in closers:
            closer.join(PATIENCE)
        assert names(seen, "poll", "pong")[-3:] == ["text", "closed", "disconnected"]

    def test_close_timeout(self, start_peer: StartPeer) -> None:
        """`close_timeout`."""
        ws = WebSocket(start_peer(silent).url)
        for event in ws.connect(close_timeout=0.1):
            if event.name == "ready":
                ws.close()
        assert "did not answer our Close frame within 0.1 s" in event.reason

    def test_closing_may_still_be_answered_with_messages_then_the_echo(self, start_peer: StartPeer) -> None:
        """A handler of Closing can still send messages; the Close frame is answered after that."""
        ends = Ends((CLOSE, b"\x03\xe9away"))
        ws = WebSocket(start_peer(ends).url)
        for event in ws.connect(close_timeout=0.1):
            if event.name == "closing":
                ws.send_text("one more")
        assert ends.wait() == [(TEXT, b"one more"), (CLOSE, b"\x03\xe9away"), "FIN"]

    def test_poll_at_poll(self, start_peer: StartPeer) -> None:
        """Poll events arrive every `poll` seconds."""
        url, began = start_peer(silent).url, time.time()  # the first one may be late
        polls = take(WebSocket(url).connect(poll=0.04), "poll", 4)
        assert 0.1 < polls[-1].received_time - began < 3 * 5.0  # the default


class TestPings:
    """Pings and pongs."""

    def test_automatic_pings_at_ping_rate(self, start_peer: StartPeer) -> None:
        """Automatic pings at `ping_rate`."""
        pings = []

        def script(link: Link) -> None:
            link.accept()
            pings.extend(link.read_frame()[0] for _ in range(3))

        list(WebSocket(start_peer(script).url).connect(ping_rate=0.03, ping_timeout=None))
        assert pings == [PING] * 3

    def test_0_to_disable(self, start_peer: StartPeer) -> None:
        """0 to disable."""
        ends = Ends()
        take(WebSocket(start_peer(ends).url).connect(poll=0.03, ping_rate=0), "poll", 3)
        assert ends.done.wait(PATIENCE)
        assert [frame[0] for frame in ends.seen] == [CLOSE, "F"]

    @pytest.mark.parametrize("auto_pong", [True, False])
    def test_auto_pong(self, auto_pong: bool, start_peer: StartPeer) -> None:
        """`auto_pong`."""
        ends = Ends((PING, b"you?"), (TEXT, b""))
        take(WebSocket(start_peer(ends).url).connect(auto_pong=auto_pong), "text")
        assert ((PONG, b"you?") in ends.wait()) is auto_pong

    def test_send_ping_and_send_pong_any_time(self, start_peer: StartPeer) -> None:
        """`send_ping` and `send_pong` at any time; unsolicited pongs."""
        received = []

        def script(link: Link) -> None:
            link.accept()
            received.extend([link.read_frame() for _ in range(3)])
            link.send_frame(PONG, b"measure")
            link.send_frame(PONG, b"unasked")
            answer_close(link)

        ws = WebSocket(start_peer(script).url)
        pongs = []
        for event in ws.connect(ping_rate=0):
            if event.name == "ready":
                ws.send_ping(b"measure")
                ws.send_pong(b"heartbeat")
                ws.send_ping()
            elif event.name == "pong":
                pongs.append((event.data, event.latency is not None))
                if len(pongs) == 2:
                    ws.close()
        assert received == [(PING, b"measure"), (PONG, b"heartbeat"), (PING, b"")]
        assert pongs == [(b"measure", True), (b"unasked", False)]


class TestCompression:
    """permessage-deflate."""

    def test_compress_true_and_automatic_inflating(self, echo: str) -> None:
        """`compress=True`, automatic inflating, `supports_compression`, `send_…(compress=False)`."""
        ws = WebSocket(echo, compress=True)
        text = "again and again " * 1000
        received: list[Any] = []
        sizes = []
        for event in ws:
            before = ws.counters.bytes_sent
            if event.name == "ready":
                assert event.extensions == {"permessage-deflate"}
                assert ws.supports_compression
                ws.send_text(text)
            elif event.name in {"text", "binary"}:
                received.append(event.text if event.name == "text" else event.data)
                if len(received) == 1:
                    ws.send_text(text, compress=False)
                elif len(received) == 2:
                    ws.send_binary(text.encode(), compress=False)
                else:
                    ws.close()
            sizes.append(ws.counters.bytes_sent - before)
        assert received == [text, text, text.encode()]
        assert sum(size > len(text) for size in sizes) == 2

    def test_without_it_nothing_is_compressed(self, echo: str) -> None:
        """`compress` is off by default, and `compress=True` of a send is ignored then."""
        ws = WebSocket(echo)
        for event in ws:
            if event.name == "ready":
                assert event.extensions == set()
                assert not ws.supports_compression
                ws.send_text("x", compress=True)
            elif event.name == "text":
                assert event.text == "x"
                ws.close()


class TestProxies:
    """Proxies from environment, by dict, `{}`."""

    @pytest.fixture
    def proxy(self, start_peer: StartPeer) -> tuple[str, list[str]]:
        """A proxy that records the request and then acts as the server."""
        asked: list[str] = []

        def script(link: Link) -> None:
            request = link.read_request()
            asked.append(request.line)
            if request.line.startswith("CONNECT"):
                link.send(b"HTTP/1.1 200 OK\r\n\r\n")
                request = link.read_request()
            link.accept(request=request)
            answer_close(link)

        return f"http://{start_peer(script).authority}", asked

    @pytest.mark.parametrize("how", ["environment", "dict", "{}"])
    def test_from_environment_by_dict_or_none(
        self, how: str, proxy: tuple[str, list[str]], start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Proxies from environment, by dict, `{}` for none."""
        url, asked = proxy
        server = start_peer(polite)
        if how != "dict":
            monkeypatch.setenv("http_proxy", url)
        proxies = {"environment": None, "dict": {"http": url}, "{}": {}}[how]
        (connected,) = take(WebSocket(server.url, proxies=proxies), "connected")
        assert connected.proxy == (None if how == "{}" else url)
        assert asked == ([] if how == "{}" else [f"CONNECT {server.authority} HTTP/1.1"])


class TestThreadSafety:
    """Thread safety."""

    def test_any_thread_may_send(self, echo: str) -> None:
        """Thread safety, also of compressed messages, which Lomond corrupted (Q21)."""
        ws = WebSocket(echo, compress=True)
        texts: list[str] = []

        def send(thread: int) -> None:
            for number in range(100):
                ws.send_text(f"{thread} {number} " + "x" * 100)

        for event in ws:
            if event.name == "ready":
                threads = [in_thread(run(send, number)) for number in range(4)]
            elif event.name == "text":
                texts.append(event.text)
                if len(texts) == 400:
                    ws.close()
        for thread in threads:
            thread.join(PATIENCE)
        for number in range(4):
            mine = [int(text.split()[1]) for text in texts if text.startswith(f"{number} ")]
            assert mine == list(range(100))


class TestPersist:
    """`persist()`."""

    def test_growing_random_waits_and_a_ceiling(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`persist()` with Lomond's growing random waits and their upper limit; the test does not wait."""
        waited: list[float] = []
        ws = WebSocket("ws://127.0.0.1:1/")

        def wait(timeout: float | None = None) -> bool:
            waited.append(timeout or 0)
            return False

        monkeypatch.setattr(ws.close_called, "wait", wait)
        monkeypatch.setattr("lochws.system.waits.SLICE_SECONDS", 1000)
        ranges = [(5, 7), (5, 9), (5, 13), (5, 21), (5, 30), (5, 30), (5, 30)]
        delays = []
        for event in persist(ws):
            if isinstance(event, events.BackOff):
                delays.append(event.delay)
                if len(delays) == len(ranges):
                    ws.close()
        assert delays == waited
        assert all(low <= delay <= high for delay, (low, high) in zip(delays, ranges, strict=True))
        assert len(set(delays)) == len(delays)

    def test_errors_are_lomonds_too(self) -> None:
        """A send without a connection raises one of Lomond's errors."""
        with pytest.raises(errors.WebSocketUnavailable):
            WebSocket("ws://127.0.0.1:1/").send_text("x")


def check(event: events.Event, name: str, kind: type[events.Event]) -> None:
    """Check what all events have in common."""
    assert event.name == kind.name == name
    assert type(event) is kind
    assert abs(time.time() - event.received_time) < PATIENCE
    assert len(repr(event)) < 200


def run(function: Callable[[int], object], number: int) -> Callable[[], object]:
    """The function with its argument."""
    return lambda: function(number)
