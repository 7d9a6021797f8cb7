"""permessage-deflate: compressed messages in any pieces, negotiation, and round trips of our own."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from types import ModuleType

from lochws.errors import CriticalProtocolError, HandshakeError, PayloadTooLarge
from lochws.options import Deflate
from lochws.protocol import deflate
from lochws.protocol.deflate import DeflateParameters, Deflater, Inflater

from ..inputs import Choices, cuts

TOKENS = [
    b"permessage-deflate", b"; ", b", ", b"server_no_context_takeover", b"client_no_context_takeover",
    b"server_max_window_bits=", b"client_max_window_bits", b'="9"', b"x-webkit-deflate-frame",
    b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"\x00\x00\xff\xff", b"\x00\x05\x00\xfa\xff", b"\x03\x00",
    b"\x4a\x4c\x44\x00",
]

OFFERS = [
    Deflate(), None, Deflate(server_max_window_bits=10), Deflate(client_max_window_bits=9),
    Deflate(server_no_context_takeover=True), Deflate(client_no_context_takeover=True),
]
LIMITS = (1000, 0, 1, 100_000, None)
#: What deflates: the standard library's, and the faster one if it is installed.
ENGINES = [zlib, *([deflate.engine()] if deflate.engine() is not zlib else [])]


def TestOneInput(data: bytes) -> None:  # noqa: N802  the name that fuzzers look for
    """Take the input for messages of a server, for what it agrees to, and for messages of ours."""
    choices = Choices(data)
    limit = choices.one_of(LIMITS)
    bits, afresh = 8 + choices.number() % 8, choices.flag()
    end, seed = choices.number(), choices.number()
    messages = [choices.rest[:end], choices.rest[end:]]
    parameters = DeflateParameters(afresh, afresh, bits, bits)
    for engine in ENGINES:
        results = [
            list(inflated(ways, parameters, limit, engine))
            for ways in zip(*(cuts(message, seed) for message in messages), strict=True)
        ]
        # A server that refers to what its small window has no more is understood or refused: zlib sees it
        # only if what is referred to is not in the same call's output. With 15 bits there is no such thing.
        assert bits < 15 or all(result == results[0] for result in results), results
        check_there_and_back(messages, parameters, engine)
    check_agreement(choices.rest.decode("latin-1"))


def inflated(
    messages: Iterable[Iterable[bytes]], parameters: DeflateParameters, limit: int | None, engine: ModuleType
) -> Iterable[bytes | None]:
    """Each message decompressed, up to the first that is refused, which is None."""
    before, deflate.engine = deflate.engine, lambda: engine  # type: ignore[assignment]
    try:
        inflater = Inflater(parameters)
        for pieces in messages:
            out = b""
            try:
                for piece in pieces:
                    out += inflater.inflate(piece, None if limit is None else limit - len(out))
                out += inflater.finish(None if limit is None else limit - len(out))
            except (CriticalProtocolError, PayloadTooLarge):
                # Which of the two depends on how much zlib gives before it finds damage.
                yield None
                return
            assert limit is None or len(out) <= limit
            yield out
    finally:
        deflate.engine = before


def check_there_and_back(
    messages: Iterable[bytes], parameters: DeflateParameters, engine: ModuleType
) -> None:
    """Check that a compressed message decompresses to itself, and does not end in the tail."""
    before, deflate.engine = deflate.engine, lambda: engine  # type: ignore[assignment]
    try:
        deflater, inflater = Deflater(parameters, Deflate()), Inflater(parameters)
        for message in messages if deflater.usable else ():
            payload = deflater.compress(message)
            assert payload
            assert inflater.inflate(payload, len(message)) + inflater.finish(0) == message
    finally:
        deflate.engine = before


def check_agreement(header: str) -> None:
    """Check that a header is refused, agrees to nothing, or agrees to what was offered."""
    for offered in OFFERS:
        try:
            agreed = deflate.accept(header, offered)
        except HandshakeError as error:
            assert str(error)
            continue
        if agreed is None:
            assert not header.strip(" \t,\r\n\v\f\x1c\x1d\x1e\x1f\x85\xa0")
            continue
        assert offered is not None
        assert deflate.EXTENSION in header.lower()
        assert 8 <= agreed.server_max_window_bits <= (offered.server_max_window_bits or 15)
        assert 8 <= agreed.client_max_window_bits <= offered.client_max_window_bits
        assert agreed.server_no_context_takeover or not offered.server_no_context_takeover
        assert agreed.client_no_context_takeover or not offered.client_no_context_takeover
