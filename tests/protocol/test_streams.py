"""Streams: large messages that the receiver passes on while they arrive. Both twins pass the tests."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.events import Binary, Event, Ping, Stream, Text
from lochws.options import Deflate
from lochws.protocol import compiled, pump, receiver
from lochws.protocol.deflate import RATIO, DeflateParameters, Deflater, Inflater
from lochws.protocol.frames import Opcode
from lochws.protocol.receiver import Receiver, Streaming

from ..support.wire import SIZES, fragments, frame, mirrored

PUMPS: list[Any] = [pump.PumpPython] if compiled.twins is None else [pump.PumpPython, compiled.twins.Pump]
IDS = ["python", "compiled"][: len(PUMPS)]
AGREEMENTS = {
    "plain": None,
    "deflate": DeflateParameters(),
    "deflate without context": DeflateParameters(server_no_context_takeover=True),
}
ABOVE = 20


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self, is_text: bool) -> None:
        self.is_text = is_text
        self.parts: list[Any] = []
        self.is_complete = False

    def write(self, part: str | bytes) -> None:
        """Keep a part."""
        assert part
        assert not self.is_complete
        assert type(part) is (str if self.is_text else bytes)
        self.parts.append(part)

    def end(self) -> None:
        """Note the end."""
        assert not self.is_complete
        self.is_complete = True

    def read(self, size: int | None, timeout: float | None) -> str | bytes:
        """Return everything."""
        assert self.is_complete
        return ("" if self.is_text else b"").join(self.parts)

    def chunk(self) -> str | bytes:
        """Fail: the tests read everything at once."""
        raise NotImplementedError

    def chunks(self, owner: object) -> Any:
        """Fail: the tests read everything at once."""
        raise NotImplementedError

    def close(self) -> None:
        """Fail: the tests close nothing."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Do nothing."""


def receiving(
    agreed: DeflateParameters | None = None, *, above: int | None = ABOVE, limit: int | None = None
) -> Receiver:
    """Return a receiver with streams, or with `above=None` one without."""
    streaming = None if above is None else Streaming(above, limit, Kept)
    return Receiver(limit, None if agreed is None else Inflater(agreed), streaming=streaming)


def content(events: Iterable[Event]) -> list[tuple[type[Event], str | bytes]]:
    """Return the class and content of each message and ping; of a stream, those of a complete message."""
    found: list[tuple[type[Event], str | bytes]] = []
    for event in events:
        if isinstance(event, Stream):
            found.append((Text if event.is_text else Binary, event.read()))
        elif isinstance(event, Text):
            found.append((Text, event.text))
        elif isinstance(event, (Binary, Ping)):
            found.append((type(event), event.data))
    return found


MESSAGES = st.lists(
    st.one_of(st.text(max_size=60), st.binary(max_size=60), st.just("é" * 3000), st.just(bytes(40_000))),
    max_size=5,
)


@st.composite
def sent(draw: st.DrawFn, agreed: DeflateParameters | None) -> tuple[list[str | bytes], list[bytes]]:
    """Draw messages, and the bytes of a server that sends them, fragmented and cut, with pings."""
    messages = draw(MESSAGES)
    deflater = None if agreed is None else Deflater(mirrored(agreed), Deflate())
    frames: list[bytes] = []
    for message in messages:
        opcode = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
        payload = message.encode() if isinstance(message, str) else message
        is_compressed = deflater is not None and draw(st.booleans())
        if deflater is not None and is_compressed:
            payload = deflater.compress(payload)
        places = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        ends = [*places, len(payload)]
        parts = [payload[start:end] for start, end in zip([0, *places], ends, strict=True)]
        for each in fragments(opcode, parts, rsv=4 if is_compressed else 0):
            frames += [each, frame(Opcode.PING, b"p")] if draw(st.booleans()) else [each]
    data = b"".join(frames)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return messages, [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("twin", PUMPS, ids=IDS)
@pytest.mark.parametrize("agreed", AGREEMENTS.values(), ids=AGREEMENTS.keys())
class TestAnySplit:
    @given(data=st.data())
    @settings(max_examples=25)
    def test_the_content_is_that_of_complete_messages(
        self, twin: Any, agreed: DeflateParameters | None, data: st.DataObject
    ) -> None:
        messages, chunks = data.draw(sent(agreed))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pump, "_Pump", twin)
            streaming, whole = receiving(agreed), receiving(agreed, above=None)
            events = [event for chunk in chunks for event in streaming.receive(chunk)]
            others = [event for chunk in chunks for event in whole.receive(chunk)]
        assert streaming.failure is whole.failure is None
        kinds = [(Text if isinstance(message, str) else Binary, message) for message in messages]
        assert [one for one in content(events) if one[0] is not Ping] == kinds
        assert len(events) == len(others)
        for event in events:
            [(_, message)] = content([event])
            size = len(message.encode() if isinstance(message, str) else message)
            assert isinstance(event, Stream) is (size > ABOVE)

    @given(data=st.data())
    @settings(max_examples=25)
    def test_what_follows_is_as_before(
        self, twin: Any, agreed: DeflateParameters | None, data: st.DataObject
    ) -> None:
        """Bytes that were not meant for it, too, end a receiver with streams as they end any other."""
        _, chunks = data.draw(sent(agreed))
        chunks.append(data.draw(st.binary(max_size=40)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pump, "_Pump", twin)
            streaming, whole = receiving(agreed), receiving(agreed, above=None)
            for one in (streaming, whole):
                for chunk in chunks:
                    one.receive(chunk)
        failures = [one.failure and (type(one.failure), str(one.failure)) for one in (streaming, whole)]
        assert failures[0] == failures[1]
        assert streaming.close_received == whole.close_received


@pytest.mark.parametrize("size", [*SIZES, ABOVE, ABOVE + 1, 32 * 1024, 300_000])
def test_exactly_the_messages_above_the_limit_are_streams(size: int) -> None:
    event, ping = receiving().receive(frame(Opcode.BINARY, bytes(size)) + frame(Opcode.PING))
    assert isinstance(event, Stream if size > ABOVE else Binary)
    assert isinstance(ping, Ping)


def test_a_stream_begins_with_the_head_of_a_frame_that_is_too_large_to_be_kept() -> None:
    one = receiving(above=1 << 20)
    (event,) = one.receive(frame(Opcode.BINARY, bytes(2 << 20))[:10])
    assert isinstance(event, Stream)
    assert not one.pump.is_inside
    assert one.receive(b"abc") == []
    kept: Any = event._source
    assert kept.parts == [b"abc"]


def test_a_stream_begins_with_the_fragment_that_makes_it_too_large() -> None:
    one = receiving()
    parts = [b"a" * 15 + "é".encode()[:1], "é".encode()[1:] + b"b" * 9, b"c"]
    first, second, third = fragments(Opcode.TEXT, parts)
    assert one.receive(first) == []
    (event,) = one.receive(second)
    assert isinstance(event, Stream)
    kept: Any = event._source
    assert "".join(kept.parts) == "a" * 15 + "é" + "b" * 9
    assert not kept.is_complete
    assert one.receive(third) == []
    assert kept.is_complete


@pytest.mark.parametrize("agreed", AGREEMENTS.values(), ids=AGREEMENTS.keys())
@pytest.mark.parametrize("size", [1000, 1001, 5000])
def test_a_stream_has_a_limit_of_its_own(agreed: DeflateParameters | None, size: int) -> None:
    one = receiving(agreed, limit=1000)
    if agreed is None:
        data = frame(Opcode.BINARY, bytes(size))
    else:
        data = frame(Opcode.BINARY, Deflater(mirrored(agreed), Deflate()).compress(bytes(size)), rsv=4)
    one.receive(data)
    assert (one.failure is None) is (size <= 1000)
    if one.failure is not None:
        assert one.failure.close_code == 1009


@pytest.mark.parametrize("invalid", [b"\xff", b"\xed\xa0\x80", "é".encode()[:1]])
@pytest.mark.parametrize("agreed", AGREEMENTS.values(), ids=AGREEMENTS.keys())
def test_a_text_that_is_not_utf_8_ends_with_1007(agreed: DeflateParameters | None, invalid: bytes) -> None:
    one, payload = receiving(agreed), b"x" * 100 + invalid
    if agreed is not None:
        payload = Deflater(mirrored(agreed), Deflate()).compress(payload)
    (event,) = one.receive(frame(Opcode.TEXT, payload, rsv=0 if agreed is None else 4))
    assert one.failure is not None
    assert one.failure.close_code == 1007
    kept: Any = event._source  # type: ignore[attr-defined]
    assert not kept.is_complete


def test_a_bomb_is_decompressed_in_pieces() -> None:
    """16 KiB, which is what a connection reads at a time, may become 16 MiB."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(16 << 20)) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    assert len(bomb) < 17 << 10
    (event,) = receiving(DeflateParameters(), above=1 << 20).receive(frame(Opcode.BINARY, bomb, rsv=4))
    kept: Any = event._source  # type: ignore[attr-defined]
    assert max(map(len, kept.parts[1:])) <= RATIO * receiver.PIECE_BYTES
    assert sum(map(len, kept.parts)) == 16 << 20
    assert kept.is_complete


def test_small_compressed_messages_stay_on_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Receiver, "_begin", None)
    deflater = Deflater(DeflateParameters(), Deflate())
    one = receiving(DeflateParameters(), above=1 << 20)
    messages = [b"x" * size for size in range(0, 1000, 10)]
    data = b"".join(frame(Opcode.BINARY, deflater.compress(message), rsv=4) for message in messages)
    assert [event.data for event in one.receive(data)] == messages  # type: ignore[attr-defined]
