"""Packets: any split of a stream gives the same packets, and no server can cause unbounded cost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.handlers.packets import Packets


def length(data: bytes) -> int | None:
    """Return the length of a packet: two bytes that tell it, and the content."""
    return None if len(data) < 2 else 2 + int.from_bytes(data[:2], "big")


def packet(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


@given(st.lists(st.binary(max_size=400), max_size=20), st.lists(st.integers(0, 4000), max_size=20))
def test_any_split_of_a_stream_gives_the_same_packets(contents: list[bytes], cuts: list[int]) -> None:
    wanted = [packet(content) for content in contents]
    stream = b"".join(wanted)
    packets = Packets(length)
    ends = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert [one for start, end in pairwise(ends) for one in packets.feed(stream[start:end])] == wanted


def test_packets_that_were_not_asked_for_are_returned_by_the_next_call() -> None:
    packets = Packets(length)
    assert next(packets.feed(packet(b"a") + packet(b"b"))) == packet(b"a")
    assert list(packets.feed(packet(b"c"))) == [packet(b"b"), packet(b"c")]


def test_text_counts_as_its_utf8_bytes() -> None:
    packets = Packets(lambda data: (data.find(b"\r\n") + 2) or None if b"\r\n" in data else None)
    assert list(packets.feed("INFO ü\r\nPI")) == ["INFO ü\r\n".encode()]
    assert list(packets.feed("NG\r\n")) == [b"PING\r\n"]


def test_a_new_stream_begins_after_clear() -> None:
    packets = Packets(length)
    assert not list(packets.feed(packet(b"abc")[:3]))
    packets.clear()
    assert list(packets.feed(packet(b"x"))) == [packet(b"x")]


@pytest.mark.parametrize(
    ("size", "error", "words"),
    [
        (0, ValueError, "split returned 0: expected 1 to 1000, or None"),
        (-1, ValueError, "split returned -1"),
        (1001, ValueError, "split returned 1001"),
        (True, TypeError, "split returned True: expected the length of a packet"),
        ("1", TypeError, "split returned '1'"),
    ],
)
def test_a_wrong_length_is_refused(size: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        list(Packets(lambda _: size, max_bytes=1000).feed(b"x"))


def test_a_packet_whose_length_never_shows_is_refused_at_64_kib() -> None:
    packets = Packets(lambda _: None)
    assert not list(packets.feed(bytes(65535)))
    with pytest.raises(ValueError, match="cannot be told from its first 65536 bytes"):
        list(packets.feed(b"x"))


def test_the_function_sees_each_packet_a_few_times_however_many_share_a_message() -> None:
    seen: list[int] = []

    def count(data: bytes) -> int | None:
        seen.append(len(data))
        return length(data)

    packets = Packets(count)
    assert len(list(packets.feed(packet(b"abc") * 10_000))) == 10_000
    assert len(seen) == 10_000
    assert max(seen) == 256
    large = packet(bytes(60_000))
    seen.clear()
    assert [one for byte in large for one in packets.feed(bytes([byte]))] == [large]
    assert seen == [1, 2], "not again until the packet is complete"


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="split='x': expected a function of bytes"):
        Packets(cast(Any, "x"))
    with pytest.raises(ValueError, match="max_bytes=0"):
        Packets(length, max_bytes=0)
