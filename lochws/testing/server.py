"""The scripted server: a WebSocket server that runs a script on each connection."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from itertools import count
from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Literal

from ..clock import Rest, current
from ..options import check_number, check_range
from ..system.interpreters import new_thread
from ..system.waits import is_alive, join
from . import steps
from .connection import ScriptError, ServerConnection, Step, logger
from .describe import counted, describe, what_was_sent
from .link import Link, WaitSelector
from .request import Request
from .steps import accept, echo

if TYPE_CHECKING:
    from typing_extensions import Self

#: The default script.
_ECHO: Sequence[Step] = (accept(), echo())
#: Without a history: seconds until the server accepts again after running out of descriptors or threads.
_RETRY = 0.2
#: Without a history: seconds that `ScriptedServer.close` waits for functions in scripts to return.
_PATIENCE_AT_END = 5.0


class ScriptedServer:
    """A server on a free loopback port: one script per connection, each in a thread of its own.

    Use it in a ``with`` statement: it listens as soon as it is created, and the end of the block closes it
    together with its connections and threads. See `lochws.testing` for an example.

    Args:
        scripts: the steps for the first connection, for the second, and so on; none for an echo server.
        afterwards: what happens to connections beyond the last script: ``"repeat"`` runs the last script for
            each of them, ``"refuse"`` stops listening.
        tls: the TLS context, or None for plain TCP.
        host: the address to listen on.
        port: the port to listen on; 0 picks a free one.
        patience: seconds that a step or a method may wait for the client.
        scale: a factor for the seconds in scripts: with 0.01 a pause of one second takes 10 ms.
        receive_buffer: the size of the kernel's receive buffer in bytes; None for the system's default.
        history: whether to keep everything received for a test to inspect. False is for a server that runs
            for a long time with untrusted clients: `connections` contains only open ones; `messages` of a
            connection contains only those that its script has not received yet, and reading pauses while
            there are too many; `pings` and `pongs` stay empty; failures of a connection are logged
            (``lochws.testing``) and answered as RFC 6455 prescribes, but not raised; and `close` sends
            Close frames with code 1001.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
        OSError: the server cannot listen on this address and port.

    Attributes:
        host: the address that the server listens on.
        port: the port that the server listens on.
        connections: the connections, in the order in which they were accepted. Any thread may read it.
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
        history: bool = True,
    ) -> None:
        for script in scripts:
            if not (isinstance(script, Sequence) and all(map(callable, script))):
                raise TypeError(f"script {script!r}: expected a list of steps, such as [accept(), echo()]")
            _refuse_uncalled(script)
        if afterwards not in ("repeat", "refuse"):
            raise ValueError(f"afterwards={afterwards!r}: expected 'repeat' or 'refuse'")
        if not (tls is None or isinstance(tls, ssl.SSLContext)):
            raise TypeError(f"tls={tls!r}: expected an ssl.SSLContext, or None for no TLS")
        check_number("patience", patience, 0)
        check_number("scale", scale, 0)
        check_range("port", port, 0, 65535)
        self._scripts = scripts or (_ECHO,)
        self._repeats = afterwards == "repeat"
        self._tls = tls
        self._patience = patience
        self._scale = scale
        self._history = history
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=1024)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._changed = threading.Condition()
        self.connections: list[ServerConnection] = []
        self._threads: list[threading.Thread] = []  # the acceptor's, until it has ended
        self._failure: Exception | None = None  # the acceptor's
        self._near, self._far = socket.socketpair()  # ends the acceptor's wait
        self._acceptor = new_thread(self._accept, "scripted-server")
        self._acceptor.start()

    def __repr__(self) -> str:
        if "_acceptor" not in vars(self):  # the constructor has raised an exception, or has not finished
            return "<ScriptedServer, not listening>"
        return f"<ScriptedServer {self.url}, {counted(len(self.connections), 'connection')}>"

    def describe(self) -> str:
        """Describe how far the scripts have got, and what the clients have sent. Any thread.

        Error messages of an `EventLog` with this server end with it.
        """
        return "\n  ".join([repr(self), *map(describe, list(self.connections))])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the server. Raise a script's exception, unless another exception is propagating."""
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
        """The messages received over all connections so far."""
        return [message for connection in list(self.connections) for message in connection.messages]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the attributes of this server or of its connections holds.

        Raises:
            TimeoutError: the condition did not hold within the patience.
        """
        with self._changed:
            if not self._changed.wait_for(condition, self._patience):
                raise TimeoutError(f"the condition did not hold within {self._patience:g} s; {self!r}")

    def connection(self, number: int = 0) -> ServerConnection:
        """Return a connection, counted from 0; wait until it is accepted, or raise TimeoutError."""
        self.wait_until(lambda: len(self.connections) > number)
        return self.connections[number]

    def do(self, step: Step) -> None:
        """Do one more step on the newest connection, after its script. Blocks until it is done."""
        self.connection()
        self.connections[-1].do(step)

    def wake(self) -> None:
        """Make the scripts check their clock, which has been advanced."""
        for connection in list(self.connections):
            connection.wake()

    def rest(self, *, handlers: bool) -> Rest | None:
        """Return how the scripts are waiting; None while one of them is busy."""
        whole = Rest(len(self.connections), None)
        for connection in list(self.connections):
            rest = connection.rest()
            if rest is None:
                return None
            whole = whole.beside(rest)
        return whole

    @property
    def failure(self) -> BaseException | None:
        """The first exception of a script or of the accepting thread, or None."""
        failures = [self._failure, *(connection.failure for connection in list(self.connections))]
        return next((failure for failure in failures if failure is not None), None)

    def check(self) -> None:
        """Raise the exception of a script or of the accepting thread, if there is one."""
        if (failure := self.failure) is not None:
            raise failure

    def check_done(self) -> None:
        """Raise the exception that `check` would raise, or ScriptError if a script was not completed.

        Scripts that were never started do not count. If the last script repeats, only its first run counts:
        an app that reconnects may be in the middle of another run when the test ends.

        Raises:
            ScriptError: a connection ended, or is still open, with steps left.
        """
        self.check()
        for connection in self.connections[: len(self._scripts)]:
            if connection.remaining:
                steps = ", ".join(map(repr, connection.remaining))
                raise ScriptError(
                    f"connection {connection.number} of {self!r} did not complete its script; "
                    f"steps left: {steps}; {what_was_sent(connection)}"
                )

    def close(self) -> None:
        """End all connections and threads, and wait for them. May be called again."""
        if is_alive(self._acceptor):
            self._far.send(b"x")
            join(self._acceptor, None)
        for connection in list(self.connections):
            connection.stop()
        for thread in self._threads:
            join(thread, None if self._history else _PATIENCE_AT_END)
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
                except (OSError, RuntimeError) as error:  # most likely out of descriptors or threads
                    if self._history:
                        self._failure = error
                        return
                    logger.warning("cannot accept a connection: %s", error)
                    # Pending connections would wake the selector immediately.
                    selector.unregister(self._listener)
                    if selector.select(_RETRY):
                        return
                    selector.register(self._listener, selectors.EVENT_READ)
                if is_last and not self._repeats:
                    return

    def _serve(self, sock: socket.socket, number: int, steps: Sequence[Step]) -> None:
        clock = current()
        clock.attend(self)
        try:
            link = Link(sock, self._tls, self._patience)
        except OSError:
            sock.close()
            raise
        connection = ServerConnection(
            link, steps, number, self._changed,
            patience=self._patience, scale=self._scale, clock=clock, history=self._history,
        )
        self._threads = [thread for thread in self._threads if is_alive(thread)]
        thread = new_thread(self._run, f"scripted-server-{number}", connection)
        # Added before the script runs: the client may learn of its end, and the test then looks here.
        with self._changed:
            self.connections.append(connection)
            self._changed.notify_all()
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.remove(thread)
            self.connections.remove(connection)
            link.close()
            raise

    def _run(self, connection: ServerConnection) -> None:
        connection.run()
        if self._history:
            return
        with self._changed:
            self.connections.remove(connection)
        failure = connection.failure
        if isinstance(failure, (ScriptError, TimeoutError, OSError)):
            logger.info("connection %d: %s", connection.number, failure)
        elif failure is not None:
            logger.error("connection %d: the script failed", connection.number, exc_info=failure)


def _refuse_uncalled(script: Sequence[Step]) -> None:
    """Raise TypeError if a script has ``accept`` in place of ``accept()``, which would do nothing."""
    for step in script:
        if isinstance(step, FunctionType) and vars(steps).get(step.__name__) is step:
            raise TypeError(f"step {step.__name__}: write {step.__name__}(…), which returns the step")
