"""Programs that end while an app runs: by Ctrl-C, by a signal, or at the end of the main thread."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ..faults.registry import fault
from ..support.awake import Awake
from ..support.peer import CLOSE, TEXT, Link, StartPeer
from ..support.programs import SOON, Run
from ..support.scripts import Ends, silent
from ..support.seen import PATIENCE


class TestInterrupting:
    """Send Ctrl-C as a shell does."""

    RUN = """
app.on("ready")(lambda _: say("ready"))
app.run_forever()
say("never")
"""

    @fault("stopping", "Ctrl-C")
    def test_run_forever_closes_cleanly_and_the_program_ends_as_interrupted(
        self, run: Run, start_peer: StartPeer
    ) -> None:
        frames: list[object] = []

        def script(link: Link) -> None:
            link.accept()
            while (frame := link.read_frame())[0] != CLOSE:
                pass
            frames.append(frame)
            link.send_frame(*frame)

        program = run(self.RUN, start_peer(script).url)
        program.wait_for("ready")
        program.send(signal.SIGINT)
        status, output, errors = program.end()
        assert frames == [(CLOSE, b"\x03\xe8interrupted")]
        # What a shell needs to see in order to stop its script, too.
        assert status == -signal.SIGINT
        assert errors.rstrip().endswith("KeyboardInterrupt")
        files = re.findall(r'File "([^"]*)", line \d+, in (.*)', errors)
        assert [(Path(file).name, name) for file, name in files] == [
            ("<string>", "<module>"), ("arguments.py", "run_forever")
        ], "one frame of ours"
        assert output == ""

    @fault("stopping", "Ctrl-C")
    @pytest.mark.parametrize("where", ["connected", "back_off"])
    def test_while_there_is_no_connection_it_ends_at_once(
        self, where: str, run: Run, start_peer: StartPeer, awake: Awake
    ) -> None:
        code = f"""
app.on("{where}")(lambda _: say("now"))
app.run_forever(persist=Backoff(1000, 1000))
"""
        script = Link.wait_for_end if where == "connected" else Link.accept
        program = run(code, start_peer(script).url)
        program.wait_for("now")
        program.send(signal.SIGINT)
        began = awake()
        status, _, _ = program.end()
        assert status == -signal.SIGINT
        assert awake() - began < 2

    @fault("stopping", "Ctrl-C")
    def test_a_second_one_does_not_wait_for_the_server(
        self, run: Run, start_peer: StartPeer, awake: Awake
    ) -> None:
        closing = threading.Event()

        def script(link: Link) -> None:
            link.accept()
            while link.read_frame()[0] != CLOSE:
                pass
            closing.set()
            link.wait_for_end()

        program = run(self.RUN, start_peer(script).url)
        program.wait_for("ready")
        program.send(signal.SIGINT)
        assert closing.wait(PATIENCE)
        program.send(signal.SIGINT)
        began = awake()
        status, _, _ = program.end()
        assert status == -signal.SIGINT
        assert awake() - began < 2

    @fault("stopping", "Ctrl-C")
    def test_a_with_block_closes_and_the_program_ends_as_interrupted(
        self, run: Run, start_peer: StartPeer
    ) -> None:
        ends = Ends()
        program = run("""
app.on("ready")(lambda _: say("ready"))
with app:
    while True:
        time.sleep(1000)
""", start_peer(answering(ends)).url)
        program.wait_for("ready")
        program.send(signal.SIGINT)
        assert program.end()[0] == -signal.SIGINT
        assert ends.wait()[0] == (CLOSE, b"\x03\xe8goodbye")

    @fault("stopping", "SIGTERM")
    def test_a_handler_of_sigterm_may_close(self, run: Run, start_peer: StartPeer) -> None:
        ends = Ends()
        program = run("""
signal.signal(signal.SIGTERM, lambda *_: app.close(1001, "terminated"))
app.on("ready")(lambda _: say("ready"))
app.run_forever()
say("over")
""", start_peer(answering(ends)).url)
        program.wait_for("ready")
        program.send(signal.SIGTERM)
        assert program.end() == (0, "over\n", "")
        assert ends.wait()[0] == (CLOSE, b"\x03\xe9terminated")


def answering(ends: Ends) -> Callable[[Link], None]:
    """Return a script that records the Close frame in `ends`, and answers it."""

    def script(link: Link) -> None:
        link.accept()
        while (frame := link.read_frame())[0] != CLOSE:
            pass
        ends.seen.append(frame)
        link.send_frame(*frame)
        ends.done.set()

    return script


def greet(link: Link) -> None:
    link.accept()
    link.send_frame(TEXT, b"hello")
    link.wait_for_end()


def flood(link: Link) -> None:
    link.accept()
    while True:
        link.send_frame(TEXT, bytes(10_000))


RESOLVING = """
import socket
socket.getaddrinfo = lambda *_, **__: sleep(0)
app = WebSocketApp("ws://slow.host/")
app.start()
done.wait()
"""

IN_TLS = """
app = WebSocketApp(sys.argv[1].replace("ws:", "wss:"))
until("connecting")
app.start()
done.wait()
"""

#: What the main thread does last, and the server meanwhile.
ENDINGS: dict[str, tuple[str, Callable[[Link], object]]] = {
    "started": ("app.start()", silent),
    "connecting": ("until('connected'); app.start(); done.wait()", Link.wait_for_end),
    "resolving": (RESOLVING, silent),
    "in TLS": (IN_TLS, Link.wait_for_end),
    "open": ("app.start(); app.wait_ready()", silent),
    "flooded": ("until('text'); app.start(); done.wait()", flood),
    "sending": ("app.start(); app.wait_ready(); daemon(send); done.wait()", silent),
    "closing": ("app.start(); app.wait_ready(); app.close()", silent),
    "backing off": ("until('back_off'); app.start(persist=Backoff(99, 99)); done.wait()", Link.accept),
    "reconnecting": ("until('back_off'); app.start(persist=Backoff(0, 0)); done.wait()", Link.accept),
    "handler sleeps": ("app.on('text')(sleep); app.start(); done.wait()", greet),
    "handler computes": ("app.on('text')(compute); app.start(); done.wait()", greet),
    "run_forever in a daemon": ("daemon(app.run_forever); app.wait_ready()", silent),
}


class TestEnding:
    """The main thread ends, whatever lochws's threads are doing."""

    @fault("stopping", "The interpreter exits while an app runs")
    @pytest.mark.parametrize(("code", "script"), ENDINGS.values(), ids=ENDINGS.keys())
    def test_the_program_ends(
        self, code: str, script: Callable[[Link], object], run: Run, start_peer: StartPeer
    ) -> None:
        status, output, errors = run(code, start_peer(script).url).end(SOON)
        assert (status, output) == (0, "")
        assert "Traceback" not in errors
        assert "Fatal" not in errors

    @fault("stopping", "The interpreter exits while an app runs")
    def test_what_is_registered_to_run_at_exit_can_still_close(self, run: Run, start_peer: StartPeer) -> None:
        ends = Ends()
        program = run("""
atexit.register(app.stop)
app.start()
app.wait_ready()
""", start_peer(answering(ends)).url)
        assert program.end() == (0, "", "")
        assert ends.wait()[0] == (CLOSE, b"\x03\xe8goodbye")

    @fault("stopping", "The interpreter exits while an app runs")
    def test_an_app_that_starts_at_exit_does_not_hang(self, run: Run, start_peer: StartPeer) -> None:
        # Since Python 3.12 no thread can be started then.
        status, output, _ = run("""
@atexit.register
def late():
    try:
        app.start()
    except RuntimeError:
        assert app.stop(60)
    say("done")
""", start_peer(silent).url).end()
        assert (status, output) == (0, "done\n")
