"""Hosts of URLs: names and literals, and time limits for hosts that are dead or silent."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from time import monotonic

import pytest

from lochws import WebSocket, WebSocketApp, events
from lochws.transport import tcp
from lochws.transport.tcp import AddressInfo
from lochws.url import parse_url

from ..faults.registry import fault
from ..support.attempts import Dial
from ..support.awake import Awake
from ..support.hang import Hang
from ..support.peer import Link, StartPeer
from ..support.seen import PATIENCE


class TestHosts:
    """Uses of the host of a URL."""

    @pytest.mark.parametrize(
        ("host", "found"),
        [
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("faß.example", "xn--fa-hia.example"),  # IDNA 2008; that of 2003 would go to fass.example
            ("日本語。example", "xn--wgv71a119e.example"),  # an ideographic full stop
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("\uff25\uff38ample.org", "example.org"),  # full-width letters
            ("a_b.example", "a_b.example"),  # not a valid host name, but in use
            ("[2001:DB8::1]", "2001:db8::1"),
            ("[fe80::1%25eth0]", "fe80::1%eth0"),
            ("[fe80::1%eth0]", "fe80::1%eth0"),
        ],
    )
    def test_it_is_ascii_and_in_lower_case(self, host: str, found: str) -> None:
        assert parse_url(f"ws://{host}/").host == found

    @pytest.mark.parametrize("host", ["\u2028.example", "ü" * 64, "-ü.example", "☃.example", "ü..example"])
    def test_an_invalid_host_name_is_refused(self, host: str) -> None:
        with pytest.raises(ValueError):
            parse_url(f"ws://me:secret@{host}/")
        with pytest.raises(ValueError) as caught:
            parse_url(f"ws://me:secret@{host}/")
        assert "secret" not in str(caught.value)

    def test_a_literal_has_brackets_in_host_and_none_where_it_is_looked_up(self) -> None:
        endpoint = parse_url("ws://[fe80::1%25eth0]:81/x")
        assert endpoint.host_header == "[fe80::1]:81"  # the zone is this machine's business
        assert parse_url("wss://[::1]/").host_header == "[::1]"
        assert str(parse_url("wss://[::1]:443/x")) == "wss://[::1]/x"

    @pytest.mark.parametrize(
        ("url", "unix", "resource"),
        [
            ("ws+unix:///run/app.sock:/chat?x=1", "/run/app.sock", "/chat?x=1"),
            ("ws+unix:///run/app.sock", "/run/app.sock", "/"),
            ("wss+unix:///run/a%20b%3Ac:/", "/run/a b:c", "/"),
            ("ws+unix:///run/ü:/ü", "/run/ü", "/%C3%BC"),
        ],
    )
    def test_a_unix_url_has_a_path_and_a_resource(self, url: str, unix: str, resource: str) -> None:
        endpoint = parse_url(url)
        assert (endpoint.unix, endpoint.resource, endpoint.host) == (unix, resource, "localhost")
        assert endpoint.is_secure == url.startswith("wss")
        assert parse_url(str(endpoint)) == endpoint

    @pytest.mark.parametrize("url", ["ws+unix://host/path:/", "ws+unix:///", "ws+unix://", "ws+unix:///a:b"])
    def test_an_invalid_unix_url_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="URL 'ws"):
            parse_url(url)

    def test_a_literal_is_no_server_name_and_stands_in_the_certificate(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        asked = []
        server_tls.sni_callback = lambda _, name, __: asked.append(name)
        try:
            peer = start_peer(Link.accept, host="::1", tls=server_tls)
            assert dial(peer.url, ssl_cafile=ca_file).opened
        finally:
            server_tls.sni_callback = None
        assert asked == [None]  # RFC 6066 section 3
        assert peer.links[0].request.headers["host"] == f"[::1]:{peer.port}"

    def test_nagle_is_off(self, dial: Dial, start_peer: StartPeer) -> None:
        stream = dial(start_peer(Link.accept).url).opened.stream
        with socket.socket(fileno=os.dup(stream.fileno())) as ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        stream.close()


class TestPromises:
    """Limits on how long things take."""

    @staticmethod
    def answer(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
        """Make every name resolve to these."""

        def look_up(*_: object, **__: object) -> list[AddressInfo]:
            found: list[AddressInfo] = []
            for host, port in addresses:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                rest = (0, 0) if ":" in host else ()
                found.append((family, socket.SOCK_STREAM, 0, "", (host, port, *rest)))
            return found

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    @fault("opening", "IPv6 does not work")
    def test_with_ipv6_dead_it_opens_within_400_ms_more_than_over_ipv4_alone(
        self, start_peer: StartPeer, hang: Hang, monkeypatch: pytest.MonkeyPatch, awake: Awake
    ) -> None:
        peer = start_peer(lambda link: (link.accept(), link.send_frame(8, b"\x03\xe8"), link.wait_for_end()))
        dead = [("::1", hang.full_port("::1")) for _ in range(2)]
        live = (peer.host, peer.port)

        def seconds_to_open() -> tuple[float, float]:
            """Return the seconds by the clock, and those that the machine did not stall."""
            awake_began, began = awake(), monotonic()
            for event in WebSocket(f"ws://both.example:{peer.port}/"):
                if isinstance(event, events.Ready):
                    return monotonic() - began, awake() - awake_began
            raise AssertionError("it never opened")

        self.answer(monkeypatch, live)
        alone = min(seconds_to_open()[1] for _ in range(3))
        self.answer(monkeypatch, *dead, live)
        both = [seconds_to_open() for _ in range(4)]
        assert min(seconds for seconds, _ in both) >= tcp.STAGGER
        assert min(seconds for _, seconds in both) < alone + 0.4

    def test_a_resolver_that_never_answers_does_not_hold_up_an_apps_close(
        self, hang: Hang, awake: Awake
    ) -> None:
        asked = threading.Event()
        hang.reached = asked.set
        url, _ = hang.resolve()
        app = WebSocketApp(url)
        app.start()
        assert asked.wait(PATIENCE)
        began = awake()
        assert app.stop(PATIENCE)
        assert awake() - began < 1.0

    def test_an_iterated_websocket_closes_at_once_too(self, hang: Hang, awake: Awake) -> None:
        url, _ = hang.resolve()
        websocket = WebSocket(url, open_timeout=None)
        hang.reached = websocket.close
        began = awake()
        seen = list(websocket)
        assert awake() - began < 1.0
        assert [event.name for event in seen] == ["connecting", "connect_fail"]
        assert seen[-1].reason == "closed while connecting"

    def test_attempts_do_not_add_threads(self, dial: Dial, hang: Hang) -> None:
        url, _ = hang.resolve()
        for _ in range(5):
            assert dial(url, open_timeout=0.02).last.phase == "resolve"
        hung = [thread for thread in threading.enumerate() if thread.name.startswith("lochws-resolver")]
        assert len(hung) == 1
