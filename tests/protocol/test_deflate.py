"""permessage-deflate: what is offered, what is accepted, and the data (RFC 7692; contract Q8, Q21, Q31)."""

from __future__ import annotations

import itertools
import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.errors import CompressionParameterError, CriticalProtocolError, HandshakeError, PayloadTooLarge
from lochws.options import Deflate
from lochws.protocol import deflate as deflate_module
from lochws.protocol.deflate import DeflateParameters, Deflater, Inflater, accept, offer
from lochws.system.compiled import is_pure_python, load

from ..support.wire import mirrored


class TestOffer:
    @pytest.mark.parametrize(
        ("deflate", "parameters"),
        [
            (Deflate(), {"client_max_window_bits"}),
            (Deflate(client_max_window_bits=10), {"client_max_window_bits=10"}),
            (Deflate(server_max_window_bits=8), {"client_max_window_bits", "server_max_window_bits=8"}),
            (
                Deflate(server_no_context_takeover=True, client_no_context_takeover=True),
                {"client_max_window_bits", "server_no_context_takeover", "client_no_context_takeover"},
            ),
        ],
    )
    def test_it_has_what_was_asked_for(self, deflate, parameters):
        name, *offered = offer(deflate).split("; ")
        assert name == "permessage-deflate"
        assert len(offered) == len(parameters)
        assert set(offered) == parameters


def accepted(parameters, deflate=None):
    return accept([f"permessage-deflate{parameters}"], deflate or Deflate())


class TestAccept:
    @pytest.mark.parametrize(
        ("parameters", "agreed"),
        [
            ("", DeflateParameters()),
            ("; server_no_context_takeover", DeflateParameters(server_no_context_takeover=True)),
            ("; client_no_context_takeover", DeflateParameters(client_no_context_takeover=True)),
            ("; server_max_window_bits=8", DeflateParameters(server_max_window_bits=8)),
            ("; client_max_window_bits=8", DeflateParameters(client_max_window_bits=8)),
            ('; client_max_window_bits="10"', DeflateParameters(client_max_window_bits=10)),
            (
                " ;client_max_window_bits = 9;\tserver_max_window_bits=15 ;server_no_context_takeover ",
                DeflateParameters(server_no_context_takeover=True, client_max_window_bits=9),
            ),
        ],
    )
    def test_parameters_are_read(self, parameters, agreed):
        assert accepted(parameters) == agreed

    @pytest.mark.parametrize("values", ["", [], [""], [" , "], ",,"])
    def test_no_extension_is_no_compression(self, values):
        assert accept(values, Deflate()) is None
        assert accept(values, None) is None

    @pytest.mark.parametrize(
        "value", ["Permessage-Deflate", ", permessage-deflate ,", ["", "permessage-deflate"]]
    )
    def test_case_and_empty_elements_do_not_matter(self, value):
        assert accept(value, Deflate()) == DeflateParameters()

    @pytest.mark.parametrize("value", ["permessage-deflate", "permessage-deflate; client_max_window_bits=9"])
    def test_an_extension_that_was_not_offered_is_refused(self, value):
        with pytest.raises(HandshakeError, match="permessage-deflate was not offered"):
            accept(value, None)

    @pytest.mark.parametrize("name", ["x-webkit-deflate-frame", "permessage-bzip2", "permessage"])
    def test_another_extension_is_refused(self, name):
        with pytest.raises(HandshakeError, match=f"{name} was not offered"):
            accept(name, Deflate())

    @pytest.mark.parametrize(
        "values",
        [
            "permessage-deflate, permessage-deflate",
            ["permessage-deflate", "permessage-deflate; client_max_window_bits=10"],
            "permessage-deflate, x-other",
        ],
    )
    def test_more_than_one_is_refused(self, values):
        with pytest.raises(HandshakeError, match="More than one extension"):
            accept(values, Deflate())

    @pytest.mark.parametrize(
        "value",
        [
            "permessage-deflate; ",
            "permessage-deflate; =9",
            "permessage-deflate; client_max_window_bits=",
            'permessage-deflate; client_max_window_bits="9',
            "permessage-deflate x",
            "permessage-deflate X",
            "permessage deflate; a",
            ";",
            "=",
        ],
    )
    def test_what_is_no_extension_list_is_refused(self, value):
        with pytest.raises(HandshakeError):
            accept(value, Deflate())

    @pytest.mark.parametrize(
        ("parameters", "reason"),
        [
            ("; client_max_window_bits", "client_max_window_bits is not an integer"),
            ("; client_max_window_bits=x", "client_max_window_bits is not an integer"),
            ("; server_max_window_bits=1.5", "server_max_window_bits is not an integer"),
            ('; server_max_window_bits=""', "server_max_window_bits is not an integer"),
            ("; server_max_window_bits=7", "server_max_window_bits=7 is invalid"),
            ("; client_max_window_bits=16", "client_max_window_bits=16 is invalid"),
            ("; client_max_window_bits=-9", "client_max_window_bits=-9 is invalid"),
            ("; client_max_window_bits=09", "client_max_window_bits=09 is invalid"),
            ("; client_max_window_bits=" + "9" * 5000, "client_max_window_bits=9{20} is invalid"),
            ("; server_no_context_takeover=1", "server_no_context_takeover has a value"),
            ('; client_no_context_takeover=""', "client_no_context_takeover has a value"),
            ("; server_no_context_takeover; server_no_context_takeover", "given twice"),
            ("; client_max_window_bits=9; client_max_window_bits=9", "given twice"),
            ("; mystery", "mystery is not a parameter"),
            ("; Client_max_window_bits=9", "Client_max_window_bits is not a parameter"),
        ],
    )
    def test_a_wrong_parameter_is_refused(self, parameters, reason):
        with pytest.raises(CompressionParameterError, match=reason):
            accepted(parameters)

    @pytest.mark.parametrize(
        ("deflate", "parameters"),
        [
            (Deflate(server_no_context_takeover=True), ""),
            (Deflate(server_max_window_bits=10), ""),
            (Deflate(server_max_window_bits=10), "; server_max_window_bits=11"),
        ],
    )
    def test_an_answer_that_ignores_what_was_asked_for_is_refused(self, deflate, parameters):
        with pytest.raises(CompressionParameterError):
            accepted(parameters, deflate)

    @pytest.mark.parametrize("bits", [8, 10])
    def test_the_server_may_keep_to_less_than_asked_for(self, bits):
        agreed = accepted(f"; server_max_window_bits={bits}", Deflate(server_max_window_bits=10))
        assert agreed.server_max_window_bits == bits

    def test_what_we_offer_to_do_we_do_unasked(self):
        agreed = accepted("", Deflate(client_no_context_takeover=True, client_max_window_bits=11))
        assert agreed == DeflateParameters(client_no_context_takeover=True, client_max_window_bits=11)

    @pytest.mark.parametrize(("ours", "theirs", "agreed"), [(11, 9, 9), (9, 11, 9), (15, 15, 15)])
    def test_our_window_is_the_smaller_of_both(self, ours, theirs, agreed):
        answer = f"; client_max_window_bits={theirs}"
        assert accepted(answer, Deflate(client_max_window_bits=ours)).client_max_window_bits == agreed

    @given(value=st.text(alphabet="permsag-dfltu;,=\" _019w", max_size=60))
    def test_noise_is_refused_or_understood(self, value):
        try:
            accept(value, Deflate())
        except HandshakeError:
            pass


def pair(parameters=None, **options):
    """Our deflater, and an inflater as the server has it."""
    parameters = parameters or DeflateParameters()
    return Deflater(parameters, Deflate(**options)), Inflater(mirrored(parameters))


def inflated(inflater, payload, limit=None):
    first = inflater.inflate(payload, limit)
    return first + inflater.finish(None if limit is None else limit - len(first))


class TestData:
    @pytest.mark.parametrize("bits", range(9, 16))
    @pytest.mark.parametrize("afresh", [False, True])
    def test_messages_pass_through_every_window(self, bits, afresh):
        both = DeflateParameters(client_no_context_takeover=afresh, client_max_window_bits=bits)
        deflater, inflater = pair(both)
        messages = [b"", b"a", os.urandom(5000), b"lochws " * 20_000, b"", b"lochws " * 20_000]
        for message in messages:
            assert inflated(inflater, deflater.compress(message)) == message

    @pytest.mark.parametrize("bits", range(9, 16))
    def test_the_deflater_keeps_to_its_window(self, bits):
        """A plain inflater with exactly that window understands it."""
        deflater = Deflater(DeflateParameters(client_max_window_bits=bits), Deflate())
        plain = zlib.decompressobj(-bits)
        block = os.urandom(200)
        for _ in range(200):
            message = block + os.urandom(300)
            assert plain.decompress(deflater.compress(message) + b"\0\0\xff\xff") == message

    def test_a_window_of_8_bits_is_not_usable(self):
        assert not Deflater(DeflateParameters(client_max_window_bits=8), Deflate()).usable
        assert Deflater(DeflateParameters(client_max_window_bits=9), Deflate()).usable

    def test_a_server_window_of_8_bits_may_be_9(self):
        """As servers with an older zlib have it, which takes 9 for 8."""
        old = Deflater(DeflateParameters(client_max_window_bits=9), Deflate())
        inflater = Inflater(DeflateParameters(server_max_window_bits=8))
        message = os.urandom(240)
        for _ in range(3):
            assert inflated(inflater, old.compress(message)) == message

    def test_an_empty_message_is_one_zero_byte(self):
        """RFC 7692 section 7.2.3.6; also after others, and it leaves the window alone."""
        deflater, inflater = pair()
        assert deflater.compress(b"") == b"\x00"
        deflater.compress(b"something")
        assert deflater.compress(b"") == deflater.compress(b"") == b"\x00"
        assert inflated(inflater, b"\x00") == b""
        assert inflated(inflater, b"\x02\x00") == b""

    def test_with_context_takeover_a_repetition_is_short(self):
        deflater, _ = pair()
        message = os.urandom(1000)
        first, second = deflater.compress(message), deflater.compress(message)
        assert len(first) > 1000
        assert len(second) < 50

    def test_without_context_takeover_each_message_stands_alone(self):
        deflater, inflater = pair(DeflateParameters(client_no_context_takeover=True))
        message = os.urandom(1000)
        assert deflater.compress(message) == deflater.compress(message)
        payload = deflater.compress(message)
        assert inflated(inflater, payload) == inflated(inflater, payload) == message

    @pytest.mark.parametrize("level", [-1, 0, 1, 9])
    @pytest.mark.parametrize("memory", [1, 9])
    def test_level_and_memory_are_for_the_sender_alone(self, level, memory):
        deflater, inflater = pair(level=level, memory=memory)
        for message in (b"x" * 100_000, os.urandom(100_000)):
            assert inflated(inflater, deflater.compress(message)) == message

    def test_the_level_is_used(self):
        message = b"".join(b"%d " % n for n in range(5000))
        stored, deflated = (len(pair(level=level)[0].compress(message)) for level in (0, 6))
        assert stored > len(message) > deflated

    @given(messages=st.lists(st.binary(max_size=200), max_size=5), step=st.integers(1, 50))
    def test_a_payload_may_come_in_any_pieces(self, messages, step):
        deflater, inflater = pair()
        for message in messages:
            payload = deflater.compress(message)
            pieces = [inflater.inflate(payload[i : i + step], 1000) for i in range(0, len(payload), step)]
            assert b"".join(pieces) + inflater.finish(1000) == message


class TestFinalBlocks:
    """Blocks with BFINAL, as senders write them that cannot flush otherwise (RFC 7692 section 7.2.3.4)."""

    HELLO = b"\xf3\x48\xcd\xc9\xc9\x07\x00"

    @pytest.mark.parametrize("step", [1, 3, 100])
    @pytest.mark.parametrize("end", [b"\x00", b""], ids=["as in the RFC", "without the octet behind it"])
    def test_messages_end_in_one(self, step, end):
        inflater = Inflater(DeflateParameters())
        payload = self.HELLO + end
        for _ in range(3):
            pieces = [inflater.inflate(payload[i : i + step], 5) for i in range(0, len(payload), step)]
            assert b"".join(pieces) + inflater.finish(0) == b"Hello"

    @pytest.mark.parametrize("step", [1, 5, 100])
    def test_several_in_one_message(self, step):
        payload = self.HELLO * 3 + b"\xf2\x48\xcd\xc9\xc9\x07\x00"
        inflater = Inflater(DeflateParameters())
        pieces = [inflater.inflate(payload[i : i + step], 20) for i in range(0, len(payload), step)]
        assert b"".join(pieces) + inflater.finish(20) == b"Hello" * 4

    def test_they_count_together_towards_the_limit(self):
        with pytest.raises(PayloadTooLarge):
            Inflater(DeflateParameters()).inflate(self.HELLO * 3, 14)

    def test_an_ordinary_message_may_follow(self):
        inflater = Inflater(DeflateParameters())
        assert inflated(inflater, self.HELLO + b"\x00") == b"Hello"
        assert inflated(inflater, b"\xf2\x48\xcd\xc9\xc9\x07\x00") == b"Hello"

    def test_blocks_of_both_kinds_mix(self):
        """RFC 7692 section 7.2.3.5: two blocks in one message, the first without BFINAL."""
        payload = b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"
        assert inflated(Inflater(DeflateParameters()), payload) == b"Hello"

    def test_a_block_without_compression(self):
        """RFC 7692 section 7.2.3.3."""
        payload = b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"
        assert inflated(Inflater(DeflateParameters()), payload) == b"Hello"

    def test_a_payload_of_no_bytes_is_an_empty_message_and_harms_none(self):
        inflater = Inflater(DeflateParameters())
        deflater = Deflater(DeflateParameters(), Deflate())
        for message, payload in itertools.chain.from_iterable(
            [(b"", b""), (text, deflater.compress(text))] for text in (b"one", b"two", b"one two")
        ):
            assert inflated(inflater, payload) == message


def raw(message, flush, cut):
    """Return a complete deflate stream without its last bytes."""
    stream = zlib.compressobj(wbits=-15)
    whole = stream.compress(message) + stream.flush(flush)
    return whole[: len(whole) - cut]


_payloads = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.builds(raw, st.binary(max_size=60), st.sampled_from([zlib.Z_FINISH, zlib.Z_SYNC_FLUSH]),
                  st.sampled_from([0, 0, 1, 2, 3, 4, 5])),
    ),
    max_size=3,
).map(b"".join)

#: With the largest of them, a message and its tail are decompressed in one call.
_LIMITS = st.one_of(st.integers(0, 100), st.integers(5_000, 20_000), st.just(1 << 20))


def without_context(twin):
    """An inflater for a server that keeps no context, with the compiled function or without it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deflate_module, "_compiled_message", lambda: twin)
        return Inflater(DeflateParameters(server_no_context_takeover=True))


INFLATING = load("inflating")
TWINS = {"Python": None} if INFLATING is None else {"Python": None, "C": INFLATING.inflate_message}
twins = pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)


def outcome(function):
    try:
        return function()
    except (CriticalProtocolError, PayloadTooLarge) as error:
        return type(error), str(error)


@settings(max_examples=500)
@given(payloads=st.lists(_payloads, max_size=3), limit=_LIMITS)
def test_a_message_at_once_holds_what_it_holds_in_parts(payloads, limit):
    compare(Inflater(DeflateParameters()), Inflater(DeflateParameters()), payloads, limit)


@twins
@settings(max_examples=500)
@given(payloads=st.lists(_payloads, max_size=3), limit=_LIMITS)
def test_so_does_a_message_without_context(twin, payloads, limit):
    compare(without_context(twin), without_context(None), payloads, limit)


def compare(at_once, in_parts, payloads, limit):
    def parts():
        first = in_parts.inflate(payload, limit)
        return first + in_parts.finish(limit - len(first))

    for payload in payloads:
        expected = outcome(parts)
        assert outcome(lambda: at_once.message(payload, limit)) == expected  # noqa: B023  called at once
        if isinstance(expected, tuple):
            break


@twins
class TestAMessageWithoutContext:
    @pytest.mark.parametrize("bits", range(9, 16))
    def test_its_window_may_have_any_size(self, twin, bits):
        parameters = DeflateParameters(client_no_context_takeover=True, client_max_window_bits=bits)
        deflater, inflater = Deflater(parameters, Deflate()), without_context(twin)
        for message in (b"", b"a", os.urandom(5000), b"lochws " * 5000, b"lochws"):
            assert inflater.message(deflater.compress(message), len(message)) == message

    @pytest.mark.parametrize("size", [65_534, 65_535, 65_536, 65_537, 200_000])
    def test_it_may_be_larger_than_the_compiled_function_has_room_for(self, twin, size):
        inflater = without_context(twin)
        for message in (bytes(size), os.urandom(size)):
            assert inflater.message(raw(message, zlib.Z_SYNC_FLUSH, 4), size) == message
            with pytest.raises(PayloadTooLarge):
                without_context(twin).message(raw(message, zlib.Z_SYNC_FLUSH, 4), size - 1)

    def test_it_cannot_see_what_came_before_it(self, twin):
        """Not on this connection, nor on another one that shares the compiled stream."""
        compressor = zlib.compressobj(wbits=-15)
        secret = os.urandom(200)
        first, second = (compressor.compress(secret) + compressor.flush(zlib.Z_SYNC_FLUSH) for _ in range(2))
        assert without_context(twin).message(first[:-4], 200) == secret
        assert len(second) < 50
        with pytest.raises(CriticalProtocolError, match="unable to decompress payload"):
            without_context(twin).message(second[:-4], 200)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_its_payload_may_be_any_kind_of_bytes(self, twin, kind):
        payload = kind(raw(b"lochws", zlib.Z_SYNC_FLUSH, 4))
        assert without_context(twin).message(payload, 10) == b"lochws"


@pytest.mark.skipif(INFLATING is None, reason="built without a compiler or without zlib's headers")
def test_the_compiled_function_is_used_for_servers_without_context_unless_python_alone_is_wanted():
    used = deflate_module._compiled_message()
    assert (used is None) if is_pure_python() else (used is INFLATING.inflate_message)


#: Payloads of whole messages, and what they hold.
WHOLE = {
    "ordinary": (raw(b"lochws " * 20, zlib.Z_SYNC_FLUSH, 4), b"lochws " * 20),
    "a block that takes the tail for its last bytes": (b"\0\x06\0\xf9\xffab", b"ab\0\0\xff\xff"),
    "BFINAL and an octet": (TestFinalBlocks.HELLO + b"\0", b"Hello"),
    "BFINAL alone": (TestFinalBlocks.HELLO, b"Hello"),
    "BFINAL twice": (TestFinalBlocks.HELLO * 2, b"HelloHello"),
    "BFINAL and a block that takes the tail": (
        TestFinalBlocks.HELLO + b"\0\x06\0\xf9\xffab", b"Helloab\0\0\xff\xff"
    ),
    "BFINAL and an ordinary block": (TestFinalBlocks.HELLO + raw(b"!", zlib.Z_SYNC_FLUSH, 4), b"Hello!"),
}


@pytest.mark.parametrize("makes", ["with context", *TWINS])
@pytest.mark.parametrize(("payload", "held"), WHOLE.values(), ids=WHOLE)
class TestAMessageAtOnceBehindAnother:
    @pytest.fixture
    def inflater(self, makes):
        inflater = without_context(TWINS[makes]) if makes in TWINS else Inflater(DeflateParameters())
        assert inflater.message(raw(b"first", zlib.Z_SYNC_FLUSH, 4), 5) == b"first"
        return inflater

    def test_it_may_be_as_large_as_the_limit_and_others_may_follow(self, inflater, payload, held):
        for _ in range(3):
            assert inflater.message(payload, len(held)) == held
            assert inflater.message(raw(b"next", zlib.Z_SYNC_FLUSH, 4), 4) == b"next"

    def test_one_byte_more_is_refused(self, inflater, payload, held):
        with pytest.raises(PayloadTooLarge, match=r"^compressed message is larger than the limit$"):
            inflater.message(payload, len(held) - 1)
