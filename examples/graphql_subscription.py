"""Follow a GraphQL subscription: ``python graphql_subscription.py URL QUERY [TOKEN]``.

The protocol is graphql-transport-ws, which graphql-ws, Apollo Server, Hasura and most other GraphQL servers
speak. Every connection begins with "connection_init", and then subscribes again.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from lochws import WebSocketApp, events
from lochws.handlers.subscriptions import Step, Subscriptions


class GraphQL(WebSocketApp):
    """A client for any number of subscriptions over one connection.

    Args:
        url: the URL of the server, such as ``wss://example.org/graphql``.
        payload: what the server expects in order to accept the connection, usually a token.
    """

    def __init__(self, url: str, **payload: str) -> None:
        super().__init__(url, protocols=["graphql-transport-ws"])
        init = {"type": "connection_init", "payload": payload}
        self.subscriptions = Subscriptions(self, [Step(init, expect={"type": "connection_ack"}, key="init")])
        self.takers: dict[str, Callable[[dict[str, Any]], object]] = {}

    def subscribe(self, query: str, taker: Callable[[dict[str, Any]], object], **variables: object) -> None:
        """Have a function called with each result ("data" and "errors"), across all reconnects."""
        number = str(len(self.takers) + 1)
        self.takers[number] = taker
        payload = {"query": query, "variables": variables}
        message = {"id": number, "type": "subscribe", "payload": payload}
        self.subscriptions.add(Step(message, key=number))

    def on_text(self, event: events.Text) -> None:
        match event.json:
            case {"type": "next", "id": number, "payload": result}:
                self.takers[number](result)
            case {"type": "error", "id": number, "payload": errors}:
                self.subscriptions.remove(number)  # would be refused each time
                self.takers[number]({"errors": errors})
            case {"type": "complete", "id": number}:
                self.subscriptions.remove(number)
            case {"type": "ping"}:
                self.send_json(type="pong")


def main(url: str, query: str, token: str = "") -> None:
    """Print each result, until Ctrl-C."""
    app = GraphQL(url, token=token)
    app.subscribe(query, lambda result: print(json.dumps(result), flush=True))
    app.run_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
