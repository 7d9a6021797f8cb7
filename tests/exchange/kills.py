"""Programs that save numbers and are killed at random, and the server that resumes after a number."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from lochws.handlers._parts.number_file import NumberFile

from ..support.blocks import ROOT, whole
from ..support.seen import PATIENCE

#: The program on the page that resumes.
PROGRAM = whole("docs/sequences.md", "python")[2].text
#: The name of the state file there.
STATE = "feed.numbers"
#: How it is run: it saves all the time, and prints each number in its handler.
CHILD = f"""
import os, time
from lochws.handlers import sequence as module
module.SAVE_SECONDS = 0.001
{PROGRAM}
app.on("text")(lambda event: os.write(1, b"%d\\n" % event.json["number"]) and None)
app.run_forever()
"""


@contextlib.contextmanager
def resuming_server() -> Iterator[str]:
    """Serve numbers without end, to each client those after the number that its URL asks for."""

    def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        number = int(parse_qs(urlsplit(connection.request.path).query)["after"][0])
        with contextlib.suppress(ConnectionClosed):
            while True:
                number += 1
                connection.send(json.dumps({"number": number}))

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join(PATIENCE)


def run_and_kill(url: str, folder: Path, seconds: float) -> list[int]:
    """Run the program for a time after its first message, and kill it. Return the numbers it has handled."""
    command = [sys.executable, "-c", CHILD.replace("wss://feed.example.org", url)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, env=environment) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        reader = threading.Thread(target=lambda: lines.extend(process.stdout))  # type: ignore[arg-type]
        reader.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        reader.join(PATIENCE)
    return list(map(int, lines))


def kill_many(folder: Path, count: int) -> Iterator[str]:
    """Kill a program many times while it saves, and check its file each time. Yield what was found.

    Raises:
        AssertionError: a number was saved before its message was handled, or a message was left out.
        ValueError: the file was damaged.
    """
    handled = drafts = rises = 0
    saved: dict[object, int] = {}
    with resuming_server() as url:
        for _ in range(count):
            numbers = run_and_kill(url, folder, random.uniform(0, 0.1))
            assert numbers[0] == saved.get(None, 0) + 1, "it resumes after the number that was saved"
            assert numbers == list(range(numbers[0], numbers[-1] + 1)), "and leaves out nothing"
            before, saved = saved, dict(NumberFile(folder / STATE).load())
            assert before.get(None, 0) <= saved.get(None, 0) <= numbers[-1]
            handled += len(numbers)
            drafts += (folder / f"{STATE}.new").exists()
            rises += before != saved
    yield (
        f"{count} programs killed, {drafts} of them during a save: {handled} messages handled, "
        f"{rises} times a higher number was saved, {saved.get(None, 0)} at last"
    )
