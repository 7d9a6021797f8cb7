"""Small servers of protocols over WebSocket: each speaks as much of one as a program of a page needs.

Each is a step of a scripted server, which serves one connection until the client leaves. They are strict:
what a real server would refuse, they refuse too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from lochws.testing import ServerConnection, close

#: After how many heartbeats a server sends its news.
ENOUGH = 2


def packets(connection: ServerConnection) -> Iterator[tuple[int, bytes]]:
    """Yield the MQTT packets that arrive: type and flags, and the content."""
    buffer = b""
    for message in connection:
        assert isinstance(message, bytes), "MQTT is binary"
        buffer += message
        while len(buffer) > 1:
            size, place = 0, 1
            while buffer[place] > 0x7F:
                size += (buffer[place] & 0x7F) << 7 * (place - 1)
                place += 1
            size += buffer[place] << 7 * (place - 1)
            end = place + 1 + size
            if len(buffer) < end:
                break
            yield buffer[0], buffer[place + 1:end]
            buffer = buffer[end:]


def mqtt(connection: ServerConnection) -> None:
    """Speak MQTT 3.1.1: CONNECT, PINGREQ, SUBSCRIBE, PUBLISH with quality of service 1."""
    pings = 0
    is_connected = False
    for kind, content in packets(connection):
        if kind == 0x10:
            assert content[:7] == b"\x00\x04MQTT\x04", content
            is_connected = True
            connection.send(b"\x20\x02")  # CONNACK, in two messages
            connection.send(b"\x00\x00")
        elif not is_connected:
            close(1002, "CONNECT comes first")(connection)
        elif kind == 0xC0:
            pings += 1
            news = b"\x30\x0b\x00\x05clockhour" if pings == ENOUGH else b""
            connection.send(b"\xd0\x00" + news)  # PINGRESP, and a PUBLISH in the same message
        elif kind == 0x82:
            connection.send(b"\x90\x03" + content[:2] + b"\x01")  # SUBACK
        elif kind == 0x32:
            place = 2 + int.from_bytes(content[:2], "big")
            connection.send(b"\x40\x02" + content[place:place + 2])  # PUBACK
        else:
            close(1002, f"packet {kind}")(connection)


def frames(connection: ServerConnection) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the STOMP frames that arrive: command, headers, body. A heartbeat has an empty command."""
    for message in connection:
        assert isinstance(message, str)
        if message == "\n":
            yield "", {}, ""
            continue
        head, _, rest = message.partition("\n\n")
        assert rest.endswith("\0"), message
        command, *lines = head.split("\n")
        yield command, dict(line.split(":", 1) for line in lines), rest[:-1]


def stomp(connection: ServerConnection) -> None:
    """Speak STOMP 1.2 with heartbeats of 100 ms: CONNECT, SUBSCRIBE, SEND, and receipts for all."""
    beats = 0
    is_connected = False
    for command, headers, body in frames(connection):
        if command == "CONNECT":
            assert headers["accept-version"] == "1.2"
            is_connected = True
            connection.send("CONNECTED\nversion:1.2\nheart-beat:100,100\n\n\0")
        elif not is_connected:
            connection.send("ERROR\nmessage:CONNECT comes first\n\n\0")
            close()(connection)
        elif not command:
            beats += 1
            connection.send("\n")
            if beats == ENOUGH:
                connection.send("MESSAGE\nsubscription:0\nmessage-id:1\ndestination:/queue/a\n\nhello\0")
        elif headers.get("destination") == "/queue/forbidden":
            connection.send(f"ERROR\nreceipt-id:{headers['receipt']}\nmessage:access refused\n\n{body}\0")
        elif "receipt" in headers:
            connection.send(f"RECEIPT\nreceipt-id:{headers['receipt']}\n\n\0")


def ocpp(connection: ServerConnection) -> None:
    """Be an OCPP 1.6 central system: BootNotification, Heartbeat, StartTransaction."""
    beats = 0
    for message in connection:
        kind, number, action, payload = json.loads(message)
        assert kind == 2
        assert isinstance(number, str)
        now = "2026-01-01T00:00:00Z"
        if action == "BootNotification":
            answer = [3, number, {"status": "Accepted", "currentTime": now, "interval": 0.1}]
        elif action == "Heartbeat":
            beats += 1
            answer = [3, number, {"currentTime": now}]
        elif action == "StartTransaction":
            answer = [3, number, {"transactionId": payload["connectorId"] * 100}]
        else:
            answer = [4, number, "NotImplemented", f"no action {action}", {}]
        connection.send(json.dumps(answer))
        if beats == ENOUGH:
            connection.send(json.dumps([2, "c1", "TriggerMessage", {"requestedMessage": "MeterValues"}]))
            beats += 1


def engine_io(connection: ServerConnection) -> None:
    """Speak Engine.IO 4 and Socket.IO 5: handshake, pings of the server, events with acknowledgements."""
    handshake = {"sid": "s1", "upgrades": [], "pingInterval": 100, "pingTimeout": 5000, "maxPayload": 10**6}
    connection.send("0" + json.dumps(handshake))
    connection.send("2")
    pongs = 0
    for message in connection:
        assert isinstance(message, str)
        if message == "3":
            pongs += 1
            if pongs <= ENOUGH:
                connection.send("2")
            if pongs == ENOUGH:
                connection.send('42["news","hello"]')
        elif message == "40":
            connection.send('40{"sid":"t1"}')
        elif message.startswith("42"):
            digits = message[2:message.index("[")]
            name, *arguments = json.loads(message[2 + len(digits):])
            connection.send(f"43{digits}{json.dumps([name, *reversed(arguments)])}")
        else:
            close(1002, message)(connection)
