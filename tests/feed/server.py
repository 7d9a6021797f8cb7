"""A server that numbers its messages globally: every process of it, on every port, sends the same stream.

The number of a message follows from the machine's monotonic clock, so processes agree on it, and one that is
killed and started again continues where the others are. Commands arrive as lines on stdin, and each is
carried out on the oldest connection: ``message`` announces the end of the connection, and then ends it;
``1001`` sends a Close frame; ``fin``, ``rst`` and ``dead`` end it without a word, the last one by silence.
Run as ``python -m tests.feed.server PORT RATE``; it prints ``ready``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import struct
import sys
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Seconds between the announcement of an end and the end.
NOTICE = 3.0


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a frame as a server sends it; payloads are short."""
    return bytes([0x80 | opcode, len(payload)]) + payload


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.is_dead = False
        self.said_close = False

    def send(self, data: bytes) -> None:
        if not (self.is_dead or self.said_close or self.writer.is_closing()):
            self.writer.write(data)

    def close(self, code: int) -> None:
        self.send(frame(8, struct.pack("!H", code)))
        self.said_close = True


class Server:
    """All connections of this process, oldest first."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.clients: list[Client] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer)
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            key = next(
                line.split(b":", 1)[1].strip() for line in request.split(b"\r\n")
                if line.lower().startswith(b"sec-websocket-key")
            )
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self.clients.append(client)
            while True:
                head = await reader.readexactly(2)
                mask = await reader.readexactly(4)
                data = await reader.readexactly(head[1] & 0x7F)
                payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
                if client.is_dead:
                    continue
                if head[0] & 0xF == 9:
                    client.send(frame(10, payload))
                elif head[0] & 0xF == 8:
                    client.send(frame(8, payload))
                    await writer.drain()
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            if client in self.clients:
                self.clients.remove(client)
            writer.close()

    async def tick(self) -> None:
        last = int(time.monotonic() * self.rate)
        while True:
            await asyncio.sleep(1 / self.rate)
            now = int(time.monotonic() * self.rate)
            for number in range(last + 1, now + 1):
                data = frame(1, b'{"n":%d}' % number)
                for client in self.clients:
                    client.send(data)
            last = now

    async def announced_end(self, client: Client) -> None:
        client.send(frame(1, b'{"op":"reconnect"}'))
        await asyncio.sleep(NOTICE)
        client.close(1001)

    def obey(self, command: str) -> None:
        client = next((each for each in self.clients if not (each.is_dead or each.said_close)), None)
        if client is None:
            return
        if command == "message":
            task = asyncio.get_running_loop().create_task(self.announced_end(client))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif command.isdigit():
            client.close(int(command))
        elif command == "dead":
            client.is_dead = True
        else:
            if command == "rst":
                sock = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.is_dead = True
            if command == "rst":
                client.writer.transport.abort()
            else:
                client.writer.close()


async def main(port: int, rate: int) -> None:
    """Serve until stdin ends."""
    server = Server(rate)
    loop = asyncio.get_running_loop()
    listener = await asyncio.start_server(server.serve, "0.0.0.0", port)
    ticking = loop.create_task(server.tick())
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    sys.stdout.write(f"ready {listener.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while line := await commands.readline():
        server.obey(line.decode().strip())
    ticking.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
