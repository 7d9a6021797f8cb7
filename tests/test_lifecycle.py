"""Apps that share supervisors while attempts hang, and what the life of an app writes into the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from lochws import Backoff, Threads

from .apps import NEVER, Told, running
from .faults.registry import fault
from .peer import Link, StartPeer
from .scripts import in_turn, polite
from .seen import PATIENCE, Noting, eventually

#: How an app comes to an attempt: what its server does first, the event to wait for, and what begins it.
WAYS: dict[str, tuple[Callable[[Link], object], str, Callable[[Noting], object]]] = {
    "start": (Link.wait_for_end, "", lambda app: app.start(persist=NEVER)),
    "reconnect while open": (polite, "ready", Noting.reconnect),
    "reconnect during a back-off": (Link.accept, "back_off", Noting.reconnect),
}


class Crowd(NamedTuple):
    """Apps on two supervisors: one backs off, one's attempt hangs, and one's has to wait for that."""

    rests: Noting
    hangs: Noting
    waits: Noting


@pytest.fixture(params=WAYS)
def crowd(request: pytest.FixtureRequest, start_peer: StartPeer) -> Iterator[Crowd]:
    """The attempts begin in each of the ways."""
    first, event, begin = WAYS[request.param]
    shared = Threads(2)
    with ExitStack() as stack:
        rests = stack.enter_context(running(Noting("ws://127.0.0.1:1", threads=shared), persist=NEVER))
        rests.wait_for("back_off")
        apps = [Noting(start_peer(in_turn(first, Link.wait_for_end)).url, threads=shared) for _ in range(2)]
        for app in apps:
            stack.callback(app.stop, PATIENCE)
            if event:
                app.start(persist=NEVER)
                app.wait_for(event)
        for app in apps:
            begin(app)
        attempts = 2 if event else 1
        eventually(lambda: any(len(app.all("connected")) == attempts for app in apps))
        apps.sort(key=lambda app: -len(app.all("connected")))
        yield Crowd(rests, *apps)


def test_an_app_that_backs_off_is_closed_at_once_while_attempts_of_others_hang(crowd: Crowd) -> None:
    crowd.rests.close()
    assert crowd.rests.wait_closed(1)
    assert not crowd.hangs.is_closed


@fault("stopping", "close during DNS, TCP, TLS, upgrade and back-off (under a second)")
def test_an_app_whose_attempt_waits_for_that_of_another_is_closed_at_once(crowd: Crowd) -> None:
    before = crowd.waits.names()
    crowd.waits.close()
    assert crowd.waits.wait_closed(1)
    assert crowd.waits.names() == before
    assert not crowd.hangs.is_closed


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_log_says_which_app_a_hook_gives_up_and_where_an_attempt_met_an_exit(
    error: type[BaseException],
) -> None:
    def leave(*args: Any) -> Any:
        raise error("enough")

    told: list[str] = []
    with Told(told.append):
        Noting("ws://127.0.0.1:1/").run_forever(persist=Backoff(0, 0, retry=leave))
        last = Noting("ws://127.0.0.1:1/", headers=leave).run_forever(persist=False)
    assert told == [
        "the retry hook gives ws://127.0.0.1:1/ up",
        "unexpected error while connecting to ws://127.0.0.1:1/",
    ]
    assert last is not None
    assert last.reason == "error; enough"
