"""Works to measure: what is received, sent or held open, as data, without sockets and clocks."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["receive", "memory", "send", "echo", "open", "idle", "crowd", "import"]
Payload = Literal["ascii", "cjk", "json", "binary"]
Message = str | bytes

#: Messages of a deflated flood differ, as real ones do: one message again and again would deflate to nothing.
DIFFERENT_MESSAGES = 256


@dataclass(frozen=True, kw_only=True)
class Work:
    """One thing that all clients are made to do.

    Attributes:
        name: as in the tables, and for ``--work``.
        kind: which method of a client does it.
        payload: what the messages are made of.
        size: bytes of a message, before compression.
        tls: whether the connection is encrypted.
        deflate: whether messages come deflated, with context takeover.
        senders: threads that send at once.
        delay: seconds that packets take each way; needs a network namespace.
        busy: whether another thread of the client computes without pause.
        count: messages, trips or connections; None for as many as fit the time.
        seconds: how long is looked at what runs on its own.
        once: whether one round is enough, because the work takes long or varies little.
        peers: clients that take part; empty for all that can.
        fewer: connections for clients other than lochws, where `count` of them would take too much.
    """

    name: str
    kind: Kind
    payload: Payload = "ascii"
    size: int = 128
    tls: bool = False
    deflate: bool = False
    senders: int = 1
    delay: float = 0.0
    busy: bool = False
    count: int | None = None
    seconds: float = 0.0
    once: bool = False
    peers: tuple[str, ...] = ()
    fewer: int | None = None

    def messages(self) -> Sequence[Message]:
        """Return the messages, which are sent in a circle."""
        if self.payload == "binary":
            return [bytes(range(256)) * (self.size // 256)]
        if self.payload == "json":
            return [_document(number, self.size) for number in range(DIFFERENT_MESSAGES)]
        if self.payload == "cjk":
            return ["網" * (self.size // 3) + "x" * (self.size % 3)]
        return ["a" * self.size]

    def total_length(self, count: int) -> int:
        """Return the sum of lengths after `count` messages: characters of text, bytes of others."""
        lengths = [len(message) for message in self.messages()]
        rounds, rest = divmod(count, len(lengths))
        return rounds * sum(lengths) + sum(lengths[:rest])


def _document(number: int, size: int) -> str:
    """JSON of a market feed's kind, `size` characters long, the same in every run."""
    chance = random.Random(number)
    quotes: list[dict[str, object]] = []
    while len(text := json.dumps({"type": "quotes", "sequence": number, "quotes": quotes})) < size:
        quotes.append({
            "symbol": chance.choice(["EURUSD", "USDJPY", "GBPUSD", "AUDNZD"]),
            "bid": round(chance.uniform(1, 2), 5), "ask": round(chance.uniform(1, 2), 5),
            "volume": chance.randrange(1_000_000),
        })
    return text[:size]


THREADED = ("lochws", "websocket-client", "websockets threads")
HOLDERS = ("lochws", "websocket-client", "websockets threads", "websockets asyncio", "aiohttp", "picows")

WORKS = {
    work.name: work
    for work in (
        Work(name="receive text 16", kind="receive", size=16),
        Work(name="receive text 128", kind="receive"),
        Work(name="receive text 1024", kind="receive", size=1024),
        Work(name="receive CJK 1024", kind="receive", size=1024, payload="cjk"),
        Work(name="receive binary 64K", kind="receive", size=65536, payload="binary"),
        Work(name="receive binary 1M", kind="receive", size=1 << 20, payload="binary"),
        Work(name="receive deflated 1024", kind="receive", size=1024, payload="json", deflate=True),
        Work(name="receive TLS 16", kind="receive", size=16, tls=True),
        Work(name="receive TLS 128", kind="receive", tls=True),
        Work(name="receive TLS 1024", kind="receive", size=1024, tls=True),
        Work(name="receive TLS 64K", kind="receive", size=65536, payload="binary", tls=True),
        Work(name="send text 128", kind="send"),
        Work(name="send text 128, 8 threads", kind="send", senders=8),
        Work(name="send binary 64K", kind="send", size=65536, payload="binary"),
        Work(name="echo 125", kind="echo", size=125),
        Work(name="echo 125, busy", kind="echo", size=125, busy=True, count=300, peers=THREADED),
        Work(name="open 1000", kind="open", count=1000, peers=HOLDERS),
        Work(name="open 1000 TLS", kind="open", tls=True, count=1000, peers=HOLDERS),
        Work(name="open 1000, 25 ms away", kind="open", delay=0.025, count=1000, peers=HOLDERS),
        Work(name="open 1000 TLS, 25 ms away", kind="open", tls=True, delay=0.025, count=1000, peers=HOLDERS),
        Work(name="crowd of 200", kind="crowd", count=200, seconds=2.0,
             peers=("lochws", "websocket-client", "websockets threads", "aiohttp", "picows")),
        Work(name="idle 10000", kind="idle", count=10_000, seconds=35.0, once=True, peers=HOLDERS, fewer=500),
        Work(name="memory 10M", kind="memory", size=16, count=10_000_000, once=True, peers=("lochws",)),
        Work(name="import", kind="import", count=1),
    )
}
