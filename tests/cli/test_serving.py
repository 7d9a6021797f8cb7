"""`lochws serve`, `replay` and `bench`."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lochws import WebSocketApp
from lochws.__main__ import main
from lochws.cli.exits import Exit
from lochws.cli.histogram import Histogram
from lochws.handlers.recorder import Recorder
from lochws.testing import ScriptedServer, accept, close, echo, fin, send, send_raw, wait_for

from ..support.seen import PATIENCE
from .commands import COMMAND, environment, in_terminal, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start `lochws serve` on a free port, and end it by Ctrl-C; returns its URL."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str) -> str:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", *words], env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        processes.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == Exit.INTERRUPTED
        assert all(line.startswith("certificate for --cafile: ") for line in errors.splitlines()), errors


def test_serve_echoes(serve: Serve) -> None:
    assert run("connect", "-n", "2", serve(), text="a\nb\n") == (0, "a\nb\n", "")


@pytest.fixture
def guests() -> Iterator[tuple[str, Callable[[], str]]]:
    """Start `lochws serve -v`; returns its URL, and a function that ends it and returns its log."""
    command = [*COMMAND, "serve", "-v", "--port", "0"]
    with subprocess.Popen(
        command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None

        def end() -> str:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=2 * PATIENCE)
            assert process.returncode == Exit.INTERRUPTED
            return errors

        try:
            yield process.stdout.readline().strip(), end
        finally:
            process.kill()


def test_serve_shows_who_connects_and_leaves_with_v(guests: tuple[str, Callable[[], str]]) -> None:
    url, end = guests
    for path in ("one", "two"):
        app = WebSocketApp(f"{url}{path}")
        app.start(persist=False)
        assert app.wait_ready(PATIENCE)
        if path == "two":
            app.force_disconnect("gone")
        assert app.stop(PATIENCE)
    with socket.create_connection(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))) as sock:
        sock.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        while sock.recv(1024):
            pass
    log = re.sub(r"(?m)^\S+ \S+ INFO +", "", end())
    log = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", log)
    lines = set(log.splitlines())
    assert lines >= {
        "connection 0: from ADDRESS, to /one", "connection 0: closed with code 1000: goodbye",
        "connection 1: from ADDRESS, to /two",
        "connection 2: the client did not send an HTTP request: illegal request line",
    }
    assert "bytearray" not in log


def test_serve_is_silent_about_clients_that_vanish(serve: Serve) -> None:
    url = serve()
    port = int(url.rstrip("/").rpartition(":")[2])
    for sent in (b"", b"GET / HT", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(sent)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    app = WebSocketApp(url)
    app.start(persist=False)
    assert app.wait_ready(PATIENCE)
    app.force_disconnect("gone")
    assert app.stop(PATIENCE)
    assert run("-x", "still here", "-n", "1", url).output == "still here\n"


def test_serve_ticks(serve: Serve) -> None:
    done = run("connect", "--wait", "inf", "-n", "3", serve("ticker", "--interval", "0.01"))
    assert done.code == 0
    prices = [json.loads(line) for line in done.output.splitlines()]
    assert [price["type"] for price in prices] == ["ticker"] * 3


def test_the_ticker_answers_a_subscription_and_nothing_else(serve: Serve) -> None:
    others = ["subscribe", "7", "[" * 100_000, '{"type": "hello"}']
    asked = [*others, '{"type": "subscribe", "channels": ["ticker"], "id": 5}']
    url = serve("ticker", "--interval", "600")
    done = run("connect", "--wait", "inf", "-n", "1", url, text="\n".join(asked))
    assert done.code == 0
    assert json.loads(done.output) == {"type": "subscribed", "channels": ["ticker"], "id": 5}


def test_serve_with_a_certificate_of_its_own_authority(serve: Serve) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    url = serve("--tls")
    assert url.startswith("wss://127.0.0.1:")
    assert run("connect", "-n", "1", "--insecure", url, text="a\n") == (0, "a\n", "")


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with ScriptedServer() as server:
        done = run("serve", "--port", str(server.port))
    assert done.code == Exit.FAILED
    where = f"127.0.0.1 port {server.port}"
    assert re.fullmatch(rf"lochws: cannot listen on {where}: [^()]+\n", done.errors)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Record a short conversation."""
    path = tmp_path / "talk.jsonl.gz"
    said = [send("one\n"), send(b"\x00\xff"), wait_for("hello"), send("\x1b[2Jtwo")]
    script = [accept(), *said, close(1000, "bye")]
    with ScriptedServer(script) as server:
        done = run("connect", "--wait", "inf", "--record", str(path), server.url, text="hello\n")
    assert done.code == 0
    return path


def test_a_recording_is_shown_in_order_and_cannot_control_the_terminal(recorded: Path) -> None:
    done = run("replay", str(recorded))
    assert (done.code, done.errors) == (0, "")
    lines = [line.split(maxsplit=1)[1] for line in done.output.splitlines()]
    assert lines[0].startswith("* connecting to ws://127.0.0.1:")
    assert lines.index("> hello") > lines.index(next(line for line in lines if "* ready (" in line))
    received = [line for line in lines if line.startswith("<") and "pong" not in line]
    assert received == [r"< one\n", "< [2 bytes] AP8=", r"< \x1b[2Jtwo"]
    assert "* closed by the server: 1000 bye" in lines
    assert "> close 1000 bye" in lines
    assert lines[-1].startswith("* disconnected: ")
    assert not re.search(r"\w\(|\w=", done.output.replace("AP8=", "")), "the repr of an event"


def test_replay_uses_the_words_of_connect(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    said = [send("one"), send(b"two"), send_raw(b"\x89\x04you?")]
    script = [accept(), *said, wait_for("bye"), close(4000, "enough")]
    with (
        ScriptedServer(script) as server,
        in_terminal("--no-history", "--record", str(path), server.url) as screen,
    ):
        screen.wait_for("[3 bytes]")
        screen.wait_until(lambda: screen.lines[-1] == ">")  # before, the terminal itself would echo
        screen.type("/ping hello\r")
        screen.wait_for("pong hello after")
        screen.type("bye\r")
        assert screen.end() == Exit.CLOSED_WITH_ERROR
        shown = [line.split(maxsplit=1)[1] for line in screen.lines]
    done = run("replay", str(path))
    played = [line.split(maxsplit=1)[1] for line in done.output.splitlines()]
    assert len(shown) > 8
    hint = "* type a message and press Enter; /help lists the commands"
    assert [line for line in shown if line not in played] == [hint]
    assert {"< ping you?", "> pong you?", "> close 4000 enough"} <= set(played)


def test_replay_is_in_color_on_request(recorded: Path) -> None:
    output = run("replay", "--color", "always", str(recorded)).output
    assert "> hello" not in output
    assert "\x1b[36mhello\x1b[0m" in output
    assert re.sub(r"\x1b\[[0-9;]*m", "", output) == run("replay", str(recorded)).output


def test_replay_says_what_was_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with ScriptedServer([accept(), send("four"), send(b"123"), close()]) as server:
        app = WebSocketApp(server.url)
        with Recorder(path, payloads=False) as recorder:
            app.add_handler(recorder)
            app.run_forever(persist=False)
    output = run("replay", str(path)).output
    assert "< [4 characters, not recorded]" in output
    assert "< [3 bytes, not recorded]" in output


def test_the_messages_of_a_recording_are_what_connect_wrote(recorded: Path) -> None:
    assert run("replay", "--messages", str(recorded)).output == "one\\n\nAP8=\n\x1b[2Jtwo\n"


def test_the_lines_of_a_recording_are_json(recorded: Path) -> None:
    found = [json.loads(line) for line in run("replay", "--json", str(recorded)).output.splitlines()]
    assert found[0]["event"] == "connecting"
    assert {"at", "time", "direction"} & set(found[0])


def test_a_recording_is_served_to_each_client(recorded: Path, serve: Serve) -> None:
    url = serve(str(recorded), "--speed", "0")
    for _ in range(2):
        assert run("connect", "--wait", "inf", url) == (0, "one\\n\nAP8=\n\x1b[2Jtwo\n", "")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["replay"], Exit.USAGE, "Missing argument 'FILE'"),
        (["replay", "/no/such"], Exit.USAGE, "/no"),
        (["replay", __file__], Exit.FAILED, "test_serving.py, line 1: "),
        (["replay", "/"], Exit.FAILED, "cannot read /"),
        (["serve", "/no/such"], Exit.USAGE, "/no"),
        (["serve", "tikcer"], Exit.USAGE, "no such recording: tikcer; expected 'echo', 'ticker'"),
        (["serve", __file__, "--port", "0"], Exit.FAILED, "test_serving.py, line 1: "),
        (["serve", "/", "--port", "0"], Exit.FAILED, "cannot read /"),
        (["serve", "ticker", "--interval", "0"], Exit.USAGE, "--interval: expected a number above 0"),
        (["serve", "--port", "99999"], Exit.USAGE, "99999"),
        (["serve", "--cert", "/no/such", "--port", "0"], Exit.USAGE, "/no/such: No such file"),
        (["serve", "--cert", __file__, "--port", "0"], Exit.USAGE, "test_serving.py: "),
        (["serve", "--host", "no-such.invalid", "--port", "0"], Exit.FAILED, "cannot listen on no-such."),
        (["connect", "--record", "/no/such/file", "ws://127.0.0.1:1/"], Exit.USAGE, "/no/such"),
        (["connect", "--record", __file__, "ws://127.0.0.1:1/"], Exit.USAGE, "test_serving.py"),
        (["bench", "--seconds", "0", "ws://127.0.0.1:1/"], Exit.USAGE, "expected a number above 0"),
        (["bench", "--size", "1", "ws://127.0.0.1:1/"], Exit.USAGE, "--size"),
        (["bench", "ws://127.0.0.1:1/"], Exit.NO_CONNECTION, "Connection refused"),
    ],
)
def test_each_mistake_is_one_sentence(
    words: list[str], code: Exit, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    errors = capfd.readouterr().err
    assert sentence in errors
    assert errors.startswith("lochws: ")
    assert len(errors.splitlines()) == 1


# bench.


@pytest.mark.parametrize("binary", [[], ["--binary"]])
def test_bench_measures_an_echo_server(binary: list[str]) -> None:
    with ScriptedServer() as server:
        words = ("--json", "--count", "200", "--size", "100", "--in-flight", "20", *binary)
        done = run("bench", *words, server.url)
    assert (done.code, done.errors) == (0, "")
    found = json.loads(done.output)
    assert (found["messages"], found["round_trips"], found["size"]) == (200, 200, 100)
    trip = found["round_trip_ms"]
    assert 0 < trip["p50"] <= trip["p90"] <= trip["p99"] <= trip["max"]
    assert found["bytes_per_second"] == pytest.approx(100 * found["messages_per_second"])
    messages = server.messages
    assert len(messages) == 450  # including the warm-up
    assert {len(message) for message in messages} == {100}
    assert {type(message) for message in messages} == {bytes if binary else str}


def test_bench_ends_in_time() -> None:
    with ScriptedServer() as server:
        done = run("bench", "--seconds", "0.1", server.url)
    assert done.code == 0
    assert done.output.startswith("round trip   p50 ")


def test_bench_refuses_a_server_that_does_not_echo() -> None:
    with ScriptedServer([accept(), wait_for(lambda _: True), send("hello")]) as server:
        done = run("bench", server.url)
    assert done == (
        Exit.PROTOCOL, "", "lochws: the server is not an echo server: a reply differs from the message sent\n"
    )


def test_bench_reports_a_connection_that_ends() -> None:
    with ScriptedServer([accept(), wait_for(lambda _: True), fin()]) as server:
        done = run("bench", server.url)
    assert (done.code, done.output) == (Exit.LOST, "")
    assert len(done.errors.splitlines()) == 1


def test_bench_has_a_progress_bar_on_a_terminal() -> None:
    words = ("bench", "--seconds", "1")
    with ScriptedServer([accept(), echo()]) as server, in_terminal(*words, server.url) as screen:
        screen.wait_for("one at a time")
        screen.wait_for("100 in flight")
        assert screen.end() == 0
        screen.wait_for("every reply was identical")


def test_percentiles_are_accurate_to_one_percent() -> None:
    draw = random.Random(7)
    times = sorted(draw.lognormvariate(-8, 2) for _ in range(10_000))
    histogram = Histogram()
    for seconds in times:
        histogram.add(seconds)
    for percent in (50, 90, 99):
        exact = times[len(times) * percent // 100 - 1]
        assert exact <= histogram.percentile(percent) <= 1.01 * exact
    assert histogram.percentile(100) == histogram.most == times[-1]
    with pytest.raises(ValueError, match="no time was added"):
        Histogram().percentile(50)
