"""lochws: all messages of one read at a time, through on_batch."""

from __future__ import annotations

from typing import Any

from lochws import events

from . import lochws_app


class _Batches(lochws_app.Receiving):
    def on_batch(self, messages: list[Any]) -> None:
        self.count += len(messages)
        if isinstance(messages[0], events.Text):  # and so are the others
            self.length += sum([len(event.text) for event in messages])
        else:
            self.length += sum([len(event.data) for event in messages])


class Client(lochws_app.Client):
    """Only receives."""

    receiver = _Batches
