"""The inbox: events wait in order, and the thread that posts hears when few are left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lochws.engine.inbox import BATCHES_PER_DELIVERY, SHORT, Inbox
from lochws.engine.reader import Reader


@pytest.fixture
def reader() -> Iterator[Reader]:
    """A reader whose thread is not started: the tests do its work."""
    reader = Reader("reader", lambda: None)
    yield reader
    reader.loop.close()


def test_items_are_handled_in_order_each_batch_before_what_comes_after_it() -> None:
    seen: list[object] = []
    inbox = Inbox(seen.extend, lambda _: None)
    inbox.post(["a", "b"], after=lambda: seen.append("after b"))
    inbox.post([], after=lambda: seen.append("nothing"))
    inbox.post(["c"])
    assert not inbox.deliver()
    assert seen == ["a", "b", "after b", "nothing", "c"]


@pytest.mark.parametrize("count", [SHORT - 1, SHORT, SHORT + 1, 3 * SHORT])
def test_however_many_batches_wait_they_keep_their_order(count: int) -> None:
    seen: list[int] = []
    inbox = Inbox(seen.extend, lambda _: None)
    for number in range(count):
        inbox.post([number], cost=1)
    for number in range(count):
        assert inbox.has_backlog
        assert inbox.deliver(1)
        assert inbox.backlog == count - 1
        inbox.post([count + number], cost=1)
        assert seen[-1] == number
    while inbox.deliver():
        assert inbox.has_backlog
    assert seen == list(range(2 * count))
    assert (inbox.has_backlog, inbox.backlog) == (False, 0)


def test_it_says_once_that_something_waits() -> None:
    notified: list[Inbox] = []
    inbox = Inbox(lambda _: None, notified.append)
    inbox.post(["a"])
    inbox.post(["b"])
    assert notified == [inbox]


def test_its_backlog_is_what_was_posted_and_not_yet_taken() -> None:
    backlogs: list[int] = []
    inbox = Inbox(lambda _: backlogs.append(inbox.backlog), lambda _: None)
    inbox.post(["a"], cost=10)
    inbox.post(["b"], cost=5)
    assert (inbox.backlog, inbox.has_backlog) == (15, True)
    inbox.deliver()
    assert backlogs == [5, 0]
    assert (inbox.backlog, inbox.has_backlog) == (0, False)
    assert inbox.take() is None


def test_it_tells_when_little_waits() -> None:
    told: list[int] = []
    inbox = Inbox(lambda _: None, lambda _: None)
    for _ in range(4):
        inbox.post(["a"], cost=10)
    inbox.call_when_low(20, lambda: told.append(inbox.backlog))
    while inbox.take():
        pass
    assert told == [20]
    inbox.call_when_low(20, lambda: told.append(inbox.backlog))
    assert told == [20, 0]


def test_inboxes_take_turns(reader: Reader) -> None:
    seen: list[str] = []
    full, small = (Inbox(seen.extend, reader.loop.notify) for _ in range(2))
    for _ in range(2 * BATCHES_PER_DELIVERY + 1):
        full.post(["full"])
    small.post(["small"])
    reader._deliver()
    assert seen == ["full"] * (BATCHES_PER_DELIVERY // 2) + ["small"]
    reader._deliver()
    assert seen.count("full") == BATCHES_PER_DELIVERY // 2 + BATCHES_PER_DELIVERY
    while reader.loop.mail:
        reader._deliver()
    assert seen.count("full") == 2 * BATCHES_PER_DELIVERY + 1


def test_of_many_inboxes_each_delivers_one_batch_a_time(reader: Reader) -> None:
    seen: list[int] = []
    inboxes = [Inbox(seen.extend, reader.loop.notify) for _ in range(3 * BATCHES_PER_DELIVERY)]
    for number, inbox in enumerate(inboxes):
        for _ in range(3):
            inbox.post([number])
    once = list(range(len(inboxes)))
    for times in (1, 2, 3):
        reader._deliver()
        assert seen == once * times


def test_nothing_that_is_posted_during_a_delivery_is_left_lying(reader: Reader) -> None:
    seen: list[int] = []
    inbox = Inbox(seen.extend, reader.loop.notify)
    total = 20_000

    def post() -> None:
        for number in range(total):
            inbox.post([number])

    poster = threading.Thread(target=post)
    poster.start()
    while poster.is_alive() or reader.loop.mail:
        reader._deliver()
    assert seen == list(range(total))
