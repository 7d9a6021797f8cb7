"""What the commands share of an app's life."""

from __future__ import annotations

from typing import Any

import pytest

from lochws import WebSocketApp
from lochws.cli.target import running
from lochws.testing import ScriptedServer

from ..support.seen import PATIENCE


class Interrupted(WebSocketApp):
    """Ctrl-C strikes before `start` has returned; the app's threads were faster."""

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


def test_an_app_that_cannot_start_says_why_and_waits_for_nothing() -> None:
    app = WebSocketApp("ws://127.0.0.1:1/")
    with pytest.raises(ValueError, match="poll"), running(app, float("inf"), poll=-1):
        pytest.fail("the block ran")
