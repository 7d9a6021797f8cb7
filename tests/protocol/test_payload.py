"""Large payloads, received straight into memory of their own. Both twins pass the same tests."""

from __future__ import annotations

import pytest

from lochws.protocol import compiled
from lochws.protocol.payload import PayloadPython

TWINS = [PayloadPython] if compiled.twins is None else [PayloadPython, compiled.twins.Payload]


@pytest.fixture(params=TWINS, ids=["python", "compiled"][: len(TWINS)])
def twin(request):
    return request.param


def fill(payload, data, most):
    """Let `data` arrive in rooms of at most that size. Returns how large they were."""
    sizes = []
    while data:
        with payload.room(most) as room:
            sizes.append(len(room))
            part, data = data[: len(room)], data[len(room) :]
            room[: len(part)] = part
        payload.received(len(part))
    return sizes


class TestTwins:
    @pytest.mark.parametrize("reserved", [1, 7, 100, 1000])
    @pytest.mark.parametrize("most", [1, 13, 2000])
    def test_what_came_in_rooms_and_in_writes_is_the_payload(self, twin, reserved, most):
        data = bytes(range(251)) * 2
        payload = twin(len(data), reserved)
        payload.write(data[:5])
        fill(payload, data[5:300], most)
        payload.write(memoryview(data)[300:400])
        payload.write(b"")
        fill(payload, data[400:], most)
        value = payload.getvalue()
        assert type(value) is bytes
        assert value == data

    def test_a_room_is_no_larger_than_was_asked_for_or_is_still_to_come(self, twin):
        assert fill(twin(10, 1000), b"x" * 10, 4) == [4, 4, 2]
        assert fill(twin(10, 1000), b"x" * 10, 400) == [10]

    def test_what_is_reserved_bounds_the_first_room_and_then_it_doubles(self, twin):
        assert fill(twin(100, 8), b"x" * 100, 1000) == [8, 8, 16, 32, 36]

    def test_of_a_room_part_may_be_received(self, twin):
        payload = twin(4, 100)
        with payload.room(4) as room:
            room[:2] = b"ab"
        payload.received(2)
        with payload.room(4) as room:
            assert len(room) == 2
            room[:] = b"cd"
        payload.received(2)
        assert payload.getvalue() == b"abcd"

    def test_half_a_payload_is_none(self, twin):
        payload = twin(4, 100)
        payload.write(b"abc")
        with pytest.raises(ValueError, match=r"^the payload is not complete$"):
            payload.getvalue()

    def test_more_than_the_payload_is_refused(self, twin):
        for first in (b"", b"abc"):
            payload = twin(4, 100)
            payload.write(first)
            with pytest.raises(ValueError, match=r"^write: more than the payload holds$"):
                payload.write(b"abcde"[len(first) :])

    def test_nothing_that_still_sees_the_memory_can_change_what_was_given_away(self, twin):
        payload = twin(4, 100)
        room = payload.room(4)
        room[:] = b"abcd"
        payload.received(4)
        value = payload.getvalue()
        room[:] = b"evil"
        assert value == b"abcd"


@pytest.mark.skipif(compiled.twins is None, reason="built without a compiler")
class TestCompiled:
    @pytest.mark.parametrize("arguments", [(), (1,), ("1", 1), (1, None), (1.5, 1)])
    def test_wrong_arguments_are_refused(self, arguments):
        with pytest.raises(TypeError):
            compiled.twins.Payload(*arguments)

    def test_impossible_numbers_are_refused(self):
        for arguments in ((-1, 1), (1, 0)):
            with pytest.raises(ValueError, match="out of range"):
                compiled.twins.Payload(*arguments)
        payload = compiled.twins.Payload(10, 10)
        with payload.room(3) as room:
            assert len(room) == 3
        for count in (-1, 4):
            with pytest.raises(ValueError, match="more than there was room for"):
                payload.received(count)

    def test_it_does_not_grow_under_a_view(self):
        payload = compiled.twins.Payload(10, 2)
        with payload.room(2), pytest.raises(BufferError):
            payload.write(b"abc")
        payload.write(b"abc")

    def test_what_was_given_away_is_not_written_to_again(self):
        payload = compiled.twins.Payload(2, 2)
        payload.write(b"ab")
        payload.getvalue()
        for use in (payload.getvalue, lambda: payload.room(1), lambda: payload.write(b""),
                    lambda: memoryview(payload)):
            with pytest.raises((ValueError, BufferError)):
                use()
