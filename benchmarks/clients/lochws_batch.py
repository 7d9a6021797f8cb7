"""lochws: all messages of one read at a time, through on_batch."""

from __future__ import annotations

from collections.abc import Sequence

from lochws import events

from . import lochws_app


class _Batches(lochws_app.Receiving):
    def on_batch(self, batch: Sequence[events.Text | events.Binary]) -> None:
        self.count += len(batch)
        if isinstance(batch[0], events.Text):
            self.length += sum([len(event.text) for event in batch])
        else:
            self.length += sum([len(event.data) for event in batch])


class Client(lochws_app.Client):
    """Only receives."""

    receiver = _Batches
