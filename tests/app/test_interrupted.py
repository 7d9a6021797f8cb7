"""Ctrl-C at every point where Python looks for signals: the app can be stopped afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from lochws import State, persist
from lochws import app as application
from lochws.engine import loop, supervisor
from lochws.life import lifecycle
from lochws.system import wakeup

from ..support.apps import NEVER, check_order, echo
from ..support.interrupting import interrupt
from ..support.peer import StartPeer
from ..support.seen import PATIENCE, Noting

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="opcodes are others there")

_FILES = {module.__file__ for module in (lifecycle, loop, persist, supervisor, wakeup)}


@pytest.mark.parametrize("act", [Noting.reconnect, Noting.close], ids=["reconnect", "close"])
def test_during_a_back_off(act: Callable[[Noting], object], start_peer: StartPeer) -> None:
    peer = start_peer(echo)
    peer.close()
    point, struck = 0, True
    while struck:
        point += 1
        app = Noting(peer.url)
        app.start(persist=NEVER)
        app.wait_for("back_off", 1)
        struck = interrupt(lambda app=app: act(app), point, _FILES)  # type: ignore[misc]
        assert app.stop(PATIENCE), point
        check_order(app.names())
    assert point > 5


def test_of_an_open_connection(start_peer: StartPeer) -> None:
    url = start_peer(echo).url
    point, struck = 0, True
    while struck:
        point += 1
        app = Noting(url)
        app.start(ping_rate=0, persist=NEVER)
        assert app.wait_ready(PATIENCE)
        struck = interrupt(app.reconnect, point, _FILES)
        assert app.stop(PATIENCE), point
        check_order(app.names())
    assert point > 5


def test_in_run_forever_no_app_is_left_running(start_peer: StartPeer) -> None:
    """Wherever it strikes before the wait: in start(), behind it, or when the wait begins."""
    url = start_peer(echo).url
    point, struck = 0, True
    while struck and point < 60:
        point += 1
        app = Noting(url)
        app.on("ready")(lambda event, app=app: app.close())  # type: ignore[misc]
        struck = interrupt(lambda app=app: app.run_forever(ping_rate=0), point, {application.__file__})  # type: ignore[misc]
        assert app.state in (State.NEW, State.STOPPED), point
        assert app.stop(PATIENCE), point
    assert point > 5
