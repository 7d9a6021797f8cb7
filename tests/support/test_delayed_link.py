"""The link with delay and loss that evidence uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .delayed_link import is_possible, link_command

#: One byte over TCP there and back; print the seconds.
ECHO = """
import os, socket, time
with socket.create_server(("0.0.0.0", 0)) as server:
    start = time.monotonic()
    with socket.create_connection((os.environ["FAR_HOST"], server.getsockname()[1])) as one:
        with server.accept()[0] as other:
            one.sendall(b"x")
            other.recv(1)
            other.sendall(b"y")
            one.recv(1)
            print(time.monotonic() - start)
"""
#: 200 packets over UDP, and then b"." until one arrives; print how many of the first did.
COUNT = """
import os, socket
with socket.socket(type=socket.SOCK_DGRAM) as box:
    box.bind(("0.0.0.0", 0))
    far = os.environ["FAR_HOST"], box.getsockname()[1]
    for _ in range(200):
        box.sendto(b"z", far)
    box.settimeout(0.1)
    count = 0
    while True:
        try:
            if box.recv(1) == b".":
                break
            count += 1
        except TimeoutError:
            box.sendto(b".", far)
    print(count)
"""


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    if not is_possible():
        pytest.skip("this user may not create a network namespace with a TUN device")


def output(program: str, delay: float = 0.0, loss: float = 0.0) -> float:
    command = link_command([sys.executable, "-c", program], delay, loss)
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def test_packets_to_the_far_host_are_delayed_each_way() -> None:
    assert output(ECHO, delay=0.03) >= 4 * 0.03, "the handshake and the echo are two round trips"


def test_that_share_of_packets_is_lost_and_without_loss_none() -> None:
    assert output(COUNT) == 200
    assert 50 < output(COUNT, loss=0.5) < 150


def test_the_exit_code_is_that_of_the_command() -> None:
    assert subprocess.run(link_command(["sh", "-c", "exit 7"]), check=False).returncode == 7
