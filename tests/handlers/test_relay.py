"""Relay: no event is missing from the stream, whatever Redis does, and duplicates can be recognised."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws.handlers.relay import Relay

from ..support.apps import AT_ONCE, hurry, opened, running
from ..support.peer import BINARY, CLOSE, PING, PONG, TEXT, Link, StartPeer
from ..support.redis_server import RedisServer
from ..support.seen import PATIENCE, eventually


@pytest.fixture(autouse=True)
def all_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Let tests see every log line."""
    caplog.set_level(logging.DEBUG, "lochws")


def relay_of(app: WebSocketApp, redis: RedisServer | str, **options: Any) -> Relay:
    """Make a relay with short waits."""
    url = redis if isinstance(redis, str) else redis.url
    return Relay(app, "feed", url, **{"min_wait": 0.01, "max_wait": 0.05, "timeout": 0.5, **options})


def telling(count: int) -> Callable[[Link], None]:
    """A script that sends the first numbers, and then waits until the client closes."""

    def script(link: Link) -> None:
        link.accept()
        for number in range(count):
            link.send_frame(TEXT, str(number).encode())
        until_closed(link)

    return script


def until_closed(link: Link) -> None:
    """Wait for the client's Close frame, and answer it."""
    while (frame := link.read_frame())[0] != CLOSE:
        pass
    link.send_frame(*frame)


def numbers(entries: list[dict[str, Any]]) -> list[int]:
    """Return the numbers in text messages, each entry once, as a reader would."""
    unique = {entry["id"]: entry for entry in entries}
    return [int(entry["data"]) for entry in unique.values() if entry["event"] == "text"]


NOWHERE = "redis://127.0.0.1:1/"


class TestEntries:
    def test_each_event_becomes_an_entry_with_its_source_and_number(
        self, redis: RedisServer, start_peer: StartPeer
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, "é".encode())
            link.send_frame(BINARY, b"\x00\xff")
            until_closed(link)

        peer = start_peer(script)
        app = WebSocketApp(peer.url.replace("//", "//me:secret@") + "?token=secret")
        with relay_of(app, redis) as relay:
            with opened(app):
                eventually(lambda: relay.counts.relayed == 3)
            eventually(lambda: relay.counts.relayed == 4)
            assert relay.counts == (4, 4, 0, 0, 0)
        entries = redis.entries("feed")
        assert [entry["event"] for entry in entries] == ["ready", "text", "binary", "disconnected"]
        assert [entry["data"] for entry in entries[1:3]] == ["é".encode(), b"\x00\xff"]
        assert json.loads(entries[0]["data"])["protocol"] is None
        assert json.loads(entries[3]["data"])["ended_by"] == "client"
        assert {entry["source"] for entry in entries} == {f"{peer.url}?token=…"}
        assert {entry["connection"] for entry in entries} == {"1"}
        assert [entry["sequence"] for entry in entries] == ["1", "2", "3", "4"]
        assert len({entry["id"] for entry in entries}) == 4
        assert "secret" not in repr(entries)
        times = [float(entry["time"]) for entry in entries]
        assert times == sorted(times)

    def test_each_connection_is_numbered_and_starts_its_own_sequence(
        self, redis: RedisServer, start_peer: StartPeer
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"0")
            if len(peer.links) > 1:
                until_closed(link)

        peer = start_peer(script)
        app = WebSocketApp(peer.url)
        wanted = ["text", events.Connecting, "back_off"]
        with relay_of(app, redis, events=wanted, source="mine") as relay, running(app, persist=AT_ONCE):
            eventually(lambda: relay.counts.relayed == 5)
        shown = [
            (entry["event"], entry["connection"], entry["sequence"], entry["source"])
            for entry in redis.entries("feed")
        ]
        assert shown == [
            ("connecting", "1", "1", "mine"), ("text", "1", "2", "mine"), ("back_off", "1", "3", "mine"),
            ("connecting", "2", "1", "mine"), ("text", "2", "2", "mine"),
        ]

    def test_a_redirect_does_not_count_as_another_connection(
        self, redis: RedisServer, start_peer: StartPeer
    ) -> None:
        def script(link: Link) -> None:
            if link.read_request().line.startswith("GET /there "):
                link.accept(request=link.request)
                until_closed(link)
            link.send(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n")

        peer = start_peer(script)
        app = WebSocketApp(peer.url)
        with relay_of(app, redis, events=["connecting", "ready"]) as relay, opened(app):
            eventually(lambda: relay.counts.relayed == 3)
        entries = redis.entries("feed")
        assert [entry["connection"] for entry in entries] == ["1"] * 3
        assert [entry["sequence"] for entry in entries] == ["1", "2", "3"]
        assert [entry["source"] for entry in entries] == [peer.url, *[f"{peer.url}there"] * 2]

    def test_all_events_can_be_relayed(self, redis: RedisServer, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(PING, b"there?")
            until_closed(link)

        app = WebSocketApp(start_peer(script).url)
        with relay_of(app, redis, events=["event"]) as relay, opened(app):
            eventually(lambda: relay.counts.relayed == 5)
            app.close()
            assert app.wait_closed(PATIENCE)
        entries = {entry["event"]: entry["data"] for entry in redis.entries("feed")}
        assert entries.keys() == {
            "connecting", "connected", "ready", "poll", "ping", "closed", "disconnected"
        }
        assert entries["ping"] == b"there?"
        assert json.loads(entries["connected"])["proxy"] is None

    def test_maxlen_limits_the_stream(self, redis: RedisServer, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling(1000)).url)
        with relay_of(app, redis, maxlen=100, events=["text"]) as relay, opened(app):
            eventually(lambda: relay.counts.relayed == 1000)
        assert 100 <= redis.client.xlen("feed") <= 300
        assert numbers(redis.entries("feed"))[-1] == 999

    def test_a_client_that_was_passed_in_is_used_and_not_closed(
        self, redis: RedisServer, start_peer: StartPeer
    ) -> None:
        app = WebSocketApp(start_peer(telling(3)).url)
        connection = redis.client.client_id()
        with Relay(app, "feed", redis.client, events=["text"]) as relay, opened(app):
            eventually(lambda: relay.counts.relayed == 3)
        assert redis.client.client_id() == connection
        assert numbers(redis.entries("feed")) == [0, 1, 2]


class TestRedisInTrouble:
    def test_no_event_is_missing_after_redis_was_killed_again_and_again(
        self, redis: RedisServer, start_peer: StartPeer
    ) -> None:
        go = threading.Semaphore()

        def script(link: Link) -> None:
            link.accept()
            for number in range(4000):
                if number % 1000 == 0:
                    assert go.acquire(timeout=PATIENCE)
                link.send_frame(TEXT, str(number).encode())
            until_closed(link)

        app = WebSocketApp(start_peer(script).url)
        with relay_of(app, redis, events=["text"], batch=20, max_events=200) as relay, opened(app):
            for part in (1, 2, 3):
                eventually(lambda part=part: relay.counts.relayed > 1000 * part - 500)  # type: ignore[misc]
                failures = relay.counts.failures
                redis.kill()  # usually in the middle of a batch
                go.release()
                eventually(lambda failures=failures: relay.counts.failures > failures)  # type: ignore[misc]
                redis.start()
            eventually(lambda: relay.counts.relayed == 4000)
            assert relay.counts[2:4] == (0, 0)
        entries = redis.entries("feed")
        assert numbers(entries) == list(range(4000))
        assert len({entry["id"] for entry in entries}) == 4000

    def test_while_redis_is_halted_the_receiver_pauses_and_pings_are_answered(
        self, redis: RedisServer, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        halted, paused, answered = threading.Event(), threading.Event(), threading.Event()

        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"0")
            halted.wait(PATIENCE)
            for number in range(1, 500):
                link.send_frame(TEXT, str(number).encode())
            paused.wait(PATIENCE)
            link.send_frame(PING, b"there?")
            while link.read_frame() != (PONG, b"there?"):
                pass
            answered.set()
            until_closed(link)

        app = WebSocketApp(start_peer(script).url)
        with relay_of(app, redis, events=["text"], max_events=50, batch=10) as relay, opened(app):
            hurry(app)
            eventually(lambda: relay.counts.relayed == 1)
            redis.halt()
            halted.set()
            eventually(lambda: relay.counts[:4] == (52, 1, 50, 0))  # one more is in the handler
            eventually(lambda: relay.counts.failures > 1)
            assert relay.counts.received == 52
            assert len(relay.unrelayed) == 50
            paused.set()
            assert answered.wait(PATIENCE)
            redis.go_on()
            eventually(lambda: relay.counts.relayed == 500)
        entries = redis.entries("feed")
        assert numbers(entries) == list(range(500))
        assert len(entries) > 500, "what Redis had got and not acknowledged came again"
        lines = [record.getMessage() for record in caplog.records]
        assert "a relay waits for Redis, with 50 events: the receiver pauses" in lines
        assert "Redis is acknowledging events for the stream feed again" in lines
        assert sum("Redis did not acknowledge events for the stream feed" in line for line in lines) <= 3

    def test_waiting_bytes_are_bounded_too(self, redis: RedisServer, start_peer: StartPeer) -> None:
        go = threading.Event()

        def script(link: Link) -> None:
            link.accept()
            for number in range(10):
                if number == 5:
                    assert go.wait(PATIENCE)
                link.send_frame(BINARY, bytes(400))
            until_closed(link)

        app = WebSocketApp(start_peer(script).url)
        with relay_of(app, redis, events=["binary"], max_bytes=1000) as relay, opened(app):
            eventually(lambda: relay.counts.relayed == 5)
            redis.halt()
            go.set()
            eventually(lambda: relay.counts.received == 8)
            assert relay.counts[:4] == (8, 5, 2, 0), "one is in the handler, which waits for room"
            redis.go_on()
            eventually(lambda: relay.counts.relayed == 10)

    @pytest.mark.parametrize(
        ("when_full", "relayed"),
        [("drop_oldest", ["x0", "a8", "b9", "a10", "b11"]), ("latest", ["x0", "c3", "d4", "a10", "b11"])],
    )
    def test_events_that_find_no_room_replace_others_if_that_is_the_rule(
        self, redis: RedisServer, start_peer: StartPeer, caplog: pytest.LogCaptureFixture, when_full: Any,
        relayed: list[str],
    ) -> None:
        go, go_on = threading.Event(), threading.Event()
        words = ["a1", "b2", "c3", "d4", "b5", "a6", "b7", "a8", "b9", "a10", "b11"]

        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"first")
            assert go.wait(PATIENCE)
            link.send_frame(TEXT, b"x0")
            assert go_on.wait(PATIENCE)
            for word in words:
                link.send_frame(TEXT, word.encode())
            until_closed(link)

        app = WebSocketApp(start_peer(script).url)
        options: dict[str, Any] = {"events": ["text"], "max_events": 5, "batch": 1, "timeout": None}
        with relay_of(
            app, redis, when_full=when_full, key=lambda event: event.text[0], **options
        ) as relay, opened(app):
            eventually(lambda: relay.counts.relayed == 1)
            redis.halt()
            go.set()
            eventually(lambda: bool(relay._queue.inbox.batch))  # x0 is being sent: it is not dropped
            go_on.set()
            eventually(lambda: relay.counts == (13, 1, 5, 7, 0))
            redis.go_on()
            eventually(lambda: relay.counts == (13, 6, 0, 7, 0))
        assert [entry["data"].decode() for entry in redis.entries("feed")][1:] == relayed
        assert sum("there was no room" in record.getMessage() for record in caplog.records) == 7

    def test_a_key_that_is_not_a_stream_is_logged_and_nothing_is_lost(
        self, redis: RedisServer, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        redis.client.set("feed", "no stream")
        app = WebSocketApp(start_peer(telling(3)).url)
        with relay_of(app, redis, events=["text"]) as relay, opened(app):
            eventually(lambda: relay.counts.failures > 0)
            assert "WRONGTYPE" in caplog.text
            redis.client.delete("feed")
            eventually(lambda: relay.counts.relayed == 3)
        assert numbers(redis.entries("feed")) == [0, 1, 2]


class TestWithoutAThread:
    @pytest.fixture
    def no_threads(self, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        """Prevent relays from starting a thread, until it is undone."""
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name == "lochws-relay":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        return monkeypatch

    def test_events_wait_until_one_can_be_started(
        self, redis: RedisServer, no_threads: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
        start_peer: StartPeer,
    ) -> None:
        app = WebSocketApp(start_peer(telling(50)).url)
        with relay_of(app, redis, events=["text"], max_events=10) as relay, opened(app):
            eventually(lambda: relay.counts.received == 11)
            assert relay.counts.waiting == 10
            no_threads.undo()
            eventually(lambda: relay.counts.relayed == 50)
        assert numbers(redis.entries("feed")) == list(range(50))
        assert "cannot start a thread" in caplog.text

    def test_close_returns_what_was_not_relayed(
        self, no_threads: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        relay = relay_of(WebSocketApp("ws://127.0.0.1:1/"), NOWHERE, events=["text"])
        relay._take(events.Text("x"))
        assert [entry.data for entry in relay.close()] == [b"x"]
        assert "1 events were not relayed to the stream feed" in caplog.text


class TestEnd:
    def test_an_app_that_is_stopped_while_redis_is_down_ends_and_reports_what_was_not_relayed(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = WebSocketApp(start_peer(telling(50)).url)
        relay = relay_of(app, NOWHERE, events=["text"], max_events=10, close_timeout=0.3)
        with opened(app):
            eventually(lambda: relay.counts.received == 11)
        counts = relay.counts
        assert counts[:4] == (50, 0, 10, 40)
        unrelayed = relay.close()
        assert [entry.data for entry in unrelayed] == [str(number).encode() for number in range(10)]
        assert relay.close() == relay.unrelayed == unrelayed
        assert "10 events were not relayed to the stream feed: Redis did not acknowledge " in caplog.text
        lines = [record.getMessage() for record in caplog.records]
        assert sum("was not relayed to the stream feed: there was no room" in line for line in lines) == 20

    def test_close_waits_for_what_redis_can_still_take(
        self, redis: RedisServer, start_peer: StartPeer
    ) -> None:
        app = WebSocketApp(start_peer(telling(100)).url)
        relay = relay_of(app, redis, events=["text"])
        redis.halt()
        with opened(app):
            eventually(lambda: relay.counts.received == 100)
        assert relay.counts.relayed == 0
        redis.go_on()
        assert relay.close(PATIENCE) == []
        assert relay.counts[:4] == (100, 100, 0, 0)

    def test_close_does_not_wait_for_a_halted_redis_longer_than_asked_for(
        self, redis: RedisServer, start_peer: StartPeer
    ) -> None:
        app = WebSocketApp(start_peer(telling(1)).url)
        relay = relay_of(app, redis, events=["text"], timeout=None)
        redis.halt()
        with opened(app):
            eventually(lambda: relay.counts.received == 1)
        assert len(relay.close(0.05)) == 1
        assert not [thread for thread in threading.enumerate() if thread.name == "lochws-relay"]
        redis.go_on()

    def test_what_is_acknowledged_after_close_still_counts_as_unrelayed(
        self, redis: RedisServer, start_peer: StartPeer
    ) -> None:
        app = WebSocketApp(start_peer(telling(1)).url)
        relay = Relay(app, "feed", redis.client, events=["text"])
        redis.halt()
        with opened(app):
            eventually(lambda: relay.counts.received == 1)
        unrelayed = relay.close(0.05)
        assert [entry.data for entry in unrelayed] == [b"0"]
        redis.go_on()
        eventually(lambda: not any(thread.name == "lochws-relay" for thread in threading.enumerate()))
        assert numbers(redis.entries("feed")) == [0]
        assert relay.unrelayed == unrelayed
        assert relay.counts == (1, 0, 1, 0, 0)

    def test_events_after_close_are_counted_as_dropped(
        self, redis: RedisServer, start_peer: StartPeer
    ) -> None:
        app = WebSocketApp(start_peer(telling(1)).url)
        relay = relay_of(app, redis, events=["disconnected"])
        with opened(app):
            relay.close()
        assert relay.counts == (1, 0, 0, 1, 0)

    def test_the_end_of_the_program_waits_for_redis(self, redis: RedisServer, start_peer: StartPeer) -> None:
        program = (
            "import sys\n"
            "from lochws import WebSocketApp\n"
            "from lochws.handlers.relay import Relay\n"
            "app = WebSocketApp(sys.argv[1])\n"
            "relay = Relay(app, 'feed', sys.argv[2], events=['text'])\n"
            "app.on('text')(lambda event: event.text == '99' and app.close())\n"
            "app.run_forever(persist=False)\n"
        )
        url = start_peer(telling(100)).url
        subprocess.run([sys.executable, "-c", program, url, redis.url], check=True, timeout=PATIENCE)
        assert numbers(redis.entries("feed")) == list(range(100))

    def test_the_child_of_a_fork_starts_over_with_ids_of_its_own(self, redis: RedisServer) -> None:
        app = WebSocketApp("ws://127.0.0.1:1/")
        relay = relay_of(app, redis)
        names = []
        for _ in range(2):
            relay._take(events.Text("x"))
            eventually(lambda: relay.counts.relayed == 1)
            names.append(redis.entries("feed")[-1]["id"])
            relay.close()
            relay.reset_after_fork()
            assert relay.counts == (0, 0, 0, 0, 0)
        assert names[0] != names[1]


def test_reasons_are_relayed_without_the_secrets_of_the_urls_in_them(redis: RedisServer) -> None:
    url = "wss://me:S3CRET@feed.example.org/?token=S3CRET"
    with relay_of(WebSocketApp("ws://127.0.0.1:1/"), redis, events=["event"]) as relay:
        relay._take(events.ConnectFail(f"no way to {url}", advice=f"try {url}", phase="tcp"))
        eventually(lambda: relay.counts.relayed == 1)
    told = json.loads(redis.entries("feed")[0]["data"])
    assert told["reason"] == "no way to wss://feed.example.org/?token=…"
    assert "S3CRET" not in told["advice"]


class TestWhatIsGiven:
    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            ({"stream": ""}, TypeError, "stream='': expected the key"),
            ({"redis": "http://nowhere"}, ValueError, "redis://"),
            ({"events": ["batch"]}, ValueError, "'batch' is not an event"),
            ({"maxlen": 0}, ValueError, "maxlen=0"),
            ({"batch": 0}, ValueError, "batch=0"),
            ({"max_events": 0}, ValueError, "max_events=0"),
            ({"when_full": "drop"}, ValueError, "when_full='drop': expected one of 'pause', 'drop_oldest'"),
            ({"key": "id"}, TypeError, "key='id': expected a function"),
            ({"max_bytes": "1"}, TypeError, "max_bytes='1'"),
            ({"timeout": -1}, ValueError, "timeout=-1"),
            ({"close_timeout": "x"}, TypeError, "close_timeout='x'"),
            ({"min_wait": 2, "max_wait": 1}, ValueError, "min_wait=2, max_wait=1"),
            ({"min_wait": True}, TypeError, "min_wait=True"),
            ({"max_wait": float("inf")}, ValueError, "max_wait=inf"),
        ],
        ids=str,
    )
    def test_invalid_arguments_are_refused_immediately(
        self, arguments: dict[str, Any], error: type[Exception], said: str
    ) -> None:
        with pytest.raises(error, match=said):
            Relay(**{"app": WebSocketApp("ws://127.0.0.1:1/"), "stream": "feed", **arguments})

    def test_without_redis_py_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "redis", None)
        with pytest.raises(ImportError, match=r"pip install 'lochws\[redis\]'"):
            Relay(WebSocketApp("ws://127.0.0.1:1/"), "feed")
