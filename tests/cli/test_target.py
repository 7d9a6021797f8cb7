"""Starting and stopping apps, which all commands share."""

from __future__ import annotations

from typing import Any

import pytest

from lochws import WebSocketApp
from lochws.cli.target import running
from lochws.testing import ScriptedServer

from ..support.seen import PATIENCE


class Interrupted(WebSocketApp):
    """Ctrl-C arrives before `start` has returned, when the app's threads are already working."""

    def start(self, **options: Any) -> None:
        super().start(**options)
        assert self.wait_ready(PATIENCE)
        raise KeyboardInterrupt


def test_ctrl_c_while_an_app_starts_closes_its_connection() -> None:
    with ScriptedServer() as server:
        app = Interrupted(server.url)
        with pytest.raises(KeyboardInterrupt), running(app, PATIENCE, persist=False):
            pytest.fail("the block ran")
        assert app.wait_closed(0)
        server.connections[0].wait_over()
    assert server.connections[0].close_frame == (1001, "interrupted")


def test_an_app_that_cannot_start_says_why_and_does_not_wait() -> None:
    app = WebSocketApp("ws://127.0.0.1:1/")
    with pytest.raises(ValueError, match="poll"), running(app, float("inf"), poll=-1):
        pytest.fail("the block ran")
