"""Masking and masking keys (RFC 6455 section 5.3). Every twin passes the same tests."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.protocol import masking
from lochws.protocol.masking import MaskKeys, mask_python, mask_wsaccel

KEY = b"\x37\xfa\x21\x3d"


def plainly(data, key):
    """Mask by the definition in the RFC, word for word."""
    return bytes(octet ^ key[i % 4] for i, octet in enumerate(data))


class TestTwins:
    @pytest.fixture(params=[mask_python, mask_wsaccel])
    def mask(self, request):
        if request.param is mask_wsaccel:
            pytest.importorskip("wsaccel", exc_type=ImportError)
        return request.param

    def test_the_example_of_the_rfc(self, mask):
        assert mask(b"Hello", KEY) == b"\x7f\x9f\x4d\x51\x58"

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 127, 65535, 65536, 65537, 200_001])
    def test_any_size(self, mask, size):
        data = os.urandom(size)
        assert mask(data, KEY) == plainly(data, KEY)

    @given(data=st.binary(max_size=300), key=st.binary(min_size=4, max_size=4))
    def test_any_data_and_key(self, data, key):
        for mask in (mask_python, mask_wsaccel):
            if mask is mask_python or find_spec("wsaccel") is not None:
                assert mask(data, key) == plainly(data, key)

    def test_twice_is_not_at_all(self, mask):
        data = os.urandom(1000)
        assert mask(mask(data, KEY), KEY) == data

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize("size", [10, 70_000])
    def test_the_data_stays_as_it_was(self, mask, kind, size):
        original = os.urandom(size)
        data = kind(original)
        masked = mask(data, KEY)
        assert bytes(data) == original
        assert type(masked) is bytes
        assert masked == plainly(original, KEY)

    def test_a_key_of_zeroes_changes_nothing(self, mask):
        assert mask(b"abcde", bytes(4)) == b"abcde"


@pytest.fixture
def chosen_anew() -> Iterator[None]:
    """Have the masking function looked for again, in the test and after it."""
    caches = [masking.best, masking._wsaccel]
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("chosen_anew")
class TestTheBest:
    def test_the_environment_can_ask_for_pure_python(self, monkeypatch):
        monkeypatch.setenv("LOCHWS_PURE_PYTHON", "1")
        assert masking.best() is mask_python

    def test_wsaccel_is_used_when_there(self, monkeypatch):
        pytest.importorskip("wsaccel", exc_type=ImportError)
        monkeypatch.delenv("LOCHWS_PURE_PYTHON", raising=False)
        assert masking.best() is mask_wsaccel

    def test_without_wsaccel_python_masks(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "wsaccel.xormask", None)
        monkeypatch.delenv("LOCHWS_PURE_PYTHON", raising=False)
        assert masking.best() is mask_python

    def test_it_is_what_masks(self, monkeypatch):
        monkeypatch.setattr(masking, "best", lambda: lambda data, key: b"best")
        assert masking.mask(b"data", KEY) == b"best"


class TestMaskKeys:
    def test_keys_are_the_bytes_of_the_source_in_order(self):
        given = bytearray()

        def source(size):
            block = bytes(len(given) + number & 0xFF for number in range(size))
            given.extend(block)
            return block

        keys = MaskKeys(source)
        assert [keys() for _ in range(3)] == [b"\0\1\2\3", b"\4\5\6\7", b"\x08\x09\x0a\x0b"]
        rest = b"".join(keys() for _ in range(1000))
        assert given.startswith(bytes(range(12)) + rest)

    def test_for_packing_the_source_is_asked_for_little_at_first_and_at_last_for_4_kib_at_a_time(self):
        asked = []

        def source(size):
            asked.append(size)
            return bytes(size)

        keys = MaskKeys(source)
        for _ in range(2 * 1024 - 8 + 1):
            keys.fill()
            keys.position += 4
        assert asked == [32, 64, 128, 256, 512, 1024, 2048, 4096, 4096]

    def test_a_call_in_the_middle_of_another_gets_other_keys(self):
        numbers = itertools.count()
        given = []

        def source(size):
            block = b"".join(next(numbers).to_bytes(4, "big") for _ in range(size // 4))
            if len(block) and next(numbers) < 500:  # a signal handler, say
                given.append(keys())
            return block

        keys = MaskKeys(source)
        given += [keys() for _ in range(300)]
        assert len(set(given)) == len(given)

    def test_keys_of_the_system_do_not_repeat_soon(self):
        keys = MaskKeys()
        assert len({keys() for _ in range(3000)}) > 2990
