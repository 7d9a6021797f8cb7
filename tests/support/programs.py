"""Separate programs that run an app, for what a test cannot do to its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lochws

from .seen import PATIENCE

#: Seconds within which a program ends whose end waits for nothing, its start included. The limits of lochws
#: for connecting and closing are longer.
SOON = 20.0

PRELUDE = """
import atexit, os, signal, sys, threading, time
from lochws import Backoff, WebSocketApp
import lochws.app
lochws.app.START_SECONDS = 60  # how long wait_ready() waits for another thread to start the app
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

#: For a program that is interrupted by a signal handler and by finalizers on any thread, both of which call
#: its function `interruption`. Between `begin` and `end` it makes cycles of `Finalized`.
INTERRUPTIONS = """
import atexit, gc
from tests.support.holds import checked_holds
holds = checked_holds()
holds.__enter__()
atexit.register(holds.__exit__, None, None, None)
here, has_ended, under_way = threading.local(), threading.Event(), []
def interrupt(*_):
    if getattr(here, "inside", False):
        return
    here.inside = True
    try:
        interruption()
    finally:
        here.inside = False
class Finalized:
    def __init__(self):
        self.cycle = self
    def __del__(self):
        under_way.append(None)
        try:
            if not has_ended.is_set():
                interrupt()
        finally:
            under_way.pop()
def begin(every):
    gc.set_threshold(1, 1, 1)
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, every, every)
def end():
    signal.setitimer(signal.ITIMER_REAL, 0)
    has_ended.set()
    gc.set_threshold(700, 10, 10)
    gc.collect()
    while under_way:  # a finalizer on another thread, which is about to call `interruption`
        time.sleep(0.001)
"""


class Program:
    """A Python program that runs an app, called `app`.

    Args:
        code: its code.
        url: the URL of its app.
        options: keyword arguments of the app, as code.
        first: code to run before anything is imported.
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
        """Wait until it prints a word."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == f"{word}\n", line or self._process.communicate()[1]

    def write(self, line: str) -> None:
        """Write a line to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self, seconds: float = PATIENCE) -> tuple[int, str, str]:
        """Close its input, wait until it has ended, and return its exit code, output and errors."""
        try:
            output, errors = self._process.communicate(timeout=seconds)
        finally:
            self.close()
        return self._process.returncode, output, errors

    def close(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.communicate()


#: The fixture `run`: starts a `Program`, takes its arguments, and kills it at the end of the test.
Run = Callable[..., Program]
