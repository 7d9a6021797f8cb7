"""Pollers tell a loop which of its descriptors are ready: epoll itself, or a selector where there is none."""

from __future__ import annotations

import select
import selectors
from collections.abc import Callable
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from typing import Protocol, TypeAlias

from ..system import syscalls

# Events of epoll.
_IN, _OUT = 1, 4
#: How many sockets select() takes on Windows, which has nothing better. The loop's own is one of them.
SELECT_MOST = 512
#: Bits of epoll by interest.
_BITS = (0, _IN, _OUT, _IN | _OUT)

_Poll: TypeAlias = Callable[[float | None, int], list[tuple[int, int]]]


def mask_of(events: int, wanted: int) -> int:
    """Return which of the wanted EVENT_READ and EVENT_WRITE these events mean; an error means both."""
    return wanted & ((EVENT_READ if events & ~_OUT else 0) | (EVENT_WRITE if events & ~_IN else 0))


class Poller(Protocol):
    """A set of descriptors to wait for. For one thread at a time, except where stated otherwise."""

    def watch(self, descriptor: int, before: int, wanted: int) -> None:
        """Change the events to wait for on a descriptor.

        Args:
            descriptor: the descriptor, which may have been closed already if `before` is not 0.
            before: the events waited for until now: EVENT_READ, EVENT_WRITE, both, or 0.
            wanted: the events to wait for from now on, in the same form.

        Raises:
            OSError, ValueError, KeyError: the descriptor cannot be waited for.
        """

    def poll(self, timeout: float | None, most: int, /) -> list[tuple[int, int]]:
        """Wait until a descriptor is ready. Any thread may call this with a timeout of 0.

        Args:
            timeout: seconds to wait at most, or None for no limit.
            most: the largest number of descriptors to return.

        Returns:
            The descriptors that are ready, with their events, which `mask_of` translates. EVENT_READ alone
            needs no translation.
        """

    def close(self) -> None:
        """Release the poller's own descriptor."""


class EpollPoller:
    """Linux's epoll, called directly, without the objects and calls of the module selectors."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.poll: _Poll = self.epoll.poll if syscalls.wait is None else partial(syscalls.wait, self.epoll)
        self.close = self.epoll.close

    def watch(self, descriptor: int, before: int, wanted: int) -> None:
        """Change what a descriptor is waited for."""
        if not before:
            self.epoll.register(descriptor, _BITS[wanted])
        elif wanted:
            self.epoll.modify(descriptor, _BITS[wanted])
        else:
            try:
                self.epoll.unregister(descriptor)
            except OSError:
                pass  # it was closed, so that epoll has forgotten it


class SelectorPoller:
    """A poller on top of the default selector of the module selectors."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._count = 0
        self._most = SELECT_MOST if isinstance(self._selector, selectors.SelectSelector) else None

    def watch(self, descriptor: int, before: int, wanted: int) -> None:
        """Change what a descriptor is waited for."""
        if not before:
            if self._count == self._most:  # otherwise select() would fail for all of them
                raise ValueError(
                    f"select() waits for at most {self._most} sockets on this system: use several Threads(), "
                    f"each for at most {self._most - 1} connections"
                )
            self._selector.register(descriptor, wanted)
            self._count += 1
        elif wanted:
            self._selector.modify(descriptor, wanted)
        else:
            self._count -= 1
            try:
                self._selector.unregister(descriptor)
            except KeyError:
                pass  # it was removed by a change that failed on a closed descriptor

    def poll(self, timeout: float | None, most: int, /) -> list[tuple[int, int]]:
        """Wait until a descriptor is ready."""
        return [(key.fd, _BITS[mask]) for key, mask in self._selector.select(timeout)]

    def close(self) -> None:
        """Release the poller's own descriptor."""
        self._selector.close()


def make_poller() -> Poller:
    """Return a new poller: epoll if `select` has it (gevent removes it), otherwise a selector.

    Raises:
        OSError: there are no descriptors left.
    """
    return EpollPoller() if hasattr(select, "epoll") else SelectorPoller()
