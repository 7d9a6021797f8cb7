"""Scripted WebSocket servers, event logs and a virtual clock, for testing programs that use lochws.

The server works for every WebSocket client, not only for lochws. It is built on wsproto and plain sockets,
and shares no protocol code with lochws, so neither can hide a mistake in the other. It needs the extra
``testing``: ``pip install 'lochws[testing]'``.

A script is a list of steps; each connection has its own script::

    from lochws.testing import ScriptedServer, accept, fin, send, wait_for

    with ScriptedServer(
        [accept(), send("hello"), wait_for("subscribe"), fin()],       # the first connection is lost
        [accept(), wait_for("subscribe"), send("price 42")],            # the next one stays open
    ) as server:
        app = MyApp(server.url)
        app.start()
        server.connection(1).wait_until(lambda: "subscribe" in server.connections[1].messages)
        app.stop()
    assert server.requests[0].headers["authorization"] == "Bearer secret"

Good to know:

* Steps run one after another: `wait_for` pauses the script until the message has arrived. While a step waits,
  and after the last one, the server is well behaved: it reads, answers pings, and answers the client's Close
  frame. `silence`, `stop_reading`, `answer_ping` and `ignore_close` make it misbehave.
* A connection stays open until the client ends it or a step does: `close` as the RFC prescribes, `fin`
  without a Close frame, `reset`, or `cut_after` a number of bytes.
* `server.do(step)` runs one more step at any time, so that a test can time an action without sleeping.
* `reject` refuses the upgrade: ``reject(503, headers={"Retry-After": "30"})``.
* `send_frame` and `send_raw` send data that no valid server would.
* `server.connections` holds everything received: requests, messages, pings, pongs, the Close frame.
* If the client does not do what a script waits for, the test fails at the end of the ``with`` block.
* `recorded` creates scripts from a recording made by `lochws.handlers.recorder`.
* `ScriptedServer()` echoes. `tls=context` serves ``wss:``. `scale` shortens the seconds in scripts.
* Any function that takes a `ServerConnection` is a step. With ``history=False`` the server can run for a long
  time: ``for message in connection: connection.send(message)`` is a complete server of your own.
"""

from .clock import VirtualClock
from .connection import ScriptError, ServerConnection, Step
from .event_log import EventLog
from .kit import Authority, LogEvents, StartServer
from .recorded import recorded
from .request import Request
from .server import ScriptedServer
from .steps import (
    accept,
    answer_ping,
    close,
    cut_after,
    echo,
    fin,
    ignore_close,
    pause,
    ping,
    read_on,
    reject,
    reset,
    send,
    send_frame,
    send_raw,
    silence,
    split,
    stop_reading,
    tls_stall,
    together,
    upgrade,
    wait_for,
    wait_for_close,
    wait_for_end,
    wait_for_ping,
    wait_for_pong,
    wait_for_request,
)

__all__ = [
    "Authority",
    "EventLog",
    "LogEvents",
    "Request",
    "ScriptError",
    "ScriptedServer",
    "ServerConnection",
    "StartServer",
    "Step",
    "VirtualClock",
    "accept",
    "answer_ping",
    "close",
    "cut_after",
    "echo",
    "fin",
    "ignore_close",
    "pause",
    "ping",
    "read_on",
    "recorded",
    "reject",
    "reset",
    "send",
    "send_frame",
    "send_raw",
    "silence",
    "split",
    "stop_reading",
    "tls_stall",
    "together",
    "upgrade",
    "wait_for",
    "wait_for_close",
    "wait_for_end",
    "wait_for_ping",
    "wait_for_pong",
    "wait_for_request",
]
