"""Staleness: when a server counts as silent, with a clock that the test moves; what counts as life."""

from __future__ import annotations

import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.protocol.deflate import DeflateParameters, Inflater
from lochws.protocol.frames import Opcode
from lochws.protocol.receiver import LARGE_BYTES, Receiver
from lochws.protocol.staleness import Staleness
from lochws.testing.rawframes import frame

START = 1000.0
NEVER = 0.0  # nothing has been heard


def started(limit: float = 90.0) -> Staleness:
    staleness = Staleness(limit)
    staleness.start(START)
    return staleness


class TestSilence:
    def test_without_a_limit_there_is_no_deadline(self) -> None:
        staleness = started(0)
        assert staleness.deadline is None
        assert staleness.silence(NEVER, START + 1e9) is None
        staleness.restart(START + 2e9)
        assert staleness.deadline is None

    def test_nothing_is_due_before_the_start(self) -> None:
        staleness = Staleness(90)
        assert staleness.deadline is None
        assert staleness.silence(NEVER, START + 1e9) is None

    def test_a_server_that_never_sends_is_silent_after_the_limit(self) -> None:
        staleness = started()
        assert staleness.deadline == START + 90
        assert staleness.silence(NEVER, START + 89.9) is None
        assert staleness.silence(NEVER, START + 90) == 90

    def test_a_late_call_reports_the_whole_silence(self) -> None:
        assert started().silence(START + 10, START + 200) == 190

    def test_a_message_moves_the_deadline_only_when_it_passes(self) -> None:
        staleness = started()
        assert staleness.deadline == START + 90
        assert staleness.silence(START + 50, START + 90) is None
        assert staleness.deadline == START + 140
        assert staleness.silence(START + 50, START + 140) == 90

    def test_a_silence_is_reported_once(self) -> None:
        staleness = started()
        assert staleness.silence(START + 5, START + 95) == 90
        for late in range(96, 2000, 7):
            assert staleness.silence(START + 5, START + late) is None

    def test_the_next_silence_is_reported_after_another_message(self) -> None:
        staleness = started()
        assert staleness.silence(NEVER, START + 90) == 90
        heard = START + 100
        assert staleness.silence(heard, staleness.deadline or 0) is None
        assert staleness.deadline == heard + 90
        assert staleness.silence(heard, heard + 90) == 90

    def test_a_pause_of_ours_is_not_the_servers_silence(self) -> None:
        staleness = started()
        staleness.pause()
        assert staleness.deadline is None
        assert staleness.silence(START + 1, START + 5000) is None
        staleness.restart(START + 5000)
        assert staleness.deadline == START + 5090
        assert staleness.silence(START + 1, START + 5089) is None
        assert staleness.silence(START + 1, START + 5090) == 90

    def test_a_pause_after_a_report_causes_no_second_one(self) -> None:
        staleness = started()
        assert staleness.silence(START + 1, START + 91) == 90
        staleness.pause()
        staleness.restart(START + 300)
        assert staleness.silence(START + 1, START + 390) is None

    @given(st.integers(1, 100), st.sets(st.integers(0, 500), min_size=1, max_size=20))
    def test_called_at_its_deadlines_it_reports_exactly_the_gaps_that_are_long_enough(
        self, limit: int, offsets: set[int]
    ) -> None:
        arrivals = [START + offset for offset in sorted(offsets)]
        end = arrivals[-1] + 2 * limit
        staleness, reported = started(limit), []
        while staleness.deadline is not None and staleness.deadline < end:
            now = staleness.deadline
            # What arrives at the very moment is read before the timers run.
            heard = max([NEVER, *(arrival for arrival in arrivals if arrival <= now)])
            if (seconds := staleness.silence(heard, now)) is not None:
                assert seconds == limit
                reported.append(now - seconds)
        assert reported == [one for one, other in pairwise([START, *arrivals, end]) if other > one + limit]


class TestLife:
    """Which reads take part of a message: `Receiver.advanced`, beside the messages themselves."""

    @given(st.lists(st.integers(1, 40), min_size=1), st.booleans())
    def test_pings_and_pongs_inside_a_stuck_message_are_none(self, sizes: list[int], large: bool) -> None:
        receiver = Receiver(None)
        opcode = Opcode.BINARY if large else Opcode.TEXT
        assert receiver.receive(frame(opcode, b"x" * 100, fin=False)) == []
        assert receiver.advanced
        controls = frame(Opcode.PONG, b"salt-1") + frame(Opcode.PING, b"") + frame(Opcode.PONG, b"y" * 125)
        stream = controls * (1 + sum(sizes) // len(controls))
        position = 0
        for size in sizes:
            receiver.receive(stream[position:position + size])
            position += size
            assert not receiver.advanced
        assert receiver.failure is None

    @pytest.mark.parametrize("size", [1, 125, 126, 70_000])
    def test_any_payload_byte_of_an_unfinished_message_is_one(self, size: int) -> None:
        receiver = Receiver(None)
        for opcode in (Opcode.TEXT, Opcode.CONTINUATION, Opcode.CONTINUATION):
            whole = frame(opcode, b"x" * size, fin=False)
            head, payload = whole[:-size], whole[-size:]
            receiver.receive(head)
            receiver.receive(payload[:1])
            assert receiver.advanced
            if payload[1:]:
                receiver.receive(payload[1:])
                assert receiver.advanced

    def test_bytes_of_a_large_message_are_one(self) -> None:
        receiver = Receiver(None)
        whole = frame(Opcode.BINARY, b"x" * (4 * LARGE_BYTES))
        receiver.receive(whole[:LARGE_BYTES])
        assert receiver.advanced
        for position in range(LARGE_BYTES, len(whole), 700):
            got = receiver.receive(whole[position:position + 700])
            assert receiver.advanced == (not got) == (position + 700 < len(whole))

    def test_a_whole_message_leaves_none_behind(self) -> None:
        receiver = Receiver(None)
        receiver.receive(frame(Opcode.TEXT, b"abc", fin=False))
        (text,) = receiver.receive(frame(Opcode.CONTINUATION, b"def"))
        assert text.name == "text"
        assert not receiver.advanced
        receiver.receive(frame(Opcode.TEXT, b"abc"))
        assert not receiver.advanced

    def test_a_message_that_begins_behind_a_whole_one_is_not_counted_again_by_the_next_pong(self) -> None:
        receiver = Receiver(None)
        receiver.receive(frame(Opcode.TEXT, b"abc") + frame(Opcode.TEXT, b"def", fin=False))
        assert receiver.advanced
        receiver.receive(frame(Opcode.PONG, b"1"))
        assert not receiver.advanced

    def test_a_compressed_message_counts_by_what_arrives(self) -> None:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        payload = (deflater.compress(b"x" * 100_000) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        receiver = Receiver(None, Inflater(DeflateParameters()))
        whole = frame(Opcode.TEXT, payload, rsv=4)
        receiver.receive(whole[:-1])
        assert receiver.advanced
        (text,) = receiver.receive(whole[-1:])
        assert text.name == "text"
