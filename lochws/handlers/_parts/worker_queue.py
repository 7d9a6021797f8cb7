"""What waits for a worker: events in chains, one for each key, and all of them in their order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Any

from ... import events

#: The key to drop by that is every event's.
OLDEST = object()


class Entry:
    """An event that waits, what the work gets of it, and what it costs."""

    __slots__ = ("argument", "cost", "event")

    def __init__(self, event: events.Event, argument: Any) -> None:
        self.event = event
        self.argument = argument
        self.cost = len(getattr(event, "text", "") or getattr(event, "data", b""))


class Chain:
    """The events of one key: at most one of them runs."""

    __slots__ = ("is_running", "key", "waiting")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiting: deque[tuple[int, Entry]] = deque()  # with their numbers in the order of their coming
        self.is_running = False


class Chains:
    """What waits, by key. Every step takes the same time however much that is; for one thread at a time.

    Attributes:
        cost: what all that waits costs.
    """

    def __init__(self) -> None:
        self.cost = 0
        self._chains: dict[Hashable, Chain] = {}  # those of which an event waits or runs
        # These are linked lists: a dict takes longer and longer to find its first if that is always removed.
        self._ready: OrderedDict[Chain, None] = OrderedDict()  # none runs: those to go on, in turn
        self._crowded: OrderedDict[Chain, None] = OrderedDict()  # of which more than one waits
        self._order: OrderedDict[int, Chain] = OrderedDict()  # of each event that waits, oldest first
        self._number = 0

    def __len__(self) -> int:
        return len(self._order)

    def put(self, key: Hashable, entry: Entry) -> None:
        """Append an event to those of its key."""
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = Chain(key)
            self._ready[chain] = None
        self._number += 1
        chain.waiting.append((self._number, entry))
        self._order[self._number] = chain
        self.cost += entry.cost
        if len(chain.waiting) > 1:
            self._crowded[chain] = None

    def next(self) -> Chain | None:
        """The key whose turn it is, of those of which an event waits and none runs."""
        while self._ready:
            chain, _ = self._ready.popitem(last=False)
            if chain.waiting:
                return chain
            del self._chains[chain.key]  # all of its events were dropped
        return None

    def take(self, chain: Chain) -> Entry:
        """Take the first event of a key in order to run it."""
        chain.is_running = True
        return self._remove(chain)

    def release(self, chain: Chain) -> None:
        """What ran of this key does not run any more."""
        chain.is_running = False
        if chain.waiting:
            self._ready[chain] = None
        elif self._chains.get(chain.key) is chain:
            del self._chains[chain.key]

    def drop(self, key: Hashable) -> bool:
        """Drop the oldest event: of all, or of this key, or else of a key of which several wait.

        Returns:
            Whether there was one.
        """
        if key is OLDEST:
            chain = next(iter(self._order.values()), None)
        else:
            chain = self._chains.get(key)
            if chain is None or not chain.waiting:
                chain = next(iter(self._crowded), None)
        if chain is None:
            return False
        self._remove(chain)
        if key is OLDEST and not chain.waiting and not chain.is_running:
            del self._ready[chain], self._chains[chain.key]  # else another comes at once, and keeps its turn
        return True

    def clear(self) -> int:
        """Drop all that waits, and return how many events that were."""
        dropped = len(self)
        running = [chain for chain in self._chains.values() if chain.is_running]
        for chain in running:
            chain.waiting.clear()
        self._chains = {chain.key: chain for chain in running}
        self._ready.clear()
        self._crowded.clear()
        self._order.clear()
        self.cost = 0
        return dropped

    def _remove(self, chain: Chain) -> Entry:
        number, entry = chain.waiting.popleft()
        del self._order[number]
        self.cost -= entry.cost
        if len(chain.waiting) == 1:
            del self._crowded[chain]
        return entry
