"""Apps in sub-interpreters, where threads must end before their interpreter does.

Each program runs in a process of its own, since an interpreter that ends wrongly aborts the process.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import lochws
from lochws.testing import ScriptedServer, accept, send, wait_for, wait_for_close

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.skipif(
    not (find_spec("_interpreters") or find_spec("_xxsubinterpreters")), reason="one interpreter only"
)

#: The beginning of each program. `run` runs a program in each of some new interpreters, all at once, and then
#: ends them; all of it in threads, since an interpreter with a GIL of its own runs beside the others.
COMMON = '''
import sys, threading
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def create(kind):
    if kind == "threadless" and sys.version_info >= (3, 13):
        return interpreters.create(interpreters.new_config("isolated", allow_threads=False))
    if sys.version_info >= (3, 13):
        return interpreters.create(kind)
    return interpreters.create(isolated=kind != "legacy")

def run(program, kind, count=1):
    program = f"import sys\\nsys.path[:] = {sys.path!r}\\nURL = {sys.argv[1]!r}\\n" + program
    if sys.version_info < (3, 12):  # destroy() does not wait for threads: do as mod_wsgi does
        program += "\\nthreading._shutdown()"
    failures = []
    def once(interpreter):
        try:
            failure = interpreters.run_string(interpreter, program)
            failures.extend([] if failure is None else [failure])
        except Exception as error:
            failures.append(error)
        interpreters.destroy(interpreter)
    threads = [threading.Thread(target=once, args=[create(kind)]) for _ in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    if failures: sys.exit(repr(failures))
'''

#: The app of an interpreter: it echoes the server's message, and learns that the echo arrived.
APP = '''
import threading
from lochws import WebSocketApp
heard = threading.Event()
app = WebSocketApp(URL, proxies={})
@app.on("text")
def answer(event):
    app.send_text(event.text)
    heard.set()
app.start()
assert app.wait_ready(60), app
assert heard.wait(60)
'''

# 3.12 has isolated ones, too, but its hashlib, which lochws needs, corrupts the memory of the process there.
KINDS = ["legacy", "isolated"] if sys.version_info >= (3, 13) else ["legacy"]


def run(program: str, url: str) -> str:
    """Return the output of the program if it failed, else an empty str."""
    done = subprocess.run(
        [sys.executable, "-c", COMMON + program, url], cwd=ROOT, text=True, timeout=150,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )
    return done.stdout if done.returncode else ""


@pytest.mark.parametrize("kind", KINDS)
def test_apps_run_in_several_interpreters_at_once_whose_ends_close_them(kind: str) -> None:
    more = f"import lochws\nassert lochws.compiled is {lochws.compiled}"
    with ScriptedServer([accept(), send("hello"), wait_for("hello"), wait_for_close()]) as server:
        assert not run(f"run({APP + more!r}, {kind!r}, 2)", server.url)
        server.check()
        assert [connection.close_frame for connection in server.connections] == [
            (1001, "the interpreter ends"), (1001, "the interpreter ends")
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_handlers_that_were_not_closed_do_not_keep_their_interpreter(kind: str, tmp_path: Path) -> None:
    more = f'''
from lochws import Feed, WebSocketApp
from lochws.handlers.outbox import Outbox
from lochws.handlers.recorder import Recorder
from lochws.handlers.replies import Replies
recorder = Recorder({str(tmp_path / "recording")!r})
app.add_handler(recorder)
outbox = Outbox(app, {str(tmp_path / "outbox")!r})
outbox.put("kept")
replies = Replies(app)
reply = replies.request(dict(question=1), timeout=600)
feed = Feed(lambda url: WebSocketApp(url, proxies={{}}), [URL])
feed.start()
assert feed.wait_ready(60)
'''
    with ScriptedServer([accept(), send("hello")]) as server:
        assert not run(f"run({APP + more!r}, {kind!r})", server.url)


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="3.12 cannot make an interpreter without threads from Python"
)
def test_where_threads_are_forbidden_start_says_what_to_do() -> None:
    printed = run(f"run({APP!r}, 'threadless')", "ws://127.0.0.1:9")
    assert "an app needs threads: create the interpreter with threads allowed" in printed
