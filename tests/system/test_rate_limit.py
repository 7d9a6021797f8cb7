"""The rate limit of log lines, without waiting: the clock is set by hand."""

from __future__ import annotations

from lochws.system.rate_limit import RateLimit


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_let_through_and_the_rest_is_suppressed() -> None:
    limit = RateLimit(burst=3, per_second=1, clock=Clock())
    assert [limit.take() for _ in range(5)] == ["", "", "", None, None]


def test_the_next_line_says_how_many_were_suppressed_once() -> None:
    clock = Clock()
    limit = RateLimit(burst=1, per_second=2, clock=clock)
    assert [limit.take() for _ in range(3)] == ["", None, None]
    clock.now = 0.5
    assert limit.take() == " (2 more like this were suppressed)"
    clock.now = 1.0
    assert limit.take() == ""


def test_a_long_silence_saves_up_no_more_than_a_burst() -> None:
    clock = Clock()
    limit = RateLimit(burst=2, per_second=1, clock=clock)
    clock.now = 1000.0
    assert [limit.take() for _ in range(3)] == ["", "", None]
