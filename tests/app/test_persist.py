"""Apps reconnect to servers that restart, refuse, or want a fresh token."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from lochws import Backoff, Threads, WebSocketApp, events
from lochws import testing as t
from lochws.persist import USE_BACKOFF
from lochws.testing import LogEvents, StartServer, VirtualClock

from ..faults.registry import fault
from ..support.peer import CLOSE, TEXT, Link, Request, StartPeer
from ..support.scripts import answer_close, dropping, in_turn, polite, refusing
from ..support.seen import PATIENCE, Noting

#: Waits that a test can wait for.
QUICK = Backoff(0, 0.01, stable_after=0)
#: Waits that the virtual clock passes.
USUAL_WAITS = Backoff()
Run = Callable[..., "list[str]"]
CYCLE = ["connecting", "connected", "ready", "disconnected", "back_off"]


class TestApps:
    """A WebSocketApp reconnects after everything except what its user asked for."""

    @pytest.fixture
    def run(self, ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock) -> Run:
        """Run through some back-offs with a server of that script, and return the names of the events."""

        def run(script: list[t.Step], cycles: int, policy: Backoff = USUAL_WAITS) -> list[str]:
            log = ws_events(WebSocketApp(ws_server(script).url))
            log.app.start(poll=0, ping_rate=0, persist=policy)
            log.wait_for(events.BackOff, count=cycles, timeout=cycles * policy.max_wait)
            return [event.name for event in log.events]

        return run

    @pytest.mark.parametrize(("step", "event"), [(t.fin(), []), (t.close(), ["closing"])], ids=repr)
    def test_after_a_lost_connection_and_a_clean_close_by_the_server(
        self, run: Run, step: t.Step, event: list[str]
    ) -> None:
        assert run([t.accept(), step], 3) == [*CYCLE[:3], *event, *CYCLE[3:]] * 3

    def test_after_a_refusal(self, run: Run) -> None:
        cycle = ["connecting", "connected", "rejected", "disconnected", "back_off"]
        assert run([t.upgrade(503)], 2) == cycle * 2

    def test_after_a_failed_attempt(
        self, ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock
    ) -> None:
        server = ws_server()
        server.close()
        log = ws_events(WebSocketApp(server.url))
        log.app.start()
        log.wait_for(events.BackOff, count=2, timeout=60)
        assert [event.name for event in log.events] == ["connecting", "connect_fail", "back_off"] * 2

    def test_by_default_it_persists_and_on_request_it_does_not(
        self, ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept(), t.fin()])
        log = ws_events(WebSocketApp(server.url))
        log.app.start()
        log.wait_for(events.Connecting, count=2, timeout=60)
        once = Noting(server.url)
        last = once.run_forever(poll=0, persist=False)
        assert once.names() == CYCLE[:-1]
        assert last is once.events[-1]

    @fault("program", "No descriptor is left (EMFILE)")
    def test_an_attempt_without_a_free_descriptor_fails_like_any_other(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none_left(*_: object, **__: object) -> None:
            monkeypatch.undo()
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("lochws.transport.connect.connect_tcp", none_left)
        app = Noting(start_peer(dropping).url)
        app.start(poll=0, persist=QUICK)
        app.wait_for("back_off", 2)
        assert app.stop(PATIENCE)
        assert app.names()[:5] == ["connecting", "connect_fail", "back_off", *CYCLE[:2]]
        assert len({event.url for event in app.all("connecting")}) == 1
        failed = app.all("connect_fail")[0]
        assert "Too many open files" in failed.reason
        assert f"raise the limit ({os.sysconf('SC_OPEN_MAX')}, `ulimit -n`)" in failed.advice

    def test_a_refusal_with_401_gets_a_fresh_token_next_time(self, start_peer: StartPeer) -> None:
        tokens = iter(["old", "new"])

        def script(link: Link) -> None:
            request = link.read_request()
            if request.headers["authorization"] != "Bearer new":
                link.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                return
            link.accept(request=request)
            answer_close(link)

        app = Noting(
            start_peer(script).url, headers=lambda: {"Authorization": f"Bearer {next(tokens)}"}
        )
        app.start(poll=0, persist=QUICK)
        assert app.wait_ready(PATIENCE)
        assert app.stop(PATIENCE)
        assert app.names() == [
            "connecting", "connected", "rejected", "disconnected", "back_off",
            "connecting", "connected", "ready", "closed", "disconnected",
        ]

    def test_url_and_subprotocols_as_functions_are_asked_for_each_attempt(
        self, start_peer: StartPeer
    ) -> None:
        requests: list[Request] = []
        peer = start_peer(lambda link: (requests.append(link.accept()), link.finish()))
        paths, offers = iter("abc"), iter(["one", "two", "three"])
        app = Noting(lambda: f"{peer.url}{next(paths)}", protocols=lambda: [next(offers)])
        last = app.run_forever(persist=Backoff(0, 0, max_attempts=3))
        assert last.name == "disconnected"
        seen = [(request.line, request.headers["sec-websocket-protocol"]) for request in requests]
        assert seen == [
            ("GET /a HTTP/1.1", "one"), ("GET /b HTTP/1.1", "two"), ("GET /c HTTP/1.1", "three"),
        ]
        assert [event.url for event in app.all("connecting")] == [f"{peer.url}{path}" for path in "abc"]

    @fault("program", "A function for headers or URL raises")
    @pytest.mark.parametrize("option", ["url", "headers", "protocols"])
    def test_a_function_that_raises_is_a_failed_attempt_and_asked_again(
        self, option: str, start_peer: StartPeer
    ) -> None:
        peer = start_peer(polite)
        values = {"url": peer.url, "headers": {"X-Token": "1"}, "protocols": []}
        answers = iter([ZeroDivisionError("no token"), values[option]])

        def function() -> Any:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        app = Noting(**{"url": peer.url, option: function})
        app.start(persist=QUICK)
        assert app.wait_ready(PATIENCE)
        assert app.stop(PATIENCE)
        (failed,) = app.all("connect_fail")
        assert failed.phase == "prepare"
        assert "no token" in failed.reason

    @fault("program", "The server accepts and drops again and again")
    def test_accept_then_drop_makes_the_waits_grow(
        self, ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock
    ) -> None:
        """A server that accepts and then drops counts as a failure (contract Q42)."""
        log = ws_events(WebSocketApp(ws_server([t.accept(), t.fin()]).url))
        log.app.start(poll=0, persist=Backoff(0, 600, factor=2, stable_after=10, max_attempts=12))
        log.wait_for(events.Disconnected, count=12, timeout=12 * 600)
        assert log.app.wait_closed(PATIENCE)
        # Eleven waits and then no more: every one of these connections counted as a failure.
        log.assert_exhausted()
        delays = [event.delay for event in log.events if isinstance(event, events.BackOff)]
        assert len(delays) == 11
        assert all(delay <= min(600, 2 ** number) for number, delay in enumerate(delays, 1))
        assert max(delays) > 16  # not all of them drawn from the beginning of the range

    @pytest.mark.parametrize(("lasts", "goes_on"), [(9.9, False), (10.0, True)])
    def test_a_connection_that_lasted_for_stable_after_ends_a_row_of_failures_and_a_shorter_one_does_not(
        self, lasts: float, goes_on: bool, ws_server: StartServer, ws_events: LogEvents,
        ws_clock: VirtualClock,
    ) -> None:
        server = ws_server([t.accept(), t.fin()], [t.accept()])
        log = ws_events(WebSocketApp(server.url))
        log.app.start(poll=0, persist=Backoff(30, 30, stable_after=10, max_attempts=2))
        log.wait_for(events.Ready)
        log.wait_for(events.Ready, timeout=30)
        ws_clock.advance(lasts)
        server.do(t.fin())
        log.wait_for(events.Disconnected)
        ws_clock.advance(30)
        if goes_on:
            log.wait_for(events.Ready)
        else:
            assert log.app.is_closed

    def test_giving_up_ends_the_app_with_the_last_event(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(refusing("401 Who")).url)
        last = app.run_forever(
            persist=Backoff(0, 0, retry=lambda outcome: None if outcome.name == "rejected" else USE_BACKOFF)
        )
        assert app.names() == ["connecting", "connected", "rejected", "disconnected"]
        assert last is app.events[-1]
        assert app.is_closed

    def test_a_fatal_close_code_stops_the_app_without_asking_the_hook(self, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(CLOSE, (4401).to_bytes(2, "big") + b"bad token")
            answer_close(link)

        asked: list[events.Event] = []
        app = Noting(start_peer(script).url)
        policy = Backoff(0, 0, fatal_codes={4401}, retry=lambda outcome: asked.append(outcome) or 0)
        last = app.run_forever(ping_rate=0, persist=policy)
        assert (app.names().count("connecting"), asked) == (1, [])
        assert last is app.events[-1]
        assert last.fatal
        assert str(last) == (
            'the server closed the connection: 4401 "bad token"; '
            "this is fatal, so there will be no further attempt"
        )

    def test_a_fatal_status_stops_the_app_and_other_refusals_do_not(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(in_turn(refusing("503 Busy"), refusing("401 Who"))).url)
        last = app.run_forever(persist=Backoff(0, 0, fatal_statuses={401, 403}))
        assert [event.fatal for event in app.all("rejected")] == [False, True]
        assert [event.fatal for event in app.all("disconnected")] == [False, True]
        assert last is app.events[-1]

    def test_a_handler_may_reconnect_after_a_fatal_end(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(in_turn(refusing("401 Who"), polite)).url)
        app.on("disconnected")(lambda event: app.reconnect() if event.fatal else None)
        app.start(persist=Backoff(1000, 1000, fatal_statuses={401}))
        assert app.wait_ready(PATIENCE)
        assert app.stop(PATIENCE)

    def test_an_app_without_persistence_has_no_fatal_ends(self, start_peer: StartPeer) -> None:
        last = Noting(start_peer(refusing("401 Who")).url).run_forever(persist=False)
        assert not last.fatal

    @pytest.mark.parametrize(("lasts", "most"), [(9.9, 1.36), (10.0, 0.1)])
    def test_after_a_clean_end_of_a_stable_connection_an_app_reconnects_immediately(
        self, lasts: float, most: float, ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock,
    ) -> None:
        server = ws_server([t.accept()], [t.accept()])
        log = ws_events(WebSocketApp(server.url))
        log.app.start(poll=0)
        log.wait_for(events.Ready)
        ws_clock.advance(lasts)
        server.do(t.close(1012))
        delay = log.wait_for(events.BackOff).delay
        assert delay <= most
        log.wait_for(events.Ready, timeout=most)

    def test_apps_that_share_threads_spread_their_return_after_a_clean_end(
        self, ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock
    ) -> None:
        threads = Threads()
        server = ws_server([t.accept(), t.wait_for("go"), t.close(1012)])
        logs = [ws_events(WebSocketApp(server.url, threads=threads)) for _ in range(20)]
        for log in logs:
            log.app.start(poll=0)
        for log in logs:
            log.wait_for(events.Ready)
        ws_clock.advance(10)
        for log in logs:
            log.app.send_text("go")
        delays = [log.wait_for(events.BackOff).delay for log in logs]
        assert min(delays) >= 0.1
        assert max(delays) > 0.2

    def test_the_hook_is_told_close_codes(self, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(CLOSE, b"\x03\xf0policy")
            assert link.read_frame() == (CLOSE, b"\x03\xf0policy")

        codes: list[Any] = []

        def retry(outcome: Any) -> None:
            codes.append((outcome.received_code, outcome.graceful))

        Noting(start_peer(script).url).run_forever(ping_rate=0, persist=Backoff(retry=retry))
        assert codes == [(1008, True)]

    def test_messages_after_a_reconnect_go_to_the_new_connection(self, start_peer: StartPeer) -> None:
        received: list[Any] = []
        peer = start_peer(
            in_turn(dropping, lambda link: (link.accept(), received.extend(answer_close(link))))
        )

        class App(Noting):
            def on_ready(self, event: events.Ready) -> None:
                if len(self.all("ready")) == 2:
                    self.send_text("here I am again")

        app = App(peer.url)
        app.start(persist=QUICK)
        app.wait_for("ready", 2)
        assert app.wait_ready(PATIENCE)
        assert app.stop(PATIENCE)
        assert received == [(TEXT, b"here I am again")]

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    def test_a_hook_that_exits_gives_up_and_a_function_that_exits_is_a_failed_attempt(
        self, error: type[BaseException]
    ) -> None:
        """No thread dies, and nothing waits forever."""
        def leave(*args: Any) -> Any:
            raise error("enough")

        app = Noting("ws://127.0.0.1:1/")
        last = app.run_forever(persist=Backoff(0, 0, retry=leave))
        assert (last.name, last.phase) == ("connect_fail", "tcp")
        app = Noting("ws://127.0.0.1:1/", headers=leave)
        last = app.run_forever(persist=Backoff(0, 0, max_attempts=2))
        assert app.names().count("connect_fail") == 2
        assert (last.phase, last.error.args) == ("prepare", ("enough",))
