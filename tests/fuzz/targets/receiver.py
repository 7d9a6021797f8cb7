"""The receiver: the same events however the bytes are cut, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any, cast

import pytest

from lochws.errors import ProtocolError
from lochws.events import Binary, Event, Ping, Pong, Stream, Text
from lochws.protocol import compiled, payload, pump, scanning
from lochws.protocol import receiver as module
from lochws.protocol.deflate import DeflateParameters, Inflater
from lochws.protocol.frames import MAX_CONTROL_PAYLOAD
from lochws.protocol.receiver import Receiver, Streaming
from lochws.status import Status

from ...support.wire import Arriving, pumped
from ..inputs import Choices, cuts

TOKENS = [
    b"\x81\x05", b"\x01\x03", b"\x80\x02", b"\x82\x7e\x00\x7e", b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
    b"\x88\x02\x03\xe8", b"\x89\x00", b"\x8a\x7d", b"\xc1\x07", b"\x41\x03", b"\xed\xa0\x80",
    b"\xf4\x8f\xbf\xbf", b"\xf2\x48\xcd\xc9\xc9\x07\x00",
]

#: The largest message, in bytes; 1 << 40 is for lengths that nobody has memory for.
LIMITS = (200, 0, 1, 125, 126, 70_000, 1 << 40)
#: What a receiver may keep besides the message: a head, or a control frame without its last byte, and a
#: character without its last byte.
HEAD_BYTES = 10 + MAX_CONTROL_PAYLOAD + 3
#: The twins that take messages off a buffer and large ones in. There must be two, or nothing is compared.
TWINS = [
    (scanning.scan_python, pump.PumpPython, payload.PayloadPython, payload.decode_payload_python),
    *([(compiled.twins.scan, compiled.twins.Pump, compiled.twins.Payload, compiled.twins.decode_payload)]
      if compiled.twins is not None else []),
]
#: What counts as a large message here, for an input has no room for those that count as such otherwise.
SMALL = {"LARGE_BYTES": 24, "FLOOD_BYTES": 60, "FIRST_BYTES": 8, "KEPT_BYTES": 20, "DEFLATED_READ": 50}


def TestOneInput(data: bytes) -> None:  # noqa: N802  the name that fuzzers look for
    """Receive the input in several ways, which must come to the same."""
    choices = Choices(data)
    limit = choices.one_of(LIMITS)
    agreed = choices.one_of((None, DeflateParameters(), DeflateParameters(True, True)))
    whole, single, pieces = cuts(choices.rest[1:], choices.number())
    results = [
        received(way, by_pump, limit, agreed, twins)
        for twins in TWINS
        for way, by_pump in ((whole, False), (single, False), (pieces, False), (whole, True), (pieces, True))
    ]
    for result in results[1:]:
        assert result == results[0], f"{result} differs from {results[0]}"
    events, *end = results[0]
    for twins in TWINS:
        for way in (whole, pieces):
            assert [*parted(events), *end] == list(streamed(way, limit, agreed, twins))


#: Messages of more bytes than this are streams, unless the limit is lower.
ABOVE = 20


class Kept:
    """The content of a stream."""

    def __init__(self, is_text: bool) -> None:
        self.content: Any = "" if is_text else b""
        self.is_complete = False

    def write(self, part: Any) -> None:
        """Keep a part."""
        assert part
        self.content += part

    def end(self) -> None:
        """Note the end."""
        self.is_complete = True

    def abandon(self) -> None:
        """Do nothing."""


def parted(events: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return the messages and the rest, since a stream's event comes before what interrupts the stream."""
    messages = ("text", "binary")
    return [one for one in events if one[0] in messages], [one for one in events if one[0] not in messages]


def streamed(
    pieces: Iterable[bytes], limit: int, agreed: DeflateParameters | None, twins: tuple[Any, ...]
) -> tuple[list[Any], list[Any], Any, Any]:
    """Return what a receiver with streams makes of it: messages, the rest, Close frame and failure."""
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        use(twins, patch)
        receiver = Receiver(
            limit, Inflater(agreed) if agreed is not None else None,
            streaming=Streaming(min(ABOVE, limit), limit, Kept),  # type: ignore[arg-type]  # never read
        )
        for piece in pieces:
            found += receiver.receive(piece)
            check_memory(receiver, min(ABOVE, limit))
        check_end(receiver)
    events: list[Any] = []
    for event in found:
        if not isinstance(event, Stream):
            events.append(content(event, limit))
        elif (kept := cast("Kept", event._source)).is_complete:
            assert len(kept.content.encode() if event.is_text else kept.content) > min(ABOVE, limit)
            events.append(("text" if event.is_text else "binary", kept.content))
    failure = _failure(receiver, compressed=agreed is not None)
    return *parted(events), receiver.close_received, failure


def use(twins: tuple[Any, ...], patch: pytest.MonkeyPatch) -> None:
    """Have new receivers use these twins."""
    for where, name, twin in zip(
        (pump, pump, payload, module), ("scan", "_Pump", "_Payload", "decode_payload"), twins, strict=True,
    ):
        patch.setattr(where, name, twin)


def received(
    pieces: Iterable[bytes], by_pump: bool, limit: int, agreed: DeflateParameters | None,
    twins: tuple[Any, ...],
) -> tuple[list[Any], Any, Any]:
    """Return what a receiver with these twins makes of the pieces: events, Close frame and failure.

    With `by_pump` they arrive in the buffer and the memory of the receiver's pump.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, number in SMALL.items():
            patch.setattr(pump, name, number)
        patch.setattr(payload, "RESERVED_BYTES", SMALL["FIRST_BYTES"])
        use(twins, patch)
        receiver = Receiver(limit, Inflater(agreed) if agreed is not None else None)
        receiver.pump.repeats = limit % 2 == 0
        events: list[Event] = []
        for piece in pieces:
            arriving = pumped(receiver, Arriving(piece), memoryview(bytearray(64)))
            for new in arriving if by_pump else [receiver.receive(piece)]:
                assert [event for event in new if isinstance(event, (Ping, Pong))] == receiver.controls
                events += new
                check_memory(receiver, limit)
        check_end(receiver)
        failure = _failure(receiver, compressed=agreed is not None)
        return [content(event, limit) for event in events], receiver.close_received, failure


def content(event: Event, limit: int) -> tuple[str, str | bytes]:
    """Check an event, and return it as something that compares."""
    if isinstance(event, Text):
        assert len(event.text.encode()) <= limit
        return event.name, event.text
    assert isinstance(event, (Binary, Ping, Pong)), event
    assert type(event.data) is bytes
    assert len(event.data) <= (limit if isinstance(event, Binary) else MAX_CONTROL_PAYLOAD)
    return event.name, event.data


def check_memory(receiver: Receiver, limit: int) -> None:
    """Check that the memory kept between two calls is within the message being received."""
    values = [
        value.getvalue() if isinstance(value, BytesIO) else value for value in vars(receiver).values()
    ]
    kept = sum(len(value) for value in [*values, receiver.pump.kept] if isinstance(value, (bytes, bytearray)))
    assert kept <= limit + HEAD_BYTES, f"{kept} bytes are kept, with a limit of {limit}"


def check_end(receiver: Receiver) -> None:
    """Check that an end has one reason, with a code that may be sent, and that nothing follows it."""
    ends = [end for end in (receiver.close_received, receiver.failure) if end is not None]
    assert len(ends) == int(receiver.done)
    if receiver.failure is not None:
        assert receiver.failure.close_code in (1002, 1007, 1009)
        assert receiver.failure.__traceback__ is None
    if receiver.close_received is not None:
        code, reason = receiver.close_received.code, receiver.close_received.reason
        assert code is None or Status.is_valid(code)
        assert len(reason.encode()) <= MAX_CONTROL_PAYLOAD - 2
    if receiver.done:
        assert receiver.receive(b"\x81\x01x") == []
        assert receiver.controls == []


def _failure(receiver: Receiver, compressed: bool) -> tuple[type, int, str] | bool | None:
    failure = receiver.failure
    if failure is not None and compressed and failure.close_code != ProtocolError.close_code:
        # How much zlib gives before it finds damage depends on the pieces: too large, or first damaged.
        return True
    return None if failure is None else (type(failure), failure.close_code, str(failure))
