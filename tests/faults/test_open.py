"""Faults of an open connection: what is said, how it ends or why it lives on, and that another follows."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import nullcontext
from time import monotonic
from typing import Any

import pytest

from lochws import clock
from lochws import testing as t
from lochws.protocol import close
from lochws.testing import VirtualClock

from ..support.clocks import Shifting
from ..support.peer import CLOSE, CONTINUATION, PING, TEXT, frame
from ..support.seen import PATIENCE
from .life import CALM, OPENED, attempts, end_of_first, surviving
from .registry import fault

NETWORK = {"ended_by": "network", "graceful": False, "sent_code": None, "received_code": None}
#: The server is told why it was left, should it still be there.
UNRESPONSIVE = {**NETWORK, "sent_code": 1011}
WRONG = ["protocol_error", "disconnected"]
SILENT = ["unresponsive", "disconnected"]
#: Pings that show that nobody answers.
PINGING = {"ping_rate": 30, "ping_timeout": 60}


def refused(code: int) -> dict[str, Any]:
    """Return the attributes of Disconnected for a server that broke a rule."""
    return {"ended_by": "server", "graceful": False, "sent_code": code}


def ending(
    name: str, script: list[t.Step], events: list[str], reason: str, end: dict[str, Any], *,
    case: str = "", timing: dict[str, Any] | None = None, **options: Any,
) -> Any:
    """A case of the test below: a fault, what the server does after accepting, and how it ends."""
    marks = fault("open", name)
    return pytest.param(script, events, reason, end, timing or {}, options, marks=marks, id=case or name)


def without_end(connection: t.ServerConnection) -> None:
    """Send fragments of one message until the client leaves."""
    t.send_frame(TEXT, b"x" * 1000, fin=False)(connection)
    while True:
        t.send_frame(CONTINUATION, b"x" * 1000, fin=False)(connection)


def close_frame(payload: bytes, code: int, case: str) -> Any:
    """A Close frame that is not allowed."""
    script = [t.send_frame(CLOSE, payload)]
    name = "A Close frame with an invalid code or reason"
    return ending(name, script, WRONG, "", refused(code), case=f"Close with {case}")


def wrong_frame(step: t.Step, case: str) -> Any:
    """A frame that a server must not send."""
    name = "Masked, reserved or unknown frames"
    return ending(name, [step], WRONG, "", refused(1002), case=case)


ENDINGS = [
    ending(
        "The connection is reset inside a frame", [t.cut_after(20), t.send("x" * 100)],
        ["disconnected"], "^connection lost: reset by the server$", NETWORK,
    ),
    ending(
        "The server drops TCP without a Close frame (1006)", [t.send("before"), t.fin()],
        ["text", "disconnected"], "^connection lost: ended by the server$", NETWORK,
    ),
    ending(
        "The server closes with 1000 or 1001", [t.close(1000, "done")],
        ["closing", "disconnected"], "^closed$",
        {"ended_by": "server", "graceful": True, "sent_code": 1000, "received_code": 1000}, case="1000",
    ),
    ending(
        "The server closes with 1000 or 1001", [t.close(1001, "restart")],
        ["closing", "disconnected"], "^closed$",
        {"ended_by": "server", "graceful": True, "sent_code": 1001, "received_code": 1001}, case="1001",
    ),
    close_frame(
        b"\x03\xe7", 1002, "code 999",
    ),
    close_frame(b"\x03\xed", 1002, "code 1005"),
    close_frame(b"\x03\xf7", 1002, "code 1015"),
    close_frame(b"\x13\x88", 1002, "code 5000"),
    close_frame(b"\x03", 1002, "half a code"),
    close_frame(b"\x03\xe8\xff", 1007, "a reason that is no text"),
    ending(
        "The connection goes silent, in both directions or inbound only", [t.stop_reading(), t.silence()],
        SILENT, r"^ping timeout: nothing from the server for 60 s$", UNRESPONSIVE, timing=PINGING,
        case="silent loss both ways",
    ),
    ending(
        "The connection goes silent, in both directions or inbound only", [t.silence()],
        SILENT, r"^ping timeout: nothing from the server for 60 s$", UNRESPONSIVE, timing=PINGING,
        case="silent loss inbound only",
    ),
    ending(
        "The server stalls inside a frame", [t.send_raw(frame(TEXT, b"x" * 100)[:50]), t.silence()],
        SILENT, r"^ping timeout: nothing from the server for 60 s$", UNRESPONSIVE, timing=PINGING,
    ),
    ending(
        "A deflate bomb", [t.send("0" * 20_000_000)], WRONG, "", refused(1009),
        max_message_size=1_000_000, compress=True,
    ),
    ending(
        "Endless fragments", [without_end], WRONG, "", refused(1009), max_message_size=100_000,
    ),
    ending(
        "Text that is not UTF-8", [t.send_frame(TEXT, b"good \xf0\x9f\x98")], WRONG, "", refused(1007),
    ),
    wrong_frame(
        t.send_frame(TEXT, b"x", key=b"keys"), "masked",
    ),
    wrong_frame(t.send_frame(TEXT, b"x", rsv=4), "reserved bit"),
    wrong_frame(t.send_frame(3, b"x"), "unknown data frame"),
    wrong_frame(t.send_frame(11, b"x"), "unknown control frame"),
    wrong_frame(t.send_frame(PING, bytes(126)), "control frame that is too long"),
    ending(
        "The server sends more after its Close frame",
        [t.close(1000, wait=False), t.send_frame(TEXT, b"late"), t.wait_for_close(), t.fin()],
        ["closing", "disconnected"], "^closed$",
        {"ended_by": "server", "graceful": True, "sent_code": 1000, "received_code": 1000},
    ),
]


@pytest.mark.parametrize(("script", "events", "reason", "end", "timing", "options"), ENDINGS)
def test_the_connection_ends_once_saying_why_and_another_one_opens(
    script: list[t.Step], events: list[str], reason: str, end: dict[str, Any], timing: dict[str, Any],
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(close, "LINGER_SECONDS", 0.1)
    # Where it is about time, that passes as fast as it can. Where a server never stops none would pass.
    passing = request.getfixturevalue("ws_clock").passing() if timing else nullcontext()
    accept = t.accept(deflate=options.get("compress", False))
    server = t.ScriptedServer([accept, t.answer_ping(None), *script], CALM)
    with server, surviving(server.url, {"ping_rate": 0, **timing}, **options) as app:
        with passing:
            app.wait_for("ready", 2)
        if server.connections[0].is_reading:  # else it would never know
            server.connections[0].wait_over()
        answer = server.connections[0].close_frame
    assert attempts(app)[:2] == [[*OPENED, *events], [*OPENED, "closed", "disconnected"]]
    last = end_of_first(app)
    assert last.phase == "open"
    assert re.search(reason, last.reason), last.reason
    assert {key: getattr(last, key) for key in end} == end
    assert last.unsent == ()
    # One Close frame of ours at most: the server would have refused another. Unless it reads, it sees none.
    if last.sent_code is not None and script != [without_end] and server.connections[0].is_reading:
        assert answer is not None
        assert answer[0] == last.sent_code
    for event in app.all("protocol_error"):
        assert str(event.error) in last.reason
    assert len(server.connections) == 2


# Connections that live on.


@fault("open", "Pongs are late while data flows")
def test_pongs_that_are_later_than_the_time_out_end_nothing_while_data_flows(ws_clock: VirtualClock) -> None:
    ticks = [step for number in range(20) for step in (t.send(str(number)), t.pause(2))]
    script = [t.accept(), t.answer_ping(late=25), *ticks]
    timing = {"ping_rate": 5, "ping_timeout": 15}
    with t.ScriptedServer(script) as server, surviving(server.url, timing) as app:
        app.wait_for("ready")
        ws_clock.advance(40)
        assert {event.latency for event in app.all("pong")} == {25}
        assert attempts(app) == [[*OPENED, *["text"] * 20]]


@fault("open", "A ping arrives while a handler sleeps")
def test_a_ping_is_answered_while_a_handler_sleeps() -> None:
    answered_meanwhile = []
    server = t.ScriptedServer([t.accept(), t.send("work")])
    with server, surviving(server.url, {"ping_rate": 0}) as app:

        @app.on("text")
        def sleep(event: Any) -> None:
            if event.text == "work":
                server.do(t.ping(b"there?"))
                server.do(t.send("more"))
                server.wait_until(lambda: bool(server.connections[0].pongs))
                answered_meanwhile.append(True)

        app.wait_for("text", 2)
    assert attempts(app) == [[*OPENED, "text", "ping", "text", "closed", "disconnected"]]
    assert answered_meanwhile == [True]
    assert server.connections[0].pongs == [b"there?"]


@fault("open", "Frames arrive one byte at a time")
def test_frames_in_single_bytes_are_put_together() -> None:
    script = [
        t.accept(), t.split(every=1), t.send("grüße"), t.send(b"\0" * 300), t.send("in parts", fragment=3),
        t.ping(b"ping"), t.wait_for_pong(), t.close(1001, "bye"),
    ]
    with t.ScriptedServer(script, CALM) as server, surviving(server.url, {"ping_rate": 0}) as app:
        app.wait_for("ready", 2)
    assert attempts(app)[0] == [*OPENED, "text", "binary", "text", "ping", "closing", "disconnected"]
    assert [event.text for event in app.all("text")] == ["grüße", "in parts"]
    assert [event.data for event in app.all("binary")] == [b"\0" * 300]
    assert end_of_first(app).graceful


@fault("open", "TLS has decrypted more than was read")
def test_what_tls_has_decrypted_does_not_wait_for_more(server_tls: ssl.SSLContext, ca_file: str) -> None:
    small = [t.send(str(number)) for number in range(200)]
    script = [t.accept(), t.together(*small, t.send(bytes(1_000_000)), *small)]
    server = t.ScriptedServer(script, tls=server_tls)
    with server, surviving(server.url, {"ping_rate": 0}, ssl_cafile=ca_file) as app:
        app.wait_for("text", 400)
        assert attempts(app) == [[*OPENED, *["text"] * 200, "binary", *["text"] * 200]]


@pytest.mark.parametrize("reads", [True, False], ids=["server reads", "server does not read"])
@fault("open", "A flood of pings")
def test_a_flood_of_pings_is_answered_within_bounds(reads: bool) -> None:
    count = 20_000
    flood = b"".join(frame(PING, b"%120d" % number) for number in range(count))
    script = [t.accept(), *([] if reads else [t.stop_reading()]), t.send_raw(flood), t.send("done")]
    server = t.ScriptedServer(script, receive_buffer=4096)
    small = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)]
    with server, surviving(server.url, {"ping_rate": 0}, socket_options=small) as app:
        app.wait_for("text")
        if not reads:
            server.do(t.read_on())
        connection = server.connections[0]
        last = b"%120d" % (count - 1)
        connection.wait_until(lambda: last in connection.pongs[-1:])
        app.send_text("alive")
        connection.wait_until(lambda: connection.messages == ["alive"])
        assert len(app.all("ping")) == count
    assert connection.pongs == sorted(set(connection.pongs))
    if not reads:
        assert len(connection.pongs) < count


# The clocks.


@pytest.fixture
def clocks() -> Iterator[Shifting]:
    """Yield the clock that the apps use."""
    clocks = Shifting()
    with clock.using(clocks):
        yield clocks


SUSPEND = "The machine was suspended"
#: Turns of the loop without pings: the next one is due in an hour.
HOURLY = {"poll": 0.02, "ping_rate": 3600, "ping_timeout": 0.2}


@fault("open", SUSPEND)
@pytest.mark.parametrize("which", ["wall", "monotonic"])
def test_after_a_suspend_a_connection_that_lives_is_asked_and_kept(clocks: Shifting, which: str) -> None:
    with t.ScriptedServer(CALM) as server, surviving(server.url, HOURLY) as app:
        app.wait_for("pong")
        clocks.jump(which, 1800)
        app.wait_for("pong", 2)
        app.wait_for("poll", len(app.all("poll")) + 3)
        assert attempts(app) == [OPENED]
        assert len(server.connections[0].pings) == 2


@fault("open", SUSPEND)
@pytest.mark.parametrize("which", ["wall", "monotonic"])
def test_after_a_suspend_a_connection_that_died_is_given_up_and_another_one_opens(
    clocks: Shifting, which: str
) -> None:
    script = [t.accept(), t.wait_for_ping(), t.silence()]
    with t.ScriptedServer(script, CALM) as server, surviving(server.url, HOURLY) as app:
        app.wait_for("pong")
        began = monotonic()
        clocks.jump(which, 1800)
        app.wait_for("ready", 2)
        assert monotonic() - began < PATIENCE
    assert attempts(app)[0] == [*OPENED, "unresponsive", "disconnected"]
    assert end_of_first(app).reason == "ping timeout: nothing from the server for 0.2 s"


@fault("open", "The wall clock is set")
@pytest.mark.parametrize("seconds", [86_400, -86_400])
def test_a_wall_clock_that_is_set_changes_no_time_limit(clocks: Shifting, seconds: float) -> None:
    with t.ScriptedServer() as server, surviving(server.url, HOURLY) as app:
        app.wait_for("pong")
        clocks.jump("wall", seconds)
        app.wait_for("poll", len(app.all("poll")) + 3)
        app.send_text("still here")
        app.wait_for("text")
        server.do(t.reset())
        app.wait_for("ready", 2)
        assert attempts(app)[0] == [*OPENED, "text", "disconnected"]
        assert len(server.connections[0].pings) == (2 if seconds > 0 else 1)
