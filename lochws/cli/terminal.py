"""`lochws connect` in a terminal: a prompt at the bottom, and the events above it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth

from .. import Backoff, WebSocketApp, events
from ..errors import QueueFull, TransportFail, WebSocketError
from ..handlers.log import Log
from .exits import Ending, Exit, Failed
from .payloads import Payloads
from .screen import STYLE, LogOnScreen, Screen
from .shown import as_options
from .target import running
from .words import USERS_PING, Words, of_bytes, of_pong

#: Seconds that the closing handshake may take after Ctrl-C.
HURRY_SECONDS = 2.0

HELP = (
    ("/ping [TEXT]", "send a ping and show how long its pong takes"),
    ("/close [CODE [REASON]]", "close the connection; the default code is 1000"),
    ("/reconnect", "drop the connection and open a new one"),
    ("/help", "show this list"),
    ("//TEXT", "send a message that begins with a slash"),
    ("Tab", "complete a command"),
    ("Alt-Enter", "start another line of the same message"),
    ("Ctrl-C", "clear the line; if it is empty, close and exit with 130"),
    ("Ctrl-D", "if the line is empty, close and exit"),
)
#: The entries that are commands.
COMMANDS = tuple((what, means) for what, means in HELP if re.match(r"/\w", what))


class _Interrupted(Exception):
    """The user has pressed Ctrl-C on an empty line."""


class _Commands(Completer):
    """Completes the name of a command, at the beginning of the input."""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        typed = document.text_before_cursor
        for what, means in COMMANDS:
            name, _, arguments = what.partition(" ")
            if typed.startswith("/") and name.startswith(typed):
                yield Completion(f"{name} " if arguments else name, -len(typed), what, means)


class Terminal:
    """One session: sends or executes each line typed, and shows messages and events above the prompt.

    Args:
        app: the app; it is started and stopped here.
        payloads: how lines become messages, and how binary messages are shown.
        json: whether to indent messages that are JSON.
        history: whether to save the lines typed in a file for the next session.
        timestamps: whether lines begin with the time, to the millisecond; None for times to the second.
        depth: the depth of color; None for the terminal's own.
        quiet: show messages only, and no events of the connection.
    """

    def __init__(
        self, app: WebSocketApp, payloads: Payloads, *, json: bool = False, history: bool = True,
        timestamps: bool | None = None, depth: ColorDepth | None = None, quiet: bool = False,
    ) -> None:
        self._app = app
        self._payloads = payloads
        self._json = json
        self._has_history = history
        self._is_quiet = quiet
        self._depth = depth
        self._screen = Screen(depth, timestamps=timestamps)
        self._ending = Ending()
        app.add_handler(self._ending)
        app.add_handler(self)
        if not quiet:
            self._show_life()

    def run(self, *, persist: bool | Backoff, ping_rate: float | None) -> Exit:
        """Run the session on the main thread, until the connection has ended for good or the user quits.

        Args:
            persist: whether to reconnect, or how: the argument of `WebSocketApp.start`.
            ping_rate: seconds between pings, or None for none.

        Raises:
            Failed: the connection did not end cleanly; the screen has shown why.
            KeyboardInterrupt: the user pressed Ctrl-C on an empty line.
        """
        if not self._is_quiet:
            self._show("info", "*", "type a message and press Enter; /help lists the commands")
        with running(self._app, HURRY_SECONDS, poll=None, ping_rate=ping_rate, persist=persist):
            try:
                asyncio.run(self._talk())
            except _Interrupted:
                # Raised only now, because asyncio treats a KeyboardInterrupt in a task differently.
                raise KeyboardInterrupt from None
        self._app.join()
        try:
            return self._ending.result()
        except Failed as failed:
            raise Failed("", failed.code) from None

    def _show(self, kind: str, mark: str, text: str) -> None:
        self._screen.show(Words(kind, mark, text))

    # The reader thread.

    def on_text(self, event: events.Text) -> None:
        """Show a text message, with JSON indented if `json` is set."""
        self._show("text", "<", self._indented(event) if self._json else event.text)

    def on_binary(self, event: events.Binary) -> None:
        """Show a binary message in the chosen notation."""
        self._show("binary", "<", of_bytes(event.data, self._payloads))

    def on_pong(self, event: events.Pong) -> None:
        """Show the pong of a ping that the user sent; lochws's own pings have other payloads."""
        if event.data.startswith(USERS_PING):
            self._show("pong", "<", of_pong(event))

    def _indented(self, event: events.Text) -> str:
        try:
            return json.dumps(event.json, indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return f"{event.text}  (not JSON)"

    def _show_life(self) -> None:
        """Show the connection's events, and log records, on the screen."""
        life = logging.Logger("terminal", logging.INFO)  # noqa: LOG001  no other code should see or set it
        life.addHandler(LogOnScreen(self._screen, logging.INFO))
        self._app.add_handler(Log(logger=life))
        root = logging.getLogger()
        if root.handlers:  # -v was given; other output would disturb the prompt
            handler = LogOnScreen(self._screen, root.level)
            logging.basicConfig(level=root.level, handlers=[handler], force=True)

    # The main thread.

    async def _talk(self) -> None:
        """Prompt until the user quits, or the connection has ended for good."""
        session: PromptSession[str] = PromptSession(
            [("class:prompt", "> ")], multiline=True, prompt_continuation="  ", style=STYLE,
            key_bindings=_keys(), history=self._history(), erase_when_done=True, color_depth=self._depth,
            # The menu takes its room only once Tab has been pressed.
            completer=_Commands(), complete_while_typing=False, reserve_space_for_menu=1 + len(COMMANDS),
        )
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def watch() -> None:
            self._app.wait_closed()
            try:
                loop.call_soon_threadsafe(over.set)
            except RuntimeError:
                pass  # the user has already quit

        threading.Thread(target=watch, name="lochws-watch", daemon=True).start()
        self._screen.open(session.app)
        ended = asyncio.ensure_future(over.wait())
        try:
            # Otherwise text typed between two prompts would remain on the screen.
            with session.input.raw_mode():
                await self._converse(session, over, ended)
        except EOFError:
            return
        finally:
            ended.cancel()
            self._screen.close()

    async def _converse(
        self, session: PromptSession[str], over: asyncio.Event, ended: asyncio.Future[Any]
    ) -> None:
        while not over.is_set():
            typed: asyncio.Future[Any] = asyncio.ensure_future(session.prompt_async())
            await asyncio.wait({typed, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not typed.done():
                typed.cancel()
                await asyncio.wait({typed})
                return
            self._execute(typed.result())

    def _history(self) -> History:
        if not self._has_history:
            return InMemoryHistory()
        path = _state_folder() / "history"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
        except OSError as error:
            self._show("warning", "*", f"no history: cannot write {path}: {error.strerror}")
            return InMemoryHistory()
        return FileHistory(str(path))

    def _execute(self, typed: str) -> None:
        """Send a line as a message, or execute it as a command."""
        if not typed:
            return
        command, _, rest = typed[1:].partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "ping": self._ping, "close": self._close, "reconnect": self._reconnect, "help": self._help,
        }
        try:
            if not typed.startswith("/") or typed.startswith("//"):
                self._send(typed[1:] if typed.startswith("//") else typed)
            elif command in commands:
                commands[command](rest.strip())
            else:
                raise Failed(f"unknown command /{command}; /help lists the commands, and // sends a slash")
        except (Failed, QueueFull, TransportFail, WebSocketError, TypeError, ValueError) as error:
            self._show("error", "!", as_options(str(error)))

    def _send(self, text: str) -> None:
        message = self._payloads.message(text.encode("utf-8", "surrogatepass"), "the line")
        if isinstance(message, str):
            self._app.send_text(message)
        else:
            self._app.send_binary(message)
        self._show("sent", ">", text)

    def _ping(self, text: str) -> None:
        self._app.send_ping(USERS_PING + text.encode("utf-8", "surrogatepass"))
        self._show("sent", ">", f"ping {text}".rstrip())

    def _close(self, words: str) -> None:
        code, _, reason = words.partition(" ")
        if code and not code.isdecimal():
            raise Failed(f"/close {code}: expected a code such as 1000, then a reason")
        self._app.close(int(code or 1000), reason.strip())

    def _reconnect(self, _: str) -> None:
        self._app.reconnect()

    def _help(self, _: str) -> None:
        width = max(len(what) for what, _ in HELP)
        self._show("info", "*", "\n".join(f"{what:{width}}  {means}" for what, means in HELP))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("<sigint>")  # Ctrl-C that arrives as a signal
    @keys.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=_Interrupted())

    return keys


def _state_folder() -> Path:
    """Return the folder for the user's application state on this platform."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "lochws"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/lochws"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "lochws"
