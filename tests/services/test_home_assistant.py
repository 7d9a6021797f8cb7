"""examples/home_assistant.py, and a hub that speaks the protocol of Home Assistant."""

from __future__ import annotations

import pytest

from ..examples.running import load
from .service import HERE, PATIENCE, Service, example, service_program

pytestmark = pytest.mark.timeout(3 * PATIENCE)


@pytest.fixture
def hub() -> Service:
    """A hub, which has not been started."""
    return Service([service_program("python"), str(HERE / "hub.py"), "$port"])


def test_a_lamp_is_switched_and_its_state_is_followed_over_a_restart(hub: Service) -> None:
    url = f"ws://127.0.0.1:{hub.port}/api/websocket"
    with hub, example("home_assistant.py", url, "secret", "switch.lamp") as program:
        for state in ("on", "off", "on"):
            program.say("")
            program.wait_for(f"^switch.lamp {state}$")
            program.wait_for("^done$")
        hub.kill()
        hub.start()
        program.say("")
        program.wait_for("^switch.lamp on$")  # the new hub begins with a lamp that is off
        assert program.end() == 0


def test_a_wrong_token_is_not_tried_again(hub: Service) -> None:
    with hub, load("home_assistant.py").HomeAssistant(f"ws://127.0.0.1:{hub.port}/", "wrong") as home:
        assert home.wait_closed(PATIENCE)
        assert home.counters.connections == 1


def test_a_refused_request_raises_the_words_of_the_hub(hub: Service) -> None:
    with hub, load("home_assistant.py").HomeAssistant(f"ws://127.0.0.1:{hub.port}/", "secret") as home:
        assert home.wait_ready(PATIENCE)
        with pytest.raises(RuntimeError, match="Unknown command"):
            home.toggle("light.none").result()
