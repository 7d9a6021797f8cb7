"""Subscriptions: the order of steps, their answers, and what happens when a step fails."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from lochws import Backoff, WebSocketApp, errors, events
from lochws.handlers._parts.messages import Doubts
from lochws.handlers.subscriptions import Step, StepFailed, Subscriptions
from lochws.testing import ScriptedServer, accept, fin, send, stop_reading, together, wait_for, wait_for_end
from lochws.testing.connection import Step as ServerStep

from ..support.apps import AT_ONCE, NEVER, opened, running
from ..support.seen import PATIENCE, Noting, eventually, in_thread

LOGIN = Step("login", expect={"event": "login", "arg": {"ok": True}}, key="login")
TICKER = Step({"op": "subscribe", "channel": "ticker"}, expect={"event": "subscribed"})
TRADES = Step({"op": "subscribe", "channel": "trades"}, key="trades")
WELCOME = send('{"event": "login", "arg": {"ok": true, "user": 5}, "at": 1}')
SUBSCRIBED = send('{"event": "subscribed"}')

#: Answers the log-in and the first subscription.
ALL_WELL: Sequence[ServerStep] = (
    accept(), wait_for("login"), WELCOME, wait_for(re.compile("ticker")), SUBSCRIBED,
)


class Session:
    """An app with subscriptions, and what has happened to them."""

    def __init__(self, server: ScriptedServer, *steps: Step, **options: Any) -> None:
        self.app = Noting(server.url)
        self.ready: list[events.Ready] = []
        self.failed: list[tuple[Step, StepFailed]] = []
        self.subs = Subscriptions(
            self.app, steps, on_session_ready=self.ready.append,
            on_step_failed=lambda *told: self.failed.append(told), **options,
        )

    @property
    def reasons(self) -> list[str]:
        """Return why the connections ended."""
        return [event.reason for event in self.app.all("disconnected")]


def said(server: ScriptedServer, number: int = 0) -> list[Any]:
    """Return the messages that a connection has received, JSON reduced to the channel."""
    return [
        json.loads(message)["channel"] if isinstance(message, str) and message[0] == "{" else message
        for message in server.connections[number].messages
    ]


def test_each_step_is_sent_once_the_one_before_it_has_been_answered() -> None:
    with ScriptedServer([accept(), wait_for("login")]) as server:
        session = Session(server, LOGIN, TICKER, TRADES)
        with running(session.app):
            server.connection().wait_until(lambda: said(server) == ["login"])
            server.do(send("no JSON"))
            server.do(send(b"\x00"))
            server.do(send('{"event": "login", "arg": {"ok": false}}'))
            server.do(send('["login"]'))
            session.app.wait_for("text", 3)
            assert said(server) == ["login"]
            server.do(WELCOME)
            server.connection().wait_until(lambda: said(server) == ["login", "ticker"])
            assert not session.subs.wait_session_ready(0)
            assert session.ready == []
            server.do(SUBSCRIBED)
            assert session.subs.wait_session_ready(PATIENCE)
            server.connection().wait_until(lambda: said(server) == ["login", "ticker", "trades"])
            eventually(lambda: session.ready == session.app.all("ready"))
            assert session.subs.is_session_ready
        assert not session.subs.is_session_ready
        assert session.failed == []


def test_steps_that_need_not_wait_are_sent_at_once_and_answered_in_any_order() -> None:
    steps = [Step(name, expect={"for": name}, in_turn=name == "a") for name in "abc"]
    with ScriptedServer([accept(), *map(wait_for, "abc")]) as server:
        session = Session(server, *steps)
        with running(session.app):
            server.connection().wait_until(lambda: said(server) == ["a", "b", "c"])
            for name in "ca":
                server.do(send(json.dumps({"for": name})))
            session.app.wait_for("text", 2)
            assert not session.subs.is_session_ready
            server.do(send('{"for": "b"}'))
            assert session.subs.wait_session_ready(PATIENCE)


def test_two_steps_with_the_same_answer_each_wait_for_their_own() -> None:
    steps = [Step(name, expect={"ok": 1}, in_turn=False) for name in "ab"]
    with ScriptedServer([accept(), *map(wait_for, "ab"), send('{"ok": 1}')]) as server:
        session = Session(server, *steps)
        with running(session.app):
            session.app.wait_for("text")
            assert not session.subs.wait_session_ready(0)
            server.do(send('{"ok": 1}'))
            assert session.subs.wait_session_ready(PATIENCE)


def test_without_steps_the_session_is_ready_with_the_connection() -> None:
    with ScriptedServer() as server:
        session = Session(server)
        with opened(session.app):
            assert len(session.ready) == 1


def test_all_steps_are_sent_again_on_each_connection_before_what_a_busy_thread_sends() -> None:
    script = [*ALL_WELL, wait_for("busy"), fin()]
    with ScriptedServer(script, script, script, ALL_WELL) as server:
        session = Session(server, LOGIN, TICKER)
        over, pause = threading.Event(), threading.Event()

        def send_all_the_time() -> None:
            while not over.is_set():
                try:
                    session.app.send_text("busy")
                    pause.wait(0.001)  # one message is enough, and a flood would slow the server down
                except errors.WebSocketUnavailable:
                    continue

        with running(session.app, persist=AT_ONCE):
            busy = in_thread(send_all_the_time)
            try:
                server.connection(3).wait_until(lambda: len(server.connections[3].messages) > 2)
            finally:
                over.set()
                busy.join()
        assert [said(server, number)[:3] for number in range(4)] == [["login", "ticker", "busy"]] * 4
        assert len(session.ready) == 4


def test_sending_is_refused_in_on_ready_and_possible_in_on_session_ready() -> None:
    refused: list[BaseException] = []
    with ScriptedServer(ALL_WELL) as server:
        app = Noting(server.url)
        app.on("ready")(lambda _: app.send_text("too early"))
        app.on("error")(refused.append)
        Subscriptions(app, [LOGIN, TICKER], on_session_ready=lambda _: app.send_text("now"))
        with opened(app):
            server.connection().wait_until(lambda: said(server) == ["login", "ticker", "now"])
    assert [type(error) for error in refused] == [errors.WebSocketUnavailable]


def test_other_handlers_see_the_answers_in_batches_too() -> None:
    batches: list[list[Any]] = []
    with ScriptedServer(ALL_WELL) as server:
        app = WebSocketApp(server.url)
        app.on("batch")(batches.append)
        subs = Subscriptions(app, [LOGIN, TICKER])
        with running(app):
            assert subs.wait_session_ready(PATIENCE)
            eventually(lambda: sum(map(len, batches)) == 2)


def test_a_token_is_made_for_each_connection_on_the_handlers_thread() -> None:
    made: list[bool] = []

    def token() -> str:
        made.append(app.in_handler)
        return f"token {len(made)}"

    with ScriptedServer([accept(), wait_for("token 1"), fin()], [accept(), wait_for("token 2")]) as server:
        app = Noting(server.url)
        Subscriptions(app, [Step(token)])
        with running(app, persist=AT_ONCE):
            server.connection(1).wait_until(lambda: said(server, 1) == ["token 2"])
    assert made == [True, True]


def refuse(event: Any) -> bool:
    """Refuse a step in the words of a user."""
    if event.text == "no!":
        raise StepFailed("it is Sunday")
    return False


class FailsOnce:
    """A function for a message that at its first call raises, or returns something that is not a message."""

    def __init__(self, first: Any) -> None:
        self.answers = [first]

    def __call__(self) -> str:
        answer = self.answers.pop() if self.answers else "x"
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("step", "answer", "words"),
    [
        (Step("x", {"ok": 1}, refused={"ok": 0}, key="x"), '{"ok": 0}', "step 'x' was refused"),
        (Step("x", {"ok": 1}, refused=lambda event: "no" in event.text), "no!", "a step was refused"),
        (Step("x", {"ok": 1}, refused=refuse), "no!", "a step was refused: it is Sunday"),
        (Step(FailsOnce(OSError("secret")), {"ok": 1}), None, "a step could not be sent (OSError)"),
        (Step(FailsOnce(SystemExit()), {"ok": 1}), None, "a step could not be sent (SystemExit)"),
        (Step(FailsOnce(None), {"ok": 1}), None, "a step could not be sent (TypeError)"),
        (Step("x", {"ok": 1}, timeout=0.01), "no answer", "a step got no answer within 0.01 s"),
    ],
    ids=["field", "function", "in words", "cannot be made", "exits", "is nothing", "too late"],
)
def test_after_a_failed_step_the_next_connection_follows_after_the_back_off(
    step: Step, answer: str | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    failing = [accept(), *([wait_for("x"), send(answer)] if answer else [])]
    with ScriptedServer(failing, [accept(), wait_for("x"), send('{"ok": 1}')]) as server:
        # The last of them waits for 10 ms on the first connection, and on the second as long as necessary.
        session = Session(server)
        session.subs.add(step)
        session.app.on("back_off")(lambda _: session.subs.add(replace(step, timeout=PATIENCE)))
        with running(session.app, persist=AT_ONCE):
            assert session.subs.wait_session_ready(PATIENCE)
        assert session.reasons[0] == words
        # The server may answer our Close frame in time.
        assert session.app.names("poll", "text", "pong", "closed")[:5] == [
            "connecting", "connected", "ready", "disconnected", "back_off",
        ]
        assert [(failed, error.step) for failed, error in session.failed] == [(step, step)]
        cause = session.failed[0][1].__cause__
        assert cause is None or isinstance(cause, StepFailed) or type(cause).__name__ in words
        assert len(session.ready) == 1
    assert [f": disconnecting: {words}" in line for line in caplog.messages] == [True]


def test_when_several_steps_are_refused_only_the_first_fails() -> None:
    """The others are not checked any more: the connection is dropped."""
    steps = [Step(name, lambda _: False, refused=lambda _: True, in_turn=False) for name in "ab"]
    script = [accept(), *map(wait_for, "ab"), together(send("no"), send("no"), send("no"))]
    with ScriptedServer(script) as server:
        session = Session(server, *steps)
        with running(session.app):
            assert session.app.wait_closed(PATIENCE)
        assert [step for step, _ in session.failed] == steps[:1]


def test_on_step_failed_gets_the_servers_answer_and_may_give_up() -> None:
    with ScriptedServer([accept(), wait_for("login"), send('{"event": "error", "code": 7}')]) as server:
        app = Noting(server.url)
        codes: list[int] = []

        def give_up(step: Step, error: StepFailed) -> None:
            assert isinstance(error.answer, events.Text)
            codes.append(error.answer.json["code"])
            app.close()

        step = replace(LOGIN, refused={"event": "error"})
        Subscriptions(app, [step], on_step_failed=give_up)
        with running(app, persist=AT_ONCE):
            assert app.wait_closed(PATIENCE)
    assert codes == [7]
    assert len(server.connections) == 1


@pytest.mark.parametrize("when_full", ["raise", "drop", "block"])
def test_a_step_that_finds_the_queue_full_fails(when_full: Any) -> None:
    script = [accept(), stop_reading(), wait_for_end()]
    large = Step(b"x" * 8_000_000, key="large")
    with ScriptedServer(script, receive_buffer=4096) as server:
        app = Noting(server.url, max_queue=1000, when_full=when_full)
        failed: list[BaseException] = []
        Subscriptions(app, [large, TRADES], on_step_failed=lambda _, error: failed.append(error))
        with running(app, persist=NEVER):
            assert app.wait_for("disconnected").reason == "step 'trades' could not be sent (QueueFull)"
        assert [type(error.__cause__) for error in failed] == [errors.QueueFull]


def test_failures_of_steps_make_the_back_off_grow_however_long_they_take() -> None:
    """Like a log-in that is refused after the connection would have counted as stable."""
    backoff = Backoff(min_wait=0.0, max_wait=0.0, stable_after=0.0, max_attempts=3)
    with ScriptedServer([accept(), wait_for("x"), send("no")]) as server:
        session = Session(server, Step("x", expect=lambda _: False, refused=lambda _: True))
        with running(session.app, persist=backoff):
            assert session.app.wait_closed(PATIENCE)
    assert session.reasons == ["a step was refused"] * 3


def test_an_answer_that_waits_behind_a_slow_handler_is_in_time() -> None:
    inside = threading.Event()
    with ScriptedServer([accept(), wait_for("x"), send("slow")]) as server:
        session = Session(server, Step("x", {"ok": 1}))

        @session.app.on("text")
        def hold(event: events.Text) -> None:
            if event.text == "slow":
                inside.set()
                eventually(lambda: session.app.waiting_bytes > 0)
                [waiting] = session.subs._unanswered
                session.subs._timed_out(waiting, again=False)  # as if its timeout were over now

        with running(session.app):
            assert inside.wait(PATIENCE)
            server.do(send('{"ok": 1}'))
            assert session.subs.wait_session_ready(PATIENCE)
        assert session.failed == []


def test_an_added_step_is_sent_at_once_and_after_each_reconnect() -> None:
    with ScriptedServer([accept()]) as server:
        session = Session(server, Step("a"))
        with opened(session.app, persist=AT_ONCE):
            session.subs.add(TRADES)
            server.connection().wait_until(lambda: said(server) == ["a", "trades"])
            session.subs.add(TRADES)  # has been added already
            session.subs.add(Step("b"))
            server.connection().wait_until(lambda: said(server) == ["a", "trades", "b"])
            session.app.force_disconnect()
            server.connection(1).wait_until(lambda: said(server, 1) == ["a", "trades", "b"])
            assert session.subs.steps == (Step("a"), TRADES, Step("b"))
            assert session.subs.wait_session_ready(PATIENCE)
        assert len(session.ready) == 2


def test_a_step_that_was_added_later_fails_like_any_other() -> None:
    with ScriptedServer([accept()]) as server:
        session = Session(server)
        with opened(session.app, persist=NEVER):
            session.subs.add(replace(TICKER, refused=lambda event: event.text == "no", key="added"))
            assert session.app.is_active, "others may go on sending"
            server.connection().wait_until(lambda: said(server) == ["ticker"])
            server.do(send("no"))
            session.app.wait_for("back_off")
        assert session.reasons == ["step 'added' was refused"]


def test_a_step_with_the_same_key_replaces_the_other() -> None:
    with ScriptedServer([accept(), wait_for("login")]) as server:
        session = Session(server, LOGIN, TICKER)
        with running(session.app):
            server.connection().wait_until(lambda: said(server) == ["login"])
            session.subs.add(Step("log in", key="login"))
            server.connection().wait_until(lambda: said(server) == ["login", "ticker"])
            server.do(SUBSCRIBED)
            server.connection().wait_until(lambda: said(server) == ["login", "ticker", "log in"])
            assert session.subs.steps == (Step("log in", key="login"), TICKER)


def test_of_two_steps_with_the_same_key_only_the_newer_is_sent() -> None:
    with ScriptedServer([accept(), wait_for("login")]) as server:
        session = Session(server, LOGIN, TRADES)
        with running(session.app):
            server.connection().wait_until(lambda: said(server) == ["login"])
            session.subs.add(Step("newer", key="trades"))
            server.do(WELCOME)
            server.connection().wait_until(lambda: said(server) == ["login", "newer"])


def test_a_removed_step_is_not_sent_again_and_the_server_is_told_if_it_was() -> None:
    with ScriptedServer([accept(), wait_for("login"), WELCOME]) as server:
        session = Session(server, LOGIN, TRADES)
        with opened(session.app, persist=AT_ONCE):
            server.connection().wait_until(lambda: said(server) == ["login", "trades"])
            assert session.subs.remove("trades", {"channel": "no more"})
            assert not session.subs.remove(TRADES)
            server.connection().wait_until(lambda: said(server) == ["login", "trades", "no more"])
            session.app.force_disconnect()
            session.app.wait_for("ready", 2)
            assert session.subs.wait_session_ready(PATIENCE)
            session.app.send_text("last")
            server.connection(1).wait_until(lambda: said(server, 1) == ["login", "last"])


def test_a_step_removed_before_it_was_sent_is_never_sent_and_neither_is_the_unsubscribing() -> None:
    with ScriptedServer([accept(), wait_for("login")]) as server:
        session = Session(server, LOGIN, TRADES)
        with running(session.app):
            server.connection().wait_until(lambda: said(server) == ["login"])
            session.subs.remove(TRADES, "no more")
            server.do(WELCOME)
            assert session.subs.wait_session_ready(PATIENCE)
            session.app.send_text("last")
            server.connection().wait_until(lambda: said(server) == ["login", "last"])


def test_a_step_sent_only_on_the_last_connection_needs_no_unsubscribing() -> None:
    with ScriptedServer(ALL_WELL, [accept(), wait_for("login")]) as server:
        session = Session(server, LOGIN, TICKER, TRADES)
        with opened(session.app, persist=AT_ONCE):
            session.app.force_disconnect()
            server.connection(1).wait_until(lambda: said(server, 1) == ["login"])
            session.subs.remove(TRADES, "no more")
            session.subs.remove(TICKER)
            server.do(WELCOME)
            assert session.subs.wait_session_ready(PATIENCE)
            session.app.send_text("last")
            server.connection(1).wait_until(lambda: said(server, 1) == ["login", "last"])


def test_the_answer_to_a_removed_step_is_not_waited_for() -> None:
    with ScriptedServer([accept()]) as server:
        session = Session(server, LOGIN, TRADES)
        with running(session.app):
            server.connection().wait_until(lambda: said(server) == ["login"])
            session.subs.remove(LOGIN)
            assert session.subs.wait_session_ready(PATIENCE)


def test_steps_may_be_removed_and_added_during_the_back_off() -> None:
    with ScriptedServer([accept()], [accept()]) as server:
        session = Session(server, Step("a"), Step("b"))
        with opened(session.app, persist=NEVER):
            session.app.force_disconnect()
            session.app.wait_for("back_off")
            assert session.subs.remove(Step("a"), "no more")
            session.subs.add(Step("c"))
            session.app.reconnect()
            server.connection(1).wait_until(lambda: said(server, 1) == ["b", "c"])


def test_many_threads_add_and_remove_and_each_remaining_step_is_sent_once(restless: None) -> None:
    def change(number: int, subs: Subscriptions) -> None:
        for count in range(20):
            subs.add(Step(f"{number} {count}"))
            if count % 2:
                subs.remove(f"{number} {count}")

    with ScriptedServer([accept()]) as server:
        session = Session(server)
        with opened(session.app, persist=AT_ONCE):
            threads = [in_thread(partial(change, number, session.subs)) for number in range(4)]
            for thread in threads:
                thread.join()
            stays = {f"{number} {count}" for number in range(4) for count in range(0, 20, 2)}
            assert {step.message for step in session.subs.steps} == stays
            server.connection().wait_until(lambda: stays <= set(said(server)))
            session.app.force_disconnect()
            server.connection(1).wait_until(lambda: len(said(server, 1)) == len(stays))
        assert set(said(server, 1)) == stays
        assert len(said(server)) == len(set(said(server)))


def test_exceptions_of_on_session_ready_are_treated_like_those_of_a_handler() -> None:
    raised: list[BaseException] = []
    with ScriptedServer(ALL_WELL) as server:
        app = Noting(server.url)
        app.on("error")(raised.append)
        subs = Subscriptions(app, [LOGIN, TICKER], on_session_ready=lambda _: 1 / 0)
        with running(app):
            assert subs.wait_session_ready(PATIENCE)
            eventually(lambda: bool(raised))
            assert app.send_text("all the same")
    assert [type(error) for error in raised] == [ZeroDivisionError]


def test_waiting_for_the_session_in_a_handler_is_refused() -> None:
    raised: list[BaseException] = []
    with ScriptedServer([accept()]) as server:
        session = Session(server)
        session.app.on("error")(raised.append)
        session.app.on("ready")(lambda _: session.subs.wait_session_ready(PATIENCE))
        with opened(session.app):
            pass
    assert [str(error) for error in raised] == [
        "wait_session_ready would deadlock in a handler: use on_session_ready"
    ]


def test_closing_during_session_setup_is_not_a_failure() -> None:
    with ScriptedServer([accept(), wait_for("login")]) as server:
        session = Session(server, LOGIN)
        with running(session.app, persist=AT_ONCE):
            server.connection().wait_until(lambda: said(server) == ["login"])
            session.app.close()
            session.subs.add(replace(TRADES, in_turn=False))
            assert not session.subs.wait_session_ready(PATIENCE)
    assert session.failed == []
    assert session.reasons == ["closed"]


def test_after_leave_nothing_is_sent_and_everybody_may_send() -> None:
    with ScriptedServer([accept()]) as server:
        session = Session(server, LOGIN)
        with running(session.app, persist=AT_ONCE):
            server.connection().wait_until(lambda: said(server) == ["login"])
            session.subs.leave()
            session.subs.leave()
            assert session.app.wait_ready(PATIENCE)
            session.app.reconnect()
            session.app.wait_for("ready", 2)
            assert session.app.wait_ready(PATIENCE)
            session.app.send_text("x")
            server.connection(1).wait_until(lambda: said(server, 1) == ["x"])


def test_once_everything_has_been_answered_no_event_is_handled() -> None:
    with ScriptedServer(ALL_WELL) as server:
        app = WebSocketApp(server.url)
        subs = Subscriptions(app, [LOGIN, TICKER])
        with running(app):
            assert subs.wait_session_ready(PATIENCE)
            eventually(lambda: not app._lochws.registry.has_handler_for(events.Text))


class TestServerFirst:
    """The server sends the first message, and the client waits for it or answers it."""

    def test_a_step_without_a_message_waits_for_what_the_server_sends_first(self) -> None:
        steps = [Step(None, expect={"op": "hello"}, key="hello"), Step("identify")]
        with ScriptedServer([accept()]) as server:
            session = Session(server, *steps)
            with running(session.app):
                session.app.wait_for("ready")
                server.do(send('{"op": "news"}'))
                session.app.wait_for("text")
                assert not session.subs.wait_session_ready(0)
                assert said(server) == []
                server.do(send('{"op": "hello"}'))
                assert session.subs.wait_session_ready(PATIENCE)
                server.connection().wait_until(lambda: said(server) == ["identify"])
                assert session.subs.remove("hello")

    def test_it_is_waited_for_on_each_connection(self) -> None:
        script = [accept(), send("hello"), wait_for("identify"), fin()]
        with ScriptedServer(script, script, [accept(), send("hello"), wait_for("identify")]) as server:
            session = Session(server, Step(None, expect="hello"), Step("identify"))
            with running(session.app, persist=AT_ONCE):
                server.connection(2).wait_until(lambda: said(server, 2) == ["identify"])

    def test_two_of_them_in_one_batch_are_both_seen(self) -> None:
        steps = [Step(None, expect="a"), Step(None, expect="b")]
        with ScriptedServer([accept(), together(send("a"), send("b"))]) as server:
            session = Session(server, *steps)
            with running(session.app):
                assert session.subs.wait_session_ready(PATIENCE)
                assert len(session.subs.steps) == 2

    def test_it_fails_after_its_timeout(self) -> None:
        with ScriptedServer([accept()]) as server:
            session = Session(server, Step(None, expect="hello", timeout=0.01, key="hello"))
            with running(session.app):
                assert session.app.wait_closed(PATIENCE)
        assert session.reasons == ["step 'hello' got no answer within 0.01 s"]

    def test_a_message_may_be_a_function_of_the_previous_answer(self) -> None:
        def respond(challenge: events.Text) -> dict[str, Any]:
            return {"channel": challenge.json["nonce"] * 2}

        steps = [
            Step(None, expect=lambda event: "nonce" in event.json),
            Step(respond, expect="now prove it", refused="no"),
            Step(lambda answer: f"proof for {answer.text}", expect="ok"),
        ]
        script = [accept(), send('{"nonce": "ab"}'), wait_for(re.compile("abab")), send("now prove it"),
                  wait_for("proof for now prove it"), send("ok"), fin()]
        with ScriptedServer(script, script, [accept(), send('{"nonce": "cd"}')]) as server:
            session = Session(server, *steps)
            with running(session.app, persist=AT_ONCE):
                server.connection(2).wait_until(lambda: said(server, 2) == ["cdcd"])
            assert session.failed == []
            assert said(server) == ["abab", "proof for now prove it"]

    def test_an_argument_with_a_default_is_not_the_answer(self) -> None:
        with ScriptedServer([accept(), send("hello")]) as server:
            session = Session(server, Step(None, expect="hello"), Step(lambda text="mine": text))
            with running(session.app):
                server.connection().wait_until(lambda: said(server) == ["mine"])

    def test_without_a_previous_answer_the_step_fails(self) -> None:
        with ScriptedServer([accept()]) as server:
            session = Session(server, Step(None, expect="hello", key="hello"))
            session.subs.add(Step(lambda answer: answer.text, key="second"))
            session.subs.remove("hello")
            with running(session.app):
                assert session.app.wait_closed(PATIENCE)
        assert session.reasons == ["step 'second' could not be sent (WebSocketError)"]


class TestRefusals:
    """Refusals: their consequences, and answers that do not count as one."""

    @pytest.mark.parametrize(
        ("answer", "shown"),
        [
            (send('{"error": "bad key\\u202e"}'), r'{"error": "bad key\u202e"}'),
            (send("no\x1b[2J"), r"no\x1b[2J"),
            (send("x" * 10_000), "x" * 300 + "…"),
            (send(b"\x20\x02\x00\x05"), r"b' \x02\x00\x05'"),
        ],
        ids=["json", "escape", "long", "binary"],
    )
    def test_the_servers_words_are_in_the_log_and_in_failure(
        self, answer: ServerStep, shown: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with ScriptedServer([accept(), wait_for("x"), answer]) as server:
            session = Session(server, Step("x", lambda _: False, refused=lambda _: True, key="login"))
            with running(session.app):
                assert session.app.wait_closed(PATIENCE)
            failure = session.subs.failure
        assert str(failure) == f"step 'login' was refused; the server said: {shown}"
        assert caplog.messages == [f"{session.app.url}: disconnecting: {failure}"]
        assert session.reasons == ["step 'login' was refused"], "the server sees the reason"
        assert [error for _, error in session.failed] == [failure]

    def test_failure_is_none_again_once_the_session_is_ready(self) -> None:
        script = [accept(), wait_for("x"), send("no")]
        with ScriptedServer(script, [accept(), wait_for("x")]) as server:
            session = Session(server, Step("x", expect="yes", refused="no"))
            with running(session.app, persist=AT_ONCE):
                server.connection(1).wait_until(lambda: said(server, 1) == ["x"])
                assert session.subs.failure is not None
                assert not session.subs.wait_session_ready(0)
                server.connection(1).do(send("yes"))
                assert session.subs.wait_session_ready(PATIENCE)
                assert session.subs.failure is None

    @pytest.mark.parametrize("refused", ["no", refuse], ids=["described", "raised"])
    def test_a_refused_step_that_gives_up_stops_the_app_after_one_attempt(
        self, refused: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = send("no" if refused == "no" else "no!")
        with ScriptedServer([accept(), wait_for("x"), answer]) as server:
            session = Session(server, Step("x", expect="yes", refused=refused, give_up=True))
            with running(session.app, persist=AT_ONCE):
                assert session.app.wait_closed(PATIENCE)
                assert not session.subs.wait_session_ready(PATIENCE)
            assert len(server.connections) == 1
        assert len(session.failed) == 1
        (record,) = caplog.records
        assert record.getMessage().startswith(f"{session.app.url}: giving up: a step was refused")
        assert [vars(record)[field] for field in ("ws_event", "ws_url", "ws_reason")] == [
            "gave_up", session.app.url, str(session.subs.failure)
        ]

    def test_a_checked_wait_says_what_the_server_said(self) -> None:
        with ScriptedServer([accept(), wait_for("x"), send("wrong password")]) as server:
            step = Step("x", expect="yes", refused="wrong password", give_up=True, key="login")
            session = Session(server, step)
            with running(session.app, persist=AT_ONCE):
                words = "step 'login' was refused; the server said: wrong password"
                with pytest.raises(errors.WaitFailed, match=words) as caught:
                    session.subs.wait_session_ready(PATIENCE, check=True)
                assert caught.value.__cause__ is session.subs.failure
                assert not caught.value.timed_out

    def test_a_checked_wait_without_a_failed_step_says_what_the_app_does(self) -> None:
        with ScriptedServer([accept(), wait_for("x")]) as server:
            session = Session(server, Step("x", expect="yes"))
            with running(session.app):
                server.connection().wait_until(lambda: said(server) == ["x"])
                with pytest.raises(errors.WaitFailed, match="session setup is still in progress") as caught:
                    session.subs.wait_session_ready(0, check=True)
                assert caught.value.timed_out
                server.do(send("yes"))
                assert session.subs.wait_session_ready(PATIENCE, check=True)

    @pytest.mark.parametrize(
        ("step", "script"),
        [
            (Step("x", expect="yes", refused="no", give_up=True, timeout=0.01), [accept(), wait_for("x")]),
            (Step("x", expect="yes", refused="no", give_up=True), [accept(), wait_for("x"), fin()]),
        ],
        ids=["too late", "lost"],
    )
    def test_a_step_that_is_not_refused_never_gives_up(
        self, step: Step, script: Sequence[ServerStep]
    ) -> None:
        with ScriptedServer(script, script, [accept(), wait_for("x")]) as server:
            session = Session(server, step)
            with running(session.app, persist=AT_ONCE):
                server.connection(2).wait_until(lambda: said(server, 2) == ["x"])

    @pytest.mark.parametrize(
        ("expect", "refused"),
        [
            (lambda event: event.json["ok"] == 1, None),
            (lambda event: event.json["ok"] == 1, lambda event: event.json["error"]["code"] > 1),
            ({"ok": 1}, lambda event: sys.exit(1) if event.text == "[]" else False),
        ],
        ids=["expect", "both", "exits"],
    )
    def test_a_function_that_fails_on_an_unrelated_message_does_not_refuse(
        self, expect: Any, refused: Any
    ) -> None:
        unrelated = [send(message) for message in ("no JSON", "[]", "{}", b"\x00")]
        with ScriptedServer([accept(), wait_for("x"), *unrelated, send('{"ok": 1}')]) as server:
            session = Session(server, Step("x", expect, refused=refused))
            with running(session.app):
                assert session.subs.wait_session_ready(PATIENCE)
        assert session.failed == []

    def test_when_time_is_up_the_failure_says_that_functions_failed(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def expect(event: Any) -> bool:
            return bool(event.json["okay"])

        caplog.set_level("DEBUG")
        with ScriptedServer([accept(), wait_for("x"), send('{"ok": 1}'), send('{"ok": 2}')]) as server:
            session = Session(server, Step("x", expect))
            with running(session.app):
                session.app.wait_for("text", 2)
                in_handler(session.app, lambda: session.subs._timed_out(session.subs._unanswered[0], True))
                assert session.app.wait_closed(PATIENCE)
        name = expect.__qualname__
        assert str(session.subs.failure) == (
            f"a step got no answer within 10 s ({name} raised KeyError('okay'); "
            "messages on which a function raised an exception: 2)"
        )
        assert f"{name} failed on a message, which therefore counts as unrelated" in caplog.messages


def in_handler(app: WebSocketApp, function: Callable[[], object]) -> None:
    """Call a function on the handlers' thread, and wait for it."""
    done = threading.Event()

    def call() -> None:
        function()
        done.set()

    app.call_later(0, call)
    assert done.wait(PATIENCE)


class TestShapes:
    """Messages and answers of other shapes than JSON objects."""

    @pytest.mark.parametrize(
        ("expect", "yes", "no"),
        [
            ("pong", ["pong"], ["ping", '"pong"', b"pong"]),
            (b"\x20\x02", [b"\x20\x02"], [b"\x20", "\x20\x02"]),
            ([2], ["[2]", '[2, {"x": 1}]'], ["[]", "[3]", "2", '{"2": 2}', b"[2]"]),
            ([3, "id", {"status": "Accepted"}], ['[3, "id", {"status": "Accepted", "interval": 300}]'],
             ['[3, "id"]', '[3, "id", {"status": "Rejected"}]', '[3, "other", {"status": "Accepted"}]']),
        ],
        ids=["text", "binary", "array", "object in an array"],
    )
    def test_an_answer_may_be_described_by_text_bytes_or_a_list(
        self, expect: Any, yes: list[str | bytes], no: list[str | bytes]
    ) -> None:
        step, doubts = Step("x", expect), Doubts()
        for messages, is_it in ((yes, True), (no, False)):
            for message in messages:
                event = events.Text(message) if isinstance(message, str) else events.Binary(message)
                assert step.is_answer(event, doubts) is is_it, message

    def test_a_list_is_sent_as_a_json_array(self) -> None:
        steps = [Step([1, "realm1", {"roles": {}}], expect=[2]), Step(lambda: [32, 1])]
        script = [accept(), wait_for(re.compile("realm1")), send("[2, 9129137332, {}]")]
        with ScriptedServer(script) as server:
            session = Session(server, *steps)
            with running(session.app):
                assert session.subs.wait_session_ready(PATIENCE)
                session.subs.remove(steps[0], [34, 1])
                server.connection().wait_until(lambda: len(server.messages) == 3)
        assert server.messages == ['[1, "realm1", {"roles": {}}]', "[32, 1]", "[34, 1]"]

    def test_send_passes_a_closed_gate(self) -> None:
        with ScriptedServer([accept(), send("ping"), wait_for("pong"), send("hello")]) as server:
            app = Noting(server.url)
            subs = Subscriptions(app, [Step(None, expect="hello")])
            app.on("text")(lambda event: event.text == "ping" and subs.send("pong"))
            with running(app):
                assert subs.wait_session_ready(PATIENCE)
                assert subs.send({"op": 1})
                assert subs.send(b"x")
                with pytest.raises(TypeError, match="message=5"):
                    subs.send(cast(Any, 5))
            with pytest.raises(errors.WebSocketUnavailable):
                subs.send("late")


def length(data: bytes) -> int | None:
    """Return the length of a packet: a byte that tells it, and the content."""
    if data[0] == 0xFF:
        raise ValueError("no packet begins with 255")
    return 1 + data[0]


class TestStreams:
    """Protocols whose packets do not follow the boundaries of messages."""

    @pytest.mark.parametrize("cuts", [[], [1], [3], [1, 2, 3, 4, 5, 6], [4, 8]], ids=str)
    def test_packets_may_be_split_across_messages_or_share_one(self, cuts: list[int]) -> None:
        stream = b"\x02hi\x05nonce\x02ok\x01"
        parts = [stream[i:j] for i, j in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        steps = [
            Step(None, expect=lambda event: event.data[1:] == b"nonce"),
            Step(lambda answer: b"proof of " + answer.data[1:], expect=b"\x02ok"),
        ]
        with ScriptedServer([accept(), *map(send, parts)]) as server:
            session = Session(server, *steps, split=length)
            # The last packet is not complete, and the next connection begins with a new one.
            with running(session.app, persist=AT_ONCE):
                assert session.subs.wait_session_ready(PATIENCE)
                server.connection().wait_until(lambda: said(server) == [b"proof of nonce"])
                session.app.reconnect()
                server.connection(1).wait_until(lambda: said(server, 1) == [b"proof of nonce"])
                session.app.wait_for("ready", 2)
                assert session.subs.wait_session_ready(PATIENCE)

    def test_a_step_that_is_added_later_finds_the_borders_of_packets(self) -> None:
        with ScriptedServer([accept()]) as server:
            session = Session(server, split=length)
            with opened(session.app):
                server.do(send(b"\x05he"))
                session.app.wait_for("binary")
                session.subs.add(Step("x", expect=b"\x02ok"))
                server.connection().wait_until(lambda: said(server) == ["x"])
                server.do(send(b"l\x02o\x02"))
                server.do(send(b"ok"))
                session.app.wait_for("binary", 3)
                in_handler(session.app, lambda: None)
                assert session.subs._unanswered == []

    @pytest.mark.parametrize(
        "split", [length, lambda _: 0, lambda _: "1", lambda _: 10**9, lambda _: sys.exit()]
    )
    def test_what_cannot_be_split_drops_the_connection(
        self, split: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        with ScriptedServer([accept(), together(send(b"\xff"), send(b"\xff"))]) as server:
            session = Session(server, Step(None, expect=b"x"), split=split)
            with running(session.app):
                assert session.app.wait_closed(PATIENCE)
        assert len(caplog.messages) == 1
        assert session.reasons[0].startswith("the received bytes cannot be split into packets (")


#: Without their types, which would not accept invalid arguments.
step: Any = Step
subscriptions: Any = Subscriptions


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: step(5), TypeError, "message=5"),
        (lambda: step("x", expect=5), TypeError, "expect=5"),
        (lambda: step("x", {}, refused=7), TypeError, "refused=7"),
        (lambda: step("x", refused={}), ValueError, "refused needs expect"),
        (lambda: step(None), ValueError, "message=None needs expect"),
        (lambda: step(None, {}, give_up=True), ValueError, "give_up needs refused"),
        (lambda: step("x", {}, refused={}, give_up=1), TypeError, "give_up=1"),
        (lambda: step(lambda one, two: "x"), TypeError, "at most one required argument"),
        (lambda: subscriptions(unstarted(), [step("x"), step(len)]), ValueError, "len: it takes an answer"),
        (lambda: subscriptions(unstarted(), split="x"), TypeError, "split='x': expected a function"),
        (lambda: step("x", timeout="1"), TypeError, "timeout='1'"),
        (lambda: step("x", timeout=0), ValueError, "timeout=0"),
        (lambda: step("x", key=[]), TypeError, "unhashable"),
        (lambda: subscriptions(unstarted(), [step({"x": object()})]), TypeError, "JSON"),
        (lambda: subscriptions(unstarted(), ["x"]), TypeError, "step='x': expected"),
        (lambda: subscriptions(unstarted(), max_steps=0), ValueError, "max_steps=0"),
        (lambda: subscriptions(unstarted(), on_session_ready=5), TypeError, "on_session_ready=5"),
        (lambda: subscriptions(unstarted(), [step("a"), step("b")], max_steps=1), ValueError, "1 steps"),
        (lambda: subscriptions(unstarted(), [step("a")]).remove("a", 5), TypeError, "message=5"),
    ],
)
def test_invalid_arguments_are_refused_immediately(
    make: Callable[[], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        make()


def unstarted() -> WebSocketApp:
    return WebSocketApp("ws://127.0.0.1:1/")


def test_json_that_is_nested_too_deep_is_not_an_answer() -> None:
    step = Step("a", expect={"b": 1}, refused={"c": 1})
    assert not step.is_answer(events.Text("[" * 200_000), Doubts())
