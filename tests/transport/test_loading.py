"""Loading of `ssl` and the code for TLS: by the first WebSocket that needs them."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOADED = "import sys\nimport lochws\nloaded = lambda: {'ssl', 'lochws.transport.tls'} & set(sys.modules)\n"


def _run(program: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", _LOADED + program], check=True, timeout=60)


def test_a_program_without_tls_never_loads_it() -> None:
    _run(
        "app = lochws.WebSocketApp('ws://127.0.0.1:1')\n"
        "assert app.run_forever(persist=False).phase == 'tcp'\n"
        "assert not loaded(), loaded()\n"
    )


@pytest.mark.parametrize("url", ["'wss://127.0.0.1:1'", "lambda: 'ws://127.0.0.1:1'"])
def test_a_websocket_that_may_need_tls_loads_it_when_it_is_created(url: str) -> None:
    _run(f"lochws.WebSocketApp({url})\nassert len(loaded()) == 2, loaded()\n")


def test_tls_options_are_checked_when_the_websocket_is_created() -> None:
    _run(
        "try:\n    lochws.WebSocket('ws://127.0.0.1:1', ssl_cafile='/nowhere')\n"
        "except FileNotFoundError:\n    pass\n"
        "else:\n    raise AssertionError('not checked')\n"
        "try:\n    lochws.WebSocket('ws://127.0.0.1:1', ssl_context='/nowhere')\n"
        "except TypeError as error:\n    assert 'expected an ssl.SSLContext' in str(error), error\n"
        "else:\n    raise AssertionError('not checked')\n"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="numbers descriptors as Linux does")
def test_without_descriptors_the_attempt_fails_and_a_later_one_loads_tls() -> None:
    _run(
        "import os, resource, socket, threading\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "free = os.dup(0)\n"
        "os.close(free)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))\n"
        "websocket = lochws.WebSocket(f'wss://127.0.0.1:{server.getsockname()[1]}')\n"
        "assert 'lochws.transport.tls' not in loaded()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "def answer():\n"
        "    sock, _ = server.accept()\n"
        "    sock.recv(1)\n"
        "    sock.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')\n"
        "    sock.close()\n"
        "threading.Thread(target=answer, daemon=True).start()\n"
        "*_, last = websocket\n"
        "assert 'does not speak TLS' in last.reason, last\n"
        "assert len(loaded()) == 2, loaded()\n"
    )
