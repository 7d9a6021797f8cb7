"""The keeper of a worker without a cluster: its clock, and functions of users that fail."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic, time

import pytest

from lochws import Threads, WebSocketApp
from lochws.fleet.keeper import Keeper, LeaseClock, Orders
from lochws.fleet.messages import Content, Held, Reply, Report
from lochws.testing import ScriptedServer, accept, echo

from ..support.seen import PATIENCE, eventually


def test_the_clock_stands_still_exactly_while_the_leases_may_have_run_out() -> None:
    is_valid = True
    clock = LeaseClock(lambda: is_valid)
    before = monotonic()
    last = clock.monotonic()
    assert before <= last <= monotonic()
    is_valid = False
    wall = clock.wall()
    assert clock.monotonic() == last
    assert (clock.monotonic(), clock.wall()) == (last, wall)
    is_valid = True
    assert last < clock.monotonic() <= monotonic()
    assert wall <= clock.wall() <= time()


def test_what_timers_have_due_waits_for_a_lease_and_a_connection_can_be_dropped_without_one() -> None:
    valid_since = [0.0]
    clock = LeaseClock(lambda: monotonic() >= valid_since[0])
    called = threading.Event()
    with ScriptedServer([accept(), echo()]) as server:
        app = WebSocketApp(server.url, threads=Threads(clock=clock))
        app.start(ping_rate=0)
        assert app.wait_ready(PATIENCE)
        valid_since[0] = resumes = monotonic() + 1.0
        app.call_later(0.01, called.set)
        assert called.wait(PATIENCE)
        assert monotonic() > resumes
        valid_since[0] = monotonic() + 10 * PATIENCE
        app.close()
        app.force_disconnect("the lease has run out")
        app.wait_closed(PATIENCE)


def fail(source: str, threads: Threads) -> WebSocketApp:
    if source == "quit":
        raise SystemExit(3)
    if source == "odd":
        return "no app"  # type: ignore[return-value]
    return WebSocketApp(source, threads=threads)


def test_no_failure_of_a_user_s_function_ends_the_keeper() -> None:
    with ScriptedServer([accept(), echo()]) as server:
        contents = [
            Content(0, 0, pickle.dumps(["quit", "odd", server.url]), []),
            Content(1, 0, b"not a pickle", []),
        ]
        reports: list[Report] = []

        async def send(report: Report) -> Reply:
            reports.append(report)
            held = {each.shard for each in report.owned if each.version == 0}
            missing = [each for each in contents if each.shard not in held]
            return Reply([0, 1], [], [], [] if report.is_leaving else missing, False, False)

        async def run() -> None:
            orders = Orders("test", 30.0, fail, str, 10, 4, True, {})
            keeper = Keeper(orders, "w", "tcp://w", send)
            keeper.start()
            end = monotonic() + PATIENCE
            while not reports or [each.is_up for each in reports[-1].owned] != [True, True]:
                assert monotonic() < end, reports
                keeper.ask()
                await asyncio.sleep(0.02)
            await keeper.stop()

        asyncio.run(run())
    failed = {each.source: (each.shard, each.error) for report in reports for each in report.failed}
    assert failed.keys() == {"quit", "odd", "shard 1"}
    assert failed["quit"] == (0, "SystemExit: 3")
    assert "expected a WebSocketApp or a Feed" in failed["odd"][1]
    assert failed["shard 1"][0] == 1
    assert reports[-1].owned == []
    eventually(lambda: not any(each.name.startswith("lochws-fleet") for each in threading.enumerate()))


class Desk:
    """Answers reports: the keeper owns shards with these sources, as long as the desk can be reached."""

    def __init__(self, *shards: list[str]) -> None:
        self.contents = [Content(number, 0, pickle.dumps(urls), []) for number, urls in enumerate(shards)]
        self.is_away = False
        self.leave: set[int] = set()
        self.reports: list[Report] = []
        self.sent: list[int] = []

    async def send(self, report: Report) -> Reply:
        if self.is_away:
            raise OSError("the network is down")
        self.reports.append(report)
        held = {each.shard: each.version for each in report.owned}
        if report.is_leaving:
            return Reply([], [], list(held), [], False, False)
        contents = [each for each in self.contents if each.shard not in self.leave]
        missing = [each for each in contents if held.get(each.shard) != each.version]
        self.sent += [each.shard for each in missing]
        owned = {*held, *(each.shard for each in contents)}
        return Reply(sorted(owned), [], sorted(self.leave), missing, False, False)

    @asynccontextmanager
    async def keeper(self, make: Callable[[str, Threads], WebSocketApp]) -> AsyncIterator[Keeper]:
        """Start a keeper, and stop it at the end of the block."""
        keeper = Keeper(Orders("test", 30.0, make, str, 10, 4, True, {}), "w", "tcp://w", self.send)
        keeper.start()
        try:
            yield keeper
        finally:
            await keeper.stop()


async def until(condition: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, "the condition did not hold in time"
        await asyncio.sleep(0.02)


def test_apps_close_without_a_lease_even_if_make_app_hangs_and_return_with_the_next_one() -> None:
    opened: list[WebSocketApp] = []
    goes_on = threading.Event()

    def make(source: str, threads: Threads) -> WebSocketApp:
        if source == "hang":
            goes_on.wait()
        app = WebSocketApp(server.url, threads=threads)
        opened.append(app)
        return app

    async def run() -> None:
        desk = Desk([*map(str, range(5)), "hang"])
        async with desk.keeper(make) as keeper:
            await until(lambda: len(opened) == 5 and all(app.is_active for app in opened))
            desk.is_away = True
            keeper._closes_at = 0.0  # as if 60 % of the lease had passed
            await until(lambda: all(app.is_closed for app in opened))
            await until(lambda: not keeper._shards)
            goes_on.set()
            await until(lambda: len(opened) == 6)
            desk.is_away = False
            keeper.ask()
            await until(lambda: len(opened) == 12 and all(app.is_active for app in opened[6:]))
            assert opened[5].counters.connections == 0
        assert not any(app.is_active for app in opened)

    with ScriptedServer([accept(), echo()]) as server:
        asyncio.run(run())
    eventually(lambda: not any(each.name.startswith("lochws-fleet") for each in threading.enumerate()))


def test_after_a_stop_for_longer_than_a_lease_connections_are_cut_before_a_report_is_sent() -> None:
    opened: list[WebSocketApp] = []

    def make(source: str, threads: Threads) -> WebSocketApp:
        opened.append(WebSocketApp(server.url, threads=threads))
        return opened[-1]

    async def run() -> None:
        desk = Desk([*map(str, range(5))])
        async with desk.keeper(make) as keeper:
            await until(lambda: len(opened) == 5 and all(app.is_active for app in opened))
            keeper._drops_at = 0.0  # as it is for a process that was stopped
            count = len(desk.reports)
            keeper.ask()
            await until(lambda: len(desk.reports) > count)
            assert all(app.close_called.is_set() for app in opened[:5])
            assert desk.reports[count].owned == []
            await until(lambda: len(opened) >= 10 and all(app.is_active for app in opened[-5:]))

    with ScriptedServer([accept(), echo()]) as server:
        asyncio.run(run())


def test_while_make_app_hangs_other_shards_close_and_the_log_names_the_source(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lochws.fleet.keeper._SLOW", 0.0)
    monkeypatch.setattr("lochws.fleet.keeper._ROUND", 0.05)
    opened: list[WebSocketApp] = []
    goes_on = threading.Event()

    def make(source: str, threads: Threads) -> WebSocketApp:
        if source == "hang":
            goes_on.wait()
        opened.append(WebSocketApp(server.url, threads=threads))
        return opened[-1]

    async def run() -> None:
        desk = Desk([*map(str, range(5))], ["hang"])
        async with desk.keeper(make) as keeper:
            await until(lambda: len(opened) == 5 and all(app.is_active for app in opened))
            await until(lambda: "'hang': make_app has not returned for " in caplog.text)
            desk.leave.add(0)
            keeper.ask()
            await until(lambda: desk.reports[-1].owned == [Held(1, 0, False)])
            assert all(app.is_closed for app in opened)
            assert desk.sent == [0, 1], "a shard's sources are sent once, however long they take to open"
            goes_on.set()
            await until(lambda: len(opened) == 6 and opened[5].is_active)
            keeper.ask()
            await until(lambda: desk.reports[-1].owned == [Held(1, 0, True)])

    with ScriptedServer([accept(), echo()]) as server:
        asyncio.run(run())


@pytest.mark.parametrize("is_late", [False, True], ids=["in time", "too late"])
def test_an_app_whose_own_close_fails_is_closed_nevertheless(is_late: bool) -> None:
    opened: list[WebSocketApp] = []

    class Stubborn(WebSocketApp):
        def close(self, code: int | None = 1000, reason: str | bytes = "goodbye") -> None:
            raise SystemExit("not now")

    def make(source: str, threads: Threads) -> WebSocketApp:
        opened.append(Stubborn(server.url, threads=threads))
        return opened[-1]

    async def run() -> None:
        desk = Desk(["0", "1"])
        async with desk.keeper(make) as keeper:
            await until(lambda: len(opened) == 2 and all(app.is_active for app in opened))
            if is_late:
                keeper._was_late = True
            else:
                desk.leave.add(0)
            keeper.ask()
            await until(lambda: all(app.is_closed for app in opened[:2]))
            if is_late:
                await until(lambda: len(opened) == 4 and all(app.is_active for app in opened[2:]))
            else:
                await until(lambda: not desk.reports[-1].owned)
        assert not any(app.is_active for app in opened)

    with ScriptedServer([accept(), echo()]) as server:
        asyncio.run(run())


def test_a_source_that_is_removed_is_closed_and_new_ones_open_while_the_others_stay(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lochws.fleet.keeper._ROUND", 0.05)
    opened: dict[str, WebSocketApp] = {}

    def make(source: str, threads: Threads) -> WebSocketApp:
        opened[source] = WebSocketApp(server.url, threads=threads)
        return opened[source]

    async def run() -> None:
        desk = Desk(["a", "b"])
        async with desk.keeper(make) as keeper:
            await until(lambda: len(opened) == 2 and all(app.is_active for app in opened.values()))
            kept = opened["b"]
            desk.contents = [Content(0, 1, pickle.dumps(["b", "c"]), [])]
            keeper.ask()
            await until(lambda: "c" in opened and opened["c"].is_active and opened["a"].is_closed)
            keeper.ask()
            await until(lambda: desk.reports[-1].owned == [Held(0, 1, True)])
            assert opened["b"] is kept
            assert kept.is_active
            await until(lambda: not keeper._shards[0].parting)

    with ScriptedServer([accept(), echo()]) as server:
        asyncio.run(run())


def test_an_event_that_was_held_back_ends_the_connections_even_if_the_leases_are_renewed_late() -> None:
    opened: list[WebSocketApp] = []

    def make(source: str, threads: Threads) -> WebSocketApp:
        opened.append(WebSocketApp(server.url, threads=threads))
        return opened[-1]

    async def run() -> None:
        desk = Desk(["0", "1"])
        async with desk.keeper(make) as keeper:
            await until(lambda: len(opened) == 2 and all(app.is_active for app in opened))
            with keeper._lock:  # so that the guard does not notice
                drops_at, keeper._drops_at = keeper._drops_at, 0.0
                assert not keeper.is_valid()
                keeper._drops_at = drops_at
            keeper.ask()
            await until(lambda: len(opened) == 4 and all(app.is_active for app in opened[2:]))
            assert all(app.is_closed for app in opened[:2])
            assert keeper.is_valid()

    with ScriptedServer([accept(), echo()]) as server:
        asyncio.run(run())
