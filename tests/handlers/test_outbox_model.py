"""Outbox against a model: random puts, cuts and restarts, and the messages that the server sees."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lochws import WebSocketApp
from lochws.handlers.outbox import Outbox, OutboxMessage

from ..support.peer import Peer
from ..support.seen import PATIENCE
from .acking import Acking, Plan, acked, reconnecting

PLANS = st.lists(
    st.builds(
        Plan, reads=st.integers(0, 8), acks=st.integers(0, 8), pongs=st.booleans(), patience=st.just(0.05)
    ), max_size=6,
)
#: Put that many messages at once, or one that replaces others, or reconnect, or begin with a new Outbox.
OPERATIONS = st.lists(
    st.one_of(st.integers(1, 6), st.sampled_from(["key a", "key b", "reconnect", "restart"])), max_size=25
)


@settings(max_examples=30, deadline=None)
@given(PLANS, OPERATIONS, st.booleans(), st.booleans(), st.sampled_from([1, 3, 100]))
def test_what_counts_as_confirmed_was_seen_and_nothing_is_missing(
    plans: list[Plan], operations: list[Any], in_file: bool, tells: bool, window: int
) -> None:
    server = Acking(*plans)
    told: list[OutboxMessage] = []
    options: dict[str, Any] = {"confirm": acked, "id_field": "id", "window": window, "timeout": None}
    if tells:
        options |= {"in_doubt": "tell", "on_in_doubt": told.append}
    put: list[str] = []
    replaceable: set[str] = set()
    confirmed = superseded = 0
    with tempfile.TemporaryDirectory() as folder, Peer(server) as peer:
        app = WebSocketApp(peer.url)
        path = Path(folder) / "box" if in_file else None
        outbox = Outbox(app, path, **options)
        with reconnecting(app):
            for operation in operations:
                if isinstance(operation, int):
                    first = len(put)
                    put += outbox.put_many([{"n": first + number} for number in range(operation)])
                elif operation == "reconnect":
                    app.reconnect()
                elif operation.startswith("key"):
                    put.append(outbox.put({"n": len(put)}, supersede=operation))
                    replaceable.add(put[-1])
                elif in_file:
                    outbox.close()
                    confirmed += outbox.counts.confirmed
                    superseded += outbox.counts.superseded
                    outbox = Outbox(app, path, **options)
            assert outbox.flush(PATIENCE), (outbox.counts, list(outbox))
            confirmed += outbox.counts.confirmed
            superseded += outbox.counts.superseded
            outbox.close()
    seen = [message["id"] for message in server.seen]
    gone = {message.id for message in told}
    assert set(seen) <= set(put)
    assert set(put) - replaceable <= set(seen) | gone, "a message is missing"
    assert confirmed <= len(set(seen)), "a message counts as confirmed that did not arrive"
    assert superseded <= len(replaceable)
    first = [put.index(one) for one in dict.fromkeys(seen)]
    assert first == sorted(first), "messages have overtaken others"
    if tells:
        assert len(seen) == len(set(seen)), "a message in doubt was sent again"
