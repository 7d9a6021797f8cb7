"""Independent peers: wsproto and websockets as servers, which understand us, and we them."""

from __future__ import annotations

import itertools
import os

import pytest
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.server import ServerProtocol
from wsproto import ConnectionType, WSConnection
from wsproto import events as wsproto_events
from wsproto.extensions import PerMessageDeflate

from lochws.events import Binary, Ping, Pong, Text
from lochws.options import Deflate
from lochws.protocol.close import CloseFrame
from lochws.protocol.deflate import Deflater, Inflater, offer
from lochws.protocol.handshake import HeadParser, build_request, check_response, make_key
from lochws.protocol.receiver import Receiver
from lochws.protocol.sender import Sender
from lochws.response import Response
from lochws.url import parse_url

MESSAGES = [
    "", "a", "grüße 😀", "x" * 125, "x" * 126, "é" * 40_000, "again " * 100, "again " * 100,
    b"", b"\x00\xff", os.urandom(127), os.urandom(65536), b"again " * 100, b"again " * 100,
]


class WebsocketsServer:
    """The sans-I/O core of websockets."""

    def __init__(self, compress, protocols=()):
        self.core = ServerProtocol(
            extensions=[ServerPerMessageDeflateFactory()] if compress else [],
            subprotocols=list(protocols) or None,
        )

    def upgrade(self, request):
        self.core.receive_data(request)
        (asked,) = self.core.events_received()
        self.core.send_response(self.core.accept(asked))
        return b"".join(self.core.data_to_send())

    def receive(self, data):
        """Return what was received, as pairs of opcode name and payload."""
        self.core.receive_data(data)
        return [(frame.opcode.name.lower(), bytes(frame.data)) for frame in self.core.events_received()]

    def send(self, message):
        if isinstance(message, str):
            self.core.send_text(message.encode())
        else:
            self.core.send_binary(message)
        return b"".join(self.core.data_to_send())

    def ping(self, data):
        self.core.send_ping(data)
        return b"".join(self.core.data_to_send())

    def close(self, code, reason):
        self.core.send_close(code, reason)
        return b"".join(self.core.data_to_send())


class WsprotoServer:
    """wsproto's server, whose events are put together to messages."""

    def __init__(self, compress, protocols=()):
        self.core = WSConnection(ConnectionType.SERVER)
        self.extensions = [PerMessageDeflate()] if compress else []
        self.protocols = protocols

    def upgrade(self, request):
        self.core.receive_data(request)
        (asked,) = self.core.events()
        chosen = next((name for name in asked.subprotocols if name in self.protocols), None)
        return self.core.send(
            wsproto_events.AcceptConnection(extensions=self.extensions, subprotocol=chosen)
        )

    def receive(self, data):
        self.core.receive_data(data)
        got, parts = [], []
        for event in self.core.events():
            if isinstance(event, wsproto_events.Message):
                is_text = isinstance(event, wsproto_events.TextMessage)
                parts.append(event.data.encode() if is_text else bytes(event.data))
                if event.message_finished:
                    got.append(("text" if is_text else "binary", b"".join(parts)))
                    parts.clear()
            elif isinstance(event, wsproto_events.CloseConnection):
                got.append(("close", event.code.to_bytes(2, "big") + (event.reason or "").encode()))
            else:
                got.append((type(event).__name__.lower(), bytes(event.payload)))
        return got

    def send(self, message):
        return self.core.send(wsproto_events.Message(data=message))

    def ping(self, data):
        return self.core.send(wsproto_events.Ping(payload=data))

    def close(self, code, reason):
        return self.core.send(wsproto_events.CloseConnection(code=code, reason=reason))


def connected(server, deflate, protocols=()):
    """Upgrade for real; gives both halves of the client and the agreement."""
    key = make_key()
    request = build_request(
        parse_url("ws://example.org/chat?room=1"), key, agent="test", protocols=protocols,
        extensions=offer(deflate) if deflate else None,
    )
    parser = HeadParser()
    parser.feed(server.upgrade(request))
    agreement = check_response(Response(parser.head), key, protocols, deflate)
    assert parser.surplus == b""
    agreed = agreement.deflate
    if agreed is None:
        return Sender(), Receiver(None), agreement
    return Sender(Deflater(agreed, deflate)), Receiver(None, Inflater(agreed)), agreement


def as_sent(message):
    return ("text", message.encode()) if isinstance(message, str) else ("binary", message)


def exchange(server, sender, receiver):
    """Every message both ways, each direction in one piece."""
    stream = b"".join(
        sender.text(message.encode()) if isinstance(message, str) else sender.binary(message)
        for message in MESSAGES
    )
    assert server.receive(stream) == [as_sent(message) for message in MESSAGES]
    events = receiver.receive(b"".join(server.send(message) for message in MESSAGES))
    assert [event.text if isinstance(event, Text) else event.data for event in events] == MESSAGES
    assert receiver.failure is None


@pytest.fixture(params=[WebsocketsServer, WsprotoServer])
def server_class(request):
    return request.param


def test_messages_both_ways(server_class):
    server = server_class(compress=False)
    sender, receiver, agreement = connected(server, None)
    assert agreement.deflate is None
    exchange(server, sender, receiver)


@pytest.mark.parametrize(
    ("server_bits", "client_bits", "server_afresh", "client_afresh"),
    list(itertools.product([None, 9, 12, 15], [9, 12, 15], [False, True], [False, True])),
)
def test_compressed_messages_both_ways(server_class, server_bits, client_bits, server_afresh, client_afresh):
    deflate = Deflate(
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
        server_no_context_takeover=server_afresh,
        client_no_context_takeover=client_afresh,
    )
    server = server_class(compress=True)
    sender, receiver, agreement = connected(server, deflate)
    assert agreement.deflate.server_no_context_takeover is server_afresh
    assert agreement.deflate.client_no_context_takeover is client_afresh
    exchange(server, sender, receiver)


def test_a_server_that_does_not_compress(server_class):
    server = server_class(compress=False)
    sender, receiver, agreement = connected(server, Deflate())
    assert agreement.deflate is None
    exchange(server, sender, receiver)


def test_the_subprotocol_is_the_one_the_server_chose(server_class):
    server = server_class(compress=False, protocols=["soap", "wamp"])
    assert connected(server, None, ["mqtt", "wamp"])[2].protocol == "wamp"


def test_pings_and_pongs(server_class):
    server = server_class(compress=False)
    sender, receiver, _ = connected(server, None)
    assert server.receive(sender.ping(b"are you there?")) == [("ping", b"are you there?")]
    assert server.receive(sender.pong(b"x" * 125)) == [("pong", b"x" * 125)]
    ping = receiver.receive(server.ping(b"and you?"))[-1]  # behind a pong, if the server sends them itself
    assert isinstance(ping, Ping)
    assert ping.data == b"and you?"


def test_a_pong_of_websockets_is_a_pong():
    server = WebsocketsServer(compress=False)
    sender, receiver, _ = connected(server, None)
    server.receive(sender.ping(b"1"))
    (pong,) = receiver.receive(b"".join(server.core.data_to_send()))
    assert isinstance(pong, Pong)
    assert pong.data == b"1"


def test_we_close(server_class):
    server = server_class(compress=False)
    sender, _, _ = connected(server, None)
    assert server.receive(sender.close(1000, "grüße")) == [("close", b"\x03\xe8" + "grüße".encode())]


def test_the_server_closes(server_class):
    server = server_class(compress=False)
    sender, receiver, _ = connected(server, None)
    assert receiver.receive(server.close(4001, "grüße")) == []
    assert receiver.close_received == CloseFrame(4001, "grüße")
    echo = sender.close(receiver.close_received.code, receiver.close_received.reason)
    assert server.receive(echo)[0][1] == b"\x0f\xa1" + "grüße".encode()


def test_messages_that_are_not_compressed_among_others(server_class):
    server = server_class(compress=True)
    sender, _, _ = connected(server, Deflate(threshold=10))
    stream = sender.text(b"short") + sender.text(b"a long one" * 9) + sender.binary(b"x" * 99, compress=False)
    assert server.receive(stream) == [("text", b"short"), ("text", b"a long one" * 9), ("binary", b"x" * 99)]


def test_fragments_of_websockets():
    server = WebsocketsServer(compress=True)
    _, receiver, _ = connected(server, Deflate())
    server.core.send_binary(b"one ", fin=False)
    server.core.send_ping(b"between")
    server.core.send_continuation(b"two ", fin=False)
    server.core.send_continuation(b"three", fin=True)
    ping, message = receiver.receive(b"".join(server.core.data_to_send()))
    assert ping.data == b"between"
    assert isinstance(message, Binary)
    assert message.data == b"one two three"
