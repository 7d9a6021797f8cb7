"""A loop that reconnects: the server drops the connection once, and the loop continues."""

from lochws import WebSocket
from lochws.demo import DemoServer
from lochws.persist import persist

with DemoServer(drop_after=2) as server:
    websocket = WebSocket(server.url)
    prices = 0
    for event in persist(websocket, min_wait=0.1, max_wait=0.5):
        print(event)
        if event.name == "ready":
            websocket.send_json(type="subscribe", channels=["ticker"])
        elif event.name == "text" and event.json["type"] == "ticker":
            prices += 1
            if prices == 5:
                websocket.close()  # no reconnect after that
