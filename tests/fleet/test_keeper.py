"""The keeper of a worker without a cluster: its clock, and functions of users that fail."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from time import monotonic, time

from lochws import Threads, WebSocketApp
from lochws.fleet.keeper import Keeper, LeaseClock, Orders
from lochws.fleet.messages import Content, Reply, Report
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
    """Answers reports: the keeper owns one shard with these sources, as long as it can be reached."""

    def __init__(self, urls: list[str]) -> None:
        self.content = Content(0, 0, pickle.dumps(urls), [])
        self.is_away = False
        self.reports: list[Report] = []

    async def send(self, report: Report) -> Reply:
        if self.is_away:
            raise OSError("the network is down")
        self.reports.append(report)
        if report.is_leaving:
            return Reply([], [], [0], [], False, False)
        contents = [] if report.owned else [self.content]
        return Reply([0], [], [], contents, False, False)


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
        keeper = Keeper(Orders("test", 30.0, make, str, 10, 4, True, {}), "w", "tcp://w", desk.send)
        keeper.start()
        await until(lambda: len(opened) == 5 and all(app.is_active for app in opened))
        desk.is_away = True
        keeper._closes_at = 0.0  # as if 60 % of the lease had passed
        await until(lambda: all(app.is_closed for app in opened))
        goes_on.set()
        await until(lambda: not keeper._shards)
        assert not opened[5].is_active
        desk.is_away = False
        keeper.ask()
        await until(lambda: len(opened) == 12 and all(app.is_active for app in opened[6:]))
        await keeper.stop()
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
        keeper = Keeper(Orders("test", 30.0, make, str, 10, 4, True, {}), "w", "tcp://w", desk.send)
        keeper.start()
        await until(lambda: len(opened) == 5 and all(app.is_active for app in opened))
        keeper._drops_at = 0.0  # as it is for a process that was stopped
        count = len(desk.reports)
        keeper.ask()
        await until(lambda: len(desk.reports) > count)
        assert all(app.close_called.is_set() for app in opened[:5])
        assert desk.reports[count].owned == []
        await until(lambda: len(opened) >= 10 and all(app.is_active for app in opened[-5:]))
        await keeper.stop()

    with ScriptedServer([accept(), echo()]) as server:
        asyncio.run(run())
