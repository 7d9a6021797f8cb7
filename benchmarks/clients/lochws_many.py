"""lochws: lists of messages, through send_many."""

from __future__ import annotations

from typing import Any

from . import lochws_app

#: Messages of one call.
_AT_ONCE = 100


class Client(lochws_app.Client):
    """Only sends."""

    def send_messages(self, app: Any, count: int) -> None:
        """One sender's share."""
        many = [self.message] * _AT_ONCE
        for _ in range(count // _AT_ONCE):
            app.send_many(many)
        app.send_many(many[: count % _AT_ONCE])
