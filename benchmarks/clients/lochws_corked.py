"""lochws: messages one by one inside ``with app.corked()``."""

from __future__ import annotations

from typing import Any

from . import lochws_app

#: Messages between two cork pullings.
_AT_ONCE = 100


class Client(lochws_app.Client):
    """Only sends."""

    def send_messages(self, app: Any, count: int) -> None:
        """One sender's share."""
        while count > 0:
            with app.corked():
                super().send_messages(app, min(count, _AT_ONCE))
            count -= _AT_ONCE
