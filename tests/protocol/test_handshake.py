"""The opening handshake, request and answer (RFC 6455 section 4; contract section 3, Q5, Q6, Q8, Q45)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.errors import CompressionParameterError, HandshakeError
from lochws.options import Deflate
from lochws.protocol.deflate import DeflateParameters
from lochws.protocol.handshake import (
    WS_KEY,
    WS_VERSION,
    Agreement,
    HeadParser,
    accept_key,
    build_request,
    check_response,
    make_key,
)
from lochws.response import Response
from lochws.url import parse_url

from ..faults.registry import fault

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_example_of_the_rfc():
    assert accept_key(KEY) == ACCEPT


def test_the_constants_are_those_of_lomond():
    assert WS_KEY == b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    assert WS_VERSION == 13


def test_a_key_is_16_random_bytes():
    assert len(base64.b64decode(make_key(), validate=True)) == 16
    assert make_key() != make_key()
    assert make_key(lambda size: b"the sample nonce"[:size]) == KEY


class TestRequest:
    def build(self, url="ws://example.org/chat", **parameters):
        parameters.setdefault("agent", "test/1")
        request = build_request(parse_url(url), KEY, **parameters)
        head, blank, rest = request.partition(b"\r\n\r\n")
        assert blank
        assert rest == b""
        first, *lines = head.split(b"\r\n")
        return first, lines

    def test_the_plain_one_in_its_order(self):
        assert self.build() == (
            b"GET /chat HTTP/1.1",
            [
                b"Host: example.org",
                b"Upgrade: websocket",
                b"Connection: Upgrade",
                b"Sec-WebSocket-Key: " + KEY.encode(),
                b"Sec-WebSocket-Version: 13",
                b"User-Agent: test/1",
            ],
        )

    @pytest.mark.parametrize(
        ("url", "host"),
        [
            ("ws://example.org/", b"example.org"),
            ("ws://example.org:80/", b"example.org"),
            ("wss://example.org:443/", b"example.org"),
            ("wss://example.org:80/", b"example.org:80"),
            ("ws://example.org:8080/", b"example.org:8080"),
            ("ws://[::1]/", b"[::1]"),
            ("ws://[2001:db8::1]:9000/", b"[2001:db8::1]:9000"),
        ],
    )
    def test_the_host_has_the_form_of_the_rfc(self, url, host):
        """Q5: brackets round IPv6, the port only if it is not the scheme's."""
        assert self.build(url)[1][0] == b"Host: " + host

    def test_the_resource_has_path_and_query(self):
        assert self.build("ws://example.org/a/b?c=d&e")[0] == b"GET /a/b?c=d&e HTTP/1.1"
        assert self.build("ws://example.org")[0] == b"GET / HTTP/1.1"

    def test_everything_optional(self):
        lines = self.build(
            origin="https://example.org",
            protocols=["a", "b"],
            extensions="permessage-deflate",
            auth=("user", "pass"),
            headers=[("X-One", "1"), ("X-Two", "2")],
        )[1]
        assert lines[6:] == [
            b"Origin: https://example.org",
            b"Sec-WebSocket-Protocol: a, b",
            b"Sec-WebSocket-Extensions: permessage-deflate",
            b"Authorization: Basic dXNlcjpwYXNz",
            b"X-One: 1",
            b"X-Two: 2",
        ]

    @pytest.mark.parametrize(
        ("header", "gone"),
        [
            (("host", "other.example"), b"Host: example.org"),
            (("USER-AGENT", "mine"), b"User-Agent: test/1"),
            (("origin", "null"), b"Origin: https://example.org"),
            (("authorization", "Bearer token"), b"Authorization: Basic dXNlcjpwYXNz"),
        ],
    )
    def test_a_users_header_replaces_a_built_in_one(self, header, gone):
        """Q6: whatever its case, and there is only one then."""
        given = {"origin": "https://example.org", "auth": ("user", "pass")}
        assert gone in self.build(**given)[1]
        lines = self.build(**given, headers=[header])[1]
        assert gone not in lines
        assert ": ".join(header).encode() in lines
        names = [line.split(b":")[0].lower() for line in lines]
        assert len(set(names)) == len(names)
        assert names[0] == b"host"

    def test_a_user_may_repeat_a_header(self):
        lines = self.build(headers=[("Cookie", "a=1"), ("Cookie", "b=2")])[1]
        assert lines[-2:] == [b"Cookie: a=1", b"Cookie: b=2"]

    @pytest.mark.parametrize(
        ("value", "sent"), [("grün", b"gr\xfcn"), ("łódź", "łódź".encode()), ("😀", "😀".encode())]
    )
    def test_a_value_is_latin_1_or_else_utf8(self, value, sent):
        assert self.build(headers=[("X", value)])[1][-1] == b"X: " + sent

    def test_credentials_are_utf8(self):
        lines = self.build(auth=("jürgen", "€:x"))[1]
        assert base64.b64decode(lines[-1].split()[-1]).decode() == "jürgen:€:x"

    def test_a_user_name_with_a_colon_is_refused_and_not_repeated(self):
        words = "^the user name contains a colon, which Basic authentication cannot express$"
        with pytest.raises(ValueError, match=words):
            self.build(auth=("se:cret", "pass"))

    @pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
    @pytest.mark.parametrize(
        ("parameters", "name"),
        [
            (lambda text: {"agent": text}, "User-Agent"),
            (lambda text: {"origin": text}, "Origin"),
            (lambda text: {"protocols": [text]}, "Sec-WebSocket-Protocol"),
            (lambda text: {"extensions": text}, "Sec-WebSocket-Extensions"),
            (lambda text: {"headers": [("X", text)]}, "X"),
            (lambda text: {"headers": [(text, "x")]}, None),
        ],
    )
    def test_no_line_break_gets_through_and_no_value_is_repeated(self, parameters, name, end):
        """Q6: the last guard against header injection."""
        text = f"a{end}Evil: 1"
        named = name or text.partition(":")[0]
        with pytest.raises(ValueError) as caught:
            self.build(**parameters(text))
        assert str(caught.value) == f"line break in {named.encode()!r} of the upgrade request"


def answer(**changes):
    """Return a correct response, with headers changed, repeated (list) or left out (None)."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Accept": ACCEPT}
    first = changes.pop("first", "HTTP/1.1 101 Switching Protocols")
    headers.update(changes)
    lines = [first]
    for name, value in headers.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        lines += [f"{name.replace('_', '-')}: {one}" for one in values]
    return Response("\r\n".join([*lines, "", ""]).encode())


def check(protocols=(), deflate=None, **changes):
    return check_response(answer(**changes), KEY, protocols, deflate)


class TestAnswer:
    def test_the_right_one_is_accepted(self):
        assert check() == Agreement(protocol=None, deflate=None)

    @pytest.mark.parametrize("code", [100, 200, 301, 401, 403, 404, 426, 500, 503])
    def test_row_1_another_status(self, code):
        with pytest.raises(HandshakeError, match=rf"^upgrade refused: {code}"):
            check(first=f"HTTP/1.1 {code} Something")

    @pytest.mark.parametrize("first", ["HTTP/1.1 abc", "HTTP/1.1", "ICY 101 OK", "HTTP/1.1 1010 X"])
    def test_row_1_no_status(self, first):
        with pytest.raises(HandshakeError, match=f"^not a valid HTTP status line: b'{first}'$"):
            check(first=first)

    @pytest.mark.parametrize("value", ["h2c", "websockets", "web socket", "websocket/13"])
    def test_row_2_another_upgrade(self, value):
        with pytest.raises(HandshakeError, match=f"^Can't upgrade to {value}$"):
            check(Upgrade=value)

    def test_row_2_no_upgrade(self):
        with pytest.raises(HandshakeError, match=r"^Can't upgrade to <header missing>$"):
            check(Upgrade=None)

    def test_row_3_no_accept(self):
        with pytest.raises(HandshakeError, match=r"^No Sec-WebSocket-Accept header$"):
            check(Sec_WebSocket_Accept=None)

    @pytest.mark.parametrize(
        "value",
        ["", "x", ACCEPT.lower(), ACCEPT.upper(), ACCEPT[:-1], f"{ACCEPT},{ACCEPT}", [ACCEPT, ACCEPT], KEY],
    )
    def test_row_4_a_wrong_accept(self, value):
        """Q8: Lomond compares without case; and it must be there once."""
        with pytest.raises(HandshakeError, match=r"^Sec-WebSocket-Accept challenge failed$"):
            check(Sec_WebSocket_Accept=value)

    def test_row_5_wrong_window_bits(self):
        with pytest.raises(CompressionParameterError, match=r"^client_max_window_bits is not an integer$"):
            check(deflate=Deflate(), Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits=x")
        with pytest.raises(CompressionParameterError, match=r"^server_max_window_bits=16 is invalid$"):
            check(deflate=Deflate(), Sec_WebSocket_Extensions="permessage-deflate; server_max_window_bits=16")

    def test_the_first_failure_wins(self):
        with pytest.raises(HandshakeError, match="refused: 500 X"):
            check(first="HTTP/1.1 500 X", Upgrade=None, Sec_WebSocket_Accept=None)

    @pytest.mark.parametrize("version", ["1.0", "0.9"])
    def test_an_older_http_cannot_upgrade(self, version):
        with pytest.raises(HandshakeError, match=f"HTTP/{version} cannot upgrade"):
            check(first=f"HTTP/{version} 101 Switching Protocols")

    @pytest.mark.parametrize(
        "value", ["WebSocket", "WEBSOCKET", "foo, websocket", "websocket , foo", ["foo", "websocket"]]
    )
    def test_upgrade_is_a_list_without_case(self, value):
        """Q8."""
        check(Upgrade=value)

    @pytest.mark.parametrize(
        "value", ["upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,close", ["keep-alive", "upgrade"]]
    )
    def test_connection_is_a_list_without_case(self, value):
        """Q8."""
        check(Connection=value)

    @pytest.mark.parametrize("value", [None, "", "keep-alive", "upgraded", "keep-alive upgrade"])
    def test_connection_must_name_upgrade(self, value):
        with pytest.raises(HandshakeError, match=r"^Connection header without the token Upgrade$"):
            check(Connection=value)

    def test_a_subprotocol_that_was_offered_is_taken(self):
        assert check(["a", "b"], Sec_WebSocket_Protocol="b").protocol == "b"
        assert check(["a", "b"]).protocol is None

    @pytest.mark.parametrize("value", ["c", "A", "a, b", "a,b", ""])
    @pytest.mark.parametrize("protocols", [[], ["a", "b"]])
    def test_another_subprotocol_is_refused(self, protocols, value):
        """Q8."""
        with pytest.raises(HandshakeError, match="was not offered"):
            check(protocols, Sec_WebSocket_Protocol=value)

    def test_two_subprotocols_are_refused(self):
        with pytest.raises(HandshakeError, match=r"^More than one Sec-WebSocket-Protocol header$"):
            check(["a", "b"], Sec_WebSocket_Protocol=["a", "b"])

    def test_deflate_that_was_offered_is_taken(self):
        value = "permessage-deflate; client_max_window_bits=9"
        agreed = check(deflate=Deflate(), Sec_WebSocket_Extensions=value)
        assert agreed.deflate == DeflateParameters(client_max_window_bits=9)

    def test_an_extension_that_was_not_offered_is_refused(self):
        """Q8."""
        with pytest.raises(HandshakeError, match="was not offered"):
            check(Sec_WebSocket_Extensions="permessage-deflate")

    def test_extensions_on_several_lines_count_together(self):
        with pytest.raises(HandshakeError, match="More than one extension"):
            check(deflate=Deflate(), Sec_WebSocket_Extensions=["permessage-deflate", "permessage-deflate"])


HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def parsed(chunks):
    parser = HeadParser()
    for chunk in chunks:
        parser.feed(chunk)
    return parser.head, parser.surplus


class TestHeadParser:
    @pytest.mark.parametrize("rest", [b"", b"\x81\x02hi", b"\r\n\r\n"])
    @pytest.mark.parametrize(
        "interim", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n" * 3]
    )
    def test_any_split_gives_the_same_head_and_rest(self, rest, interim):
        stream = interim + HEAD + rest
        assert parsed([stream]) == (HEAD, rest)
        assert parsed(stream[i : i + 1] for i in range(len(stream))) == (HEAD, rest)
        for cut in range(len(stream)):
            assert parsed([stream[:cut], stream[cut:]]) == (HEAD, rest)

    @fault("opening", "The response head ends its lines with LF alone")
    @pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n", b"\r\n\n"])
    def test_lines_may_end_in_a_lone_line_feed(self, end):
        """RFC 9112 section 2.2."""
        head = HEAD.replace(b"\r\n", b"\n")[:-2] + end
        for stream in (head + b"\x81\x02hi", b"HTTP/1.1 100 Continue\n\n" + head + b"\x81\x02hi"):
            assert parsed([stream]) == (head, b"\x81\x02hi")
            assert parsed(stream[i : i + 1] for i in range(len(stream))) == (head, b"\x81\x02hi")

    def test_what_is_unfinished_can_be_shown(self):
        parser = HeadParser()
        parser.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forb")
        assert parser.unfinished == b"HTTP/1.1 403 Forb"
        parser.feed(b"idden\r\n\r\nrest")
        assert (parser.unfinished, parser.surplus) == (b"", b"rest")

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_data_may_be_any_kind_of_bytes(self, kind):
        assert parsed([kind(HEAD + b"a"), kind(b"b")]) == (HEAD, b"ab")

    def test_an_incomplete_head_is_none(self):
        assert parsed([HEAD[:-1]]) == (None, b"")
        assert parsed([]) == (None, b"")

    @pytest.mark.parametrize(
        "stream", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x02\x01", b"hTTP/1.1 101", b"HTTP/2", b"HTTPS", b"\r\n"]
    )
    def test_what_is_no_http_is_refused_at_once(self, stream):
        with pytest.raises(HandshakeError, match="not an HTTP response"):
            parsed([stream])
        with pytest.raises(HandshakeError, match="not an HTTP response"):
            parsed(stream[i : i + 1] for i in range(len(stream)))

    @pytest.mark.parametrize(
        ("stream", "text"),
        [
            (b"\x15\x03\x03\0\2\2\x46", "the server speaks TLS on this port"),
            (b"\x16\x03\x01\0\x40", "the server speaks TLS on this port"),
            (b"\0\0\x12\4\0\0\0\0\0\0\3", "the server speaks HTTP/2 on this port"),
        ],
    )
    def test_other_protocols_are_named(self, stream, text):
        with pytest.raises(HandshakeError, match=f"^{text}$") as caught:
            parsed([stream])
        assert caught.value.advice

    def test_behind_an_interim_response_it_must_be_http_again(self):
        with pytest.raises(HandshakeError, match="not an HTTP response"):
            parsed([b"HTTP/1.1 100 Continue\r\n\r\n", b"junk"])

    @pytest.mark.parametrize("step", [1 << 20, 1000])
    def test_a_head_of_16_kib_passes_and_one_byte_more_is_refused(self, step):
        def head(size):
            start, end = b"HTTP/1.1 101 X\r\nA: ", b"\r\n\r\n"
            return start + b"x" * (size - len(start) - len(end)) + end

        def steps(stream):
            return (stream[i : i + step] for i in range(0, len(stream), step))

        largest = head(16 * 1024)
        assert parsed(steps(largest + b"rest" * 10_000)) == (largest, b"rest" * 10_000)
        with pytest.raises(HandshakeError, match=r"^response head is over 16 KiB$"):
            parsed(steps(head(16 * 1024 + 1)))

    def test_an_endless_head_is_refused(self):
        with pytest.raises(HandshakeError, match="over 16 KiB"):
            parsed([b"HTTP/1.1 101 X\r\n"] + [b"X-Header: value\r\n"] * 10_000)

    def test_endless_interim_responses_are_refused(self):
        with pytest.raises(HandshakeError, match="over 16 KiB"):
            parsed([b"HTTP/1.1 102 Processing\r\n\r\n"] * 1000)
        with pytest.raises(HandshakeError, match="over 16 KiB"):
            parsed([b"HTTP/1.1 102 Processing\r\n\r\n" * 1000])

    @given(stream=st.binary(max_size=100), cut=st.integers(0, 100))
    def test_noise_is_refused_or_waited_for(self, stream, cut):
        for chunks in ([stream], [stream[:cut], stream[cut:]]):
            try:
                assert parsed(chunks) == (None, b"")
            except HandshakeError:
                assert not b"HTTP/1.".startswith(stream[:7])


def test_an_interim_response_without_a_reason_and_with_bare_lf_is_skipped():
    parser = HeadParser()
    parser.feed(b"HTTP/1.1 103\n\nHTTP/1.1 101 X\nUpgrade: websocket\n\nmore")
    assert parser.head == b"HTTP/1.1 101 X\nUpgrade: websocket\n\n"
    assert parser.surplus == b"more"
