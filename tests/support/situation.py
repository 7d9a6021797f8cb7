"""One connection in both ways of using lochws: iterated, and as an app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from lochws import WebSocket, events

from .seen import Noting, names

#: What to do with the WebSocket at the first event of each name.
Doing: TypeAlias = dict[str, Callable[[WebSocket], object]]
#: The first events of every connection that opens.
OPENING = ["connecting", "connected", "ready"]


class Situation:
    """A way to use one connection: iterated, or as an app."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.events: list[Any] = []

    def live(
        self, url: str | Callable[[], str], doing: Doing | None = None, *,
        timing: dict[str, Any] | None = None, **options: Any,
    ) -> list[str]:
        """Use a connection until its end; return the names of its events, except polls and pongs.

        Args:
            doing: what to do at the first event of each name.
            timing: for `connect` or `start`.
            options: for the WebSocket.
        """
        live = self._iterated if self.way == "iterated" else self._as_app
        live(url, dict(doing or {}), timing or {}, options)
        self._check_rules()
        return names(self.events, "poll", "pong")

    @property
    def last(self) -> Any:
        """The final event."""
        return self.events[-1]

    def the(self, name: str) -> Any:
        """Return the first event of a name."""
        return next(event for event in self.events if event.name == name)

    def _iterated(self, url: Any, doing: Doing, timing: dict[str, Any], options: dict[str, Any]) -> None:
        ws = WebSocket(url, **options)
        for event in ws.connect(**timing):
            self.events.append(event)
            doing.pop(event.name, lambda ws: None)(ws)

    def _as_app(self, url: Any, doing: Doing, timing: dict[str, Any], options: dict[str, Any]) -> None:
        failures: list[BaseException] = []

        class App(Noting):
            def on_event(self, event: events.Event) -> None:
                super().on_event(event)
                doing.pop(event.name, lambda ws: None)(self)

            def on_error(self, error: BaseException) -> None:
                failures.append(error)

        app = App(url, **options)
        assert app.run_forever(**timing, persist=False) is app.events[-1]
        self.events = app.events
        if failures:
            raise failures[0]

    def _check_rules(self) -> None:
        """Check the rules that always hold."""
        seen = names(self.events)
        assert seen.count("connect_fail") + seen.count("disconnected") == 1
        assert seen[-1] in {"connect_fail", "disconnected"}
        assert seen.count("closing") + seen.count("closed") <= 1
        if "rejected" in seen:
            assert seen[-2:] == ["rejected", "disconnected"]
        if "ready" in seen:
            assert seen[seen.index("ready") + 1] == "poll"


def close(ws: WebSocket) -> None:
    """Close the WebSocket."""
    ws.close()


def send_last(ws: WebSocket) -> None:
    """Send the last message."""
    ws.send_text("last")
