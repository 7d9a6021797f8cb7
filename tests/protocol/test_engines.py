"""Compression modules: the standard library's zlib and zlib-ng. Both pass the same tests."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.errors import CriticalProtocolError, PayloadTooLarge
from lochws.options import Deflate
from lochws.protocol import deflate
from lochws.protocol.deflate import TAIL, DeflateParameters, Deflater, Inflater

MESSAGES = [b"", b"a", b"hello hello hello", bytes(range(256)) * 300, os.urandom(5000), b"x" * 100_000]


@pytest.fixture(params=["zlib", "zlib_ng.zlib_ng"])
def engine(request, monkeypatch):
    module = pytest.importorskip(request.param)
    monkeypatch.setattr(deflate, "engine", lambda: module)
    return module


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("level", [-1, 0, 1, 6, 9])
@pytest.mark.parametrize("afresh", [False, True])
def test_what_it_deflates_zlib_inflates_with_just_that_window(engine, bits, level, afresh):
    deflater = Deflater(
        DeflateParameters(client_max_window_bits=bits, client_no_context_takeover=afresh),
        Deflate(level=level, memory=5),
    )
    stream = zlib.decompressobj(-bits)
    for message in MESSAGES * 2:
        if afresh:
            stream = zlib.decompressobj(-bits)
        assert stream.decompress(deflater.compress(message) + TAIL) == message


@pytest.mark.parametrize("bits", range(9, 16))
def test_what_zlib_deflates_it_inflates(engine, bits):
    inflater = Inflater(DeflateParameters(server_max_window_bits=bits))
    stream = zlib.compressobj(6, zlib.DEFLATED, -bits)
    for message in [message for message in MESSAGES if message] * 2:
        payload = (stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
        assert inflater.inflate(payload, None) + inflater.finish(None) == message


def test_garbage_is_refused(engine):
    with pytest.raises(CriticalProtocolError, match="unable to decompress payload"):
        Inflater(DeflateParameters()).inflate(b"\xff" * 20, 1000)


def test_a_bomb_stops_at_the_limit(engine):
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = bomb.compress(bytes(50_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(PayloadTooLarge):
        Inflater(DeflateParameters()).inflate(payload, 1000)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=2000), max_size=6), st.integers(9, 15), st.integers(-1, 9))
def test_any_messages_come_back(messages, bits, level):
    parameters = DeflateParameters(client_max_window_bits=bits, server_max_window_bits=bits)
    deflater, inflater = Deflater(parameters, Deflate(level=level)), Inflater(parameters)
    for message in messages:
        assert inflater.inflate(deflater.compress(message), None) + inflater.finish(None) == message


def test_it_is_zlib_ng_when_that_is_installed_and_zlib_in_pure_python():
    pytest.importorskip("zlib_ng")
    program = "from lochws.protocol import deflate; print(deflate.engine().__name__)"
    for pure, expected in (("0", "zlib_ng.zlib_ng"), ("1", "zlib")):
        environment = {**os.environ, "LOCHWS_PURE_PYTHON": pure}
        printed = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
        assert printed.strip() == expected
