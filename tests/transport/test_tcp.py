"""Names become addresses, addresses become sockets, and what hangs is left behind in time."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from lochws.errors import ConnectFail
from lochws.system.deadline import Cancelled, Deadline
from lochws.transport import tcp, waiting
from lochws.transport.tcp import AddressInfo

from ..faults.registry import fault
from ..support.driven import driven
from ..support.peer import Link, StartPeer
from ..support.ports import free_port
from ..support.seen import PATIENCE, eventually

connect_tcp, resolve, wait = driven(tcp.connect_tcp), driven(tcp.resolve), driven(waiting.wait)


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


@pytest.fixture
def hung_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Look-ups that hang until the test is over; returns the names that were asked for."""
    asked: list[str] = []
    over = threading.Event()

    def never(host: str, *_: object, **__: object) -> list[AddressInfo]:
        asked.append(host)
        over.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    yield asked
    over.set()


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port with a full backlog: connecting to it hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


def tcp_address(port: int) -> AddressInfo:
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))


class WithoutWords(Exception):
    """An exception that cannot even be printed."""

    def __str__(self) -> str:
        raise ValueError("no words")


class TestWait:
    """`wait` blocks until something is ready, the deadline passes, or it is cancelled."""

    @pytest.fixture
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            yield ours, theirs

    def test_readiness_ends_it(self, limit, pair) -> None:
        pair[1].send(b"x")
        assert wait(pair[0], selectors.EVENT_READ, limit())

    def test_its_own_limit_ends_it_without_an_error(self, limit, pair) -> None:
        assert not wait(pair[0], selectors.EVENT_READ, limit(None), limit=0.01)
        assert not wait(pair[0], selectors.EVENT_READ, limit(5), limit=0.01)

    def test_the_deadline_ends_it(self, limit, pair) -> None:
        with pytest.raises(TimeoutError, match=r"timed out after 0\.01 s"):
            wait(pair[0], selectors.EVENT_READ, limit(0.01), limit=5)

    def test_cancelling_from_another_thread_ends_it(self, limit, pair) -> None:
        deadline = limit(None)
        thread = threading.Timer(0.02, deadline.cancel)
        thread.start()
        with pytest.raises(Cancelled):
            wait(pair[0], selectors.EVENT_READ, deadline)
        thread.join()

    def test_descriptors_over_1023_are_waited_on(self, limit) -> None:
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
        sockets = []
        try:
            while not sockets or sockets[-1].fileno() < 1100:
                sockets.extend(socket.socketpair())
            sockets[-2].send(b"x")
            assert wait(sockets[-1], selectors.EVENT_READ, limit())
        finally:
            for sock in sockets:
                sock.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestResolve:
    """`resolve` never blocks longer than its deadline, whatever the system's resolver does."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_numeric_hosts_need_no_thread(self, limit, monkeypatch, host: str) -> None:
        monkeypatch.setattr(tcp._lookups, "call", None)
        assert [info[4][:2] for info in resolve(host, 80, limit())] == [(host, 80)]

    @fault("opening", "socket.getaddrinfo was replaced")
    @pytest.mark.parametrize("host", ["127.0.0.1", "some.name"])
    def test_a_replaced_function_is_looked_up_at_each_call_and_gets_its_arguments_by_position(
        self, limit, monkeypatch, host: str
    ) -> None:
        """The usual recipe for IPv4 only. Replacements such as dnspython's differ in parameter names."""
        asked = []

        def only_ipv4(
            name: str, service: int, family: int = 0, socktype: int = 0, proto: int = 0, flags: int = 0
        ) -> list[AddressInfo]:
            asked.append((name, service, family, socktype))
            return [tcp_address(80)]

        monkeypatch.setattr(socket, "getaddrinfo", only_ipv4)
        assert resolve(host, 80, limit()) == [tcp_address(80)]
        assert asked == [(host, 80, 0, socket.SOCK_STREAM)]

    @fault("opening", "socket.getaddrinfo was replaced")
    @pytest.mark.parametrize(
        "error", [TypeError("what?"), RuntimeError(), SystemExit(3), KeyError("x"), WithoutWords()]
    )
    def test_whatever_a_replaced_function_raises_is_a_failure_and_the_next_attempt_asks_again(
        self, limit, monkeypatch, error: BaseException
    ) -> None:
        answers: list[BaseException] = [error]

        def fail_once(*_: object) -> list[AddressInfo]:
            if answers:
                raise answers.pop()
            return [tcp_address(80)]

        monkeypatch.setattr(socket, "getaddrinfo", fail_once)
        with pytest.raises(ConnectFail, match=r"cannot resolve 'some\.name': ") as caught:
            resolve("some.name", 80, limit())
        assert (caught.value.phase, caught.value.__cause__) == ("resolve", error)
        assert resolve("some.name", 80, limit()) == [tcp_address(80)]

    @pytest.mark.parametrize(
        "answer",
        [
            None, 7, [None], [()], [(socket.AF_INET, socket.SOCK_STREAM, 0, "", "127.0.0.1:80")],
            [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (None, 80))],
            [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", 80))],
        ],
    )
    def test_an_answer_without_an_address_for_tcp_is_a_failure(
        self, limit, monkeypatch, answer: object
    ) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answer)
        with pytest.raises(ConnectFail, match=r"cannot resolve 'some\.name': ") as caught:
            resolve("some.name", 80, limit())
        assert caught.value.phase == "resolve"

    def test_of_an_answer_for_every_kind_of_socket_tcp_is_taken(self, limit, monkeypatch) -> None:
        kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_RAW)
        answer = [(socket.AF_INET, kind, 0, "", ("127.0.0.1", 80)) for kind in kinds]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: iter(answer))
        assert resolve("some.name", 80, limit()) == [tcp_address(80)]

    def test_a_name_is_looked_up(self, limit) -> None:
        assert any(info[4][:2] == ("127.0.0.1", 80) for info in resolve("localhost", 80, limit()))

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
            (UnicodeError("label too long"), "label too long"),
        ],
    )
    def test_a_failure_says_which_name_and_why(self, limit, monkeypatch, error: Exception, text: str) -> None:
        def fail(*_: object, **__: object) -> list[AddressInfo]:
            raise error

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(ConnectFail, match=f"cannot resolve 'no.such.host': {text}") as caught:
            resolve("no.such.host", 80, limit())
        assert caught.value.phase == "resolve"
        assert caught.value.__cause__ is error

    def test_a_label_over_63_characters_is_a_failure(self, limit) -> None:
        with pytest.raises(ConnectFail, match="cannot resolve"):
            resolve("a" * 64 + ".invalid", 80, limit())

    def test_a_name_without_addresses_is_a_failure(self, limit, monkeypatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
        with pytest.raises(ConnectFail, match="has no address"):
            resolve("no.such.host", 80, limit())

    def test_a_hung_look_up_ends_with_the_deadline(self, limit, hung_resolver: list[str]) -> None:
        with pytest.raises(ConnectFail, match=r"cannot resolve 'slow\.host': timed out after 0\.05 s"):
            resolve("slow.host", 80, limit(0.05))

    def test_a_hung_look_up_ends_when_cancelled(self, limit, monkeypatch) -> None:
        deadline, over = limit(None), threading.Event()

        def hang(*_: object, **__: object) -> list[AddressInfo]:
            deadline.cancel()
            over.wait()
            return []

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        try:
            with pytest.raises(Cancelled):
                resolve("slow.host", 80, deadline)
        finally:
            over.set()

    def test_hung_look_ups_of_one_name_share_one_thread(self, limit, hung_resolver: list[str]) -> None:
        for _ in range(20):
            with pytest.raises(ConnectFail):
                resolve("slow.host", 80, limit(0.01))
        with pytest.raises(ConnectFail):
            resolve("other.host", 80, limit(0.01))
        eventually(lambda: len(hung_resolver) > 1)
        assert hung_resolver == ["slow.host", "other.host"]
        names = sorted(thread.name for thread in threading.enumerate() if "resolver" in thread.name)
        assert names == ["lochws-resolver-other.host", "lochws-resolver-slow.host"]

    def test_a_late_answer_reaches_all_who_wait(self, limit, monkeypatch) -> None:
        answer, found = threading.Event(), []

        def slow(*_: object, **__: object) -> list[AddressInfo]:
            answer.wait()
            return [tcp_address(80)]

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        deadlines = [limit() for _ in range(3)]
        waiters = [
            threading.Thread(target=lambda it=deadline: found.append(resolve("slow.host", 80, it)))
            for deadline in deadlines
        ]
        for waiter in waiters:
            waiter.start()
        answer.set()
        for waiter in waiters:
            waiter.join(PATIENCE)
        assert found == [[tcp_address(80)]] * 3


class TestConnect:
    """`connect_tcp` tries the addresses one after another."""

    def test_the_socket_is_non_blocking_and_without_delay(self, limit, start_peer: StartPeer) -> None:
        peer = start_peer(Link.wait_for_end)
        with connect_tcp([tcp_address(peer.port)], limit()) as sock:
            assert sock.gettimeout() == 0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    @pytest.mark.parametrize(
        "address",
        [
            (12345, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)),
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 2**31)),
            (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)),
        ],
    )
    def test_an_address_that_cannot_be_connected_to_leaves_the_next_one(
        self, limit, start_peer: StartPeer, address: AddressInfo
    ) -> None:
        peer = start_peer(Link.wait_for_end)
        connect_tcp([address, tcp_address(peer.port)], limit()).close()
        with pytest.raises(ConnectFail, match=r"^127\.0\.0\.1:"):
            connect_tcp([address], limit())

    def test_a_replaced_socket_class_is_used_and_may_refuse_in_its_own_way(self, limit, monkeypatch) -> None:
        real, made = socket.socket, []

        def refuse(*kinds: int) -> socket.socket:
            made.append(kinds)
            raise RuntimeError("sockets are not allowed in this test")

        class Counted:
            """Makes sockets without being their class."""

            def __new__(cls, *kinds: int) -> socket.socket:  # type: ignore[misc]
                return real(*kinds)

        deadlines = limit(), limit()
        with socket.create_server(("127.0.0.1", 0)) as listener, monkeypatch.context() as patch:
            patch.setattr(socket, "socket", refuse)
            with pytest.raises(ConnectFail, match="sockets are not allowed in this test"):
                connect_tcp([tcp_address(80)], deadlines[0])
            patch.setattr(socket, "socket", Counted)
            connect_tcp([tcp_address(listener.getsockname()[1])], deadlines[1]).close()
        assert made == [(socket.AF_INET, socket.SOCK_STREAM, 0)]

    def test_a_refusal_says_address_and_cause(self, limit) -> None:
        port = free_port()
        with pytest.raises(ConnectFail, match=rf"^127\.0\.0\.1:{port}: Connection refused$") as caught:
            connect_tcp([tcp_address(port)], limit())
        assert caught.value.phase == "tcp"
        assert caught.value.address == f"127.0.0.1:{port}"
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)

    def test_the_causes_of_all_addresses_are_kept(self, limit) -> None:
        ports = [free_port() for _ in range(3)]
        with pytest.raises(ConnectFail) as caught:
            connect_tcp([tcp_address(port) for port in ports], limit())
        assert str(caught.value) == "; ".join(f"127.0.0.1:{port}: Connection refused" for port in ports)

    def test_silence_ends_with_the_deadline(self, limit, full_port: int) -> None:
        with pytest.raises(ConnectFail, match=r": (no answer within|timed out after)"):
            connect_tcp([tcp_address(full_port)], limit(0.05))

    def test_cancelling_from_another_thread_ends_it(self, limit, full_port: int) -> None:
        deadline = limit(None)
        thread = threading.Timer(0.02, deadline.cancel)
        thread.start()
        with pytest.raises(Cancelled):
            connect_tcp([tcp_address(full_port)], deadline)
        thread.join()

    def test_an_impossible_address_family_is_one_more_cause(self, limit, start_peer: StartPeer) -> None:
        peer = start_peer(Link.wait_for_end)
        odd: AddressInfo = (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
        with pytest.raises(ConnectFail):
            connect_tcp([odd], limit())
        connect_tcp([odd, tcp_address(peer.port)], limit()).close()

    def test_a_connection_to_itself_counts_as_refused(self, limit, monkeypatch) -> None:
        """TCP lets a socket connect to its own port, where there is no server."""

        class BoundSocket(socket.socket):
            def connect_ex(self, address: tuple[str, int]) -> int:  # type: ignore[override]
                self.bind(address)  # as the kernel does when it happens to choose this port
                return super().connect_ex(address)

        monkeypatch.setattr(socket, "socket", BoundSocket)
        with pytest.raises(ConnectFail, match="Connection refused"):
            connect_tcp([tcp_address(free_port())], limit())
