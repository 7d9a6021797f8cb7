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

from .commands import Screen

PICTURES = Path(__file__).parent.parent.parent / "docs" / "_static"
_COLOURS = {"brown": "yellow", "brightblack": "bright_black", "default": "default"}


def picture(screen: Screen, title: str, path: Path) -> None:
    """Draw what is on a screen, in its colours."""
    lines = len(screen.lines)
    console = Console(record=True, file=io.StringIO(), width=screen.screen.columns, height=lines)
    for row in range(lines):
        line = Text()
        cells = screen.screen.buffer[row]
        for column in range(screen.screen.columns):
            cell = cells[column]
            colour = _COLOURS.get(cell.fg, cell.fg)
            style = f"#{colour}" if re.fullmatch("[0-9a-f]{6}", colour) else colour
            line.append(cell.data, f"bold {style}" if cell.bold else style)
        line.rstrip()
        console.print(line, no_wrap=True, overflow="crop")
    drawn = console.export_svg(title=title, unique_id=path.stem)
    # No fonts from elsewhere: whoever looks at the picture asks nobody else for anything.
    path.write_text(re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL), encoding="utf-8")


def demonstrate() -> None:
    """The demonstration, from its first line to its last."""
    with Screen("demo", size=(98, 29)) as screen:
        screen.end()
        screen.wait_for("Done:")
        picture(screen, "lochws demo", PICTURES / "demo.svg")


def talk() -> None:
    """Somebody subscribes to a ticker, pings, and asks for help."""
    script = [
        accept(), wait_for(re.compile("subscribe")), send('{"type": "subscribed", "channels": ["ticker"]}'),
        send('{"type": "ticker", "price": 64012.5}'), send(bytes(range(12))), wait_for(re.compile("again")),
        send('{"type": "ticker", "price": 63998.25}'), send("\x1b[2J\x1b]0;not so fast\x07"),
    ]
    with (
        ScriptedServer(script) as server,
        Screen("connect", "--no-history", server.url, size=(96, 30)) as screen,
    ):
        screen.wait_until(lambda: screen.lines[-1] == ">" and "ready" in "\n".join(screen.lines))
        for typed, shown in [
            ('{"type": "subscribe",\x1b\r "channels": ["ticker"]}\r', "[12 bytes]"),
            ("/ping hello\r", "pong hello after"),
            ("/help\r", "on an empty one"),
            ("/dance\r", "unknown command /dance"),
            ("again\r", "not so fast"),
            ("and what is typed stays down here", "> and what"),
        ]:
            screen.type(typed)
            screen.wait_for(shown)
        picture(screen, f"lochws connect {server.url}", PICTURES / "terminal.svg")


def doctors() -> None:
    """A server whose certificate nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with ScriptedServer(tls=context) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with Screen("doctor", url, size=(112, 20)) as screen:
            screen.end()
            screen.wait_for("give theirs with --cafile")
            picture(screen, f"lochws doctor {url}", PICTURES / "doctor.svg")


if __name__ == "__main__":
    demonstrate()
    talk()
    doctors()
