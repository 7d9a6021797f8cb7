"""The registry of faults: each fault, what lochws does about it, and the marker for its tests.

A test of a fault carries ``@fault(group, name)``; one case of a parametrized test is marked by
``pytest.param(…, marks=fault(…))``. Several tests may share a fault. `python -m tests.faults` runs them all
and writes docs/faults.md, which is made of nothing but this registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

#: What can break, by group and in order, and what lochws then does. Both are text of the page.
FAULTS: Mapping[str, Mapping[str, str]] = {
    "opening": {
        "DNS keeps failing":
            "`connect_fail` with the resolver's message ends each attempt, until a lookup succeeds.",
        "DNS hangs":
            "`open_timeout` ends the attempt in `connect_fail`. One thread waits for DNS, however many "
            "attempts there are.",
        "The port refuses 5,000 attempts":
            "5,000 times `connect_fail` and `back_off`. Threads and descriptors do not become more.",
        "The host does not answer":
            "`open_timeout` ends the attempt in `connect_fail`.",
        "IPv6 does not work":
            "The next address is tried after 250 ms, in parallel with the first. The connection opens at "
            "most 400 ms later than over IPv4 alone.",
        "The server accepts TCP and then says nothing":
            "`open_timeout` ends the attempt in `disconnected`.",
        "The TLS handshake stalls":
            "`open_timeout` ends the attempt in `connect_fail`.",
        "The certificate is not valid":
            "`connect_fail` says what is wrong with it. No request is sent.",
        "The server does not speak HTTP":
            "`protocol_error` shows how its answer begins.",
        "502 or 503":
            "`rejected` has the status, the headers and the body.",
        "401 until the token is renewed":
            "`rejected`. Functions that return headers, URL or credentials are called again for the next "
            "attempt.",
        "429 with Retry-After":
            "The back-off lasts as long as the server asks, by default at most 5 minutes. `close` ends it.",
        "A refusal that leaves the socket open":
            "The body is read for at most 2 s. Then lochws closes the socket.",
        "A wrong Sec-WebSocket-Accept":
            "`rejected`. No frame is sent to such a server or accepted from it.",
        "A subprotocol or extension that was not requested":
            "`rejected`, which names it.",
        "A malformed Set-Cookie header":
            "The connection opens. Cookies that can be understood are kept.",
        "The response head stops half-way":
            "`disconnected` shows how the answer begins. `open_timeout` ends an attempt that stalls.",
        "The response head ends its lines with LF alone":
            "It is understood (RFC 9112, section 2.2).",
        "Endless response headers":
            "`protocol_error` after 16 KiB.",
        "socket.getaddrinfo was replaced":
            "The replacement is used. Whatever it raises is a `connect_fail` in the phase `resolve`.",
        "Hosts that do not answer share threads with others":
            "Attempts to connect to other hosts do not wait for them.",
        "A proxy that refuses or stalls":
            "`connect_fail` has the proxy's answer, or says that none came in time.",
        "Frames in the same packet as the 101 response":
            "Every message is delivered, after `ready`.",
        "The 101 response arrives in single bytes":
            "It is put together and the connection opens.",
    },
    "open": {
        "The connection is reset inside a frame":
            "`disconnected`, ended by the network. Nothing of the incomplete frame is delivered.",
        "The server drops TCP without a Close frame (1006)":
            "`disconnected`, ended by the network, without `received_code`. Everything received before is "
            "delivered.",
        "The server closes with 1000 or 1001":
            "`closing`, one Close frame with the same code in answer, then `disconnected`, graceful.",
        "The server closes but keeps TCP open":
            "lochws ends the connection after a second: `disconnected`, graceful, ended by the "
            "server.",
        "A Close frame with an invalid code or reason":
            "`protocol_error`. lochws closes with 1002, or with 1007 for a reason that is not UTF-8.",
        "The connection goes silent, in both directions or inbound only":
            "`unresponsive` if nothing at all arrives within `ping_timeout` after a ping.",
        "The server answers pings but sends no messages":
            "The connection stays, unless `stale_after` is set: then `stale`, and the connection is dropped "
            "or, with `on_stale=\"tell\"`, left open.",
        "Pongs are late while data flows":
            "The connection stays: any byte is a sign of life. A late pong still has its latency.",
        "A ping arrives while a handler sleeps":
            "The supervisor answers it after 0.1 s in place of the reader. Events wait for the handler, in "
            "order.",
        "The machine was suspended":
            "lochws pings at the loop's next turn, within `poll` seconds, and reconnects if no answer "
            "arrives.",
        "The wall clock is set":
            "No time limit depends on it. A clock set forward causes one extra ping and no event.",
        "Frames arrive one byte at a time":
            "Messages of all kinds and the Close frame are put together.",
        "The server stalls inside a frame":
            "`unresponsive`, as for any silence. Nothing of the incomplete frame is delivered.",
        "TLS has decrypted more than was read":
            "It is read before the loop waits again. Nothing waits for the server to send more.",
        "A deflate bomb":
            "It is inflated up to `max_message_size` and no further: `protocol_error`, Close 1009.",
        "Endless fragments":
            "They are gathered up to `max_message_size`: `protocol_error`, Close 1009.",
        "Text that is not UTF-8":
            "`protocol_error`, Close 1007. The message is not delivered.",
        "Masked, reserved or unknown frames":
            "`protocol_error`, Close 1002. Nothing of the frame is delivered.",
        "A flood of pings":
            "Each is answered while the kernel takes our pongs. After that only the newest pong is kept.",
        "A flood of TLS records without data":
            "The connection stays. A turn takes a few milliseconds, so other connections and "
            "senders go on.",
        "The server sends more after its Close frame":
            "What follows the Close frame is ignored.",
    },
    "sending": {
        "The server stops reading":
            "At most `max_queue` bytes wait. Then `when_full` applies, at once or after `send_timeout`. The "
            "ping timeout ends the connection, or `close_timeout` after `close`; either releases callers "
            "that wait for room.",
        "A slow uplink":
            "The connection stays as long as the server's side acknowledges bytes, even if no pong "
            "gets through in time.",
        "50 threads send at once":
            "Every message arrives once, those of each thread in order. No thread waits for another.",
        "A send during a reconnect":
            "An open connection accepts it; otherwise it is refused at once, with the state. Each accepted "
            "message is either sent whole or in `unsent` of the connection that accepted it.",
        "The connection is lost while the queue is full":
            "Each accepted message was either handed to the kernel whole or is in `Disconnected.unsent`, in "
            "order. A message that the server received is never in it.",
        "A send that interrupts a send (in a signal handler or a finalizer)":
            "Both are sent, each once. Without room the one that interrupts is refused, whatever "
            "`when_full` says.",
        "A send directly followed by close":
            "Everything accepted is sent before the Close frame, however much it is, unless `close_timeout` "
            "passes or the connection is lost.",
        "A send in every handler":
            "It is sent or refused, with the state. It never blocks, whatever `when_full` says.",
    },
    "stopping": {
        "close during DNS, TCP, TLS, the upgrade or the back-off":
            "The attempt is called off and ends in its one final event, or the wait ends. The app is over "
            "within milliseconds.",
        "close before start":
            "`start` ends at once, without an event. The `start` after that runs as usual.",
        "Ten threads close at once":
            "One Close frame is sent, and all calls return.",
        "The server ignores our Close frame":
            "`close_timeout` ends the connection in `disconnected`, which says so and is not graceful.",
        "Ctrl-C":
            "`run_forever` closes the connection, waits at most 5 s, and lets `KeyboardInterrupt` "
            "propagate. A second Ctrl-C does not wait.",
        "SIGTERM":
            "A signal handler may call `close` at any moment, whatever the main thread is doing. "
            "`run_forever` returns.",
        "The interpreter exits while an app runs":
            "The program ends at once, in any state. A warning says so unless the app was closed. To close "
            "first, register `stop` with `atexit`.",
        "start again after close":
            "It runs as the first time, with a new connection and new threads.",
        "stop() in a handler":
            "It closes without waiting and returns False. The app is over when its handlers have returned.",
    },
    "program": {
        "A handler raises":
            "The error is logged with its traceback and passed to `on_error`. The connection stays, or what "
            "`on_handler_error` says happens.",
        "A handler never returns":
            "It is logged with its stack after 5 s, 10 s, 20 s and so on. The connection stays. `close` "
            "returns and closes the connection; the app is over when the handler returns.",
        "A function for headers or URL raises":
            "`connect_fail` with that error, phase `prepare`. It is called again for the next attempt.",
        "A function for headers or URL never returns":
            "It takes one thread, however many attempts there are. Each attempt ends in "
            "`connect_fail`, and `close` ends the app.",
        "A log handler or filter raises":
            "The connection stays, and so does every thread. What it raised is written to stderr.",
        "A thread of lochws dies":
            "Every connection on it gets its final event, `join` returns, and the log says so once. "
            "The apps may be started again.",
        "Two copies of lochws in one process":
            "Each receives its own messages, also in sub-interpreters.",
        "A fork while connected":
            "In the child every app is over, and sends and `reconnect` say so at once. Its copies of the "
            "sockets are closed without a word to the server. The child may start apps of its own. The "
            "parent notices nothing.",
        "Descriptors above 1,024":
            "Everything works: nothing uses `select()`.",
        "The server accepts and drops again and again":
            "A connection shorter than `stable_after` counts as a failure. The delays keep growing, up to "
            "`max_wait`.",
        "1,000 apps reconnect after a crash":
            "Each waits a random time within a range that begins at 1 s and grows with each failure. If they "
            "share threads, at most a sixth of them try within any 0.1 s, and after 20 s at most a fiftieth; "
            "otherwise at most a fifth, and a thirtieth. All are back within `max_wait`.",
        "gevent patches the standard library":
            "If it does so first, apps run on greenlets and block none of them. If `threading` is patched "
            "after lochws was imported, `start` refuses and says so.",
        "No thread can be started":
            "`start` raises `RuntimeError` and leaves the app as it was. An attempt that needs a thread for "
            "DNS ends in `connect_fail`.",
        "No descriptor is left (EMFILE)":
            "`start` raises `OSError` if its threads need one. An attempt ends in `connect_fail` with the "
            "cause and leaves none open.",
        "MemoryError in a handler":
            "As for any other exception. No error of a handler ends the reader thread.",
        "One of two apps that share Threads() misbehaves":
            "The other app's connection, events and sends go on. Only a handler that takes long delays the "
            "other's handlers.",
    },
}


def fault(group: str, name: str) -> pytest.MarkDecorator:
    """Mark a test as one of a fault.

    Args:
        group: a key of `FAULTS`.
        name: one of its faults.

    Raises:
        ValueError: `FAULTS` has no such fault.
    """
    if name not in FAULTS.get(group, {}):
        raise ValueError(f"FAULTS has no {name!r} in the group {group!r}")
    return pytest.mark.fault(group, name)


class Coverage:
    """Which faults have tests, and which of them failed."""

    def __init__(self) -> None:
        self._faults: dict[str, list[tuple[str, str]]] = {}
        self.failed: set[tuple[str, str]] = set()

    def add(self, items: Iterable[pytest.Item]) -> None:
        """Take in collected tests."""
        for item in items:
            self._faults[item.nodeid] = [mark.args for mark in item.iter_markers("fault")]

    def fail(self, nodeid: str) -> None:
        """Record that a test did not pass."""
        self.failed.update(self._faults.get(nodeid, ()))

    def missing(self) -> list[str]:
        """Return the faults without a test."""
        tested = {fault for faults in self._faults.values() for fault in faults}
        return [name for group, faults in FAULTS.items() for name in faults if (group, name) not in tested]


def render() -> str:
    """Return the text of docs/faults.md."""
    lines = [_HEAD]
    for group, faults in FAULTS.items():
        lines += ["", f"## {_TITLES[group]}", "", "| fault | what lochws does |", "|---|---|"]
        lines += [f"| {name} | {does} |" for name, does in faults.items()]
    return "\n".join([*lines, ""])


_TITLES = {
    "opening": "While a connection is opened",
    "open": "While it is open",
    "sending": "While sending",
    "stopping": "While stopping",
    "program": "In your program",
}

_HEAD = """\
# Faults

What can break in networks, servers and programs, and what lochws does about it.

In every row, unless it says otherwise, the app reconnects, with exponential back-off. Each attempt ends in
exactly one final event, `connect_fail` or `disconnected`, which says what happened. No thread dies or
hangs, and no descriptor stays open.

Every row has at least one test that makes the fault happen, with real sockets; only the resolver and jumping
clocks are simulated. `python -m tests.faults` runs these tests."""
