"""Stress: threads use an app without any care, handlers fail, and the server misbehaves.

Who does what is drawn from a seed; only when is left to the threads. Whatever happens, a few things hold, and
those are looked at: in the events, in what the server saw, and in what every sender was told.
"""

from __future__ import annotations

import ssl
import threading
from collections import defaultdict
from random import Random
from typing import Any

import pytest

from lochws import Threads, events
from lochws.errors import WebSocketError

from ..support.apps import AT_ONCE, check_order
from ..support.peer import CLOSE, PING, PONG, TEXT, Link, StartPeer, frame
from ..support.seen import PATIENCE, Noting, in_thread

ACTORS = 3
ROUNDS = 400
SEEDS = [1, 2, 3]

#: How a connection of the server ends, if the client does not end it first.
ENDINGS = ["reset", "finish", "close", "garbage", "half", "silence", "refuse", "hang up", "stay"]


class Failure(Exception):
    """Raised by a handler."""


class Adversary:
    """The server: it echoes for a while, then misbehaves, and records what it received.

    Attributes:
        received: the messages that came, of each connection.
        faults: what no client may do.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self.received: list[list[str]] = []
        self.faults: list[str] = []

    def __call__(self, link: Link) -> None:
        messages: list[str] = []
        with self._lock:
            random = Random(f"{self._seed}-{len(self.received)}")
            self.received.append(messages)
        ending, life = random.choice(ENDINGS), random.randrange(60)
        request = link.read_request()
        if ending == "hang up":
            return
        if ending == "refuse":
            link.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")
            return
        link.accept(request=request)
        self._serve(link, messages, life, ending)

    def _serve(self, link: Link, messages: list[str], life: int, ending: str) -> None:
        while True:
            if life == 0:
                self._end(link, ending)
            life -= 1
            opcode, payload = link.read_frame()
            if opcode == TEXT:
                messages.append(payload.decode())
            if life >= 0 and opcode in {TEXT, PING}:
                link.send_frame({TEXT: TEXT, PING: PONG}[opcode], payload)
            if opcode == CLOSE:
                self._end_after_close(link, answer=ending != "silence" or life >= 0)
                return

    def _end(self, link: Link, ending: str) -> None:
        if ending == "reset":
            link.reset()
        elif ending == "finish":
            link.finish()
        elif ending == "close":
            link.send_frame(CLOSE, b"\x03\xe9going away")
        elif ending == "garbage":
            link.send(b"\xff\xff\xff\xff")
        elif ending == "half":
            link.send(frame(TEXT, b"only half of it")[:-4])
            link.reset()

    def _end_after_close(self, link: Link, *, answer: bool) -> None:
        try:
            if answer:
                link.send_frame(CLOSE, b"\x03\xe8")
                link.finish()
        except OSError:
            pass  # this server may have ended its side long before
        try:
            more = link.read(1)
        except (OSError, EOFError):
            return
        self.faults.append(f"{more!r} after the Close frame")


class Careless(Noting):
    """An app whose handlers sometimes fail."""

    def __init__(self, *args: Any, random: Random, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._random = random  # used by handlers alone, which never overlap

    def on_ready(self, _: events.Ready) -> None:
        self._perhaps_fail()

    def on_text(self, event: events.Text) -> None:
        self._perhaps_fail()
        if self._random.random() < 0.02:
            self.reconnect()

    def on_disconnected(self, _: events.Disconnected) -> None:
        self._perhaps_fail()

    def begin(self) -> None:
        """Start, unless it is running."""
        try:
            self.start(ping_rate=0.05, ping_timeout=0.3, close_timeout=0.2, persist=AT_ONCE)
        except WebSocketError:
            pass

    def _perhaps_fail(self) -> None:
        if self._random.random() < 0.03:
            raise Failure


class Actor:
    """One thread that uses an app without checking its state.

    Attributes:
        name: begins each of its messages.
        accepted: its messages that the app has taken.
    """

    def __init__(self, app: Careless, name: str, seed: int) -> None:
        self._app = app
        self._random = Random(f"{seed}-{name}")
        self.name = name
        self.accepted: list[str] = []

    def run(self) -> None:
        """Do one random thing per round."""
        for number in range(ROUNDS):
            try:
                self._act(number)
            except WebSocketError:  # no connection, or its queue is full
                if self._random.random() < 0.3:
                    self._app.begin()
                self._app.wait_ready(0.05)

    def _act(self, number: int) -> None:
        chance = self._random.random()
        app = self._app
        if chance < 0.02:
            app.close()
        elif chance < 0.03:
            app.stop(0.1)  # in vain if another actor begins meanwhile
        elif chance < 0.07:
            app.begin()
        elif chance < 0.10:
            app.reconnect()
        elif chance < 0.12:
            app.force_disconnect()
        elif chance < 0.17:
            app.send_ping(b"there?")
        elif chance < 0.22:
            pair = [self._message(number, "a"), self._message(number, "b")]
            if app.send_many(pair):
                self.accepted += pair
        else:
            message = self._message(number, "a")
            if app.send_text(message):
                self.accepted.append(message)

    def _message(self, number: int, letter: str) -> str:
        return f"{self.name} {number:05}{letter} " + "x" * self._random.choice([0, 10, 1000, 20000])


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_many_threads_and_a_bad_server_do_at_once_a_few_things_hold(
    seed: int, scheme: str, start_peer: StartPeer, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    adversary = Adversary(seed)
    peer = start_peer(adversary, tls=server_tls if scheme == "wss" else None)
    shared = Threads()
    apps = [
        Careless(
            peer.url, ssl_context=client_tls, on_handler_error=reaction, threads=threads, max_queue=200_000,
            random=Random(f"{seed}-{index}"),
        )
        for index, (reaction, threads) in enumerate(
            [("continue", None), ("reconnect", shared), ("stop", shared)]
        )
    ]
    actors = [Actor(app, f"{index}-{n}", seed) for index, app in enumerate(apps) for n in range(ACTORS)]
    for app in apps:
        app.begin()
    threads = [in_thread(actor.run) for actor in actors]
    for thread in threads:
        thread.join()
    for app in apps:
        assert app.stop(PATIENCE)
    peer.close()

    assert not adversary.faults
    for app in apps:
        check_order(app.names())
        assert len(app.all("connecting")) == len(app.all("connect_fail")) + len(app.all("disconnected"))
        check_echoes(app)
    unsent = [text for app in apps for event in app.all("disconnected") for text in event.unsent]
    check_messages({text for actor in actors for text in actor.accepted}, adversary.received, unsent)


def check_echoes(app: Noting) -> None:
    """The echoes of one connection are in each sender's order."""
    texts: list[str] = []
    for event in app.events:
        if event.name == "connecting":
            texts = []
        elif event.name == "text":
            texts.append(event.text)
            check_senders(texts[-20:])


def check_messages(accepted: set[str], received: list[list[str]], unsent: list[str]) -> None:
    """Check that nothing refused or unsent arrived, nothing arrived twice, and all in order."""
    for texts in received:
        check_senders(texts)
    came = [text for texts in received for text in texts]
    assert len(came) == len(set(came)), "a message came twice"
    assert len(unsent) == len(set(unsent)), "a message is called unsent twice"
    assert accepted.issuperset(came), "a message came whose sender was told that it was refused"
    assert accepted.issuperset(unsent), "a message is called unsent that was refused"
    assert not set(came) & set(unsent), "a message came, and is called unsent"
    assert came, "the server was sent nothing: there was no stress"


def check_senders(texts: list[str]) -> None:
    """Check that each sender's messages are in order."""
    by_sender = defaultdict(list)
    for text in texts:
        sender, number, _ = text.split(" ", 2)
        by_sender[sender].append(number)
    for sender, numbers in by_sender.items():
        assert numbers == sorted(numbers), f"the messages of {sender} changed places"
