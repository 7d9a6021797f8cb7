"""Calls in the middle of an import of lochws, by a signal handler, a finalizer or a trace function."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lochws

#: Calls that import something when they are made for the first time, each with what is prepared before it.
CALLS = [
    ("", "app = WebSocketApp(URL); app.start(persist=False); app.close()"),
    ("", "type('App', (WebSocketApp,), {'start': lambda self, more=None: None})(URL).start()"),
    ("", "WebSocketApp('wss://127.0.0.1:1/')"),
    ("", "WebSocketApp(URL).mailbox('text').close()"),
    ("", "app = WebSocketApp(URL); own = partial(print); app.on('text')(own); app.remove_handler(own)"),
    ("", "lochws.Governor(per_second=1)"),
    ("", "lochws.connect"),
    ("", "refused(TypeError, lambda: WebSocketApp(URL).start(pol=3))"),
    ("", "refused(ValueError, lambda: WebSocketApp(URL).on('txt'))"),
    ("import dataclasses, hashlib", "lochws.Feed(WebSocketApp, [URL]).mailbox('text')"),
    ("import asyncio; loop = asyncio.new_event_loop()", "WebSocketApp(URL).on('text', loop=loop)(handle)"),
]

#: Makes each call in forked children. In each child, the same call interrupts another line of a module that
#: the call imports, one of lochws or of Python. Prints the number of children for each call.
PROGRAM = """
import os, sys, traceback
from functools import partial
import lochws
from lochws import WebSocketApp

URL = "ws://127.0.0.1:1/"
MODULES = ("lochws.", "inspect", "difflib")
async def handle(event): ...
def refused(error, function):
    try:
        function()
    except error:
        return
    raise AssertionError

def run(call, point):
    seen, errors = 0, []
    def make():
        try:
            exec(call, dict(globals()))
        except BaseException:
            errors.append(traceback.format_exc())
    def trace(frame, event, _):
        nonlocal seen
        name = frame.f_globals["__name__"]
        if frame.f_code.co_name != "<module>" or not name.startswith(MODULES):
            return None
        seen += 1
        if seen == point:
            sys.settrace(None)
            make()
        return trace
    sys.settrace(trace)
    make()
    sys.settrace(None)
    return seen >= point, errors

def run_all(prepare, call):
    exec(prepare, globals())
    point = count = 0
    while True:
        point += 1 + 5 * count
        count += 1
        reads, writes = os.pipe()
        if not os.fork():
            sys.stderr.close()
            os.write(writes, repr(run(call, point)).encode())
            os._exit(0)
        os.close(writes)
        with open(reads) as pipe:
            got_there, errors = eval(pipe.read())
        os.wait()
        assert not errors, (call, point, *errors)
        if not got_there:
            return count

print(*[run_all(*each) for each in CALLS])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_calls_that_interrupt_their_own_imports_work() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(lochws.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", f"CALLS = {CALLS!r}\n{PROGRAM}"], env=environment, capture_output=True,
        text=True, timeout=100, check=False,
    )
    assert done.returncode == 0, done.stderr
    # In some versions of Python, some of the calls import nothing that is not there already.
    assert sum(map(int, done.stdout.split())) >= 5 * len(CALLS), done.stdout
