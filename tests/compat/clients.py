"""The clients of nine packages against scripted servers: ``python clients.py drop-in|original NAME``.

Prints what the package's client has seen, as one line of JSON. Run in an environment that has the packages of
requirements.txt.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 50.0


def wait(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the client did not get that far")
        time.sleep(0.005)


def socketio_client() -> object:
    import socketio

    opening = '0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
    with ScriptedServer([
        accept(), send(opening), wait_for(re.compile("^40")), send('40{"sid":"b"}'), wait_for('42["hi",1]'),
        send('42["news",{"price":2}]'), wait_for('42["seen",{"price":2}]'), send("2"), wait_for("3"),
        send('42["news","last"]'), wait_for_end(),
    ]) as server:
        client, seen = socketio.Client(reconnection=False, request_timeout=PATIENCE), []

        @client.on("news")
        def note(news: object) -> None:
            # Each event has a thread of its own there, so the server waits before it sends another.
            seen.append(news)
            client.emit("seen", news)

        client.connect(server.url.replace("ws:", "http:"), transports=["websocket"], wait_timeout=PATIENCE)
        client.emit("hi", 1)
        wait(lambda: len(seen) == 2)
        client.disconnect()
        return seen


def slack() -> object:
    from slack_sdk.socket_mode import SocketModeClient

    hello, refresh = '{"type":"hello"}', '{"type":"disconnect","reason":"refresh_requested"}'
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    scripts = [[accept(), send(hello), wait_for_end()] for _ in range(4 * rounds)]
    with ScriptedServer(*scripts) as server:
        client = SocketModeClient(app_token="xapp-1", ping_interval=5)
        client.issue_new_wss_url = lambda: server.url
        messages: list[str] = []
        client.on_message_listeners.append(lambda *given: messages.append(given[-1]))
        client.connect()
        wait(lambda: messages)
        succeeded = 0
        for _ in range(rounds):
            before = len(messages)
            server.connections[-1].send(refresh)
            end = time.monotonic() + (5 if sys.argv[1] == "original" else PATIENCE)
            while time.monotonic() < end and hello not in messages[before:]:
                time.sleep(0.01)
            succeeded += hello in messages[before:]
        client.close()
        return f"{succeeded} of {rounds} refreshes"


def docker_attach() -> object:
    import docker

    with ScriptedServer([accept(), send(b"$ "), wait_for("ls\n"), send(b"file\n"), close(1000)]) as server:
        client = docker.APIClient(base_url=server.url.replace("ws:", "http:"), version="1.43")
        sock = client.attach_socket("abc", {"stdin": 1, "stream": 1}, ws=True)
        seen = [sock.recv()]
        sock.send("ls\n")
        seen += [sock.recv(), sock.recv()]
        sock.close()
        client.close()
        return [repr(each) for each in seen] + [server.requests[0].target]


def kubernetes_exec() -> object:
    from kubernetes import client, config, stream  # noqa: F401  stream needs config

    with ScriptedServer([
        accept(protocol="v4.channel.k8s.io"), wait_for(re.compile("^\0?x\n$|\0")), send(b"\x01out\n"),
        send(b"\x02err\n"), send(b"\x01" + b"long" * 50_000), send(b'\x03{"status":"Success"}'), close(1000),
    ]) as server:
        configuration = client.Configuration(host=server.url.replace("ws:", "http:").rstrip("/"))
        api = client.CoreV1Api(client.ApiClient(configuration))
        answer = stream.stream(
            api.connect_get_namespaced_pod_exec, "pod", "default", command=["sh"], stdin=True, stdout=True,
            stderr=True, _preload_content=False,
        )
        answer.write_stdin("x\n")
        answer.run_forever(timeout=PATIENCE)
        out, err = answer.read_stdout(), answer.read_stderr()
        return [out[:4], len(out), err, answer.returncode, answer.subprotocol]


def binance() -> object:
    from binance.websocket.spot.websocket_stream import SpotWebsocketStreamClient

    with ScriptedServer([
        accept(), wait_for(re.compile("SUBSCRIBE")), ping(b"1"), wait_for_pong(), send('{"c":"1.5"}'),
        wait_for_end(),
    ]) as server:
        seen: list[str] = []
        client = SpotWebsocketStreamClient(
            stream_url=server.url.rstrip("/"), on_message=lambda _, message: seen.append(message),
            on_ping=lambda _, data: seen.append(repr(data)), on_close=lambda _: seen.append("closed"),
        )
        client.ticker(symbol="btcusdt")
        wait(lambda: len(seen) == 2)
        client.stop()
        client.socket_manager.join(PATIENCE)
        return seen


def pybit() -> object:
    from pybit import unified_trading

    data = '{"topic":"tickers.BTCUSDT","type":"snapshot","data":{"lastPrice":"1"},"ts":1,"cs":1}'
    with ScriptedServer([
        accept(), wait_for(re.compile("subscribe")), wait_for("the callback is there"), send(data),
        wait_for_end(),
    ]) as server:
        unified_trading.PUBLIC_WSS = server.url + "v5/public/{CHANNEL_TYPE}"
        seen: list[Any] = []
        client = unified_trading.WebSocket("linear", testnet=True)
        client.ticker_stream("BTCUSDT", seen.append)
        client.ws.send("the callback is there")  # pybit sends its subscription first
        wait(lambda: seen)
        client.exit()
        return [seen[0]["data"], client.is_connected()]


def pysher() -> object:
    import pysher as package

    opening = '{"event":"pusher:connection_established","data":"{\\"socket_id\\":\\"1.2\\"}"}'
    with ScriptedServer([
        accept(), send(opening), wait_for(re.compile("pusher:subscribe")),
        send('{"event":"new","channel":"prices","data":"42"}'), wait_for_end(),
    ]) as server:
        client, seen = package.Pusher("key", secure=False, port=server.port, custom_host="127.0.0.1"), []
        client.connection.bind(
            "pusher:connection_established",
            lambda _: client.subscribe("prices").bind("new", seen.append),
        )
        client.connect()
        wait(lambda: seen)
        client.disconnect(1)
        return [seen, client.connection.socket_id]


def obsws() -> object:
    import obsws_python

    answer = {
        "op": 7, "d": {
            "requestType": "GetVersion", "requestId": 1, "requestStatus": {"result": True, "code": 100},
            "responseData": {"obsVersion": "30.0", "availableRequests": []},
        },
    }
    server = ScriptedServer([
        accept(), send('{"op":0,"d":{"rpcVersion":1}}'), wait_for(re.compile('"op": 1')),
        send('{"op":2,"d":{"negotiatedRpcVersion":1}}'), wait_for(re.compile("GetVersion")),
        send(json.dumps(answer)), wait_for_end(),
    ])
    about = {"host": "127.0.0.1", "port": server.port, "password": "", "timeout": PATIENCE}
    with server, obsws_python.ReqClient(**about) as client:
        return client.get_version().obs_version


def jupyter_gateway() -> object:
    from jupyter_server.gateway.gateway_client import GatewayClient
    from jupyter_server.gateway.managers import GatewayKernelClient

    reply = {
        "channel": "shell", "header": {"msg_type": "kernel_info_reply", "msg_id": "1"}, "parent_header": {},
        "msg_type": "kernel_info_reply", "msg_id": "1", "metadata": {}, "content": {"status": "ok"},
    }

    async def talk(server: ScriptedServer) -> object:
        GatewayClient.instance().url = server.url.replace("ws:", "http:").rstrip("/")
        client = GatewayKernelClient(kernel_id="abc")
        client.session.key = b""
        await client.start_channels()
        client.kernel_info()
        message = await client.get_shell_msg(timeout=PATIENCE)
        client.stop_channels()
        return [message["header"]["msg_type"], message["content"]]

    with ScriptedServer([
        accept(), wait_for(re.compile("kernel_info_request")), send(json.dumps(reply)), wait_for_end(),
    ]) as server:
        return asyncio.run(talk(server))


CLIENTS = {
    "python-socketio": socketio_client, "slack_sdk": slack, "docker": docker_attach,
    "kubernetes": kubernetes_exec, "binance-connector": binance, "pybit": pybit, "Pysher": pysher,
    "obsws-python": obsws, "jupyter_server": jupyter_gateway,
}

if __name__ == "__main__":
    if sys.argv[1] == "drop-in":
        import lochws.compat.websocket

        lochws.compat.websocket.install()
    import websocket

    assert ("lochws" in str(websocket.__file__)) is (sys.argv[1] == "drop-in")
    from lochws.testing import (
        ScriptedServer,
        accept,
        close,
        ping,
        send,
        wait_for,
        wait_for_end,
        wait_for_pong,
    )

    logging.disable()
    threading.excepthook = lambda _: None  # the packages' own threads
    sys.stdout.write(json.dumps(CLIENTS[sys.argv[2]]()) + "\n")
    sys.stdout.flush()

    os._exit(0)  # some packages leave threads that never end
