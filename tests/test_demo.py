"""`python -m lochws`: what a newcomer runs first."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

import lochws
from lochws import WebSocket, demo
from lochws.__main__ import main
from lochws.demo import DemoServer

from .support.seen import PATIENCE


@pytest.fixture
def no_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes importing websockets fail, as where it is not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "websockets"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "websockets", None)
    monkeypatch.setitem(sys.modules, "websockets.sync.server", None)


@pytest.fixture
def threads_before() -> Iterator[set[threading.Thread]]:
    before = set(threading.enumerate())
    yield before
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)  # those that keep websockets' connections alive end a moment after its server
        assert not thread.is_alive(), f"the test left the thread {thread.name}"


def test_the_demo_loses_its_connection_and_gets_it_back_in_under_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, threads_before: set[threading.Thread]
) -> None:
    monkeypatch.setattr(demo, "INTERVAL", 0.02)
    began = monotonic()
    assert main(["demo"]) == 0
    assert monotonic() - began < 10
    lines = capsys.readouterr().out.splitlines()
    steps = [line.split(" s  ")[1].split()[0] for line in lines if " s  " in line]
    connection = ["connecting", "ready", "text", *["text"] * demo.DROP_AFTER]
    assert [step for step in steps if not step.startswith("(")] == [
        *connection, "disconnected", "back_off", *connection, "closed", "disconnected"
    ]
    assert steps.count("(server)") == 1
    assert lines[-1].startswith("Done: 10 prices over 2 connections")


def test_the_demo_without_websockets_says_what_to_install(
    capsys: pytest.CaptureFixture[str], no_websockets: None
) -> None:
    assert main(["demo"]) == 1
    output = capsys.readouterr()
    assert not output.out
    assert output.err == "lochws: the demo server needs websockets: pip install 'lochws[demo]'\n"


@pytest.fixture
def no_click(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes importing click fail, as where only the extra `demo` is installed."""
    for name in [name for name in sys.modules if name.startswith("lochws.cli") or name == "click"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "click", None)


@pytest.mark.parametrize("arguments", [["connect", "ws://x/"], ["dance"], ["demo", "now"]])
def test_without_click_every_other_command_says_what_to_install(
    arguments: list[str], capsys: pytest.CaptureFixture[str], no_click: None
) -> None:
    assert main(arguments) == 1
    assert capsys.readouterr().err == "lochws: this needs click: pip install 'lochws[cli]'\n"


def test_without_click_the_demo_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_click: None
) -> None:
    monkeypatch.setattr(demo, "INTERVAL", 0.02)
    assert main(["demo"]) == 0
    assert "Done: 10 prices" in capsys.readouterr().out


def test_without_click_the_version_is_told(capsys: pytest.CaptureFixture[str], no_click: None) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"lochws {lochws.__version__}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_ends_the_demo_without_a_traceback() -> None:
    command = [sys.executable, "-m", "lochws", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "price" in line and "text" in line:
                break
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert not errors
    assert "graceful=True" in output


def test_the_demo_server_echoes(threads_before: set[threading.Thread]) -> None:
    with DemoServer() as server:
        websocket = WebSocket(server.echo_url)
        for event in websocket:
            if event.name == "ready":
                websocket.send_text("hello")
            elif event.name == "text":
                assert event.text == "hello"
                websocket.close()
        assert event.graceful


@pytest.mark.parametrize(
    ("subscription", "products"),
    [
        ('{"product_ids": ["ETH-USD", "X"]}', ["ETH-USD", "X", "ETH-USD"]),
        ('{"type": "subscribe"}', ["BTC-USD"] * 3),
        ('{"product_ids": []}', ["BTC-USD"] * 3),
        ('{"product_ids": [["X"], 1, "Y"]}', ["Y"] * 3),
        ('{"product_ids": 5}', ["BTC-USD"] * 3),
        ("[]", ["BTC-USD"] * 3),
        ("subscribe", ["BTC-USD"] * 3),
    ],
)
def test_the_ticker_takes_turns_among_the_products_that_were_asked_for(
    subscription: str, products: list[str], threads_before: set[threading.Thread]
) -> None:
    prices = []
    with DemoServer(interval=0.001) as server:
        websocket = WebSocket(server.url)
        for event in websocket:
            if event.name == "ready":
                websocket.send_text(subscription)
            elif event.name == "text" and event.json["type"] == "ticker" and len(prices) < 3:
                prices.append(event.json)
                if len(prices) == 3:
                    websocket.close()
    assert [price["product_id"] for price in prices] == products
    for price in prices:
        first = demo.FIRST_PRICES.get(price["product_id"], 100)
        assert price["price"] == pytest.approx(first, rel=0.001)


def test_the_demo_server_drops_its_connections_and_takes_new_ones(
    threads_before: set[threading.Thread]
) -> None:
    with DemoServer(interval=0.01) as server:
        for path in (server.echo_url, server.url):
            websocket = WebSocket(path)
            for event in websocket:
                if event.name == "ready":
                    websocket.send_text("is anybody there?")
                elif event.name == "text":
                    server.drop()
            assert isinstance(event, lochws.events.Disconnected)
            assert not event.graceful
        server.drop()  # nobody is there
