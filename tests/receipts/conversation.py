"""A conversation over a link that is cut, and the comparison of its receipts with the server's list."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from lochws import Receipt, ReceiptState, WebSocketApp, events
from lochws.errors import WebSocketError

from ..support.seen import PATIENCE
from .servers import Certificate, Cutter, Record


class Result(NamedTuple):
    """The result of one conversation.

    Attributes:
        states: how many receipts ended in each state.
        relayed: how many bytes the relay passed on, to the server and to the client.
    """

    states: Counter[str]
    relayed: list[int]


def converse(
    record: Record, port: int, *, upstream: int | None = None, downstream: int | None = None,
    is_reset: bool = False, tls: Certificate | None = None,
) -> Result:
    """Send some messages, with and without receipts, over a link that is cut, and check what is reported.

    Raises:
        AssertionError: a confirmed message is not in the server's list, or an unsent one is.
    """
    cutter = Cutter(port, upstream, downstream, is_reset)
    if tls is None:
        app = WebSocketApp(f"ws://127.0.0.1:{cutter.port}")
    else:
        app = WebSocketApp(f"wss://localhost:{cutter.port}", ssl_cafile=tls.authority)
    ended: list[events.Disconnected] = []
    app.on(events.Disconnected)(ended.append)
    accepted: list[str] = []
    receipts: list[tuple[Receipt, list[str]]] = []

    def send(*texts: str, receipt: bool) -> None:
        try:
            result = app.send_many(texts, receipt=receipt)
        except WebSocketError:
            return  # the link is lost already, and so nothing is accepted
        accepted.extend(texts)
        if isinstance(result, Receipt):
            receipts.append((result, list(texts)))

    app.start(persist=False, ping_rate=0)
    try:
        assert app.wait_ready(PATIENCE)
        cutter.begin()
        send("first", receipt=True)
        send("second", receipt=False)
        send("third", "fourth", "fifth " + "x" * 150, receipt=True)
        for receipt, _ in receipts[:1]:
            receipt.result(PATIENCE)
        send("sixth", receipt=False)
        send("seventh", receipt=True)
        app.close()
        states = [(receipt.result(PATIENCE), texts) for receipt, texts in receipts]
    finally:
        assert app.stop(PATIENCE)
        cutter.join()
    read = record.connection()
    [end] = ended
    about = f"cut at {cutter.relayed}: read {read}, states {states}, unsent {end.unsent}, {end.in_doubt=}"
    for state, texts in states:
        if state is ReceiptState.CONFIRMED:
            assert set(texts) <= set(read), about
        elif state is ReceiptState.UNSENT:
            assert not set(texts) & set(read), about
    unsent, in_doubt = list(map(str, end.unsent)), list(map(str, end.in_doubt))
    assert not set(unsent) & set(read), about
    proven = accepted[: len(accepted) - len(unsent) - len(in_doubt)]
    assert [*proven, *in_doubt, *unsent] == accepted, about
    assert read[: len(proven)] == proven, about
    assert read == accepted[: len(read)], about
    return Result(Counter(str(state) for state, _ in states), cutter.relayed)
