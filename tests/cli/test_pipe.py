"""`lochws connect` in a pipe: nothing is lost, and the exit code says how it ended."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from lochws.cli.exits import Exit
from lochws.cli.lines import MAX_LINE, lines_of
from lochws.testing import (
    ScriptedServer,
    Step,
    accept,
    close,
    echo,
    fin,
    ignore_close,
    pause,
    read_on,
    reset,
    send,
    send_raw,
    silence,
    stop_reading,
    upgrade,
    wait_for,
)

from ..support.seen import PATIENCE, eventually, in_thread
from .commands import COMMAND, Ended, environment, in_terminal, run

LINES = 100_000
#: The most memory that a run may take, in bytes; the interpreter and its modules take 40 MiB.
MEMORY = 150 * 1024 * 1024

#: Servers that answer in order need no time after the end of the input.
AT_ONCE = ("connect", "--wait", "0.01")

#: A server that is not ours. It takes messages from a queue, so it answers a Close frame before the messages
#: in that queue. After a "bye" it closes.
ECHO = """
import asyncio, sys
from websockets.asyncio.server import serve

async def echo(connection):
    async for message in connection:
        await connection.send(message)
        if message == "bye":
            return

async def main():
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def echo_url() -> Iterator[str]:
    """Run an echo server made with websockets in a process of its own; returns its URL."""
    command = [sys.executable, "-c", ECHO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


@pytest.mark.timeout(120)
def test_100_000_lines_go_each_way_without_loss_in_little_memory(echo_url: str, tmp_path: Path) -> None:
    given, got = tmp_path / "given", tmp_path / "got"
    lines = (f"{number} äöü {'x' * (number % 50)}\n" for number in range(LINES))
    given.write_text("".join(lines), encoding="utf-8")
    program = (
        "import re, resource, sys\n"
        "from lochws.__main__ import main\n"
        "code = main()\n"
        "most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"  # Linux starts that with what the process had that started this one, and VmHWM with nothing
        "    with open('/proc/self/status') as status:\n"
        "        most = re.search(r'VmHWM:\\s+(\\d+) kB', status.read())[1]\n"
        "except OSError:\n"
        "    pass\n"
        "print(most, file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    command = [sys.executable, "-c", program, "connect", echo_url, "--count", str(LINES)]
    with given.open("rb") as source, got.open("wb") as target:
        done = subprocess.run(
            command, stdin=source, stdout=target, stderr=subprocess.PIPE, text=True, env=environment(),
            timeout=100, check=False,
        )
    assert done.returncode == 0, done.stderr
    assert got.read_bytes() == given.read_bytes()
    assert int(done.stderr) * 1024 < MEMORY


def test_messages_after_the_end_of_the_input_are_waited_for(echo_url: str) -> None:
    lines = "".join(f"{number}\n" for number in range(3000)) + "bye\n"
    assert run("connect", "--wait", "inf", echo_url, text=lines) == (0, lines, "")


def test_a_message_is_one_line_whatever_it_contains() -> None:
    script = [accept(), send("one\ntwo\r\n"), send("\x1b[2J"), close()]
    with ScriptedServer(script) as server:
        done = run("connect", "--wait", "inf", server.url)
    assert done == (0, "one\\ntwo\\r\\n\n\x1b[2J\n", "")


def test_the_last_line_needs_no_newline_and_empty_lines_are_messages() -> None:
    with ScriptedServer() as server:
        assert run(*AT_ONCE, server.url, text="a\n\nb").output == "a\n\nb\n"
    assert server.messages == ["a", "", "b"]


def test_no_input_connects_and_closes() -> None:
    with ScriptedServer() as server:
        assert run(*AT_ONCE, server.url) == (0, "", "")
    assert server.connections[0].close_frame == (1000, "goodbye")


def test_count_ends_after_that_many_messages() -> None:
    with ScriptedServer([accept(), *map(send, "abcde")]) as server:
        assert run("connect", "--wait", "inf", "-n", "3", server.url) == (0, "a\nb\nc\n", "")


def test_fewer_messages_than_count_are_not_enough() -> None:
    with ScriptedServer([accept(), send("a"), close()]) as server:
        done = run("connect", "--wait", "inf", "-n", "2", server.url)
    assert done == (Exit.LOST, "a\n", "lochws: the server closed after 1 of 2 messages\n")


# Exit codes.


@pytest.mark.parametrize(
    ("script", "code", "sentence"),
    [
        ([accept(), close(1001)], Exit.OK, ""),
        ([accept(), close(None)], Exit.OK, ""),
        ([accept(), close(1011, "broken\x1b[2J")], Exit.CLOSED_WITH_ERROR, r"with code 1011: broken\x1b[2J"),
        ([accept(), close(4001)], Exit.CLOSED_WITH_ERROR, "the server closed with code 4001"),
        ([accept(), fin()], Exit.LOST, "connection lost"),
        ([accept(), send_raw(b"\xff\xff")], Exit.PROTOCOL, "the server violated the protocol"),
        ([upgrade(status=401)], Exit.REFUSED, "401"),
        ([send_raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")], Exit.REFUSED, "Check the host and port"),
    ],
)
def test_the_exit_code_says_how_it_ended(script: list[object], code: Exit, sentence: str) -> None:
    with ScriptedServer(script) as server:  # type: ignore[arg-type]
        done = run("connect", "--wait", "inf", server.url)
    assert done.code == code
    assert sentence in done.errors
    assert len(done.errors.splitlines()) == bool(sentence)


def test_what_a_server_sent_is_quoted_without_pythons_b_prefix() -> None:
    with ScriptedServer([send_raw(b"it's SSH\x00\r\n\r\n")]) as server:
        done = run("connect", "--wait", "inf", server.url)
        assert run("doctor", "-q", server.url).output.count(r"""begins with "it's SSH\x00""") == 1
    assert done.code == Exit.REFUSED
    assert r"""it begins with "it's SSH\x00\r\n\r\n".""" in done.errors


def test_no_connection_is_3() -> None:
    done = run("connect", "ws://127.0.0.1:1/", text="a\n")
    assert done.code == Exit.NO_CONNECTION
    assert done.errors.startswith("lochws: unable to connect; 127.0.0.1:1: ")
    assert len(done.errors.splitlines()) == 1


def test_an_untrusted_certificate_is_3_and_insecure_accepts_it(
    server_tls: ssl.SSLContext, ca_file: str
) -> None:
    with ScriptedServer(tls=server_tls) as server:
        done = run(*AT_ONCE, server.url, text="a\n")
        assert done.code == Exit.NO_CONNECTION
        assert "was not accepted" in done.errors
        assert run(*AT_ONCE, "--insecure", server.url, text="a\n") == (0, "a\n", "")
        assert run(*AT_ONCE, "--cafile", ca_file, server.url, text="a\n") == (0, "a\n", "")


def test_a_server_that_never_answers_the_close_frame_is_given_up_after_the_timeout() -> None:
    with ScriptedServer([accept(), ignore_close(), echo()]) as server:
        done = run(*AT_ONCE, "--timeout", "1", server.url, text="a\n")
    assert (done.code, done.output) == (Exit.LOST, "a\n")
    assert "the server did not answer our Close frame within 1 s" in done.errors


# Local failures.


def test_a_line_that_is_not_utf8_is_named_and_those_before_it_are_sent() -> None:
    with ScriptedServer() as server:
        done = subprocess.run(
            [*COMMAND, *AT_ONCE, server.url], input=b"good\nb\xe9d\nmore\n", capture_output=True,
            env=environment(), check=False,
        )
    assert done.returncode == Exit.FAILED
    assert b"lochws: line 2 of the input is not valid UTF-8 at byte 1" in done.stderr
    assert server.messages == ["good"]


@pytest.mark.parametrize(("option", "line"), [("base64", "a"), ("hex", "xy"), ("file", "/no/such/file")])
def test_a_line_in_the_wrong_notation_is_named(option: str, line: str) -> None:
    with ScriptedServer() as server:
        done = run(*AT_ONCE, "--binary", option, server.url, text=f"{line}\n")
    assert done.code == Exit.FAILED
    assert done.errors.startswith("lochws: line 1 of the input")
    assert len(done.errors.splitlines()) == 1


def test_a_line_that_is_too_long_is_refused() -> None:
    with ScriptedServer() as server:
        done = run(*AT_ONCE, server.url, text="x" * (MAX_LINE + 1))
    assert (done.code, done.errors) == (Exit.FAILED, "lochws: an input line is longer than 16 MiB\n")


def test_a_full_disk_is_one_sentence() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with ScriptedServer() as server, full.open("wb") as target:
        done = subprocess.run(
            [*COMMAND, *AT_ONCE, server.url], input=b"a\n", stdout=target, stderr=subprocess.PIPE,
            env=environment(), check=False,
        )
    assert done.returncode == Exit.FAILED
    assert done.stderr.startswith(b"lochws: cannot write the output: ")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes descriptors")
@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_closed_descriptor_is_not_taken_for_a_socket(closed: str) -> None:
    words = " ".join(f"'{word}'" for word in (*COMMAND, "connect", "ws://127.0.0.1:1/"))
    done = subprocess.run(
        f"{words} {closed}", shell=True, capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == Exit.FAILED
    assert done.stderr.startswith("lochws: standard input or output is closed")


class Running:
    """`lochws connect`, running."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "connect", *words], env=environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def say(self, line: str) -> str:
        """Send a line, and wait for the next line of the output."""
        self.write(line)
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def write(self, line: str) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end_input(self) -> None:
        """End the input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def end(self) -> Ended:
        """Wait until it has ended by itself, with its input still open."""
        code = self.process.wait(2 * PATIENCE)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        return Ended(code, self.process.stdout.read(), self.process.stderr.read())


def test_a_lone_line_is_answered_while_the_input_stays_open() -> None:
    with ScriptedServer() as server, Running(server.url) as running:
        assert running.say("a") == "a\n"
        assert running.say("b") == "b\n"


def test_the_end_of_the_connection_ends_it_while_the_input_stays_open() -> None:
    script = [accept(), send("bye"), wait_for("a"), close()]
    with ScriptedServer(script) as server, Running(server.url) as running:
        assert running.say("a") == "bye\n"
        assert running.end() == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to one process there")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED), (signal.SIGHUP, Exit.HUNG_UP)],
)
def test_a_signal_closes_the_connection_and_says_nothing(number: signal.Signals, code: Exit) -> None:
    with ScriptedServer() as server, Running(server.url) as running:
        assert running.say("a") == "a\n"
        running.process.send_signal(number)
        assert running.end() == (code, "", "")
        server.connections[0].wait_over()
    assert server.connections[0].close_frame == (1001, "interrupted")


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to one process there")
def test_ctrl_c_while_connecting_ends_it_at_once() -> None:
    with ScriptedServer([silence()]) as server, Running(server.url) as running:
        server.connection()
        running.process.send_signal(signal.SIGINT)
        assert running.end() == (Exit.INTERRUPTED, "", "")


def test_a_reader_that_is_gone_ends_it_silently(echo_url: str) -> None:
    with Running(echo_url) as running:
        assert running.say("a") == "a\n"
        assert running.process.stdout is not None
        running.process.stdout.close()
        running.write("b")
        assert running.process.wait(2 * PATIENCE) == Exit.NO_READER
        assert running.process.stderr is not None
        assert running.process.stderr.read() == ""


MIB = 1 << 20


def test_a_slow_server_holds_the_writer_back_and_loses_nothing() -> None:
    """Offer more than the queue and the kernel take, and only then have the server read."""
    lines = [f"{number:x>{MIB}}" for number in range(48)]
    offered = 0

    def offer() -> None:
        nonlocal offered
        for line in lines:
            running.write(line)
            offered += 1
        running.end_input()

    script = [accept(), stop_reading()]
    with ScriptedServer(script, receive_buffer=65536) as server, Running(server.url) as running:
        writer = in_thread(offer)
        eventually(lambda: offered > 30)
        # A program that drops messages or keeps them all would take the rest in this time.
        writer.join(0.5)
        assert writer.is_alive()
        server.do(read_on())
        writer.join(PATIENCE)
        assert running.process.wait(2 * PATIENCE) == 0
        assert server.messages == lines


# Options.


def test_options_reach_the_server() -> None:
    with ScriptedServer([accept(protocol="b", deflate=True), echo()]) as server:
        done = run(
            *AT_ONCE, "-H", "X-One: 1", "--header", "X-Two:2", "-s", "a", "-s", "b", "--origin", "http://o",
            "--compress", "--auth", "user:pass", "--proxy", "none", server.url, text="hello\n",
        )
    assert done == (0, "hello\n", "")
    headers = server.requests[0].headers
    assert (headers["x-one"], headers["x-two"], headers["origin"]) == ("1", "2", "http://o")
    assert headers["sec-websocket-protocol"] == "a, b"
    assert headers["sec-websocket-extensions"].startswith("permessage-deflate")
    assert headers["authorization"] == "Basic " + base64.b64encode(b"user:pass").decode()


def test_json_makes_every_event_an_object_and_checks_the_input() -> None:
    with ScriptedServer() as server:
        done = run(*AT_ONCE, "--json", server.url, text='{"a": "\u00e4"}\n[broken\n')
    found = [json.loads(line) for line in done.output.splitlines()]
    names = [one["event"] for one in found if one["event"] != "pong"]
    assert names[:3] == ["connecting", "connected", "ready"]
    assert found[2]["response"]["status"] == 101
    assert done.output.isascii()
    assert done.code == Exit.FAILED
    assert done.errors.startswith("lochws: line 2 of the input cannot be sent: it is not valid JSON: ")
    assert server.messages == ['{"a": "\u00e4"}']


@pytest.mark.parametrize(("option", "line"), [("base64", "aGkA/w=="), ("hex", "686900ff")])
def test_binary_messages_are_lines_both_ways(option: str, line: str) -> None:
    with ScriptedServer() as server:
        assert run(*AT_ONCE, "--binary", option, server.url, text=line + "\n") == (0, line + "\n", "")
    assert server.messages == [b"hi\x00\xff"]


def test_binary_messages_are_files_both_ways(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"\x00\xff")
    (tmp_path / "message-000001.bin").write_bytes(b"somebody's")
    with ScriptedServer() as server:
        done = run(*AT_ONCE, "--binary", "file", server.url, text="one\n", cwd=tmp_path)
    assert done == (0, "message-000002.bin\n", "")
    assert (tmp_path / "message-000002.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "message-000001.bin").read_bytes() == b"somebody's"


def test_persist_sends_on_the_next_connection_what_the_last_one_could_not_take() -> None:
    scripts = [accept(), wait_for("a"), fin()], [accept(), echo()]
    with ScriptedServer(*scripts) as server, Running("--persist", server.url) as running:
        running.write("a")
        server.connection(1)
        assert running.say("b") == "b\n"


def test_persist_sends_first_what_was_left_in_the_queue() -> None:
    lines = [f"{number:x>{MIB}}" for number in range(20)]
    scripts = [accept(), stop_reading()], [accept()]
    with (
        ScriptedServer(*scripts, receive_buffer=65536) as server,
        Running("--persist", server.url) as running,
    ):
        for line in lines:
            running.write(line)
        server.connection(0)
        server.do(reset())
        again = server.connection(1)
        again.wait_until(lambda: lines[-1] in again.messages)
        # What the kernel had taken is lost with the connection; the rest arrives in order.
        assert again.messages == lines[-len(again.messages):]
        assert len(again.messages) > 5


def test_persist_reports_every_state_change_on_stderr() -> None:
    scripts = (
        [accept(), wait_for("a"), fin()], [upgrade(503, {"Retry-After": "0"}, "busy")],
        [accept(), close(1011, "bye")],
    )
    with ScriptedServer(*scripts) as server, Running("--persist", server.url) as running:
        running.write("a")
        assert running.process.stderr is not None
        found = [running.process.stderr.readline() for _ in range(11)]
    address = f"127.0.0.1:{server.port}"
    connecting, again = f"connecting to ws://{address}/", "reconnecting in "
    expected = [
        connecting, f"ready ({address})", "connection lost: ended by the server", again,
        connecting, "upgrade refused: 503 Service Unavailable: busy. Try again later: the server is ", again,
        connecting, f"ready ({address})", "closed by the server: 1011 bye", "disconnected: ",
    ]
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(f"lochws: {start}")
    assert "(Retry-After: 0 s)." in found[5]


def test_a_refusal_is_reported_once_with_its_retry_after() -> None:
    sentence = "upgrade refused: 429 Too Many Requests: slow down"
    with ScriptedServer([upgrade(429, {"Retry-After": "120"}, "slow down")]) as server:
        for words in ([], ["-v"], ["--json"]):
            done = run("connect", *words, "--wait", "inf", server.url)
            assert done.code == Exit.REFUSED
            assert done.errors.count(sentence) == 1
            assert done.errors.count("(Retry-After: 120 s).") == 1


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        (fin(), Exit.LOST, "connection lost"),
        (close(1011, "broken"), Exit.CLOSED_WITH_ERROR, "1011 broken"),
        (send_raw(b"\xff\xff"), Exit.PROTOCOL, "protocol error"),
    ],
)
def test_with_v_an_ending_is_logged_and_not_repeated(end: Step, code: Exit, words: str) -> None:
    with ScriptedServer([accept(), end]) as server:
        done = run("connect", "-v", "--wait", "inf", server.url)
    assert done.code == code
    assert words in done.errors
    assert "lochws: " not in done.errors


# -x, instead of input.


def test_x_sends_its_texts_in_order_and_exits_when_the_server_has_answered() -> None:
    with ScriptedServer() as server:
        texts = ("-x", "one\ntwo", "--execute", "", "-x", "ä")
        done = run("--wait", "0.01", server.url, *texts, text="not this\n")
    assert done == (0, "one\\ntwo\n\nä\n", "")
    assert server.messages == ["one\ntwo", "", "ä"]


def test_x_stays_as_long_as_wait_says() -> None:
    script = [accept(), wait_for("subscribe"), send("a"), pause(0.7), send("b"), close()]
    with ScriptedServer(script) as server:
        assert run("-x", "subscribe", "--wait", "inf", server.url) == (0, "a\nb\n", "")


def test_x_takes_the_notation_of_binary_messages_and_names_what_is_wrong() -> None:
    with ScriptedServer() as server:
        words = ("--wait", "0.01", "--binary", "hex", server.url)
        assert run(*words, "-x", "00ff") == (0, "00ff\n", "")
        done = run(*words, "-x", "00", "-x", "xy")
    assert (done.code, done.errors[:39]) == (Exit.FAILED, "lochws: message 2 of -x cannot be sent:")


def test_timestamps_are_iso_8601_with_the_offset_from_utc() -> None:
    with ScriptedServer() as server:
        done = run(*AT_ONCE, "--timestamps", "-x", "hello", server.url)
    when, text = done.output.rstrip("\n").split(" ")
    assert text == "hello"
    seconds = datetime.fromisoformat(when)
    assert seconds.utcoffset() is not None
    assert abs(seconds.timestamp() - time.time()) < 2 * PATIENCE
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", when)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_x_in_a_terminal_prints_escaped_messages_and_no_prompt() -> None:
    with (
        ScriptedServer([accept(), send("\x1b[2Jclear"), echo()]) as server,
        in_terminal("-x", "hello", server.url) as screen,
    ):
        assert screen.end() == 0
        assert screen.lines == [r"\x1b[2Jclear", "hello"]


def test_verbose_logs_events_to_stderr() -> None:
    with ScriptedServer() as server:
        done = run(*AT_ONCE, "-v", server.url, text="a\n")
    assert done.output == "a\n"
    assert [line.split()[2] for line in done.errors.splitlines()] == ["INFO"] * 3
    assert "ready" in done.errors


def test_lines_are_whole_however_they_arrive(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    pieces = [b"a", b"b\nc\n\nd", b"\n", b"e"]
    with os.fdopen(writer, "wb", buffering=0) as sink:
        found = lines_of(reader)
        sink.write(b"".join(pieces[:2]))
        assert next(found) == [b"ab", b"c", b""]
        sink.write(pieces[2])
        assert next(found) == [b"d"]
        sink.write(pieces[3])
    assert list(found) == [[b"e"]]
    os.close(reader)
