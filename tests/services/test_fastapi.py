"""examples/fastapi_app.py, served by uvicorn, and its feed, which is restarted."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from lochws import WebSocket
from lochws.testing import ScriptedServer, ServerConnection, accept, close

from ..examples.running import EXAMPLES, ROOT
from ..support.ports import free_port
from ..support.seen import eventually, take
from .service import PATIENCE, Service, service_program

pytestmark = pytest.mark.timeout(3 * PATIENCE)


def prices(first: int) -> list[Any]:
    """Return the script of a feed whose price grows with each message of the client, from this one on."""

    def feed(connection: ServerConnection) -> None:
        for number, _ in enumerate(connection):
            ticker = {"type": "ticker", "product_id": "BTC-USD", "price": str(first + number)}
            connection.send(json.dumps(ticker))

    return [accept(), feed, close()]


def get(service: Service, path: str) -> tuple[int, str]:
    """Return the status and the content that the service answers with."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_service_has_live_prices_across_a_restart_of_its_feed() -> None:
    app = "fastapi_app.py".replace(".py", ":app")
    command = [service_program("uvicorn"), "--app-dir", str(EXAMPLES), app, "--port", "$port"]
    with ScriptedServer(prices(100), port=free_port()) as feed:
        service = Service(command, environment={"FEED": feed.url, "PYTHONPATH": str(ROOT)})
        service.start()
        eventually(lambda: get(service, "/prices") == (200, '{"BTC-USD":100.0}'))
        assert get(service, "/health") == (200, "null")
    try:
        eventually(lambda: get(service, "/health") == (503, "null"))
        assert get(service, "/prices") == (200, '{"BTC-USD":100.0}')
        browser = WebSocket(f"ws://127.0.0.1:{service.port}/live")
        events = iter(browser)
        take(events, "ready")
        with ScriptedServer(prices(200), port=feed.port):
            [event] = take(events, "text")
            assert event.json["price"] == "200"
            assert get(service, "/prices") == (200, '{"BTC-USD":200.0}')
            browser.close()
            take(events, "disconnected")
    finally:
        service.close()
    assert "Application shutdown complete" in service.last_output
    assert "Traceback" not in service.last_output
