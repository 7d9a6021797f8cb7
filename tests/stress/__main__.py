"""Interrupts lochws with signals at 1 kHz and a garbage collection at every allocation, for some seconds.

The signal handler and the finalizers call every public method of `WebSocketApp`, `Feed`, `Receipt`,
`Sequence` and `Outbox` in turn, on whatever thread and at whatever bytecode they come. Nothing may hang,
every message that was accepted must be echoed once, its receipt confirmed, and its echo must reach a mailbox
and a coroutine handler once. Every message that was put into an outbox must be confirmed, although its app
reconnects and stops all the time: ``python -m tests.stress --seconds 60``.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import itertools
import logging
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import lochws
from lochws import Backoff, Feed, Rate, Receipt, ReceiptState, WebSocketApp, events
from lochws.errors import WebSocketError
from lochws.handlers import sequence as sequences
from lochws.handlers.outbox import Outbox
from lochws.handlers.sequence import Sequence, Snapshot

from ..support.holds import checked_holds

#: Seconds without any progress after which the stacks are shown and the program ends.
HANGS = 10

NUMBERS = itertools.count()
BACKOFF = Backoff(0.01, 0.05)


class Object:
    """Handles one event, and is added and removed."""

    def on_pong(self, event: events.Pong) -> None:
        """Take the event."""


def name_of(event: events.Text | events.Binary) -> str:
    """Return the name of an echo."""
    text = event.text if isinstance(event, events.Text) else event.data.decode()
    return text.split()[0]


class Accountable:
    """Keeps account of the messages that it sends, and of their echoes. A base class."""

    accepted: list[str]
    echoed: list[str]
    send_text: Callable[..., bool]
    send_binary: Callable[..., bool]
    send_json: Callable[..., bool]
    send_many: Callable[..., bool]

    def on_text(self, event: events.Text) -> None:
        """Keep the echo, and leave garbage behind."""
        self.echoed.append(event.text.split()[0])
        Garbage()

    def on_binary(self, event: events.Binary) -> None:
        """Keep the echo."""
        self.echoed.append(event.data.split()[0].decode())

    def say(self, tail: str = "") -> None:
        """Send one text, and note it if it was accepted."""
        name = f"<{next(NUMBERS)}>"
        if self.send_text(f"{name} {tail}"):
            self.accepted.append(name)

    def say_bytes(self) -> None:
        """Send one binary message, and note it."""
        name = f"<{next(NUMBERS)}>"
        if self.send_binary(name.encode()):
            self.accepted.append(name)

    def say_json(self) -> None:
        """Send a JSON text, and note it."""
        name = f"<{next(NUMBERS)}>"
        if self.send_json(name, encoder=str):
            self.accepted.append(name)

    def say_many(self) -> None:
        """Send several messages in one go, and note them."""
        names = [f"<{next(NUMBERS)}>" for _ in range(3)]
        if self.send_many([names[0], names[1].encode(), f"{names[2]} ü"]):
            self.accepted.extend(names)


class Steady(Accountable, WebSocketApp):  # type: ignore[misc]  # it declares what it uses of the other base
    """An app that stays connected."""

    def __init__(self, url: str, **options: object) -> None:
        super().__init__(url, **options)  # type: ignore[arg-type]
        self.accepted, self.echoed = [], []
        self.receipts: deque[Receipt] = deque()
        self.with_receipt: list[str] = []
        self.settled: list[ReceiptState] = []
        self.sequence: Sequence[Any] | None = None
        self.newest = self.mailbox("text", "binary", "pong", size=3, when_full="drop_oldest")
        self.latest = self.mailbox("text", size=3, when_full="latest", key=type)

    def say_with_receipt(self) -> None:
        """Send a text with a receipt, and note them."""
        name = f"<{next(NUMBERS)}>"
        receipt = WebSocketApp.send_text(self, name, receipt=True)
        self.accepted.append(name)
        self.with_receipt.append(name)
        self.receipts.append(receipt)
        receipt.add_done_callback(lambda receipt: self.settled.append(receipt.result(0)))

    def look_at_receipt(self) -> None:
        """Ask a receipt everything, and drop it when it is settled."""
        if self.receipts:
            receipt = self.receipts[0]
            with suppress(TimeoutError):
                receipt.result(0)
            repr(receipt)
            if receipt.done():
                with suppress(ValueError):  # a call that interrupted this one has removed it
                    self.receipts.remove(receipt)

    def look_at_sequence(self) -> None:
        """Ask a sequence everything, and change it."""
        if self.sequence is not None:
            for key in self.sequence.keys:
                self.sequence.last(key)
                self.sequence.is_live(key)
            repr(self.sequence.counts)
            self.sequence.flush(0)
            self.sequence.flush(0.001)
            self.sequence.forget(f"stream {next(TURNS) % 3}")
            self.sequence.forget()

    def resync(self) -> None:
        """Have a stream loaded again."""
        if self.sequence is not None:
            self.sequence.resync(f"stream {next(TURNS) % 3}")

    def say_corked(self) -> None:
        """Send two messages that gather, and note them."""
        with self.corked():
            self.say()
            self.say("ü")


class Keeping(Steady):
    """An app with an outbox in memory, confirmed by receipts, and one in a file, confirmed by echoes."""

    def __init__(self, url: str, folder: str) -> None:
        super().__init__(url, proxies={})
        self.boxes = (
            Outbox(self),
            Outbox(self, Path(folder) / "box", confirm=name_of, synchronous="NORMAL", window=20),
        )
        self.kept: tuple[list[str], list[str]] = [], []
        self.replaced: tuple[list[str], list[str]] = [], []

    def put(self) -> None:
        """Put a message into each outbox, and note it."""
        for box, kept in zip(self.boxes, self.kept, strict=True):
            kept.append(box.put(name := f"<{next(NUMBERS)}>", id=name))

    def put_many(self) -> None:
        """Put several messages in one transaction; their ids are not their names."""
        names = [f"<{next(NUMBERS)}>" for _ in range(3)]
        self.boxes[0].put_many(names)
        self.kept[0].extend(names)

    def replace(self) -> None:
        """Put a message that replaces others."""
        for box, replaced in zip(self.boxes, self.replaced, strict=True):
            replaced.append(box.put(name := f"<{next(NUMBERS)}>", id=name, supersede="latest"))

    def look_at_boxes(self) -> None:
        """Read every property of the outboxes."""
        for box in self.boxes:
            box.flush(0)
            repr((box.pending, box.counts, box.failure))
        next(iter(self.boxes[0]), None)
        next(iter(self.boxes[1]), None)
        Outbox(self).close()

    def check(self) -> list[str]:
        """Wait until everything is confirmed, and return what was wrong."""
        wrong = []
        for name, box, kept, replaced in zip(
            ("memory", "file"), self.boxes, self.kept, self.replaced, strict=True
        ):
            is_flushed, counts = box.flush(HANGS / 2), box.counts
            print(f"the outbox in {name}: {counts.confirmed} confirmed, {counts.in_doubt} doubts")  # noqa: T201
            put = len(kept) + len(replaced)
            if not (is_flushed and counts.put == put == counts.confirmed + counts.superseded):
                wrong.append(f"the outbox in {name}: {put} messages were put, and it says {counts}")
            if counts.superseded > len(replaced):
                wrong.append(f"the outbox in {name} has replaced other messages: {counts}")
            box.close()
        if lost := set(self.kept[1]) - set(self.echoed):
            wrong.append(f"the outbox in file has confirmed messages that did not arrive: {sorted(lost)[:9]}")
        return wrong


class SteadyFeed(Accountable, Feed):  # type: ignore[misc]  # likewise
    """A feed whose connections are replaced again and again."""

    def __init__(self, url: str) -> None:
        # An echo belongs to its connection, so the two never meet: the old one is open for the whole time.
        super().__init__(
            partial(WebSocketApp, proxies={}), [url], key=lambda event: event.text.split()[0]
            if event.name == "text" else event.data, drain=0.2,
        )
        self.accepted, self.echoed = [], []


def ask(app: Steady) -> None:
    """Ask the mailboxes for an event, without waiting."""
    for mailbox in (app.newest, app.latest):
        with suppress(TimeoutError):
            mailbox.get(0)
        repr(mailbox)


def open_mailboxes(app: Steady) -> None:
    """Create mailboxes, of which one is full at once; close one, and forget the other. Likewise a route."""
    app.remove_handler(app.route(type="x")(lambda event: None))
    app.mailbox("text", size=1)
    app.mailbox("pong", "text", when_full="latest", key=type).close()


def on_and_off(app: WebSocketApp | Feed) -> None:
    """Register handlers of every kind, and remove them."""
    function = app.on("pong")(lambda event: None)
    thing = Object()
    app.add_handler(thing)
    app.remove_handler(function)
    app.remove_handler(thing)


def wrap_and_unwrap(app: WebSocketApp) -> None:
    """Wrap handlers, and unwrap them."""
    def wrapper(_name: str, function: Callable[..., object]) -> Callable[..., object]:
        return function

    app.hooks.wrap_handlers(wrapper)
    app.hooks.unwrap_handlers(wrapper)


def sequence_and_leave(app: WebSocketApp) -> None:
    """Number messages for a moment."""
    Sequence(app, number=lambda _: None).leave()


PROPERTIES = [
    name for name in dir(WebSocketApp)
    if not name.startswith("_") and isinstance(getattr(WebSocketApp, name), property)
]


def look(app: WebSocketApp) -> None:
    """Read every property."""
    for name in PROPERTIES:
        getattr(app, name)
    repr(app)


#: What may be called on an app that is to stay connected.
CALLS: list[Callable[[Steady], object]] = [
    Steady.say, lambda app: app.say("ü"), lambda app: app.say("x" * 5000), Steady.say_bytes, Steady.say_json,
    Steady.say_many, Steady.say_corked, lambda app: app.send_ping(b"?"), lambda app: app.send_pong(b"!"),
    look, ask, open_mailboxes, on_and_off, wrap_and_unwrap,
    lambda app: app.hooks.handles("text"), lambda app: app.counters,
    lambda app: app.call_later(0, lambda: None), lambda app: app.call_later(9, lambda: None).cancel(),
    lambda app: app.hooks.gate().remove(), lambda app: app.add_header(b"X-Name", b"value"),
    lambda app: app.wait_ready(0), lambda app: app.wait_closed(0), lambda app: app.join(0),
    lambda app: app.start(), Steady.say_with_receipt, Steady.look_at_receipt, Steady.look_at_sequence,
    sequence_and_leave,
]

#: What may be called on a feed.
FEED_CALLS: list[Callable[[SteadyFeed], object]] = [
    SteadyFeed.say, SteadyFeed.say_bytes, SteadyFeed.say_json, SteadyFeed.say_many, on_and_off, repr,
    SteadyFeed.renew, SteadyFeed.status, lambda feed: feed.send_ping(b"?"),
    lambda feed: feed.mailbox().close(), lambda feed: feed.call_later(0, lambda: None),
    lambda feed: feed.call_later(9, lambda: None).cancel(),
    lambda feed: feed.wait_ready(0), lambda feed: feed.join(0), lambda feed: feed.start(),
    lambda feed: (feed.is_active, feed.in_handler, feed.is_stopping, feed.last_end),
]

#: What may be called on one that need not.
ROUGH: list[Callable[[Steady], object]] = [
    *CALLS, WebSocketApp.reconnect, lambda app: app.force_disconnect("enough"),
    lambda app: app.close(1000, "bye"), lambda app: app.stop(0), Steady.resync,
]

#: What may be called on one with outboxes.
KEEPING: list[Callable[[Keeping], object]] = [
    Keeping.put, Keeping.put_many, Keeping.put, Keeping.replace, Keeping.look_at_boxes, Steady.say,
    WebSocketApp.reconnect, lambda app: app.force_disconnect("enough"), lambda app: app.close(1000, "bye"),
    look,
]

APPS: list[tuple[Any, list[Callable[[Any], object]]]] = []
TURNS = itertools.count()
DEPTH = threading.local()


def call_something() -> None:
    """Call the next method of the next app, unless that interrupts a few such calls already."""
    depth = getattr(DEPTH, "value", 0)
    if depth > 2:
        return
    apps = APPS.copy()  # `run` clears it at the end, perhaps while a signal or a finalizer is on its way here
    if not apps:
        return
    DEPTH.value = depth + 1
    try:
        turn = next(TURNS)
        app, calls = apps[turn % len(apps)]
        calls[turn // len(apps) % len(calls)](app)
    except WebSocketError:
        pass  # refused: nothing was accepted
    finally:
        DEPTH.value = depth


class Garbage:
    """In a cycle, so that only the collector finds it; then it calls something."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        call_something()


def interrupted(_number: int, _frame: FrameType | None) -> None:
    """Handle the signal."""
    call_something()


class Consumers:
    """A thread that iterates over a mailbox of an app, and one with an event loop that runs a handler."""

    def __init__(self, app: Steady) -> None:
        self.by_name: dict[str, list[str]] = {"a mailbox": [], "a coroutine": []}
        self._loop = asyncio.new_event_loop()
        self._mailbox = app.mailbox("text", "binary", size=50)
        app.on("text", "binary", loop=self._loop)(self._handle)
        self._threads = [threading.Thread(target=self._iterate), threading.Thread(target=self._run_loop)]
        for thread in self._threads:
            thread.start()

    def _iterate(self) -> None:
        for event in self._mailbox:
            self.by_name["a mailbox"].append(name_of(event))
            Garbage()

    async def _handle(self, event: events.Text | events.Binary) -> None:
        self.by_name["a coroutine"].append(name_of(event))
        Garbage()

    def _run_loop(self) -> None:
        self._loop.run_forever()

    def check(self, app: Steady) -> list[str]:
        """Return what was wrong with the messages."""
        wrong = []
        for name, seen in self.by_name.items():
            wait_until(lambda seen=seen: len(seen) >= len(app.echoed))  # type: ignore[misc]
            print(f"{name}: {len(seen)} messages")  # noqa: T201
            if seen != app.echoed:
                wrong.append(f"{name}: {len(seen)} of {len(app.echoed)} messages, or not in order")
        return wrong

    def end(self, app: Steady) -> list[str]:
        """End the threads, and return what was wrong."""
        wrong = self.check(app)
        self._mailbox.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(HANGS)
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        return wrong


def restart(app: WebSocketApp) -> None:
    """Start an app if it has stopped."""
    if app.state is lochws.State.STOPPED:
        with suppress(WebSocketError):  # a signal handler was faster
            app.start(poll=0.01, persist=BACKOFF)


def wait_until(predicate: Callable[[], bool]) -> None:
    """Wait until a condition holds, but not for long."""
    end, behind = monotonic() + HANGS / 2, threading.Event()
    while not predicate() and monotonic() < end:
        behind.wait(0.01)


def check_echoes(apps: dict[str, Steady | SteadyFeed]) -> Iterator[str]:
    """Yield what was wrong with the echoes of messages."""
    for name, app in apps.items():
        wait_until(lambda app=app: len(app.echoed) >= len(app.accepted))  # type: ignore[misc]
        sent, echoed = Counter(app.accepted), Counter(app.echoed)
        print(f"{name}: {len(app.accepted)} messages accepted, {len(app.echoed)} echoed")  # noqa: T201
        if sent != echoed:
            yield f"{name}: lost {list(sent - echoed)[:9]}, too many {list(echoed - sent)[:9]}"


def check_receipts(apps: dict[str, Steady]) -> Iterator[str]:
    """Yield what was wrong with the receipts."""
    for name, app in apps.items():
        wait_until(lambda app=app: len(app.settled) >= len(app.with_receipt))  # type: ignore[misc]
        print(f"{name}: {len(app.with_receipt)} receipts")  # noqa: T201
        if app.settled != [ReceiptState.CONFIRMED] * len(app.with_receipt):
            yield f"{name}: receipts ended as {Counter(app.settled)}"


def run(url: str, seconds: float, folder: str) -> list[str]:
    """Run for some seconds, and return what was wrong."""
    calm = Steady(url, proxies={})
    full = Steady(url, proxies={}, when_full="block", max_queue=20_000, send_timeout=5)
    paced = Steady(url, proxies={}, rate=Rate(100, per=0.01, counts="frames"))
    rough = Steady(url, proxies={}, rate=Rate(100, per=0.01, scope="client"))
    arrivals = itertools.count()
    state = Path(folder) / "numbers"
    calm.sequence = Sequence(calm, number=lambda _: next(arrivals), patience=1, state=state)
    rough.sequence = Sequence(
        rough, key=lambda event: f"stream {len(event.data) % 3}", number=lambda _: next(NUMBERS),
        resync=lambda _: Snapshot(next(NUMBERS)), on_snapshot=lambda *_: None, on_gap=None,
    )
    consumers = Consumers(calm)
    for app in (calm, full, paced, rough):
        app.start(poll=0.01, ping_rate=0.05, ping_timeout=HANGS, close_timeout=0.5, persist=BACKOFF)
        assert app.wait_ready(10)
    keeping = Keeping(url, folder)
    keeping.start(poll=0.01, persist=BACKOFF)
    feed = SteadyFeed(url)
    feed.start(poll=0.01, ping_rate=0.05, ping_timeout=HANGS, close_timeout=HANGS, persist=BACKOFF)
    assert feed.wait_ready(10)
    APPS[:] = [
        (calm, CALLS), (full, CALLS), (paced, CALLS), (feed, FEED_CALLS), (rough, ROUGH), (keeping, KEEPING),
    ]
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    end, behind = monotonic() + seconds, threading.Event()
    while monotonic() < end:
        faulthandler.dump_traceback_later(HANGS, exit=True)
        call_something()
        Garbage()
        while max(len(app.accepted) - len(app.echoed) for app in (calm, paced, feed)) > 500:
            behind.wait(0.01)
        while max(box.pending for box in keeping.boxes) > 500 and keeping.state is not lochws.State.STOPPED:
            behind.wait(0.01)
        restart(rough)
        restart(keeping)
    faulthandler.dump_traceback_later(HANGS, exit=True)
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.set_threshold(*before)
    APPS.clear()
    wrong = [*check_echoes({"calm": calm, "full": full, "paced": paced, "feed": feed})]
    wrong += check_receipts({"calm": calm, "full": full, "paced": paced})
    keeping.stop(HANGS)
    restart(keeping)
    wrong += keeping.check()
    print(f"the feed switched {feed.status().switches} times")  # noqa: T201
    wrong += [f"{name} did not stop" for name, app in
              (("calm", calm), ("full", full), ("paced", paced), ("rough", rough), ("keeping", keeping),
               ("feed", feed))
              if not app.stop(10)]
    return wrong + consumers.end(calm)


def main() -> int:
    """Run the program. Returns its status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    seconds = parser.parse_args().seconds
    logging.getLogger("lochws").addHandler(logging.NullHandler())
    logging.getLogger("lochws").propagate = False
    sequences.SAVE_SECONDS = 0.01
    sys.unraisablehook = lambda what: sys.stderr.write(f"{what.exc_value!r} in {what.object!r}\n")
    server = [sys.executable, "-m", "tests.stress.server"]
    with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with tempfile.TemporaryDirectory() as folder, checked_holds() as nested:
                wrong = run(process.stdout.readline().strip(), seconds, folder) + nested
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            process.kill()
    for sentence in wrong:
        print(sentence)  # noqa: T201
    print("nothing was lost, and nothing hung" if not wrong else "FAILED")  # noqa: T201
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
