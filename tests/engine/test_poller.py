"""Pollers: epoll itself and a selector behave alike."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from selectors import EVENT_READ, EVENT_WRITE

import pytest

from lochws.engine.poller import EpollPoller, Poller, SelectorPoller, make_poller, mask_of

TWINS = [SelectorPoller, *([EpollPoller] if hasattr(select, "epoll") else [])]
BOTH = EVENT_READ | EVENT_WRITE


@pytest.fixture(params=TWINS)
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    made: Poller = request.param()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def masks(poller: Poller, wanted: int) -> dict[int, int]:
    return {descriptor: mask_of(events, wanted) for descriptor, events in poller.poll(0, 10)}


class TestAPoller:
    """Both twins."""

    def test_tells_what_a_descriptor_is_ready_for(
        self, poller: Poller, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        near, far = pair
        descriptor = near.fileno()
        assert poller.poll(0.001, 10) == []
        poller.watch(descriptor, 0, EVENT_READ)
        assert poller.poll(0, 10) == []
        far.send(b".")
        assert poller.poll(None, 10) == [(descriptor, EVENT_READ)]
        for before, wanted in ((EVENT_READ, BOTH), (BOTH, EVENT_WRITE), (EVENT_WRITE, EVENT_READ)):
            poller.watch(descriptor, before, wanted)
            assert masks(poller, wanted) == {descriptor: wanted}
        poller.watch(descriptor, EVENT_READ, 0)
        assert poller.poll(0, 10) == []

    @pytest.mark.parametrize("wanted", [EVENT_READ, EVENT_WRITE, BOTH])
    def test_an_end_is_whatever_was_waited_for(
        self, wanted: int, poller: Poller, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        near, far = pair
        poller.watch(near.fileno(), 0, wanted)
        far.close()
        assert masks(poller, wanted) == {near.fileno(): wanted}

    def test_a_closed_descriptor_can_be_given_up_and_is_forgotten(
        self, poller: Poller, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        near, far = pair
        descriptor = near.fileno()
        poller.watch(descriptor, 0, EVENT_WRITE)
        near.close()
        poller.watch(descriptor, EVENT_WRITE, 0)
        assert poller.poll(0, 10) == []
        poller.watch(far.fileno(), 0, EVENT_WRITE)
        assert masks(poller, EVENT_WRITE) == {far.fileno(): EVENT_WRITE}

    def test_what_cannot_be_waited_for_is_refused(self, poller: Poller) -> None:
        with pytest.raises((OSError, ValueError)):
            poller.watch(-1, 0, EVENT_READ)


def test_where_epoll_was_removed_the_selectors_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll", raising=False)
    made = make_poller()
    assert isinstance(made, SelectorPoller)
    made.close()
