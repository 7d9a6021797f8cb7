"""Subscribe, publish and call procedures with WAMP: ``python wamp.py URL``, such as ``ws://localhost:8080/ws``.

Offers a procedure, calls it every second, publishes the result to a topic, and prints what arrives. Tested
with Crossbar 26.10.
"""

import sys
import time
from typing import Any

from lochws import WebSocketApp, events
from lochws.handlers.heartbeat import Answer, Every
from lochws.handlers.replies import Replies, Reply
from lochws.handlers.subscriptions import Step, Subscriptions

HELLO, WELCOME, ABORT, ERROR, PUBLISH, PUBLISHED, SUBSCRIBE, SUBSCRIBED = 1, 2, 3, 8, 16, 17, 32, 33
EVENT, CALL, RESULT, REGISTER, REGISTERED, INVOCATION, YIELD = 36, 48, 50, 64, 65, 68, 70
ROLES: dict[str, object] = {"roles": {role: {} for role in ("caller", "callee", "publisher", "subscriber")}}
#: Where the number of a request stands, in the request and in its reply.
POSITIONS = {CALL: 1, RESULT: 1, PUBLISH: 1, PUBLISHED: 1, ERROR: 2}


class Wamp(WebSocketApp):
    """A client of a WAMP router, which offers the procedure ``example.time``."""

    def __init__(self, url: str, realm: str = "realm1") -> None:
        super().__init__(url, protocols=["wamp.2.json"])
        Subscriptions(self, [
            Step([HELLO, realm, ROLES], expect=[WELCOME], refused=[ABORT], key="hello"),
            Step([SUBSCRIBE, 1, {}, "example.now"], expect=[SUBSCRIBED, 1], refused=[ERROR], key="subscribe"),
            Step([REGISTER, 2, {}, "example.time"], expect=[REGISTERED, 2], refused=[ERROR], key="register"),
        ])
        self.replies = Replies(
            self, match=lambda message: message[POSITIONS[message[0]]],
            number=lambda request, number: [request[0], number + 2, *request[2:]],
        )
        Answer(self, [INVOCATION], lambda event: [YIELD, event.json[1], {}, [time.strftime("%X")]])
        Every(self, 1, lambda: self.call("example.time"))

    def call(self, procedure: str, *arguments: object) -> Reply[Any]:
        """Call a procedure, and return a future of the reply."""
        return self.replies.request([CALL, 0, {}, procedure, arguments])

    def publish(self, topic: str, *arguments: object) -> Reply[Any]:
        """Publish an event to all subscribers, including us, and return a future of the reply."""
        options = {"acknowledge": True, "exclude_me": False}
        return self.replies.request([PUBLISH, 0, options, topic, arguments])

    def on_text(self, event: events.Text) -> None:
        message = event.json
        if message[0] == RESULT:
            self.publish("example.now", *message[3])
        elif message[0] == EVENT:
            print("example.now:", *message[4], flush=True)


if __name__ == "__main__":
    Wamp(*sys.argv[1:]).run_forever()
