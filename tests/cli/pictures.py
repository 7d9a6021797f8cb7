"""Draws demo.svg, terminal.svg and doctor.svg of docs/_static/: real sessions of `lochws` in a terminal.

``python -m tests.cli.pictures`` from the checkout, where the extra ``test`` is installed.
"""

from __future__ import annotations

import io
import re
import ssl
from pathlib import Path

import trustme
from rich.console import Console
from rich.text import Text

from lochws.testing import ScriptedServer, accept, send, wait_for

from ..support.terminal import Terminal
from .commands import in_terminal

PICTURES = Path(__file__).parent.parent.parent / "docs" / "_static"
_COLORS = {"brown": "yellow", "brightblack": "bright_black", "default": "default"}


def picture(screen: Terminal, title: str, path: Path) -> None:
    """Draw what is on a screen, in its colors."""
    lines = len(screen.lines)
    console = Console(record=True, file=io.StringIO(), width=screen.screen.columns, height=lines)
    for row in range(lines):
        line = Text()
        cells = screen.screen.buffer[row]
        shown = [column for column in cells if cells[column].data != " " or cells[column].bg != "default"]
        for column in range(max(shown, default=-1) + 1):
            cell = cells[column]
            style = _color(cell.fg) if cell.bg == "default" else f"{_color(cell.fg)} on {_color(cell.bg)}"
            line.append(cell.data, f"bold {style}" if cell.bold else style)
        console.print(line, no_wrap=True, overflow="crop")
    drawn = console.export_svg(title=title, unique_id=path.stem)
    # Without web fonts, the picture can be shown without fetching anything.
    path.write_text(re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL), encoding="utf-8")


def _color(name: str) -> str:
    """Return rich's name for one of pyte's colors."""
    color = _COLORS.get(name, name)
    return f"#{color}" if re.fullmatch("[0-9a-f]{6}", color) else color


def demonstrate() -> None:
    """Draw the demonstration, from its first line to its last."""
    with in_terminal("demo", size=(98, 29)) as screen:
        screen.end()
        screen.wait_for("Done:")
        picture(screen, "lochws demo", PICTURES / "demo.svg")


def talk() -> None:
    """Draw a session: a subscription to a ticker, a ping, and the menu of commands."""
    script = [
        accept(), wait_for(re.compile("subscribe")), send('{"type": "subscribed", "channels": ["ticker"]}'),
        send('{"type": "ticker", "price": 64012.5}'), send(bytes(range(12))), wait_for(re.compile("again")),
        send('{"type": "ticker", "price": 63998.25}'), send("\x1b[2J\x1b]0;not so fast\x07"),
    ]
    with (
        ScriptedServer(script) as server,
        in_terminal("--no-history", server.url, size=(96, 20)) as screen,
    ):
        screen.wait_until(lambda: screen.lines[-1] == ">" and "ready" in "\n".join(screen.lines))
        for typed, shown in [
            ('{"type": "subscribe",\x1b\r "channels": ["ticker"]}\r', "[12 bytes]"),
            ("/ping hello\r", "pong hello after"),
            ("/dance\r", "unknown command /dance"),
            ("again\r", "not so fast"),
            ("/\t", "show this list"),
        ]:
            screen.type(typed)
            screen.wait_for(shown)
        picture(screen, f"lochws {server.url}", PICTURES / "terminal.svg")


def doctors() -> None:
    """Draw a diagnosis: a server whose certificate is not trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with ScriptedServer(tls=context) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with in_terminal("doctor", url, size=(112, 20)) as screen:
            screen.end()
            screen.wait_for("--cafile")
            picture(screen, f"lochws doctor {url}", PICTURES / "doctor.svg")


if __name__ == "__main__":
    demonstrate()
    talk()
    doctors()
