"""The exceptions: Lomond's names in Lomond's hierarchy (contract section 11)."""

from __future__ import annotations

import pickle

import pytest

from lochws import Status, errors
from lochws.handlers.jsonrpc import RpcError

PARENTS = {
    "FrameBuildError": "WebSocketError",
    "HandshakeError": "WebSocketError",
    "CompressionParameterError": "HandshakeError",
    "ProtocolError": "WebSocketError",
    "PayloadTooLarge": "ProtocolError",
    "CriticalProtocolError": "WebSocketError",
    "ConnectFail": "WebSocketError",
    "TransportFail": "WebSocketError",
    "QueueFull": "WebSocketError",  # ours
    "WaitFailed": "WebSocketError",  # ours
    "ConnectionFailed": "WebSocketError",  # ours
    "WebSocketUnavailable": "WebSocketError",
    "WebSocketClosing": "WebSocketUnavailable",
    "WebSocketClosed": "WebSocketUnavailable",
}


@pytest.mark.parametrize(("name", "parent"), PARENTS.items())
def test_each_error_has_its_place(name: str, parent: str) -> None:
    assert getattr(errors, name).__bases__ == (getattr(errors, parent),)


def test_there_are_no_others() -> None:
    classes = {
        name for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, Exception)
    }
    assert classes == {*PARENTS, "WebSocketError"}
    assert errors.WebSocketError.__bases__ == (Exception,)


def test_text_with_braces_and_no_arguments_stays_as_it_is() -> None:
    """Contract Q44: text from elsewhere is never formatted."""
    assert str(errors.TransportFail("bad {thing} {} {0}")) == "bad {thing} {} {0}"


def test_text_with_arguments_is_formatted_as_lomond_does() -> None:
    assert str(errors.WebSocketError("{} of {what}", 1, what="{2}")) == "1 of {2}"


@pytest.mark.parametrize(
    "error",
    [
        errors.WebSocketError("{} of 2", 1),
        errors.ProtocolError("not {this}", close_code=1010),
        errors.ConnectFail("no {luck}", phase="tcp", address="127.0.0.1:1", advice="Wait."),
        RpcError(-32601, "no such method", {"name": "x"}),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_may_be_sent_to_another_process(error: Exception, protocol: int) -> None:
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ProtocolError("x"), Status.PROTOCOL_ERROR),
        (errors.PayloadTooLarge("x"), Status.MESSAGE_TOO_LARGE),
        (errors.CriticalProtocolError("x"), Status.BAD_DATA),
        (errors.ProtocolError("x", close_code=1010), Status.EXTENSION_FAILED),
        (errors.CriticalProtocolError("x", close_code=1002), Status.PROTOCOL_ERROR),
    ],
)
def test_a_broken_rule_knows_its_close_code(error: errors.ProtocolError, code: int) -> None:
    assert error.close_code == code


def test_a_connect_fail_says_phase_and_address() -> None:
    error = errors.ConnectFail("no {luck}", phase="tcp", address="192.0.2.1:80")
    assert (str(error), error.phase, error.address) == ("no {luck}", "tcp", "192.0.2.1:80")


class TestStatus:
    """The close codes (contract section 11; RFC 6455 section 7.4)."""

    def test_the_names_and_numbers_are_lomonds(self) -> None:
        assert {name: value for name, value in vars(Status).items() if name.isupper()} == {
            "NORMAL": 1000,
            "GOING_AWAY": 1001,
            "PROTOCOL_ERROR": 1002,
            "DATA_NOT_UNDERSTOOD": 1003,
            "BAD_DATA": 1007,
            "POLICY_VIOLATION": 1008,
            "MESSAGE_TOO_LARGE": 1009,
            "EXTENSION_FAILED": 1010,
            "UNEXPECTED_CONDITION": 1011,
        }

    def test_1014_is_valid_since_iana_registered_it(self) -> None:
        assert Status.is_valid(1014)
        assert 1014 not in Status.invalid_codes

    def test_the_set_of_invalid_codes_agrees(self) -> None:
        assert Status.invalid_codes == {code for code in range(5000) if not Status.is_valid(code)}
        assert Status.invalid_codes is Status().invalid_codes
        assert {999, 1004, 1006, 1015, 2999}.isdisjoint(map(int, filter(Status.is_valid, range(6000))))
        assert not Status.is_valid(-1)

    def test_5000_and_more_are_invalid(self) -> None:
        assert Status.is_valid(4999)
        assert not Status.is_valid(5000)
        assert not Status.is_valid(65535)

    def test_every_other_number_as_the_rfc_has_it(self) -> None:
        valid = {code for code in range(-1, 70000) if Status.is_valid(code)}
        assert valid == {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
