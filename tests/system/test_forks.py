"""The registry of objects that are reset in the child of a fork."""

from __future__ import annotations

from lochws.system.forks import _Living


class Known:
    def reset_after_fork(self) -> None:
        """Do nothing: it is not called here."""


def test_what_lives_is_known_and_what_has_ended_takes_no_room() -> None:
    living = _Living()
    kept = [Known() for _ in range(10)]
    for owner in kept:
        living.add(owner)
    for _ in range(1000):
        living.add(Known())
    assert {id(owner) for owner in living.all()} >= {id(owner) for owner in kept}
    assert len(living._known) <= 65


def test_however_many_live_all_are_known() -> None:
    living = _Living()
    kept = [Known() for _ in range(500)]
    for owner in kept:
        living.add(owner)
    assert living.all() == kept
