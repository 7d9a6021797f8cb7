"""A WebSocket server that does what a test tells it, for testing whatever uses lochws.

It is made of wsproto and plain sockets, and shares no protocol code with lochws: what the one gets
wrong the other notices. It needs the extra ``testing``: ``pip install 'lochws[testing]'``.

A script is a list of steps, one script for each connection that comes::

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

What to know:

* Steps follow one another: `wait_for` holds the script until the message has come. While a step
  waits, and behind the last one, the server is a good peer: it reads, answers pings, and answers the
  client's Close frame. `silence`, `stop_reading`, `answer_ping` and `ignore_close` make it a bad one.
* Nothing ends by itself. A connection stays until the client leaves or a step ends it: `close` as the
  RFC says, `fin` without a Close frame, `reset`, or `cut_after` so many bytes.
* `server.do(step)` does one more step at any time: the test is in charge of when something happens,
  and need not sleep.
* `send_frame` and `send_raw` say what no proper server would.
* `server.connections` has what came: requests, messages, pings, pongs, the Close frame.
* What a script waits for in vain fails the test, when the ``with`` block ends.
* `recorded` makes scripts of what a `lochws.handlers.recorder` has recorded.
* `ScriptedServer()` echoes. `tls=context` serves ``wss:``. `scale` makes scripted seconds shorter.
"""

from .clock import VirtualClock
from .connection import ScriptError, ServerConnection, Step
from .kit import Record, StartServer
from .recorded import recorded
from .recorder import Recorder
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
    "Record",
    "Recorder",
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
