"""The closing handshake without sockets: facts and times in, an outcome out (RFC 6455 section 7)."""

from __future__ import annotations

import pytest

from lochws.protocol.close import CLIENT, LINGER_SECONDS, NETWORK, SERVER, ClosingHandshake, Outcome

from ..faults.registry import fault

WRONG = ValueError("a broken rule")
UNANSWERED = "closed by the server without answering our Close frame"


@pytest.fixture
def closing():
    return ClosingHandshake(30.0)


def test_nothing_has_begun(closing):
    assert (closing.outcome, closing.deadline, closing.is_begun) == (None, None, False)
    assert closing.time_passed(1e9) is False


class TestOurs:
    def test_the_server_gets_its_time_to_answer(self, closing):
        closing.sent(100.0)
        assert closing.is_begun
        assert closing.deadline == 130.0
        assert closing.time_passed(129.9) is False
        assert closing.outcome is None
        assert closing.time_passed(130.0) is False
        assert closing.outcome == Outcome(
            "the server did not answer our Close frame within 30 s", NETWORK
        )

    def test_saying_it_again_gives_no_more_time(self, closing):
        closing.sent(100.0)
        closing.sent(110.0)
        assert closing.deadline == 130.0

    def test_no_limit_is_no_deadline(self):
        closing = ClosingHandshake(0)
        closing.sent(100.0)
        assert closing.deadline is None
        closing.received(200.0)
        assert closing.deadline == 200.0 + LINGER_SECONDS

    def test_after_the_answer_the_server_ends_the_connection(self, closing):
        closing.sent(100.0)
        closing.received(101.0)
        assert closing.deadline == 101.0 + LINGER_SECONDS
        closing.eof()
        assert closing.outcome == Outcome("closed", CLIENT, graceful=True)

    def test_or_we_do(self, closing):
        closing.sent(100.0)
        closing.received(101.0)
        assert closing.time_passed(101.0 + LINGER_SECONDS) is False
        assert closing.outcome == Outcome("closed", CLIENT, graceful=True)

    def test_a_short_limit_is_a_short_moment(self):
        closing = ClosingHandshake(0.25)
        closing.sent(100.0)
        closing.received(100.0)
        assert closing.deadline == 100.25

    def test_an_end_without_an_answer(self, closing):
        closing.sent(100.0)
        closing.eof()
        assert closing.outcome == Outcome(UNANSWERED, SERVER)

    def test_a_loss_without_an_answer(self, closing):
        closing.sent(100.0)
        closing.lost("reset", WRONG)
        assert closing.outcome == Outcome("reset", NETWORK, error=WRONG)


class TestTheirs:
    def test_it_waits_for_our_answer(self, closing):
        closing.received(100.0)
        assert (closing.outcome, closing.deadline, closing.is_begun) == (None, None, False)
        closing.sent(105.0)
        assert closing.deadline == 105.0 + LINGER_SECONDS
        closing.eof()
        assert closing.outcome == Outcome("closed", SERVER, graceful=True)

    def test_an_end_before_our_answer_waits_for_it(self, closing):
        closing.received(100.0)
        closing.eof()
        assert closing.outcome is None
        closing.sent(105.0)
        assert closing.outcome == Outcome("closed", SERVER, graceful=True)

    @fault("open", "The server closes but keeps TCP open")
    @pytest.mark.parametrize("limit", [30.0, 0])
    def test_a_server_that_keeps_tcp_open_has_closed_gracefully_all_the_same(self, limit):
        closing = ClosingHandshake(limit)
        closing.received(100.0)
        closing.sent(100.0)
        assert closing.time_passed(100.9) is False
        assert closing.outcome is None
        assert closing.time_passed(100.0 + LINGER_SECONDS) is False
        assert closing.outcome == Outcome("closed", SERVER, graceful=True)


class TestOurFrameBehindMessages:
    """The kernel does not take all messages before our Close frame at once."""

    @pytest.mark.parametrize("first", ["ours", "theirs"])
    def test_the_last_second_begins_when_the_kernel_has_taken_it(self, closing, first):
        if first == "theirs":
            closing.received(100.0)
        closing.sent(100.0, taken=False)
        if first == "ours":
            closing.received(100.0)
        for now in (101.0, 102.0, 103.0):
            assert closing.deadline == now
            closing.sent(now, taken=False)
            assert closing.time_passed(now) is False
            assert closing.outcome is None
        closing.sent(103.5)
        assert closing.deadline == 103.5 + LINGER_SECONDS
        closing.time_passed(104.5)
        assert closing.outcome == Outcome("closed", SERVER if first == "theirs" else CLIENT, graceful=True)

    def test_it_gets_no_longer_than_the_server_gets_to_answer(self, closing):
        closing.received(100.0)
        closing.sent(100.0, taken=False)
        for second in range(1, 31):
            closing.time_passed(100.0 + second)
        assert closing.outcome.ended_by == NETWORK
        assert not closing.outcome.graceful

    def test_without_an_answer_the_limit_counts_from_our_request(self, closing):
        closing.sent(100.0, taken=False)
        closing.sent(110.0)
        assert closing.deadline == 130.0


    def test_a_loss_after_both_is_as_good_as_an_end(self, closing):
        closing.received(100.0)
        closing.sent(100.0)
        closing.lost("reset", WRONG)
        assert closing.outcome == Outcome("closed", SERVER, graceful=True)

    def test_a_loss_before_our_answer_is_a_loss(self, closing):
        closing.received(100.0)
        closing.lost("reset")
        assert closing.outcome == Outcome("reset", NETWORK)


class TestBrokenRules:
    def test_our_close_frame_is_owed_and_then_has_a_moment(self, closing):
        closing.failed(WRONG, 100.0)
        assert closing.is_begun
        assert closing.deadline == 100.0 + LINGER_SECONDS
        assert closing.time_passed(100.5) is False
        assert closing.time_passed(101.0) is True  # the handlers have had their time
        assert closing.outcome is None
        closing.sent(101.0)
        assert closing.deadline == 101.0 + LINGER_SECONDS
        assert closing.time_passed(102.0) is False
        assert closing.outcome == Outcome("protocol error: a broken rule", SERVER, error=WRONG)

    @pytest.mark.parametrize("end", ["eof", "lost"])
    def test_however_it_ends_the_rule_is_why(self, closing, end):
        closing.failed(WRONG, 100.0)
        if end == "eof":
            closing.eof()
        else:
            closing.lost("reset", OSError())
        assert closing.outcome == Outcome("protocol error: a broken rule", SERVER, error=WRONG)


def test_an_end_out_of_nothing(closing):
    closing.eof()
    assert closing.outcome == Outcome("connection lost: ended by the server", NETWORK)


def test_the_first_outcome_stays(closing):
    closing.dropped("enough")
    closing.eof()
    closing.lost("reset")
    assert closing.outcome == Outcome("enough", CLIENT)


def test_no_graceful_end_with_our_close_frame_in_the_queue():
    graceful, other = Outcome("closed", CLIENT, graceful=True), Outcome("reset", NETWORK)
    assert graceful.checked(is_taken=True) is graceful
    assert other.checked(is_taken=False) is other
    assert graceful.checked(is_taken=False) == Outcome(
        "closed by the server before it took our Close frame", CLIENT
    )
