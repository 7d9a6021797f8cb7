"""Whole frames. Both twins pass the same tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.protocol import compiled
from lochws.protocol.frames import (
    FIN,
    RSV1,
    Opcode,
    build_frame_python,
    frame_length,
    measure_python,
    pack_python,
)
from lochws.protocol.masking import mask_python

from ..support.wire import SIZES

KEY = b"\x37\xfa\x21\x3d"
TWINS = [build_frame_python]
if compiled.twins is not None:
    TWINS.append(compiled.twins.build_frame)


@pytest.fixture(params=TWINS, ids=["python", "compiled"][: len(TWINS)])
def build(request):
    return request.param


class TestTwins:
    def test_the_example_of_the_rfc(self, build):
        assert build(0x81, b"Hello", KEY) == bytes.fromhex("818537fa213d7f9f4d5158")

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize("size", [*SIZES, 7, 8, 9, 15, 16, 17, 200_001])
    def test_any_size_and_kind(self, build, kind, size):
        payload = os.urandom(size)
        built = build(FIN | Opcode.BINARY, kind(payload), KEY)
        head = 2 if size < 126 else 4 if size < 65536 else 10
        assert type(built) is bytes
        assert len(built) == head + 4 + size
        assert built[0] == 0x82
        assert built[1] == 0x80 | (size if head == 2 else 126 if head == 4 else 127)
        assert head == 2 or int.from_bytes(built[2:head], "big") == size
        assert built[head:head + 4] == KEY
        assert mask_python(built[head + 4:], KEY) == payload

    def test_the_first_byte_is_as_given(self, build):
        assert build(FIN | RSV1 | Opcode.TEXT, b"", KEY)[0] == 0xC1
        assert build(FIN | Opcode.CLOSE, b"", KEY)[0] == 0x88

    @given(st.integers(0x81, 0x8F), st.binary(max_size=300), st.binary(min_size=4, max_size=4))
    def test_both_do_the_same(self, first, payload, key):
        assert len({twin(first, payload, key) for twin in TWINS}) == 1


@pytest.mark.skipif(compiled.twins is None, reason="built without a compiler")
@pytest.mark.parametrize(
    "arguments", [(), (1, b""), (1, "", KEY), (1, b"", b"abc"), (1, b"", "abcd"), ("", b"", KEY)]
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(TypeError):
        compiled.twins.build_frame(*arguments)


KEYS = bytes(range(64))
ITEMS = st.lists(
    st.one_of(
        st.text(st.characters(max_codepoint=127), max_size=200),
        st.binary(max_size=200),
        st.tuples(st.binary(min_size=2, max_size=50), st.none()),
    ),
    min_size=1,
    max_size=20,
)
PACKERS = {"python": (pack_python, measure_python)}
if compiled.twins is not None:
    PACKERS["compiled"] = (compiled.twins.pack, compiled.twins.measure)


@pytest.fixture(params=PACKERS)
def pack(request):
    return PACKERS[request.param][0]


@pytest.fixture(params=PACKERS)
def measure(request):
    return PACKERS[request.param][1]


def frame_of(item, key):
    """Return what `pack` should make of an item."""
    if isinstance(item, tuple):
        return item[0]
    first = FIN | (Opcode.TEXT if isinstance(item, str) else Opcode.BINARY)
    return build_frame_python(first, item.encode() if isinstance(item, str) else item, key)


class TestPacking:
    def test_frames_stand_one_behind_the_other_each_with_its_key(self, pack):
        items = ["text", b"binary", (b"ready", "of this"), "", b"", "x" * 126, b"y" * 65536]
        packed, end = pack(items, 0, 1 << 20, KEYS, 8)
        keys = [KEYS[at : at + 4] for at in range(8, 8 + 4 * len(items), 4)]
        assert packed == b"".join(map(frame_of, items, keys))
        assert end == len(items)

    def test_it_begins_where_it_is_told(self, pack):
        assert pack(["a", "b"], 1, 100, KEYS, 0) == (frame_of("b", KEYS[:4]), 2)

    def test_no_more_is_packed_than_the_limit_allows_but_one(self, pack):
        items = ["a" * 94] * 3
        assert pack(items, 0, 200, KEYS, 0)[1] == 2
        assert pack(items, 0, 199, KEYS, 0)[1] == 1
        assert pack(items, 0, 1, KEYS, 0)[1] == 1

    def test_no_more_is_packed_than_there_are_keys(self, pack):
        assert pack(["a"] * 5, 0, 1000, KEYS, len(KEYS) - 8)[1] == 2

    def test_a_frame_that_is_ready_is_not_copied_if_it_goes_alone(self, pack):
        frame = b"ready"
        assert pack([(frame, None)], 0, 100, KEYS, 0)[0] is frame

    @pytest.mark.parametrize(
        ("items", "start", "position"),
        [([], 0, 0), (["a"], 1, 0), (["a"], -1, 0), (["a"], 0, 64), (["a"], 0, -4), (["a"], 0, 2)],
    )
    def test_no_item_and_no_key_are_refused(self, pack, items, start, position):
        with pytest.raises(ValueError, match=r"^pack: no item there, or no key$"):
            pack(items, start, 100, KEYS, position)

    @pytest.mark.parametrize(
        ("item", "error", "words"),
        [("é", ValueError, "a text that is not ASCII"), ("網", ValueError, "a text that is not ASCII"),
         (bytearray(b"a"), TypeError, "an item of type bytearray"), (1, TypeError, "an item of type int"),
         ((b"",), TypeError, "an item of type tuple"), (("a", None), TypeError, "an item of type tuple"),
         (None, TypeError, "an item of type NoneType")],
    )
    def test_what_is_no_item_is_refused(self, pack, item, error, words):
        with pytest.raises(error, match=rf"^pack: {words}$"):
            pack(["a", item], 0, 100, KEYS, 0)

    @given(ITEMS, st.integers(0, 300), st.integers(0, 15), st.integers(0, 19))
    def test_both_pack_the_same_which_is_as_long_as_both_measure(self, items, limit, key, start):
        start %= len(items)
        results = {pack(items, start, limit, KEYS, 4 * key) for pack, _ in PACKERS.values()}
        assert len(results) == 1
        packed, end = results.pop()
        assert {measure(items[:end], start) for _, measure in PACKERS.values()} == {len(packed)}
        assert sum(map(frame_length, items[start:end])) == len(packed)


class TestMeasuring:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("kind", ["text", "binary"])
    def test_a_message_measures_what_its_frame_has(self, pack, measure, kind, size):
        item = "x" * size if kind == "text" else b"x" * size
        assert measure([item], 0) == frame_length(item) == len(pack([item], 0, 0, KEYS, 0)[0])

    def test_what_is_no_item_yet_is_told(self, measure):
        assert measure(["a", (len, (), "b")], 0) == -1
        assert measure([(len, (), "b"), "a"], 1) == 7
        assert measure([], 0) == measure(["a"], 5) == 0

    def test_what_will_never_be_one_is_refused(self, measure):
        with pytest.raises(TypeError):
            measure([1], 0)
        with pytest.raises(ValueError):
            measure(["é"], 0)
        with pytest.raises(ValueError, match=r"^measure: no item there$"):
            measure(["a"], -1)
