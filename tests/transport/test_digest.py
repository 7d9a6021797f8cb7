"""Digest authentication: correct answers, and challenges that cannot be answered."""

from __future__ import annotations

import hashlib
import re

import pytest

from lochws.transport.proxies.digest import digest_answer

ME = ("Mufasa", "Circle of Life")


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def parts(answer: str) -> dict[str, str]:
    scheme, _, rest = answer.partition(" ")
    assert scheme == "Digest"
    return {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,]*))', rest)}


@pytest.mark.parametrize("qop", ["auth", '"auth"', '"auth,auth-int"', '"auth, auth-int"', '"auth-int, auth"'])
def test_with_qop_the_answer_is_that_of_rfc_7616(qop: str) -> None:
    challenge = f'Digest realm="atrium", nonce="abc=", qop={qop}, opaque="xyz", algorithm=MD5'
    answer = parts(digest_answer(challenge, "CONNECT", "target.example:443", ME))
    ha1, ha2 = md5("Mufasa:atrium:Circle of Life"), md5("CONNECT:target.example:443")
    expected = md5(f"{ha1}:abc=:{answer['nc']}:{answer['cnonce']}:auth:{ha2}")
    assert answer["response"] == expected
    assert answer["uri"] == "target.example:443"
    assert (answer["username"], answer["realm"]) == ("Mufasa", "atrium")
    assert (answer["opaque"], answer["qop"]) == ("xyz", "auth")


def test_without_qop_it_is_that_of_rfc_2069() -> None:
    answer = parts(digest_answer('digest realm="a, b", nonce="n"', "CONNECT", "t:80", ME))
    assert answer["response"] == md5(f"{md5('Mufasa:a, b:Circle of Life')}:n:{md5('CONNECT:t:80')}")


@pytest.mark.parametrize(("algorithm", "name"), [("MD5", "md5"), ("SHA", "sha1"), ("SHA-256", "sha256")])
def test_a_realm_beyond_ascii_is_hashed_and_sent_back_as_its_bytes(algorithm: str, name: str) -> None:
    realm = "caf\u00e9".encode()
    challenge = f'Digest realm="{realm.decode("latin-1")}", nonce="n", algorithm={algorithm}'
    answer = parts(digest_answer(challenge, "CONNECT", "t:80", ME))

    def digest(data: bytes) -> bytes:
        return hashlib.new(name, data).hexdigest().encode()

    first = digest(b"Mufasa:" + realm + b":Circle of Life")
    assert answer["response"].encode() == digest(first + b":n:" + digest(b"CONNECT:t:80"))
    assert answer["realm"].encode("latin-1") == realm


def test_the_password_is_not_in_it() -> None:
    assert "Circle" not in digest_answer('Digest realm="a", nonce="n", qop="auth"', "CONNECT", "t:80", ME)


@pytest.mark.parametrize(
    ("challenge", "text"),
    [
        ('Digest realm="a"', "lacks realm or nonce"),
        ('Digest nonce="n"', "lacks realm or nonce"),
        ("Digest ", "lacks realm or nonce"),
        ('Digest realm="a", nonce="n", algorithm=SHA-512-256', "cannot be answered: unsupported algorithm"),
        ('Digest realm="a", nonce="n", qop="auth-int"', "cannot be answered: qop 'auth-int' is not"),
        ("Digest realm", "cannot be answered"),
        ('Digest realm="a\nX: y", nonce="n"', "control characters"),
    ],
)
def test_a_challenge_that_cannot_be_answered_says_why(challenge: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        digest_answer(challenge, "CONNECT", "t:80", ME)
    assert "Circle" not in str(caught.value)


@pytest.mark.parametrize("me", [("m\u00e9", "x"), ("me", "\u00e9"), ('m"e', "x"), ("m\\e", "x")])
def test_credentials_that_cannot_be_expressed_are_refused(me: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="Digest needs a user name and password in ASCII"):
        digest_answer('Digest realm="a", nonce="n"', "CONNECT", "t:80", me)
