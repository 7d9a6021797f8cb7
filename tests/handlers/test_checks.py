"""Checks of the arguments of ready-made handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lochws import WebSocket, WebSocketApp
from lochws.handlers.jsonrpc import JsonRpc
from lochws.handlers.metrics import Metrics
from lochws.handlers.relay import Relay
from lochws.handlers.replies import Replies
from lochws.handlers.subscriptions import Subscriptions

NOT_APPS = ["ws://me:secret@localhost", None, WebSocketApp, object(), WebSocket("ws://localhost")]


@pytest.mark.parametrize("given", NOT_APPS, ids=lambda given: type(given).__name__)
@pytest.mark.parametrize(
    "make",
    [Replies, JsonRpc, Subscriptions, lambda app: Relay(app, "stream"), lambda app: Metrics().watch(app)],
    ids=["Replies", "JsonRpc", "Subscriptions", "Relay", "Metrics"],
)
def test_only_a_websocket_app_is_accepted(make: Callable[[Any], object], given: object) -> None:
    with pytest.raises(TypeError, match=r"^app: expected a lochws\.WebSocketApp, not ") as caught:
        make(given)
    assert "secret" not in str(caught.value)
