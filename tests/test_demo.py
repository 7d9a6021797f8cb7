"""`python -m lochws demo`: what a newcomer runs first."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys

import pytest

import lochws
from lochws import WebSocket, demo, events
from lochws.__main__ import main
from lochws.demo import DemoServer, Narrator
from lochws.testing import ScriptedServer

from .support.awake import Awake
from .support.seen import PATIENCE

#: A program that runs the command line as if a package were not installed.
START = """
import sys
sys.modules[{!r}] = None
from lochws.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

needs_ctrl_c = pytest.mark.skipif(
    sys.platform == "win32", reason="Ctrl-C cannot be sent to a single process there"
)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the demonstration's prices come ten times as fast, and gives a stalled machine time."""
    monkeypatch.setattr(demo, "INTERVAL", 0.02)
    monkeypatch.setattr(demo, "LIMIT", PATIENCE)


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make importing packages fail, as where they are not installed."""
    for name in list(sys.modules):
        if name.partition(".")[0] in packages or name.startswith(("lochws.testing", "lochws.cli")):
            monkeypatch.delitem(sys.modules, name)
    if hasattr(lochws, "testing"):
        monkeypatch.delattr(lochws, "testing")
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


def test_the_demo_loses_its_connection_and_gets_it_back_in_under_ten_seconds(
    capsys: pytest.CaptureFixture[str], fast: None, awake: Awake
) -> None:
    began = awake()
    assert main(["demo"]) == 0
    assert awake() - began < 10
    lines = capsys.readouterr().out.splitlines()
    steps = [line.split(" s  ")[1][2:].split()[0] for line in lines if " s  " in line]
    connection = ["connecting", "ready", "text", *["text"] * demo.DROP_AFTER]
    assert [step for step in steps if not step.startswith("(")] == [
        *connection, "disconnected", "back_off", *connection, "closed", "disconnected"
    ]
    assert steps.count("(server)") == 1
    assert lines[-1].startswith("Done: 10 prices over 2 connections.")


def test_the_demo_says_how_long_the_gap_was_and_which_prices_were_missed(
    capsys: pytest.CaptureFixture[str], fast: None
) -> None:
    main(["demo"])
    output = capsys.readouterr().out
    numbers = [int(number) for number in re.findall(r"price (\d+): BTC-USD 6\d,\d{3}\.\d\d", output)]
    missed = re.search(r"\(missed\) +(\d+) prices, (\d+) to (\d+)", output)
    assert missed is not None
    count, first, last = map(int, missed.groups())
    assert numbers[4:6] == [first - 1, last + 1]
    assert count == last - first + 1
    assert f"missed {count} prices" in output
    (gap,) = re.findall(r"connected again after (\d+\.\d\d) s", output)
    assert f"offline for {gap} s" in output


def test_the_demo_is_in_color_on_a_terminal_and_plain_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class TerminalOutput(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("WT_SESSION", "1")  # Windows' own terminal
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert demo.has_colors(TerminalOutput())
    assert not demo.has_colors(io.StringIO())
    for name, value in (("TERM", "dumb"), ("NO_COLOR", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not demo.has_colors(TerminalOutput())
    output = io.StringIO()
    Narrator(output, colors=True)("lost", "gone", "bad")
    red, normal = r"\x1b\[1;31m", r"\x1b\[0m"
    line = rf"{red} +\d+\.\d\d s{normal}    {red}lost +gone{normal}\n"
    assert re.fullmatch(line, output.getvalue())


@pytest.mark.parametrize(
    ("encoding", "bars"),
    [("utf-8", " ┃┃\u2573┊┊┃╹"), ("ascii", " ||x::|'"), ("latin-1", " ||x::|'")],
)
def test_a_bar_shows_when_there_is_a_connection(encoding: str, bars: str) -> None:
    written = io.BytesIO()
    output = io.TextIOWrapper(written, encoding=encoding)
    tell = Narrator(output, colors=False)
    events_and_colors = [
        ("connecting", "plain"), ("ready", "good"), ("text", "plain"), ("disconnected", "bad"),
        ("back_off", "bad"), ("connecting", "plain"), ("ready", "good"), ("disconnected", "plain"),
    ]
    for who, color in events_and_colors:
        tell(who, "", color)
    lines = written.getvalue().decode(encoding).splitlines()
    assert "".join(line.split(" s  ")[1][0] for line in lines) == bars


@pytest.mark.parametrize("hidden", [(), ("click",)])
@pytest.mark.parametrize(("when", "expected"), [("always", True), ("never", False), ("auto", False)])
def test_the_demo_has_an_option_for_color(
    when: str, expected: bool, hidden: tuple[str, ...], fast: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hide(monkeypatch, *hidden)
    assert main(["demo", "--color", when]) == 0
    assert ("\x1b[1;31m" in capsys.readouterr().out) is expected


@pytest.mark.parametrize("package", ["h11", "wsproto"])
@pytest.mark.parametrize("words", [["demo"], ["demo", "--serve", "--port", "0"]])
def test_without_its_packages_the_demo_says_what_to_install(
    package: str, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, package)
    assert main(words) == 1
    assert capsys.readouterr().err.strip() == (
        "lochws: the demo server needs h11 and wsproto: pip install 'lochws[demo]'"
    )


@pytest.mark.parametrize(
    ("arguments", "command"),
    [(["connect", "ws://x/"], "connect"), (["--debug", "dance"], "dance"), (["ws://u:p@x/"], "connect")],
)
def test_without_click_every_other_command_says_what_to_install(
    arguments: list[str], command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "click")
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        f"lochws: {command} needs click, like every command but demo: pip install 'lochws[cli]'\n"
    )


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        ("demo now", 2, "unrecognized arguments: now"), ("demo --new", 2, "unrecognized arguments: --new"),
        ("--debug", 2, "required: command"), ("demo --help", 0, "--serve"), ("--help", 0, "need click: pip"),
    ],
)
def test_without_click_the_demo_has_its_help_and_names_what_it_does_not_know(
    words: str, code: int, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "click")
    with pytest.raises(SystemExit) as end:
        main(words.split())
    output = capsys.readouterr()
    assert end.value.code == code
    assert shown in (output.err if code else output.out)


def test_the_demo_needs_neither_click_nor_websockets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fast: None
) -> None:
    hide(monkeypatch, "click", "websockets", "trustme")
    assert main(["demo"]) == 0
    assert "Done: 10 prices" in capsys.readouterr().out


@pytest.mark.parametrize("hidden", ["", "click"])
def test_no_log_record_interrupts_the_demo(hidden: str) -> None:
    command = [sys.executable, "-c", START.format(hidden), "demo"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "connection lost: ended by the server" in ended.stdout
    assert ended.stderr == ""


def test_without_click_version_still_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "click")
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"lochws {lochws.__version__} (")


@needs_ctrl_c
def test_ctrl_c_ends_the_demo_without_a_traceback() -> None:
    command = [sys.executable, "-m", "lochws", "demo"]
    for _ in range(5):  # the connection may be lost or the demo be over before the signal arrives
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            next(line for line in process.stdout if "price" in line and "text" in line)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE)
        if process.returncode == 130 and "our Close frame" in output:
            break
    assert process.returncode == 130
    assert not errors
    assert "the server answered our Close frame with code 1000" in output


# The server that other programs talk to.

#: The first program of the README.
FIRST_PROGRAM = """
import sys
from lochws import WebSocketApp

class Ticker(WebSocketApp):
    def on_ready(self, event):
        self.send_json(type="subscribe", channels=["ticker"])

    def on_text(self, event):
        print(event.json, flush=True)

Ticker(sys.argv[1]).run_forever()
"""


@pytest.mark.parametrize("hidden", ["", "click"])
@needs_ctrl_c
def test_demo_serve_feeds_the_first_program_until_ctrl_c(hidden: str) -> None:
    command = [sys.executable, "-c", START.format(hidden), "demo", "--serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[0]
        program = [sys.executable, "-c", FIRST_PROGRAM, url]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
            assert first.stdout is not None
            lines = [first.stdout.readline() for _ in range(3)]
            first.send_signal(signal.SIGINT)
        server.send_signal(signal.SIGINT)
        output, errors = server.communicate(timeout=PATIENCE)
    assert lines[0] == "{'type': 'subscribed', 'channels': ['ticker']}\n"
    assert all(line.startswith("{'type': 'ticker', 'sequence': ") for line in lines[1:])
    assert (server.returncode, errors) == (130, "")
    assert output.strip() == "The demo server has stopped."


def test_demo_serve_on_a_port_that_is_taken_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer() as server:
        assert main(["demo", "--serve", "--port", str(server.port)]) == 1
    errors = capsys.readouterr().err
    where = rf"127\.0\.0\.1 port {server.port}"
    assert re.fullmatch(rf"lochws: cannot listen on {where}: [^()\n]+; try --port 0\n", errors)


def test_the_demo_server_echoes() -> None:
    with DemoServer() as server:
        websocket = WebSocket(server.echo_url, compress=True)
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
        ("[" * 100_000, ["BTC-USD"] * 3),
    ],
)
def test_the_feed_takes_turns_among_the_products_that_were_asked_for(
    subscription: str, products: list[str]
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
    assert [price["sequence"] - prices[0]["sequence"] for price in prices] == [0, 1, 2]
    for price in prices:
        first = demo.FIRST_PRICES.get(price["product_id"], 100)
        assert price["price"] == pytest.approx(first, rel=0.001)


def test_a_subscription_can_be_changed() -> None:
    products: list[str] = []
    with DemoServer(interval=0.01) as server:
        websocket = WebSocket(server.url)
        for event in websocket:
            if event.name == "ready":
                websocket.send_json(type="subscribe", id=1, product_ids=["A"])
            elif event.name == "text" and event.json["type"] == "ticker":
                products.append(event.json["product_id"])
                if products == ["A"]:
                    websocket.send_json(type="subscribe", id=2, product_ids=["B"])
                elif products[-1] == "B":
                    websocket.close()
            elif event.name == "text":
                assert json.dumps(event.json) in ('{"type": "subscribed", "id": 1, "channels": ["ticker"]}',
                                                  '{"type": "subscribed", "id": 2}')
    assert products[-1] == "B"


def test_the_demo_server_drops_its_connections_and_takes_new_ones() -> None:
    with DemoServer(interval=0.01) as server:
        for path in (server.echo_url, server.url):
            websocket = WebSocket(path)
            for event in websocket:
                if event.name == "ready":
                    websocket.send_text("is anybody there?")
                elif event.name == "text":
                    server.drop()
            assert isinstance(event, events.Disconnected)
            assert not event.graceful
        server.drop()  # nobody is connected
