"""A hub with one lamp that speaks Home Assistant's documented WebSocket protocol: ``python hub.py PORT``.

Home Assistant itself is too large to install for each test run. Like it, the hub refuses wrong tokens and
request numbers that do not increase.
"""

import asyncio
import json
import sys

from websockets.asyncio.server import broadcast, serve

TOKEN = "secret"
state = {"switch.lamp": "off"}
subscribers = {}  # for each connection, the number of its subscription


def changed(entity):
    """Tell all subscribers of the new state of an entity."""
    data = {"entity_id": entity, "new_state": {"entity_id": entity, "state": state[entity]}}
    for connection, number in subscribers.items():
        event = {"event_type": "state_changed", "data": data}
        broadcast([connection], json.dumps({"id": number, "type": "event", "event": event}))


def done(request):
    """Do what a request asks for, and return the outcome."""
    match request:
        case {"type": "subscribe_events", "event_type": "state_changed"}:
            return {"success": True, "result": None}
        case {"type": "call_service", "target": {"entity_id": entity}} if entity in state:
            state[entity] = "on" if state[entity] == "off" else "off"
            changed(entity)
            return {"success": True, "result": {"context": {}}}
    return {"success": False, "error": {"code": "unknown_command", "message": "Unknown command."}}


async def connected(connection):
    """Serve one client."""
    send = lambda **message: connection.send(json.dumps(message))
    await send(type="auth_required", ha_version="2024.3.3")
    if json.loads(await connection.recv()) != {"type": "auth", "access_token": TOKEN}:
        await send(type="auth_invalid", message="Invalid access token or password")
        return
    await send(type="auth_ok", ha_version="2024.3.3")
    last = 0
    async for text in connection:
        request = json.loads(text)
        number = request["id"]
        if number <= last:
            error = {"code": "id_reuse", "message": "Identifier values have to increase."}
            await send(id=number, type="result", success=False, error=error)
        elif request["type"] == "ping":
            await send(id=number, type="pong")
        else:
            await send(id=number, type="result", **done(request))
            if request["type"] == "subscribe_events":
                subscribers[connection] = number
        last = max(last, number)


async def main(port):
    """Serve until the process is ended."""

    async def served(connection):
        try:
            await connected(connection)
        finally:
            subscribers.pop(connection, None)

    async with serve(served, "127.0.0.1", port) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
