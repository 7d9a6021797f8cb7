"""A loop over the events of a WebSocket: the same events, without any background thread."""

from lochws import WebSocket
from lochws.demo import DemoServer

with DemoServer() as server:
    websocket = WebSocket(server.url)
    prices = 0
    for event in websocket:
        print(event)
        if event.name == "ready":
            websocket.send_json(type="subscribe", channels=["ticker"])
        elif event.name == "text" and event.json["type"] == "ticker":
            prices += 1
            if prices == 3:
                websocket.close()  # the loop ends when the closing handshake is complete
