"""Attempts that hang in any phase end in time and leave nothing open."""

from __future__ import annotations

import gc
import threading
from contextlib import closing

import pytest

from lochws.opening.dial import Dialler
from lochws.options import Options
from lochws.system.deadline import Deadline
from lochws.system.steps import performed

from ..support.attempts import Attempt, Dial
from ..support.awake import Awake
from ..support.hang import Hang
from ..support.peer import Link, StartPeer
from ..support.ports import free_port
from ..support.seen import PATIENCE

#: The limit for what should not wait, in seconds.
SOON = 3.0


class TestEndingInTime:
    """Whatever hangs, the attempt ends with its deadline, and at once when it is cancelled."""

    PHASES = ("resolve", "tcp", "proxy", "tls", "request", "upgrade")

    @pytest.mark.parametrize("phase", PHASES)
    def test_silence_ends_with_open_timeout(self, dial: Dial, hang: Hang, phase: str) -> None:
        url, options = getattr(hang, phase)()
        where = {"request": "upgrade"}.get(phase, phase)
        # So large a request takes time to prepare; and the machine may stall before that phase.
        for limit in (1.0, 10.0) if phase == "request" else (0.2, 1.0, 10.0):
            attempt = dial(url, open_timeout=limit, **options)
            assert limit - 0.05 < attempt.seconds
            assert attempt.awake_seconds < limit + SOON
            if attempt.last.phase == where:
                break
        if phase == "upgrade":
            assert attempt.names == ["connecting", "connected", "disconnected"]
            expected = f"no answer to the upgrade request: timed out after {limit:g} s"
            assert attempt.last.reason == expected
            assert attempt.last.ended_by == "network"
            assert isinstance(attempt.last.error, TimeoutError)
        else:
            assert attempt.names == ["connecting", "connect_fail"]
            assert attempt.last.phase == where
            assert f"{limit:g} s" in attempt.last.reason

    @pytest.mark.parametrize("phase", PHASES)
    def test_cancelling_ends_it_at_once(self, dial: Dial, hang: Hang, phase: str, awake: Awake) -> None:
        deadline = Deadline(None)
        at = []

        def cancel() -> None:
            at.append(awake())
            deadline.cancel()

        hang.reached = cancel
        url, options = getattr(hang, phase)()
        attempt = dial(url, deadline=deadline, **options)
        assert awake() - at[0] < SOON
        if phase == "upgrade":
            assert attempt.names == ["connecting", "connected", "disconnected"]
            assert attempt.last.reason == "closed during the upgrade"
            assert attempt.last.ended_by == "client"
        else:
            assert attempt.names == ["connecting", "connect_fail"]
            assert attempt.last.reason == "closed while connecting"
            assert attempt.last.phase == {"request": "upgrade"}.get(phase, phase)

    def test_cancelled_before_it_began_it_dials_nothing(self, dial: Dial, start_peer: StartPeer) -> None:
        peer = start_peer(Link.accept)
        deadline = Deadline(PATIENCE)
        deadline.cancel()
        assert dial(peer.url, deadline=deadline).last.reason == "closed while connecting"

    def test_cancelling_during_the_body_of_a_refusal_keeps_what_came(
        self, dial: Dial, start_peer: StartPeer
    ) -> None:
        deadline = Deadline(None)
        kept = b"the beginning"

        def script(link: Link) -> None:
            link.read_request()
            link.send(b"HTTP/1.1 500 No\r\n\r\n" + kept)
            deadline.cancel()
            link.wait_for_end()

        attempt = dial(start_peer(script).url, deadline=deadline)
        assert attempt.awake_seconds < SOON
        # The client may have been stopped before it had read any of the answer.
        assert attempt.names[2:] == ["disconnected"] or kept.startswith(attempt.events[2].response.body)

    @pytest.mark.parametrize("steps", [1, 2])
    def test_leaving_early_closes_the_connection(self, start_peer: StartPeer, steps: int) -> None:
        ended = threading.Event()
        peer = start_peer(lambda link: (link.read_request(), link.wait_for_end(), ended.set()))
        deadline = Deadline(PATIENCE)
        attempt = performed(Dialler(Options(), peer.url).dial(deadline), deadline)
        for _ in range(steps):
            next(attempt)
        attempt.close()
        deadline.close()
        assert steps == 1 or ended.wait(PATIENCE)

    def test_a_thousand_failures_leave_nothing(self) -> None:
        port = free_port()
        dialler = Dialler(Options(), f"ws://127.0.0.1:{port}/")
        threads = threading.active_count()
        for _ in range(1000):
            with closing(Deadline(PATIENCE)) as deadline:
                Attempt(dialler, deadline)
        gc.collect()
        assert threading.active_count() == threads
