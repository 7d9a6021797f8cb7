"""Phases of an opening: limits of their own, and their times in the events."""

from __future__ import annotations

import ssl
from contextlib import closing
from time import monotonic

import pytest

from lochws import WebSocket, events
from lochws.system.deadline import Deadline

from ..support.attempts import Dial
from ..support.hang import Hang
from ..support.peer import Link, StartPeer

#: The limit for what should not wait, in seconds.
SOON = 3.0


@pytest.mark.parametrize(
    ("phase", "said"),
    [("resolve", "resolve"), ("tcp", "tcp"), ("proxy", "proxy"), ("tls", "tls"), ("upgrade", "upgrade")],
)
def test_a_phase_ends_with_its_own_limit(dial: Dial, hang: Hang, phase: str, said: str) -> None:
    url, options = getattr(hang, phase)()
    attempt = dial(url, open_timeout=30, phase_timeouts={phase: 0.1}, **options)
    assert attempt.seconds > 0.09
    assert attempt.awake_seconds < 0.1 + SOON
    assert attempt.last.phase == said
    assert attempt.last.reason.endswith(f"timed out after 0.1 s, the limit of the phase {phase}")
    assert 0.09 < attempt.last.timings[phase] <= attempt.seconds


def test_the_limit_of_the_whole_still_counts(dial: Dial, hang: Hang) -> None:
    url, options = hang.tls()
    attempt = dial(url, open_timeout=0.1, phase_timeouts={"tls": 30}, **options)
    assert attempt.last.reason.endswith("timed out after 0.1 s")


def test_limits_of_other_phases_do_not_count(dial: Dial, start_peer: StartPeer) -> None:
    assert dial(start_peer(Link.accept).url, phase_timeouts={"proxy": 0.0, "tls": 0.0}).opened


def test_a_refusal_has_the_times_of_all_phases(
    dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    answer = b"HTTP/1.1 500 No\r\n\r\n"
    peer = start_peer(lambda link: (link.read_request(), link.send(answer)), tls=server_tls)
    attempt = dial(peer.url, ssl_cafile=ca_file)
    rejected = attempt.events[2]
    assert list(rejected.timings) == ["resolve", "tcp", "tls", "upgrade"]
    assert all(seconds > 0 for seconds in rejected.timings.values())
    assert sum(rejected.timings.values()) <= attempt.seconds


def test_ready_has_them_too_and_whom_the_connection_leads_to(
    start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    peer = start_peer(Link.accept, tls=server_tls)
    found = ready(WebSocket(peer.url, ssl_cafile=ca_file))
    assert list(found.timings) == ["resolve", "tcp", "tls", "upgrade"]
    assert all(seconds >= 0 for seconds in found.timings.values())
    assert sum(found.timings.values()) > 0
    assert found.address == peer.authority


def test_the_address_of_ready_is_the_proxys(start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 200 OK\r\n\r\n")
        link.accept()

    proxy = start_peer(script)
    assert ready(WebSocket("ws://target.invalid/", proxies=proxy.authority)).address == proxy.authority


def ready(websocket: WebSocket) -> events.Ready:
    """Return the Ready event of a connection."""
    [found] = [event for event in websocket if isinstance(event, events.Ready)]
    return found


def test_a_phase_that_was_not_entered_has_no_time(dial: Dial) -> None:
    assert dial("ws://127.0.0.1:1/", headers=lambda: {"": ""}).last.timings == {}


class TestDeadline:
    """The clock behind it."""

    def test_time_is_counted_for_the_phase_that_was_entered(self) -> None:
        with closing(Deadline(None)) as deadline:
            assert deadline.timings == {}
            deadline.enter("tcp")
            began = monotonic()  # not before the phase began, so the phase is at least as long as the loop
            while monotonic() - began < 0.01:
                pass
            deadline.enter("tls")
            times = deadline.timings
            assert times["tcp"] >= 0.01
            deadline.enter("tcp")  # as with a redirect
            assert list(deadline.timings) == ["tcp", "tls"]
            assert deadline.timings["tcp"] >= times["tcp"]

    def test_a_limit_begins_anew_with_each_phase(self) -> None:
        with closing(Deadline(None)) as deadline:
            assert deadline.until() is None
            deadline.limit_phases({"tcp": 1000, "tls": 0})
            began = monotonic()
            deadline.enter("tcp")
            assert began + 1000 <= (deadline.until() or 0) <= monotonic() + 1000  # exact: no difference
            deadline.enter("tls")
            with pytest.raises(TimeoutError, match="timed out after 0 s, the limit of the phase tls"):
                deadline.until()
            deadline.enter("upgrade")
            assert deadline.until() is None


class TestOption:
    """``phase_timeouts=``."""

    def test_dns_is_another_word_for_resolve(self, hang: Hang) -> None:
        url, _ = hang.resolve()
        events = list(WebSocket(url, phase_timeouts={"dns": 0.05, "tcp": None}))
        assert events[-1].phase == "resolve"
        assert "the limit of the phase resolve" in events[-1].reason

    @pytest.mark.parametrize(
        ("limits", "error"),
        [({"ssl": 1}, ValueError), ({"tls": -1}, ValueError), ({"tls": "1"}, TypeError), (5, TypeError)],
    )
    def test_what_cannot_be_is_refused_by_name(self, limits: object, error: type[Exception]) -> None:
        with pytest.raises(error, match="phase_timeouts"):
            WebSocket("ws://host/", phase_timeouts=limits)  # type: ignore[arg-type]
