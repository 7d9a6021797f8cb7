"""Programs of their own that run an app: for what a test cannot do to the process that it runs in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lochws

#: Seconds within which a program must have ended, the start of an interpreter included.
SOON = 5.0

PRELUDE = """
import atexit, os, signal, sys, threading, time
from lochws import Backoff, WebSocketApp
app = WebSocketApp(sys.argv[1], OPTIONS)
done = threading.Event()
def say(word):
    print(word, flush=True)
def until(name):
    app.on(name)(lambda _: done.set())
def daemon(function):
    threading.Thread(target=function, daemon=True).start()
def sleep(_):
    done.set()
    time.sleep(1000)
def compute(_):
    done.set()
    while True:
        pass
def send():
    while True:
        app.send_text("x" * 1000)
        done.set()
"""


class Program:
    """A Python program that runs an app, called `app`.

    Args:
        code: what it does.
        url: where its app connects to.
        options: keyword arguments of the app, as code.
        first: what is done before anything is imported.
    """

    def __init__(self, code: str, url: str, *, options: str = "", first: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(lochws.__file__).parent.parent)}
        environment.pop("PYTHONWARNINGS", None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{first}\n{PRELUDE.replace('OPTIONS', options)}{code}", url],
            env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

    def wait_for(self, word: str) -> None:
        """Wait until it says a word."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"{word}\n", self._process.stderr

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait until it has ended, which what reads its input can wait for; its status, and what it wrote."""
        try:
            output, errors = self._process.communicate(timeout=SOON)
        finally:
            self.close()
        return self._process.returncode, output, errors

    def close(self) -> None:
        """End it for certain."""
        self._process.kill()
        self._process.communicate()


#: What the fixture `run` is: it starts a `Program` that ends with the test, and takes what `Program` takes.
Run = Callable[..., Program]
