"""examples/chat.py: the server and the members, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .running import Running, run, running


def test_three_members_talk_by_themselves() -> None:
    process = run("chat.py")
    assert process.returncode == 0, process.stderr
    assert not process.stderr
    lines = process.stdout.splitlines()
    assert lines[0] == "Ann hears room: welcome, Ann"
    assert sorted(lines[1:3]) == ["Ann hears Bob: joined", "Bob hears room: welcome, Bob"]
    assert sorted(lines[3:6]) == [
        "Ann hears Cleo: joined", "Bob hears Cleo: joined", "Cleo hears room: welcome, Cleo"
    ]
    assert sorted(lines[6:8]) == [
        "Bob hears Ann: Has anybody seen my threads?", "Cleo hears Ann: Has anybody seen my threads?"
    ]
    assert sorted(lines[10:]) == ["Ann hears Bob: Bye!", "Cleo hears Bob: Bye!"]


@pytest.fixture
def programs() -> Iterator[ExitStack]:
    """Stops the programs that a test enters into it."""
    with ExitStack() as stack:
        yield stack


def test_all_processes_see_what_one_says(programs: ExitStack) -> None:
    server = programs.enter_context(running("chat.py", "serve", "0"))
    url = server.wait_for("^ws://")
    members: dict[str, Running] = {}
    for name in ("ann", "bob", "cleo"):
        member = programs.enter_context(running("chat.py", "join", url.string, name))
        member.wait_for(f"^room: welcome, {name}$")
        for other in members.values():
            other.wait_for(f"^{name}: joined$")
        members[name] = member
    for name, speaker in members.items():
        speaker.say(f"Grüße von {name} 🙂")
        for other in members.values():
            if other is not speaker:
                other.wait_for(f"^{name}: Grüße von {name} 🙂$")
    assert members["bob"].end() == 0
    members["ann"].wait_for("^bob: left$")
    members["cleo"].process.kill()
    members["ann"].wait_for("^cleo: left$")
    assert members["ann"].end() == 0
    assert not any("Traceback" in line for line in [*server.lines, *members["ann"].lines])


def test_a_member_stays_through_a_restart_of_the_server(programs: ExitStack) -> None:
    server = programs.enter_context(running("chat.py", "serve", "0"))
    url = server.wait_for("^ws://").string
    ann = programs.enter_context(running("chat.py", "join", url, "ann"))
    ann.wait_for("^room: welcome, ann$")
    server.process.kill()
    ann.wait_for(r"^\(the connection is lost")
    ann.say("hello?")
    ann.wait_for(r"^\(not connected; not sent: 'hello\?'\)$")
    again = programs.enter_context(running("chat.py", "serve", url.rstrip("/").rpartition(":")[2]))
    again.wait_for("^ws://")
    ann.wait_for("^room: welcome, ann$")
    bob = programs.enter_context(running("chat.py", "join", url, "bob"))
    ann.wait_for("^bob: joined$")
    bob.say("hello, ann")
    ann.wait_for("^bob: hello, ann$")
    assert bob.end() == 0
    assert ann.end() == 0
