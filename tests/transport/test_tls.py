"""TLS contexts and handshakes: trust, failures in plain words, and given contexts, which stay unchanged."""

from __future__ import annotations

import datetime as dt
import selectors
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from lochws.errors import ConnectFail
from lochws.options import Options
from lochws.system.deadline import Cancelled, Deadline
from lochws.transport import contexts, tls, waiting
from lochws.transport.contexts import check_tls, make_context
from lochws.transport.stream import Stream

from ..support.driven import driven
from ..support.peer import PATIENCE, Link, Peer, StartPeer

wait = driven(waiting.wait)
handshake = driven(tls.handshake)


@pytest.fixture
def deadline() -> Iterator[Deadline]:
    deadline = Deadline(PATIENCE)
    yield deadline
    deadline.close()


def shake_hands(
    peer: Peer, context: ssl.SSLContext, deadline: Deadline, host: str = "localhost"
) -> str | None:
    """Do a handshake, close everything, and return the TLS version."""
    sock = socket.create_connection((peer.host, peer.port))
    sock.setblocking(False)
    stream = Stream(sock)
    try:
        return handshake(stream, context, host, deadline).tls.version()
    finally:
        stream.close()


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


class TestContext:
    """`make_context` and `check_tls`."""

    def test_a_given_context_is_used_and_never_altered(
        self, start_peer: StartPeer, server_tls: ssl.SSLContext, deadline: Deadline
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3

        def settings() -> list[object]:
            return [
                context.minimum_version, context.maximum_version, context.options, context.verify_mode,
                context.check_hostname, context.verify_flags, context.cert_store_stats(),
            ]

        before = settings()
        options = Options(ssl_context=context, ssl_cafile="/does/not/exist", ssl_verify=True)
        check_tls(options)
        assert make_context(options) is context
        assert shake_hands(start_peer(Link.wait_for_end, tls=server_tls), context, deadline) == "TLSv1.3"
        assert settings() == before

    @pytest.mark.parametrize("verify", [True, False])
    def test_our_contexts_speak_tls_1_2_at_least(self, verify: bool) -> None:
        assert make_context(Options(ssl_verify=verify)).minimum_version >= ssl.TLSVersion.TLSv1_2

    def test_verification_is_on_unless_told_otherwise(self) -> None:
        context = make_context(Options())
        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED

    def test_a_cafile_is_added_to_the_systems_store(
        self, authority: trustme.CA, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        system = tmp_path / "system.pem"
        trustme.CA().cert_pem.write_to_path(system)
        monkeypatch.setenv("SSL_CERT_FILE", str(system))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
        monkeypatch.setattr(contexts, "_TRUSTSTORE", (99,))  # its contexts do not list their certificates
        assert make_context(Options()).cert_store_stats()["x509_ca"] == 1
        assert make_context(Options(ssl_cafile=ca_file)).cert_store_stats()["x509_ca"] == 2

    def test_a_missing_cafile_is_refused_by_name(self) -> None:
        with pytest.raises(FileNotFoundError, match=r"ssl_cafile='no/such\.pem': there is no such file"):
            check_tls(Options(ssl_cafile="no/such.pem"))

    def test_paths_that_cannot_be_compared_are_accepted(self, ca_file: str) -> None:
        class Odd:
            def __fspath__(self) -> str:
                return ca_file

            def __eq__(self, other: object) -> bool:
                raise AssertionError("a path was compared")

            __hash__ = None  # type: ignore[assignment]

        for path in (ca_file, Odd(), Odd()):
            options = Options(ssl_cafile=path)
            check_tls(options)
            assert make_context(options).cert_store_stats()["x509_ca"]

    def test_a_cafile_without_certificates_is_refused_by_name(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.pem"
        path.write_text("nothing")
        with pytest.raises(ValueError, match=r"ssl_cafile='.*empty\.pem': expected a file of certificates"):
            check_tls(Options(ssl_cafile=str(path)))
        with pytest.raises(ValueError, match="ssl_cafile="):
            check_tls(Options(ssl_cafile=str(tmp_path)))

    def test_a_cafile_is_read_again_once_it_changes(self, ca_file: str, tmp_path: Path) -> None:
        file = tmp_path / "ca.pem"
        file.write_bytes(Path(ca_file).read_bytes())
        options = Options(ssl_cafile=str(file))
        check_tls(options)
        check_tls(options)
        file.write_text("no certificate\n")
        with pytest.raises(ValueError, match="expected a file of certificates"):
            check_tls(options)
        file.unlink()
        with pytest.raises(FileNotFoundError, match="there is no such file"):
            check_tls(options)

    def test_a_context_for_servers_is_refused(self, server_tls: ssl.SSLContext) -> None:
        with pytest.raises(ValueError, match="ssl_context is for servers"):
            check_tls(Options(ssl_context=server_tls))


class TestHandshake:
    """`handshake` verifies, and says in words what is wrong."""

    def test_a_cafile_lets_its_servers_in(
        self, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str, deadline: Deadline
    ) -> None:
        peer = start_peer(Link.wait_for_end, tls=server_tls)
        context = make_context(Options(ssl_cafile=ca_file))
        for host in ("localhost", "localhost.", "127.0.0.1", "::1", "::1%lo"):
            assert shake_hands(peer, context, deadline, host) == "TLSv1.3"

    def test_without_verification_anyone_is_let_in(
        self, start_peer: StartPeer, server_tls: ssl.SSLContext, deadline: Deadline
    ) -> None:
        peer = start_peer(Link.wait_for_end, tls=server_tls)
        assert shake_hands(peer, make_context(Options(ssl_verify=False)), deadline, "elsewhere.example")

    def refusal(
        self, peer: Peer, context: ssl.SSLContext, deadline: Deadline, host: str = "localhost"
    ) -> ConnectFail:
        with pytest.raises(ConnectFail) as caught:
            shake_hands(peer, context, deadline, host)
        assert caught.value.phase == "tls"
        assert caught.value.address == f"127.0.0.1:{peer.port}"
        assert caught.value.__cause__ is not None
        return caught.value

    def test_an_unknown_authority_is_named_so(
        self, start_peer: StartPeer, server_tls: ssl.SSLContext, deadline: Deadline
    ) -> None:
        peer = start_peer(Link.wait_for_end, tls=server_tls)
        fail = self.refusal(peer, make_context(Options()), deadline)
        assert str(fail).startswith("the certificate of 'localhost' was not accepted: ")
        assert str(fail).endswith(": it comes from an unknown authority")
        assert isinstance(fail.__cause__, ssl.SSLCertVerificationError)

    def test_an_expired_certificate_is_named_so(
        self,
        start_peer: StartPeer,
        authority: trustme.CA,
        client_tls: ssl.SSLContext,
        deadline: Deadline,
    ) -> None:
        now = dt.datetime.now(dt.timezone.utc)
        days = dt.timedelta(days=1)
        expired = authority.issue_cert("localhost", not_before=now - 2 * days, not_after=now - days)
        peer = start_peer(Link.wait_for_end, tls=server_context(expired))
        assert str(self.refusal(peer, client_tls, deadline)).endswith(": it has expired")

        early = authority.issue_cert("localhost", not_before=now + days, not_after=now + 2 * days)
        peer = start_peer(Link.wait_for_end, tls=server_context(early))
        assert str(self.refusal(peer, client_tls, deadline)).endswith(": it is not valid yet")

    def test_a_wrong_host_is_named_so(
        self,
        start_peer: StartPeer,
        server_tls: ssl.SSLContext,
        client_tls: ssl.SSLContext,
        deadline: Deadline,
    ) -> None:
        peer = start_peer(Link.wait_for_end, tls=server_tls)
        fail = self.refusal(peer, client_tls, deadline, "other.example")
        assert str(fail) == "the certificate of 'other.example' was not accepted: it is for another host"
        fail = self.refusal(peer, client_tls, deadline, "127.0.0.2")
        assert str(fail).endswith(": it is for another address")

    def test_a_self_signed_certificate_is_named_so(
        self, start_peer: StartPeer, tmp_path: Path, deadline: Deadline
    ) -> None:
        root = trustme.CA()
        pem = tmp_path / "root.pem"
        pem.write_bytes(root.private_key_pem.bytes() + root.cert_pem.bytes())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        peer = start_peer(Link.wait_for_end, tls=context)
        assert str(self.refusal(peer, make_context(Options()), deadline)).endswith(": it is self-signed")

    def test_a_server_without_tls_is_named(
        self, start_peer: StartPeer, client_tls: ssl.SSLContext, deadline: Deadline
    ) -> None:
        peer = start_peer(lambda link: (link.read(1), link.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
        fail = self.refusal(peer, client_tls, deadline)
        assert str(fail) == "the server does not speak TLS on this port"

    def test_a_server_with_only_old_tls_is_named_so(
        self,
        start_peer: StartPeer,
        server_tls: ssl.SSLContext,
        client_tls: ssl.SSLContext,
        authority: trustme.CA,
        deadline: Deadline,
    ) -> None:
        old = server_context(authority.issue_cert("localhost"))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        client_tls.minimum_version = ssl.TLSVersion.TLSv1_3
        fail = self.refusal(start_peer(Link.wait_for_end, tls=old), client_tls, deadline)
        assert str(fail) == "the server speaks none of the TLS versions that are allowed here"

    @pytest.mark.parametrize("end", [Link.finish, Link.reset])
    def test_a_server_that_hangs_up_is_named_so(
        self,
        start_peer: StartPeer,
        client_tls: ssl.SSLContext,
        deadline: Deadline,
        end: Callable[[Link], None],
    ) -> None:
        peer = start_peer(lambda link: (link.read(1), end(link), link.wait_for_end()))
        fail = self.refusal(peer, client_tls, deadline)
        assert str(fail) == "the server ended the connection during the TLS handshake"

    def test_a_host_that_cannot_be_a_server_name_is_a_failure(
        self, start_peer: StartPeer, client_tls: ssl.SSLContext, deadline: Deadline
    ) -> None:
        fail = self.refusal(start_peer(Link.wait_for_end), client_tls, deadline, ".example")
        assert "the TLS handshake failed" in str(fail)

    def test_a_socket_that_was_reset_is_a_failure(
        self, start_peer: StartPeer, client_tls: ssl.SSLContext, deadline: Deadline
    ) -> None:
        peer = start_peer(Link.reset)
        sock = socket.create_connection((peer.host, peer.port))
        sock.setblocking(False)
        assert wait(sock, selectors.EVENT_READ, deadline)
        with pytest.raises(ConnectFail, match="ended the connection"):
            handshake(Stream(sock), client_tls, "localhost", deadline)
        sock.close()

    def test_silence_ends_with_the_deadline(
        self, start_peer: StartPeer, client_tls: ssl.SSLContext
    ) -> None:
        short = Deadline(0.05)
        fail = self.refusal(start_peer(Link.wait_for_end), client_tls, short)
        assert str(fail) == "the TLS handshake failed: timed out after 0.05 s"
        short.close()

    def test_cancelling_ends_it(self, start_peer: StartPeer, client_tls: ssl.SSLContext) -> None:
        deadline = Deadline(None)
        peer = start_peer(lambda link: (link.read(1), deadline.cancel(), link.wait_for_end()))
        with pytest.raises(Cancelled):
            shake_hands(peer, client_tls, deadline)
        deadline.close()

    def test_a_handshake_in_single_bytes_succeeds(
        self,
        start_peer: StartPeer,
        server_tls: ssl.SSLContext,
        client_tls: ssl.SSLContext,
        deadline: Deadline,
    ) -> None:
        """The server's side is relayed byte by byte, so that every read finds a partial record."""
        inner = start_peer(Link.wait_for_end, tls=server_tls)

        def relay(link: Link) -> None:
            with socket.create_connection((inner.host, inner.port)) as onward:
                onward.settimeout(PATIENCE)
                sends = {link.sock: onward.sendall, onward: link.send_bytewise}
                with selectors.DefaultSelector() as selector:
                    for sock in sends:
                        selector.register(sock, selectors.EVENT_READ)
                    while True:
                        for key, _ in selector.select(PATIENCE):
                            data = key.fileobj.recv(65536)
                            if not data:
                                return
                            sends[key.fileobj](data)

        assert shake_hands(start_peer(relay), client_tls, deadline) == "TLSv1.3"
