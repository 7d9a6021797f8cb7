"""The short form of `python -m tests.receipts`: some cuts, with the server made with wsproto."""

from __future__ import annotations

import pytest

from .conversation import converse
from .servers import SERVERS, Record


@pytest.mark.parametrize("server", ["wsproto"])
@pytest.mark.parametrize("is_reset", [False, True], ids=["FIN", "RST"])
def test_receipts_agree_with_the_servers_list_wherever_the_link_is_cut(server: str, is_reset: bool) -> None:
    record = Record()
    with SERVERS[server](record) as port:
        whole = converse(record, port)
        assert set(whole.states) == {"confirmed"}
        for upstream in range(0, whole.relayed[0] + 1, 37):
            converse(record, port, upstream=upstream, is_reset=is_reset)
        for downstream in range(0, whole.relayed[1] + 1, 11):
            converse(record, port, downstream=downstream, is_reset=is_reset)
