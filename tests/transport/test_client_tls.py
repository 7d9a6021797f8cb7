"""TLS options: trusted authorities, our certificate, pins; and sessions, which are resumed."""

from __future__ import annotations

import ssl
import sys
import threading
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme

from lochws import WebSocket
from lochws.opening.dial import Dialler
from lochws.options import Options, as_pins
from lochws.system.deadline import Deadline
from lochws.transport import contexts, sessions
from lochws.transport.contexts import check_tls, make_context
from lochws.transport.pins import mismatch
from lochws.transport.sessions import ASKED_AGAIN, ASKED_AT_ONCE, Askings

from ..support.attempts import Attempt, Dial
from ..support.peer import PATIENCE, Link, Peer, StartPeer


@pytest.fixture
def peer(start_peer: StartPeer, server_tls: ssl.SSLContext) -> Peer:
    """A wss server on 127.0.0.1 with a certificate issued by the tests' authority."""
    return start_peer(Link.accept, tls=server_tls)


PASSWORD = "a secret"


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    from cryptography.hazmat.primitives import serialization

    ours = authority.issue_cert("client@example.org")
    folder = tmp_path_factory.mktemp("ours")
    key = ours.private_key_pem.bytes()
    certificate = b"".join(pem.bytes() for pem in ours.cert_chain_pems)
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSWORD.encode()),
    )
    contents = {"both": certificate + key, "certificate": certificate, "key": key, "locked": locked}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in contents}


class TestStores:
    """Trusted authorities."""

    def test_a_cafile_counts_alone_if_told_so(
        self, dial: Dial, peer: Peer, ca_file: str, authority: trustme.CA, tmp_path: Path, monkeypatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)  # which makes it the system's store
        assert dial(peer.url).opened
        assert dial(peer.url, ssl_system_store=False).last.phase == "tls"
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)
        assert dial(peer.url, ssl_cafile=str(other)).opened
        assert dial(peer.url, ssl_cafile=str(other), ssl_system_store=False).last.phase == "tls"
        assert dial(peer.url, ssl_cafile=ca_file, ssl_system_store=False).opened

    def test_truststore_is_used_where_the_system_verifies_through_it(
        self, dial: Dial, peer: Peer, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        truststore = pytest.importorskip("truststore")
        monkeypatch.setattr(contexts, "_SYSTEM_VERIFIES", True)
        context = make_context(Options(ssl_cafile=ca_file))
        assert type(context) is truststore.SSLContext
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert contexts.shared_context(Options()) is not contexts.shared_context(Options())
        assert dial(peer.url, ssl_cafile=ca_file).opened
        refused = dial(peer.url).last
        assert refused.reason.endswith("it comes from an unknown authority")

    @pytest.mark.skipif(contexts._SYSTEM_VERIFIES, reason="the system verifies here")
    def test_elsewhere_openssl_verifies_and_reads_the_authorities_once(self) -> None:
        pytest.importorskip("truststore")
        context = contexts.shared_context(Options())
        assert type(context) is ssl.SSLContext
        assert contexts.shared_context(Options()) is context

    @pytest.mark.skipif(contexts._SYSTEM_VERIFIES, reason="the system has no such files")
    def test_authorities_are_found_where_openssl_was_not_compiled_to_look(
        self, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name, raising=False)
        nowhere = ssl.DefaultVerifyPaths(None, str(tmp_path), "", "", "", "")  # type: ignore[call-arg]
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
        monkeypatch.setattr(ssl.SSLContext, "set_default_verify_paths", lambda _: None)
        monkeypatch.setattr(contexts, "_CA_FILES", ("/nonexistent", ca_file))
        assert make_context(Options()).cert_store_stats()["x509_ca"] == 1

    def test_a_context_that_may_block_does_so_on_another_thread(
        self, dial: Dial, peer: Peer, ca_file: str
    ) -> None:
        threads: list[str] = []

        class NotingObject(ssl.SSLObject):
            def do_handshake(self) -> None:
                threads.append(threading.current_thread().name)
                super().do_handshake()

        class NotingContext(ssl.SSLContext):
            def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
                threads.append(threading.current_thread().name)
                return super().wrap_bio(*args, **kwargs)

        context = ssl.create_default_context(cafile=ca_file)
        context.sslobject_class = NotingObject
        assert dial(peer.url, ssl_context=context).opened
        assert len(threads) > 1
        context = NotingContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ca_file)
        assert dial(peer.url, ssl_context=context).opened
        assert set(threads) == {"lochws-handshake-127.0.0.1"}
        refused = dial(peer.url, ssl_context=NotingContext(ssl.PROTOCOL_TLS_CLIENT)).last
        assert refused.reason.endswith("it comes from an unknown authority")

    def test_a_context_of_truststore_may_block(self, dial: Dial, peer: Peer, ca_file: str) -> None:
        truststore = pytest.importorskip("truststore")
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ca_file)
        assert contexts.may_block(context)
        assert not contexts.may_block(ssl.create_default_context())
        assert dial(peer.url, ssl_context=context).opened

    def test_one_that_blocks_for_long_ends_with_the_deadline(
        self, dial: Dial, peer: Peer, ca_file: str
    ) -> None:
        go = threading.Event()

        class Blocking(ssl.SSLContext):
            def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
                go.wait(PATIENCE)
                return super().wrap_bio(*args, **kwargs)

        try:
            for seconds in (0.2, 2, 20):  # the machine may stall before the handshake
                context = Blocking(ssl.PROTOCOL_TLS_CLIENT)
                last = dial(peer.url, ssl_context=context, deadline=Deadline(seconds)).last
                if last.phase == "tls":
                    break
        finally:
            go.set()
        assert (last.phase, "timed out" in last.reason) == ("tls", True)

    def test_without_truststore_openssl_finds_the_system_store(
        self, dial: Dial, peer: Peer, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "truststore", None)
        assert type(make_context(Options())) is ssl.SSLContext
        assert dial(peer.url, ssl_cafile=ca_file).opened

    def test_a_truststore_that_is_too_old_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(contexts, "_TRUSTSTORE", (99,))
        assert type(make_context(Options())) is ssl.SSLContext


class TestOurCertificate:
    """``ssl_certfile``, ``ssl_keyfile``, ``ssl_password``."""

    @pytest.fixture
    def demanding(self, start_peer: StartPeer, authority: trustme.CA) -> Peer:
        """A server that demands a client certificate issued by the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return start_peer(Link.accept, tls=context)

    def test_without_it_the_server_refuses_everybody(self, dial: Dial, demanding: Peer, ca_file: str) -> None:
        last = dial(demanding.url, ssl_cafile=ca_file).last
        assert last.phase in {"tls", "upgrade"}  # with TLS 1.3 the server says so only after the handshake

    def test_another_origin_is_not_shown_it(
        self, dial: Dial, start_peer: StartPeer, demanding: Peer, ca_file: str, files: dict[str, str]
    ) -> None:
        answer = f"HTTP/1.1 302 Found\r\nLocation: {demanding.url}\r\nContent-Length: 0\r\n\r\n".encode()
        first = start_peer(lambda link: (link.read_request(), link.send(answer), link.wait_for_end()))
        ours = {"ssl_cafile": ca_file, "ssl_certfile": files["both"]}
        assert dial(demanding.url, **ours).opened
        assert not dial(first.url, **ours).opened

    def test_one_file_may_hold_both(
        self, dial: Dial, demanding: Peer, ca_file: str, files: dict[str, str]
    ) -> None:
        assert dial(demanding.url, ssl_cafile=ca_file, ssl_certfile=files["both"]).opened

    @pytest.mark.parametrize("password", [PASSWORD, PASSWORD.encode(), lambda: PASSWORD])
    def test_the_key_may_be_in_a_file_of_its_own_with_a_password(
        self, dial: Dial, demanding: Peer, ca_file: str, files: dict[str, str], password: Any
    ) -> None:
        ours = {
            "ssl_certfile": files["certificate"], "ssl_keyfile": files["locked"], "ssl_password": password,
        }
        assert dial(demanding.url, ssl_cafile=ca_file, **ours).opened
        assert PASSWORD not in repr(Options(**ours))

    def test_what_is_wrong_is_refused_by_name(self, files: dict[str, str]) -> None:
        certificate, locked = files["certificate"], files["locked"]
        with pytest.raises(FileNotFoundError, match=r"ssl_certfile='no\.pem': there is no such file"):
            check_tls(Options(ssl_certfile="no.pem"))
        with pytest.raises(FileNotFoundError, match=r"ssl_keyfile='no\.pem': there is no such file"):
            check_tls(Options(ssl_certfile=certificate, ssl_keyfile="no.pem"))
        with pytest.raises(ValueError, match=r"ssl_certfile=.*: expected a certificate and its private key"):
            check_tls(Options(ssl_certfile=certificate))
        with pytest.raises(ValueError, match="the private key has a password: pass it as ssl_password"):
            check_tls(Options(ssl_certfile=certificate, ssl_keyfile=locked))
        with pytest.raises(ValueError, match=r"ssl_certfile=.*: expected") as caught:
            check_tls(Options(ssl_certfile=certificate, ssl_keyfile=locked, ssl_password="wrong one"))
        assert "wrong one" not in str(caught.value)
        with pytest.raises(ValueError, match=r"ssl_keyfile=.* needs ssl_certfile"):
            Options(ssl_keyfile=locked)


class TestServerHostname:
    """``server_hostname=``: another name than the URL's host, for SNI and for the certificate."""

    def test_the_certificate_is_checked_against_it(
        self, dial: Dial, start_peer: StartPeer, authority: trustme.CA, ca_file: str
    ) -> None:
        asked = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("inner.example").configure_cert(context)
        context.sni_callback = lambda _, name, __: asked.append(name)
        peer = start_peer(Link.accept, tls=context)
        assert "it is for another address" in dial(peer.url, ssl_cafile=ca_file).last.reason
        attempt = dial(peer.url, ssl_cafile=ca_file, server_hostname="inner.example")
        assert attempt.opened
        assert asked == [None, "inner.example"]  # an address is never sent as a name (RFC 6066 section 3)
        assert peer.links[-1].request.headers["host"] == peer.authority


class TestPins:
    """``ssl_pins=``: only known certificates are accepted."""

    @staticmethod
    def digest(peer: Peer) -> str:
        pem = ssl.get_server_certificate((peer.host, peer.port))
        return sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    def test_the_pinned_certificate_is_accepted_any_other_is_not(
        self, dial: Dial, peer: Peer, ca_file: str
    ) -> None:
        pin = self.digest(peer)
        for pattern in ("127.0.0.1", "127.*", "*"):
            assert dial(peer.url, ssl_cafile=ca_file, ssl_pins={pattern: pin}).opened
            last = dial(peer.url, ssl_cafile=ca_file, ssl_pins={pattern: "0" * 64}).last
            assert (last.phase, last.address) == ("tls", peer.authority)
            assert last.reason.endswith(f"is not among those pinned: its SHA-256 is {pin}")

    def test_a_pin_holds_without_verification_too(self, dial: Dial, peer: Peer) -> None:
        pin = self.digest(peer)
        assert dial(peer.url, ssl_verify=False, ssl_pins={"*": pin}).opened
        assert not dial(peer.url, ssl_verify=False, ssl_pins={"*": "0" * 64}).opened

    def test_pins_of_other_hosts_do_not_matter(self, dial: Dial, peer: Peer, ca_file: str) -> None:
        assert dial(peer.url, ssl_cafile=ca_file, ssl_pins={"*.example": "0" * 64}).opened

    def test_several_pins_are_alternatives(self) -> None:
        pins = as_pins({"a.example": [sha256(b"1").hexdigest(), sha256(b"2").hexdigest()]})
        assert mismatch(pins, "a.example", b"1") is None
        assert mismatch(pins, "a.example", b"2") is None
        assert mismatch(pins, "a.example", b"3") == sha256(b"3").hexdigest()

    @pytest.mark.parametrize("form", ["{}", "sha256:{}", "SHA256/{}", "sha256 {}"])
    def test_the_usual_ways_to_write_a_fingerprint_are_understood(self, form: str) -> None:
        digest = sha256(b"").hexdigest()
        colons = ":".join(digest[i:i + 2] for i in range(0, 64, 2)).upper()
        assert as_pins({"H": form.format(digest)}) == as_pins({"h": form.format(colons)}) == (("h", digest),)

    @pytest.mark.parametrize(
        ("pins", "error"),
        [
            ({"h": "123"}, ValueError), ({"h": b"0" * 64}, TypeError), ({1: "0" * 64}, TypeError),
            ("0", TypeError),
        ],
    )
    def test_an_invalid_pin_is_refused(self, pins: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="ssl_pins"):
            WebSocket("wss://host/", ssl_pins=pins)


class TestSessions:
    """A reconnect to the same server resumes the TLS session."""

    @pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def resumed(
        self, request: pytest.FixtureRequest, start_peer: StartPeer, authority: trustme.CA
    ) -> tuple[Peer, list[bool]]:
        """A server of one TLS version, and for each connection whether it was resumed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = request.param
        authority.issue_cert("127.0.0.1").configure_cert(context)
        seen: list[bool] = []

        def script(link: Link) -> None:
            assert isinstance(link.sock, ssl.SSLSocket)
            seen.append(bool(link.sock.session_reused))
            link.accept()
            link.wait_for_end()

        return start_peer(script, tls=context), seen

    def connect(self, dialler: Dialler) -> None:
        with closing(Deadline(PATIENCE)) as deadline:
            Attempt(dialler, deadline).opened.stream.close()

    def test_the_second_connection_resumes_the_first(
        self, resumed: tuple[Peer, list[bool]], ca_file: str
    ) -> None:
        peer, seen = resumed
        dialler = Dialler(Options(ssl_cafile=ca_file), peer.url)
        for _ in range(3):
            self.connect(dialler)
        assert seen == [False, True, True]

    def test_another_websocket_does_not(self, resumed: tuple[Peer, list[bool]], ca_file: str) -> None:
        peer, seen = resumed
        for _ in range(2):
            self.connect(Dialler(Options(ssl_cafile=ca_file), peer.url))
        assert seen == [False, False]

    def test_a_given_context_resumes_as_well_and_is_not_altered(
        self, resumed: tuple[Peer, list[bool]], client_tls: ssl.SSLContext
    ) -> None:
        peer, seen = resumed
        before = (client_tls.options, client_tls.minimum_version, client_tls.cert_store_stats())
        dialler = Dialler(Options(ssl_context=client_tls), peer.url)
        for _ in range(2):
            self.connect(dialler)
        assert seen == [False, True]
        assert before == (client_tls.options, client_tls.minimum_version, client_tls.cert_store_stats())

    def test_pins_are_looked_at_again(self, resumed: tuple[Peer, list[bool]], ca_file: str) -> None:
        peer, seen = resumed
        pin = TestPins.digest(peer)
        seen.clear()
        dialler = Dialler(Options(ssl_cafile=ca_file, ssl_pins={"*": pin}), peer.url)
        for _ in range(2):
            self.connect(dialler)
        assert seen[-2:] == [False, True]


class TestAskings:
    """Asking for a session leaks memory, so a server that resumes none is asked a limited number of times."""

    def test_a_server_that_never_resumes_is_asked_a_few_times_in_one_process(
        self, start_peer: StartPeer, authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spent: list[bool] = []

        class Counted(Askings):
            def spend(self, host: str, port: int, now: float) -> bool:
                spent.append(super().spend(host, port, now))
                return spent[-1]

        def forgetful(link: Link) -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # with ticket keys of its own
            authority.issue_cert("127.0.0.1").configure_cert(context)
            link.start_tls(context)
            link.accept()
            link.wait_for_end()

        monkeypatch.setattr(sessions, "ASKINGS", Counted())
        url = "wss" + start_peer(forgetful).url.removeprefix("ws")
        for _ in range(ASKED_AT_ONCE // 2 + 1):
            dialler = Dialler(Options(ssl_cafile=ca_file), url)  # as a new app makes
            for _ in range(2):
                with closing(Deadline(PATIENCE)) as deadline:
                    Attempt(dialler, deadline).opened.stream.close()
        assert spent == [True] * ASKED_AT_ONCE + [False] * 2

    def test_an_hour_later_a_server_may_be_asked_once_more(self) -> None:
        askings = Askings()
        assert [askings.spend("host", 443, 100) for _ in range(20)] == [True] * 16 + [False] * 4
        assert not askings.spend("host", 443, 100 + 0.9 * ASKED_AGAIN)
        assert askings.spend("host", 443, 100 + 1.1 * ASKED_AGAIN)
        assert not askings.spend("host", 443, 100 + 1.2 * ASKED_AGAIN)
        assert askings.spend("host", 444, 100)

    def test_a_server_saves_no_more_than_it_had_at_first(self) -> None:
        askings = Askings()
        assert askings.spend("host", 443, 0)
        later = 1000 * ASKED_AGAIN
        assert sum(askings.spend("host", 443, later) for _ in range(100)) == ASKED_AT_ONCE

    def test_servers_beyond_count_do_not_fill_the_memory(self) -> None:
        askings = Askings()
        while askings.spend("first", 443, 0):
            pass
        for port in range(2 * sessions._MAX_SERVERS):
            assert askings.spend("host", port, 0)
        assert len(askings._credit) == sessions._MAX_SERVERS
        assert askings.spend("first", 443, 0)  # it was forgotten, and starts anew
