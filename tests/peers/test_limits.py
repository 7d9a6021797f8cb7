"""Message budgets behind nginx, which limits requests per second: upgrades that come too fast are refused."""

from __future__ import annotations

from contextlib import ExitStack

from lochws import Backoff, Rate
from lochws.handlers.subscriptions import Step, Subscriptions

from ..support.apps import running
from ..support.judge import Judge
from ..support.peer import Peer
from ..support.seen import PATIENCE, Noting, eventually
from .programs import Programs

SUBSCRIPTIONS = [Step(str(number), expect=str(number)) for number in range(20)]


def limited(programs: Programs, peer: Peer) -> str:
    """Start an nginx that admits five upgrades per second; return its URL."""
    command = ["nginx", "-p", "$work", "-c", "$config"]
    [port] = programs.start(command, config="limited.conf", target=peer.port, rate="5r/s")
    return f"ws://127.0.0.1:{port}/"


def test_refused_upgrades_back_off_and_all_subscriptions_become_ready(programs: Programs) -> None:
    judge = Judge(10, 0.5)
    with Peer(judge) as peer, ExitStack() as stack:
        url = limited(programs, peer)
        # The margin is for nginx, which may have to wait for a processor.
        apps = [Noting(url, rate=Rate(10, per=0.5, margin=0.5), proxies={}) for _ in range(4)]
        sessions = [Subscriptions(app, SUBSCRIPTIONS) for app in apps]
        for app in apps:
            stack.enter_context(running(app, poll=0, persist=Backoff(min_wait=0.05, max_wait=0.5)))
        for session in sessions:
            assert session.wait_session_ready(PATIENCE)
        for app in apps:  # all at once, as after a restart of the server
            app.reconnect()
        for app, session in zip(apps, sessions, strict=True):
            app.wait_for("ready", 2)
            assert session.wait_session_ready(PATIENCE)
        eventually(lambda: len(judge.texts) >= 2 * len(apps) * len(SUBSCRIPTIONS))
    refused = [event for app in apps for event in app.all("rejected")]
    assert refused
    assert {event.response.status_code for event in refused} == {503}
    assert judge.excesses == 0
