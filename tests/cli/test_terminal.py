"""`lochws connect` in a terminal, as a user sees it."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lochws.cli.exits import Exit
from lochws.cli.screen import MAX_LINES
from lochws.testing import ScriptedServer, accept, close, echo, fin, send, upgrade, wait_for

from ..support.terminal import Terminal
from .commands import in_terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")


@pytest.fixture
def home(tmp_path: Path) -> str:
    """A folder for the history."""
    return str(tmp_path / "state")


@pytest.fixture
def screen(home: str) -> Iterator[Terminal]:
    """A session with an echo server."""
    with ScriptedServer() as server, in_terminal("connect", server.url, XDG_STATE_HOME=home) as screen:
        screen.wait_for("* ready")
        screen.wait_until(lambda: screen.lines[-1] == ">")
        yield screen


def test_messages_go_both_ways_each_in_its_color(screen: Terminal) -> None:
    screen.type("hello\r")
    screen.wait_for("< hello")
    assert (screen.color_of("> hello"), screen.color_of("< hello")) == ("cyan", "green")
    assert screen.color_of("* ready") == "blue"


def test_alt_enter_begins_another_line_of_the_same_message(screen: Terminal) -> None:
    screen.type("one\x1b\rtwo\r")
    screen.wait_for("< one\n           two")


def test_ping_shows_how_long_its_pong_took(screen: Terminal) -> None:
    screen.type("/ping there\r")
    screen.wait_for("< pong there after ")


def test_help_lists_the_commands_and_others_are_refused(screen: Terminal) -> None:
    screen.type("/help\r")
    screen.wait_for("/close [CODE [REASON]]")
    screen.type("/dance\r")
    screen.wait_for("! unknown command /dance; /help lists the commands, and // sends a slash")
    screen.type("//slash\r")
    screen.wait_for("< /slash")
    screen.type("/close now\r")
    screen.wait_for("! /close now: expected a code such as 1000")
    screen.type("/close 999\r")
    screen.wait_for("! ")


def test_reconnect_opens_another_connection(screen: Terminal) -> None:
    screen.type("/reconnect\r")
    screen.wait_until(lambda: sum("* ready" in line for line in screen.lines) == 2)
    screen.type("again\r")
    screen.wait_for("< again")


def test_close_ends_the_session_with_0(home: str) -> None:
    with ScriptedServer() as server, in_terminal("connect", server.url, XDG_STATE_HOME=home) as screen:
        screen.wait_for("* ready")
        screen.type("/close 4000 enough\r")
        assert screen.end() == 0
        server.connections[0].wait_over()
    assert server.connections[0].close_frame == (4000, "enough")


def test_keys_typed_while_messages_arrive_appear_in_the_prompt_only(home: str) -> None:
    count = 60
    script = [accept(), wait_for("x" * count), close()]
    with (
        ScriptedServer(script) as server,
        in_terminal("--no-history", server.url, size=(100, 2 * count), XDG_STATE_HOME=home) as screen,
    ):
        screen.wait_until(lambda: "* ready" in screen.text and screen.lines[-1] == ">")
        for number in range(count):
            assert server.connection().send(f"message {number}")
            screen.type("x")
            screen.wait_for(f"< message {number}")
        screen.type("\r")
        assert screen.end() == 0
        lines = [line[9:] for line in screen.lines]
    assert lines[3:] == [
        *(f"< message {number}" for number in range(count)), f"> {'x' * count}",
        "* closed by the server: 1000", '* disconnected: the server closed the connection: 1000',
    ]


@pytest.mark.parametrize(("key", "code"), [("\x03", Exit.INTERRUPTED), ("\x04", Exit.OK)])
def test_ctrl_c_and_ctrl_d_on_an_empty_line_quit(screen: Terminal, key: str, code: Exit) -> None:
    screen.type(key)
    assert screen.end() == code
    screen.wait_for("* disconnected")
    assert "Traceback" not in screen.text


def test_tab_completes_a_command(screen: Terminal) -> None:
    screen.type("/re\t")
    screen.wait_for("> /reconnect")
    screen.type("\x03/p\t")
    screen.wait_for("> /ping")
    screen.type("there\r")
    screen.wait_for("< pong there after ")


def test_tab_shows_the_commands_with_what_they_do(screen: Terminal) -> None:
    screen.type("/\t")
    screen.wait_for_match(r"/close \[CODE \[REASON\]\] +close the connection; the default code is 1000")
    screen.wait_for_match(r"/help +show this list")
    screen.type("\t\x03")
    screen.wait_until(lambda: "/close" not in screen.text and screen.lines[-1] == ">")


def test_tab_completes_nothing_in_a_message(screen: Terminal) -> None:
    screen.type("hel\tlo\r")
    screen.wait_for("< hello")
    screen.type("//\tp\r")
    screen.wait_for("< /p")


def test_json_is_in_color(home: str) -> None:
    script = [accept(), send('{"price": [64012.5, null]}'), send("{broken"), echo()]
    with (
        ScriptedServer(script) as server,
        in_terminal(server.url, XDG_STATE_HOME=home, NO_COLOR="") as screen,
    ):
        screen.wait_for("< {broken")
        assert screen.color_of("< {") == "green"
        assert screen.color_of('"price"') == "blue"
        assert screen.color_of("64012") == "cyan"
        assert screen.color_of("null") == "magenta"
        assert screen.color_of("{broken") == "green"


@pytest.mark.parametrize(("words", "env"), [(["--color", "never"], {}), ([], {"NO_COLOR": "1"})])
def test_without_color_everything_is_plain(words: list[str], env: dict[str, str], home: str) -> None:
    script = [accept(), send('{"price": 64012.5}'), echo()]
    with (
        ScriptedServer(script) as server,
        in_terminal(*words, server.url, XDG_STATE_HOME=home, **{"NO_COLOR": "", **env}) as screen,
    ):
        screen.wait_for("64012")
        for text in ("* ready", "< {", '"price"', "64012"):
            assert screen.color_of(text) == "default"


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        ([], r"(?m)^\d\d:\d\d:\d\d < hello"),
        (["--timestamps"], r"(?m)^\d\d:\d\d:\d\d\.\d\d\d < hello\n {15}world"),
        (["--no-timestamps"], r"(?m)^< hello\n  world"),
    ],
)
def test_lines_begin_with_the_time(words: list[str], pattern: str, home: str) -> None:
    script = [accept(), send("hello\nworld"), echo()]
    with ScriptedServer(script) as server, in_terminal(*words, server.url, XDG_STATE_HOME=home) as screen:
        screen.wait_for_match(pattern)


def test_quiet_shows_messages_only(home: str) -> None:
    script = [accept(), send("hello"), wait_for("bye"), close(1011, "broken")]
    with ScriptedServer(script) as server, in_terminal("-q", server.url, XDG_STATE_HOME=home) as screen:
        screen.wait_for("< hello")
        screen.wait_until(lambda: screen.lines[-1] == ">")
        screen.type("bye\r")
        assert screen.end() == Exit.CLOSED_WITH_ERROR
        lines = [line[9:] for line in screen.lines]
    assert lines == ["< hello", "> bye"]


def test_a_refusal_appears_once_with_its_retry_after(home: str) -> None:
    refusal = upgrade(503, {"Retry-After": "120"}, "busy")
    with (
        ScriptedServer([refusal]) as server,
        in_terminal(server.url, size=(200, 20), XDG_STATE_HOME=home) as screen,
    ):
        assert screen.end() == Exit.REFUSED
        screen.wait_for("* upgrade refused: 503 Service Unavailable: busy. Try again later: the server is "
                        "overloaded or down (Retry-After: 120 s).")
        assert screen.text.count("503") == 1


def test_nothing_that_is_shown_names_a_parameter_of_the_library(home: str) -> None:
    with (
        ScriptedServer([accept(), fin()], [upgrade(401)]) as server,
        in_terminal("--persist", server.url, size=(200, 20), XDG_STATE_HOME=home) as screen,
    ):
        screen.wait_for("Pass credentials: --auth user:password, user:password@ in the URL, or --header")
        screen.type("hello\r")
        screen.wait_for("! not sent: the ")
        screen.type("/ping " + "x" * 200 + "\r")
        screen.wait_until(lambda: screen.text.count("! ") == 2)
        screen.type("/reconnect\r")
        screen.wait_until(lambda: screen.text.count("401") > 1)
        assert not re.search(r"on_\w+|wait_\w+|\w\(|\w+=|force_disconnect|Backoff", screen.text), screen.text


def test_ctrl_c_clears_a_line_that_is_not_empty(screen: Terminal) -> None:
    screen.type("not this")
    screen.wait_for("> not this")
    screen.type("\x03but this\r")
    screen.wait_for("< but this")
    assert "not this" not in "\n".join(screen.lines)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED), (signal.SIGHUP, Exit.HUNG_UP)],
)
def test_a_signal_ends_the_session_properly(number: signal.Signals, code: Exit, home: str) -> None:
    with ScriptedServer() as server, in_terminal("connect", server.url, XDG_STATE_HOME=home) as screen:
        screen.wait_for("* ready")
        screen.wait_until(lambda: screen.lines[-1] == ">")
        screen.process.send_signal(number)
        assert screen.end() == code
        assert "Traceback" not in "\n".join(screen.lines)
        server.connections[0].wait_over()
    assert server.connections[0].close_frame == (1001, "interrupted")


def test_lines_typed_are_there_in_the_next_session(screen: Terminal, home: str) -> None:
    screen.type("remember me\r")
    screen.wait_for("< remember me")
    history = Path(home) / "lochws/history"
    assert "remember me" in history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o077 == 0
    with ScriptedServer() as server, in_terminal("connect", server.url, XDG_STATE_HOME=home) as later:
        later.wait_for("* ready")
        later.type("\x1b[A\r")
        later.wait_for("< remember me")


def test_no_history_leaves_no_file(home: str) -> None:
    words = ("connect", "--no-history")
    with ScriptedServer() as server, in_terminal(*words, server.url, XDG_STATE_HOME=home) as screen:
        screen.wait_for("* ready")
        screen.type("forget me\r")
        screen.wait_for("< forget me")
    assert not Path(home).exists()


def test_a_server_cannot_control_the_terminal(home: str) -> None:
    evil = "\x1b]0;title\x07\x1b[31mred\x1b[2J\x9b1A\u202eback\u200b"
    script = [accept(), send(evil), echo()]
    with ScriptedServer(script) as server, in_terminal("connect", server.url, XDG_STATE_HOME=home) as screen:
        screen.wait_for(r"< \x1b]0;title\x07\x1b[31mred\x1b[2J\x9b1A\u202eback\u200b")
        assert screen.color_of("< ") == "green"
        assert screen.screen.title == ""


def test_json_is_indented_and_checked(home: str) -> None:
    words = ("connect", "--json")
    with ScriptedServer() as server, in_terminal(*words, server.url, XDG_STATE_HOME=home) as screen:
        screen.wait_for("* ready")
        screen.type("{broken\r")
        screen.wait_for("! the line cannot be sent: it is not valid JSON")
        screen.type('{"a":1}\r')
        screen.wait_for('< {\n             "a": 1')


def test_binary_messages_are_shown_in_the_notation(home: str) -> None:
    words = ("connect", "--binary", "hex")
    with ScriptedServer() as server, in_terminal(*words, server.url, XDG_STATE_HOME=home) as screen:
        screen.wait_for("* ready")
        screen.type("00ff\r")
        screen.wait_for("< [2 bytes] 00ff")
        assert screen.color_of("< [2") == "magenta"
    assert server.messages == [b"\x00\xff"]


@pytest.mark.parametrize(
    ("end", "code", "line"),
    [
        (close(1000, "bye"), Exit.OK, "* closed by the server: 1000 bye"),
        (close(1011, "broken"), Exit.CLOSED_WITH_ERROR, "* closed by the server: 1011 broken"),
        (fin(), Exit.LOST, "* connection lost: "),
    ],
)
def test_the_end_of_the_connection_ends_the_session(end: object, code: Exit, line: str, home: str) -> None:
    script = [accept(), wait_for("a"), end]
    with ScriptedServer(script) as server, in_terminal("connect", server.url, XDG_STATE_HOME=home) as screen:  # type: ignore[list-item]
        screen.wait_for("* ready")
        screen.type("a\r")
        screen.wait_for(line)
        assert screen.end() == code
        assert "Traceback" not in "\n".join(screen.lines)


def test_a_failure_to_connect_is_explained_and_is_3(home: str) -> None:
    with in_terminal("connect", "ws://127.0.0.1:1/", XDG_STATE_HOME=home) as screen:
        assert screen.end() == Exit.NO_CONNECTION
        screen.wait_for("* could not connect: ")
        assert screen.color_of("* could") == "brown"  # the name of yellow in terminals


def test_a_flood_is_shown_completely_and_in_order(home: str) -> None:
    count = 2 * MAX_LINES
    script = [accept(), *(send(f"message {number}") for number in range(count)), close()]
    size = (40, count + 20)
    with (
        ScriptedServer(script) as server,
        in_terminal("connect", server.url, size=size, XDG_STATE_HOME=home) as screen,
    ):
        assert screen.end() == 0
        screen.wait_for("* disconnected")
        found = [int(line.split()[-1]) for line in screen.lines if "< message" in line]
    assert found == list(range(count))
