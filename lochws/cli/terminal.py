"""`lochws connect` in a terminal: a line to type in at the bottom, what happens above it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from .. import Backoff, WebSocketApp, events
from ..errors import QueueFull, TransportFail, WebSocketError
from ..handlers.log import Log
from .exits import Exit, Failed, Outcome
from .payloads import Payloads
from .screen import MAX_SHOWN, STYLE, LogOnScreen, Screen
from .target import running

#: How long the closing handshake may take after Ctrl-C, in seconds.
HURRY_SECONDS = 2.0

HELP = (
    ("/ping [TEXT]", "send a ping, and see how long its pong takes"),
    ("/close [CODE [REASON]]", "close the connection, with 1000 if nothing else is said"),
    ("/reconnect", "drop the connection and open another one"),
    ("/help", "this list"),
    ("//TEXT", "send a message that begins with a slash"),
    ("Alt-Enter", "begin another line of the same message"),
    ("Ctrl-C, Ctrl-D", "empty the line; on an empty one, close and leave"),
)


class Terminal:
    """One session: what is typed is sent or obeyed, and what happens is shown above it.

    Args:
        app: started and ended in here.
        payloads: how what is typed becomes a message, and binary ones are shown.
        json: show messages that are JSON indented.
        history: keep what is typed in a file, for the next time.
    """

    def __init__(
        self, app: WebSocketApp, payloads: Payloads, *, json: bool = False, history: bool = True
    ) -> None:
        self._app = app
        self._payloads = payloads
        self._json = json
        self._has_history = history
        self._screen = Screen()
        self._outcome = Outcome()
        app.add_handler(self._outcome)
        app.add_handler(self)
        self._tell_life()

    def run(self, *, persist: bool | Backoff, ping_rate: float | None) -> Exit:
        """All of it. Blocks until the connection is over, or the user leaves. For the main thread.

        Raises:
            Failed: it came to no good end, as the screen has said already.
        """
        self._screen.show("info", "*", "type a message and press Enter; /help lists what else there is")
        with running(self._app, HURRY_SECONDS, poll=None, ping_rate=ping_rate, persist=persist):
            asyncio.run(self._talk())
        self._app.join()
        try:
            return self._outcome.result()
        except Failed as failed:
            raise Failed("", failed.code) from None

    # On the reader thread.

    def on_text(self, event: events.Text) -> None:
        """Show it, with JSON indented if that is wanted."""
        self._screen.show("text", "<", self._indented(event) if self._json else event.text)

    def on_binary(self, event: events.Binary) -> None:
        """Show it in the notation that was chosen."""
        shown = event.data if self._payloads.notation == "file" else event.data[:MAX_SHOWN]
        self._screen.show("binary", "<", f"[{len(event.data):,} bytes] {self._payloads.written(shown)}")

    def on_pong(self, event: events.Pong) -> None:
        """Show those that were asked for: the others have the names that lochws gives them."""
        if event.data.startswith(_PING):
            latency = "" if event.latency is None else f" after {event.latency * 1000:.1f} ms"
            text = event.data[len(_PING):].decode("utf-8", "replace")
            self._screen.show("pong", "<", f"pong {text}".rstrip() + latency)

    def _indented(self, event: events.Text) -> str:
        try:
            return json.dumps(event.json, indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return f"{event.text}  (no JSON)"

    def _tell_life(self) -> None:
        """Have the connection's life, and what is logged, told on the screen."""
        life = logging.Logger("terminal", logging.INFO)  # noqa: LOG001  nobody else is to see or set it
        life.addHandler(LogOnScreen(self._screen, logging.INFO))
        self._app.add_handler(Log(logger=life))
        root = logging.getLogger()
        if root.handlers:  # -v was given: nothing else may write where the prompt is
            handler = LogOnScreen(self._screen, root.level)
            logging.basicConfig(level=root.level, handlers=[handler], force=True)

    # On the main thread.

    async def _talk(self) -> None:
        """Prompt until the user leaves, or the connection is over."""
        session: PromptSession[str] = PromptSession(
            [("class:prompt", "> ")], multiline=True, prompt_continuation="  ", style=STYLE,
            key_bindings=_keys(), history=self._history(), erase_when_done=True,
        )
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def watch() -> None:
            self._app.wait_closed()
            try:
                loop.call_soon_threadsafe(over.set)
            except RuntimeError:
                pass  # the user has left already

        threading.Thread(target=watch, name="lochws-watch", daemon=True).start()
        self._screen.open(session.app)
        ended = asyncio.ensure_future(over.wait())
        try:
            # Else what is typed between two prompts would stay on the screen.
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
            self._obey(typed.result())

    def _history(self) -> History:
        if not self._has_history:
            return InMemoryHistory()
        path = _state_folder() / "history"
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
        except OSError as error:
            self._screen.show("warning", "*", f"no history: cannot write {path}: {error.strerror}")
            return InMemoryHistory()
        return FileHistory(str(path))

    def _obey(self, typed: str) -> None:
        """Do what a line says: a message, or a command."""
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
                raise Failed(f"there is no /{command}: /help lists what there is, and // sends a slash")
        except (Failed, QueueFull, TransportFail, WebSocketError, TypeError, ValueError) as error:
            self._screen.show("error", "!", str(error))

    def _send(self, text: str) -> None:
        message = self._payloads.message(text.encode("utf-8", "surrogatepass"), "that")
        if isinstance(message, str):
            self._app.send_text(message)
        else:
            self._app.send_binary(message)
        self._screen.show("sent", ">", text)

    def _ping(self, text: str) -> None:
        self._app.send_ping(_PING + text.encode())
        self._screen.show("sent", ">", f"ping {text}".rstrip())

    def _close(self, words: str) -> None:
        code, _, reason = words.partition(" ")
        if code and not code.isdecimal():
            raise Failed(f"/close {code}: expected a number such as 1000, then the reason")
        self._app.close(int(code or 1000), reason.strip())

    def _reconnect(self, _: str) -> None:
        self._app.reconnect()

    def _help(self, _: str) -> None:
        width = max(len(what) for what, _ in HELP)
        self._screen.show("info", "*", "\n".join(f"{what:{width}}  {means}" for what, means in HELP))


#: What the pings begin with that the user asks for. A blank that is not shown sets them apart.
_PING = b"\xe2\x80\x8b"


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("<sigint>")  # Ctrl-C sent as a signal
    @keys.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=EOFError())

    return keys


def _state_folder() -> Path:
    """Where this platform has what programs remember for a user."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "lochws"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/lochws"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "lochws"
