"""Close codes (RFC 6455 section 7.4), under Lomond's names."""

from __future__ import annotations


class _InvalidCodes:
    """The attribute `invalid_codes`, computed when it is first read, because it has thousands of entries."""

    def __get__(self, instance: object, owner: type[Status]) -> frozenset[int]:
        codes = frozenset(code for code in range(5000) if not owner.is_valid(code))
        Status.invalid_codes = codes
        return codes


class Status:
    """The close codes that applications encounter, as plain integers.

    Attributes:
        NORMAL: 1000, the connection has served its purpose.
        GOING_AWAY: 1001, the server shuts down, or the client leaves.
        PROTOCOL_ERROR: 1002, the other side violated the protocol.
        DATA_NOT_UNDERSTOOD: 1003, a message has a type that is not accepted, such as binary.
        BAD_DATA: 1007, a message is not consistent with its type, such as text that is not valid UTF-8.
        POLICY_VIOLATION: 1008, a message violates the policy of its receiver.
        MESSAGE_TOO_LARGE: 1009, a message is too large for its receiver.
        EXTENSION_FAILED: 1010, the client needs an extension that the server did not agree to.
        UNEXPECTED_CONDITION: 1011, the server cannot continue because of an unexpected condition.
        invalid_codes: codes below 5000 that a Close frame must not contain. All codes from 5000 up are
            invalid, too.
    """

    NORMAL = 1000
    """1000, the connection has served its purpose."""
    GOING_AWAY = 1001
    """1001, the server shuts down, or the client leaves."""
    PROTOCOL_ERROR = 1002
    """1002, the other side violated the protocol."""
    DATA_NOT_UNDERSTOOD = 1003
    """1003, a message has a type that is not accepted, such as binary."""
    BAD_DATA = 1007
    """1007, a message is not consistent with its type, such as text that is not valid UTF-8."""
    POLICY_VIOLATION = 1008
    """1008, a message violates the policy of its receiver."""
    MESSAGE_TOO_LARGE = 1009
    """1009, a message is too large for its receiver."""
    EXTENSION_FAILED = 1010
    """1010, the client needs an extension that the server did not agree to."""
    UNEXPECTED_CONDITION = 1011
    """1011, the server cannot continue because of an unexpected condition."""

    invalid_codes: frozenset[int] = _InvalidCodes()  # type: ignore[assignment]  # it becomes one
    """Codes below 5000 that a Close frame must not contain. All codes from 5000 up are invalid, too."""

    @classmethod
    def is_valid(cls, code: int) -> bool:
        """Return whether a Close frame may contain `code`.

        RFC 6455 section 7.4 allows 1000 to 1003 and 1007 to 1011, and leaves 3000 to 4999 to libraries
        and applications; IANA's registry has added 1012, 1013 and 1014.
        """
        return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code < 5000
