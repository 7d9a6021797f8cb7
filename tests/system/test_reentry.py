"""Which calls interrupt lochws on their own thread."""

from __future__ import annotations

from lochws.dispatch.arguments import refusing_unknown
from lochws.system.reentry import interrupts_lochws


@refusing_unknown(is_app=True)
def method() -> bool:
    return interrupts_lochws()


def test_a_public_method_that_checks_its_arguments_interrupts_nothing() -> None:
    assert not method()
