"""What ready-made handlers are asked for: what is no app is refused before anything else is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lochws import WebSocketApp
from lochws.handlers.jsonrpc import JsonRpc
from lochws.handlers.relay import Relay
from lochws.handlers.replies import Replies
from lochws.handlers.subscriptions import Subscriptions


@pytest.mark.parametrize("given", ["ws://me:secret@localhost", None, WebSocketApp, object()], ids=repr)
@pytest.mark.parametrize(
    "make", [Replies, JsonRpc, Subscriptions, lambda app: Relay(app, "stream")],
    ids=["Replies", "JsonRpc", "Subscriptions", "Relay"],
)
def test_what_is_no_app_is_named(make: Callable[[Any], object], given: object) -> None:
    with pytest.raises(TypeError, match=r"^app: expected a lochws\.WebSocketApp, not ") as caught:
        make(given)
    assert "secret" not in str(caught.value)
