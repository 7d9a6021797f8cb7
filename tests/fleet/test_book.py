"""The book of a fleet, its leases and its workers, as a model: any order of messages, deaths and silences."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lochws.fleet.book import Book, Rules, Sources
from lochws.fleet.desk import answer
from lochws.fleet.keeper import CLOSES, DROPS
from lochws.fleet.messages import Failed, Held, Reply, Report

SHARDS = range(6)
LEASE = 10.0


class Table:
    """Leases as distributed keeps them: one for each name, which runs out when it is not renewed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.leases: dict[tuple[int, str], tuple[str, float]] = {}

    def expire(self) -> None:
        self.leases = {name: each for name, each in self.leases.items() if self.now - each[1] <= LEASE}

    async def obtain(self, shards: Collection[int], keeper: str, role: str = "") -> list[int]:
        got = [shard for shard in shards if self.leases.get((shard, role), (keeper, 0))[0] == keeper]
        self.leases.update({(shard, role): (keeper, self.now) for shard in got})
        return got

    def give_up(self, shards: Collection[int], keeper: str, role: str = "") -> list[int]:
        left = [shard for shard in shards if self.leases.get((shard, role), ("", 0))[0] == keeper]
        for shard in left:
            del self.leases[shard, role]
        return left

    def free(self, shards: Collection[int]) -> set[int]:
        return {shard for shard in shards if (shard, "") not in self.leases}


def answered(book: Book, table: Table, report: Report) -> Reply | None:
    """Return the reply to a report, as the desk of the fleet gives it."""
    coroutine = answer(book, table, report, SHARDS, lambda: table.now)  # type: ignore[arg-type]  # like Leases
    try:
        coroutine.send(None)
    except StopIteration as end:
        reply: Reply | None = end.value
        return reply
    raise AssertionError("it waits")


class Worker:
    """A worker, which follows the rules of a keeper. Its connections open and close at once, or later."""

    def __init__(self, name: str, life: int) -> None:
        self.name, self.keeper = name, f"{name}/{life}"
        self.owned: dict[int, int] = {}
        self.coming: dict[int, int] = {}
        self.closing: set[int] = set()
        self.drops_at = self.closes_at = 0.0
        self.number = 0
        self.is_waiting = False

    def look_at_clock(self, now: float) -> None:
        """Do what the guard does."""
        if now >= self.drops_at:
            self.owned, self.coming, self.closing = {}, {}, set()
        elif now >= self.closes_at:
            self.closing = {*self.owned, *self.coming}

    def finish_closing(self) -> None:
        for shard in self.closing:
            self.owned.pop(shard, None)
            self.coming.pop(shard, None)
        self.closing = set()

    def report(self) -> Report:
        self.number += 1
        return Report(
            self.name, self.keeper, self.number, self.name,
            [Held(shard, version, True) for shard, version in self.owned.items()],
            [Held(shard, version, True) for shard, version in self.coming.items()],
            [], [0] * 7, False,
        )

    def apply(self, reply: Reply, sent: float, now: float) -> None:
        if now >= sent + DROPS * LEASE:
            return
        self.closes_at, self.drops_at = sent + CLOSES * LEASE, sent + DROPS * LEASE
        versions = {each.shard: each.version for each in reply.contents}
        for shard in [shard for shard in self.owned if shard not in reply.owned]:
            del self.owned[shard]
            self.closing.discard(shard)
        for shard in [shard for shard in self.coming if shard not in (*reply.owned, *reply.coming)]:
            del self.coming[shard]
            self.closing.discard(shard)
        for shard in reply.owned:
            known = self.coming.pop(shard, self.owned.get(shard, -1))
            if shard in versions or known >= 0:
                self.owned[shard] = versions.get(shard, known)
        for shard in reply.coming:
            if shard in versions or shard in self.coming:
                self.coming[shard] = versions.get(shard, self.coming.get(shard, 0))
        self.closing.update(shard for shard in reply.leave if shard in self.owned or shard in self.coming)


class Fleets(RuleBasedStateMachine):
    """Workers that report, stop, die and return, with messages that take any time."""

    @initialize(overlap=st.booleans(), limited=st.booleans())
    def begin(self, overlap: bool, limited: bool) -> None:
        rules = Rules(
            lease=LEASE, moves_at_once=2, overlap=overlap, limit=40 if limited else None, weights={"b": 2.0}
        )
        self.table = Table()
        self.book = Book(rules, {shard: Sources(0, b"", 10) for shard in SHARDS})
        self.overlap = overlap
        self.lives = 0
        self.workers: dict[str, Worker] = {}
        self.stopped: list[Worker] = []  # not running: they look at the clock as soon as they run again
        self.to_desk: deque[tuple[Worker, float, Report]] = deque()
        self.to_workers: deque[tuple[Worker, float, Reply | None]] = deque()
        for name in "abc":
            self.start(name)
        self.exchange(list("abcabc"), 0.0)

    def running(self) -> list[Worker]:
        return [each for each in self.workers.values() if each not in self.stopped]

    @rule(name=st.sampled_from("abc"))
    def start(self, name: str) -> None:
        if name not in self.workers:
            self.lives += 1
            self.workers[name] = Worker(name, self.lives)

    @rule(name=st.sampled_from("abc"))
    def send(self, name: str) -> None:
        worker = self.workers.get(name)
        if worker and worker not in self.stopped and not worker.is_waiting:
            worker.is_waiting = True
            self.to_desk.append((worker, self.table.now, worker.report()))

    @rule(
        names=st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
        seconds=st.sampled_from([0.0, 1.0, 4.0]),
    )
    def exchange(self, names: list[str], seconds: float) -> None:
        """Let workers report, one after the other, and get the replies at once."""
        for name in names:
            worker = self.workers.get(name)
            if worker and worker not in self.stopped:
                worker.is_waiting = False
                self.ask(worker)
                worker.finish_closing()
            if seconds:
                self.wait(seconds)

    def ask(self, worker: Worker) -> None:
        """Let a worker report, and apply the reply at once."""
        reply = answered(self.book, self.table, worker.report())
        if reply is not None:
            worker.apply(reply, self.table.now, self.table.now)

    @precondition(lambda self: self.to_desk)
    @rule(index=st.integers(0, 5), is_lost=st.booleans())
    def arrive(self, index: int, is_lost: bool) -> None:
        self.to_desk.rotate(-index)
        worker, sent, report = self.to_desk.popleft()
        if is_lost:  # the keeper gives up waiting; the report may still arrive at any time
            worker.is_waiting = False
            self.to_desk.append((worker, sent, report))
            return
        reply = answered(self.book, self.table, report)
        if worker.is_waiting and report.number == worker.number:
            self.to_workers.append((worker, sent, reply))

    @precondition(lambda self: self.to_workers)
    @rule(index=st.integers(0, 5))
    def answer(self, index: int) -> None:
        self.to_workers.rotate(-index)
        worker, sent, reply = self.to_workers.popleft()
        if worker not in self.stopped:
            worker.is_waiting = False
            worker.look_at_clock(self.table.now)
            if reply is not None:
                worker.apply(reply, sent, self.table.now)
        else:
            self.to_workers.append((worker, sent, reply))

    @rule(seconds=st.sampled_from([1.0, 2.0, 6.0, 10.5]))
    def wait(self, seconds: float) -> None:
        self.table.now += seconds
        self.table.expire()
        for worker in self.running():
            worker.look_at_clock(self.table.now)
        self.book.calls(self.table.free(SHARDS), self.table.now)

    @rule(name=st.sampled_from("abc"))
    def close_what_is_closing(self, name: str) -> None:
        if name in self.workers and self.workers[name] not in self.stopped:
            self.workers[name].finish_closing()

    @rule(name=st.sampled_from("abc"), is_noticed=st.booleans())
    def kill(self, name: str, is_noticed: bool) -> None:
        worker = self.workers.pop(name, None)
        if worker is not None:
            if worker in self.stopped:
                self.stopped.remove(worker)
            if is_noticed:
                self.book.gone(name)

    @rule(name=st.sampled_from("abc"))
    def stop_or_go_on(self, name: str) -> None:
        worker = self.workers.get(name)
        if worker in self.stopped:
            self.stopped.remove(worker)
            worker.look_at_clock(self.table.now)
        elif worker is not None:
            self.stopped.append(worker)

    @rule(shard=st.sampled_from(SHARDS), count=st.integers(0, 20))
    def change_sources(self, shard: int, count: int) -> None:
        self.book.replace({shard: (b"", count)})

    @rule(name=st.sampled_from("abc"), is_draining=st.booleans())
    def drain(self, name: str, is_draining: bool) -> None:
        self.book.drain([name], is_draining=is_draining)

    @invariant()
    def never_two_owners(self) -> None:
        if not hasattr(self, "workers"):
            return
        owners = [
            shard for worker in self.workers.values() for shard in worker.owned
            if self.table.now < worker.drops_at
        ]
        assert len(owners) == len(set(owners)), owners
        successors = [
            shard for worker in self.workers.values() for shard in worker.coming
            if self.table.now < worker.drops_at
        ]
        assert len(successors) == len(set(successors)), successors
        assert self.overlap or not successors

    def teardown(self) -> None:
        """In the end, all shards that fit have an owner."""
        if not hasattr(self, "workers"):
            return
        self.stopped.clear()
        self.to_desk.clear()
        self.to_workers.clear()
        self.start("a")
        self.book.drain("abc", is_draining=False)
        for worker in self.workers.values():
            worker.is_waiting = False
        for _ in range(60):
            self.table.now += LEASE / 5
            self.table.expire()
            for worker in self.workers.values():
                worker.look_at_clock(self.table.now)
                worker.finish_closing()
                self.ask(worker)
        owners = [shard for worker in self.workers.values() for shard in worker.owned]
        status = self.book.status(self.table.now)
        assert len(owners) == len(set(owners)) == status.shards - status.unplaced == status.owned
        assert status.moving == 0


TestFleets = Fleets.TestCase
# Shrinking a failure takes minutes, and says little more.
TestFleets.settings = settings(
    max_examples=40, stateful_step_count=50, deadline=None, phases=[Phase.generate]
)


def report(
    name: str, number: int = 1, owned: Collection[Held] = (), failed: Collection[Failed] = ()
) -> Report:
    return Report(name, f"{name}/1", number, name, list(owned), [], list(failed), [0] * 7, False)


def test_messages_survive_the_wire() -> None:
    held, coming, failed = [Held(1, 2, True)], [Held(4, 0, False)], [Failed(1, "s", "e")]
    full = Report("w", "k", 3, "tcp://w", held, coming, failed, [1] * 7, True)
    assert Report.from_wire(full.to_wire()) == full


class TestQuarantine:
    def make(self) -> tuple[Book, Table]:
        return Book(Rules(lease=LEASE, quarantine_for=100.0), {1: Sources(0, b"abc", 2)}), Table()

    def ask(self, book: Book, table: Table, sent: Report) -> Reply:
        reply = answered(book, table, sent)
        assert isinstance(reply, Reply)
        return reply

    def test_it_follows_the_shard_to_its_next_owner(self) -> None:
        book, table = self.make()
        self.ask(book, table, report("a"))
        self.ask(book, table, report("a", 2, [Held(1, 0, True)], [Failed(1, "bad", "it failed")]))
        book.gone("a")
        table.now = 11.0
        table.expire()
        reply = self.ask(book, table, report("b"))
        assert [tuple(each) for each in reply.contents] == [(1, 0, b"abc", ["bad"])]
        (found,) = book.status(11.0).quarantined
        assert (found.source, found.error, found.worker, found.seconds) == ("bad", "it failed", "a", 11.0)

    def test_it_ends_after_its_time(self) -> None:
        book, table = self.make()
        self.ask(book, table, report("a"))
        self.ask(book, table, report("a", 2, [Held(1, 0, True)], [Failed(1, "bad", "it failed")]))
        for number in range(3, 30):
            table.now = 4.0 * (number - 2)
            reply = self.ask(book, table, report("a", number, [Held(1, 0, True)]))
            assert bool(reply.contents) == (table.now > 100)
        assert reply.contents[0].version == 1
        assert reply.contents[0].excluded == []
        assert not book.status(table.now).quarantined

    def test_it_ends_when_it_is_released(self) -> None:
        book, table = self.make()
        self.ask(book, table, report("a", 1, [], [Failed(1, "bad", "it failed")]))
        assert book.release(["other"]) == 0
        assert book.release() == 1
        assert not book.status(0.0).quarantined


def test_a_shard_that_returns_with_other_sources_is_sent_anew() -> None:
    book, table = Book(Rules(lease=LEASE), {1: Sources(0, b"before", 1)}), Table()
    assert answered(book, table, report("a"))
    book.replace({1: (b"", 0)})
    book.replace({1: (b"after", 2)})
    reply = answered(book, table, report("a", 2, [Held(1, 0, True)]))
    assert reply
    assert [each.sources for each in reply.contents] == [b"after"]


def test_a_worker_that_joins_first_does_not_take_everything_if_others_are_expected() -> None:
    book = Book(Rules(lease=LEASE), {shard: Sources(0, b"", 1) for shard in SHARDS}, 0.0, 2, 5.0)
    table = Table()
    replies = [answered(book, table, each) for each in (report("a"), report("b"), report("a", 2))]
    owned = [reply.owned for reply in replies if reply]
    assert owned[0] == []
    assert owned[1]
    assert sorted([*owned[1], *owned[2]]) == list(SHARDS)


def test_workers_may_leave_their_shards_only_to_others_that_could_take_some() -> None:
    rules = Rules(lease=LEASE, weights={"idle": 0.0}, limits={"full": 0}, quarantine_for=100.0)
    book, table = Book(rules, {1: Sources(0, b"", 1)}), Table()
    for name in ("a", "b", "idle", "full"):
        answered(book, table, report(name))
    assert book.has_others(["a"])
    assert book.has_others(["b", "idle"])
    assert not book.has_others(["a", "b"])
    book.drain(["b"], is_draining=True)
    assert not book.has_others(["a"])
    assert book.has_others(["b"])
    book.drain(["b"], is_draining=False)
    book.gone("b")
    assert not book.has_others(["a"])
    book.drain(["b"], is_draining=True)
    assert book.names() == {"a", "b", "idle", "full"}
    book.replace({1: (b"", 0)})
    assert book.has_others(["a"]), "the fleet has no shards that could stay behind"
