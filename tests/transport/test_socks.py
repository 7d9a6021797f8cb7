"""SOCKS proxies: the bytes of the conversation, and the texts of refusals."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from lochws.errors import ConnectFail
from lochws.system.deadline import Cancelled, Deadline
from lochws.system.steps import Steps
from lochws.transport import tcp, waiting
from lochws.transport.proxies import through
from lochws.transport.proxies.choose import parse_proxy
from lochws.transport.stream import Stream
from lochws.url import parse_url

from ..support.driven import driven
from ..support.peer import Link, StartPeer
from ..support.seen import PATIENCE

open_through = driven(through.open_through)
receive, send_all = driven(waiting.receive), driven(waiting.send_all)

Ask = Callable[..., Stream]

GRANTED4 = b"\x00\x5a\x00\x00\x7f\x00\x00\x01"
GRANTED5 = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"
OPEN5 = b"\x05\x00"


@pytest.fixture
def ask(start_peer: StartPeer) -> Iterator[Ask]:
    """Asks a scripted SOCKS proxy for a connection; returns the stream if it is granted."""
    streams: list[Stream] = []

    def ask_proxy(
        script: Callable[[Link], object],
        proxy: str,
        url: str = "ws://target.example:8080/",
        deadline: Deadline | None = None,
    ) -> Stream:
        peer = start_peer(script)

        def reach() -> Steps[Stream]:
            sock = socket.create_connection((peer.host, peer.port))
            sock.setblocking(False)
            yield from ()
            return Stream(sock)

        limit = deadline or Deadline(PATIENCE)
        try:
            streams.append(open_through(reach, parse_proxy(proxy), parse_url(url), limit))
        finally:
            limit.close()
        return streams[-1]

    yield ask_proxy
    for stream in streams:
        stream.close()


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of target.example; the test fills the list."""
    given: list[str] = []

    real = socket.getaddrinfo

    def look_up(host: str, port: int, *rest: int) -> list[tcp.AddressInfo]:
        if host == "127.0.0.1":
            return real(host, port, *rest)  # type: ignore[return-value]
        assert host == "target.example", "only the proxy should look this up"
        return [
            (socket.AF_INET6 if ":" in text else socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port))
            for text in given
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return given


def expecting(*steps: bytes) -> Callable[[Link], None]:
    """A script: expected bytes, their answer, and so on; then it echoes what it receives, once."""

    def script(link: Link) -> None:
        for come, answer in zip(steps[::2], steps[1::2], strict=True):
            assert link.read(len(come)) == come
            link.send(answer)
        link.send(link.read(4))

    return script


def works(stream: Stream) -> None:
    """Check that the stream is at its beginning."""
    deadline = Deadline(PATIENCE)
    send_all(stream, b"ping", deadline)
    assert receive(stream, 10, deadline) == b"ping"
    deadline.close()


class TestBytes:
    """Bytes on the wire (RFC 1928, RFC 1929, and the SOCKS 4 memos)."""

    def test_socks5h_hands_over_the_name(self, ask: Ask, addresses: list[str]) -> None:
        request = b"\x05\x01\x00\x03\x0etarget.example\x1f\x90"
        works(ask(expecting(b"\x05\x01\x00", OPEN5, request, GRANTED5), "socks5h://proxy"))
        assert not addresses

    def test_socks5_hands_over_the_address(self, ask: Ask, addresses: list[str]) -> None:
        addresses.append("192.0.2.7")
        request = b"\x05\x01\x00\x01\xc0\x00\x02\x07\x1f\x90"
        works(ask(expecting(b"\x05\x01\x00", OPEN5, request, GRANTED5), "socks5://proxy"))

    @pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
    def test_an_ipv6_address_stays_one(self, ask: Ask, scheme: str) -> None:
        request = b"\x05\x01\x00\x04" + b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x1f\x90"
        url = "ws://[2001:db8::1]:8080/"
        works(ask(expecting(b"\x05\x01\x00", OPEN5, request, GRANTED5), f"{scheme}://proxy", url))

    def test_the_password_is_sent_if_the_proxy_wants_it(self, ask: Ask) -> None:
        request = b"\x05\x01\x00\x03\x0etarget.example\x1f\x90"
        script = expecting(
            b"\x05\x02\x00\x02", b"\x05\x02", b"\x01\x02me\x06s@cret", b"\x01\x00", request, GRANTED5
        )
        works(ask(script, "socks5h://me:s%40cret@proxy"))

    def test_socks4a_hands_over_the_name(self, ask: Ask, addresses: list[str]) -> None:
        request = b"\x04\x01\x1f\x90\x00\x00\x00\x01me\x00target.example\x00"
        works(ask(expecting(request, GRANTED4), "socks4a://me@proxy"))
        assert not addresses

    def test_socks4_hands_over_the_first_ipv4_address(self, ask: Ask, addresses: list[str]) -> None:
        addresses += ["2001:db8::1", "192.0.2.7"]
        works(ask(expecting(b"\x04\x01\x1f\x90\xc0\x00\x02\x07\x00", GRANTED4), "socks4://proxy"))

    def test_answers_in_single_bytes_are_understood(self, ask: Ask) -> None:
        def script(link: Link) -> None:
            link.read(3)
            link.send_bytewise(OPEN5)
            link.read(21)
            link.send_bytewise(b"\x05\x00\x00\x03\x04name\x00\x50")
            link.send(link.read(4))

        works(ask(script, "socks5h://proxy"))

    def test_bytes_behind_the_answer_are_the_endpoints(self, ask: Ask) -> None:
        stream = ask(lambda link: (link.read(3), link.send(OPEN5 + GRANTED5 + b"early")), "socks5h://proxy")
        deadline = Deadline(PATIENCE)
        assert receive(stream, 10, deadline) == b"early"
        deadline.close()


class TestRefusals:
    """Refusals and other failures, in plain words."""

    @pytest.mark.parametrize(
        ("proxy", "answers", "text"),
        [
            ("socks5h://proxy", b"\x05\xff", "^the SOCKS proxy refused: All offered SOCKS5 auth"),
            ("socks5h://me:secret@proxy", b"\x05\x02\x01\x01", "refused: SOCKS5 authentication failed$"),
            ("socks5h://proxy", b"\x05\x00\x05\x05\x00", r"SOCKS proxy refused: Connection .* \(code 5\)$"),
            ("socks5h://proxy", b"\x05\x00\x05\x63\x00", r"refused: Unknown error \(code 99\)$"),
            ("socks4a://proxy", b"\x00\x5b" + bytes(6), r"refused: Request rejected or failed \(code 91\)$"),
            ("socks5h://proxy", b"HTTP/1.1 400 Bad Request\r\n", "^SOCKS5 proxy server sent invalid data$"),
            ("socks4a://proxy", b"HTTP/1.1 400 Bad Request\r\n", "^SOCKS4 proxy server sent invalid data$"),
            ("socks5h://proxy", b"\x05", "^Connection closed unexpectedly$"),
        ],
    )
    def test_they_say_what_is_wrong(self, ask: Ask, proxy: str, answers: bytes, text: str) -> None:
        def script(link: Link) -> None:
            link.read(3)
            link.send(answers)
            link.finish()
            link.wait_for_end()

        with pytest.raises(ConnectFail, match=text) as caught:
            ask(script, proxy)
        assert caught.value.phase == "proxy"
        assert bool(caught.value.advice) == ("refused" in str(caught.value))
        assert caught.value.address is not None
        assert "secret" not in f"{caught.value!r}{caught.value.__cause__!r}"

    def test_a_refused_address_leaves_the_next_one(self, ask: Ask, addresses: list[str]) -> None:
        addresses += ["192.0.2.7", "192.0.2.8"]
        asked: list[bytes] = []

        def script(link: Link) -> None:
            link.read(3)
            link.send(OPEN5)
            asked.append(link.read(10)[4:8])
            link.send(GRANTED5 if len(asked) == 2 else b"\x05\x04\x00")
            link.send(link.read(4))

        works(ask(script, "socks5://proxy"))
        assert asked == [b"\xc0\x00\x02\x07", b"\xc0\x00\x02\x08"]

    def test_if_all_addresses_are_refused_all_are_named(self, ask: Ask, addresses: list[str]) -> None:
        addresses += ["192.0.2.7", "192.0.2.8"]
        with pytest.raises(ConnectFail) as caught:
            ask(lambda link: (link.send(OPEN5 + b"\x05\x04\x00"), link.wait_for_end()), "socks5://proxy")
        refused = "the SOCKS proxy refused: Host unreachable (code 4)"
        assert str(caught.value) == f"192.0.2.7: {refused}; 192.0.2.8: {refused}"

    @pytest.mark.parametrize("scheme", ["socks4", "socks4a"])
    def test_socks4_has_no_ipv6(self, ask: Ask, scheme: str) -> None:
        with pytest.raises(ConnectFail, match=r"^SOCKS 4 has no IPv6 addresses"):
            ask(Link.wait_for_end, f"{scheme}://proxy", "ws://[2001:db8::1]/")

    def test_a_name_too_long_for_pysocks_is_refused(self, ask: Ask) -> None:
        with pytest.raises(ConnectFail, match="over 127 bytes"):
            ask(Link.wait_for_end, "socks5h://proxy", f"ws://{'x' * 60}.{'y' * 60}.example/")

    def test_a_label_too_long_for_dns_is_refused(self, ask: Ask) -> None:
        with pytest.raises(ConnectFail, match="label"):
            ask(lambda link: (link.read(3), link.send(OPEN5)), "socks5h://proxy", f"ws://{'x' * 64}.test/")


class TestEndingInTime:
    """PySocks never waits longer than the deadline."""

    # How many bytes of each conversation are answered before the silence.
    SILENCES = (
        ("socks5h", b""),
        ("socks5h", OPEN5),
        ("socks5h", OPEN5 + GRANTED5[:5]),
        ("socks4a", b"\x00\x5a"),
    )

    @pytest.mark.parametrize(("scheme", "answers"), SILENCES)
    def test_silence_ends_with_the_deadline(self, ask: Ask, scheme: str, answers: bytes) -> None:
        with pytest.raises(ConnectFail, match=r"^no answer from the SOCKS proxy: timed out after 0\.05 s$"):
            ask(
                lambda link: (link.read(3), link.send(answers), link.wait_for_end()),
                f"{scheme}://proxy", deadline=Deadline(0.05),
            )

    @pytest.mark.parametrize(("scheme", "answers"), SILENCES)
    def test_cancelling_ends_it(self, ask: Ask, scheme: str, answers: bytes) -> None:
        deadline = Deadline(None)
        with pytest.raises(Cancelled):
            ask(
                lambda link: (link.read(3), link.send(answers), deadline.cancel(), link.wait_for_end()),
                f"{scheme}://proxy", deadline=deadline,
            )

    def test_no_thread_is_needed(self, ask: Ask) -> None:
        before = set(threading.enumerate())
        started: set[str] = set()

        def script(link: Link) -> None:
            started.update(thread.name for thread in set(threading.enumerate()) - before)
            link.read(3)
            link.send(OPEN5 + GRANTED5)

        ask(script, "socks5h://proxy")
        assert all(name.startswith("peer-") for name in started)
