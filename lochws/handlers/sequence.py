"""Sequence: an order for numbered messages, which notices lost ones and loads a snapshot in their place.

::

    def load(product):                          # on a thread of its own
        book = requests.get(f"https://exchange.example.org/book/{product}", timeout=10).json()
        return Snapshot(book["number"], book)

    Sequence(
        app, key=lambda event: event.json["product"], number=lambda event: event.json["number"],
        resync=load, on_snapshot=lambda product, snapshot: books[product].replace(snapshot.data),
    )

The handlers of messages then see each product's messages once and in order: first its snapshot, then what
follows it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from .. import WebSocketApp, events
from ..base.callables import check_takes
from ..errors import WebSocketError
from ..life.calls import ScheduledCall
from ..options import MIB, as_timeout, check_bool, check_choice, check_number, check_range
from ..system import forks
from ._parts.checks import AppOrFeed, check_app_or_feed
from ._parts.fates import Fates
from ._parts.lines import report_about
from ._parts.messages import Doubts
from ._parts.number_file import NumberFile, is_savable
from ._parts.numbered import Disorder, Gap, SequenceCounts, Snapshot
from ._parts.numbering import NUMBER_LIMIT, as_range
from ._parts.resyncs import Resyncs
from ._parts.streams import Rules, Streams, shown

__all__ = ["Disorder", "Gap", "Sequence", "SequenceCounts", "Snapshot"]

K = TypeVar("K", bound=Hashable)

#: The time between two saves of the numbers, in seconds.
SAVE_SECONDS = 1.0


class Sequence(Generic[K]):
    """Passes the numbered messages of an app or a feed on in order, each once, and reports gaps.

    Registers itself.

    Each key has a stream of its own. A message whose number is one above the last is passed on at once. A
    duplicate is dropped, and so is a late message. If a number is missing, that is a gap: it is reported, and
    the message is passed on; or, with `resync`, the stream's messages are held while a snapshot is loaded.
    The snapshot is passed to `on_snapshot`, and then the held messages that follow it to the handlers.

    With `resync`, a stream begins with a snapshot, too. If the call fails, or the snapshot is older than the
    first held message allows, it is loaded again, after 0.1 seconds at first and 30 at most. Meanwhile no
    message of the stream is passed on. If the connection ends, held messages are dropped.

    What is held or dropped reaches neither ``on_text`` and ``on_binary`` nor batches and routes. ``on_event``
    and mailboxes get every message as it arrives.

    All methods may be called from any thread, and none blocks except `flush`. All functions are called on the
    handlers' thread, except `resync`; their exceptions, except those of `key` and `number`, are treated like
    those of a handler.

    Args:
        app: the app, or the feed. The numbers of a feed's messages must be the same on all connections, since
            it changes between them unnoticed; a gap at such a change is a gap like any other. Handlers that
            its factory registers with an app are not affected.
        number: a function that is called with each `Text` and `Binary` and returns its number, a pair of its
            first and last number (such as Binance's ``U`` and ``u``), or None if it has none. Messages
            without a number are passed on as they are. So are those for which `number` or `key` raises an
            exception, which is logged at level DEBUG.
            A number of more than 64 bits, or one of another type, is not used, which is logged as a warning.
        key: a function that returns the key of a numbered message; None: there is one stream, with key None.
            A key may take one KiB of memory.
        on_gap: called with each `Gap`; or ``"tell"`` to log a warning, ``"reconnect"`` to drop the connection
            as well, as `WebSocketApp.force_disconnect` does, or None.
        on_disorder: called with a `Disorder` for each duplicate and each late message; or None.
        late: ``"drop"``, or ``"pass"`` to pass late messages on, for streams whose order does not matter. Not
            with `resync`.
        patience: how long the missing message may be late, in seconds, before there is a gap. Meanwhile the
            stream is held; if the message arrives, all are passed on in order.
        resync: a function that takes a key, may block, and returns a `Snapshot` or such a pair. It is called
            by `executor`, never twice at once for the same stream unless it exceeds `timeout`.
        on_snapshot: called with the key and the `Snapshot`, to replace the state. Required with `resync`.
        executor: a `concurrent.futures.Executor`; None for a thread per call.
        parallel: the maximum number of calls of `resync` at once.
        timeout: how long `resync` may take, in seconds. It then counts as failed, but occupies its place
            until it returns.
        continues: whether the server's numbers continue on the next connection. If so, messages lost in
            between are a gap. Otherwise each connection of an app, and each Ready of a feed, begins anew:
            with `resync`, all known streams are loaded as soon as the session is ready (and all steps of a
            `Subscriptions` are answered). None: True without `resync`.
        max_held: the maximum number of held messages, in all streams together. Beyond it, a stream that
            holds more than its share drops its oldest one, so that it needs a newer snapshot; one without
            `resync` drops nothing, but stops waiting for the missing message.
        max_held_bytes: the maximum memory for the texts and bytes of held messages, in the same way. Objects
            that `key` and `number` decode from them are kept as well, and may take several times as much.
        max_keys: the maximum number of streams. Messages of further ones are passed on unchecked, which is
            logged.
        state: a file for the last numbers, for servers that can resume: `last` returns them after a restart
            of the program. It is replaced, crash-safe, about once per second and after each connection, by a
            thread of its own, and never contains a number before the handlers have returned. If that fails,
            it is logged, and tried again. The keys must be str, int or None, and `continues` must not be
            False. No other sequence may use the file.

    Raises:
        TypeError, ValueError: an argument is invalid, or the file is damaged.
        OSError: the file cannot be read, or its directory does not exist.
    """

    def __init__(
        self,
        app: AppOrFeed,
        *,
        number: Callable[[Any], int | tuple[int, int] | None],
        key: Callable[[Any], K] | None = None,
        on_gap: Callable[[Gap[K]], object] | Literal["tell", "reconnect"] | None = "tell",
        on_disorder: Callable[[Disorder[K]], object] | None = None,
        late: Literal["drop", "pass"] = "drop",
        patience: float = 0.0,
        resync: Callable[[K], Snapshot | tuple[int, Any]] | None = None,
        on_snapshot: Callable[[K, Snapshot], object] | None = None,
        executor: Executor | None = None,
        parallel: int = 4,
        timeout: float = 30.0,
        continues: bool | None = None,
        max_held: int = 10_000,
        max_held_bytes: int = 64 * MIB,
        max_keys: int = 100_000,
        state: str | os.PathLike[str] | None = None,
    ) -> None:
        check_app_or_feed(app)
        if isinstance(on_gap, str):
            check_choice("on_gap", on_gap, ("tell", "reconnect"))
        functions: dict[str, Any] = {"key": key, "on_disorder": on_disorder, "resync": resync}
        functions["on_gap"] = None if isinstance(on_gap, str) else on_gap
        _check_functions({"number": number, **functions}, on_snapshot)
        check_choice("late", late, ("drop", "pass"))
        if resync is not None and late == "pass":
            raise ValueError("late='pass' cannot be combined with resync, whose snapshots include them")
        check_number("patience", patience, 0)
        check_number("timeout", timeout, 0.001)
        if executor is not None and not callable(getattr(executor, "submit", None)):
            raise TypeError(f"executor={executor!r}: expected a concurrent.futures.Executor, or None")
        for name, value in (
            ("parallel", parallel), ("max_held", max_held), ("max_held_bytes", max_held_bytes),
            ("max_keys", max_keys),
        ):
            check_range(name, value, 1)
        if continues is not None:
            check_bool("continues", continues)
        if state is not None and continues is False:
            raise ValueError("state: there is nothing to save for continues=False")
        self._app = app
        self._number, self._key = number, key
        self._resyncs = None if resync is None else Resyncs(app, resync, executor, parallel, timeout)
        # A saved number is of no use to a program that begins anew.
        self._continues = (resync is None or state is not None) if continues is None else continues
        self._file = None if state is None else NumberFile(_as_path(state))
        self._saved: dict[Any, int] = {} if self._file is None else self._file.load()
        self._save_timer: ScheduledCall | None = None
        self._doubts = Doubts()
        self._fates = Fates(app)
        rules = Rules(
            on_gap, on_disorder, on_snapshot, late == "pass", patience, self._continues, max_held,
            max_held_bytes, max_keys,
        )
        self._streams = Streams(app, self._fates, self._resyncs, rules, self._saved)
        forks.register(self)
        # A feed's Ready comes when the session is set up; an app's comes before that.
        self._gate = app.hooks.gate() if isinstance(app, WebSocketApp) else None
        if self._gate is not None:
            self._gate.remove()
            self._gate.when_all_open(self._gates_opened)
        app.hooks.wrap_handlers(self._fates.wrap)
        app.add_handler(self)

    # Any thread.

    @property
    def counts(self) -> SequenceCounts:
        """The counts of messages by what became of them."""
        return SequenceCounts(
            **self._streams.counts, passed=self._streams.passed, held=self._streams.room.held
        )

    @property
    def keys(self) -> tuple[K, ...]:
        """The keys of all streams."""
        return tuple(self._streams.table.by_key.copy())

    def last(self, key: K = None) -> int | None:  # type: ignore[assignment]  # the key of the only stream
        """Return the last number of a stream that was passed on, or None if there is none.

        A URL function, or a step of a `Subscriptions`, can ask the server to resume after it.
        """
        stream = self._streams.table.by_key.get(key)
        return None if stream is None else stream.numbering.last

    def is_live(self, key: K = None) -> bool:  # type: ignore[assignment]  # the key of the only stream
        """Return whether a stream has begun, and its messages are passed on as they arrive."""
        stream = self._streams.table.by_key.get(key)
        return stream is not None and stream.phase == "live" and stream.numbering.last is not None

    def resync(self, key: K = None) -> None:  # type: ignore[assignment]  # the key of the only stream
        """Load a snapshot of a stream now, because its checksum is wrong, for example. Also for a new key.

        Without a connection, the stream is loaded as soon as the next session is ready.

        If other streams become `max_keys` at the same time, a new key is refused later, with a log line.

        Raises:
            TypeError: the key is not hashable.
            ValueError: the sequence was created without `resync`; or the key is new, and there are `max_keys`
                streams, or it is too large.
        """
        hash(key)
        if self._resyncs is None:
            raise ValueError("resync: the sequence was created without this function")
        if (reason := self._streams.table.refusal(key)) is not None:
            raise ValueError(f"resync: {shown(key)} cannot be added: {reason}")
        if not self._soon(partial(self._streams.ask, key)):
            self._streams.table.request(key)
            self._soon(self._streams.begin)  # the app may have started meanwhile

    def forget(self, key: K = None) -> None:  # type: ignore[assignment]  # the key of the only stream
        """Forget a stream, which was unsubscribed, and drop its held messages."""
        hash(key)
        if self._soon(partial(self._streams.forget, key)):
            return
        if (stream := self._streams.table.remove(key)) is not None:
            self._soon(partial(self._streams.stop, stream))  # the app may have started meanwhile

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the numbers that are due are saved. Call it at the end of the program.

        The numbers of a connection are due when it has ended, and otherwise after about a second.

        Args:
            timeout: seconds to wait at most, or None for no limit.

        Returns:
            Whether nothing is left to save. False also if the file cannot be written, which is logged, and
            immediately if the call interrupts this class, as a finalizer may.

        Raises:
            TypeError, ValueError: the timeout is not a number.
        """
        timeout = as_timeout("flush", timeout)
        return self._file is None or self._file.flush(timeout)

    def leave(self) -> None:
        """Stop for good: pass on all later messages as they are. Held messages are dropped."""
        with suppress(ValueError):  # leave() was called before
            self._app.remove_handler(self)
        with suppress(ValueError):
            self._app.hooks.unwrap_handlers(self._fates.wrap)
        if self._gate is not None:
            with suppress(ValueError):
                self._gate.forget(self._gates_opened)
        self._soon(self._streams.end)

    def reset_after_fork(self) -> None:
        """Stop in the child of a fork: the connection is the parent's."""
        for stream in self._streams.table.all():
            stream.job = stream.timer = None
        if self._resyncs is not None:
            self._resyncs.reset_after_fork()
        self._save_timer = self._file = None
        self._streams.end()

    def _gates_opened(self) -> None:
        self._soon(self._streams.begin)

    def _soon(self, change: Callable[[], object]) -> bool:
        """Make a change on the handlers' thread. Return whether the app is running, so that it has one."""
        try:
            self._app.call_later(0, change)
        except WebSocketError:
            return False
        return True

    # The handlers' thread.

    def on_event(self, event: events.Event) -> None:
        """Decide on a message. (`on_text` is not called if a handler takes batches.)"""
        if not isinstance(event, (events.Text, events.Binary)):
            return
        try:
            numbers = self._number(event)
            if numbers is None:
                return
            if type(numbers) is int and -NUMBER_LIMIT <= numbers < NUMBER_LIMIT:
                found: tuple[int, int] | None = (numbers, numbers)
            else:
                found = as_range(numbers)
            key: Any = None if self._key is None else self._key(event)
            stream = self._streams.table.by_key.get(key)
        except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
            self._doubts.add(self._number, error)
            return
        if found is None:
            self._refuse(numbers)
            return
        first, last = found
        if stream is not None and stream.phase == "live" and stream.numbering.last == first - 1:
            stream.numbering.last = last
            self._streams.passed += 1
        elif stream is not None or (stream := self._streams.added(key)) is not None:
            self._streams.examine(stream, event, first, last)
        if self._file is not None and self._save_timer is None:
            self._plan_saving()

    def on_ready(self, _event: events.Ready) -> None:
        """Begin, unless there is a session to wait for."""
        if not self._continues:
            self._streams.begin_numbering()
        if self._app.is_active:
            self._streams.begin()

    def on_disconnected(self, _event: events.Disconnected) -> None:
        """Drop what is held, until the next connection."""
        self._streams.end()
        self._save()

    def _refuse(self, numbers: object) -> None:
        """Log that the number of a message cannot be used."""
        text = (
            "a message is passed on unchecked: number returned an invalid value of type %s; expected an int "
            "of at most 64 bits, a pair of them in ascending order, or None"
        )
        kind = type(numbers).__name__
        report_about(self._app, logging.WARNING, "not_numbered", text, kind, limit=self._streams.refusals)

    def _plan_saving(self) -> None:
        with suppress(WebSocketError):  # the app has stopped; it is saved after the connection
            self._save_timer = self._app.call_later(SAVE_SECONDS, self._save)

    def _save(self) -> None:
        """Save the numbers that were passed on. Called between two handlers, so none of them is in use."""
        if self._save_timer is not None:
            self._save_timer.cancel()
            self._save_timer = None
        if self._file is None:
            return
        numbers: dict[Any, int] = {}
        for key, stream in self._streams.table.by_key.copy().items():
            if stream.numbering.last is None:
                continue
            if is_savable(key):
                numbers[key] = stream.numbering.last
            else:
                text = "the number of %s is not saved: expected a str, an int or None as its key"
                report_about(
                    self._app, logging.WARNING, "not_saved", text, shown(key), limit=self._streams.refusals
                )
        if numbers != self._saved or self._file.has_failed:
            self._saved = numbers
            self._file.save(numbers)


def _as_path(state: object) -> Path:
    """Return the path of the state file.

    Raises:
        TypeError: that is not a path.
        OSError: its directory does not exist.
    """
    if not isinstance(state, (str, os.PathLike)) or not isinstance(os.fspath(state), str):
        raise TypeError(f"state={state!r}: expected the path of a file as a str or os.PathLike")
    path = Path(state)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"state={str(path)!r}: the directory {str(path.parent)!r} does not exist")
    return path


def _check_functions(
    functions: dict[str, Any], on_snapshot: Callable[[Any, Snapshot], object] | None
) -> None:
    """Raise TypeError or ValueError unless the functions can be called as they will be."""
    for name, function in functions.items():
        if function is None and name != "number":
            continue
        if not callable(function):
            raise TypeError(f"{name}={function!r}: expected a function")
        check_takes(name, function, 1)
    if (functions["resync"] is None) is not (on_snapshot is None):
        raise ValueError("resync and on_snapshot need each other: pass both, or neither")
    if on_snapshot is not None:
        if not callable(on_snapshot):
            raise TypeError(f"on_snapshot={on_snapshot!r}: expected a function")
        check_takes("on_snapshot", on_snapshot, 2)
