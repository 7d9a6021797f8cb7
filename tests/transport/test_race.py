"""Races of addresses (RFC 8305): families take turns, and dead addresses hold up nothing."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from lochws.errors import ConnectFail
from lochws.system.deadline import Cancelled, Deadline
from lochws.system.steps import Steps, Wait, drive
from lochws.transport import tcp
from lochws.transport.tcp import AddressInfo, interleaved

from ..support.awake import Awake
from ..support.driven import driven
from ..support.hang import Hang
from ..support.peer import Link, StartPeer
from ..support.seen import PATIENCE

connect_tcp = driven(tcp.connect_tcp)

#: How much longer a test may take than on an idle machine, in seconds.
SLACK = 1.0


@pytest.fixture
def limit() -> Iterator[Callable[[float | None], Deadline]]:
    """Makes deadlines that end with the test."""
    deadlines: list[Deadline] = []

    def make(seconds: float | None = PATIENCE) -> Deadline:
        deadlines.append(Deadline(seconds))
        return deadlines[-1]

    yield make
    for deadline in deadlines:
        deadline.close()


def info(host: str, port: int) -> AddressInfo:
    if ":" in host:
        return (socket.AF_INET6, socket.SOCK_STREAM, 0, "", (host, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))


def refusing(host: str = "127.0.0.1") -> AddressInfo:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        return info(host, listener.getsockname()[1])


class TestOrder:
    """`interleaved`: RFC 8305 section 4."""

    def test_the_families_take_turns_beginning_with_the_first(self) -> None:
        six = [info("2001:db8::1", n) for n in range(3)]
        four = [info("192.0.2.1", n) for n in range(2)]
        assert interleaved([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
        assert interleaved([four[0], *six, four[1]]) == [four[0], six[0], four[1], six[1], six[2]]

    def test_one_family_keeps_its_order(self) -> None:
        four = [info("192.0.2.1", n) for n in range(4)]
        assert interleaved(four) == four
        assert interleaved([]) == []


class TestRace:
    """`connect_tcp`, over real sockets; a listener with a full backlog is a dead address."""

    def test_a_live_address_is_used_without_a_wait(self, limit, start_peer: StartPeer, awake: Awake) -> None:
        peer = start_peer(Link.wait_for_end)
        began = awake()
        connect_tcp([info(peer.host, peer.port), info(peer.host, peer.port)], limit()).close()
        assert awake() - began < SLACK
        assert len(peer.links) <= 1

    def test_the_next_address_is_tried_after_the_stagger(
        self, limit, start_peer: StartPeer, hang: Hang, awake: Awake
    ) -> None:
        peer = start_peer(Link.wait_for_end)
        dead = info("::1", hang.full_port("::1"))
        began, awake_began = monotonic(), awake()
        with connect_tcp([dead, info(peer.host, peer.port)], limit()) as sock:
            took, awake_took = monotonic() - began, awake() - awake_began
            assert sock.getpeername() == (peer.host, peer.port)
        assert tcp.STAGGER == 0.25
        assert took > tcp.STAGGER - 0.01
        assert awake_took < tcp.STAGGER + SLACK

    def test_after_a_refusal_the_next_address_is_tried_at_once(
        self, limit, start_peer: StartPeer, awake: Awake
    ) -> None:
        peer = start_peer(Link.wait_for_end)
        began = awake()
        addresses = [refusing("::1"), refusing(), refusing("::1"), info(peer.host, peer.port)]
        connect_tcp(addresses, limit()).close()
        assert awake() - began < 2 * tcp.STAGGER

    def test_many_dead_addresses_share_the_time_that_is_left(
        self, limit, start_peer: StartPeer, hang: Hang, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tcp, "STAGGER", PATIENCE)
        peer = start_peer(Link.wait_for_end)
        dead = info("127.0.0.1", hang.full_port())
        addresses = [*[dead] * 3, info(peer.host, peer.port)]
        for seconds in (1.0, 4.0, 16.0):  # the machine may stall while the last one has its share
            began = monotonic()
            try:
                connect_tcp(addresses, limit(seconds)).close()
            except ConnectFail:
                continue
            assert monotonic() - began > 0.7 * seconds
            return
        connect_tcp(addresses, limit()).close()

    def test_a_thousand_addresses_are_tried_a_few_at_a_time(
        self, limit, start_peer: StartPeer, hang: Hang, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tcp, "STAGGER", 0.0)
        peer = start_peer(Link.wait_for_end)
        dead = info("127.0.0.1", hang.full_port())
        waits: list[Wait] = []

        def noted() -> Steps[socket.socket]:
            steps = tcp.connect_tcp([*[dead] * 1000, info(peer.host, peer.port)], deadline)
            try:
                waits.append(next(steps))
                while True:
                    waits.append(steps.send((yield waits[-1])))
            except StopIteration as end:
                result: socket.socket = end.value
                return result

        deadline = limit()
        drive(noted(), deadline).close()
        assert sum(len(wait.channels) for wait in waits) <= 2 * tcp.MAX_RACING
        assert len(waits) > 1000 // tcp.MAX_RACING

    def test_an_error_names_the_first_of_many_addresses(self, limit) -> None:
        refused = refusing()
        with pytest.raises(ConnectFail) as caught:
            connect_tcp([refused] * 1000, limit())
        assert str(caught.value).count("; ") == 8
        assert str(caught.value).endswith("Connection refused; and 992 other addresses")

    def test_a_slow_address_can_still_win_after_others_have_begun(
        self, limit, start_peer: StartPeer, hang: Hang, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first answers late, the second is dead: the first stays in the race when the second begins."""
        late = hang.full_listener()
        dead = info("127.0.0.1", hang.full_port())
        # Once the backlog has room, the kernel answers the client's next SYN, a second after the first.
        timer = threading.Timer(tcp.STAGGER + 0.1, hang.drain, [late])
        timer.start()
        slow = info("127.0.0.1", late.getsockname()[1])
        with connect_tcp([slow, dead], limit()) as sock:
            assert sock.getpeername() == slow[4]
        timer.join()

    def test_losers_are_closed(self, limit, start_peer: StartPeer, hang: Hang, monkeypatch) -> None:
        made: list[socket.socket] = []
        ours = threading.current_thread()

        class Recorded(socket.socket):
            def __init__(self, *args: int, **kwargs: int) -> None:
                super().__init__(*args, **kwargs)
                if threading.current_thread() is ours:  # not the one that the peer accepts
                    made.append(self)

        peer = start_peer(Link.wait_for_end)
        dead = info("127.0.0.1", hang.full_port())
        deadline = limit()
        deadline.fileno()  # makes sockets of its own, which are not recorded
        monkeypatch.setattr(socket, "socket", Recorded)
        winner = connect_tcp([dead, dead, info(peer.host, peer.port)], deadline)
        monkeypatch.undo()
        assert [sock.fileno() >= 0 for sock in made] == [False, False, True]
        winner.close()

    def test_at_the_deadline_all_failures_are_named_in_order(
        self, limit, hang: Hang, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tcp, "STAGGER", 0.0)  # so that a stall does not use up the time before the second
        refused, dead = refusing(), info("127.0.0.1", hang.full_port())
        with pytest.raises(ConnectFail) as caught:
            connect_tcp([dead, refused], limit(0.3))
        first, second = str(caught.value).split("; ")
        assert first == f"127.0.0.1:{dead[4][1]}: timed out after 0.3 s"
        assert second == f"127.0.0.1:{refused[4][1]}: Connection refused"
        assert isinstance(caught.value.__cause__, TimeoutError)

    def test_cancelling_ends_it_at_once(self, limit, hang: Hang, awake: Awake) -> None:
        deadline = limit(None)
        dead = info("127.0.0.1", hang.full_port())
        threading.Timer(0.05, deadline.cancel).start()
        began = awake()
        with pytest.raises(Cancelled):
            connect_tcp([dead, dead], deadline)
        assert awake() - began < 0.05 + SLACK

    def test_no_address_is_a_failure(self, limit) -> None:
        with pytest.raises(ConnectFail):
            connect_tcp([], limit())


class TestOwnWishes:
    """`source_address` and `socket_options`."""

    def test_the_connection_comes_from_the_source_address(self, limit, start_peer: StartPeer) -> None:
        peer = start_peer(Link.wait_for_end)
        with connect_tcp([info(peer.host, peer.port)], limit(), source_address=("127.0.0.2", 0)) as sock:
            assert sock.getsockname()[0] == "127.0.0.2"

    def test_addresses_of_the_other_family_are_passed_over(self, limit, start_peer: StartPeer) -> None:
        four, six = start_peer(Link.wait_for_end), start_peer(Link.wait_for_end, host="::1")
        addresses = [info("::1", six.port), info("127.0.0.1", four.port)]
        with connect_tcp(addresses, limit(), source_address=("127.0.0.1", 0)) as sock:
            assert sock.family == socket.AF_INET
        with connect_tcp(addresses[::-1], limit(), source_address=("::1", 0)) as sock:
            assert sock.family == socket.AF_INET6
        with pytest.raises(ConnectFail, match=r"source_address 127\.0\.0\.1 is of another address family"):
            connect_tcp(addresses[:1], limit(), source_address=("127.0.0.1", 0))

    def test_a_source_address_that_this_machine_lacks_is_named_so(self, limit, start_peer: StartPeer) -> None:
        peer = start_peer(Link.wait_for_end)
        with pytest.raises(ConnectFail) as caught:
            connect_tcp([info(peer.host, peer.port)], limit(), source_address=("192.0.2.77", 0))
        assert caught.value.__cause__.errno == errno.EADDRNOTAVAIL

    def test_socket_options_are_set_before_connecting(self, limit, start_peer: StartPeer) -> None:
        peer = start_peer(Link.wait_for_end)
        options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)]
        with connect_tcp([info(peer.host, peer.port)], limit(), socket_options=options) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # the user's value wins

    def test_an_option_that_the_system_refuses_is_a_failure(self, limit, start_peer: StartPeer) -> None:
        peer = start_peer(Link.wait_for_end)
        with pytest.raises(ConnectFail):
            connect_tcp([info(peer.host, peer.port)], limit(), socket_options=[(socket.SOL_SOCKET, 9999, 1)])
