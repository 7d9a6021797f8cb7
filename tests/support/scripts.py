"""Scripts of servers that more than one test file needs; see `tests.support.peer`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .peer import BINARY, CLOSE, PING, PONG, TEXT, Link
from .seen import PATIENCE


def silent(link: Link) -> None:
    """Accept, and say nothing until the client has gone."""
    link.accept()
    link.wait_for_end()


def polite(link: Link) -> None:
    """Accept, and answer the client's Close frame; what comes before it is discarded."""
    link.accept()
    answer_close(link)


def answer_close(link: Link) -> list[tuple[int, bytes]]:
    """Read until the client's Close frame, echo it, and return what came before it without pings."""
    received = []
    while (frame := link.read_frame())[0] != CLOSE:
        if frame[0] != PING:
            received.append(frame)
    link.send_frame(*frame)
    return received


class Ends:
    """A script that notes how the client left: its frames, and whether FIN came after them."""

    def __init__(self, *frames: tuple[int, bytes]) -> None:
        self._frames = frames
        self.seen: list[tuple[int, bytes] | str] = []
        self.done = threading.Event()

    def __call__(self, link: Link) -> None:
        try:
            link.accept()
            for frame in self._frames:
                link.send_frame(*frame)
            while True:
                self.seen.append(link.read_frame())
        except EOFError:
            self.seen.append("FIN")
        except ConnectionError:
            self.seen.append("reset")  # something was under way to the client when it closed
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
    """Accept, and close as the RFC says: Close frames both ways, then FIN."""
    link.accept()
    link.send_frame(CLOSE, b"\x03\xe8bye")
    while link.read_frame()[0] != CLOSE:
        pass


def refusing(status: str, *headers: str) -> Callable[[Link], None]:
    """Answer the upgrade with another status."""
    answer = "\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "", ""]).encode()

    def script(link: Link) -> None:
        link.read_request()
        link.send(answer)

    return script


def in_turn(*scripts: Callable[[Link], object]) -> Callable[[Link], object]:
    """One script for each connection; the last for all that follow."""
    rest = iter(scripts)

    def script(link: Link) -> None:
        next(rest, scripts[-1])(link)

    return script


#: Every event that a connection, or the attempt to open one, can bring.
EVENTS = [
    "connecting", "connect_fail", "connected", "rejected", "ready", "poll", "text", "binary", "ping", "pong",
    "protocol_error", "unresponsive", "closing", "closed", "disconnected", "back_off",
]


def bringing(name: str) -> Callable[[Link], object]:
    """Bring that event about; a failure to connect if the client speaks TLS."""

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
        answer_close(link)

    return script
