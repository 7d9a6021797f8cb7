"""Scripts from a recording: the server repeats its part, and checks that the client does the same."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

from .. import events
from ..handlers.replay import Entry, RecordingError, Replay
from ..response import Response
from .connection import ScriptError, ServerConnection, Step
from .steps import NamedStep, accept, close, fin, pause, ping, send, upgrade, wait_for_close

#: A function that returns whether a recorded message and a sent one count as the same.
Same: TypeAlias = "Callable[[str | bytes, str | bytes], bool]"

#: Headers that the scripted server sets itself, whatever was recorded.
_ITS_OWN = {"connection", "content-length", "transfer-encoding"}


def recorded(
    path: str | os.PathLike[str],
    *,
    speed: float | None = None,
    same: Same = lambda recorded, sent: recorded == sent,
) -> list[list[Step]]:
    """Create scripts for a `ScriptedServer` from a recording made by `lochws.handlers.recorder.Recorder`.

    ::

        with ScriptedServer(*recorded("talk.jsonl"), afterwards="refuse") as server:
            MyApp(server.url).run_forever(persist=False)
            server.connection().wait_over()
            server.check_done()

    There is one script for each connection of the recorded app. The server answers the upgrade, sends its
    messages and ends the connection as recorded. Where the app sent a message, the script waits for the next
    one, and fails if it differs. It does not wait for the app's pings and pongs. The script ends with the
    app's Close frame, because a recording does not show what the server had sent by the time it received that
    frame. Attempts that did not reach a server have no script.

    Args:
        path: the recording.
        speed: 1 for the pauses of the recording, 10 for a tenth of them, None for no pauses.
        same: a function that is called with a recorded message and a sent one, and returns whether they count
            as the same; for requests that contain random ids or dates.

    Raises:
        FileNotFoundError, OSError: the recording cannot be read.
        RecordingError: the recording is damaged, entries are missing from it, or a payload was omitted.
        ValueError: `speed` is not above 0.
    """
    if speed is not None and not 0 < speed < float("inf"):
        raise ValueError(f"speed={speed!r}: expected a number above 0, or None for no pauses")
    scripts: list[list[Step]] = []
    before = 0.0
    # Whether there is a connection, and whether the server and the client have sent a Close frame.
    is_open = was_asked = has_asked = False
    for entry in _in_order(Replay(path)):
        if entry.missing:
            raise RecordingError(*entry.where, f"{entry.missing} events and sends are missing: no script")
        event = entry.as_event() if entry.direction == "in" else None
        if isinstance(event, events.Stream):
            raise RecordingError(*entry.where, "the content of a stream is not recorded: it cannot be played")
        if isinstance(event, (events.Ready, events.Rejected)):
            scripts.append([])
            is_open, was_asked, has_asked, before = True, False, False, entry.time
        if not is_open or has_asked:
            is_open = is_open and not isinstance(event, events.Disconnected)
            continue
        steps = list(_server(event) if event is not None else _client(entry, same, was_asked))
        if steps and speed is not None and event is not None and entry.time > before:
            scripts[-1].append(pause((entry.time - before) / speed))
        before = entry.time if steps else before
        scripts[-1] += steps
        is_open = is_open and not isinstance(event, events.Disconnected)
        was_asked = was_asked or isinstance(event, events.Closing)
        has_asked = event is None and entry.event == "close"
    return scripts


def _in_order(replay: Replay) -> Iterator[Entry]:
    """Yield the entries in the order in which they happened, one connection after another.

    The file has them in the order in which the recorder received them: an event may come after the message
    that another handler sent in answer to it. Such an event goes in front of everything sent after its time.
    Events keep their order among themselves, whatever the clock did, and so do sent items.
    """
    sent: deque[Entry] = deque()  # since the last event
    for entry in replay.entries():
        if entry.direction == "out":
            sent.append(entry)
            continue
        while sent and sent[0].time <= entry.time:
            yield sent.popleft()
        yield entry
        if entry.direction == "in" and entry.event in {"connect_fail", "disconnected"}:
            yield from sent
            sent.clear()
    yield from sent


def _server(event: events.Event) -> Iterator[Step]:
    """Yield the server steps that cause this event."""
    if isinstance(event, events.Ready):
        yield accept(protocol=event.protocol, deflate=bool(event.extensions))
    elif isinstance(event, events.Rejected):
        yield _refusal(event.response)
    elif isinstance(event, events.Text):
        yield send(event.text)
    elif isinstance(event, events.Binary):
        yield send(event.data)
    elif isinstance(event, events.Ping):
        yield ping(event.data)
    elif isinstance(event, events.Closing):
        yield close(event.code, event.reason, wait=False)
    elif isinstance(event, events.Disconnected) and _was_lost(event):
        yield fin()


def _was_lost(event: events.Disconnected) -> bool:
    is_closed = event.ended_by == "client" or event.received_code is not None or event.sent_code is not None
    return event.phase == "open" and not is_closed


def _client(entry: Entry, same: Same, was_asked: bool) -> Iterator[Step]:
    """Yield the server steps that wait for an item sent by the client."""
    if entry.event in {"text", "binary"}:
        message = entry.as_sent()
        assert isinstance(message, (str, bytes))
        yield _next_message(message, same)
    elif entry.event == "close":
        yield wait_for_close()
        if was_asked:
            yield fin()


def _next_message(message: str | bytes, same: Same) -> Step:
    """Return a step that waits for the client's next message, and checks that it is this one."""

    def run(connection: ServerConnection) -> None:
        found: list[str | bytes] = []

        def take(one: str | bytes) -> bool:
            found.append(one)
            return True

        connection.expect(lambda: connection.skip_until(take), f"message {message!r}")
        if not same(message, found[0]):
            raise ScriptError(f"the recorded message is {message!r}, but {found[0]!r} was sent")

    return NamedStep("next_message", run, message if len(message) < 50 else message[:50])


def _refusal(response: Response) -> Step:
    if response.status_code is None or response.status_code == 101:
        return fin()  # the answer was not HTTP, or invalid in a way that cannot be reproduced
    headers = {name: value for name, value in response.header_list if name not in _ITS_OWN}
    return upgrade(response.status_code, headers, response.body)
