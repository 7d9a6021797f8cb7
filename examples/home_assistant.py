"""Follow Home Assistant and toggle an entity: ``python home_assistant.py URL TOKEN [ENTITY]``.

A URL is ``ws://homeassistant.local:8123/api/websocket``, for example; create the token on your profile page.
Prints each change of state, and toggles the entity, such as ``light.kitchen``, for each line of its input.
"""

import sys
from typing import Any

from lochws import WebSocketApp, events
from lochws.handlers.heartbeat import Every
from lochws.handlers.replies import Replies
from lochws.handlers.subscriptions import Step, Subscriptions


def result(reply: dict[str, Any]) -> Any:
    """Return the result in a reply, or raise the error in it."""
    if reply["type"] == "result" and not reply["success"]:
        raise RuntimeError(reply["error"]["message"])
    return reply.get("result")


class HomeAssistant(WebSocketApp):
    """A connection to Home Assistant, which has the state of each entity."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url)
        self.states: dict[str, str] = {}
        self.replies = Replies(self, unwrap=result)  # numbers the requests, and finds their replies by "id"
        login = {"type": "auth", "access_token": token}
        Subscriptions(self, [
            Step(None, expect={"type": "auth_required"}, key="hello"),
            Step(login, expect={"type": "auth_ok"}, refused={"type": "auth_invalid"}, give_up=True),
        ], on_session_ready=self.follow)
        Every(self, 30, lambda: self.ask("ping"))

    def ask(self, kind: str, **fields: object) -> Any:
        """Send a request, and return a future of the result."""
        return self.replies.request({"type": kind, **fields})

    def follow(self, event: events.Ready) -> None:
        """Subscribe to changes, on each connection."""
        self.ask("subscribe_events", event_type="state_changed")

    def toggle(self, entity: str) -> Any:
        """Toggle an entity, and return a future of the result."""
        service = {"domain": entity.partition(".")[0], "service": "toggle"}
        return self.ask("call_service", **service, target={"entity_id": entity})

    def on_text(self, event: events.Text) -> None:
        match event.json:
            case {"type": "event", "event": {"data": {"entity_id": entity, "new_state": {"state": state}}}}:
                print(entity, state, flush=True)


if __name__ == "__main__":
    with HomeAssistant(*sys.argv[1:3]) as home:
        for _ in sys.stdin:
            home.wait_ready() or sys.exit("not accepted")
            print(home.toggle(sys.argv[3]).exception() or "done", flush=True)
