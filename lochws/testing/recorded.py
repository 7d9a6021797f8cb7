"""Scripts made of a recording: the server says what it said then, and hears whether the client does too."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeAlias

from .. import events
from ..handlers._parts.recording_files import RecordingError
from ..handlers.replay import Entry, Replay
from ..response import Response
from .connection import ScriptError, ServerConnection, Step
from .steps import NamedStep, accept, close, fin, pause, ping, send, upgrade, wait_for_close

#: Says of a message that was recorded, and of one that was sent, whether they are the same.
Same: TypeAlias = "Callable[[str | bytes, str | bytes], bool]"

#: What the server's own answer has, whatever was recorded.
_ITS_OWN = {"connection", "content-length", "transfer-encoding"}


def recorded(
    path: str | os.PathLike[str],
    *,
    speed: float | None = None,
    same: Same = lambda recorded, sent: recorded == sent,
) -> list[list[Step]]:
    """Make scripts for a `ScriptedServer` of what `lochws.handlers.recorder.Recorder` has recorded.

    ::

        with ScriptedServer(*recorded("talk.jsonl"), afterwards="refuse") as server:
            MyApp(server.url).run_forever(persist=False)
            server.connection().wait_over()
            server.check_done()

    There is a script for each connection that the recorded app had. The server answers the upgrade as it did,
    sends what it sent, and ends as it ended. Where the app sent a message the script waits for the next one,
    and fails if that is another. Pings and pongs of the app's are not waited for. What the server had sent
    when it got the app's Close frame nobody knows: what came after that frame is left out. Attempts that
    reached no server have no script.

    Args:
        path: the recording.
        speed: 1 for the pauses of the recording, 10 for a tenth of them; None for none.
        same: is given a message as it was recorded and one that was sent, and says whether they are the
            same: for requests with random ids, or with dates.

    Raises:
        FileNotFoundError, OSError: as for `Replay`.
        RecordingError: likewise; or something is missing in the recording, or a payload was left out.
        ValueError: the speed is not above 0.
    """
    if speed is not None and not 0 < speed < float("inf"):
        raise ValueError(f"speed={speed!r}: expected a number above 0, or None for no pauses")
    scripts: list[list[Step]] = []
    before = 0.0
    # Whether there is a connection, the server has begun to close it, or the client has.
    is_open = was_asked = has_asked = False
    for entry in _in_order(Replay(path)):
        if entry.missing:
            raise RecordingError(*entry.where, f"{entry.missing} events and sends are missing for a script")
        event = entry.as_event() if entry.direction == "in" else None
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
    """The entries as they came and went, one connection after the other.

    In the file they stand as the recorder heard of them: perhaps after another handler had answered already.
    """
    connection: list[Entry] = []
    for entry in replay.entries():
        connection.append(entry)
        if entry.direction == "in" and entry.event in {"connect_fail", "disconnected"}:
            yield from sorted(connection, key=lambda one: one.time)
            connection = []
    yield from sorted(connection, key=lambda one: one.time)


def _server(event: events.Event) -> Iterator[Step]:
    """What the server did for the client to have such an event."""
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
    nobody_closed = event.ended_by != "client" and event.received_code is None and event.sent_code is None
    return nobody_closed and event.phase == "open"


def _client(entry: Entry, same: Same, was_asked: bool) -> Iterator[Step]:
    """What the server waits for where the client sent this."""
    if entry.event in {"text", "binary"}:
        message = entry.as_sent()
        assert isinstance(message, (str, bytes))
        yield _next_message(message, same)
    elif entry.event == "close":
        yield wait_for_close()
        if was_asked:
            yield fin()


def _next_message(message: str | bytes, same: Same) -> Step:
    """Wait for the client's next message, and see whether it is this one."""

    def run(connection: ServerConnection) -> None:
        found: list[str | bytes] = []

        def take(one: str | bytes) -> bool:
            found.append(one)
            return True

        connection.expect(lambda: connection.skip_until(take), f"message {message!r}")
        if not same(message, found[0]):
            raise ScriptError(f"recorded was the message {message!r}, and sent is {found[0]!r}")

    return NamedStep("next_message", run, message if len(message) < 50 else message[:50])


def _refusal(response: Response) -> Step:
    if response.status_code is None or response.status_code == 101:
        return fin()  # it spoke no HTTP, or its answer was wrong in a way that nobody could repeat
    headers = {name: value for name, value in response.header_list if name not in _ITS_OWN}
    return upgrade(response.status_code, headers, response.body)
