"""A WebSocket server for tests that does to each connection what its script says."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from ..clock import Rest, current
from .connection import Request, ScriptError, ServerConnection, Step
from .link import Link, WaitSelector
from .steps import accept, echo

if TYPE_CHECKING:
    from typing_extensions import Self

#: What a connection is done to when nothing else was said.
_ECHO: Sequence[Step] = (accept(), echo())


class ScriptedServer:
    """A server on a free loopback port: one script a connection, in a thread of its own.

    Use it in a ``with`` statement: it listens when it is made and ends with the block, its threads
    and connections with it. See `lochws.testing` for an example.

    Args:
        scripts: the steps for the first connection, for the second and so on. None at all is an
            echo server.
        afterwards: what happens to connections beyond the last script: ``"repeat"`` does the last
            script to each of them, ``"refuse"`` has nobody listen any more.
        tls: the context for TLS, or None for plain TCP.
        host: the address to listen on.
        port: the port to listen on; 0 is any that is free.
        patience: seconds that a step or a method may wait for the client.
        scale: what the seconds in scripts are multiplied by: 0.01 makes a test of seconds one of
            hundredths.
        receive_buffer: bytes that the kernel keeps of what is not read, or None for its own choice.

    Raises:
        TypeError: a script is no list of steps.
        ValueError: `afterwards` is something else.
        OSError: it cannot listen there.

    Attributes:
        host: the address it listens on.
        port: the port it listens on.
        connections: the connections, in the order of their coming. Any thread may read it.
    """

    def __init__(
        self,
        *scripts: Sequence[Step],
        afterwards: Literal["repeat", "refuse"] = "repeat",
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        patience: float = 10.0,
        scale: float = 1.0,
        receive_buffer: int | None = None,
    ) -> None:
        for script in scripts:
            if not (isinstance(script, Sequence) and all(map(callable, script))):
                raise TypeError(f"script {script!r}: expected a list of steps, such as [accept(), echo()]")
        if afterwards not in ("repeat", "refuse"):
            raise ValueError(f"afterwards={afterwards!r}: expected 'repeat' or 'refuse'")
        self._scripts = scripts or (_ECHO,)
        self._repeats = afterwards == "repeat"
        self._tls = tls
        self._patience = patience
        self._scale = scale
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=1024)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._changed = threading.Condition()
        self.connections: list[ServerConnection] = []
        self._threads: list[threading.Thread] = []  # the acceptor's, until it has ended
        self._failure: OSError | None = None  # the acceptor's
        self._near, self._far = socket.socketpair()  # ends the acceptor's wait
        self._acceptor = threading.Thread(target=self._accept, name="scripted-server", daemon=True)
        self._acceptor.start()

    def __repr__(self) -> str:
        return f"<ScriptedServer {self.url}, {len(self.connections)} connections>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it. What a script raised is raised here, unless something else is under way."""
        self.close()
        if error is None:
            self.check()

    @property
    def authority(self) -> str:
        """``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL for clients, ``ws:`` or ``wss:``."""
        return f"{'ws' if self._tls is None else 'wss'}://{self.authority}/"

    @property
    def requests(self) -> list[Request]:
        """The requests of all connections so far."""
        return [request for connection in list(self.connections) for request in connection.requests]

    @property
    def messages(self) -> list[str | bytes]:
        """The messages that came over all connections so far."""
        return [message for connection in list(self.connections) for message in connection.messages]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that depends on this server's attributes or its connections'.

        Raises:
            TimeoutError: it did not come to be within the patience.
        """
        with self._changed:
            if not self._changed.wait_for(condition, self._patience):
                raise TimeoutError(f"waited {self._patience:g} s in vain; {self!r}")

    def connection(self, number: int = 0) -> ServerConnection:
        """That connection, counted from 0; waits until it has come. TimeoutError if it does not."""
        self.wait_until(lambda: len(self.connections) > number)
        return self.connections[number]

    def do(self, step: Step) -> None:
        """Do one more step on the newest connection, behind its script. See `ServerConnection.do`."""
        self.connection()
        self.connections[-1].do(step)

    def wake(self) -> None:
        """Have the scripts look at their clock, which was moved on."""
        for connection in list(self.connections):
            connection.wake()

    def rest(self, *, handlers: bool) -> Rest | None:
        """How the scripts wait; None while one has something to do."""
        whole = Rest(len(self.connections), None)
        for connection in list(self.connections):
            rest = connection.rest()
            if rest is None:
                return None
            whole = whole.beside(rest)
        return whole

    def check(self) -> None:
        """Raise what a script has raised, if any has, or what kept the server from accepting."""
        if self._failure is not None:
            raise self._failure
        for connection in list(self.connections):
            if connection.failure is not None:
                raise connection.failure

    def check_done(self) -> None:
        """As `check`, and see to it that every script that was begun came to its end.

        Where the last script is done again and again the first time counts: an app that connects again may be
        in the midst of the next one when the test ends.

        Raises:
            ScriptError: a connection ended, or still is, before a step that was not done.
        """
        self.check()
        for connection in self.connections[: len(self._scripts)]:
            if connection.remaining:
                steps = ", ".join(map(repr, connection.remaining))
                raise ScriptError(
                    f"connection {connection.number} of {self!r} came and its script was not done: {steps}; "
                    f"messages received: {connection.messages[-20:]!r}"
                )

    def close(self) -> None:
        """End all connections and threads, and wait for them. May be called again."""
        if self._acceptor.is_alive():
            self._far.send(b"x")
            self._acceptor.join()
        for connection in self.connections:
            connection.stop()
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, self._near, self._far):
            sock.close()

    def _accept(self) -> None:
        with WaitSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._near, selectors.EVENT_READ)
            for number in count():
                if self._near in [key.fileobj for key, _ in selector.select()]:
                    return
                is_last = number >= len(self._scripts) - 1
                try:
                    sock, _ = self._listener.accept()
                    if is_last and not self._repeats:
                        self._listener.close()  # before the script, so that the next attempt is refused
                    self._serve(sock, number, self._scripts[-1] if is_last else self._scripts[number])
                except OSError as error:
                    self._failure = error  # no descriptors, most likely
                    return
                if is_last and not self._repeats:
                    return

    def _serve(self, sock: socket.socket, number: int, steps: Sequence[Step]) -> None:
        clock = current()
        clock.attend(self)
        connection = ServerConnection(
            Link(sock, self._tls, self._patience), steps, number, self._changed,
            patience=self._patience, scale=self._scale, clock=clock,
        )
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=connection.run, name=f"scripted-server-{number}", daemon=True)
        # Before it begins: whoever knows of its end, as its client does, finds it here.
        with self._changed:
            self.connections.append(connection)
            self._changed.notify_all()
        self._threads.append(thread)
        thread.start()
