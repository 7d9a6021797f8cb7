"""Programs that are missing or do not run are named."""

from __future__ import annotations

import socket
import sys

import pytest

from .programs import Programs, find


def test_a_program_that_is_missing_skips_by_its_name() -> None:
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        find("no-such-program")


def test_a_program_that_ends_says_why() -> None:
    complain = "import sys; sys.exit('no such luck')"
    with Programs() as programs, pytest.raises(RuntimeError, match=r"does not run: no such luck"):
        programs.start([sys.executable, "-c", complain])


def test_nothing_is_left_of_a_program() -> None:
    listen = "import socket; kept = socket.create_server(('127.0.0.1', $port))\nwhile True: kept.accept()"
    with Programs() as programs:
        [port] = programs.start([sys.executable, "-c", listen])
    assert not programs.folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
