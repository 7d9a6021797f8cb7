"""A sequence over a feed: one stream of numbers over several connections."""

from __future__ import annotations

from typing import Any

import pytest

from lochws import Feed, WebSocketApp, events
from lochws.handlers.sequence import Disorder, Gap, Sequence, Snapshot
from lochws.testing import ScriptedServer, accept, fin, send, wait_for_close

from ..support.seen import PATIENCE, eventually, in_thread


def number_of(event: Any) -> int:
    return int(event.text)


class Seen(Feed):
    """A feed that notes the numbers of its messages, and the snapshots that are put in their place."""

    def __init__(self, *urls: str, **options: Any) -> None:
        super().__init__(WebSocketApp, urls, **options)
        self.numbers: list[int | str] = []

    def on_text(self, event: events.Text) -> None:
        self.numbers.append(number_of(event))

    def replace(self, _key: None, snapshot: Snapshot) -> None:
        self.numbers.append(f"snapshot {snapshot.number}")


def sending(*numbers: int, end: Any = wait_for_close) -> list[Any]:
    """Return the script of a server that sends these numbers."""
    return [accept(), *(send(str(number)) for number in numbers), end()]


def test_a_gap_at_a_change_of_the_connection_is_a_gap_and_a_repetition_is_dropped() -> None:
    gaps: list[Gap[None]] = []
    disorders: list[Disorder[None]] = []
    with ScriptedServer(sending(1, 2), sending(2, 3, 5)) as server:
        feed = Seen(server.url)
        sequence = Sequence(feed, number=number_of, on_gap=gaps.append, on_disorder=disorders.append)
        with feed:
            eventually(lambda: feed.numbers == [1, 2])
            feed.renew()
            eventually(lambda: feed.numbers == [1, 2, 3, 5])
            assert [(gap.first, gap.count) for gap in gaps] == [(4, 1)]
            assert [(one.number, one.kind) for one in disorders] == [(2, "duplicate")]
            assert (sequence.last(), sequence.counts.passed) == (5, 4)


def test_a_snapshot_is_loaded_at_the_start_after_a_gap_and_after_an_outage_but_not_at_a_change() -> None:
    numbers = iter([1, 6, 20])
    gaps: list[Gap[None]] = []
    scripts = [sending(1, 2), sending(3, 6, 7), sending(20, 21)]
    with ScriptedServer(*scripts) as server:
        feed = Seen(server.url)
        sequence = Sequence(
            feed, number=number_of, on_gap=gaps.append, resync=lambda _: Snapshot(next(numbers)),
            on_snapshot=feed.replace,
        )
        with feed:
            eventually(lambda: feed.numbers == ["snapshot 1", 2])
            feed.renew()
            eventually(lambda: feed.numbers[2:] == [3, "snapshot 6", 7])
            assert [(gap.first, gap.count) for gap in gaps] == [(4, 2)]
            feed.force_disconnect()
            eventually(lambda: feed.numbers[5:] == ["snapshot 20", 21])
            assert len(gaps) == 1
            assert sequence.counts.snapshots == 3


def test_two_copies_are_one_stream_to_a_sequence() -> None:
    with ScriptedServer(sending(1, 2, 3)) as one, ScriptedServer(sending(1, 2, 3, 4)) as other:
        feed = Seen(one.url, other.url, copies=2, key=number_of)
        sequence = Sequence(feed, number=number_of)
        with feed:
            eventually(lambda: feed.numbers == [1, 2, 3, 4])
        assert (sequence.counts.gaps, sequence.counts.duplicates) == (0, 0)


def test_reconnecting_after_a_gap_drops_all_connections() -> None:
    with ScriptedServer(sending(1, 3), sending(4)) as server:
        feed = Seen(server.url)
        Sequence(feed, number=number_of, on_gap="reconnect")
        with feed:
            eventually(lambda: feed.numbers == [1, 3, 4])
            assert feed.last_end is not None
            assert "gap" in str(feed.last_end) or "missing" in str(feed.last_end)


def test_after_leave_and_without_a_connection_everything_may_be_called() -> None:
    feed = Seen("ws://127.0.0.1:1/")
    sequence = Sequence(feed, number=number_of, resync=lambda _: Snapshot(1), on_snapshot=feed.replace)
    sequence.resync()
    sequence.forget()
    sequence.leave()
    with ScriptedServer(sending(1, 1, end=fin)) as server:
        feed = Seen(server.url)
        sequence = Sequence(feed, number=number_of)
        sequence.leave()
        with feed:
            eventually(lambda: feed.numbers == [1, 1])
            thread = in_thread(sequence.leave)
            thread.join(PATIENCE)


@pytest.mark.parametrize(("app", "kind"), [("ws://127.0.0.1:1/", "str"), (Feed, "the class Feed")])
def test_anything_else_is_refused_by_its_type(app: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"expected a lochws.WebSocketApp or a lochws.Feed, not {kind}"):
        Sequence(app, number=number_of)
