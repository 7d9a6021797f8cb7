"""Keepalive: when to ping and when to give up, with a clock that the test moves (contract Q26, Q27)."""

from __future__ import annotations

import itertools

import pytest

from lochws.protocol.keepalive import MAX_OUTSTANDING, Keepalive

START = 1000.0


def started(ping_rate=30.0, ping_limit=60.0):
    keepalive = Keepalive(ping_rate, ping_limit)
    keepalive.start(START)
    return keepalive


class TestPings:
    def test_the_first_is_due_at_the_start(self):
        keepalive = started()
        assert keepalive.next_deadline() == START
        assert keepalive.ping_due(START)

    def test_none_is_due_before_the_start(self):
        keepalive = Keepalive(30, 60)
        assert keepalive.next_deadline() is None
        assert keepalive.ping_due(START) is None
        assert not keepalive.timed_out(START + 1e9)

    def test_the_next_is_due_after_the_rate(self):
        keepalive = started(ping_limit=0)
        keepalive.ping_due(START)
        assert keepalive.next_deadline() == START + 30
        assert keepalive.ping_due(START + 29.999) is None
        assert keepalive.ping_due(START + 30)

    def test_a_late_one_does_not_shift_the_others(self):
        keepalive = started(ping_limit=0)
        keepalive.ping_due(START)
        assert keepalive.ping_due(START + 44)
        assert keepalive.next_deadline() == START + 60

    def test_missed_ones_are_not_made_up_for(self):
        keepalive = started(ping_limit=0)
        assert keepalive.ping_due(START + 3000)
        assert keepalive.ping_due(START + 3000) is None
        assert keepalive.next_deadline() == START + 3030

    @pytest.mark.parametrize("rate", [0.1, 0.3, 1 / 3, 0.7, 1e-3, 7.77])
    def test_the_next_is_always_later_whatever_rounding_does(self, rate):
        keepalive = started(rate, 0)
        now = START
        for _ in range(1000):
            assert keepalive.ping_due(now)
            later = keepalive.next_deadline()
            assert now < later < now + 1.01 * rate
            now = later

    def test_a_rate_of_0_means_none(self):
        keepalive = started(ping_rate=0)
        assert keepalive.ping_due(START + 1e6) is None
        assert keepalive.next_deadline() is None

    def test_each_has_a_payload_of_its_own(self):
        keepalive, other = started(), started()
        payloads = [keepalive.ping_due(START + 30 * n) for n in range(200)]
        payloads += [other.ping_due(START + 30 * n) for n in range(200)]
        assert len(set(payloads)) == 400
        assert max(map(len, payloads)) <= 125

    def test_the_salt_comes_from_the_random_source(self):
        keepalive = Keepalive(30, 60, random=lambda size: b"\xab" * size)
        keepalive.start(START)
        assert keepalive.ping_due(START) == b"abababab-1"


class TestLatency:
    def test_it_is_the_time_between_ping_and_pong(self):
        keepalive = started()
        assert keepalive.latency is None
        payload = keepalive.ping_due(START)
        assert keepalive.pong(payload, START + 0.25) == 0.25
        assert keepalive.latency == 0.25

    def test_a_pong_that_answers_nothing_has_none(self):
        keepalive = started()
        payload = keepalive.ping_due(START)
        assert keepalive.pong(b"unsolicited", START + 1) is None
        assert keepalive.latency is None
        assert keepalive.pong(payload, START + 2) == 2

    def test_a_ping_is_answered_once(self):
        keepalive = started()
        payload = keepalive.ping_due(START)
        keepalive.pong(payload, START + 1)
        assert keepalive.pong(payload, START + 2) is None
        assert keepalive.latency == 1

    def test_a_pong_answers_older_pings_too(self):
        keepalive = started()
        first, second, third = (keepalive.ping_due(START + 30 * n) for n in range(3))
        assert keepalive.pong(second, START + 61) == 31
        assert keepalive.pong(first, START + 62) is None
        assert keepalive.pong(third, START + 63) == 3

    def test_a_users_ping_is_measured_too(self):
        keepalive = started()
        keepalive.sent(b"mine", START + 5)
        assert keepalive.pong(b"mine", START + 7) == 2

    def test_of_pings_with_the_same_payload_the_newest_counts(self):
        keepalive = started()
        keepalive.sent(b"", START + 1)
        keepalive.sent(b"other", START + 2)
        keepalive.sent(b"", START + 3)
        assert keepalive.pong(b"", START + 4) == 1
        assert keepalive.pong(b"other", START + 5) is None

    def test_only_so_many_are_remembered(self):
        keepalive = started()
        for n in range(MAX_OUTSTANDING + 1):
            keepalive.sent(b"%d" % n, START + n)
        assert keepalive.pong(b"0", START + 100) is None
        assert keepalive.pong(b"1", START + 100) == 99


class TestTimeout:
    def test_silence_after_a_ping_is_one(self):
        keepalive = started(ping_limit=20)
        keepalive.ping_due(START)
        assert keepalive.next_deadline() == START + 20
        assert not keepalive.timed_out(START + 19.999)
        assert keepalive.timed_out(START + 20)

    def test_it_counts_from_the_first_ping_that_nothing_followed(self):
        keepalive = started(ping_rate=10, ping_limit=25)
        for now in (0, 10, 20):
            keepalive.ping_due(START + now)
        assert keepalive.timed_out(START + 25)

    def test_any_byte_is_a_sign_of_life(self):
        keepalive = started(ping_rate=10, ping_limit=25)
        keepalive.ping_due(START)
        keepalive.received(START + 5)
        assert not keepalive.timed_out(START + 25)
        keepalive.ping_due(START + 10)
        assert not keepalive.timed_out(START + 34.9)
        assert keepalive.timed_out(START + 35)

    def test_silence_without_a_ping_is_none(self):
        keepalive = started(ping_rate=0, ping_limit=10)
        assert keepalive.next_deadline() is None
        assert not keepalive.timed_out(START + 1e6)

    def test_a_users_ping_counts_without_automatic_ones(self):
        keepalive = started(ping_rate=0, ping_limit=10)
        keepalive.sent(b"mine", START + 100)
        assert keepalive.next_deadline() == START + 110
        assert keepalive.timed_out(START + 110)

    def test_a_limit_of_0_means_none(self):
        keepalive = started(ping_limit=0)
        keepalive.ping_due(START)
        assert keepalive.next_deadline() == START + 30
        assert not keepalive.timed_out(START + 1e6)

    def test_a_busy_connection_never_times_out(self):
        keepalive = started(ping_rate=1, ping_limit=2)
        for tenth in range(1000):
            now = START + tenth / 10
            keepalive.ping_due(now)
            assert not keepalive.timed_out(now)
            keepalive.received(now)

    def test_there_is_none_while_receiving_is_paused(self):
        keepalive = started(ping_limit=20)
        keepalive.ping_due(START)
        keepalive.pause()
        assert not keepalive.timed_out(START + 1000)
        assert keepalive.next_deadline() == START + 30

    def test_resuming_starts_the_clock_again(self):
        keepalive = started(ping_limit=20)
        keepalive.ping_due(START)
        keepalive.pause()
        keepalive.resume(START + 1000)
        assert not keepalive.timed_out(START + 1019)
        assert keepalive.timed_out(START + 1020)

    def test_resuming_without_a_ping_waits_for_nothing(self):
        keepalive = started(ping_limit=20)
        keepalive.pause()
        keepalive.resume(START + 5)
        assert not keepalive.timed_out(START + 1000)

    def test_pings_go_on_while_paused(self):
        keepalive = started(ping_limit=20)
        keepalive.pause()
        assert keepalive.ping_due(START)
        assert keepalive.ping_due(START + 30)


class TestProbing:
    def test_a_ping_is_due_at_once_and_the_others_as_before(self):
        keepalive = started()
        keepalive.ping_due(START)
        keepalive.probe(START + 7)
        assert keepalive.next_deadline() == START + 7
        assert keepalive.ping_due(START + 7)
        assert keepalive.ping_due(START + 29) is None
        assert keepalive.ping_due(START + 30)

    def test_a_ping_without_an_answer_gets_its_whole_time_again(self):
        keepalive = started(ping_limit=20)
        keepalive.ping_due(START)
        keepalive.probe(START + 1000)
        assert not keepalive.timed_out(START + 1019)
        assert keepalive.timed_out(START + 1020)

    def test_one_that_is_still_under_way_gets_its_whole_time_again(self):
        keepalive = started(30, 60)
        keepalive.ping_due(START)
        keepalive.postpone(START + 60)
        assert not keepalive.timed_out(START + 119)
        assert keepalive.timed_out(START + 120)

    def test_nothing_is_postponed_while_nothing_is_waited_for(self):
        keepalive = started(0, 60)
        keepalive.postpone(START + 60)
        assert not keepalive.timed_out(START + 1e6)

    def test_without_automatic_pings_nothing_is_due(self):
        keepalive = started(ping_rate=0)
        keepalive.probe(START + 7)
        assert keepalive.next_deadline() is None
        assert keepalive.ping_due(START + 7) is None


def test_a_scripted_hour_against_a_peer_that_dies():
    """The peer answers after 0.1 s until minute 30; it is given up two rates after its last ping."""
    keepalive = started(ping_rate=30, ping_limit=60)
    death = START + 1800
    for step in itertools.count():
        now = START + step * 0.5
        if keepalive.timed_out(now):
            break
        payload = keepalive.ping_due(now)
        if payload and now < death:
            keepalive.received(now + 0.1)
            assert keepalive.pong(payload, now + 0.1) == pytest.approx(0.1)
    assert now == death + 60
