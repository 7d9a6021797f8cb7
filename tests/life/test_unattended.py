"""Programs that end while an app is running: one warning says so, unless that was what somebody wanted."""

from __future__ import annotations

import pytest

from ..faults.registry import fault
from ..support.peer import Link, StartPeer
from ..support.programs import Run
from ..support.scripts import polite

WARNING = "the program ends while an app is still running"


def lines(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if "the program ends" in line]


@fault("stopping", "The interpreter exits while an app runs")
@pytest.mark.parametrize(
    "code",
    ["app.start()", "app.start(); app.wait_ready()", "daemon(app.run_forever); app.wait_ready()",
     "app.start(); sys.exit(3)"],
)
def test_a_program_that_starts_an_app_and_ends_is_warned_once(
    code: str, run: Run, start_peer: StartPeer
) -> None:
    status, _, errors = run(code, start_peer(polite).url).end()
    assert status == (3 if "exit" in code else 0)
    (line,) = lines(errors)
    assert line.startswith(WARNING)
    assert "ws://127.0.0.1" in line
    assert "join()" in line


def test_an_app_that_backs_off_is_running_too(run: Run, start_peer: StartPeer) -> None:
    code = "until('back_off'); app.start(persist=Backoff(99, 99)); done.wait()"
    _, _, errors = run(code, start_peer(Link.accept).url).end()
    assert len(lines(errors)) == 1


def test_several_apps_are_one_warning(run: Run, start_peer: StartPeer) -> None:
    code = "app.start(); WebSocketApp(sys.argv[1]).start(); WebSocketApp(sys.argv[1])"
    _, _, errors = run(code, start_peer(polite).url).end()
    (line,) = lines(errors)
    assert line.startswith("the program ends while 2 apps are still running")


@pytest.mark.parametrize(
    "code",
    [
        "pass",
        "app.start(); app.stop()",
        "app.start(); app.close()",
        "with app: app.wait_ready()",
        "app.start(persist=False); app.wait_ready(); app.force_disconnect(); app.join()",
        "atexit.register(app.stop); app.start()",
        "app.start(); app.wait_ready(); raise LookupError('the traceback says why it ends')",
    ],
)
def test_a_program_that_ends_as_it_should_is_not(code: str, run: Run, start_peer: StartPeer) -> None:
    _, _, errors = run(code, start_peer(polite).url).end()
    assert lines(errors) == []


def test_the_child_of_a_fork_does_not_speak_of_its_parents_apps(run: Run, start_peer: StartPeer) -> None:
    code = """
app.start()
app.wait_ready()
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    app.stop()
"""
    status, _, errors = run(code, start_peer(polite).url).end()
    assert status == 0
    assert lines(errors) == []
