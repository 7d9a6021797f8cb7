"""Incoming messages of a connection, or, for protocols that are streams of bytes, the packets in them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ... import WebSocketApp, events
from ..packets import Packets, Split
from .lines import report_about


class Incoming:
    """The messages or packets that arrive on one connection at a time. For the handlers' thread.

    Args:
        app: the app, whose connection is dropped if its stream cannot be split.
        split: the function that tells the length of a packet; None if each message is one packet.
    """

    __slots__ = ("_app", "_is_broken", "_packets")

    def __init__(self, app: WebSocketApp, split: Split | None) -> None:
        self._app = app
        self._packets = None if split is None else Packets(split)
        self._is_broken = False

    @property
    def is_stream(self) -> bool:
        """True if every message must be passed to `of`, because packets may begin in any of them."""
        return self._packets is not None

    def clear(self) -> None:
        """Start over for a new connection."""
        self._is_broken = False
        if self._packets is not None:
            self._packets.clear()

    def of(self, event: events.Event) -> Iterator[events.Text | events.Binary]:
        """Iterate over a message, or over the packets that it completes; nothing if it is another event.

        If the stream cannot be split, the connection is dropped.
        """
        if not isinstance(event, (events.Text, events.Binary)) or self._is_broken:
            return
        if self._packets is None:
            yield event
            return
        packets = self._packets.feed(event.text if isinstance(event, events.Text) else event.data)
        while True:
            try:
                packet = next(packets, None)
            except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
                self._is_broken = True
                words = "the received bytes cannot be split into packets"
                report_about(self._app, logging.WARNING, "not_split", "disconnecting: %s", words, error=error)
                self._app.force_disconnect(f"{words} ({type(error).__name__})")
                return
            if packet is None:
                return
            binary = events.Binary(packet)
            events.use_codec([binary], self._app.hooks.codec)
            yield binary
