"""DelayedLink: a network with delay and loss inside one machine, for a command, without netem.

The command runs in a network namespace of its own (``unshare``). There, every packet to `FAR_HOST` leaves
through a TUN device, waits for the delay, and comes back with its two addresses swapped. So a server that
listens on all addresses is reached at 127.0.0.1 without delay, and at `FAR_HOST` over a link that delays and
loses packets in both directions. Checksums do not depend on the order of the addresses, so they stay valid.
The same holds for `FAR_HOST6`.

As a command, which passes on the exit code of the one that it runs::

    python -m tests.support.delayed_link --delay-ms 25 --loss 0 -- python -m tests.something

The command finds both hosts in the environment as ``FAR_HOST`` and ``FAR_HOST6``. It has no other network.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import select
import signal
import struct
import subprocess
import sys
from collections import deque
from time import monotonic
from typing import NoReturn

FAR_HOST, NEAR_HOST = "10.77.0.2", "10.77.0.1"
FAR_HOST6, NEAR_HOST6 = "fd77::2", "fd77::1"
DEVICE = "far0"
MTU = 1500
#: As many packets as may be on their way; further ones are lost.
QUEUE = 10_000

_TUNSETIFF = 0x400454CA
_TUN_WITHOUT_HEADER = 0x0001 | 0x1000


def swapped(packet: bytes) -> bytes:
    """Return an IP packet with its source and destination swapped."""
    if packet[0] >> 4 == 4:
        return packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
    return packet[:8] + packet[24:40] + packet[8:24] + packet[40:]


def relay(device: int, end: int, delay: float, loss: float, seed: int) -> None:
    """Return each packet of a TUN device after a delay.

    Args:
        device: the descriptor of the device; each packet is one read and one write.
        end: a pipe's descriptor. The relay ends when the other side of the pipe is closed.
        delay: in seconds, each way.
        loss: the share of packets that is lost, from 0 to 1.
        seed: for the choice of the lost ones.
    """
    chance = random.Random(seed)
    waiting: deque[tuple[float, bytes]] = deque()
    while True:
        timeout = max(0.0, waiting[0][0] - monotonic()) if waiting else None
        readable = select.select([device, end], [], [], timeout)[0]
        if end in readable:
            return
        if device in readable:
            packet = os.read(device, 65536)
            if len(waiting) < QUEUE and chance.random() >= loss:
                waiting.append((monotonic() + delay, packet))
        while waiting and waiting[0][0] <= monotonic():
            os.write(device, swapped(waiting.popleft()[1]))


def open_device() -> int:
    """Create the TUN device with its addresses, and return its descriptor. Needs CAP_NET_ADMIN."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _TUN_WITHOUT_HEADER))
    for command in (
        "link set lo up",
        f"address add {NEAR_HOST}/24 dev {DEVICE}",
        f"address add {NEAR_HOST6}/64 dev {DEVICE} nodad",
        f"link set {DEVICE} mtu {MTU} txqueuelen {QUEUE} up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    return device


def is_possible() -> bool:
    """Return whether this machine and user allow a namespace with a TUN device."""
    try:
        return subprocess.run(link_command(["true"]), capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def link_command(command: list[str], delay: float = 0.0, loss: float = 0.0, seed: int = 1) -> list[str]:
    """Return the command that runs another one behind a link.

    Args:
        command: the command with its arguments.
        delay: in seconds, each way.
        loss: the share of packets that is lost each way, from 0 to 1.
        seed: for the choice of the lost ones.
    """
    own = ["--delay-ms", str(1000 * delay), "--loss", str(loss), "--seed", str(seed)]
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", sys.executable, "-I", __file__, "--inside", *own, "--", *command]


def run_inside(command: list[str], delay: float, loss: float, seed: int) -> int:
    """Run a command in the namespace that this process is in, and return its exit code."""
    device = open_device()
    end, parent = os.pipe()  # the parent's side is closed with the parent, however that ends
    if not os.fork():
        os.close(parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        relay(device, end, delay, loss, seed)
        os._exit(0)
    os.close(device)
    hosts = {"FAR_HOST": FAR_HOST, "FAR_HOST6": FAR_HOST6}
    return subprocess.run(command, env=os.environ | hosts, check=False).returncode


def main() -> NoReturn:
    """Run a command behind a link."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.delayed_link")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="delay each way")
    parser.add_argument("--loss", type=float, default=0.0, help="share of packets lost each way, from 0 to 1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    if given.inside:
        raise SystemExit(run_inside(given.command, given.delay_ms / 1000, given.loss, given.seed))
    command = link_command(given.command, given.delay_ms / 1000, given.loss, given.seed)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
