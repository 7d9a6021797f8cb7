"""The table of states: every state with every step (contract Q14)."""

from __future__ import annotations

import pytest

from lochws import State, errors
from lochws.life.state import Step, after

#: What is possible, and where it leads. Written a second time on purpose: the code must agree with it.
POSSIBLE = {
    "new": {"start": "connecting"},
    "connecting": {"opened": "open", "ended": "disconnected", "finish": "stopped"},
    "open": {"ended": "disconnected"},
    "closing": {},  # a view of open: whether our Close frame is out, the connection itself knows
    "disconnected": {"wait": "backing off", "again": "connecting", "finish": "stopped"},
    "backing off": {"due": "connecting", "finish": "stopped"},
    "stopped": {"start": "connecting"},
}
PAIRS = [(state, step) for state in State for step in Step]


@pytest.mark.parametrize(("state", "step"), PAIRS, ids=lambda member: member.value)
def test_every_step_in_every_state(state: State, step: Step) -> None:
    expected = POSSIBLE[state.value].get(step.value)
    if expected is not None:
        assert after(state, step) is State(expected)
        return
    with pytest.raises(errors.WebSocketError) as caught:
        after(state, step)
    says = {"new": "has not been started", "stopped": "has stopped"}.get(state.value, f"is {state.value}")
    assert str(caught.value) == (
        "already started" if step is Step.START else f"cannot {step.value}: the WebSocket {says}"
    )


def test_every_state_can_be_reached_and_left() -> None:
    reached = {name for steps in POSSIBLE.values() for name in steps.values()}
    assert reached | {"new", "closing"} == {state.value for state in State}
    assert [name for name, steps in POSSIBLE.items() if not steps] == ["closing"]
