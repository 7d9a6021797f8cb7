"""The short form of `python -m tests.receipts`; and proxies in front of a server that stands still."""

from __future__ import annotations

import signal

import pytest

from lochws import ReceiptState, WebSocketApp

from ..peers.programs import Programs
from ..support.apps import opened
from ..support.seen import PATIENCE, eventually
from .conversation import converse
from .servers import PROXIES, SERVERS, Record, certificate, node


@pytest.mark.parametrize("is_reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    ("server", "is_tls"), [("wsproto", False), ("websockets", False), ("websockets", True)],
    ids=["wsproto", "websockets", "TLS"],
)
def test_receipts_agree_with_the_servers_list_wherever_the_link_is_cut(
    server: str, is_tls: bool, is_reset: bool
) -> None:
    record = Record()
    with certificate() as made:
        tls = made if is_tls else None
        with SERVERS[server](record, tls) as port:
            whole = converse(record, port, tls=tls)
            assert set(whole.states) == {"confirmed"}
            for upstream in range(0, whole.relayed[0] + 1, 83):
                converse(record, port, upstream=upstream, is_reset=is_reset, tls=tls)
            for downstream in range(0, whole.relayed[1] + 1, 31):
                converse(record, port, downstream=downstream, is_reset=is_reset, tls=tls)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs a signal that stops a program")
@pytest.mark.parametrize("between", ["nothing", *PROXIES])
def test_a_server_that_stands_still_confirms_nothing_behind_a_proxy_either(between: str) -> None:
    """So these proxies pass pings on, and answer none themselves."""
    record = Record()
    with Programs() as programs, node(record) as (port, process):
        target = port
        if between in PROXIES:
            command, config = PROXIES[between]
            [target] = programs.start(command, config=config, target=port)
        with opened(WebSocketApp(f"ws://127.0.0.1:{target}")) as app:
            assert app.send_text("first", receipt=True).result(PATIENCE) is ReceiptState.CONFIRMED
            process.send_signal(signal.SIGSTOP)
            try:
                receipt = app.send_text("second", receipt=True)
                eventually(lambda: receipt.state is ReceiptState.WRITTEN)
                with pytest.raises(TimeoutError):
                    receipt.result(0.3)
            finally:
                process.send_signal(signal.SIGCONT)
            assert receipt.result(PATIENCE) is ReceiptState.CONFIRMED
        assert record.connection() == ["first", "second"]
