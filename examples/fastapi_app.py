"""A web service on top of a live feed: ``FEED=wss://feed.example.org uvicorn fastapi_app:app``.

``/prices`` returns the latest prices; the WebSocket ``/live`` forwards messages to browsers as they arrive.
Tested with FastAPI 0.165 and uvicorn 0.54: pip install fastapi 'uvicorn[standard]'
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response, WebSocket

from lochws import WebSocketApp, events


class Feed(WebSocketApp):
    """Keeps the latest price of each product, and hands all of them to the queues of the event loop."""
    loop: asyncio.AbstractEventLoop
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.prices: dict[str, float] = {}
        self.queues: set[asyncio.Queue[object]] = set()  # used only by the event loop

    def on_ready(self, event: events.Ready) -> None:
        self.send_json(type="subscribe", channels=["ticker"])

    def on_text(self, event: events.Text) -> None:
        message = event.json
        if message["type"] == "ticker":
            self.prices[message["product_id"]] = float(message["price"])
            self.loop.call_soon_threadsafe(self.put, message)  # we are on the reader thread

    def put(self, message: object) -> None:
        """Queue a message for each browser. A browser that cannot keep up misses some."""
        for queue in self.queues:
            if not queue.full():
                queue.put_nowait(message)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Start the feed with the service, and stop it with the service."""
    feed.loop = asyncio.get_running_loop()
    feed.start()  # reconnects by itself
    yield
    await asyncio.to_thread(feed.stop, timeout=5)  # it blocks, so not in the event loop


feed = Feed(os.environ["FEED"])
app = FastAPI(lifespan=lifespan)


@app.get("/prices")
async def prices() -> dict[str, float]:
    return feed.prices


@app.get("/health")
async def health(response: Response) -> None:
    """Answer 503 if the feed is not connected."""
    response.status_code = 200 if feed.is_active else 503


@app.websocket("/live")
async def live(browser: WebSocket) -> None:
    """Send each price to a browser until it disconnects."""
    queue: asyncio.Queue[object] = asyncio.Queue(100)
    feed.queues.add(queue)
    await browser.accept()

    async def send() -> None:
        while True:
            await browser.send_json(await queue.get())

    sender = asyncio.create_task(send())
    async for _ in browser.iter_text():
        pass
    sender.cancel()
    feed.queues.discard(queue)
