"""Fragmenter: the server reads the same message, however it is divided into chunks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.options import Deflate
from lochws.protocol.deflate import DeflateParameters, Deflater
from lochws.protocol.fragmenter import Fragmenter
from lochws.protocol.frames import frame_end
from lochws.protocol.masking import MaskKeys
from lochws.protocol.sender import Sender

from ..connection.test_fragments import Server

KEYS = MaskKeys(bytes)


def deflater(afresh: bool = False) -> Deflater:
    return Deflater(DeflateParameters(client_no_context_takeover=afresh), Deflate())


def frames_of(fragmenter: Fragmenter, chunks: list[str | bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield from fragmenter.add(chunk)
    yield from fragmenter.end()


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(
    messages=st.lists(st.one_of(st.binary(max_size=400), st.text(max_size=200)), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 1000), max_size=6),
    limit=st.one_of(st.integers(1, 50), st.integers(1, 500)),
    compress=st.booleans(),
)
def test_any_chunks_give_the_same_messages_as_whole_ones(
    messages: list[str | bytes], cuts: list[int], limit: int, compress: bool
) -> None:
    server, shared = Server(compress), deflater() if compress else None
    sender = Sender(shared, fragment=7)
    for message in messages:
        is_text = isinstance(message, str)
        data = message.encode() if isinstance(message, str) else message
        fragmenter = Fragmenter(is_text, limit, KEYS, shared)
        for frame in frames_of(fragmenter, [*split(data, cuts)]):
            assert frame_end(frame, 0) == len(frame) <= limit + 14
            server.read(frame)
        assert fragmenter.size == len(data)
        server.read(sender.text(data) if is_text else sender.binary(data))  # the context goes on
    assert server.messages == [each for message in messages for each in (message, message)]


@pytest.mark.parametrize("afresh", [False, True])
def test_an_empty_message_is_one_empty_frame(afresh: bool) -> None:
    assert [*frames_of(Fragmenter(False, 10, KEYS), [])] == [b"\x82\x80\0\0\0\0"]
    assert [*frames_of(Fragmenter(True, 10, KEYS, deflater(afresh)), ["", b""])] == [b"\xc1\x81\0\0\0\0\0"]


def test_the_last_frame_is_never_empty_unless_the_message_was_cut_there() -> None:
    assert [len(frame) - 6 for frame in frames_of(Fragmenter(False, 10, KEYS), [bytes(20)])] == [10, 10]
    fragmenter = Fragmenter(False, 10, KEYS)
    assert not [*fragmenter.add(b"12345")]
    assert fragmenter.has_gathered
    assert fragmenter.cut() == b"\x02\x85\0\0\0\x0012345"
    assert not fragmenter.has_gathered
    assert [*fragmenter.end()] == [b"\x80\x80\0\0\0\0"]


def test_bytes_that_only_look_like_bytes_are_taken() -> None:
    chunks = [bytearray(b"ab"), memoryview(b"cd")]
    assert b"".join(frames_of(Fragmenter(False, 10, KEYS), chunks)).endswith(b"abcd")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ([b"\xff"], "invalid start byte"),
        ([b"\xc3", b"("], "invalid continuation byte"),
        ([b"\xc3", "x"], "invalid continuation byte"),
        ([b"ok", b"\xc3"], "unexpected end of data"),
        ([b"\xed\xa0", b"\x80"], "invalid continuation byte"),
        (["\ud800"], "surrogates not allowed"),
    ],
)
def test_text_that_is_not_utf8_is_refused(chunks: list[str | bytes], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        b"".join(frames_of(Fragmenter(True, 10, KEYS), chunks))


def test_a_chunk_of_another_type_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"send_stream: expected bytes-like chunks \(text=True .*, not str"):
        [*Fragmenter(False, 10, KEYS).add("x")]
    with pytest.raises(TypeError, match="send_stream: expected chunks of str or UTF-8 bytes, not int"):
        [*Fragmenter(True, 10, KEYS).add(7)]  # type: ignore[arg-type]
