"""The threaded client and server of websockets, without keepalive.

Before Python 3.13 `threading.Thread.join` may raise when two threads wait for the end of the same one, and
the keepalive of a connection waits for the same thread as its `close`.
"""

from __future__ import annotations

from functools import partial

from websockets.sync import client, server

connect = partial(client.connect, ping_interval=None)
serve = partial(server.serve, ping_interval=None)
unix_serve = partial(server.unix_serve, ping_interval=None)
