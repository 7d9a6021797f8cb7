"""HTTP responses, parsed: any bytes make a Response (RFC 9112)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.response import Response

HEAD = (
    b"HTTP/1.1 403 Not For You\r\n"
    b"Content-Type: text/plain\r\n"
    b"X-List: a, b\r\n"
    b"X-LIST:c\r\n"
    b"Folded: one\r\n\t two\r\n"
    b"Empty:\r\n"
    b"\r\n"
)


def test_the_attributes_are_those_of_lomond() -> None:
    response = Response(HEAD)
    assert response.raw == HEAD
    assert response.http_ver == "HTTP/1.1"
    assert response.status_code == 403
    assert response.status == "Not For You"
    assert response.body == b""
    assert response.headers == {
        "content-type": "text/plain", "x-list": "a, b,c", "folded": "one two", "empty": "",
    }


def test_get_ignores_case_and_has_a_default() -> None:
    response = Response(HEAD)
    assert response.get("CONTENT-type") == "text/plain"
    assert response.get("absent") is None
    assert response.get("absent", "other") == "other"
    assert response.get(b"CONTENT-type") == "text/plain"
    assert response.get_list(b"X-List") == ["a", "b", "c"]


def test_get_list_splits_at_commas_and_strips() -> None:
    response = Response(HEAD)
    assert response.get_list("x-list") == ["a", "b", "c"]
    assert response.get_list("absent") == []


def test_get_list_leaves_out_empty_elements() -> None:
    """RFC 9110 section 5.6.1.2."""
    assert Response(b"HTTP/1.1 200 OK\r\nX: a,, b ,\r\n\r\n").get_list("x") == ["a", "b"]


def test_repetitions_stay_visible_in_order() -> None:
    assert Response(HEAD).header_list[1:3] == [("x-list", "a, b"), ("x-list", "c")]


def test_the_body_is_kept_with_it() -> None:
    assert Response(HEAD, b"go away").body == b"go away"


def test_the_repr_is_one_short_line() -> None:
    assert repr(Response(HEAD)) == "<response HTTP/1.1 403 Not For You>"


@pytest.mark.parametrize("line", [b"", b"SSH-2.0-x", b"HTTP/1.1", b"HTTP/1.1 abc no", b"HTTP/1.1 2000 ok"])
def test_a_first_line_that_is_not_a_status_line_gives_no_status(line: bytes) -> None:
    response = Response(line + b"\r\nServer: x\r\n\r\n")
    assert (response.http_ver, response.status_code, response.status) == ("", None, "")
    assert response.get("server") == "x"


def test_the_reason_phrase_may_be_missing() -> None:
    assert Response(b"HTTP/1.1 101\r\n\r\n").status_code == 101
    assert Response(b"HTTP/1.1 101 \r\n\r\n").status == ""


@pytest.mark.parametrize("value", ["caf\xe9".encode(), b"caf\xe9"])
def test_bytes_beyond_ascii_are_read_as_utf_8_or_latin_1_and_survive(value: bytes) -> None:
    response = Response(b"HTTP/1.1 200 Caf" + value[3:] + b"\r\nName: " + value + b"\r\n\r\n")
    assert (response.status, response.get("name")) == ("Caf\xe9", "caf\xe9")
    assert response.header_list == [("name", value.decode("latin-1"))]


def test_lines_may_end_in_a_lone_line_feed() -> None:
    """RFC 9112 section 2.2."""
    response = Response(HEAD.replace(b"\r\n", b"\n"))
    assert (response.status_code, response.status) == (403, "Not For You")
    assert response.headers == Response(HEAD).headers


def test_several_locations_are_not_joined() -> None:
    response = Response(b"HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\n\r\n")
    assert response.get("location") == "/a"
    assert response.header_list == [("location", "/a"), ("location", "/b")]


@pytest.mark.parametrize("control", [b"\0", b"\x08", b"\r", b"\x0b", b"\x1b", b"\x7f"])
def test_control_characters_are_spaces_in_texts(control: bytes) -> None:
    response = Response(b"HTTP/1.1 503 Very%bBusy\r\nName: a%bb\r\n\r\n" % (control, control))
    assert (response.status_code, response.status, response.get("name")) == (503, "Very Busy", "a b")
    assert response.header_list == [("name", f"a{control.decode()}b")]
    assert response.raw.count(control) > 1


def test_a_charset_that_would_take_seconds_is_not_used() -> None:
    for charset in ("punycode", "PunyCode", "idna"):
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset={charset}\r\n\r\n"
        assert Response(head.encode(), b"-ab-ab").text == "-ab-ab"


@given(st.binary(max_size=200))
def test_any_bytes_make_a_response(data: bytes) -> None:
    response = Response(data)
    assert response.raw == data
    assert isinstance(repr(response), str)
    assert response.get_list("any") == []


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_any_header_lines_make_a_response(lines: list[bytes]) -> None:
    response = Response(b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""]))
    assert response.status_code == 200
    assert set(response.headers) == {name for name, _ in response.header_list}
