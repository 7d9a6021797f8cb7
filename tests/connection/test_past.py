"""Ready's account of earlier attempts and connections, with a clock that the test moves."""

from __future__ import annotations

from lochws.connection.past import Opening, Past


def test_the_first_connection_has_nothing_before_it() -> None:
    past = Past()
    past.tried()
    assert past.opened(100.0) == Opening(1, False, None, None)


def test_attempts_are_counted_from_one_connection_to_the_next() -> None:
    past = Past()
    for _ in range(3):
        past.tried()
    assert past.opened(100.0).attempt == 3
    past.ended(110.0, None)
    past.tried()
    past.tried()
    assert past.opened(130.0) == Opening(2, True, 20.0, None)


def test_the_outage_counts_from_the_end_of_the_last_open_connection() -> None:
    past = Past()
    past.tried()
    past.opened(100.0)
    past.ended(110.0, 1_700_000_000.5)
    past.tried()  # which is refused
    past.tried()
    assert past.opened(1000.0) == Opening(2, True, 890.0, 1_700_000_000.5)


def test_a_connection_without_messages_leaves_the_time_of_the_last_message() -> None:
    past = Past()
    past.tried()
    past.opened(100.0)
    past.ended(110.0, 1_700_000_000.5)
    past.tried()
    past.opened(111.0)
    past.ended(112.0, None)
    past.tried()
    assert past.opened(113.0) == Opening(1, True, 1.0, 1_700_000_000.5)
