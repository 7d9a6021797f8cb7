"""A WebSocket server that does what a test tells it to, for testing programs that use lochws.

It is made of wsproto and plain sockets, and shares no protocol code with lochws, so that neither can hide a
mistake of the other. It needs the extra ``testing``: ``pip install 'lochws[testing]'``.

A script is a list of steps, and there is one script per connection::

    from lochws.testing import ScriptedServer, accept, fin, send, wait_for

    with ScriptedServer(
        [accept(), send("hello"), wait_for("subscribe"), fin()],       # the first connection is lost
        [accept(), wait_for("subscribe"), send("price 42")],            # the next one stays
    ) as server:
        app = MyApp(server.url)
        app.start()
        server.connection(1).wait_until(lambda: "subscribe" in server.connections[1].messages)
        app.stop()
    assert server.requests[0].headers["authorization"] == "Bearer secret"

Good to know:

* Steps are done one after another: `wait_for` holds the script until the message has arrived. While a step
  waits, and after the last one, the server is a good peer: it reads, answers pings, and answers the client's
  Close frame. `silence`, `stop_reading`, `answer_ping` and `ignore_close` make it a bad one.
* Nothing ends by itself. A connection stays open until the client leaves or a step ends it: `close` as the
  RFC says, `fin` without a Close frame, `reset`, or `cut_after` a number of bytes.
* `server.do(step)` does one more step at any time: the test decides when something happens, without sleeping.
* `send_frame` and `send_raw` send what no valid server would.
* `server.connections` has what arrived: requests, messages, pings, pongs, the Close frame.
* If the client does not do what a script waits for, the test fails at the end of the ``with`` block.
* `recorded` makes scripts from a recording of `lochws.handlers.recorder`.
* `ScriptedServer()` echoes. `tls=context` serves ``wss:``. `scale` makes scripted seconds shorter.
* Any function that takes a `ServerConnection` is a step. With ``history=False`` the server can run for long:
  ``for message in connection: connection.send(message)`` is a server of your own in two lines.
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
