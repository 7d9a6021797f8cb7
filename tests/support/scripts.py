"""Scripts for `tests.support.peer.Peer` that several test files use."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .peer import BINARY, CLOSE, PING, PONG, TEXT, Link
from .seen import PATIENCE


def silent(link: Link) -> None:
    """Accept, and send nothing until the client leaves."""
    link.accept()
    link.wait_for_end()


def polite(link: Link) -> None:
    """Accept, discard messages, and answer the client's Close frame."""
    link.accept()
    answer_close(link)


def answer_close(link: Link) -> list[tuple[int, bytes]]:
    """Read up to the client's Close frame and echo it; return the frames before it, except pings."""
    received = []
    while (frame := link.read_frame())[0] != CLOSE:
        if frame[0] != PING:
            received.append(frame)
    link.send_frame(*frame)
    return received


class Ends:
    """A script that records how the client leaves: its frames, then FIN or a reset.

    Args:
        frames: sent first.
        answers: whether to answer the client's Close frame.
    """

    def __init__(self, *frames: tuple[int, bytes], answers: bool = False) -> None:
        self._frames = frames
        self._answers = answers
        self.seen: list[tuple[int, bytes] | str] = []
        self.done = threading.Event()

    def __call__(self, link: Link) -> None:
        try:
            link.accept()
            for frame in self._frames:
                link.send_frame(*frame)
            while True:
                self.seen.append(frame := link.read_frame())
                if self._answers and frame[0] == CLOSE:
                    link.send_frame(*frame)
        except EOFError:
            self.seen.append("FIN")
        except ConnectionError:
            self.seen.append("reset")  # something was on its way to the client when it closed
        finally:
            self.done.set()

    def wait(self) -> list[tuple[int, bytes] | str]:
        assert self.done.wait(PATIENCE)
        return [what for what in self.seen if what[0] != PING]


def dropping(link: Link) -> None:
    """Accept, and drop the connection."""
    link.accept()
    link.finish()


def closing_cleanly(link: Link) -> None:
    """Accept, and close as the RFC says: Close frames in both directions, then FIN."""
    link.accept()
    link.send_frame(CLOSE, b"\x03\xe8bye")
    while link.read_frame()[0] != CLOSE:
        pass


def refusing(status: str, *headers: str) -> Callable[[Link], None]:
    """Return a script that refuses the upgrade with this status."""
    answer = "\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "", ""]).encode()

    def script(link: Link) -> None:
        link.read_request()
        link.send(answer)

    return script


def in_turn(*scripts: Callable[[Link], object]) -> Callable[[Link], object]:
    """Return a script that runs one script per connection, and the last one for all that follow."""
    rest = iter(scripts)

    def script(link: Link) -> None:
        next(rest, scripts[-1])(link)

    return script


#: Every event that a connection, or an attempt to open one, can cause.
EVENTS = [
    "connecting", "connect_fail", "connected", "rejected", "ready", "poll", "text", "binary", "ping", "pong",
    "protocol_error", "unresponsive", "stale", "closing", "closed", "disconnected", "back_off",
]


def bringing(name: str) -> Callable[[Link], object]:
    """Return a script that causes this event; ``connect_fail`` if the client uses TLS."""

    def script(link: Link) -> None:
        if name == "rejected":
            link.read_request()
            link.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            return
        if name == "connect_fail":
            return
        link.accept()
        for opcode in (TEXT, BINARY, PING, PONG):
            link.send_frame(opcode, b"x")
        if name == "closing":
            link.send_frame(CLOSE, b"\x03\xe8")
        elif name == "protocol_error":
            link.send_frame(3)
        elif name in ("disconnected", "back_off"):
            return
        elif name == "unresponsive":
            link.wait_for_end()
            return
        answer_close(link)  # which is all that the server does until it is stale

    return script
