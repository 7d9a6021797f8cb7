"""Several copies of lochws in one process: each import of the compiled parts has a state of its own.

A copy is what a sub-interpreter has (mod_wsgi's applications, say), or what an import makes once the first
one was deleted from `sys.modules` (plugin hosts that reload). Each program below runs in a process of its
own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lochws.events import Binary, Text, _EncodedText
from lochws.protocol import compiled
from lochws.testing import ScriptedServer, accept, send

from ..faults.registry import fault
from ..support.wire import frame

ROOT = Path(__file__).parent.parent.parent

#: What all programs begin with.
COMMON = '''
import gc, os, sys, threading, weakref

def import_anew():
    """Import lochws as if nobody had done so before. Returns the package."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "lochws"]:
        del sys.modules[name]
    import lochws.protocol.receiver
    return lochws

def received(lochws, count=1):
    """Receive small messages at once and a large one in two parts, with that copy's receiver."""
    receiver = lochws.protocol.receiver.Receiver(None)
    large = b"\\x82\\x7f" + (200_000).to_bytes(8, "big") + bytes(200_000)
    for _ in range(count):
        found = receiver.receive(b"\\x81\\x02hi\\x82\\x01x")
        found += [event for part in (large[:90_000], large[90_000:]) for event in receiver.receive(part)]
        assert [type(event) for event in found] == [
            lochws.events.Text, lochws.events.Binary, lochws.events.Binary], found
        assert (found[0].text, found[1].data, found[2].data) == ("hi", b"x", bytes(200_000))
'''

#: What programs with sub-interpreters need besides.
INTERPRETERS = '''
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def create(own_gil):
    if sys.version_info >= (3, 13):
        return interpreters.create("isolated" if own_gil else "legacy")
    return interpreters.create(isolated=own_gil)

def run(interpreter, program):
    failed = interpreters.run_string(interpreter, program)
    assert failed is None, failed
'''


@pytest.fixture(params=["compiled", "pure"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the environment of a program that uses the compiled twins, or the ones in Python."""
    if request.param == "compiled" and compiled.twins is None:
        pytest.skip("built without a compiler")
    return {**os.environ, "LOCHWS_PURE_PYTHON": "1" if request.param == "pure" else ""}


def run(program: str, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", COMMON + program, *arguments], cwd=ROOT, env=environment, text=True,
        timeout=25, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


@fault("program", "Two copies of lochws in one process")
def test_copies_that_were_imported_one_after_the_other_all_receive(environment: dict[str, str]) -> None:
    printed = run('''
copies = [import_anew() for _ in range(3)]
assert len({copy.events.Text for copy in copies}) == 3
for copy in copies + copies[::-1]:
    received(copy)
print("done")
''', environment)
    assert printed == "done"


def test_copies_receive_at_once_in_threads(environment: dict[str, str]) -> None:
    printed = run('''
sys.setswitchinterval(1e-6)
finished = []
def flood(copy):
    received(copy, 300)
    finished.append(copy)
threads = [threading.Thread(target=flood, args=[import_anew()]) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(finished))
''', environment)
    assert printed == "4"


def test_an_app_gets_its_messages_after_another_copy_was_imported(environment: dict[str, str]) -> None:
    with ScriptedServer([accept(), send("hello"), send(b"bytes")]) as server:
        printed = run('''
def once(lochws):
    got = []
    app = lochws.WebSocketApp(sys.argv[1], proxies={})
    @app.on("text", "binary")
    def note(event):
        got.append(event.name)
        if len(got) == 2:
            app.close()
    app.run_forever(persist=False)
    return got
first = import_anew()
print(once(first))
second = import_anew()
print(once(first), once(second), once(first))
''', environment, server.url)
    assert printed.splitlines() == [
        "['text', 'binary']", "['text', 'binary'] ['text', 'binary'] ['text', 'binary']"
    ]


def test_a_copy_that_nobody_needs_is_collected(environment: dict[str, str]) -> None:
    printed = run('''
import_anew()
gc.collect()
def one():
    copy = import_anew()
    received(copy)
    module = copy.protocol.compiled.twins or copy.protocol.compiled
    return weakref.ref(copy.events.Text), weakref.ref(module)
gone = one()
import_anew()
gc.collect()
print([reference() for reference in gone])
''', environment)
    assert printed == "[None, None]"


# 3.12 has interpreters with a GIL of their own, too, but there its hashlib crashes them.
@fault("program", "Two copies of lochws in one process")
@pytest.mark.parametrize("own_gil", [False, True] if sys.version_info >= (3, 13) else [False])
def test_sub_interpreters_receive_beside_the_main_one(environment: dict[str, str], own_gil: bool) -> None:
    printed = run(INTERPRETERS + f'''
COMMON = {COMMON!r}
OWN_GIL = {own_gil}
''' + '''
main = import_anew()
received(main)
others = [create(OWN_GIL) for _ in range(2)]
flood = COMMON + f"""
sys.path[:] = {sys.path!r}
copy = import_anew()
assert (copy.protocol.compiled.twins is not None) == {main.protocol.compiled.twins is not None}
received(copy, 100)
os.write(1, b"received ")
"""
if OWN_GIL:
    threads = [threading.Thread(target=run, args=[other, flood]) for other in others]
    for thread in threads: thread.start()
    received(main, 100)
    for thread in threads: thread.join()
else:
    for other in others: run(other, flood)
for other in others: interpreters.destroy(other)
received(main)
print("done")
''', environment)
    assert printed.split() == ["received", "received", "done"]


@pytest.mark.skipif(compiled.twins is None, reason="built without a compiler")
class TestConfigure:
    @pytest.mark.parametrize("classes", [
        (Text, _EncodedText, object), (Text, object, Binary), (object, _EncodedText, Binary),
        (Binary, _EncodedText, Binary), (Text, Text, Binary), (Text, _EncodedText, Text),
    ])
    def test_when_it_fails_nothing_changes(self, classes: tuple[type, type, type]) -> None:
        with pytest.raises((AttributeError, TypeError)):
            compiled.twins.configure(*classes)  # type: ignore[union-attr]  # skipped if None
        events: list[object] = []
        data = frame(1, b"a") + frame(2, b"b")
        compiled.twins.scan(data, 0, 10, events)  # type: ignore[union-attr]  # as above
        assert [type(event) for event in events] == [Text, Binary]

    def test_a_slot_of_another_class_is_refused(self) -> None:
        class Stranger:
            __slots__ = ("received_time",)
            text = Text.text  # type: ignore[misc]  # a slot where it does not belong

        with pytest.raises(TypeError, match="text is not a slot"):
            compiled.twins.configure(Stranger, _EncodedText, Binary)  # type: ignore[union-attr]  # skipped if None

    def test_before_it_nothing_is_scanned(self, environment: dict[str, str]) -> None:
        printed = run('''
import importlib
module = importlib.import_module("lochws.protocol._compiled")
del sys.modules["lochws.protocol._compiled"]
fresh = importlib.import_module("lochws.protocol._compiled")
assert fresh is not module
for failing in (lambda: fresh.configure(str, str, bytes), lambda: fresh.scan(b"", 0, 1, [])):
    try: failing()
    except Exception as error: print(type(error).__name__, error)
''', environment)
        assert "RuntimeError scan: call configure() first" in printed
