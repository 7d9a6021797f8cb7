"""A charger that speaks OCPP 1.6 to a central system: ``python ocpp_charger.py URL NAME``.

Charges when told to, and then sends meter readings. Tested with a central system made with ocpp 2.1.
"""

import sys
from datetime import datetime, timezone
from functools import partial
from typing import Any
from uuid import uuid4

from lochws import WebSocketApp, events
from lochws.handlers.heartbeat import Answer, Every
from lochws.handlers.replies import Replies, Reply
from lochws.handlers.subscriptions import Step, Subscriptions

CALL, RESULT, ERROR = 2, 3, 4
BOOT = [CALL, "boot", "BootNotification", {"chargePointVendor": "lochws", "chargePointModel": "example"}]
BEAT = [CALL, "beat", "Heartbeat", {}]
now = partial(datetime.now, timezone.utc)


class Charger(WebSocketApp):
    """A charger with one connector."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(f"{url}/{name}", protocols=["ocpp1.6"])
        self.energy = self.transaction = 0
        Subscriptions(self, [Step(BOOT, expect=lambda event: event.json[2]["status"] == "Accepted")])
        Every(self, lambda event: event.json[2]["interval"], BEAT, expect=[RESULT, "beat"])
        Every(self, 1, lambda: self.report() if self.transaction else None)
        Answer(self, lambda event: event.json[0] == CALL, self.answer)
        self.replies = Replies(self, match=lambda message: message[1])

    def request(self, action: str, **payload: object) -> Reply[Any]:
        return self.replies.request([CALL, uuid4().hex, action, payload | {"connectorId": 1}])

    def answer(self, event: events.Text) -> list[Any]:
        """Return the answer to a request of the central system."""
        match event.json:
            case [_, number, "RemoteStartTransaction", {"idTag": tag}]:
                start = {"idTag": tag, "meterStart": self.energy, "timestamp": now().isoformat()}
                self.call_later(0, lambda: self.request("StartTransaction", **start))  # after the answer
                return [RESULT, number, {"status": "Accepted"}]
        return [ERROR, event.json[1], "NotImplemented", event.json[2], {}]

    def report(self) -> Reply[Any]:
        """Report the meter reading."""
        self.energy += 1
        value = {"timestamp": now().isoformat(), "sampledValue": [{"value": str(self.energy)}]}
        return self.request("MeterValues", transactionId=self.transaction, meterValue=[value])

    def on_text(self, event: events.Text) -> None:
        if event.json[0] == RESULT and (number := event.json[2].get("transactionId")):
            self.transaction = number
            print("transaction", number, flush=True)


if __name__ == "__main__":
    Charger(*sys.argv[1:]).run_forever()
