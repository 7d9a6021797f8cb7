"""Each known failure happens with the events, phase, reason and advice of docs/failures.md."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trustme

from lochws.events import ConnectFail, Disconnected, Rejected

from ..faults.registry import fault
from ..support.attempts import Dial
from ..support.failures import CASES, PAGE, Case, Scene, render
from ..support.hang import Hang
from ..support.peer import StartPeer


@pytest.fixture
def scene(
    start_peer: StartPeer, authority: trustme.CA, ca_file: str, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    return Scene(start_peer, authority, ca_file, hang, monkeypatch)


def cases() -> list[Any]:
    """Return all cases; those with certificates belong to the suite of faults, too."""
    certificate = [fault("opening", "The certificate is not valid")]
    return [
        pytest.param(case, id=case.name, marks=certificate if case.what.startswith("certificate") else [])
        for case in CASES
    ]


@pytest.mark.parametrize("case", cases())
def test_a_failure_is_reported_as_documented(case: Case, scene: Scene, dial: Dial) -> None:
    for _ in range(10):
        url, options = case.lead(scene)
        attempt = dial(url, **options)
        if attempt.seconds - attempt.awake_seconds < 0.1:
            break  # otherwise the machine stalled, and the time may have been up before the phase began
    names = [name for name in attempt.names if name not in {"connecting", "connected"}]
    assert tuple(names) == case.events
    told = next(event for event in attempt.events if isinstance(event, (ConnectFail, Rejected, Disconnected)))
    assert told.phase == case.phase
    reason = told.reason if told.address is None else told.reason.replace(told.address, "ADDRESS")
    assert re.sub(r"[0-9a-f]{64}", "DIGEST", reason) == case.reason
    assert told.advice == case.advice
    assert (told.address is None) == ("resolve" in case.reason)
    assert (told.error is None) == (case.reason == "connection lost: ended by the server")
    # The phase that failed was entered, and no phase takes longer than the whole attempt.
    # (The way to the proxy itself has a look-up and a connection, too.)
    assert case.phase in told.timings or told.reason.startswith("unable to connect to proxy")
    assert told.timings
    assert sum(told.timings.values()) <= attempt.seconds
    if isinstance(told, Rejected):
        assert attempt.last.reason == told.reason
        assert attempt.last.advice == told.advice


def test_every_advice_is_one_sentence() -> None:
    for case in CASES:
        assert re.fullmatch(r"[A-Z][^\n]*[^.]\.", case.advice)
        assert ". " not in case.advice


def test_a_close_by_the_user_needs_no_advice(dial: Dial, hang: Hang) -> None:
    from lochws.system.deadline import Deadline

    deadline = Deadline(None)
    hang.reached = deadline.cancel
    url, options = hang.upgrade()
    assert dial(url, deadline=deadline, **options).last.advice == ""


def test_the_page_in_the_documentation_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "write it anew: python -m tests.support.failures"
