"""WebSocket endpoints of web frameworks: `python web.py FRAMEWORK PORT`, in a process of their own."""

from __future__ import annotations

import asyncio
import sys


async def serve_aiohttp(port: int) -> None:
    """Accept WebSockets with aiohttp."""
    from aiohttp import web

    async def accept(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        return websocket

    app = web.Application()
    app.router.add_get("/{path:.*}", accept)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def serve_tornado(port: int) -> None:
    """Accept WebSockets with Tornado."""
    import tornado.web
    import tornado.websocket

    tornado.web.Application([("/.*", tornado.websocket.WebSocketHandler)]).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run({"aiohttp": serve_aiohttp, "tornado": serve_tornado}[sys.argv[1]](int(sys.argv[2])))
