"""Replies in seven protocols, against small servers: each test is what a user of the protocol would write."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import pytest

from lochws import WebSocketApp, events
from lochws import testing as t
from lochws.handlers.replies import Replies, ReplyLost
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.testing import ScriptedServer, ServerConnection

from ..support import protocols
from ..support.apps import AT_ONCE, running
from ..support.seen import PATIENCE, eventually

#: A STOMP frame: command, headers, body.
Frame: TypeAlias = "tuple[str, dict[str, str], str]"


@contextmanager
def session(app: WebSocketApp, *steps: Step, split: Any = None) -> Iterator[Subscriptions]:
    """Run an app, and wait until its session is ready."""
    subscriptions = Subscriptions(app, steps, split=split)
    with running(app, persist=AT_ONCE):
        assert subscriptions.wait_session_ready(PATIENCE)
        yield subscriptions


def test_mqtt_subscribes_and_publishes_with_packet_identifiers() -> None:
    """MQTT 3.1.1: binary packets in a stream; SUBACK and PUBACK repeat an identifier of 16 bits."""

    class Packet(NamedTuple):
        """A packet with an identifier."""

        kind: int
        content: bytes
        id: int = 0

    def encode(packet: Packet) -> bytes:
        topic, _, rest = packet.content.partition(b" ")
        name = len(topic).to_bytes(2, "big") + topic
        number = packet.id.to_bytes(2, "big")
        body = number + name + rest if packet.kind == 0x82 else name + number + rest
        return bytes([packet.kind, len(body)]) + body

    def decode(event: events.Binary) -> Packet | None:
        kind = event.data[0]
        if kind not in (0x90, 0x40):  # SUBACK, PUBACK
            return None
        return Packet(kind, event.data[4:], int.from_bytes(event.data[2:4], "big"))

    def split(data: bytes) -> int | None:
        return None if len(data) < 2 else 2 + data[1]  # all packets here are short

    with ScriptedServer([t.accept(protocol="mqtt"), protocols.mqtt]) as server:
        app = WebSocketApp(server.url, protocols=["mqtt"])
        broker = Replies(
            app, lambda packet: packet.id, encode=encode, decode=decode, split=split,
            number=lambda packet, number: packet._replace(id=(number - 1) % 65535 + 1),
        )
        connect = Step(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02me", expect=b"\x20\x02\x00\x00")
        with session(app, connect, split=split):
            assert broker.request(Packet(0x82, b"clock \x01")).result(PATIENCE) == (0x90, b"\x01", 1)
            published = [broker.request(Packet(0x32, b"clock noon")) for _ in range(3)]
            assert [reply.result(PATIENCE).id for reply in published] == [2, 3, 4]


def test_stomp_receipts() -> None:
    """STOMP 1.2: text frames; a RECEIPT repeats the receipt header, and so does an ERROR."""

    class Refused(Exception):
        """The broker's ERROR frame."""

    def encode(frame: Frame) -> str:
        command, headers, body = frame
        lines = [command, *(f"{name}:{value}" for name, value in headers.items())]
        return "\n".join(lines) + f"\n\n{body}\0"

    def decode(event: events.Text) -> Frame:
        head, _, body = event.text.rstrip("\0").partition("\n\n")
        command, *lines = head.split("\n")
        return command, dict(line.split(":", 1) for line in lines), body

    def match(frame: Frame) -> str | None:
        headers = frame[1]
        return headers.get("receipt") or headers.get("receipt-id")

    def number(frame: Frame, count: int) -> Frame:
        command, headers, body = frame
        return command, {**headers, "receipt": f"r{count}"}, body

    def unwrap(frame: Frame) -> None:
        if frame[0] == "ERROR":
            raise Refused(frame[1]["message"])

    with ScriptedServer([t.accept(), protocols.stomp]) as server:
        app = WebSocketApp(server.url)
        broker = Replies(app, match, encode=encode, decode=decode, number=number, unwrap=unwrap)
        connect = Step(
            encode(("CONNECT", {"accept-version": "1.2", "host": "/"}, "")),
            expect=lambda event: event.text.startswith("CONNECTED"),
        )
        with session(app, connect):
            app.send_text("\n")  # is answered by a line feed, which cannot be decoded
            sent = broker.request(("SEND", {"destination": "/queue/a"}, "hello"))
            refused = broker.request(("SEND", {"destination": "/queue/forbidden"}, "hello"))
            assert sent.result(PATIENCE) is None
            assert sent.key == "r1"
            with pytest.raises(Refused, match="access refused"):
                refused.result(PATIENCE)


def test_ocpp_calls() -> None:
    """OCPP 1.6: JSON arrays; [2, id, action, payload] is answered by [3, id, payload] or [4, id, code, …]."""

    class CallError(Exception):
        """The central system's CALLERROR."""

    def unwrap(message: list[Any]) -> Any:
        if message[0] == 4:
            raise CallError(message[2], message[3])
        return message[2]

    def match(message: list[Any]) -> str | None:
        return message[1] if message[0] in (2, 3, 4) else None

    with ScriptedServer([t.accept(protocol="ocpp1.6"), protocols.ocpp]) as server:
        app = WebSocketApp(server.url, protocols=["ocpp1.6"])
        central = Replies(
            app, match, unwrap=unwrap,
            number=lambda call, number: [2, str(number), *call],
        )
        with running(app):
            assert app.wait_ready(PATIENCE)
            boot = central.request(["BootNotification", {"chargePointModel": "One"}])
            assert boot.result(PATIENCE)["status"] == "Accepted"
            started = central.request(["StartTransaction", {"connectorId": 2}])
            assert started.result(PATIENCE) == {"transactionId": 200}
            with pytest.raises(CallError, match="NotImplemented"):
                central.request(["Fly", {}]).result(PATIENCE)
            assert [json.loads(message)[1] for message in server.messages if isinstance(message, str)] == [
                "1", "2", "3",
            ]


def test_socket_io_acknowledgements() -> None:
    """Socket.IO 5 over Engine.IO 4: 42<id>["name", …] is acknowledged by 43<id>[…]."""

    class Event(NamedTuple):
        """An event, or its acknowledgement."""

        arguments: list[Any]
        id: int | None = None

    def decode(event: events.Text) -> Event | None:
        if not event.text.startswith("43"):
            return None
        digits = event.text[2:event.text.index("[")]
        return Event(json.loads(event.text[2 + len(digits):]), int(digits))

    with ScriptedServer([t.accept(), protocols.engine_io]) as server:
        app = WebSocketApp(server.url)
        chat = Replies(
            app, lambda event: event.id, decode=decode,
            encode=lambda event: f"42{event.id}{json.dumps(event.arguments)}",
            number=lambda event, number: event._replace(id=number), unwrap=lambda event: event.arguments,
        )
        steps = [
            Step(None, expect=lambda event: event.text.startswith("0{")),
            Step("40", expect=lambda event: event.text.startswith("40")),
        ]
        with session(app, *steps):
            for number, reply in [(number, chat.request(Event(["add", number, "x"]))) for number in range(3)]:
                assert reply.result(PATIENCE) == ["add", "x", number]


def nats(connection: ServerConnection) -> None:
    """Speak NATS: INFO, CONNECT, PING, SUB, PUB; a request is answered on its reply subject."""
    connection.send(b'INFO {"server_id": "x"')
    connection.send(b'}\r\n')
    buffer, sid = b"", ""
    for message in connection:
        assert isinstance(message, bytes)
        buffer += message
        while b"\r\n" in buffer:
            line, _, buffer = buffer.partition(b"\r\n")
            command, *words = line.decode().split()
            if command == "PING":
                connection.send(b"PONG\r\n")
            elif command == "SUB":
                sid = words[-1]
            elif command == "PUB":
                subject, inbox, size = words
                body, buffer = buffer[:int(size)], buffer[int(size) + 2:]
                answer = body[::-1] + b" from " + subject.encode()
                head = f"MSG {inbox} {sid} {len(answer)}\r\n".encode()
                connection.send(head + answer[:3])  # split anywhere
                connection.send(answer[3:] + b"\r\nPING\r\n")


def test_nats_requests() -> None:
    """NATS: a stream of lines and payloads; a reply arrives on the inbox that the request names."""

    class Message(NamedTuple):
        """A message: published by us with an inbox as its reply, received with the inbox as its subject."""

        subject: str
        body: bytes
        inbox: str = ""

    def split(data: bytes) -> int | None:
        end = data.find(b"\r\n") + 2
        if end < 2:
            return None
        words = data[:end].split()
        return end + int(words[-1]) + 2 if words[0] == b"MSG" else end

    def encode(message: Message) -> bytes:
        head = f"PUB {message.subject} {message.inbox} {len(message.body)}\r\n"
        return head.encode() + message.body + b"\r\n"

    def decode(event: events.Binary) -> Message | None:
        line, _, body = event.data.partition(b"\r\n")
        words = line.decode().split()
        return Message(words[1], body[:-2], words[1]) if words[0] == "MSG" else None

    with ScriptedServer([t.accept(), nats]) as server:
        app = WebSocketApp(server.url)
        client = Replies(
            app, lambda message: message.inbox, encode=encode, decode=decode, split=split,
            number=lambda message, number: message._replace(inbox=f"_INBOX.7.{number}"),
            unwrap=lambda message: message.body,
        )
        steps = [
            Step(None, expect=lambda event: event.data.startswith(b"INFO")),
            Step(b'CONNECT {"verbose": false}\r\nPING\r\n', expect=b"PONG\r\n"),
            Step(b"SUB _INBOX.7.* 1\r\n"),
        ]
        with session(app, *steps, split=split):
            replies = [client.request(Message("echo", body)) for body in (b"abc", b"\r\nx\r\n")]
            assert [reply.result(PATIENCE) for reply in replies] == [
                b"cba from echo", b"\n\rx\n\r from echo",
            ]


def wamp(connection: ServerConnection) -> None:
    """Be a WAMP router with the procedures add and fail. Identifiers have to be 1, 2, 3, … per session."""
    wanted = 1
    for message in connection:
        kind, *rest = json.loads(message)
        if kind == 1:
            connection.send(json.dumps([2, 77, {"roles": {"dealer": {}}}]))
            continue
        number, _, procedure, *arguments = rest
        assert (kind, number) == (48, wanted), message
        wanted += 1
        if procedure == "add":
            connection.send(json.dumps([50, number, {}, [sum(arguments[0])]]))
        elif procedure == "fail":
            connection.send(json.dumps([8, 48, number, {}, "wamp.error.runtime_error", ["because"]]))
        else:
            t.fin()(connection)


def test_wamp_calls_are_numbered_from_1_in_each_session() -> None:
    """WAMP: [48, id, {}, name, args] is answered by [50, id, {}, result] or [8, 48, id, {}, error, …]."""

    class WampError(Exception):
        """The router's ERROR."""

    def match(message: list[Any]) -> int | None:
        place = {48: 1, 50: 1, 8: 2}.get(message[0])
        return None if place is None else message[place]

    def unwrap(message: list[Any]) -> Any:
        if message[0] == 8:
            raise WampError(message[4], message[5])
        return message[3][0]

    def call(procedure: str, *arguments: Any) -> Any:
        return router.request([48, {}, procedure, list(arguments)]).result(PATIENCE)

    with ScriptedServer([t.accept(protocol="wamp.2.json"), wamp]) as server:
        app = WebSocketApp(server.url, protocols=["wamp.2.json"])
        router = Replies(app, match, number=lambda m, number: [m[0], number, *m[1:]], unwrap=unwrap)
        hello = Step([1, "realm1", {"roles": {"caller": {}}}], expect=[2], refused=[3], give_up=True)
        with session(app, hello):
            for number in range(1, 4):
                assert call("add", 1, number) == 1 + number
                with pytest.raises(WampError, match="runtime_error"):
                    call("fail")
                with pytest.raises(ReplyLost):
                    call("leave")
                eventually(lambda number=number: len(server.connections) > number)  # type: ignore[misc]
                assert app.wait_ready(PATIENCE)


def jupyter(connection: ServerConnection) -> None:
    """Be a Jupyter server with the protocol v1.kernel.websocket.jupyter.org: binary frames with offsets."""
    for message in connection:
        assert isinstance(message, bytes)
        channel, header, _, content = unpack(message)
        assert channel == "shell"
        for kind, where, answer in (
            ("status", "iopub", {"execution_state": "busy"}),
            ("stream", "iopub", {"text": content["code"]}),
            ("execute_reply", "shell", {"status": "ok", "execution_count": 1}),
            ("status", "iopub", {"execution_state": "idle"}),
        ):
            new = {"msg_id": f"{kind}-{header['msg_id']}", "msg_type": kind}
            connection.send(pack(where, new, header, answer))


def pack(channel: str, header: dict[str, Any], parent: dict[str, Any], content: dict[str, Any]) -> bytes:
    """Return a message: the number of offsets, the offsets, and what lies between them."""
    parts = [channel.encode(), *(json.dumps(part).encode() for part in (header, parent, {}, content))]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


def unpack(data: bytes) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return channel, header, parent header and content."""
    (count,) = struct.unpack_from("<Q", data)
    offsets = struct.unpack_from(f"<{count}Q", data, 8)
    channel, header, parent, _, content = (
        data[start:end] for start, end in pairwise(offsets)
    )
    return channel.decode(), json.loads(header), json.loads(parent), json.loads(content)


def test_jupyter_executes_code() -> None:
    """Jupyter: a reply on the channel shell has the header of the request as its parent."""

    class Message(NamedTuple):
        """A message of a kernel."""

        channel: str
        kind: str
        content: dict[str, Any]
        id: str = ""

    def encode(message: Message) -> bytes:
        header = {"msg_id": message.id, "msg_type": message.kind}
        return pack(message.channel, header, {}, message.content)

    def decode(event: events.Binary) -> Message | None:
        channel, header, parent, content = unpack(event.data)
        if channel != "shell":
            return None  # output, and the state of the kernel
        return Message(channel, header["msg_type"], content, parent["msg_id"])

    protocol = "v1.kernel.websocket.jupyter.org"
    with ScriptedServer([t.accept(protocol=protocol), jupyter]) as server:
        app = WebSocketApp(server.url, protocols=[protocol])
        kernel = Replies(
            app, lambda message: message.id, encode=encode, decode=decode,
            number=lambda message, number: message._replace(id=f"me-{number}"),
        )
        with running(app):
            assert app.wait_ready(PATIENCE)
            replies = [kernel.request(Message("shell", "execute_request", {"code": "1"})) for _ in range(2)]
            for number, reply in enumerate(replies, 1):
                answer = reply.result(PATIENCE)
                assert (answer.kind, answer.id) == ("execute_reply", f"me-{number}")
                assert answer.content["status"] == "ok"
