"""Close codes (RFC 6455 section 7.4), under Lomond's names."""

from __future__ import annotations


class Status:
    """The close codes that applications encounter, as plain integers."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    DATA_NOT_UNDERSTOOD = 1003
    BAD_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_LARGE = 1009
    EXTENSION_FAILED = 1010
    UNEXPECTED_CONDITION = 1011

    #: Codes below 5000 that a Close frame must not contain. All codes from 5000 up are invalid, too.
    invalid_codes: frozenset[int] = frozenset({*range(1000), 1004, 1005, 1006, *range(1015, 3000)})

    @classmethod
    def is_valid(cls, code: int) -> bool:
        """Return whether a Close frame may contain `code`.

        RFC 6455 section 7.4 allows 1000 to 1003 and 1007 to 1011, and leaves 3000 to 4999 to libraries
        and applications; IANA's registry has added 1012, 1013 and 1014.
        """
        return code < 5000 and code not in cls.invalid_codes and code >= 0
