"""A WebSocket as a loop, without any thread of lochws: the events are the same."""

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
                websocket.close()  # the loop goes on until the closing handshake is done
