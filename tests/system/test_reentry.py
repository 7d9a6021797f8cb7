"""Which calls interrupt lochws on their own thread."""

from __future__ import annotations

from lochws import WebSocketApp, events
from lochws.dispatch import registry
from lochws.dispatch.arguments import refusing_unknown
from lochws.system.reentry import interrupts_lochws, is_nested

from ..support.interrupting import enter_everywhere


@refusing_unknown(is_app=True)
def method() -> bool:
    return interrupts_lochws()


def test_a_public_method_that_checks_its_arguments_interrupts_nothing() -> None:
    assert not method()


def test_a_handler_is_not_nested_and_a_finalizer_in_a_registration_is() -> None:
    """Handlers run without locks; a registration is made under the control lock."""
    app = WebSocketApp("ws://127.0.0.1:1/")
    seen: list[bool] = []
    assert not is_nested()
    app.on("text")(lambda _: seen.append(is_nested()))
    app._lochws.registry.dispatch_all([events.Text("x")])
    enter_everywhere(lambda: app.on("text")(print), 1, {registry.__file__}, lambda: seen.append(is_nested()))
    assert seen[0] is False
    assert all(seen[1:])
    assert len(seen) > 10
